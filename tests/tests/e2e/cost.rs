//! What a message costs on the wire, and what silence costs.

use curlew_tests::{
    Engine, Protocol, RawClient, TestServer, json,
    mqtt::raw::{Connect, Packet, Traffic, cbor},
};

/// A UUID as `localId`, as recommended.
const LOCAL_ID: &str = "0192f0c1-7a10-7000-8000-0000000000aa";
const TEXT: &str = "forty characters of text are a sentence.";

/// Packets and bytes of one message of 40 characters: at the sender (PUBLISH, PUBACK, and what tells DELIVERED and READ), and
/// at the receiver (PUBLISH, PUBACK, and the PUBLISH that says it is read, QoS 0).
type Cost = (Traffic, Traffic);

async fn measure(
    server: &TestServer,
    protocol: Protocol,
    format: &'static str,
    aliases: Option<u16>,
) -> Cost {
    let names = [
        format!("a{protocol:?}{format}{}", aliases.unwrap_or(0)),
        format!("b{protocol:?}{format}{}", aliases.unwrap_or(0)),
    ];
    let names = names.map(|name| name.to_lowercase().replace(['?', '='], "."));
    let [alice, bob] = server.contacts([names[0].as_str(), names[1].as_str()]).await;
    let chat = alice.private_chat(&bob).await;
    let connect = || Connect { options: format, topic_alias_maximum: aliases, ..Connect::default() };
    let mut sender = alice.raw(protocol, connect()).await;
    sender.subscribe(&[("chats/+/receipts", 0)]).await;
    let mut receiver = bob.raw(protocol, connect()).await;
    receiver.subscribe(&[("chats/+/messages", 1)]).await;
    let encode = |value: serde_json::Value| {
        if format.is_empty() { value.to_string().into_bytes() } else { cbor(&value) }
    };
    let mut cost = Cost::default();
    // The second one: with topic aliases the first pays for the names.
    for seq in 1..=2u64 {
        let before = (sender.traffic, receiver.traffic);
        let local_id = format!("{}{seq}", &LOCAL_ID[..35]);
        let body = encode(json!({ "type": "TEXT", "text": TEXT, "localId": local_id }));
        sender.publish(&format!("chats/{chat}/send"), &body, 1, 1).await;
        sender.puback(1).await;
        let publication = receiver.publication().await;
        receiver.acknowledge(publication.id).await;
        expect_publication(&mut sender).await;
        receiver.publish(&format!("chats/{chat}/receipts"), &encode(json!({ "read": seq })), 0, 0).await;
        expect_publication(&mut sender).await;
        let of = |after: Traffic, before: Traffic| Traffic {
            packets: after.packets - before.packets,
            bytes: after.bytes - before.bytes,
        };
        cost = (of(sender.traffic, before.0), of(receiver.traffic, before.1));
    }
    cost
}

async fn expect_publication(client: &mut RawClient) {
    let packet = client.read().await;
    assert!(matches!(packet, Some(Packet::Publish(_))), "{packet:?}");
}

#[tokio::test]
async fn a_delivered_message_with_receipts() {
    let server = TestServer::start(Engine::Sqlite).await;
    let mut table = Vec::new();
    for (protocol, format, aliases) in [
        (Protocol::V3, "", None),
        (Protocol::V3, "?format=cbor", None),
        (Protocol::V5, "", None),
        (Protocol::V5, "?format=cbor", None),
        (Protocol::V5, "?format=cbor", Some(16)),
    ] {
        let (sender, receiver) = measure(&server, protocol, format, aliases).await;
        assert_eq!((sender.packets, receiver.packets), (4, 3));
        table.push(sender.bytes + receiver.bytes);
    }
    // As docs/mqtt.md has it.
    assert_eq!(table, BYTES);
}

const BYTES: [usize; 5] = [1341, 1200, 1407, 1266, 1122];

#[tokio::test]
async fn an_idle_connection_is_silent_but_for_its_keep_alive() {
    let server = TestServer::start(Engine::Sqlite).await;
    let [alice, _bob] = server.contacts(["alice", "bob"]).await;
    for protocol in [Protocol::V3, Protocol::V5] {
        let mut idle = alice.raw(protocol, Connect { keep_alive: 1, ..Connect::default() }).await;
        idle.subscribe(&[("#", 1)]).await;
        idle.expect_quiet().await;
        let before = idle.traffic;
        for _ in 0..3 {
            idle.ping().await;
            assert_eq!(idle.read().await, Some(Packet::PingResp));
        }
        let (packets, bytes) = (idle.traffic.packets - before.packets, idle.traffic.bytes - before.bytes);
        assert_eq!((packets, bytes), (6, 12), "PINGREQ and PINGRESP, two bytes each");
    }
}
