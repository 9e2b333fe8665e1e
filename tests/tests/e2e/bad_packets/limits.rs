//! Too much of something: each has a limit, which docs/mqtt-clauses.md names.

use super::{Scene, string};
use crate::send_topic;
use curlew_tests::{
    Engine, Protocol, RawClient, TestServer,
    mqtt::raw::{Connect, Packet, packet},
    wait::eventually,
};
use std::time::{Duration, Instant};

/// A user property of two empty strings.
const TINY: [u8; 5] = [0x26, 0, 0, 0, 0];

/// A variable byte integer.
fn variable(value: usize) -> Vec<u8> {
    // As a remaining length is one.
    let packet = packet(0, &vec![0; value]);
    packet[1..packet.len() - value].to_vec()
}

fn with_properties(first: u8, before: &[u8], properties: &[u8], after: &[u8]) -> Vec<u8> {
    packet(first, &[before, &variable(properties.len()), properties, after].concat())
}

#[tokio::test]
async fn lists_without_end_are_cut_short() {
    let scene = Scene::new().await;
    let publish =
        |count| with_properties(0x30, &string(&send_topic(&scene.chat)), &TINY.repeat(count), b"never");
    let filters = |none: &[u8], count: usize| {
        packet(0x82, &[&[0, 1], none, &[string("#"), vec![0]].concat().repeat(count)].concat())
    };
    // As many as a packet of 256 KiB holds, and more.
    for (what, protocol, bytes, reason) in [
        ("properties", Protocol::V5, publish(50_000), Some(0x97)),
        ("filters", Protocol::V5, filters(&[0], 65_000), Some(0x97)),
        ("filters", Protocol::V3, filters(&[], 65_000), None),
        ("a million properties", Protocol::V5, publish(1_000_000), Some(0x95)),
        ("65,535 filters", Protocol::V5, filters(&[0], 65_535), Some(0x95)),
        ("65,535 filters", Protocol::V3, filters(&[], 65_535), None),
    ] {
        let mut raw = scene.alice.raw(protocol, Connect::default()).await;
        let begun = Instant::now();
        // The server stops reading, and may reset before the last byte is out.
        raw.write(&bytes).await;
        let told = raw.closed().await;
        assert!(
            told == reason || told.is_none() && bytes.len() > 256 * 1024,
            "{what} {protocol:?}: {told:x?}"
        );
        assert!(begun.elapsed() < Duration::from_secs(5), "{what} {protocol:?}: {:?}", begun.elapsed());
    }
    // Before authentication a packet has 16 KiB.
    for (count, code) in [(3_000, 0x97), (1_000_000, 0x95)] {
        let header = [string("MQTT"), vec![5, 2, 0, 60]].concat();
        let mut connect = with_properties(0x10, &header, &TINY.repeat(count), &string("x"));
        connect.truncate(16 * 1024);
        let mut raw = scene.open(Protocol::V5).await;
        raw.write(&connect).await;
        let answer = raw.read().await;
        assert!(matches!(answer, Some(Packet::ConnAck { code: told, .. }) if told == code), "{answer:?}");
        assert_eq!(raw.read().await, None);
    }
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn topics_of_thousands_of_levels_are_refused_like_any_other() {
    let scene = Scene::new().await;
    let deep = format!("{}a", "a/".repeat(32_767));
    let wild = format!("{}#", "+/".repeat(32_767));
    assert_eq!((deep.len(), wild.len()), (65_535, 65_535));
    for (protocol, refused) in [(Protocol::V5, 0x8F), (Protocol::V3, 0x80)] {
        let mut raw = scene.alice.raw(protocol, Connect::default()).await;
        let begun = Instant::now();
        for number in 1..=20 {
            raw.publish(&deep, b"{}", 1, number).await;
            let reason = if protocol == Protocol::V5 { 0x90 } else { 0 };
            assert_eq!(raw.puback(number).await.0, reason);
        }
        assert_eq!(raw.subscribe(&[(&deep, 0), (&wild, 1), ("chats/#", 1)]).await, [refused, refused, 1]);
        let none: &[u8] = if protocol == Protocol::V5 { &[0] } else { &[] };
        raw.write(&packet(0xA2, &[&[0, 2], none, &string(&deep), &string(&wild)].concat())).await;
        let answer = raw.read().await;
        assert!(!matches!(answer, None | Some(Packet::Disconnect { .. } | Packet::PingResp)), "{answer:?}");
        raw.ping().await;
        assert_eq!(raw.read().await, Some(Packet::PingResp));
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
    scene.assert_unharmed().await;
}

/// `[MQTT-3.1.2-22]` (3.1.1: `[MQTT-3.1.2-24]`) counts Control Packets, not bytes.
#[tokio::test]
async fn a_packet_that_never_ends_is_no_sign_of_life() {
    let scene = Scene::new().await;
    let wait_for_the_end = async |protocol| {
        let client_id = format!("{protocol:?}");
        let mut raw =
            scene.alice.raw(protocol, Connect { client_id, keep_alive: 1, ..Connect::default() }).await;
        let begun = Instant::now();
        // 128 KiB are to come.
        raw.write(&[0x30, 0x80, 0x80, 0x08]).await;
        let end = loop {
            raw.write(&[0]).await;
            if let Ok(end) = raw.read_for(Duration::from_millis(100)).await {
                break end;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "it may go on like this");
        };
        assert!((1.4..5.0).contains(&begun.elapsed().as_secs_f64()), "{:?}", begun.elapsed());
        end
    };
    let (v5, v3) = tokio::join!(wait_for_the_end(Protocol::V5), wait_for_the_end(Protocol::V3));
    assert!(matches!(v5, Some(Packet::Disconnect { reason: 0x8D, .. })), "{v5:?}");
    assert_eq!(v3, None);
    scene.assert_unharmed().await;
}

/// Connections that declare much and send little, before and after they were let in.
#[tokio::test]
async fn lengths_that_are_declared_and_never_sent_keep_nobody_waiting() {
    let scene = Scene::new().await;
    let mut open = Vec::new();
    for number in 0..50_u8 {
        let mut raw = scene.open(Protocol::V5).await;
        raw.write(&[&[0x10, 0xFF, 0x7F][..], &scene.connect()[2..20]].concat()).await;
        open.push(raw);
        let connect = Connect { client_id: number.to_string(), ..Connect::default() };
        let mut raw = scene.alice.raw(Protocol::V5, connect).await;
        raw.write(&[0x32, 0x80, 0x80, 0x0F, 0xFF, 0xFF]).await;
        open.push(raw);
    }
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn a_flood_of_connections_takes_the_places_there_are_and_no_more() {
    const PLACES: usize = 20;
    const TOO_MANY: usize = 50;
    let server =
        TestServer::setup(Engine::Sqlite).env("CURLEW_LIMITS_CONNECTIONS", &PLACES.to_string()).start().await;
    let alice = server.user("alice").await;
    let mut served = alice.raw(Protocol::V5, Connect::default()).await;
    let open = async || RawClient::open(server.endpoints().mqtt(), Protocol::V5).await;
    let mut silent = Vec::new();
    for _ in 1..PLACES {
        silent.push(open().await);
    }
    for _ in 0..TOO_MANY {
        assert_eq!(open().await.read().await, None, "closed at once");
    }
    let refused = format!(r#"curlew_mqtt_connections_refused_total{{reason="full"}} {TOO_MANY}"#);
    let page = server.anonymous().get("/metrics").await.text;
    assert!(page.contains(&refused), "{page}");
    served.ping().await;
    assert_eq!(served.read().await, Some(Packet::PingResp), "who is in stays in");
    drop(silent);
    let connect = alice.credentials(Connect { client_id: "next".into(), ..Connect::default() });
    let code = eventually("a place to be free again", async || {
        open().await.try_connect(&connect).await.map(|answer| answer.1)
    });
    assert_eq!(code.await, 0);
}
