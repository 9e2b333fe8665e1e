//! CBOR instead of JSON: the same commands and events, for the connections that ask for it, beside others that do not.

use crate::send_topic;
use curlew_tests::{
    Actor, Chat, Engine, Protocol, RawClient, TestServer, Value,
    actor::Status::Read,
    both_engines, json,
    mqtt::raw::{Connect, Packet, Properties, Publication, cbor, text as property},
};
use std::collections::VecDeque;

/// Asks in the user name.
const BY_NAME: &str = "?format=cbor";
/// Asks in a user property.
const BY_PROPERTY: &[(&str, &str)] = &[("format", "cbor")];
const REFUSED: u8 = 0x99;

fn by_name(client_id: &str) -> Connect {
    Connect { options: BY_NAME, ..by_nothing(client_id) }
}

fn by_property(client_id: &str) -> Connect {
    Connect { user: BY_PROPERTY, ..by_nothing(client_id) }
}

fn by_nothing(client_id: &str) -> Connect {
    Connect { client_id: client_id.into(), ..Connect::default() }
}

/// A device that speaks CBOR only, and acknowledges at once.
struct Device {
    raw: RawClient,
    inbox: VecDeque<Publication>,
    acknowledged: VecDeque<(u8, Properties)>,
    packet_id: u16,
}

impl Device {
    /// Connects, and follows everything.
    async fn connect(actor: &Actor, protocol: Protocol, connect: Connect) -> Self {
        let mut raw = actor.raw(protocol, connect).await;
        assert_eq!(raw.subscribe(&[("#", 1)]).await, [1]);
        Self { raw, inbox: VecDeque::new(), acknowledged: VecDeque::new(), packet_id: 0 }
    }

    async fn read(&mut self) {
        match self.raw.read().await {
            Some(Packet::Publish(publication)) => {
                if publication.qos == 1 {
                    self.raw.acknowledge(publication.id).await;
                }
                self.inbox.push_back(publication);
            }
            Some(Packet::PubAck { id, reason, properties }) => {
                assert_eq!(id, self.packet_id);
                self.acknowledged.push_back((reason, properties));
            }
            other => panic!("instead of PUBLISH or PUBACK: {other:?}"),
        }
    }

    /// Publishes bytes at QoS 1; answers the reason code and properties of the PUBACK.
    async fn publish(&mut self, topic: &str, payload: &[u8]) -> (u8, Properties) {
        self.publish_with(&[], topic, payload).await
    }

    /// The same, with properties (5).
    async fn publish_with(&mut self, properties: &[u8], topic: &str, payload: &[u8]) -> (u8, Properties) {
        self.packet_id += 1;
        if properties.is_empty() {
            self.raw.publish(topic, payload, 1, self.packet_id).await;
        } else {
            self.raw.publish_with(properties, topic, payload, self.packet_id).await;
        }
        loop {
            if let Some(acknowledgement) = self.acknowledged.pop_front() {
                return acknowledgement;
            }
            self.read().await;
        }
    }

    /// Publishes a command, which must be accepted.
    async fn command(&mut self, topic: &str, body: Value) {
        let (reason, properties) = self.publish(topic, &cbor(&body)).await;
        assert_eq!(reason, 0, "{topic} {body}: {properties:?}");
    }

    /// Takes the first publication of this topic.
    async fn take(&mut self, topic: &str) -> Publication {
        loop {
            if let Some(at) = self.inbox.iter().position(|publication| publication.topic == topic) {
                return self.inbox.remove(at).unwrap();
            }
            self.read().await;
        }
    }

    /// Takes the first event of this name and, if it is a chat's, of this chat. Every event must be CBOR.
    async fn event(&mut self, name: &str, chat: Option<&Chat>) -> Value {
        loop {
            let is_it = |publication: &Publication| {
                let event = publication.cbor();
                event["event"] == name && chat.is_none_or(|chat| event["chatId"] == chat.0)
            };
            if let Some(at) = self.inbox.iter().position(is_it) {
                return self.inbox.remove(at).unwrap().cbor();
            }
            self.read().await;
        }
    }

    /// The next row of the chat's log.
    async fn row(&mut self, chat: &Chat) -> Value {
        self.take(&format!("chats/{chat}/messages")).await.cbor()
    }
}

/// Without what only the sender sees.
fn for_others(mut event: Value) -> Value {
    if let Some(message) = event["message"].as_object_mut() {
        message.remove("localId");
    }
    event
}

/// Alice, with JSON and connected, and the CBOR devices of the others; a group of them all.
async fn group_scene(server: &TestServer) -> (Actor, Vec<(Actor, Device)>, Chat) {
    let [alice, bob, carol, dave] = server.contacts(["alice", "bob", "carol", "dave"]).await;
    let group = alice.group("us", &[&bob, &carol, &dave]).await;
    alice.connect().await;
    let mut others = Vec::new();
    for (actor, protocol, connect) in [
        (bob, Protocol::V5, by_property("phone")),
        (carol, Protocol::V3, by_name("phone")),
        (dave, Protocol::V5, by_name("phone")),
    ] {
        let device = Device::connect(&actor, protocol, connect).await;
        others.push((actor, device));
    }
    (alice, others, group)
}

/// The next row is the same for all; answers it.
async fn same_row(alice: &Actor, others: &mut [(Actor, Device)], group: &Chat) -> Value {
    let row = alice.expect_rows(group, 1).await.remove(0).json;
    for (actor, device) in others {
        assert_eq!(for_others(device.row(group).await), for_others(row.clone()), "at {}", actor.username);
    }
    row
}

/// Alice, connected with JSON, and Bob's device, which asks for CBOR; their chat.
async fn scene(server: &TestServer) -> (Actor, Actor, Device, Chat) {
    let [alice, bob] = server.contacts(["alice", "bob"]).await;
    let chat = alice.private_chat(&bob).await;
    alice.connect().await;
    let device = Device::connect(&bob, Protocol::V5, by_property("phone")).await;
    (alice, bob, device, chat)
}

both_engines! {
    async fn who_asks_for_it_speaks_it_with_who_does_not(server) {
        let (alice, mut others, group) = group_scene(&server).await;
        let topic = |command: &str| format!("chats/{group}/{command}");
        // From each CBOR device, to all.
        for n in 0..others.len() {
            let (sender, device) = &mut others[n];
            let (sender, local_id) = (sender.id.clone(), format!("cbor-{n}"));
            let body = json!({ "type": "TEXT", "text": "hé 🙂", "localId": local_id, "mentions": [alice.id] });
            device.command(&topic("send"), body).await;
            let row = same_row(&alice, &mut others, &group).await;
            assert_eq!((&row["event"], &row["message"]["text"]), (&json!("new-message"), &json!("hé 🙂")));
            assert_eq!(row["message"]["senderId"], sender);
            let id = row["message"]["id"].clone();
            let device = &mut others[n].1;
            device.command(&topic("edit"), json!({ "messageId": id, "text": "edited" })).await;
            assert_eq!(same_row(&alice, &mut others, &group).await["message"]["text"], "edited");
            for emoji in [json!("👍"), json!(null)] {
                let device = &mut others[n].1;
                device.command(&topic("react"), json!({ "messageId": id, "emoji": emoji })).await;
                assert_eq!(same_row(&alice, &mut others, &group).await["emoji"], emoji);
            }
            let device = &mut others[n].1;
            device.command(&topic("delete"), json!({ "messageId": id, "for": "everyone" })).await;
            assert_eq!(same_row(&alice, &mut others, &group).await["event"], "message-deleted");
        }
        // From JSON, over MQTT and REST.
        let sent = alice.send(&group, "by MQTT").await;
        assert_eq!(same_row(&alice, &mut others, &group).await["id"], sent.id);
        let sent = alice.post(&group, "by REST").await;
        assert_eq!(same_row(&alice, &mut others, &group).await["id"], sent.id);
        alice.remove(&group, &others[0].0).await;
        for (_, device) in &mut others[1..] {
            assert_eq!(device.row(&group).await["event"], "members-changed");
        }
        let left = others[0].1.event("chat-left", Some(&group)).await;
        assert_eq!(left["reason"], "removed");
    }

    async fn only_the_sender_sees_the_local_id(server) {
        let (_alice, bob, mut device, chat) = scene(&server).await;
        let mut tablet = Device::connect(&bob, Protocol::V3, by_name("tablet")).await;
        device.command(&send_topic(&chat), json!({ "type": "TEXT", "text": "hello", "localId": "mine" })).await;
        for device in [&mut device, &mut tablet] {
            assert_eq!(device.row(&chat).await["message"]["localId"], "mine");
        }
    }

    async fn receipts_go_both_ways(server) {
        let (alice, bob, mut device, chat) = scene(&server).await;
        let tablet = bob.log_in_on(&server, "tablet").await;
        tablet.connect().await;
        let receipts = format!("chats/{chat}/receipts");
        let sent = alice.send(&chat, "hello").await;
        device.command(&receipts, json!({ "delivered": sent.seq, "read": sent.seq })).await;
        alice.expect_status(&sent, Read).await;
        assert_eq!(tablet.expect_event("read-elsewhere").await.json["readSeq"], sent.seq);

        device.command(&send_topic(&chat), json!({ "type": "TEXT", "text": "and you?" })).await;
        let row = alice.expect_rows(&chat, 2).await.remove(1);
        let ack = alice.mqtt().await.publish(&receipts, json!({ "read": row.seq() }).to_string()).await;
        assert_eq!(ack.reason, "Success");
        loop {
            let update = device.event("message-status-update", Some(&chat)).await;
            assert_eq!(update["messageSeq"], row.seq());
            if update["status"] == "READ" {
                break;
            }
        }
        let more = alice.send(&chat, "more").await;
        let ack = tablet.mqtt().await.publish(&receipts, json!({ "read": more.seq }).to_string()).await;
        assert_eq!(ack.reason, "Success");
        let told = device.event("read-elsewhere", Some(&chat)).await;
        assert_eq!((&told["readSeq"], &told["unreadCount"]), (&json!(more.seq), &json!(0)));
    }

    async fn results_come_in_the_publishers_format(server) {
        let (_alice, bob, mut device, chat) = scene(&server).await;
        let mut plain = bob.raw(Protocol::V5, by_nothing("json")).await;
        let reply = format!("users/{}/x/reply", bob.id);
        let properties = [&[0x08][..], &property(&reply), &[0x09], &property("42")].concat();
        let body = |text: &str, local_id: &str| json!({ "type": "TEXT", "text": text, "localId": local_id });
        let (reason, _) = device.publish_with(&properties, &send_topic(&chat), &cbor(&body("hello", "1"))).await;
        assert_eq!(reason, 0);
        let answer = device.take(&reply).await;
        assert_eq!((&answer.cbor()["text"], &answer.cbor()["localId"]), (&json!("hello"), &json!("1")));
        let Properties { content_type, payload_format, correlation_data, .. } = &answer.properties;
        assert_eq!(content_type.as_deref(), Some("application/cbor"));
        assert_eq!((*payload_format, correlation_data.as_deref()), (None, Some("42")));

        let (reason, _) = device.publish_with(&properties, &send_topic(&chat), &cbor(&body("", "2"))).await;
        assert_eq!(reason, REFUSED);
        let answer = device.take(&reply).await.cbor();
        assert_eq!((&answer["code"], &answer["localId"]), (&json!("invalid-request"), &json!("2")));

        // Who reads it does not matter.
        plain.publish_with(&properties, &send_topic(&chat), body("text", "3").to_string().as_bytes(), 9).await;
        assert_eq!(plain.puback(9).await.0, 0);
        let answer = device.take(&reply).await;
        assert_eq!(answer.json()["text"], "text");
        assert_eq!(answer.properties.content_type.as_deref(), Some("application/json"));
        assert_eq!(answer.properties.payload_format, Some(1));
    }

    async fn what_waited_comes_in_the_format_of_the_return(server) {
        let (alice, bob, _device, chat) = scene(&server).await;
        let lasting = |connect: Connect| Connect { clean: false, expiry: Some(3600), ..connect };
        let (mut raw, present) = bob.raw_session(Protocol::V5, lasting(by_property("away"))).await;
        assert!(!present);
        raw.subscribe(&[("chats/+/messages", 1), ("users/+/events", 1)]).await;
        let first = alice.post(&chat, "first").await;
        let sent = raw.publication().await;
        assert_eq!(sent.cbor()["id"], first.id);
        // Not acknowledged: it comes again, as the same publication in another form.
        raw.disconnect().await;
        let second = alice.post(&chat, "second").await;
        alice.group("another", &[&bob]).await;

        let (mut raw, present) = bob.raw_session(Protocol::V5, lasting(by_nothing("away"))).await;
        assert!(present);
        let mut events = Vec::new();
        for _ in 0..4 {
            let publication = raw.publication().await;
            raw.acknowledge(publication.id).await;
            if publication.json()["id"] == first.id {
                assert_eq!((publication.id, publication.dup), (sent.id, true));
            }
            events.push(publication.json());
        }
        let has = |events: &[Value], pointer: &str, value: &str| {
            assert!(events.iter().any(|event| event.pointer(pointer) == Some(&json!(value))), "{value}: {events:#?}");
        };
        has(&events, "/id", &first.id);
        has(&events, "/id", &second.id);
        has(&events, "/event", "new-chat");
        has(&events, "/event", "members-changed");
        raw.disconnect().await;

        let third = alice.post(&chat, "third").await;
        alice.group("a third", &[&bob]).await;
        server.kill_and_restart().await;
        let (mut raw, present) = bob.raw_session(Protocol::V5, lasting(by_name("away"))).await;
        assert!(present);
        let mut events: Vec<Value> = Vec::new();
        // At least once: what was acknowledged just before the crash may come again.
        while !["new-chat", "members-changed"].iter().all(|name| events.iter().any(|event| event["event"] == *name))
            || !events.iter().any(|event| event["id"] == third.id.as_str())
        {
            let publication = raw.publication().await;
            raw.acknowledge(publication.id).await;
            events.push(publication.cbor());
        }
        has(&events, "/id", &third.id);
        has(&events, "/event", "new-chat");
        has(&events, "/event", "members-changed");
    }
}

async fn start() -> TestServer {
    TestServer::start(Engine::Sqlite).await
}

/// Bodies that are refused, and what the reason string must tell.
fn refused() -> Vec<(Vec<u8>, &'static str)> {
    let hello = json!({ "type": "TEXT", "text": "hello" });
    let with = |field: &str, value: Value| {
        let mut body = hello.clone();
        body[field] = value;
        cbor(&body)
    };
    let field = |name: &str, value: &[u8]| {
        let name = [&[0x60 | u8::try_from(name.len()).unwrap()], name.as_bytes()].concat();
        [&[0xA2][..], b"\x64type\x64TEXT", &name, value].concat()
    };
    vec![
        (Vec::new(), "not a CBOR map"),
        (hello.to_string().into_bytes(), "not a CBOR map"),
        (cbor(&json!(["TEXT"])), "not a CBOR map"),
        (cbor(&json!("hello")), "not a CBOR map"),
        ([cbor(&hello), cbor(&hello)].concat(), "something follows"),
        ([&b"\xd9\xd9\xf7"[..], &cbor(&hello)].concat(), "not a CBOR map"),
        (with("more", json!(1)), "more: unknown field"),
        (with("text", json!(7)), "text: invalid type"),
        (with("type", json!("CARRIER-PIGEON")), "type: unknown variant"),
        (with("mentions", json!([true])), "mentions[0]: invalid type"),
        (with("text", json!("x".repeat(16 * 1024 + 1))), "text"),
        (field("text", b"\x45hello"), "a byte string"),
        (field("text", b"\xc0\x65hello"), "a tag"),
        (field("type", b"\x64TEXT"), "duplicate field `type`"),
        (field("text", b"\xf9\x3c\x00"), "floating point"),
        (b"\xa1\x01\x02".to_vec(), "a key that is not text"),
        (field("text", b"\x7f\x65hello"), "not well-formed"),
        (field("text", b"\x7b\xff\xff\xff\xff\xff\xff\xff\xff"), "not well-formed"),
        (field("mentions", b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff"), "not well-formed"),
        (b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(), "not well-formed"),
        (field("mentions", &b"\x81".repeat(100_000)), "nested more than"),
        (b"\xa1\x61a".repeat(50_000), "nested more than"),
        (field("mentions", &[&b"\x9f"[..], &b"\xf6".repeat(100_000)].concat()), "more than 1024 values"),
    ]
}

#[tokio::test]
async fn what_is_no_command_is_refused_and_does_no_harm() {
    let server = start().await;
    let (alice, bob, mut device, chat) = scene(&server).await;
    for (payload, why) in refused() {
        let shown = format!("{:x?}", &payload[..payload.len().min(40)]);
        let (reason, properties) = device.publish(&send_topic(&chat), &payload).await;
        assert_eq!(reason, REFUSED, "{shown}: {properties:?}");
        let told = &properties.reason_string;
        assert!(told.starts_with("invalid-request: ") && told.contains(why), "{shown}: {told}");
    }
    // A command that JSON clients send is none here, and the other way round.
    let mut plain = bob.raw(Protocol::V5, by_nothing("json")).await;
    plain.publish(&send_topic(&chat), &cbor(&json!({ "type": "TEXT", "text": "hello" })), 1, 9).await;
    assert_eq!(plain.puback(9).await.0, REFUSED);
    // CBOR is not the text that this says it is.
    let body = cbor(&json!({ "type": "TEXT", "text": "hello" }));
    assert_eq!(device.publish_with(&[0x01, 1], &send_topic(&chat), &body).await.0, REFUSED);

    device.command(&send_topic(&chat), json!({ "type": "TEXT", "text": "still here" })).await;
    assert_eq!(alice.texts(&chat).await, ["still here"]);
}

#[tokio::test]
async fn command_failed_is_cbor_and_names_the_local_id() {
    let server = start().await;
    let [alice, bob] = server.contacts(["alice", "bob"]).await;
    let chat = alice.private_chat(&bob).await;
    let topic = send_topic(&chat);
    let empty = json!({ "type": "TEXT", "text": "", "localId": "mine" });
    let foreign = json!({ "localId": "mine", "more": [1, { "a": null }] });
    // One key twice: {"localId": "mine", "type": "TEXT", "type": "TEXT"}.
    let twice = [&b"\xa3\x67localId\x64mine"[..], &b"\x64type\x64TEXT".repeat(2)].concat();

    let mut old = Device::connect(&bob, Protocol::V3, by_name("old")).await;
    for payload in [cbor(&empty), cbor(&foreign), twice] {
        assert_eq!(old.publish(&topic, &payload).await.0, 0);
        let failed = old.event("command-failed", None).await;
        assert_eq!((&failed["topic"], &failed["packetId"]), (&json!(topic), &json!(old.packet_id)));
        assert_eq!(
            (&failed["code"], &failed["localId"]),
            (&json!("invalid-request"), &json!("mine")),
            "{failed}"
        );
    }
    let mut new = Device::connect(&bob, Protocol::V5, by_property("new")).await;
    new.raw.publish(&topic, &cbor(&empty), 0, 0).await;
    let failed = new.event("command-failed", None).await;
    assert_eq!((&failed["localId"], failed.get("packetId")), (&json!("mine"), None));
    // Where none can be read there is none.
    new.raw.publish(&topic, b"\xa1\x67localId\x44mine", 0, 0).await;
    assert_eq!(new.event("command-failed", None).await.get("localId"), None);
}

#[tokio::test]
async fn what_has_no_body_stays_empty() {
    let server = start().await;
    let (_alice, bob, mut device, _) = scene(&server).await;
    let tablet = bob.log_in_on(&server, "tablet").await;
    tablet.connect().await;
    let topic = format!("users/{}/devices/{}/remove", bob.id, tablet.device_id);
    assert_eq!(device.publish(&topic, &cbor(&json!({}))).await.0, REFUSED);
    assert_eq!(device.publish(&topic, b"").await.0, 0);
    tablet.expect_closed().await;
    let updated = device.event("devices-updated", None).await;
    assert!(updated["devices"].is_array(), "{updated}");
}

#[tokio::test]
async fn a_format_is_json_or_cbor_and_two_places_agree() {
    const JSON: &[(&str, &str)] = &[("format", "json")];
    const OTHER: &[(&str, &str)] = &[("format", "xml")];
    const EMPTY: &[(&str, &str)] = &[("format", "")];
    const TWO: &[(&str, &str)] = &[("format", "cbor"), ("format", "json")];
    const SAME: &[(&str, &str)] = &[("format", "cbor"), ("else", "json"), ("format", "cbor")];
    let server = start().await;
    let alice = server.user("alice").await;
    let (unknown, disagree) = ("`format` is `json` or `cbor`", "another one there");
    for (options, user, expected) in [
        ("", &[][..], Ok(false)),
        ("?format=json", &[], Ok(false)),
        ("", JSON, Ok(false)),
        ("?format=json", JSON, Ok(false)),
        ("?format=cbor", &[], Ok(true)),
        ("", BY_PROPERTY, Ok(true)),
        ("?format=cbor", BY_PROPERTY, Ok(true)),
        ("?format=cbor&format=cbor", SAME, Ok(true)),
        ("?format=xml", &[], Err(unknown)),
        ("?format=CBOR", &[], Err(unknown)),
        ("?format=", &[], Err(unknown)),
        ("?format", &[], Err(unknown)),
        ("", OTHER, Err(unknown)),
        ("", EMPTY, Err(unknown)),
        ("?format=cbor", OTHER, Err(unknown)),
        ("?format=xml", BY_PROPERTY, Err(unknown)),
        ("?format=json", BY_PROPERTY, Err(disagree)),
        ("?format=cbor", JSON, Err(disagree)),
        ("?format=cbor&format=json", &[], Err(disagree)),
        ("", TWO, Err(disagree)),
        ("?mount=x&format=json", BY_PROPERTY, Err(disagree)),
    ] {
        let connect = Connect { options, user, ..Connect::default() };
        for protocol in [Protocol::V5, Protocol::V3] {
            if protocol == Protocol::V3 && !user.is_empty() {
                continue;
            }
            let mut raw = RawClient::open(server.endpoints().mqtt(), protocol).await;
            let (_, code, properties) = raw.connect(&alice.credentials(connect.clone())).await;
            match expected {
                Ok(is_cbor) => {
                    assert_eq!(code, 0, "{protocol:?} {options} {user:?}: {properties:?}");
                    raw.subscribe(&[("#", 0)]).await;
                    raw.publish("elsewhere", b"", 0, 0).await;
                    let failed = raw.publication().await;
                    let event = if is_cbor { failed.cbor() } else { failed.json() };
                    assert_eq!(event["event"], "command-failed");
                }
                Err(why) => {
                    let refusal = if protocol == Protocol::V5 { 0x83 } else { 5 };
                    assert_eq!(code, refusal, "{protocol:?} {options} {user:?}");
                    assert!(
                        protocol == Protocol::V3 || properties.reason_string.contains(why),
                        "{properties:?}"
                    );
                    assert_eq!(raw.read().await, None, "it closes");
                }
            }
        }
    }
}

#[tokio::test]
async fn the_plain_lane_is_left_as_it_is() {
    let server = start().await;
    let (alice, bob, mut device, chat) = scene(&server).await;
    let mounted = Connect { options: "?mount=x&format=cbor", ..by_nothing("mounted") };
    let mut mounted = bob.raw(Protocol::V5, mounted).await;
    assert_eq!(mounted.subscribe(&[("#", 1)]).await, [1]);
    let own = format!("users/{}/x/a", bob.id);
    for payload in [&b"plain text"[..], b"{\"json\":1}", b"\xa1\xff\x00\xfe", b""] {
        assert_eq!(device.publish(&own, payload).await.0, 0);
        assert_eq!(device.take(&own).await.payload, payload);
        let publication = mounted.take_publication().await;
        assert_eq!((publication.topic.as_str(), &publication.payload[..]), ("a", payload));
        mounted.publish_to_the_end("a", payload, 1).await;
        assert_eq!(device.take(&own).await.payload, payload);
        assert_eq!(mounted.take_publication().await.payload, payload);
    }
    let signal = format!("chats/{chat}/x/{}/call", alice.id);
    let mut hers = alice.raw(Protocol::V5, by_nothing("hers")).await;
    hers.publish(&signal, b"ringing \xff", 1, 3).await;
    assert_eq!(hers.puback(3).await.0, 0);
    assert_eq!(device.take(&signal).await.payload, b"ringing \xff");
    mounted.expect_quiet().await;
}

/// The figures are those of docs/mqtt.md.
#[tokio::test]
async fn it_is_shorter() {
    let server = start().await;
    let (alice, bob, mut device, chat) = scene(&server).await;
    let mut plain = bob.raw(Protocol::V5, by_nothing("json")).await;
    plain.subscribe(&[("chats/#", 0)]).await;
    let text = "forty characters of text are a sentence.";
    assert_eq!(text.len(), 40);
    alice.post(&chat, text).await;
    let new =
        (plain.publication().await.payload, device.take(&format!("chats/{chat}/messages")).await.payload);

    device.command(&send_topic(&chat), json!({ "type": "TEXT", "text": "short" })).await;
    plain.publication().await;
    alice.http.post_nothing(&format!("/chats/{chat}/messages/read")).await.expect(204);
    // Alice's device may have had it delivered before.
    let mut update = plain.publication().await;
    while update.json()["status"] != "READ" {
        update = plain.publication().await;
    }
    let mut same = device.take(&update.topic).await;
    while same.cbor() != update.json() {
        same = device.take(&update.topic).await;
    }
    let body = json!({ "type": "TEXT", "text": text, "localId": "0192f0c1-7a10-7000-8000-0000000000aa" });
    let measured = [
        ("new-message", new.0, new.1),
        ("message-status-update", update.payload, same.payload),
        ("send", body.to_string().into_bytes(), cbor(&body)),
    ];
    for (_, in_json, in_cbor) in &measured {
        let value: Value = serde_json::from_slice(in_json).unwrap();
        assert_eq!(in_cbor.len(), cbor(&value).len(), "as short as another library has it: {value}");
    }
    let bytes = measured.map(|(what, in_json, in_cbor)| (what, in_json.len(), in_cbor.len()));
    assert_eq!(bytes, BYTES);
}

/// Bytes in JSON and in CBOR.
const BYTES: [(&str, usize, usize); 3] =
    [("new-message", 537, 455), ("message-status-update", 194, 171), ("send", 114, 104)];
