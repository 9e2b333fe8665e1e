//! MQTT over WebSocket: section 6 of both standards.

use crate::{send_topic, text};
use curlew_tests::{
    Engine, Protocol, RawClient, TestServer,
    mqtt::{
        raw::{Connect, Packet, encode_connect, packet},
        websocket::{Data, Error, Frame, Message, OpCode, SinkExt, StreamExt, in_frames, open},
    },
    wait::within,
};

/// A conversation whose packets go out at once and are cut into frames of this size.
async fn converse(server: &TestServer, frame_size: usize, username: &str, protocol: Protocol) {
    let (alice, bob) = (server.user(username).await, server.user(&format!("{username}.peer")).await);
    alice.befriend(&bob).await;
    let chat = alice.private_chat(&bob).await;
    let (socket, chosen) = open(server.endpoints().http(), Some("mqtt")).await.expect("a WebSocket");
    assert_eq!(chosen.as_deref(), Some("mqtt"), "[MQTT-6.0.0-4]");

    let mut raw = RawClient::over(in_frames(socket, frame_size), protocol);
    let connect = Connect {
        username: Some(alice.username.clone()),
        password: Some(alice.mqtt_password.clone().into_bytes()),
        ..Connect::default()
    };
    let long = "x".repeat(5_000);
    let packets = [
        encode_connect(protocol, &connect),
        raw.encode_subscribe(1, &[("chats/+/messages", 1)]),
        raw.encode_publish(&send_topic(&chat), &text(&long, "1"), 1, 2, false),
        raw.encode_publish(&send_topic(&chat), &text("second", "2"), 1, 3, false),
    ];
    raw.write(&packets.concat()).await;

    assert!(matches!(raw.read().await, Some(Packet::ConnAck { code: 0, .. })));
    let (mut acknowledged, mut texts) = (Vec::new(), Vec::new());
    while acknowledged.len() < 2 || texts.len() < 2 {
        match raw.read().await {
            Some(Packet::SubAck { codes, .. }) => assert_eq!(codes, [1]),
            Some(Packet::PubAck { id, reason, .. }) => {
                assert_eq!(reason, 0);
                acknowledged.push(id);
            }
            Some(Packet::Publish(publication)) => {
                texts.push(publication.json()["message"]["text"].as_str().expect("a text").to_owned());
                raw.acknowledge(publication.id).await;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((acknowledged, texts), (vec![2, 3], vec![long, "second".to_owned()]));
    raw.ping().await;
    assert_eq!(raw.read().await, Some(Packet::PingResp));
    raw.disconnect().await;
}

#[tokio::test]
async fn packets_may_span_frames_and_share_them() {
    let server = TestServer::start(Engine::Sqlite).await;
    converse(&server, 1, "anna", Protocol::V5).await;
    converse(&server, 7, "bert", Protocol::V3).await;
    converse(&server, 64 * 1024, "cora", Protocol::V5).await;
}

/// `[MQTT-6.0.0-1]`
#[tokio::test]
async fn a_text_frame_closes_the_connection() {
    let server = TestServer::start(Engine::Sqlite).await;
    let alice = server.user("alice").await;
    let connect = Connect { password: Some(alice.mqtt_password.clone().into_bytes()), ..Connect::default() };
    for connected in [false, true] {
        let (mut socket, _) = open(server.endpoints().http(), Some("mqtt")).await.unwrap();
        if connected {
            socket.send(Message::binary(encode_connect(Protocol::V5, &connect))).await.unwrap();
            let connack = within("CONNACK", socket.next()).await;
            assert!(matches!(connack, Some(Ok(Message::Binary(packet))) if packet[0] == 0x20));
        }
        socket.send(Message::text("\u{c0}\0")).await.unwrap();
        while let Some(Ok(message)) = within("the end of the connection", socket.next()).await {
            assert!(!matches!(message, Message::Binary(ref packet) if packet[0] != 0xE0), "{message:?}");
        }
    }
}

/// `[MQTT-6.0.0-3]`
#[tokio::test]
async fn the_subprotocol_must_be_offered() {
    let server = TestServer::start(Engine::Sqlite).await;
    for offered in [None, Some("xmpp"), Some("mqttv3.1")] {
        match open(server.endpoints().http(), offered).await {
            Err(Error::Http(answer)) => assert_eq!(answer.status(), 400, "{offered:?}"),
            other => panic!("{offered:?}: {:?}", other.map(|(_, chosen)| chosen)),
        }
    }
    let (_, chosen) = open(server.endpoints().http(), Some("xmpp, mqtt")).await.unwrap();
    assert_eq!(chosen.as_deref(), Some("mqtt"));
}

/// `[MQTT-6.0.0-2]`: a frame of RFC 6455 may come in fragments (section 5.4), and one may be empty.
#[tokio::test]
async fn frames_may_be_fragments_and_empty_with_pings_between() {
    let server = TestServer::start(Engine::Sqlite).await;
    let alice = server.user("alice").await;
    let connect = encode_connect(Protocol::V5, &alice.credentials(Connect::default()));
    let (mut socket, _) = open(server.endpoints().http(), Some("mqtt")).await.unwrap();
    let fragment =
        |bytes: &[u8], kind, last| Message::Frame(Frame::message(bytes.to_vec(), OpCode::Data(kind), last));
    for message in [
        fragment(&connect[..1], Data::Binary, false),
        Message::Ping("there?".into()),
        fragment(&[], Data::Continue, false),
        fragment(&connect[1..], Data::Continue, true),
        Message::binary(Vec::new()),
        Message::binary(vec![0xC0]),
        Message::binary(Vec::new()),
        Message::binary(vec![0]),
    ] {
        socket.send(message).await.unwrap();
    }
    let (mut ponged, mut received) = (false, Vec::new());
    while !received.ends_with(&[0xD0, 0]) {
        match within("CONNACK, a pong, and PINGRESP", socket.next()).await {
            Some(Ok(Message::Binary(bytes))) => received.extend_from_slice(&bytes),
            Some(Ok(Message::Pong(said))) => ponged = said == "there?",
            other => panic!("{other:?}"),
        }
    }
    assert!(ponged && received[0] == 0x20, "{received:x?}");
}

/// `[MQTT-4.13.1-1]` and `[MQTT-6.0.0-1]`: what comes before the broken packet in its frame is answered, then the reason comes,
/// in a binary frame as everything does.
#[tokio::test]
async fn a_broken_packet_ends_the_connection_as_it_does_over_tcp() {
    let server = TestServer::start(Engine::Sqlite).await;
    let alice = server.user("alice").await;
    for (protocol, none) in [(Protocol::V5, &[0][..]), (Protocol::V3, &[])] {
        let (socket, _) = open(server.endpoints().http(), Some("mqtt")).await.unwrap();
        let mut raw = RawClient::over(in_frames(socket, 64 * 1024), protocol);
        assert_eq!(raw.connect(&alice.credentials(Connect::default())).await.1, 0);
        let no_filter = packet(0x82, &[&[0, 1], none].concat());
        raw.write(&[&[0xC0, 0][..], &no_filter, &[0xC0, 0]].concat()).await;
        assert_eq!(raw.read().await, Some(Packet::PingResp));
        match (protocol, raw.read().await) {
            (Protocol::V5, Some(Packet::Disconnect { reason: 0x82, .. })) => {
                assert_eq!(raw.read().await, None);
            }
            (Protocol::V3, None) => {}
            (_, other) => panic!("{protocol:?}: {other:?}"),
        }
    }
}

/// A frame is bounded as a packet is, whatever it holds: it is read as a whole.
#[tokio::test]
async fn a_frame_larger_than_any_packet_ends_the_connection() {
    let server = TestServer::start(Engine::Sqlite).await;
    let pings = |bytes: usize| Message::binary([0xC0, 0].repeat(bytes / 2));
    let alice = server.user("alice").await;
    let connect = encode_connect(Protocol::V5, &alice.credentials(Connect::default()));
    for (size, goes_on) in [(256 * 1024, true), (256 * 1024 + 2, false)] {
        let (mut socket, _) = open(server.endpoints().http(), Some("mqtt")).await.unwrap();
        socket.send(Message::binary(connect.clone())).await.unwrap();
        let connack = within("CONNACK", socket.next()).await;
        assert!(matches!(connack, Some(Ok(Message::Binary(packet))) if packet[0] == 0x20));
        // It may be closed before all of it is out.
        let sent = socket.send(pings(size)).await;
        assert!(sent.is_ok() || !goes_on, "{sent:?}");
        let answer = within("PINGRESP, or the end", socket.next()).await;
        let answered = matches!(answer, Some(Ok(Message::Binary(packet))) if packet[..2] == [0xD0, 0]);
        assert_eq!(answered, goes_on, "{size}");
    }
}
