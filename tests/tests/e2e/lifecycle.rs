//! How the process starts and stops.

use crate::{send_topic, text};
use curlew_tests::{
    Engine, Protocol, TestServer, both_engines,
    mqtt::raw::{Connect, Packet},
    server::curlew,
};
use std::{
    fs,
    net::TcpListener,
    process::{Command, Output},
};

/// A server that must not start.
fn serve(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    serve_in(dir.path().to_str().unwrap(), arguments, environment)
}

fn serve_in(data_dir: &str, arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let nowhere = tempfile::tempdir().unwrap();
    let mut command = curlew();
    command.arg("serve").args(["--data-dir", data_dir]).current_dir(nowhere.path());
    for default in [["--http", "127.0.0.1:0"], ["--mqtt", "127.0.0.1:0"]] {
        if !arguments.contains(&default[0]) {
            command.args(default);
        }
    }
    let output = run(command.args(arguments).envs(environment.iter().copied()));
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn run(command: &mut Command) -> Output {
    command.output().expect("the program can be run")
}

both_engines! {
    async fn sigterm_says_goodbye_and_ends_with_0(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        let mut v5 = alice.raw(Protocol::V5, Connect::default()).await;
        let mut v3 = bob.raw(Protocol::V3, Connect::default()).await;
        // What was read is answered before the goodbye.
        v5.publish(&send_topic(&chat), &text("hello", "1"), 1, 1).await;
        assert_eq!(v5.puback(1).await.0, 0);
        let ended = server.terminate().await;
        assert_eq!(ended.code(), Some(0), "{ended}");
        assert_eq!(v5.closed().await, Some(0x8B));
        assert_eq!(v3.closed().await, None);
        server.start_again().await;
        assert_eq!(alice.texts(&chat).await, ["hello"]);
    }

    async fn what_was_acknowledged_before_sigterm_does_not_come_again(server) {
        let (alice, bob) = server.two_contacts().await;
        let chat = alice.private_chat(&bob).await;
        let sent = alice.post(&chat, "hello").await;
        bob.expect_message(&sent).await;
        // The acknowledgement has reached the server when its effect is seen.
        alice.expect_status(&sent, curlew_tests::actor::Status::Delivered).await;
        server.restart().await;
        bob.connect().await;
        assert!(bob.mqtt().await.session_present());
        let sentinel = alice.post(&chat, "sentinel").await;
        bob.expect_nothing_until(&sentinel).await;
    }

    async fn sigterm_under_load_loses_no_acknowledged_message(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        let mut raw = alice.raw(Protocol::V5, Connect::default()).await;
        let mut acknowledged = Vec::new();
        let mut burst = Vec::new();
        // As many as Receive Maximum allows.
        for number in 1..=64_u16 {
            burst.extend(raw.encode_publish(&send_topic(&chat), &text("x", &number.to_string()), 1, number, false));
        }
        raw.write(&burst).await;
        server.signal("TERM");
        let mut told = None;
        while let Some(packet) = raw.read().await {
            match packet {
                Packet::PubAck { reason: 0, properties, .. } => {
                    acknowledged.push(properties.user("messageId").unwrap().to_owned());
                }
                Packet::Disconnect { reason, .. } => told = Some(reason),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(told, Some(0x8B));
        assert_eq!(server.ended().await.code(), Some(0));
        server.start_again().await;
        let events = alice.events(&chat).await;
        let stored: Vec<_> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
        assert!(acknowledged.iter().all(|id| stored.contains(&id.as_str())), "{acknowledged:?} {stored:?}");
    }
}

#[tokio::test]
async fn ctrl_c_ends_with_0_too() {
    let server = TestServer::start(Engine::Sqlite).await;
    server.signal("INT");
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_aborts() {
    let server = TestServer::setup(Engine::Sqlite).env("CURLEW_COMMIT_PATIENCE", "60s").start().await;
    let [alice, bob] = server.contacts(["alice", "bob"]).await;
    let chat = alice.private_chat(&bob).await;
    let mut raw = alice.raw(Protocol::V5, Connect::default()).await;
    // It cannot stop in order while a commit is held back.
    let held = server.db_hold_commits().await;
    raw.publish(&send_topic(&chat), &text("hello", "1"), 1, 1).await;
    raw.ping().await;
    assert_eq!(raw.read().await, Some(Packet::PingResp));
    server.signal("TERM");
    curlew_tests::wait::eventually("the first signal to be seen", async || {
        server.log().contains("stopping").then_some(())
    })
    .await;
    server.signal("TERM");
    let ended = server.ended().await;
    assert_eq!(ended.code(), Some(70), "{ended}");
    held.release().await;
}

#[tokio::test]
async fn a_second_server_on_the_same_data_is_refused_and_told_by_whom() {
    let server = TestServer::start(Engine::Sqlite).await;
    let (code, stderr) = serve_in(server.data_dir().to_str().unwrap(), &[], &[]);
    assert_eq!(code, Some(69), "{stderr}");
    assert!(stderr.contains(&server.pid().to_string()), "{stderr}");
    assert!(server.is_running());
    server.anonymous().get("/readyz").await.expect(200);
    // A dead server's lock is none.
    server.kill_and_restart().await;
}

#[tokio::test]
async fn a_server_says_where_it_is_and_what_to_do_next() {
    let server = TestServer::start(Engine::Sqlite).await;
    let endpoints = server.endpoints();
    let (http, mqtt) = (endpoints.http().to_string(), endpoints.mqtt().to_string());
    server.terminate().await;
    let printed = server.printed();
    for part in [http.as_str(), &mqtt, "curlew", "demo"] {
        assert!(printed.contains(part), "{part} is missing in {printed}");
    }
}

#[test]
fn a_port_in_use_is_one_clear_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--http", "--mqtt"] {
        let (code, stderr) = serve(&[flag, &address], &[]);
        assert_eq!(code, Some(69), "{stderr}");
        let errors: Vec<_> = stderr.lines().filter(|line| line.contains("error: ")).collect();
        assert!(errors.len() == 1 && errors[0].contains(&address), "{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

#[test]
fn an_unusable_data_directory_is_one_clear_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    for path in [file.clone(), file.join("below"), "/proc/curlew".into()] {
        let (code, stderr) = serve_in(path.to_str().unwrap(), &[], &[]);
        assert_eq!(code, Some(69), "{stderr}");
        assert!(stderr.contains(path.to_str().unwrap()) && !stderr.contains("panicked"), "{stderr}");
    }
}

#[test]
fn a_database_that_is_not_there_is_one_clear_line_without_its_password() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("postgres://curlew:hunter2@{closed}/curlew");
    let secret = [("JWT_SECRET", "a secret of more than thirty-two bytes")];
    let (code, stderr) = serve(&["--database-url", &url], &secret);
    assert_eq!(code, Some(69), "{stderr}");
    assert!(stderr.contains(&closed.port().to_string()), "{stderr}");
    assert!(!stderr.contains("hunter2") && !stderr.contains("panicked"), "{stderr}");
}

#[test]
fn mistakes_in_the_configuration_are_told_all_at_once() {
    let environment =
        [("CURLEW_AUTH_BCRYPT_COST", "99"), ("CURLEW_COMMIT_PATIENCE", "soon"), ("JWT_SECRET", "hunter2")];
    let (code, stderr) =
        serve(&["--mqtt", "nowhere", "--database-url", "mysql://root:hunter2@h/d"], &environment);
    assert_eq!(code, Some(64), "{stderr}");
    for part in ["bcrypt_cost", "99", "patience", "soon", "jwt_secret", "nowhere", "mysql"] {
        assert!(stderr.contains(part), "{part} is missing in {stderr}");
    }
    assert!(!stderr.contains("hunter2"), "{stderr}");
}

#[test]
fn a_configuration_mistake_binds_no_port_and_makes_no_directory() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("data");
    // Were a port bound first, this would be 69.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let environment = [("CURLEW_AUTH_BCRYPT_COST", "99")];
    let (code, stderr) = serve_in(data_dir.to_str().unwrap(), &["--http", &address], &environment);
    assert_eq!(code, Some(64), "{stderr}");
    assert!(!data_dir.exists());
}

#[test]
fn unknown_flags_and_keys_are_errors_and_unknown_variables_are_not() {
    let (code, stderr) = serve(&["--colour", "red"], &[]);
    assert_eq!(code, Some(64), "{stderr}");
    assert!(stderr.contains("--colour"), "{stderr}");

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("curlew.toml");
    fs::write(&file, "[server]\ncolour = \"red\"\n[weather]\nsun = true\n").unwrap();
    let (code, stderr) = serve(&["--config", file.to_str().unwrap()], &[]);
    assert_eq!(code, Some(64), "{stderr}");
    assert!(stderr.contains("colour") && stderr.contains("weather"), "{stderr}");

    // With the data directory unusable it goes on to that: the variable is no mistake, and is mentioned.
    let (code, stderr) = serve_in("/proc/curlew", &[], &[("CURLEW_SERVER_COLOUR", "red")]);
    assert_eq!(code, Some(69), "{stderr}");
    assert!(stderr.contains("CURLEW_SERVER_COLOUR"), "{stderr}");
}

#[test]
fn postgresql_needs_a_secret() {
    let (code, stderr) = serve(&["--database-url", "postgres://127.0.0.1:1/d"], &[]);
    assert_eq!(code, Some(64), "{stderr}");
    assert!(stderr.contains("jwt_secret") || stderr.contains("JWT_SECRET"), "{stderr}");
}
