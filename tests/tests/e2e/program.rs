//! What operators use: the other commands, with the server up and down, and the pages they watch.

use crate::{send_topic, text};
use curlew_tests::{
    Chat, Engine, Protocol, RawClient, TestServer, Value, both_engines, json, mqtt::raw::Connect, required,
};
use std::{
    io::Write,
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
};

const PASSWORD: &str = "correct horse battery";

#[track_caller]
fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[track_caller]
fn printed_json(output: &Output) -> Value {
    let text = printed(output);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn create(server: &TestServer, name: &str) -> Output {
    let arguments = ["users", "create", name, "--password-stdin", "--output", "json"];
    server.curlew_with_input(&arguments, &format!("{PASSWORD}\n"))
}

/// Runs with the server up, then stops it.
async fn up_and_down(server: &TestServer, mut check: impl AsyncFnMut(bool)) {
    check(true).await;
    assert!(server.terminate().await.success());
    check(false).await;
}

async fn can_send(server: &TestServer, username: &str, token: &str, chat: &str, local_id: &str) {
    let mut raw = RawClient::open(server.endpoints().mqtt(), Protocol::V5).await;
    let (username, password) = (Some(username.to_owned()), Some(token.as_bytes().to_vec()));
    let connect = Connect { username, password, ..Connect::default() };
    assert_eq!(raw.connect(&connect).await.1, 0);
    raw.publish(&send_topic(&Chat(chat.to_owned())), &text("hello", local_id), 1, 1).await;
    let (reason, properties) = raw.puback(1).await;
    assert_eq!(reason, 0, "{properties:?}");
}

both_engines! {
    async fn users_are_created_and_listed_with_the_server_up_and_down(server) {
        let mut expected = Vec::new();
        up_and_down(&server, async |up| {
            let name = if up { "anna" } else { "bert" };
            let made = printed_json(&create(&server, name));
            assert_eq!((&made["username"], &made["displayName"]), (&json!(name), &json!(name)));
            assert!(made.get("password").is_none(), "a given one is not shown: {made}");
            expected.push(made["userId"].clone());
            let list = printed_json(&server.curlew(&["users", "list", "--output", "json"]));
            let ids: Vec<_> = list["items"].as_array().unwrap().iter().map(|user| user["userId"].clone()).collect();
            assert_eq!(ids, expected);
            assert!(printed(&server.curlew(&["users", "list"])).contains(name));

            let taken = create(&server, name);
            assert_eq!(taken.status.code(), Some(64), "{taken:?}");
            assert!(String::from_utf8_lossy(&taken.stderr).contains(name), "{taken:?}");
            let malformed = create(&server, "Not A Name");
            assert_eq!(malformed.status.code(), Some(64), "{malformed:?}");
        })
        .await;
        server.start_again().await;
        for login in ["anna", "bert"] {
            let body = json!({ "login": login, "password": PASSWORD });
            server.anonymous().post("/auth/login", body).await.expect(200);
        }
    }

    async fn device_tokens_open_mqtt_and_rest(server) {
        let alice = server.user("alice").await;
        let mut tokens = Vec::new();
        up_and_down(&server, async |_| {
            let arguments = ["devices", "token", "alice", "--name", "gadget", "--platform", "esp32", "--output", "json"];
            let token = printed_json(&server.curlew(&arguments));
            assert_eq!((&token["userId"], &token["deviceName"]), (&json!(alice.id), &json!("gadget")));
            tokens.push(token["token"].as_str().unwrap().to_owned());
            let nobody = server.curlew(&["devices", "token", "nobody"]);
            assert_eq!(nobody.status.code(), Some(64), "{nobody:?}");
        })
        .await;
        server.start_again().await;
        let chat = alice.group("me", &[]).await;
        for (number, token) in tokens.iter().enumerate() {
            alice.http.with_token(token).get("/auth/profile").await.expect(200);
            can_send(&server, "alice", token, &chat.0, &number.to_string()).await;
        }
        // An operator issued them: logging out everywhere leaves them.
        alice.http.post("/auth/logout", json!({ "everywhere": true })).await.expect(204);
        alice.http.with_token(&tokens[0]).get("/auth/profile").await.expect(200);

        let revoke = ["devices", "revoke", "alice", "--name", "gadget", "--output", "json"];
        assert_eq!(printed_json(&server.curlew(&revoke)), json!({ "revoked": 2 }));
        for token in &tokens {
            alice.http.with_token(token).get("/auth/profile").await.expect(401);
        }
        assert_eq!(printed_json(&server.curlew(&revoke)), json!({ "revoked": 0 }));
    }

    async fn the_demo_leaves_accounts_alone_that_it_did_not_make(server) {
        server.user("alice").await;
        let refused = server.curlew(&["demo", "--output", "json"]);
        assert_eq!(refused.status.code(), Some(64), "{refused:?}");
        assert!(refused.stdout.is_empty() && String::from_utf8_lossy(&refused.stderr).contains("alice"));
    }

    async fn the_demo_works_with_the_server_up_and_down_and_again(server) {
        let mut demos = Vec::new();
        up_and_down(&server, async |up| {
            demos.push(printed_json(&server.curlew(&["demo", "--output", "json"])));
            let text = printed(&server.curlew(&["demo"]));
            for part in ["mosquitto_sub", "mosquitto_pub", "curl", demos[0]["chatId"].as_str().unwrap()] {
                assert!(text.contains(part), "{part} is missing in {text}");
            }
            assert_eq!(text.contains(&server.endpoints().mqtt().port().to_string()), up, "{text}");
        })
        .await;
        assert_eq!(demos[0], demos[1], "again: reuses them");
        server.start_again().await;
        let demo = &demos[0];
        let field = |pointer: &str| demo.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer}: {demo}"));
        for (name, username) in [("alice", "alice"), ("bob", "bob")] {
            assert_eq!(field(&format!("/{name}/username")), username);
            assert!(!field(&format!("/{name}/userId")).is_empty() && !field(&format!("/{name}/deviceId")).is_empty());
            let login = json!({ "login": username, "password": field(&format!("/{name}/password")) });
            server.anonymous().post("/auth/login", login).await.expect(200);
            can_send(&server, username, field(&format!("/{name}/token")), field("/chatId"), name).await;
        }
        let http = server.anonymous().with_token(field("/bob/token"));
        let contacts = http.get("/contacts").await.expect(200);
        assert_eq!(contacts["items"][0]["user"]["username"], "alice");
        let events = http.get(&format!("/chats/{}/events", field("/chatId"))).await.expect(200);
        assert_eq!(events["items"].as_array().map(Vec::len), Some(2));
    }

    async fn a_user_made_beside_the_server_is_there_at_once(server) {
        printed(&create(&server, "carol"));
        let body = json!({ "login": "carol", "password": PASSWORD });
        server.anonymous().post("/auth/login", body).await.expect(200);
    }

    async fn the_server_says_how_it_is(server) {
        let anonymous = server.anonymous();
        anonymous.get("/healthz").await.expect(200);
        anonymous.get("/readyz").await.expect(200);
        let (alice, bob) = server.two_contacts().await;
        let sent = alice.send(&bob, "hello").await;
        bob.expect_message(&sent).await;
        let page = anonymous.get("/metrics").await;
        assert_eq!(page.status, 200);
        let value = |name: &str| -> f64 {
            let line = page.text.lines().find(|line| line.starts_with(name));
            let line = line.unwrap_or_else(|| panic!("{name} is missing in {}", page.text));
            line.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{line}"))
        };
        assert!((value("curlew_mqtt_connections") - 2.0).abs() < 0.1);
        assert!(value("curlew_mqtt_messages_received_total") >= 1.0);
        assert!(value("curlew_mqtt_messages_sent_total") >= 1.0);
        assert!(value("curlew_commit_batch_size_count") >= 1.0);
        assert!(value("curlew_commit_seconds_count") >= 1.0);
        value("curlew_commit_queue_depth");
        // Nothing about anybody in particular.
        for secret in [&alice.id, &alice.username, &sent.text, &alice.mqtt_password] {
            assert!(!page.text.contains(secret.as_str()), "{secret}");
        }
    }

    async fn the_log_holds_no_secrets_and_no_messages(server) {
        let (alice, bob) = server.two_contacts().await;
        let sent = alice.send(&bob, "a very private thing").await;
        bob.expect_message(&sent).await;
        alice.post(&bob, "another private thing").await;
        let log = server.log();
        assert!(log.contains("connected"), "{log}");
        for secret in ["private thing", PASSWORD, &alice.mqtt_password, &alice.access_token, &alice.refresh_token] {
            assert!(!log.contains(secret), "{secret}");
        }
    }
}

both_engines! {
    async fn a_storm_loses_nothing(server) {
        let (http, mqtt) = (server.endpoints().http().to_string(), server.endpoints().mqtt().to_string());
        let arguments = ["bench", "storm", "--sessions", "23", "--users", "7", "--chats", "5", "--missed", "3", "--calm", "0",
            "--http", &http, "--mqtt", &mqtt, "--output", "json"];
        let report = printed_json(&server.curlew(&arguments));
        // Of a user's 5 chats one is with somebody who stays; the others are shared with another user.
        assert_eq!((&report["chats"], &report["missed"]), (&json!(7 + 14), &json!(23 * 5 * 3)), "{report}");
        for nothing in ["lost", "duplicates", "reordered", "absent", "refused", "interrupted"] {
            assert_eq!(report[nothing], 0, "{nothing}: {report}");
        }
        let number = |pointer: &str| report.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer}: {report}"));
        assert!(number("/due") >= number("/missed") && number("/recoveredSeconds") >= number("/caughtUpSeconds"));
        assert!(number("/connectedSeconds") > 0.0 && number("/server/transactions") > 0.0);
    }
}

/// Whether `mosquitto`'s clients are here; otherwise `test` is reported as skipped, or fails, as `CURLEW_TEST_REQUIRE` says.
fn has_mosquitto(test: &str) -> bool {
    let there = Command::new("mosquitto_pub").arg("--help").output().is_ok();
    assert!(
        there || !required("mosquitto"),
        "CURLEW_TEST_REQUIRE names mosquitto, but its clients are not here"
    );
    if !there {
        writeln!(std::io::stderr(), "skipped: {test} (mosquitto's clients were not found)").ok();
    }
    there
}

/// Runs a line of a shell; answers what it prints.
#[track_caller]
fn paste(line: &str) -> String {
    printed(&Command::new("sh").args(["-c", line]).output().unwrap())
}

#[tokio::test]
async fn what_the_demo_prints_can_be_pasted() {
    if !has_mosquitto("program::what_the_demo_prints_can_be_pasted") {
        return;
    }
    let server = TestServer::start(Engine::Sqlite).await;
    let text = printed(&server.curlew(&["demo"]));
    let lines =
        |word: &str| text.lines().map(str::trim).filter(|line| line.starts_with(word)).collect::<Vec<_>>();
    let ([bob_listens, alice_listens], [alice_writes, bob_answers]) =
        (&lines("mosquitto_sub")[..], &lines("mosquitto_pub")[..])
    else {
        panic!("two who listen and two who write: {text}")
    };
    // Each listens once, so that the session is there, and is stopped; a crash; then they write to each other.
    for listens in [bob_listens, alice_listens] {
        paste(&format!("{listens} -E"));
    }
    server.kill();
    server.start_again_on_the_same_ports().await;
    paste(alice_writes);
    paste(bob_answers);
    for listens in [bob_listens, alice_listens] {
        let heard = paste(&format!("{listens} -C 2 -W 20"));
        let texts: Vec<Value> = heard.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let texts: Vec<_> = texts.iter().map(|event| event["message"]["text"].as_str().unwrap()).collect();
        assert_eq!(texts, ["Hello, Bob", "Hello, Alice"]);
    }
    let curl = lines("curl");
    if Command::new("curl").arg("--version").output().is_ok() {
        let answers: Vec<Value> =
            curl.iter().map(|line| serde_json::from_str(&paste(line)).unwrap()).collect();
        assert_eq!(answers[0]["text"], "Hello from HTTP");
        assert_eq!(answers[1]["items"].as_array().map(Vec::len), Some(3));
    }
}

#[tokio::test]
async fn readiness_is_the_databases() {
    if !Engine::Postgres.is_there("program::readiness_is_the_databases") {
        return;
    }
    let server = TestServer::start(Engine::Postgres).await;
    server.anonymous().get("/readyz").await.expect(200);
    server.db_drop().await;
    let answer = curlew_tests::wait::eventually("readiness to end", async || {
        let answer = server.anonymous().get("/readyz").await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
    answer.expect_problem(503, "unavailable");
    server.anonymous().get("/healthz").await.expect(200);
}

#[tokio::test]
async fn what_is_secret_in_the_data_directory_is_the_owners() {
    let server = TestServer::start(Engine::Sqlite).await;
    let mode =
        |name: &str| std::fs::metadata(server.data_dir().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(""), 0o700);
    let files: Vec<_> =
        std::fs::read_dir(server.data_dir()).unwrap().map(|f| f.unwrap().file_name()).collect();
    let secret =
        files.iter().find(|name| name.to_string_lossy().contains("secret")).expect("a generated secret");
    assert_eq!(mode(&secret.to_string_lossy()), 0o600);
    let socket = files.iter().find(|name| name.to_string_lossy().contains("sock")).expect("an admin socket");
    assert_eq!(mode(&socket.to_string_lossy()), 0o600);
}
