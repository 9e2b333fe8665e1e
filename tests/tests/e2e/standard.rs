//! What MQTT says beyond sending and receiving: Receive Maximum, topic aliases, re-authentication, Server Keep Alive, what
//! a payload claims to be; and how fast one may publish.

use crate::{QUIET, send_topic, text};
use curlew_tests::{
    Actor, Engine, Protocol, RawClient, TestServer, both_engines, json,
    mqtt::raw::{Connect, Packet},
};
use std::time::{Duration, Instant};

/// Told in CONNACK.
const RECEIVE_MAXIMUM: u16 = 64;

const TOPIC_ALIAS: u8 = 0x23;
const RE_AUTHENTICATE: u8 = 0x19;

async fn is_alive(raw: &mut RawClient) -> bool {
    raw.ping().await;
    raw.read().await == Some(Packet::PingResp)
}

/// A client that named the method `token` in CONNECT.
async fn connect_with_token(server: &TestServer, token: &str) -> RawClient {
    let mut raw = RawClient::open(server.endpoints().mqtt(), Protocol::V5).await;
    let authentication = Some(("token".to_owned(), token.as_bytes().to_vec()));
    let (_, code, properties) = raw.connect(&Connect { authentication, ..Connect::default() }).await;
    assert_eq!((code, properties.authentication_method.as_deref()), (0, Some("token")));
    raw
}

/// Another login on the same device.
async fn log_in_again(server: &TestServer, actor: &Actor) -> Actor {
    let body = json!({
        "login": actor.username,
        "password": curlew_tests::actor::PASSWORD,
        "device": { "id": actor.device_id, "name": "phone", "platform": "test" },
    });
    Actor::from_login(server, &server.anonymous().post("/auth/login", body).await.expect(200))
}

async fn expect_accepted(raw: &mut RawClient) {
    match raw.read().await {
        Some(Packet::Auth { reason: 0, properties }) => {
            assert_eq!(properties.authentication_method.as_deref(), Some("token"));
        }
        other => panic!("instead of AUTH: {other:?}"),
    }
}

both_engines! {
    async fn more_publications_than_receive_maximum_end_the_connection(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        let mut raw = RawClient::open(server.endpoints().mqtt(), Protocol::V5).await;
        let (_, _, properties) = raw.connect(&alice.credentials(Connect::default())).await;
        assert_eq!(properties.receive_maximum, Some(RECEIVE_MAXIMUM.into()));
        let held = server.db_hold_commits().await;
        for number in 1..=RECEIVE_MAXIMUM {
            raw.publish(&send_topic(&chat), &text("x", &number.to_string()), 1, number).await;
        }
        assert!(is_alive(&mut raw).await, "what is no PUBLISH goes on");
        raw.publish(&send_topic(&chat), &text("x", "more"), 1, RECEIVE_MAXIMUM + 1).await;
        assert_eq!(raw.closed().await, Some(0x93));
        held.release().await;
    }

    async fn another_login_of_the_device_takes_the_connection_over(server) {
        let alice = server.user("alice").await;
        let mut raw = connect_with_token(&server, &alice.access_token).await;
        let again = log_in_again(&server, &alice).await;
        assert_eq!(again.device_id, alice.device_id);
        raw.authenticate(RE_AUTHENTICATE, "token", again.access_token.as_bytes()).await;
        expect_accepted(&mut raw).await;
        alice.http.post("/auth/logout", json!({})).await.expect(204);
        assert!(is_alive(&mut raw).await, "it lives by the new login");
        again.http.post("/auth/logout", json!({})).await.expect(204);
        assert_eq!(raw.closed().await, Some(0x87));
    }

    async fn nobody_takes_a_connection_over_who_could_not_have_opened_its_session(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let tablet = alice.log_in_on(&server, "tablet").await;
        let ended = log_in_again(&server, &alice).await;
        ended.http.post("/auth/logout", json!({})).await.expect(204);
        for token in [&bob.access_token, &tablet.access_token, &ended.access_token, &"wrong".to_owned()] {
            let mut raw = connect_with_token(&server, &alice.access_token).await;
            raw.authenticate(RE_AUTHENTICATE, "token", token.as_bytes()).await;
            assert_eq!(raw.closed().await, Some(0x87));
        }
    }
}

#[tokio::test]
async fn auth_out_of_place_is_a_protocol_error() {
    let server = TestServer::start(Engine::Sqlite).await;
    let alice = server.user("alice").await;
    let token = alice.access_token.as_bytes();
    let mut raw = alice.raw(Protocol::V5, Connect::default()).await;
    raw.authenticate(RE_AUTHENTICATE, "token", token).await;
    assert_eq!(raw.closed().await, Some(0x82), "CONNECT named no method");
    for (reason, method) in [(0x18, "token"), (RE_AUTHENTICATE, "other")] {
        let mut raw = connect_with_token(&server, &alice.access_token).await;
        raw.authenticate(reason, method, token).await;
        assert_eq!(raw.closed().await, Some(0x82));
    }
}

#[tokio::test]
async fn a_connection_outlives_its_access_token_only_by_another() {
    let server = TestServer::setup(Engine::Sqlite).env("CURLEW_AUTH_ACCESS_TOKEN_TTL", "3s").start().await;
    let alice = server.user("alice").await;
    let begun = Instant::now();
    let mut renewed = connect_with_token(&server, &alice.access_token).await;
    let authentication = Some(("token".to_owned(), alice.access_token.clone().into_bytes()));
    let mut expiring = RawClient::open(server.endpoints().mqtt(), Protocol::V5).await;
    expiring.connect(&Connect { client_id: "other".into(), authentication, ..Connect::default() }).await;
    renewed.authenticate(RE_AUTHENTICATE, "token", alice.mqtt_password.as_bytes()).await;
    expect_accepted(&mut renewed).await;
    assert_eq!(expiring.closed().await, Some(0x87));
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    assert!(is_alive(&mut renewed).await);
}

#[tokio::test]
async fn topics_go_by_aliases_both_ways() {
    let server = TestServer::start(Engine::Sqlite).await;
    let [alice, bob] = server.contacts(["alice", "bob"]).await;
    let chat = alice.private_chat(&bob).await;
    let aliased = Connect { topic_alias_maximum: Some(1), ..Connect::default() };
    let mut reader = bob.raw(Protocol::V5, aliased.clone()).await;
    reader.subscribe(&[("chats/+/messages", 1)]).await;

    let mut raw = RawClient::open(server.endpoints().mqtt(), Protocol::V5).await;
    let (_, _, properties) = raw.connect(&alice.credentials(Connect::default())).await;
    let maximum = properties.topic_alias_maximum.unwrap();
    let alias = |alias: u32| [TOPIC_ALIAS, (alias >> 8) as u8, alias as u8];
    raw.publish_with(&alias(maximum), &send_topic(&chat), &text("one", "1"), 1).await;
    raw.publish_with(&alias(maximum), "", &text("two", "2"), 2).await;
    assert_eq!((raw.puback(1).await.0, raw.puback(2).await.0), (0, 0));

    let messages = format!("chats/{chat}/messages");
    for (topic, said) in [(&*messages, "one"), ("", "two")] {
        let publication = reader.publication().await;
        assert_eq!((&*publication.topic, publication.alias), (topic, Some(1)));
        assert_eq!(publication.json()["message"]["text"], said);
    }

    raw.publish_with(&alias(1), "", &text("three", "3"), 3).await;
    assert_eq!(raw.closed().await, Some(0x82), "it stands for nothing");
    let mut raw = alice.raw(Protocol::V5, Connect::default()).await;
    raw.publish_with(&alias(maximum + 1), &send_topic(&chat), &text("four", "4"), 4).await;
    assert_eq!(raw.closed().await, Some(0x94));
}

#[tokio::test]
async fn a_publication_sent_again_has_its_topic_again() {
    let server = TestServer::start(Engine::Sqlite).await;
    let [alice, bob] = server.contacts(["alice", "bob"]).await;
    let chat = alice.private_chat(&bob).await;
    let aliased =
        Connect { topic_alias_maximum: Some(8), clean: false, expiry: Some(3600), ..Connect::default() };
    let mut reader = bob.raw(Protocol::V5, aliased.clone()).await;
    reader.subscribe(&[("chats/+/messages", 1)]).await;
    alice.post(&chat, "one").await;
    alice.post(&chat, "two").await;
    let first = reader.publication().await;
    assert_eq!(reader.publication().await.topic, "");
    reader.acknowledge(first.id).await;
    assert!(is_alive(&mut reader).await);
    drop(reader);
    let mut reader = bob.raw(Protocol::V5, aliased).await;
    let again = reader.publication().await;
    assert_eq!((again.dup, &*again.topic, again.alias), (true, &*format!("chats/{chat}/messages"), Some(1)));
    assert_eq!(again.json()["message"]["text"], "two");
}

#[tokio::test]
async fn text_that_is_not_the_utf_8_it_claims_to_be_is_refused() {
    let server = TestServer::start(Engine::Sqlite).await;
    let [alice, bob] = server.contacts(["alice", "bob"]).await;
    let chat = alice.private_chat(&bob).await;
    let mut raw = alice.raw(Protocol::V5, Connect::default()).await;
    raw.publish_with(&[0x01, 1], &send_topic(&chat), b"{\"text\":\"\xFF\"}", 1).await;
    raw.publish_with(&[0x01, 1], &send_topic(&chat), &text("ü", "1"), 2).await;
    let (reason, properties) = raw.puback(1).await;
    assert_eq!(reason, 0x99);
    assert!(properties.reason_string.contains("UTF-8"), "{properties:?}");
    assert_eq!(raw.puback(2).await.0, 0);
}

#[tokio::test]
async fn response_information_is_told_to_who_asks() {
    let server = TestServer::start(Engine::Sqlite).await;
    let alice = server.user("alice").await;
    for (response_information, told) in [(true, Some(format!("users/{}/x/", alice.id))), (false, None)] {
        let mut raw = RawClient::open(server.endpoints().mqtt(), Protocol::V5).await;
        let connect = alice.credentials(Connect { response_information, ..Connect::default() });
        assert_eq!(raw.connect(&connect).await.2.response_information, told);
    }
}

#[tokio::test]
async fn who_asks_for_a_longer_keep_alive_than_the_operator_allows_is_told_which_counts() {
    let server = TestServer::setup(Engine::Sqlite).env("CURLEW_MQTT_KEEP_ALIVE_MAX", "2").start().await;
    let alice = server.user("alice").await;
    let connect = |keep_alive| alice.credentials(Connect { keep_alive, ..Connect::default() });
    for (wish, told) in [(1, None), (2, None), (3, Some(2)), (0, Some(2))] {
        let mut raw = RawClient::open(server.endpoints().mqtt(), Protocol::V5).await;
        assert_eq!(raw.connect(&connect(wish)).await.2.server_keep_alive, told, "{wish}");
    }
    let mut old = RawClient::open(server.endpoints().mqtt(), Protocol::V3).await;
    old.connect(&alice.credentials(Connect { client_id: "old".into(), ..Connect::default() })).await;
    let mut raw = RawClient::open(server.endpoints().mqtt(), Protocol::V5).await;
    raw.connect(&connect(0)).await;
    assert_eq!(raw.closed().await, Some(0x8D));
    assert!(is_alive(&mut old).await, "3.1.1 cannot be told");
}

#[tokio::test]
async fn who_publishes_too_fast_is_read_later() {
    let server =
        TestServer::setup(Engine::Sqlite).env("CURLEW_LIMITS_MESSAGES_PER_SECOND", "10").start().await;
    let [alice, bob] = server.contacts(["alice", "bob"]).await;
    let chat = alice.private_chat(&bob).await;
    let mut raw = alice.raw(Protocol::V5, Connect::default()).await;
    let mut other = bob.raw(Protocol::V5, Connect::default()).await;
    let begun = Instant::now();
    for number in 1..=60 {
        raw.publish(&send_topic(&chat), &text("x", &number.to_string()), 1, number).await;
    }
    raw.ping().await;
    for number in 1..=40 {
        assert_eq!(raw.puback(number).await.0, 0);
    }
    let burst = begun.elapsed();
    let next = raw.read_for(QUIET / 10).await;
    assert!(next.is_err() || burst > Duration::from_millis(60), "{next:?} after {burst:?}");
    other.publish(&send_topic(&chat), &text("y", "1"), 1, 1).await;
    assert_eq!(other.puback(1).await.0, 0, "another user is not slowed");
    let first_late = if let Ok(Some(Packet::PubAck { id, .. })) = next { id + 1 } else { 41 };
    for number in first_late..=60 {
        assert_eq!(raw.puback(number).await.0, 0, "nothing is refused");
    }
    let elapsed = begun.elapsed().as_secs_f64();
    assert!((1.8..10.0).contains(&elapsed), "60 at 10 a second after 40 at once: {elapsed}");
    assert_eq!(raw.read().await, Some(Packet::PingResp), "what was behind them waited, too");
}
