//! Promise 7 over REST: bad input gets a clear error, changes nothing, and leaves the server unharmed.

use curlew_tests::{
    Actor, Answer, Chat, Engine, Http, Protocol, RawClient, TestServer, Value, http::Method, json,
    mqtt::raw::Connect,
};

/// base64url of `{"alg":"none","typ":"JWT"}`.
const ALG_NONE: &str = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";

struct Scene {
    server: TestServer,
    alice: Actor,
    bob: Actor,
    chat: Chat,
}

impl Scene {
    async fn new() -> Self {
        let server = TestServer::start(Engine::Sqlite).await;
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        Self { server, alice, bob, chat }
    }

    async fn post_raw(&self, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        self.alice.http.send_raw(Method::POST, path, "application/json", body).await
    }

    async fn send_raw(&self, body: impl Into<Vec<u8>>) -> Answer {
        self.post_raw(&format!("/chats/{}/messages", self.chat), body).await
    }

    /// Nothing was stored, and people can go on.
    async fn assert_unharmed(&self) {
        assert_eq!(self.alice.texts(&self.chat).await, [""; 0]);
        self.alice.post(&self.chat, "goes on").await;
        self.server.anonymous().get("/readyz").await.expect(200);
        assert!(!self.server.log().contains("panicked"), "{}", self.server.log());
    }
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(field, code)| ((*field).to_owned(), (*code).to_owned())).collect()
}

#[tokio::test]
async fn what_is_no_json_is_refused() {
    let scene = Scene::new().await;
    let bodies: [&[u8]; 8] = [
        b"",
        b"{",
        b"{]",
        b"{\"type\":",
        b"\xff\xfe",
        b"{\"type\":\"TEXT\",\"text\":\"\xc3\x28\"}",
        b"{\"type\":\"TEXT\",\"text\":\"hi\"} {}",
        b"\0",
    ];
    for body in bodies {
        let errors = scene.send_raw(body).await.expect_invalid();
        assert_eq!(errors, pairs(&[("", "malformed-json")]), "{}", String::from_utf8_lossy(body));
    }
    // Deeper than any parser should follow.
    for begin in ["[", "{\"type\":[", "{\"x\":"] {
        scene.send_raw(begin.repeat(10_000)).await.expect_invalid();
    }
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn what_is_no_object_is_refused() {
    let scene = Scene::new().await;
    for body in ["[]", "null", "7", "\"text\"", "[\"1\",\"TEXT\",\"hello\"]"] {
        assert_eq!(scene.send_raw(body).await.expect_invalid(), pairs(&[("", "wrong-type")]), "{body}");
    }
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn unknown_fields_are_refused_by_name() {
    let scene = Scene::new().await;
    let body = json!({ "type": "TEXT", "text": "hi", "txet": "hi" });
    assert_eq!(scene.send_raw(body.to_string()).await.expect_invalid(), pairs(&[("txet", "unknown-field")]));
    let group = json!({ "type": "group", "name": "us", "memberIds": [], "members": [] });
    assert_eq!(
        scene.post_raw("/chats", group.to_string()).await.expect_invalid(),
        pairs(&[("members", "unknown-field")])
    );
    let device = json!({ "name": "phone", "platform": "test", "colour": "red" });
    let body =
        json!({ "username": "carol", "password": "correct horse", "displayName": "Carol", "device": device });
    let answer = scene.post_raw("/auth/register", body.to_string()).await;
    assert_eq!(answer.expect_invalid(), pairs(&[("device.colour", "unknown-field")]));
    let answer = scene.alice.http.get("/chats?limt=3").await;
    assert_eq!(answer.expect_invalid(), pairs(&[("limt", "unknown-field")]));
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn wrong_types_are_refused_by_field() {
    let scene = Scene::new().await;
    let wrong = [
        (json!({ "type": "TEXT", "text": 7 }), ("text", "wrong-type")),
        (json!({ "type": "TEXT", "text": ["hi"] }), ("text", "wrong-type")),
        (json!({ "type": 7, "text": "hi" }), ("type", "wrong-type")),
        (json!({ "type": "text", "text": "hi" }), ("type", "unknown-value")),
        (json!({ "type": "SYSTEM", "text": "hi" }), ("type", "unknown-value")),
        (json!({ "type": "TEXT", "text": "hi", "localId": 7 }), ("localId", "wrong-type")),
        (json!({ "text": "hi" }), ("type", "required")),
        (json!({ "type": "TEXT" }), ("text", "empty")),
    ];
    for (body, expected) in wrong {
        assert_eq!(scene.send_raw(body.to_string()).await.expect_invalid(), pairs(&[expected]), "{body}");
    }
    let read = format!("/chats/{}/messages/read", scene.chat);
    for body in [json!({ "upToSeq": "1" }), json!({ "upToSeq": -1 }), json!({ "upToSeq": 1.5 })] {
        let errors = scene.post_raw(&read, body.to_string()).await.expect_invalid();
        assert_eq!(errors[0].0, "upToSeq", "{body}");
    }
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn texts_and_local_ids_out_of_bounds_are_refused() {
    let scene = Scene::new().await;
    let too_long = "x".repeat(16 * 1024 + 1);
    let wrong = [
        (json!({ "type": "TEXT", "text": too_long }), ("text", "too-long")),
        // Counted in bytes.
        (json!({ "type": "TEXT", "text": "ø".repeat(8 * 1024 + 1) }), ("text", "too-long")),
        (json!({ "type": "TEXT", "text": "" }), ("text", "empty")),
        (json!({ "type": "TEXT", "text": "a\0b" }), ("text", "characters")),
        (json!({ "type": "TEXT", "text": "hi", "localId": "" }), ("localId", "invalid")),
        (json!({ "type": "TEXT", "text": "hi", "localId": "x".repeat(65) }), ("localId", "invalid")),
        (json!({ "type": "TEXT", "text": "hi", "localId": "ø" }), ("localId", "invalid")),
    ];
    for (body, expected) in wrong {
        assert_eq!(scene.send_raw(body.to_string()).await.expect_invalid(), pairs(&[expected]));
    }
    // Several mistakes at once are told at once.
    let body = json!({ "type": "TEXT", "text": "", "localId": "" });
    assert_eq!(scene.send_raw(body.to_string()).await.expect_invalid().len(), 2);
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn registrations_out_of_bounds_are_refused_field_by_field() {
    let scene = Scene::new().await;
    let good = json!({ "username": "carol", "password": "correct horse", "displayName": "Carol" });
    let wrong: [(&str, Value, &str); 14] = [
        ("username", json!("ab"), "length"),
        ("username", json!("x".repeat(33)), "length"),
        ("username", json!("Carol"), "characters"),
        ("username", json!("carol\u{0}"), "characters"),
        ("password", json!("1234567"), "length"),
        ("password", json!("x".repeat(72)), "length"),
        ("password", json!("12345678\u{0}"), "characters"),
        ("displayName", json!(""), "length"),
        ("displayName", json!("x".repeat(65)), "length"),
        ("displayName", json!("a\nb"), "characters"),
        ("email", json!("nobody"), "invalid"),
        ("email", json!("a b@example.org"), "invalid"),
        ("phone", json!("112"), "invalid"),
        ("phone", json!("+1234567890123456"), "invalid"),
    ];
    for (field, value, code) in wrong {
        let mut body = good.clone();
        body[field] = value;
        let answer = scene.server.anonymous().post("/auth/register", body.clone()).await;
        assert_eq!(answer.expect_invalid(), pairs(&[(field, code)]), "{body}");
    }
    let errors = scene.server.anonymous().post("/auth/register", json!({})).await.expect_invalid();
    let required = [("username", "required"), ("password", "required"), ("displayName", "required")];
    assert_eq!(errors, pairs(&required));
    // None of them made an account.
    scene.server.anonymous().post("/auth/register", good).await.expect(201);
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn ids_that_are_none_name_nothing() {
    let scene = Scene::new().await;
    let http = &scene.alice.http;
    for id in ["x", "7", "%00", "%FF", "..%2f..", "0192f0c1-0000-7000-8000-00000000000g"] {
        http.get(&format!("/chats/{id}")).await.expect_problem(404, "not-found");
        http.get(&format!("/chats/{id}/events")).await.expect_problem(404, "not-found");
        http.get(&format!("/users/{id}")).await.expect_problem(404, "not-found");
        let body = json!({ "status": "READ" });
        http.patch(&format!("/chats/messages/{id}/status"), body).await.expect_problem(404, "not-found");
    }
    let body = json!({ "type": "private", "userId": "x" });
    assert_eq!(http.post("/chats", body).await.expect_invalid()[0].0, "userId");
    let body = json!({ "type": "group", "name": "us", "memberIds": [scene.bob.id, "x"] });
    assert!(http.post("/chats", body).await.expect_invalid()[0].0.starts_with("memberIds"));
    let body = json!({ "type": "private", "userId": scene.alice.id });
    assert_eq!(http.post("/chats", body).await.expect_invalid(), pairs(&[("userId", "self")]));
    // Well formed, and of something else.
    for id in [&scene.bob.id, &scene.alice.device_id] {
        http.get(&format!("/chats/{id}")).await.expect_problem(404, "not-found");
    }
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn queries_out_of_bounds_are_refused() {
    let scene = Scene::new().await;
    let (messages, events) =
        (format!("/chats/{}/messages", scene.chat), format!("/chats/{}/events", scene.chat));
    let wrong = [
        (format!("{messages}?limit=0"), "limit"),
        (format!("{messages}?limit=201"), "limit"),
        (format!("{messages}?limit=many"), "limit"),
        (format!("{messages}?beforeSeq=-1"), "beforeSeq"),
        (format!("{messages}?afterSeq=99999999999999999999"), "afterSeq"),
        (format!("{messages}?cursor=x"), "cursor"),
        (format!("{messages}?beforeSeq=1&afterSeq=1"), "cursor"),
        (format!("{events}?afterSeq=x"), "afterSeq"),
        (format!("{events}?cursor=b7"), "cursor"),
        ("/chats?cursor=x".to_owned(), "cursor"),
        ("/contacts?limit=0".to_owned(), "limit"),
    ];
    for (path, field) in wrong {
        assert_eq!(scene.alice.http.get(&path).await.expect_invalid()[0].0, field, "{path}");
    }
    // The end of all numbers is no mistake.
    let page = scene.alice.http.get(&format!("{events}?afterSeq={}", u64::MAX)).await.expect(200);
    assert_eq!(page["items"], json!([]));
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn bodies_of_another_type_or_size_are_refused() {
    let scene = Scene::new().await;
    let (http, path) = (&scene.alice.http, format!("/chats/{}/messages", scene.chat));
    let good = r#"{"type":"TEXT","text":"hi"}"#;
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""] {
        let answer = http.send_raw(Method::POST, &path, content_type, good).await;
        answer.expect_problem(415, "unsupported-media-type");
    }
    let huge = format!(r#"{{"type":"TEXT","text":"{}"}}"#, "x".repeat(1024 * 1024));
    scene.send_raw(huge).await.expect_problem(413, "payload-too-large");
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems_too() {
    let scene = Scene::new().await;
    let http = &scene.alice.http;
    http.get("/nothing").await.expect_problem(404, "not-found");
    http.get("/chats/").await.expect_problem(404, "not-found");
    let answer = http.delete("/chats").await;
    let allowed = answer.header("allow").to_owned();
    assert!(allowed.contains("GET") && allowed.contains("POST") && !allowed.contains("DELETE"), "{allowed}");
    answer.expect_problem(405, "method-not-allowed");
    scene.assert_unharmed().await;
}

/// Tokens made from Alice's that are not what they seem, each with what is wrong with it.
fn forgeries(alice: &Actor, bob: &Actor) -> Vec<(&'static str, String)> {
    let parts = |token: &str| token.split('.').map(str::to_owned).collect::<Vec<_>>();
    let (hers, his) = (parts(&alice.access_token), parts(&bob.access_token));
    let [header, payload, signature] = &hers[..] else { panic!("a JWT has three parts") };
    let flipped: String = signature.chars().rev().collect();
    let opaque = &alice.mqtt_password;
    vec![
        ("alg none", format!("{ALG_NONE}.{payload}.")),
        ("alg none, signed", format!("{ALG_NONE}.{payload}.{signature}")),
        ("no signature", format!("{header}.{payload}.")),
        ("two parts", format!("{header}.{payload}")),
        ("another signature", format!("{header}.{payload}.{flipped}")),
        ("the claims of another", format!("{header}.{}.{signature}", his[1])),
        ("the refresh token", alice.refresh_token.clone()),
        ("a password with another proof", format!("{}AAAA", &opaque[..opaque.len() - 4])),
        ("a device token made from an MQTT password", opaque.replacen("cm_", "cd_", 1)),
        ("garbage", "garbage".to_owned()),
        ("dots", "..".to_owned()),
    ]
}

#[tokio::test]
async fn forged_tokens_open_nothing() {
    let scene = Scene::new().await;
    let (alice, bob) = (&scene.alice, &scene.bob);
    let mut tokens = forgeries(alice, bob);
    for (what, token) in &tokens {
        let answer = alice.http.with_token(token).get("/auth/profile").await;
        assert_eq!(answer.header("www-authenticate"), "Bearer", "{what}");
        assert_eq!(answer.status, 401, "{what}");
        answer.expect_problem(401, "unauthenticated");
    }
    // For MQTT only.
    let answer = alice.http.with_token(&alice.mqtt_password).get("/auth/profile").await;
    answer.expect_problem(401, "unauthenticated");

    tokens.push(("Alice's password", curlew_tests::actor::PASSWORD.to_owned()));
    tokens.push(("nothing", String::new()));
    for (what, token) in &tokens {
        for (protocol, expected) in [(Protocol::V5, 0x86), (Protocol::V3, 4)] {
            let mut raw = RawClient::open(scene.server.endpoints().mqtt(), protocol).await;
            let password = Some(token.clone().into_bytes());
            let connect = Connect { username: Some(alice.id.clone()), password, ..Connect::default() };
            assert_eq!(raw.connect(&connect).await.1, expected, "{what} {protocol:?}");
            assert_eq!(raw.read().await, None, "{what}");
        }
    }
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn a_refresh_takes_refresh_tokens_only() {
    let scene = Scene::new().await;
    let refresh = async |token: &str| {
        let body = json!({ "refreshToken": token });
        scene.server.anonymous().post("/auth/refresh", body).await.expect_problem(401, "unauthenticated")
    };
    refresh(&scene.alice.access_token).await;
    refresh(&scene.alice.mqtt_password).await;
    let parts: Vec<_> = scene.alice.refresh_token.split('.').collect();
    refresh(&format!("{ALG_NONE}.{}.", parts[1])).await;
    refresh("").await;
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn without_a_token_nothing_is_told() {
    let scene = Scene::new().await;
    let anonymous: Http = scene.server.anonymous();
    for path in [
        "/auth/profile",
        "/chats",
        "/contacts",
        &format!("/chats/{}", scene.chat),
        "/users/x",
        "/chats/x/events",
    ] {
        let answer = anonymous.get(path).await;
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        answer.expect_problem(401, "unauthenticated");
    }
    scene.assert_unharmed().await;
}
