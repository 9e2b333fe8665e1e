//! Promise 7 for published commands: refused for good, told why, and the connection goes on.

use crate::{send_topic, text};
use curlew_tests::{
    Actor, Chat, Engine, Protocol, TestServer, json,
    mqtt::raw::{Connect, Packet},
};

const NOWHERE: &str = "0192f0c1-0000-7000-8000-000000000001";

async fn scene() -> (TestServer, Actor, Actor, Chat) {
    let server = TestServer::start(Engine::Sqlite).await;
    let [alice, bob] = server.contacts(["alice", "bob"]).await;
    let chat = alice.private_chat(&bob).await;
    (server, alice, bob, chat)
}

/// Publications that are refused: topic, payload, reason code, error code.
fn refused(chat: &Chat) -> Vec<(String, Vec<u8>, u8, &'static str)> {
    let send = send_topic(chat);
    let receipts = format!("chats/{chat}/receipts");
    let upper = send.to_uppercase().replace("CHATS", "chats").replace("SEND", "send");
    let too_long = json!({ "type": "TEXT", "text": "x".repeat(16 * 1024 + 1) }).to_string();
    let huge = format!(r#"{{"type":"TEXT","text":"{}"}}"#, "x".repeat(200 * 1024));
    let hello = text("hi", "1");
    vec![
        // Not found, not allowed.
        (format!("chats/{NOWHERE}/send"), hello.clone(), 0x87, "not-found"),
        (format!("chats/{NOWHERE}/receipts"), br#"{"read":1}"#.to_vec(), 0x87, "not-found"),
        // Outside the grammar.
        ("elsewhere".into(), hello.clone(), 0x90, "invalid-topic"),
        ("chats".into(), hello.clone(), 0x90, "invalid-topic"),
        ("chats//send".into(), hello.clone(), 0x90, "invalid-topic"),
        ("chats/x/send".into(), hello.clone(), 0x90, "invalid-topic"),
        (format!("{send}/more"), hello.clone(), 0x90, "invalid-topic"),
        (format!("/{send}"), hello.clone(), 0x90, "invalid-topic"),
        (format!("chats/{chat}/messages"), hello.clone(), 0x90, "invalid-topic"),
        (format!("chats/{chat}/Send"), hello.clone(), 0x90, "invalid-topic"),
        ("ünïcödé/топик".into(), hello.clone(), 0x90, "invalid-topic"),
        ("$SYS/broker".into(), hello, 0x90, "invalid-topic"),
        (upper, b"{}".to_vec(), 0x90, "invalid-topic"),
        // Payload.
        (send.clone(), Vec::new(), 0x99, "invalid-request"),
        (send.clone(), b"hello".to_vec(), 0x99, "invalid-request"),
        (send.clone(), b"\xff\xfe".to_vec(), 0x99, "invalid-request"),
        (send.clone(), b"[]".to_vec(), 0x99, "invalid-request"),
        (send.clone(), br#"{"type":"TEXT","text":"hi","more":1}"#.to_vec(), 0x99, "invalid-request"),
        (send.clone(), br#"{"type":"TEXT","text":7}"#.to_vec(), 0x99, "invalid-request"),
        (send.clone(), br#"{"type":"TEXT"}"#.to_vec(), 0x99, "invalid-request"),
        (send.clone(), br#"{"type":"CARRIER-PIGEON","text":"hi"}"#.to_vec(), 0x99, "invalid-request"),
        (send.clone(), b"[".repeat(50_000), 0x99, "invalid-request"),
        (send.clone(), too_long.into_bytes(), 0x99, "invalid-request"),
        (send, huge.into_bytes(), 0x99, "invalid-request"),
        (receipts.clone(), b"{}".to_vec(), 0x99, "invalid-request"),
        (receipts.clone(), br#"{"read":-1}"#.to_vec(), 0x99, "invalid-request"),
        (receipts, br#"{"red":1}"#.to_vec(), 0x99, "invalid-request"),
    ]
}

fn shown(topic: &str, payload: &[u8]) -> String {
    format!("{topic} {}", String::from_utf8_lossy(&payload[..payload.len().min(60)]))
}

#[tokio::test]
async fn in_mqtt_5_the_puback_says_why() {
    let (_server, alice, _, chat) = scene().await;
    let mut raw = alice.raw(Protocol::V5, Connect::default()).await;
    raw.subscribe(&[("#", 1)]).await;
    for (topic, payload, expected, code) in refused(&chat) {
        raw.publish(&topic, &payload, 1, 9).await;
        let (reason, properties) = raw.puback(9).await;
        assert_eq!(reason, expected, "{}: {properties:?}", shown(&topic, &payload));
        let detail = properties.reason_string.strip_prefix(code).and_then(|rest| rest.strip_prefix(": "));
        assert!(
            detail.is_some_and(|detail| !detail.is_empty()),
            "{}: {properties:?}",
            shown(&topic, &payload)
        );
        assert_eq!(properties.user, [], "{}", shown(&topic, &payload));
    }
    // The same connection goes on, and nothing was told or stored.
    raw.ping().await;
    assert_eq!(raw.read().await, Some(Packet::PingResp));
    let sentinel = alice.post(&chat, "sentinel").await;
    assert_eq!(raw.publication().await.json()["id"], sentinel.id);
    assert_eq!(alice.texts(&chat).await, ["sentinel"]);
}

#[tokio::test]
async fn at_qos_2_the_pubrec_says_why() {
    let (_server, alice, _, chat) = scene().await;
    let mut raw = alice.raw(Protocol::V5, Connect::default()).await;
    raw.publish(&send_topic(&chat), b"hello", 2, 9).await;
    assert_eq!(raw.read().await, Some(Packet::PubRec { id: 9, reason: 0x99 }));
    assert_eq!(alice.texts(&chat).await, [""; 0]);
}

#[tokio::test]
async fn in_mqtt_3_command_failed_says_why() {
    let (_server, alice, _, chat) = scene().await;
    let mut raw = alice.raw(Protocol::V3, Connect::default()).await;
    raw.subscribe(&[("#", 1)]).await;
    let topic_of_errors = format!("users/{}/errors", alice.id);
    for (topic, payload, _, code) in refused(&chat) {
        raw.publish(&topic, &payload, 1, 9).await;
        let (mut acknowledged, mut told) = (false, None);
        while !acknowledged || told.is_none() {
            match raw.read().await {
                Some(Packet::PubAck { id: 9, .. }) => acknowledged = true,
                Some(Packet::Publish(publication)) => told = Some(publication),
                other => panic!("{}: {other:?}", shown(&topic, &payload)),
            }
        }
        let told = told.unwrap();
        assert_eq!((told.topic.as_str(), told.retain), (topic_of_errors.as_str(), false));
        let event = told.json();
        assert_eq!((&event["v"], &event["event"]), (&json!(1), &json!("command-failed")));
        assert_eq!((&event["topic"], &event["packetId"]), (&json!(topic), &json!(9)));
        assert_eq!(event["code"], code, "{}", shown(&topic, &payload));
        assert!(event["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{event}");
    }
    assert_eq!(alice.texts(&chat).await, [""; 0]);
}

#[tokio::test]
async fn at_qos_0_command_failed_says_why_to_the_session_that_published() {
    let (_server, alice, bob, chat) = scene().await;
    let mut tablet =
        alice.raw(Protocol::V5, Connect { client_id: "other".into(), ..Connect::default() }).await;
    tablet.subscribe(&[("#", 1)]).await;
    alice.connect().await;
    let body = json!({ "type": "TEXT", "text": "", "localId": "mine" }).to_string();
    alice.mqtt().await.publish_and_forget(&send_topic(&chat), body).await;
    let failed = alice.expect_event("command-failed").await;
    assert_eq!(failed.topic, format!("users/{}/errors", alice.id));
    assert_eq!((&failed.json["topic"], &failed.json["localId"]), (&json!(send_topic(&chat)), &json!("mine")));
    assert_eq!(failed.json["code"], "invalid-request");
    assert!(failed.json.get("packetId").is_none(), "at QoS 0 there is none: {failed:?}");
    let sentinel = bob.post(&chat, "sentinel").await;
    assert_eq!(tablet.publication().await.json()["id"], sentinel.id, "before it nothing comes");
}

#[tokio::test]
async fn who_does_not_want_reasons_gets_bare_codes() {
    let (_server, alice, _, chat) = scene().await;
    let mut raw =
        alice.raw(Protocol::V5, Connect { no_problem_information: true, ..Connect::default() }).await;
    raw.publish(&send_topic(&chat), b"hello", 1, 9).await;
    let (reason, properties) = raw.puback(9).await;
    assert_eq!((reason, properties.reason_string.as_str()), (0x99, ""));
    raw.publish(&send_topic(&chat), &text("hello", "1"), 1, 10).await;
    let (reason, properties) = raw.puback(10).await;
    assert_eq!((reason, properties.user), (0, Vec::new()));
}
