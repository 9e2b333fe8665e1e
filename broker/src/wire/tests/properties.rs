//! Properties of MQTT 5, over all there are: Table 2-4 of the standard is the oracle.

use super::*;
use Place::{
    Auth, Connect, Disconnect, PubAck, PubComp, PubRec, PubRel, Publish, Subscribe, Unsubscribe, Will,
};

/// Where a client sends properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Connect,
    Will,
    Publish,
    PubAck,
    PubRec,
    PubRel,
    PubComp,
    Subscribe,
    Unsubscribe,
    Disconnect,
    Auth,
}

const PLACES: [Place; 11] =
    [Connect, Will, Publish, PubAck, PubRec, PubRel, PubComp, Subscribe, Unsubscribe, Disconnect, Auth];

const AUTHENTICATION_METHOD: u8 = 0x15;
const AUTHENTICATION_DATA: u8 = 0x16;
const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
const USER_PROPERTY: u8 = 0x26;

/// A property: its identifier, a value it may have, and the packets in which a client may send it. The other rows of the
/// table are of packets that a server sends.
type Property = (u8, &'static [u8], &'static [Place]);

const TABLE_2_4: [Property; 27] = [
    (0x01, &[1], &[Publish, Will]),
    (0x02, &[0, 0, 0, 9], &[Publish, Will]),
    (0x03, b"\0\x01x", &[Publish, Will]),
    (0x08, b"\0\x01x", &[Publish, Will]),
    (0x09, b"\0\x01\xFF", &[Publish, Will]),
    (SUBSCRIPTION_IDENTIFIER, &[9], &[Subscribe]),
    (0x11, &[0, 0, 0, 9], &[Connect, Disconnect]),
    (0x12, b"\0\x01x", &[]),
    (0x13, &[0, 9], &[]),
    (AUTHENTICATION_METHOD, b"\0\x01x", &[Connect, Auth]),
    (AUTHENTICATION_DATA, b"\0\x01\xFF", &[Connect, Auth]),
    (0x17, &[1], &[Connect]),
    (0x18, &[0, 0, 0, 9], &[Will]),
    (0x19, &[1], &[Connect]),
    (0x1A, b"\0\x01x", &[]),
    (0x1C, b"\0\x01x", &[]),
    (0x1F, b"\0\x01x", &[PubAck, PubRec, PubRel, PubComp, Disconnect, Auth]),
    (0x21, &[0, 9], &[Connect]),
    (0x22, &[0, 9], &[Connect]),
    (0x23, &[0, 9], &[Publish]),
    (0x24, &[1], &[]),
    (0x25, &[1], &[]),
    (USER_PROPERTY, b"\0\x01k\0\x01v", &PLACES),
    (0x27, &[0, 0, 0, 9], &[Connect]),
    (0x28, &[1], &[]),
    (0x29, &[1], &[]),
    (0x2A, &[1], &[]),
];

/// Those that are text. Of a user property both strings are.
const TEXTS: [u8; 5] = [0x03, 0x08, AUTHENTICATION_METHOD, 0x1F, USER_PROPERTY];

/// What decoding a packet with these properties comes to.
fn decode_with(place: Place, properties: &[u8]) -> Result<In, WireError> {
    let section = section(properties);
    let open = |first, body: &[&[u8]]| decode(&mut open(Version::V5), &frame(first, &join(body)));
    let first = |flags, rest: &[&[u8]]| decode(&mut Wire::new(LIMIT), &connect(5, flags, &join(rest)));
    match place {
        Connect => first(0x02, &[&section, &field("c")]),
        Will => first(0x06, &[&[0], &field("c"), &section, &field("t"), &field("x")]),
        Publish => open(0x30, &[&field("t"), &section]),
        PubAck => open(0x40, &[&[0, 1, 0], &section]),
        PubRec => open(0x50, &[&[0, 1, 0], &section]),
        PubRel => open(0x62, &[&[0, 1, 0], &section]),
        PubComp => open(0x70, &[&[0, 1, 0], &section]),
        Subscribe => open(0x82, &[&[0, 1], &section, &field("t"), &[0]]),
        Unsubscribe => open(0xA2, &[&[0, 1], &section, &field("t")]),
        Disconnect => open(0xE0, &[&[0], &section]),
        Auth => open(0xF0, &[&[0x19], &section]),
    }
}

/// What must be there for a property to be legal: a method with authentication data, and in every AUTH.
fn with_what_it_needs(place: Place, id: u8, property: &[u8]) -> Vec<u8> {
    let needs_method = id == AUTHENTICATION_DATA || place == Auth;
    let method: &[u8] = if needs_method && id != AUTHENTICATION_METHOD { b"\x15\0\x01m" } else { b"" };
    join(&[method, property])
}

fn legal() -> impl Iterator<Item = (Place, u8, &'static [u8])> {
    TABLE_2_4.into_iter().flat_map(|(id, value, places)| places.iter().map(move |place| (*place, id, value)))
}

/// Section 2.2.2.2; `[MQTT-3.3.4-6]`, `[MQTT-3.14.2-2]`.
#[test]
fn a_property_is_taken_where_table_2_4_has_it_and_nowhere_else() {
    for (id, value, places) in TABLE_2_4 {
        for place in PLACES {
            let property = join(&[&[id], value]);
            let result = decode_with(place, &with_what_it_needs(place, id, &property));
            if places.contains(&place) {
                assert!(result.is_ok(), "{id:#04x} in {place:?}: {result:?}");
                continue;
            }
            // A server may send it in PUBLISH.
            let protocol_error = id == SUBSCRIPTION_IDENTIFIER && place == Publish;
            let reason = if protocol_error { Reason::ProtocolError } else { Reason::MalformedPacket };
            assert_eq!(result.unwrap_err().reason, reason, "{id:#04x} in {place:?}");
        }
    }
    for id in (0..=u8::MAX).filter(|id| TABLE_2_4.iter().all(|(known, ..)| known != id)) {
        for place in PLACES {
            let reason = decode_with(place, &[id, 0, 0, 0, 0]).unwrap_err().reason;
            assert_eq!(reason, Reason::MalformedPacket, "{id:#04x} in {place:?}");
        }
    }
}

/// "It is a Protocol Error to include … more than once", of every property but one.
#[test]
fn a_property_comes_at_most_once_but_for_user_properties() {
    for (place, id, value) in legal() {
        let property = join(&[&[id], value]);
        let result = decode_with(place, &with_what_it_needs(place, id, &property.repeat(2)));
        if id == USER_PROPERTY {
            assert!(result.is_ok(), "{place:?}: {result:?}");
        } else {
            assert_eq!(result.unwrap_err().reason, Reason::ProtocolError, "{id:#04x} in {place:?}");
        }
    }
}

/// Section 2.2.2.2: "contains a value not of the specified data type".
#[test]
fn a_property_is_whole() {
    for (place, id, value) in legal() {
        for length in 0..value.len() {
            let property = join(&[&[id], &value[..length]]);
            let result = decode_with(place, &with_what_it_needs(place, id, &property));
            let reason = result.unwrap_err().reason;
            assert_eq!(reason, Reason::MalformedPacket, "{length} bytes of {id:#04x} in {place:?}");
        }
    }
}

/// `[MQTT-2.2.2-1]`: no properties are a length of zero. Acknowledgements, DISCONNECT and AUTH have forms without.
#[test]
fn the_property_length_is_there() {
    for (first, body) in [
        (0x30, field("t")),
        (0x32, join(&[&field("t"), &[0, 1]])),
        (0x82, vec![0, 1]),
        (0xA2, vec![0, 1]),
        // It reaches past the end; it is longer than it needs to be [MQTT-1.5.5-1]; it does not end.
        (0x30, join(&[&field("t"), &[1]])),
        (0x40, vec![0, 1, 0, 1]),
        (0xE0, vec![0, 1]),
        (0x30, join(&[&field("t"), &[0x80, 0]])),
        (0x30, join(&[&field("t"), &[0xFF; 5]])),
    ] {
        let error = decode(&mut open(Version::V5), &frame(first, &body)).unwrap_err();
        assert_eq!(error.reason, Reason::MalformedPacket, "{first:#04x} {body:x?}");
    }
    for rest in [&b""[..], b"\0\x01c"] {
        let error = decode_connect(&connect(5, 2, rest)).unwrap_err();
        assert_eq!(error.reason, Reason::MalformedPacket, "{rest:x?}");
    }
}

/// `[MQTT-1.5.4-1]`, `[MQTT-1.5.4-2]`, `[MQTT-1.5.7-1]`, `[MQTT-3.3.2-13]`, `[MQTT-3.3.2-19]`.
#[test]
fn every_text_among_the_properties_is_utf_8_without_nul() {
    for (place, id, _) in legal().filter(|(_, id, _)| TEXTS.contains(id)) {
        let values = |text: &[u8]| {
            let text = field(text);
            let other = field("x");
            if id == USER_PROPERTY {
                vec![join(&[&text, &other]), join(&[&other, &text])]
            } else {
                vec![text]
            }
        };
        let result =
            |value: &[u8]| decode_with(place, &with_what_it_needs(place, id, &join(&[&[id], value])));
        for bad in BAD_TEXTS {
            for value in values(bad) {
                let reason = result(&value).err().map(|error| error.reason);
                assert_eq!(reason, Some(Reason::MalformedPacket), "{bad:x?} as {id:#04x} in {place:?}");
            }
        }
        for value in values("\u{FEFF}ü\u{10FFFF}".as_bytes()) {
            assert!(result(&value).is_ok(), "{id:#04x} in {place:?}");
        }
    }
}
