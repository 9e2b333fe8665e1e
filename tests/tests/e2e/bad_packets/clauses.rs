//! Packets that break a rule of the standards, over a real socket: the reason code of 5, the end of the connection in
//! both, and nothing after it. That a rule is looked for in every place is for the tests of the wire layer.

use super::{Scene, string};
use crate::{send_topic, text};
use curlew_tests::{
    Protocol, RawClient,
    mqtt::raw::{Connect, Packet, encode_connect, packet},
};

/// No properties.
const NONE: &[u8] = &[0];
const PINGREQ: [u8; 2] = [0xC0, 0];

/// The clauses of a rule, 5's first, and a packet that breaks it: in 5, with the reason code, and in 3.1.1.
struct Breach {
    clauses: &'static str,
    v5: Option<(Vec<u8>, u8)>,
    v3: Option<Vec<u8>>,
}

/// One that is the same in both but for the property section, which `body` is given.
fn both(clauses: &'static str, first: u8, body: impl Fn(&[u8]) -> Vec<u8>, reason: u8) -> Breach {
    Breach { clauses, v5: Some((packet(first, &body(NONE)), reason)), v3: Some(packet(first, &body(&[]))) }
}

fn in_5(clauses: &'static str, first: u8, body: &[u8], reason: u8) -> Breach {
    Breach { clauses, v5: Some((packet(first, body), reason)), v3: None }
}

fn in_3(clauses: &'static str, first: u8, body: &[u8]) -> Breach {
    Breach { clauses, v5: None, v3: Some(packet(first, body)) }
}

/// Bytes that are no packet in either.
fn bytes(clauses: &'static str, bytes: &[u8], reason: u8) -> Breach {
    Breach { clauses, v5: Some((bytes.to_vec(), reason)), v3: Some(bytes.to_vec()) }
}

/// A text that is given as bytes.
fn field(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

fn fixed_header() -> Vec<Breach> {
    let id = |_: &[u8]| vec![0, 1];
    let filter = |options: &'static [u8]| {
        move |properties: &[u8]| [&[0, 1], properties, &string("#"), options].concat()
    };
    vec![
        bytes("2.1.2: type 0", &[0x00, 0], 0x81),
        in_3("3.1.1, 2.2.1: type 15", 0xF0, &[]),
        bytes("[MQTT-1.5.5-1]: a remaining length longer than it needs to be", &[0xC0, 0x80, 0x00], 0x81),
        bytes("2.1.4; 3.1.1, 2.2.3: of five bytes", &[0xC0, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], 0x81),
        both("[MQTT-2.1.3-1]; [MQTT-2.2.2-2]: PUBACK", 0x41, id, 0x81),
        both("[MQTT-2.1.3-1]; [MQTT-2.2.2-2]: PUBREC", 0x52, id, 0x81),
        both("[MQTT-3.6.1-1]; [MQTT-3.6.1-1]: PUBREL", 0x60, id, 0x81),
        both("[MQTT-2.1.3-1]; [MQTT-2.2.2-2]: PUBCOMP", 0x74, id, 0x81),
        both("[MQTT-3.8.1-1]; [MQTT-3.8.1-1]: SUBSCRIBE", 0x80, filter(&[0]), 0x81),
        both("[MQTT-3.10.1-1]; [MQTT-3.10.1-1]: UNSUBSCRIBE", 0xA0, filter(&[]), 0x81),
        bytes("[MQTT-2.1.3-1]; [MQTT-2.2.2-2]: PINGREQ", &[0xC8, 0], 0x81),
        bytes("[MQTT-3.14.1-1]; [MQTT-2.2.2-2]: DISCONNECT", &[0xE1, 0], 0x81),
        in_5("[MQTT-3.15.1-1]: AUTH", 0xF1, &[0x19, 4, 0x15, 0, 1, b'm'], 0x81),
        both("what only a server sends: CONNACK", 0x20, |none| [&[0, 0], none].concat(), 0x82),
        both("SUBACK", 0x90, |none| [&[0, 1], none, &[0]].concat(), 0x82),
        both("UNSUBACK", 0xB0, |none| [&[0, 1], none].concat(), 0x82),
        bytes("PINGRESP", &[0xD0, 0], 0x82),
        both("3.12: PINGREQ with a body", 0xC0, |_| vec![0], 0x81),
        in_3("3.1.1, 3.14: DISCONNECT with a body", 0xE0, &[0]),
    ]
}

fn publish(topic: &str) -> Vec<Breach> {
    let named = |topic: &[u8]| {
        let topic = field(topic);
        move |none: &[u8]| [&topic, none, b"never"].concat()
    };
    let identified = |id: [u8; 2]| {
        let topic = string(topic);
        move |none: &[u8]| [&topic, &id[..], none, b"never"].concat()
    };
    let with = |properties: &[u8]| {
        [&string(topic)[..], &[u8::try_from(properties.len()).unwrap()], properties, b"never"].concat()
    };
    vec![
        both("[MQTT-3.3.1-4]; [MQTT-3.3.1-4]: QoS 3", 0x36, identified([0, 1]), 0x81),
        both("[MQTT-3.3.1-2]; [MQTT-3.3.1-2]: DUP at QoS 0", 0x38, named(topic.as_bytes()), 0x81),
        both("[MQTT-2.2.1-3]; [MQTT-2.3.1-1]: packet identifier 0", 0x32, identified([0, 0]), 0x82),
        both("the same at QoS 2", 0x34, identified([0, 0]), 0x82),
        both("[MQTT-3.3.2-2]; [MQTT-3.3.2-2]: a wildcard", 0x30, named(b"chats/+/send"), 0x81),
        both("[MQTT-4.7.0-1]; [MQTT-4.7.1-1]: the other wildcard", 0x30, named(b"#"), 0x81),
        both("[MQTT-3.3.2-1]; [MQTT-3.3.2-1]: a topic that is not UTF-8", 0x30, named(b"\xC3\x28"), 0x81),
        both("[MQTT-1.5.4-1]; [MQTT-1.5.3-1]: a surrogate", 0x30, named(b"\xED\xA0\x80"), 0x81),
        both("[MQTT-1.5.4-2]; [MQTT-1.5.3-2]: U+0000", 0x30, named(b"a\0"), 0x81),
        both("3.3.2.1: the topic name is cut off", 0x30, |_| vec![0xFF, 0xFF, b'x'], 0x81),
        in_3("[MQTT-4.7.3-1]: an empty topic name", 0x30, &string("")),
        in_5("[MQTT-4.7.3-1]: an empty topic name and no alias", 0x30, &[0, 0, 0], 0x82),
        in_5("[MQTT-3.3.2-8]: topic alias 0", 0x30, &with(&[0x23, 0, 0]), 0x94),
        in_5("[MQTT-3.3.2-9]: a topic alias beyond the maximum", 0x30, &with(&[0x23, 0xFF, 0xFF]), 0x94),
        in_5("[MQTT-3.3.4-6]: a subscription identifier", 0x30, &with(&[0x0B, 1]), 0x82),
        in_5("[MQTT-3.3.2-14]: a wildcard in the response topic", 0x30, &with(b"\x08\0\x01#"), 0x81),
        in_5("[MQTT-3.3.2-13]: a response topic that is not UTF-8", 0x30, &with(b"\x08\0\x01\xFF"), 0x81),
        in_5("[MQTT-3.3.2-19]: a content type that is not UTF-8", 0x30, &with(b"\x03\0\x01\xFF"), 0x81),
        in_5("[MQTT-1.5.7-1]: a user property that is not UTF-8", 0x30, &with(b"\x26\0\0\0\x01\xFF"), 0x81),
        in_5("3.3.2.3.2: Payload Format Indicator 2", 0x30, &with(&[1, 2]), 0x82),
        in_5("3.3.2.3.3: a property twice", 0x30, &with(&[2, 0, 0, 0, 9, 2, 0, 0, 0, 9]), 0x82),
        in_5("2.2.2.2: a property of another packet", 0x30, &with(&[0x11, 0, 0, 0, 9]), 0x81),
        in_5("2.2.2.2: a property that there is not", 0x30, &with(&[0x7F, 0]), 0x81),
        in_5(
            "[MQTT-1.5.5-1]: a property length longer than it needs to be",
            0x30,
            &[0, 1, b'a', 0x80, 0],
            0x81,
        ),
        in_5("[MQTT-2.2.2-1]: no property length", 0x30, &string(topic), 0x81),
    ]
}

fn subscribe() -> Vec<Breach> {
    let subscribed = |filter: &[u8], options: u8| {
        let filter = field(filter);
        move |none: &[u8]| [&[0, 1], none, &filter, &[options]].concat()
    };
    let unsubscribed = |filter: &[u8]| {
        let filter = field(filter);
        move |none: &[u8]| [&[0, 1], none, &filter].concat()
    };
    let with = |properties: &[u8]| {
        [&[0, 1, u8::try_from(properties.len()).unwrap()], properties, &string("#"), &[0]].concat()
    };
    vec![
        both(
            "[MQTT-2.2.1-3]; [MQTT-2.3.1-1]",
            0x82,
            |none| [&[0, 0], none, &string("#"), &[0]].concat(),
            0x82,
        ),
        both("the same in UNSUBSCRIBE", 0xA2, |none| [&[0, 0], none, &string("#")].concat(), 0x82),
        both("[MQTT-3.8.3-2]; [MQTT-3.8.3-3]: no filter", 0x82, |none| [&[0, 1], none].concat(), 0x82),
        both("[MQTT-3.10.3-2]; [MQTT-3.10.3-2]: no filter", 0xA2, |none| [&[0, 1], none].concat(), 0x82),
        both("3.8.3: no options", 0x82, |none| [&[0, 1], none, &string("#")].concat(), 0x81),
        both("[MQTT-3.8.3-5]; [MQTT-3.8.3-4]: a reserved bit", 0x82, subscribed(b"#", 0x80), 0x81),
        both("3.8.3.1; [MQTT-3.8.3-4]: QoS 3", 0x82, subscribed(b"#", 3), 0x82),
        in_5("3.8.3.1: Retain Handling 3", 0x82, &subscribed(b"#", 0x30)(NONE), 0x82),
        in_3("[MQTT-3.8.3-4]: options of 5", 0x82, &subscribed(b"#", 0x04)(&[])),
        both("[MQTT-3.8.3-1]; [MQTT-3.8.3-1]: not UTF-8", 0x82, subscribed(b"\xFF", 0), 0x81),
        both("[MQTT-3.10.3-1]; [MQTT-3.10.3-1]: not UTF-8", 0xA2, unsubscribed(b"\xFF"), 0x81),
        both("[MQTT-4.7.3-1]; [MQTT-4.7.3-1]: an empty filter", 0x82, subscribed(b"", 0), 0x81),
        both("the same in UNSUBSCRIBE", 0xA2, unsubscribed(b""), 0x81),
        both("[MQTT-4.7.3-2]; [MQTT-4.7.3-2]: U+0000", 0x82, subscribed(b"a\0", 0), 0x81),
        both("[MQTT-4.7.1-1]; [MQTT-4.7.1-2]: # is not the last level", 0x82, subscribed(b"a/#/b", 0), 0x81),
        both("[MQTT-4.7.1-1]; [MQTT-4.7.1-2]: # shares its level", 0x82, subscribed(b"a#", 0), 0x81),
        both("[MQTT-4.7.1-2]; [MQTT-4.7.1-3]: + shares its level", 0x82, subscribed(b"a/b+", 0), 0x81),
        both("the same in UNSUBSCRIBE", 0xA2, unsubscribed(b"a/#/b"), 0x81),
        in_5("[MQTT-4.8.2-1]: no share name", 0x82, &subscribed(b"$share//t", 0)(NONE), 0x81),
        in_5("[MQTT-4.8.2-2]: a wildcard in the share name", 0x82, &subscribed(b"$share/+/t", 0)(NONE), 0x81),
        in_5("[MQTT-4.8.2-2]: a share name and no filter", 0x82, &subscribed(b"$share/g/", 0)(NONE), 0x81),
        in_5("[MQTT-3.8.3-4]: No Local, shared", 0x82, &subscribed(b"$share/g/t", 4)(NONE), 0x82),
        in_5("3.8.2.1.2: subscription identifier 0", 0x82, &with(&[0x0B, 0]), 0x82),
        in_5("3.8.2.1.2: a subscription identifier twice", 0x82, &with(&[0x0B, 1, 0x0B, 1]), 0x82),
        in_5("2.2.2.2: a property of another packet", 0x82, &with(&[0x23, 0, 1]), 0x81),
    ]
}

fn others(scene: &Scene) -> Vec<Breach> {
    let credentials = scene.alice.credentials(Connect::default());
    let mut breaches: Vec<_> = [0x40, 0x50, 0x62, 0x70]
        .into_iter()
        .flat_map(|first| {
            [
                both("[MQTT-2.2.1-3]; [MQTT-2.3.1-1]: packet identifier 0", first, |_| vec![0, 0], 0x82),
                both("3.4.2: half a packet identifier", first, |_| vec![0], 0x81),
                in_5("[MQTT-3.4.2-1] and its like: no such reason code", first, &[0, 1, 0xA2], 0x81),
                in_3("3.1.1, 3.4.1: longer than two bytes", first, &[0, 1, 0]),
            ]
        })
        .collect();
    breaches.extend([
        Breach {
            clauses: "[MQTT-3.1.0-2]; [MQTT-3.1.0-2]: a second CONNECT",
            v5: Some((encode_connect(Protocol::V5, &credentials), 0x82)),
            v3: Some(encode_connect(Protocol::V3, &credentials)),
        },
        in_5("[MQTT-3.14.2-1]: a reason code of the server's", 0xE0, &[0x8E], 0x82),
        in_5("3.14.2.2.2: a session that was to end is to last", 0xE0, &[0, 5, 0x11, 0, 0, 0, 9], 0x82),
        in_5("3.14.2.2.5: a Server Reference", 0xE0, b"\0\x04\x1C\0\x01x", 0x81),
        in_5("[MQTT-3.15.2-1]: Success is the server's to say", 0xF0, &[], 0x82),
        in_5("3.15.2.2.2: AUTH without a method", 0xF0, &[0x19, 0], 0x82),
    ]);
    breaches
}

#[tokio::test]
async fn each_broken_rule_has_its_reason_and_ends_the_connection() {
    let scene = Scene::new().await;
    let topic = send_topic(&scene.chat);
    for Breach { clauses, v5, v3 } in
        [fixed_header(), publish(&topic), subscribe(), others(&scene)].into_iter().flatten()
    {
        let v5 = v5.map(|(bytes, reason)| (Protocol::V5, bytes, Some(reason)));
        for (protocol, bytes, reason) in v5.into_iter().chain(v3.map(|bytes| (Protocol::V3, bytes, None))) {
            let mut raw = scene.alice.raw(protocol, Connect::default()).await;
            let publish = raw.encode_publish(&topic, &text("never stored", "1"), 1, 9, false);
            raw.write(&[&PINGREQ[..], &bytes, &publish, &PINGREQ].concat()).await;
            let answers = rest_of(&mut raw).await;
            let told = match &answers[..] {
                [Packet::PingResp] => None,
                [Packet::PingResp, Packet::Disconnect { reason, properties }] => {
                    assert!(!properties.reason_string.is_empty(), "{clauses}");
                    Some(*reason)
                }
                other => panic!("{clauses} {protocol:?}: {other:?}"),
            };
            assert_eq!(told, reason, "{clauses} {protocol:?}: {answers:x?}");
        }
    }
    scene.assert_unharmed().await;
}

async fn rest_of(raw: &mut RawClient) -> Vec<Packet> {
    let mut answers = Vec::new();
    while let Some(answer) = raw.read().await {
        answers.push(answer);
    }
    answers
}

/// A CONNECT that breaks a rule: its clauses, 5's first; flags, and what follows Keep Alive; code of 5, code of 3.1.1.
/// `None` where the connection just ends, or where it is legal.
type BadConnect = (&'static str, u8, Vec<u8>, Option<u8>, Option<u8>);

fn bad_connects_in_both(none: &[u8]) -> Vec<BadConnect> {
    let id = [none, &string("x")].concat();
    let will = |topic: &[u8]| [&id, none, &field(topic), &string("gone")].concat();
    vec![
        ("[MQTT-3.1.2-3]; [MQTT-3.1.2-3]: the reserved flag", 0x03, id.clone(), Some(0x81), None),
        ("[MQTT-3.1.2-11]; [MQTT-3.1.2-13]: will QoS, no will", 0x0A, id.clone(), Some(0x81), None),
        ("[MQTT-3.1.2-13]; [MQTT-3.1.2-15]: will retain, no will", 0x22, id.clone(), Some(0x81), None),
        ("[MQTT-3.1.2-12]; [MQTT-3.1.2-14]: will QoS 3", 0x1E, will(b"t"), Some(0x81), None),
        ("[MQTT-3.1.2-9]; [MQTT-3.1.2-9]: no will", 0x06, id.clone(), Some(0x81), None),
        ("[MQTT-3.1.3-11]; [MQTT-3.1.3-10]: not UTF-8", 0x06, will(b"\xFF"), Some(0x81), None),
        (
            "[MQTT-4.7.0-1]; [MQTT-4.7.1-1]: a will topic with a wildcard",
            0x06,
            will(b"a/+"),
            Some(0x81),
            None,
        ),
        ("[MQTT-4.7.3-1]; [MQTT-4.7.3-1]: an empty will topic", 0x06, will(b""), Some(0x81), None),
        ("[MQTT-3.1.2-17]; [MQTT-3.1.2-19]: no user name", 0x82, id.clone(), Some(0x81), None),
        (
            "[MQTT-3.1.2-16]; [MQTT-3.1.2-18]: one too many",
            0x02,
            [&id[..], &string("u")].concat(),
            Some(0x81),
            None,
        ),
        (
            "[MQTT-3.1.2-19]; [MQTT-3.1.2-21]: no password",
            0xC2,
            [&id[..], &string("u")].concat(),
            Some(0x81),
            None,
        ),
        ("[MQTT-3.1.3-3]; [MQTT-3.1.3-3]: no client identifier", 0x02, none.to_vec(), Some(0x81), None),
        (
            "[MQTT-3.1.3-4]; [MQTT-3.1.3-4]: not UTF-8",
            0x02,
            [none, &field(b"\xFF")].concat(),
            Some(0x81),
            None,
        ),
        ("[MQTT-1.5.4-2]; [MQTT-1.5.3-2]: U+0000", 0x02, [none, &field(b"a\0")].concat(), Some(0x81), None),
        (
            "[MQTT-3.1.3-12]; [MQTT-3.1.3-11]: not UTF-8",
            0x82,
            [&id[..], &field(b"\xFF")].concat(),
            Some(0x81),
            None,
        ),
    ]
}

fn bad_connects_of_5() -> Vec<BadConnect> {
    let with =
        |properties: &[u8]| [&[u8::try_from(properties.len()).unwrap()], properties, &string("x")].concat();
    let will = |properties: &[u8]| {
        [
            &with(&[]),
            &[u8::try_from(properties.len()).unwrap()][..],
            properties,
            &string("t"),
            &string("gone"),
        ]
        .concat()
    };
    vec![
        ("3.1.2.11.3: Receive Maximum 0", 0x02, with(&[0x21, 0, 0]), Some(0x82), None),
        ("3.1.2.11.4: Maximum Packet Size 0", 0x02, with(&[0x27, 0, 0, 0, 0]), Some(0x82), None),
        ("3.1.2.11.6: Request Response Information 2", 0x02, with(&[0x19, 2]), Some(0x82), None),
        ("3.1.2.11.7: Request Problem Information 2", 0x02, with(&[0x17, 2]), Some(0x82), None),
        ("3.1.2.11.2: twice", 0x02, with(&[0x11, 0, 0, 0, 1, 0x11, 0, 0, 0, 1]), Some(0x82), None),
        ("3.1.2.11.10: data without a method", 0x02, with(b"\x16\0\x01x"), Some(0x82), None),
        ("[MQTT-4.12.0-1]: a method we do not know", 0x02, with(b"\x15\0\x01x"), Some(0x8C), None),
        ("2.2.2.2: a property of the will's", 0x02, with(&[0x18, 0, 0, 0, 1]), Some(0x81), None),
        ("[MQTT-2.2.2-1]: no property length", 0x02, string("x"), Some(0x81), None),
        ("3.1.3.2.3: Payload Format Indicator 2", 0x06, will(&[0x01, 2]), Some(0x82), None),
        ("3.1.3.2.6: a wildcard in the response topic", 0x06, will(b"\x08\0\x01+"), Some(0x81), None),
        ("2.2.2.2: a property of CONNECT's", 0x06, will(&[0x11, 0, 0, 0, 1]), Some(0x81), None),
    ]
}

fn bad_connects_of_3() -> Vec<BadConnect> {
    let password = [string("x"), string("secret")].concat();
    vec![
        ("[MQTT-3.1.2-22]: a password and no user name", 0x42, password, None, None),
        ("[MQTT-3.1.3-8]: Clean Session 0 and no client identifier", 0x00, string(""), None, Some(2)),
    ]
}

#[tokio::test]
async fn a_connect_that_breaks_a_rule_is_told_what_can_be_told_and_nothing_after_it_is_heard() {
    let scene = Scene::new().await;
    let publication = |protocol| {
        let none: &[u8] = if protocol == Protocol::V5 { NONE } else { &[] };
        packet(0x30, &[&string(&send_topic(&scene.chat)), none, &text("never stored", "1")].concat())
    };
    let lists = [
        (Protocol::V5, bad_connects_in_both(NONE)),
        (Protocol::V5, bad_connects_of_5()),
        (Protocol::V3, bad_connects_in_both(&[])),
        (Protocol::V3, bad_connects_of_3()),
    ];
    let mut cases = vec![
        // [MQTT-3.1.2-1]; [MQTT-3.1.2-1]: another protocol's name.
        (
            "name",
            Protocol::V5,
            packet(0x10, &[string("MQTX"), vec![5, 2, 0, 60, 0], string("x")].concat()),
            None,
        ),
        // [MQTT-3.1.2-2]; [MQTT-3.1.2-2]: another version.
        (
            "6",
            Protocol::V5,
            packet(0x10, &[string("MQTT"), vec![6, 2, 0, 60, 0], string("x")].concat()),
            Some(0x84),
        ),
        (
            "3",
            Protocol::V3,
            packet(0x10, &[string("MQTT"), vec![3, 2, 0, 60], string("x")].concat()),
            Some(1),
        ),
        // [MQTT-3.1.0-1]; [MQTT-3.1.0-1]: something else first.
        ("PINGREQ first", Protocol::V5, PINGREQ.to_vec(), None),
    ];
    for (protocol, connects) in lists {
        for (clauses, flags, rest, v5, v3) in connects {
            let (level, code) = if protocol == Protocol::V5 { (5, v5) } else { (4, v3) };
            let connect = packet(0x10, &[&string("MQTT"), &[level, flags, 0, 60][..], &rest].concat());
            cases.push((clauses, protocol, connect, code));
        }
    }
    for protocol in [Protocol::V5, Protocol::V3] {
        // [MQTT-3.1.3-8]; [MQTT-3.1.3-9]: one that we do not take; [MQTT-3.1.4-2]; [MQTT-3.2.2-5]: the wrong password.
        let too_long = scene.alice.credentials(Connect { client_id: "x".repeat(513), ..Connect::default() });
        let (username, password) = (Some(scene.alice.username.clone()), Some(b"wrong".to_vec()));
        let wrong = Connect { username, password, ..Connect::default() };
        let [rejected, refused] = if protocol == Protocol::V5 { [0x85, 0x86] } else { [2, 4] };
        cases.push(("client identifier", protocol, encode_connect(protocol, &too_long), Some(rejected)));
        cases.push(("password", protocol, encode_connect(protocol, &wrong), Some(refused)));
    }
    for (clauses, protocol, connect, code) in cases {
        let mut raw = scene.open(protocol).await;
        // [MQTT-3.1.4-6]; [MQTT-3.1.4-5]: what comes after it is not processed.
        raw.write(&[&connect[..], &publication(protocol), &PINGREQ].concat()).await;
        let answers = rest_of(&mut raw).await;
        let told = match &answers[..] {
            [] => None,
            [Packet::ConnAck { session_present: false, code, .. }] => Some(*code),
            other => panic!("{clauses} {protocol:?}: {other:?}"),
        };
        assert_eq!(told, code, "{clauses} {protocol:?}");
    }
    scene.assert_unharmed().await;
}
