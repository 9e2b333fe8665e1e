//! Around the requests: rate limits, addresses behind proxies, entity tags, compression, other origins, headers.

use curlew_tests::{Actor, Answer, Engine, TestServer, Value, actor::PASSWORD, http::Method, json};
use reqwest::{Client, RequestBuilder, Response};

async fn start(settings: &[(&str, &str)]) -> TestServer {
    let setup = TestServer::setup(Engine::Sqlite);
    let setup = settings.iter().fold(setup, |setup, (name, value)| setup.env(name, value));
    setup.start().await
}

/// A request with headers of its own.
fn request(server: &TestServer, method: Method, path: &str) -> RequestBuilder {
    Client::new().request(method, format!("http://{}{path}", server.endpoints().http()))
}

async fn log_in(server: &TestServer, login: &str, from: &str) -> Response {
    let body = json!({ "login": login, "password": "not the password" });
    let request = request(server, Method::POST, "/api/auth/login").header("X-Forwarded-For", from);
    request.header("Content-Type", "application/json").body(body.to_string()).send().await.unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn sign_ins_are_limited_by_account_and_address() {
    let server =
        start(&[("CURLEW_LIMITS_LOGIN_PER_MINUTE", "5"), ("CURLEW_PROXY_TRUSTED", "127.0.0.1")]).await;
    let alice = server.user("alice").await;
    for left in (0..5).rev() {
        let answer = log_in(&server, "alice", "192.0.2.1").await;
        assert_eq!(answer.status(), 401);
        assert_eq!(header(&answer, "ratelimit-policy"), r#""login";q=5;w=60"#);
        assert!(header(&answer, "ratelimit").starts_with(&format!(r#""login";r={left};t="#)));
    }
    let refused = log_in(&server, "Alice", "192.0.2.1").await;
    assert_eq!(refused.status(), 429);
    let after: u64 = header(&refused, "retry-after").parse().unwrap();
    assert!((1..=12).contains(&after), "{after}");
    assert!(header(&refused, "ratelimit").starts_with(r#""login";r=0;t="#));
    let body: Value = serde_json::from_str(&refused.text().await.unwrap()).unwrap();
    assert_eq!((&body["code"], &body["status"]), (&json!("too-many-requests"), &json!(429)));
    // The right password is refused, too, and whether there is such an account plays no part.
    let body = json!({ "login": "alice", "password": PASSWORD });
    let right = request(&server, Method::POST, "/api/auth/login").header("X-Forwarded-For", "192.0.2.1");
    let right = right.header("Content-Type", "application/json").body(body.to_string());
    assert_eq!(right.send().await.unwrap().status(), 429);
    for n in 0..6 {
        let expected = if n < 5 { 401 } else { 429 };
        assert_eq!(log_in(&server, "nobody", "192.0.2.1").await.status(), expected);
    }
    // From elsewhere Alice gets in, and who is signed in notices nothing.
    assert_eq!(log_in(&server, "alice", "192.0.2.2").await.status(), 401);
    alice.http.get("/auth/profile").await.expect(200);
}

#[tokio::test]
async fn a_client_that_is_no_proxy_does_not_choose_its_address() {
    let server = start(&[("CURLEW_LIMITS_LOGIN_PER_ADDRESS_PER_MINUTE", "2")]).await;
    for n in 0..3 {
        let expected = if n < 2 { 401 } else { 429 };
        assert_eq!(log_in(&server, &format!("user{n}"), &format!("192.0.2.{n}")).await.status(), expected);
    }
}

#[tokio::test]
async fn registrations_and_contact_requests_are_limited() {
    let limits = [
        ("CURLEW_LIMITS_REGISTRATION_PER_ADDRESS_PER_HOUR", "3"),
        ("CURLEW_LIMITS_CONTACT_REQUESTS_PER_DAY", "2"),
    ];
    let server = start(&limits).await;
    let [alice, bob] = [server.user("alice").await, server.user("bob").await];
    let refused = |answer: Answer| {
        let after: u64 = answer.header("retry-after").parse().unwrap();
        answer.expect_problem(429, "too-many-requests");
        after
    };
    // What is malformed is not counted.
    server.anonymous().post("/auth/register", json!({ "username": "x" })).await.expect_invalid();
    server.user("carol").await;
    let body = json!({ "username": "dan", "password": PASSWORD, "displayName": "Dan" });
    let after = refused(server.anonymous().post("/auth/register", body).await);
    assert!((1..=1200).contains(&after), "{after}");
    for expected in [201, 200] {
        alice.http.post("/contacts/request", json!({ "userId": bob.id })).await.expect(expected);
    }
    let after = refused(alice.http.post("/contacts/request", json!({ "userId": bob.id })).await);
    assert!((40_000..=43_200).contains(&after), "{after}");
    bob.http.post("/contacts/request", json!({ "userId": alice.id })).await.expect(201);
}

#[tokio::test]
async fn messages_are_limited_with_a_burst() {
    let server = start(&[("CURLEW_LIMITS_MESSAGES_PER_SECOND", "1")]).await;
    let [alice, bob] = server.contacts(["alice", "bob"]).await;
    let chat = alice.private_chat(&bob).await;
    let send = async || {
        let body = json!({ "type": "TEXT", "text": "hello" });
        alice.http.post(&format!("/chats/{chat}/messages"), body).await
    };
    let first = send().await;
    assert_eq!(first.header("ratelimit-policy"), r#""messages";q=4;w=4"#);
    first.expect(201);
    let mut refused = None;
    for _ in 0..10 {
        let answer = send().await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("ten at once are too many");
    assert_eq!(refused.header("retry-after"), "1");
    refused.expect_problem(429, "too-many-requests");
    alice.http.get(&format!("/chats/{chat}/messages")).await.expect(200);
}

/// GET with an `If-None-Match`.
async fn fetch(server: &TestServer, actor: &Actor, path: &str, tag: &str) -> Response {
    let request = request(server, Method::GET, path).bearer_auth(&actor.access_token);
    request.header("If-None-Match", tag).send().await.unwrap()
}

#[tokio::test]
async fn what_has_not_changed_is_not_sent_again() {
    let server = start(&[]).await;
    let [alice, bob] = server.contacts(["alice", "bob"]).await;
    let chat = alice.private_chat(&bob).await;
    for path in ["/api/auth/profile", "/api/chats"] {
        let first = fetch(&server, &bob, path, "").await;
        assert_eq!((first.status().as_u16(), header(&first, "cache-control")), (200, "private, no-cache"));
        let tag = header(&first, "etag").to_owned();
        assert!(tag.starts_with("W/\""), "{tag}");
        let same = fetch(&server, &bob, path, &format!("\"x\", {tag}")).await;
        assert_eq!((same.status().as_u16(), header(&same, "etag")), (304, tag.as_str()));
        assert!(header(&same, "x-request-id").len() == 36);
        assert_eq!(same.text().await.unwrap(), "");
        let mine = fetch(&server, &alice, path, &tag).await;
        assert_eq!(mine.status(), 200, "somebody else's");
    }
    let tag = header(&fetch(&server, &bob, "/api/chats", "").await, "etag").to_owned();
    alice.post(&chat, "news").await;
    assert_eq!(fetch(&server, &bob, "/api/chats", &tag).await.status(), 200);
    let other = fetch(&server, &bob, &format!("/api/chats/{chat}"), "*").await;
    assert_eq!((other.status().as_u16(), header(&other, "cache-control")), (200, "no-store"));
}

#[tokio::test]
async fn long_answers_are_compressed_for_who_takes_it_and_secrets_never() {
    let server = start(&[]).await;
    let [alice, bob] = server.contacts(["alice", "bob"]).await;
    let chat = alice.private_chat(&bob).await;
    for n in 0..20 {
        alice.post(&chat, &format!("message {n} of a conversation")).await;
    }
    let path = format!("/api/chats/{chat}/messages");
    let fetch = async |encoding: &str| {
        let request = request(&server, Method::GET, &path).bearer_auth(&bob.access_token);
        request.header("Accept-Encoding", encoding).send().await.unwrap()
    };
    let packed = fetch("gzip").await;
    assert_eq!(header(&packed, "content-encoding"), "gzip");
    assert!(header(&packed, "vary").to_lowercase().contains("accept-encoding"));
    let plain = fetch("identity").await;
    assert_eq!(header(&plain, "content-encoding"), "");
    let (packed, plain) = (packed.bytes().await.unwrap(), plain.bytes().await.unwrap());
    assert!(packed.len() * 3 < plain.len(), "{} of {}", packed.len(), plain.len());
    let body = json!({ "login": "alice", "password": PASSWORD, "device": { "name": "x".repeat(64), "platform": "test" } });
    let login = request(&server, Method::POST, "/api/auth/login").header("Accept-Encoding", "gzip");
    let login = login.header("Content-Type", "application/json").body(body.to_string()).send().await.unwrap();
    assert_eq!((login.status().as_u16(), header(&login, "content-encoding")), (200, ""));
}

#[tokio::test]
async fn other_origins_are_let_in_by_configuration_only() {
    let preflight = async |server: &TestServer, origin: &str| {
        let request = request(server, Method::OPTIONS, "/api/chats").header("Origin", origin);
        let request = request.header("Access-Control-Request-Method", "PATCH");
        request.header("Access-Control-Request-Headers", "authorization,content-type").send().await.unwrap()
    };
    let server = start(&[]).await;
    let answer = preflight(&server, "https://chat.example").await;
    assert_eq!((answer.status().as_u16(), header(&answer, "access-control-allow-origin")), (405, ""));

    let server = start(&[("CURLEW_HTTP_CORS_ORIGINS", "https://chat.example")]).await;
    let answer = preflight(&server, "https://chat.example").await;
    assert_eq!(answer.status(), 200);
    assert_eq!(header(&answer, "access-control-allow-origin"), "https://chat.example");
    assert!(header(&answer, "access-control-allow-methods").contains("PATCH"));
    assert!(header(&answer, "access-control-allow-headers").contains("authorization"));
    assert_eq!(header(&answer, "access-control-allow-credentials"), "");
    assert_eq!(header(&preflight(&server, "https://evil.example").await, "access-control-allow-origin"), "");
    let simple = request(&server, Method::GET, "/healthz").header("Origin", "https://chat.example");
    let simple = simple.send().await.unwrap();
    assert_eq!(header(&simple, "access-control-allow-origin"), "https://chat.example");
    assert!(header(&simple, "access-control-expose-headers").contains("retry-after"));
    let vary: Vec<_> = simple.headers().get_all("vary").iter().map(|value| value.to_str().unwrap()).collect();
    assert!(vary.join(",").to_lowercase().contains("origin"), "{vary:?}");
}

#[tokio::test]
async fn every_answer_says_that_it_is_what_it_says() {
    let server = start(&[]).await;
    for path in ["/healthz", "/api/chats", "/nothing"] {
        let answer = request(&server, Method::GET, path).send().await.unwrap();
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header(&answer, "cache-control"), "no-store", "{path}");
    }
}
