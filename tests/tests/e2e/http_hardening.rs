//! What the HTTP port bears: people who try passwords, proxies that say too much, heads and bodies without end.

use crate::{send_topic, text};
use curlew_tests::{
    Actor, Answer, Engine, Http, Protocol, RawClient, TestServer,
    actor::PASSWORD,
    http::Method,
    json,
    mqtt::{
        raw::Connect,
        websocket::{in_frames, open_from},
    },
    wait::within,
};
use std::time::{Duration, Instant};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Loopback is a proxy.
async fn behind_proxy(limits: &[(&str, &str)]) -> TestServer {
    let setup = TestServer::setup(Engine::Sqlite).env("CURLEW_PROXY_TRUSTED", "127.0.0.0/8");
    let named = |name: &str| format!("CURLEW_LIMITS_{name}");
    limits.iter().fold(setup, |setup, (name, value)| setup.env(&named(name), value)).start().await
}

fn from(server: &TestServer, address: &str) -> Http {
    server.anonymous().with_headers(&[("X-Forwarded-For", address)])
}

async fn log_in(http: &Http, login: &str, password: &str) -> Answer {
    http.post("/auth/login", json!({ "login": login, "password": password })).await
}

/// A refusal, and after how many seconds to try again.
#[track_caller]
fn refused(answer: Answer) -> u64 {
    let after = answer.header("retry-after").parse().expect("seconds");
    assert!(after >= 1 && answer.header("ratelimit").contains(";r=0;"), "{answer:?}");
    answer.expect_problem(429, "too-many-requests");
    after
}

#[tokio::test]
async fn who_waits_as_told_is_let_in() {
    let server = behind_proxy(&[("LOGIN_PER_MINUTE", "60")]).await;
    server.user("alice").await;
    let here = from(&server, "192.0.2.1");
    let mut wrong = 0;
    let after = loop {
        let answer = log_in(&here, "alice", "wrong password").await;
        if answer.status == 429 {
            break refused(answer);
        }
        wrong += 1;
        answer.expect_problem(401, "invalid-credentials");
    };
    assert!(wrong >= 60, "{wrong}");
    // Not even with the right password, but from elsewhere; nobody else is concerned.
    refused(log_in(&here, "ALICE", PASSWORD).await);
    log_in(&from(&server, "192.0.2.2"), "alice", PASSWORD).await.expect(200);
    log_in(&here, "nobody", PASSWORD).await.expect_problem(401, "invalid-credentials");
    tokio::time::sleep(Duration::from_secs(after)).await;
    let answer = log_in(&here, "alice", PASSWORD).await;
    assert_eq!(answer.header("ratelimit-policy"), r#""login";q=60;w=60"#);
    answer.expect(200);
}

#[tokio::test]
async fn an_account_is_tried_so_often_an_hour_whether_it_exists_or_not() {
    let server = behind_proxy(&[("LOGIN_PER_ACCOUNT_PER_HOUR", "3"), ("LOGIN_PER_MINUTE", "9")]).await;
    server.user("alice").await;
    let mut told = Vec::new();
    for login in ["alice", "nobody"] {
        for last in 1..=3 {
            let answer = log_in(&from(&server, &format!("192.0.2.{last}")), login, "wrong password").await;
            assert!(answer.header("ratelimit").starts_with("\"login\";r=8;"), "{answer:?}");
            answer.expect_problem(401, "invalid-credentials");
        }
        let answer = log_in(&from(&server, "192.0.2.4"), login, PASSWORD).await;
        let policy = answer.header("ratelimit-policy").to_owned();
        assert!(answer.header("ratelimit").starts_with("\"login-account\";r=0;t="), "{answer:?}");
        told.push((policy, (1_100..=1_200).contains(&refused(answer))));
    }
    let policy = r#""login";q=9;w=60, "login-account";q=3;w=3600"#.to_owned();
    assert_eq!(told, [(policy.clone(), true), (policy, true)]);
}

#[tokio::test]
async fn registrations_of_one_network_are_limited_and_the_operator_s_are_not() {
    let server = behind_proxy(&[("REGISTRATION_PER_ADDRESS_PER_HOUR", "1")]).await;
    let register = async |address: &str, username: &str| {
        let body = json!({ "username": username, "password": PASSWORD, "displayName": username });
        from(&server, address).post("/auth/register", body).await
    };
    register("2001:db8::1", "alice").await.expect(201);
    assert!(refused(register("2001:db8::ffff:7", "bob").await) > 3_000);
    register("2001:db8:0:1::1", "bob").await.expect(201);
    for name in ["carol", "dora"] {
        let input = format!("{PASSWORD}\n");
        let made = server.curlew_with_input(&["users", "create", name, "--password-stdin"], &input);
        assert!(made.status.success(), "{made:?}");
    }
}

#[tokio::test]
async fn commands_over_mqtt_and_rest_have_one_quota() {
    let limit = ("CURLEW_LIMITS_MESSAGES_PER_SECOND", "1");
    let server = TestServer::setup(Engine::Sqlite).env(limit.0, limit.1).start().await;
    let [alice, bob] = server.contacts(["alice", "bob"]).await;
    let chat = alice.private_chat(&bob).await;
    let mut raw = connect(&server, &alice).await;
    let began = Instant::now();
    for id in 1..=4 {
        raw.publish(&send_topic(&chat), &text("hello", &id.to_string()), 1, id).await;
        assert_eq!(raw.puback(id).await.0, 0);
    }
    let mut accepted: u32 = 0;
    loop {
        let body = json!({ "type": "TEXT", "text": "and over REST" });
        let answer = alice.http.post(&format!("/chats/{chat}/messages"), body).await;
        assert_eq!(answer.header("ratelimit-policy"), r#""messages";q=4;w=4"#);
        if answer.status == 429 {
            assert_eq!(refused(answer), 1);
            break;
        }
        answer.expect(201);
        accepted += 1;
    }
    let passed = began.elapsed();
    assert!(Duration::from_secs(accepted.into()) <= passed, "{accepted} within {passed:?}");
    // Reading, and other people, are not concerned.
    alice.http.get(&format!("/chats/{chat}/messages")).await.expect(200);
    bob.http.post_nothing(&format!("/chats/{chat}/messages/read")).await.expect(204);
}

async fn connect(server: &TestServer, actor: &Actor) -> RawClient {
    let mut raw = RawClient::open(server.endpoints().mqtt(), Protocol::V5).await;
    assert_eq!(raw.connect(&credentials(actor)).await.1, 0);
    raw
}

fn credentials(actor: &Actor) -> Connect {
    let password = Some(actor.mqtt_password.clone().into_bytes());
    Connect { username: Some(actor.username.clone()), password, ..Connect::default() }
}

#[tokio::test]
async fn through_a_proxy_the_client_s_address_counts_and_not_what_it_claims() {
    let server = behind_proxy(&[("LOGIN_PER_ADDRESS_PER_MINUTE", "2")]).await;
    let attempt = async |fields: &[(&str, &str)]| {
        log_in(&server.anonymous().with_headers(fields), "nobody", PASSWORD).await.status
    };
    // What stands left of the client's own address is made up.
    for (made_up, expected) in [("127.0.0.1", 401), ("203.0.113.1", 401), ("203.0.113.2", 429)] {
        let line = format!("{made_up}, 192.0.2.1");
        assert_eq!(attempt(&[("X-Forwarded-For", &line)]).await, expected, "{line}");
    }
    assert_eq!(attempt(&[("Forwarded", "for=\"192.0.2.1:5000\";proto=https")]).await, 429);
    assert_eq!(attempt(&[("Forwarded", "for=\"[2001:db8::7]\";proto=https")]).await, 401);
    // The proxy adds one of the fields, the client the other.
    let two = |address| [("X-Forwarded-For", "192.0.2.9"), ("Forwarded", address)];
    for (address, expected) in [("for=203.0.113.3", 401), ("for=203.0.113.4", 401), ("for=203.0.113.5", 429)]
    {
        assert_eq!(attempt(&two(address)).await, expected, "{address}");
    }
    assert_eq!(attempt(&two("for=192.0.2.9")).await, 401, "they agree");
}

#[tokio::test]
async fn metrics_stay_private_behind_a_proxy() {
    let server = behind_proxy(&[]).await;
    server.anonymous().get("/metrics").await.text.find("curlew_").expect("a page");
    for field in [("X-Forwarded-For", "127.0.0.1"), ("Forwarded", "for=127.0.0.1"), ("X-Forwarded-For", "")] {
        let answer = server.anonymous().with_headers(&[field]).get("/metrics").await;
        answer.expect_problem(404, "not-found");
    }
}

#[tokio::test]
async fn mqtt_over_websocket_is_counted_by_the_client_s_address_too() {
    let server = behind_proxy(&[("CONNECTIONS_PER_ADDRESS", "1")]).await;
    let alice = server.user("alice").await;
    let http = server.endpoints().http();
    let open = async |address| open_from(http, Some("mqtt"), &[("X-Forwarded-For", address)]).await;
    let (socket, _) = open("192.0.2.7").await.expect("a WebSocket");
    let mut raw = RawClient::over(in_frames(socket, 1_000), Protocol::V5);
    assert_eq!(raw.connect(&credentials(&alice)).await.1, 0);
    assert!(server.log().contains("peer=192.0.2.7:"), "{}", server.log());
    open("192.0.2.7").await.expect_err("the second of one address");
    open("192.0.2.8").await.expect("another address has its own");
}

#[tokio::test]
async fn origins_that_no_browser_sends_are_a_mistake() {
    let server = behind_proxy(&[]).await;
    for origins in ["https://chat.example/", "chat.example", "https://chat.example:443", "*,https://x"] {
        let output = curlew_tests::server::curlew()
            .args(["serve", "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"])
            .env("CURLEW_SERVER_DATA_DIR", server.data_dir().join("nowhere"))
            .env("CURLEW_HTTP_CORS_ORIGINS", origins)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(64), "{origins}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("http.cors_origins"), "{output:?}");
    }
}

#[tokio::test]
async fn every_answer_forbids_guessing_its_type() {
    let server = TestServer::setup(Engine::Sqlite).env("CURLEW_HTTP_CORS_ORIGINS", "*").start().await;
    for (method, path) in [
        ("GET", "/healthz"),
        ("GET", "/docs"),
        ("GET", "/nothing"),
        ("GET", "/api/auth/profile"),
        ("OPTIONS", "/api/chats"),
        ("GET", "/mqtt"),
    ] {
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nOrigin: https://x\r\nConnection: close\r\n\r\n");
        let answer = ask(&server, head.as_bytes()).await.to_lowercase();
        assert!(answer.contains("\r\nx-content-type-options: nosniff\r\n"), "{method} {path}: {answer}");
    }
    let any = server.anonymous().with_headers(&[("Origin", "https://x")]).get("/chats").await;
    assert_eq!(any.header("access-control-allow-origin"), "*", "problems, too");
    assert_eq!(any.header("access-control-allow-credentials"), "");
    any.expect_problem(401, "unauthenticated");
}

/// What the server answers to these bytes, until it closes.
async fn ask(server: &TestServer, said: &[u8]) -> String {
    let mut socket = TcpStream::connect(server.endpoints().http()).await.unwrap();
    let mut answer = Vec::new();
    // A server that closes without reading everything resets.
    let _ = socket.write_all(said).await;
    let _ = within("an answer", socket.read_to_end(&mut answer)).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_head_without_end_is_refused_clearly() {
    let server = behind_proxy(&[]).await;
    let head =
        |fields: &str| format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{fields}Connection: close\r\n\r\n");
    let status =
        async |head: String| ask(&server, head.as_bytes()).await.chars().take(12).collect::<String>();
    let field = |size| format!("Long: {}\r\n", "x".repeat(size));
    assert_eq!(status(head(&field(16 * 1024))).await, "HTTP/1.1 200");
    assert_eq!(status(head(&field(64 * 1024))).await, "HTTP/1.1 431");
    assert_eq!(status(head(&"Many: x\r\n".repeat(90))).await, "HTTP/1.1 200");
    assert_eq!(status(head(&"Many: x\r\n".repeat(110))).await, "HTTP/1.1 431");
    let path = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(64 * 1024));
    assert_eq!(status(path).await, "HTTP/1.1 431");
    assert_eq!(status("GET / HTTP/1.1\r\nno field\r\n\r\n".to_owned()).await, "HTTP/1.1 400");
    server.anonymous().get("/healthz").await.expect(200);
}

#[tokio::test]
async fn a_body_in_chunks_has_the_same_bound() {
    let server = behind_proxy(&[]).await;
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    let head = "POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
                Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    let answer = ask(&server, format!("{head}{}0\r\n\r\n", chunk.repeat(16)).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("\"payload-too-large\""), "{answer}");
    server.anonymous().request(Method::GET, "/healthz", None).await.expect(200);
}
