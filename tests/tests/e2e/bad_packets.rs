//! Promise 7 on the MQTT port: whatever bytes come, the connection ends and nobody else notices.

mod clauses;
mod limits;

use crate::{send_topic, text};
use curlew_tests::{
    Actor, Chat, Engine, Protocol, RawClient, TestServer,
    mqtt::{
        raw::{Connect, Packet, encode_connect, packet, text as string},
        websocket,
    },
};
use std::{
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

struct Scene {
    server: TestServer,
    alice: Actor,
    chat: Chat,
    /// Connected all the time.
    witness: RawClient,
}

impl Scene {
    async fn new() -> Self {
        let server = TestServer::start(Engine::Sqlite).await;
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        let mut witness = bob.raw(Protocol::V5, Connect::default()).await;
        witness.subscribe(&[("chats/#", 1)]).await;
        Self { server, alice, chat, witness }
    }

    async fn open(&self, protocol: Protocol) -> RawClient {
        RawClient::open(self.server.endpoints().mqtt(), protocol).await
    }

    fn connect(&self) -> Vec<u8> {
        encode_connect(Protocol::V5, &self.alice.credentials(Connect::default()))
    }

    /// People can go on, on old connections and new ones; nothing else was stored.
    async fn assert_unharmed(mut self) {
        assert!(self.server.is_running());
        let mut raw = self.alice.raw(Protocol::V5, Connect::default()).await;
        raw.publish(&send_topic(&self.chat), &text("goes on", "1"), 1, 1).await;
        assert_eq!(raw.puback(1).await.0, 0);
        assert_eq!(self.witness.publication().await.json()["message"]["text"], "goes on");
        assert_eq!(self.alice.texts(&self.chat).await, ["goes on"]);
        assert!(!self.server.log().contains("panicked"), "{}", self.server.log());
    }
}

fn random_bytes(count: usize) -> Vec<u8> {
    let random = RandomState::new();
    (0..count).map(|at| random.hash_one(at) as u8).collect()
}

#[tokio::test]
async fn garbage_instead_of_a_connect_ends_the_connection() {
    let scene = Scene::new().await;
    let mut garbage: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: curlew\r\n\r\n".to_vec(),
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        // A TLS ClientHello's beginning.
        vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xFC, 0x03, 0x03],
        vec![0; 64],
        vec![0xFF; 64],
        // A remaining length without end.
        vec![0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
        // Other packets first.
        vec![0xC0, 0],
        packet(0x30, &[string("chats/x/send"), b"hi".to_vec()].concat()),
        packet(0x82, &[vec![0, 1], string("#"), vec![1]].concat()),
        vec![0xE0, 0],
        vec![0x20, 2, 0, 0],
        // CONNECT with wrong flags, and with another protocol's name.
        vec![0x1F, 2, 0, 0],
        packet(0x10, &[string("MQIsdp"), vec![3, 2, 0, 60], string("x")].concat()),
        packet(0x10, &[string("HTTP"), vec![4, 2, 0, 60], string("x")].concat()),
        packet(0x10, &[]),
        packet(0x10, &[0, 4, b'M']),
    ];
    garbage.extend((1..=20).map(|number| {
        // Whole frames, so that the server does not wait for the rest.
        packet(0x10, &random_bytes(number * 7))
    }));
    for bytes in garbage {
        let mut raw = scene.open(Protocol::V3).await;
        raw.write(&bytes).await;
        let mut answers = Vec::new();
        while let Some(answer) = raw.read().await {
            answers.push(answer);
        }
        let accepted = answers.iter().any(|answer| matches!(answer, Packet::ConnAck { code: 0, .. }));
        assert!(!accepted && answers.len() <= 1, "{bytes:x?} {answers:?}");
    }
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn a_connect_cut_off_anywhere_harms_nobody() {
    let scene = Scene::new().await;
    let connect = scene.connect();
    for length in 0..connect.len() {
        let mut raw = scene.open(Protocol::V5).await;
        raw.write(&connect[..length]).await;
        drop(raw);
    }
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn a_connect_with_any_byte_wrong_is_refused_or_means_something_else() {
    let scene = Scene::new().await;
    let connect = scene.connect();
    // Without the remaining length: a longer one is waited for.
    for at in (0..connect.len()).filter(|at| *at != 1) {
        let mut bytes = connect.clone();
        bytes[at] ^= 0x55;
        let mut raw = scene.open(Protocol::V5).await;
        raw.write(&bytes).await;
        raw.write(&[0xE0, 0]).await;
        while raw.read().await.is_some() {}
    }
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn another_protocol_level_is_told_so() {
    let scene = Scene::new().await;
    for (level, protocol, expected) in [(6, Protocol::V5, 0x84), (3, Protocol::V3, 1)] {
        let mut raw = scene.open(protocol).await;
        raw.write(&packet(0x10, &[string("MQTT"), vec![level, 2, 0, 60], vec![0], string("x")].concat()))
            .await;
        match raw.read().await {
            // Which form the answer has is a guess: the server knows no such version.
            Some(Packet::ConnAck { code, .. }) => {
                assert!([expected, 0x84, 1].contains(&code), "{level}: {code:#x}");
            }
            other => panic!("{level}: {other:?}"),
        }
        assert_eq!(raw.read().await, None);
    }
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn garbage_after_the_connect_ends_the_connection_with_a_reason() {
    let scene = Scene::new().await;
    let topic = send_topic(&scene.chat);
    let good = text("never stored", "1");
    let garbage: Vec<Vec<u8>> = vec![
        vec![0x00, 0],
        vec![0xFF; 16],
        vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF],
        // A second CONNECT.
        scene.connect(),
        // What only a server sends.
        vec![0x20, 3, 0, 0, 0],
        vec![0xD0, 0],
        // PUBLISH: QoS 3, packet identifier 0, DUP at QoS 0, wildcards, an empty topic, NUL, no UTF-8, an alias that
        // stands for nothing.
        packet(0x36, &[string(&topic), vec![0, 1, 0], good.clone()].concat()),
        packet(0x32, &[string(&topic), vec![0, 0, 0], good.clone()].concat()),
        packet(0x38, &[string(&topic), vec![0], good.clone()].concat()),
        packet(0x30, &[string("chats/+/send"), vec![0], good.clone()].concat()),
        packet(0x30, &[string("#"), vec![0], good.clone()].concat()),
        packet(0x30, &[string(""), vec![0], good.clone()].concat()),
        packet(0x30, &[string("chats/\0/send"), vec![0], good.clone()].concat()),
        packet(0x30, &[vec![0, 2, 0xC3, 0x28], vec![0], good.clone()].concat()),
        packet(0x30, &[string(""), vec![3, 0x23, 0, 1], good.clone()].concat()),
        packet(0x30, &[0xFF, 0xFF, b'x']),
        // SUBSCRIBE: no filter, malformed ones, packet identifier 0, options that are none.
        packet(0x82, &[0, 1, 0]),
        packet(0x82, &[vec![0, 1, 0], string("a/#/b"), vec![1]].concat()),
        packet(0x82, &[vec![0, 1, 0], string("a+"), vec![1]].concat()),
        packet(0x82, &[vec![0, 1, 0], string(""), vec![1]].concat()),
        packet(0x82, &[vec![0, 0, 0], string("#"), vec![1]].concat()),
        packet(0x82, &[vec![0, 1, 0], string("#"), vec![0xFF]].concat()),
        packet(0x80, &[vec![0, 1, 0], string("#"), vec![1]].concat()),
        // PINGREQ with a body.
        vec![0xC0, 1, 0],
    ];
    for bytes in garbage {
        let mut raw = scene.alice.raw(Protocol::V5, Connect::default()).await;
        raw.write(&bytes).await;
        let told = raw.closed().await;
        assert!(told.is_some_and(|reason| reason > 0x80), "{bytes:x?}: {told:x?}");
    }
    for _ in 0..20 {
        let mut raw = scene.alice.raw(Protocol::V5, Connect::default()).await;
        raw.write(&random_bytes(200)).await;
        raw.write(&[0xFF; 8]).await;
        raw.write(&[0xE0, 0]).await;
        drop(raw);
    }
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn oversized_packets_are_not_waited_for() {
    let scene = Scene::new().await;
    // Before authentication: 16 KiB. Only the beginning is sent; the declared length is enough.
    for protocol in [Protocol::V3, Protocol::V5] {
        let mut raw = scene.open(protocol).await;
        let level = if protocol == Protocol::V5 { 5 } else { 4 };
        let length = 16 * 1024;
        raw.write(&[
            0x10,
            (length % 128) as u8 | 0x80,
            (length / 128 % 128) as u8 | 0x80,
            (length / 16384) as u8,
        ])
        .await;
        raw.write(&[&string("MQTT")[..], &[level, 2, 0, 60]].concat()).await;
        match (protocol, raw.read().await) {
            (Protocol::V3, None) => {}
            (Protocol::V5, Some(Packet::ConnAck { code: 0x95, .. })) => assert_eq!(raw.read().await, None),
            (_, other) => panic!("{protocol:?}: {other:?}"),
        }
    }
    // After it: 256 KiB, as CONNACK says.
    let mut raw = scene.open(Protocol::V5).await;
    let (_, _, properties) = raw.connect(&scene.alice.credentials(Connect::default())).await;
    assert_eq!(properties.maximum_packet_size, Some(256 * 1024));
    let body = text(&"x".repeat(256 * 1024), "1");
    raw.publish(&send_topic(&scene.chat), &body, 1, 1).await;
    assert_eq!(raw.closed().await, Some(0x95));
    let mut raw = scene.alice.raw(Protocol::V3, Connect::default()).await;
    raw.publish(&send_topic(&scene.chat), &body, 1, 1).await;
    assert_eq!(raw.closed().await, None);
    scene.assert_unharmed().await;
}

#[tokio::test]
async fn a_connect_that_never_comes_is_waited_for_10_seconds() {
    let scene = Scene::new().await;
    let begun = Instant::now();
    let mut silent = scene.open(Protocol::V5).await;
    let mut slow = scene.open(Protocol::V5).await;
    let (socket, _) = websocket::open(scene.server.endpoints().http(), Some("mqtt")).await.unwrap();
    let mut slow_over_websocket = RawClient::over(websocket::in_frames(socket, 1), Protocol::V5);
    let connect = scene.connect();
    let silence = async {
        assert_eq!(silent.read().await, None);
        begun.elapsed()
    };
    // A byte now and then is no CONNECT either.
    let trickle = async |raw: &mut RawClient| {
        for byte in &connect {
            raw.write(&[*byte]).await;
            match raw.read_for(Duration::from_millis(500)).await {
                Err(()) => {}
                Ok(None) => return begun.elapsed(),
                Ok(other) => panic!("{other:?}"),
            }
        }
        panic!("a CONNECT may take as long as it likes");
    };
    let (silence, slow, slow_over_websocket) =
        tokio::join!(silence, trickle(&mut slow), trickle(&mut slow_over_websocket));
    for elapsed in [silence, slow, slow_over_websocket] {
        assert!((9.5..15.0).contains(&elapsed.as_secs_f64()), "closed after {elapsed:?}");
    }
    scene.assert_unharmed().await;
}
