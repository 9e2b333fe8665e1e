//! What the standard forbids in a single packet: one line each.

use super::*;
use Reason::{MalformedPacket, ProtocolError, QuotaExceeded, TopicAliasInvalid};

/// On an open connection.
fn refuse(version: Version, first: u8, body: &[u8], reason: Reason, rule: &str) {
    let error = decode(&mut open(version), &frame(first, body)).expect_err(rule);
    assert_eq!(error.reason, reason, "{rule}: {error}");
    let answer = if version == Version::V5 { Answer::Disconnect } else { Answer::Nothing };
    assert_eq!(error.answer, answer, "{rule}");
}

fn refuse_both(first: u8, body: &[u8], reason: Reason, rule: &str) {
    refuse(Version::V3, first, body, reason, rule);
    refuse(Version::V5, first, body, reason, rule);
}

fn refuse_connect(level: u8, flags: u8, rest: &[u8], reason: Reason, rule: &str) {
    let error = decode_connect(&connect(level, flags, rest)).expect_err(rule);
    assert_eq!(error.reason, reason, "{rule}: {error}");
}

#[test]
fn fixed_header() {
    refuse_both(0x00, &[], MalformedPacket, "type 0");
    refuse(Version::V3, 0xF0, &[], MalformedPacket, "AUTH in 3.1.1");
    for first in [0x20, 0x90, 0xB0, 0xD0] {
        refuse_both(first, &[0, 1, 0], ProtocolError, "packets only a server may send");
    }
    for first in [0x41, 0x51, 0x60, 0x63, 0x71, 0x80, 0x83, 0xA0, 0xC1, 0xE1] {
        refuse_both(first, &[0, 1], MalformedPacket, "[MQTT-2.1.3-1]");
    }
    refuse(Version::V5, 0xF1, &[], MalformedPacket, "[MQTT-2.1.3-1]");
    for version in [Version::V3, Version::V5] {
        for length in
            [&[0xC0, 0x80, 0x00][..], &[0xC0, 0x80, 0x80, 0x80, 0x80], &[0xC0, 0xFF, 0xFF, 0xFF, 0xFF, 0x01]]
        {
            let error = open(version).decode(&mut BytesMut::from(length)).unwrap_err();
            assert_eq!(error.reason, MalformedPacket, "{length:x?}");
        }
    }
}

#[test]
fn connect_flags() {
    for (level, properties) in [(4, &[][..]), (5, &[0][..])] {
        let plain = join(&[properties, &field("c")]);
        refuse_connect(level, 0x03, &plain, MalformedPacket, "[MQTT-3.1.2-3]");
        refuse_connect(level, 0x0A, &plain, MalformedPacket, "[MQTT-3.1.2-11]");
        refuse_connect(level, 0x22, &plain, MalformedPacket, "[MQTT-3.1.2-13]");
        let will = join(&[properties, &field("c"), properties, &field("t"), &field("x")]);
        refuse_connect(level, 0x1E, &will, MalformedPacket, "[MQTT-3.1.2-12]");
        refuse_connect(level, 0x82, &plain, MalformedPacket, "a user name is missing");
        refuse_connect(level, 0x02, &join(&[&plain, b"x"]), MalformedPacket, "trailing bytes");
    }
    refuse_connect(4, 0x42, &join(&[&field("c"), &field("pw")]), MalformedPacket, "3.1.1: [MQTT-3.1.2-22]");
}

#[test]
fn connect_texts() {
    for (level, properties) in [(4, &[][..]), (5, &[0][..])] {
        for bad in [&b"a\0"[..], b"\xff", b"\xed\xa0\x80", b"\xc0\x80"] {
            refuse_connect(level, 2, &join(&[properties, &field(bad)]), MalformedPacket, "client identifier");
            let user = join(&[properties, &field("c"), &field(bad)]);
            refuse_connect(level, 0x82, &user, MalformedPacket, "user name");
        }
        for topic in [&b""[..], b"a/+", b"#", b"a\0", b"\xff"] {
            let will = join(&[properties, &field("c"), properties, &field(topic), &field("x")]);
            refuse_connect(level, 0x06, &will, MalformedPacket, "will topic");
        }
    }
}

#[test]
fn connect_properties() {
    let refuse = |properties: &[u8], reason, rule| {
        refuse_connect(5, 2, &join(&[&section(properties), &field("c")]), reason, rule);
    };
    refuse(&[0x21, 0, 0], ProtocolError, "Receive Maximum 0");
    refuse(&[0x27, 0, 0, 0, 0], ProtocolError, "Maximum Packet Size 0");
    refuse(&[0x17, 2], ProtocolError, "Request Problem Information 2");
    refuse(&[0x19, 2], ProtocolError, "Request Response Information 2");
    refuse(&[0x22, 0, 1, 0x22, 0, 1], ProtocolError, "twice");
    refuse(&[0x16, 0, 1, b'x'], ProtocolError, "authentication data without method");
    refuse(&[0x15, 0, 1, 0], MalformedPacket, "U+0000");
    refuse(&[0x18, 0, 0, 0, 1], MalformedPacket, "Will Delay is of the will");
    refuse(&[0x12, 0, 0], MalformedPacket, "of CONNACK");
    refuse(&[0x7F], MalformedPacket, "unknown");
    refuse(&[0x91, 0x00, 0, 0, 0, 0], MalformedPacket, "a longer spelling of 0x11");
    refuse(&[0x11, 0, 0], MalformedPacket, "cut off");
    let will = |properties: &[u8]| join(&[&[0], &field("c"), &section(properties), &field("t"), &field("x")]);
    refuse_connect(5, 6, &will(&[0x01, 2]), ProtocolError, "Payload Format Indicator 2");
    refuse_connect(5, 6, &will(&[0x08, 0, 1, b'#']), MalformedPacket, "[MQTT-3.3.2-14]");
    refuse_connect(5, 6, &will(&[0x23, 0, 1]), MalformedPacket, "a will has no topic alias");
    refuse_connect(5, 2, &join(&[&[0x80, 0], &field("c")]), MalformedPacket, "[MQTT-1.5.5-1]");
}

#[test]
fn publish() {
    for (version, properties) in [(Version::V3, &[][..]), (Version::V5, &[0][..])] {
        let body = |topic: &[u8]| join(&[&field(topic), properties, b"x"]);
        let with_id = |id: &[u8]| join(&[&field("t"), id, properties, b"x"]);
        refuse(version, 0x36, &with_id(&[0, 1]), MalformedPacket, "[MQTT-3.3.1-4]");
        refuse(version, 0x38, &body(b"t"), MalformedPacket, "[MQTT-3.3.1-2]");
        refuse(version, 0x32, &with_id(&[0, 0]), ProtocolError, "[MQTT-2.2.1-3]");
        for topic in [&b"+"[..], b"a/#", b"a#", b"a\0", b"\xff\xfe"] {
            refuse(version, 0x30, &body(topic), MalformedPacket, "topic name");
        }
        refuse(version, 0x30, &[0, 9, b'x'], MalformedPacket, "cut off");
        refuse(version, 0x30, &[], MalformedPacket, "empty");
    }
    refuse(Version::V3, 0x30, &field(""), MalformedPacket, "[MQTT-4.7.3-1]");
    refuse(Version::V5, 0x30, &join(&[&field(""), &[0]]), ProtocolError, "neither topic nor alias");
    let with = |properties: &[u8]| join(&[&field("t"), &section(properties)]);
    refuse(Version::V5, 0x30, &with(&[0x23, 0, 0]), TopicAliasInvalid, "[MQTT-3.3.2-8]");
    refuse(Version::V5, 0x30, &with(&[0x0B, 1]), ProtocolError, "[MQTT-3.3.4-6]");
    refuse(Version::V5, 0x30, &with(&[0x08, 0, 1, b'+']), MalformedPacket, "[MQTT-3.3.2-14]");
    refuse(Version::V5, 0x30, &with(&[0x08, 0, 0]), MalformedPacket, "empty response topic");
    refuse(Version::V5, 0x30, &with(&[0x01, 2]), ProtocolError, "Payload Format Indicator 2");
    refuse(Version::V5, 0x30, &with(&[0x01, 1, 0x01, 1]), ProtocolError, "twice");
    refuse(Version::V5, 0x30, &with(&[0x26, 0, 1, 0, 0, 0]), MalformedPacket, "U+0000 in a user property");
    refuse(Version::V5, 0x30, &with(&[0x26, 0, 1, 0xFF, 0, 0]), MalformedPacket, "not UTF-8");
    refuse(Version::V5, 0x30, &with(&[0x11, 0, 0, 0, 1]), MalformedPacket, "of CONNECT");
    refuse(Version::V5, 0x30, &join(&[&field("t"), &[9]]), MalformedPacket, "section cut off");
    refuse(Version::V5, 0x30, &field("t"), MalformedPacket, "no section");
}

#[test]
fn acknowledgements() {
    for first in [0x40, 0x50, 0x62, 0x70] {
        refuse_both(first, &[0, 0], ProtocolError, "[MQTT-2.2.1-3]");
        refuse_both(first, &[0], MalformedPacket, "cut off");
        refuse(Version::V3, first, &[0, 1, 0], MalformedPacket, "longer than 2 bytes");
        refuse(Version::V5, first, &[0, 1, 0x8E], MalformedPacket, "reason code");
        refuse(Version::V5, first, &[0, 1, 0, 0, 0], MalformedPacket, "trailing bytes");
        refuse(Version::V5, first, &[0, 1, 0, 5, 0x11, 0, 0, 0, 1], MalformedPacket, "foreign property");
    }
}

#[test]
fn subscribe() {
    for (version, properties) in [(Version::V3, &[][..]), (Version::V5, &[0][..])] {
        let body = |filter: &[u8], options: u8| join(&[&[0, 1], properties, &field(filter), &[options]]);
        refuse(
            version,
            0x82,
            &join(&[&[0, 0], properties, &field("t"), &[0]]),
            ProtocolError,
            "[MQTT-2.2.1-3]",
        );
        refuse(version, 0x82, &join(&[&[0, 1], properties]), ProtocolError, "[MQTT-3.8.3-2]");
        refuse(version, 0x82, &join(&[&[0, 1], properties, &field("t")]), MalformedPacket, "no options");
        refuse(version, 0x82, &body(b"t", 3), ProtocolError, "QoS 3");
        refuse(version, 0x82, &body(b"t", 0x40), MalformedPacket, "[MQTT-3.8.3-5]");
        refuse(version, 0x82, &body(b"", 0), MalformedPacket, "[MQTT-4.7.3-1]");
        refuse(version, 0x82, &body(b"a\0", 0), MalformedPacket, "[MQTT-4.7.3-2]");
        refuse(version, 0x82, &body(b"\xff", 0), MalformedPacket, "[MQTT-3.8.3-1]");
    }
    refuse(Version::V3, 0x82, &join(&[&[0, 1], &field("t"), &[4]]), MalformedPacket, "3.1.1: [MQTT-3.8.3-4]");
    let body = |properties: &[u8], filter: &str, options| {
        join(&[&[0, 1], &section(properties), &field(filter), &[options]])
    };
    refuse(Version::V5, 0x82, &body(&[], "t", 0x30), ProtocolError, "Retain Handling 3");
    refuse(Version::V5, 0x82, &body(&[], "$share/g/t", 4), ProtocolError, "[MQTT-3.8.3-4]");
    for filter in ["$share/", "$share//t", "$share/g", "$share/g/", "$share/g+/t", "$share/#/t"] {
        refuse(Version::V5, 0x82, &body(&[], filter, 0), MalformedPacket, "[MQTT-4.8.2-1], [MQTT-4.8.2-2]");
    }
    // In 3.1.1 `$share` is a level like any other.
    for (filter, legal) in
        [("$share/", true), ("$share//t", true), ("$share/g", true), ("$share/g+/t", false)]
    {
        let frame = frame(0x82, &join(&[&[0, 1], &field(filter), &[0]]));
        assert_eq!(decode(&mut open(Version::V3), &frame).is_ok(), legal, "{filter}");
    }
    refuse(Version::V5, 0x82, &body(&[0x0B, 0], "t", 0), ProtocolError, "subscription identifier 0");
    refuse(Version::V5, 0x82, &body(&[0x0B, 1, 0x0B, 2], "t", 0), ProtocolError, "twice");
    refuse(Version::V5, 0x82, &body(&[0x0B, 0x81, 0], "t", 0), MalformedPacket, "[MQTT-1.5.5-1]");
}

#[test]
fn unsubscribe() {
    for (version, properties) in [(Version::V3, &[][..]), (Version::V5, &[0][..])] {
        refuse(version, 0xA2, &join(&[&[0, 0], properties, &field("t")]), ProtocolError, "[MQTT-2.2.1-3]");
        refuse(version, 0xA2, &join(&[&[0, 1], properties]), ProtocolError, "[MQTT-3.10.3-2]");
        refuse(version, 0xA2, &join(&[&[0, 1], properties, &field("")]), MalformedPacket, "[MQTT-4.7.3-1]");
        refuse(version, 0xA2, &join(&[&[0, 1], properties, &field("\0")]), MalformedPacket, "[MQTT-4.7.3-2]");
    }
    refuse(
        Version::V5,
        0xA2,
        &join(&[&[0, 1], &section(&[0x0B, 1]), &field("t")]),
        MalformedPacket,
        "of SUBSCRIBE",
    );
}

#[test]
fn ping_disconnect_and_auth() {
    refuse_both(0xC0, &[0], MalformedPacket, "PINGREQ with a body");
    refuse(Version::V3, 0xE0, &[0], MalformedPacket, "3.1.1: DISCONNECT with a body");
    for code in [0x8B, 0x8E, 0x87, 0x01, 0xFF] {
        refuse(Version::V5, 0xE0, &[code], ProtocolError, "reason code of a server");
    }
    refuse(Version::V5, 0xE0, &join(&[&[0], &section(&[0x1C, 0, 0])]), MalformedPacket, "Server Reference");
    refuse(Version::V5, 0xE0, &[0, 0, 0], MalformedPacket, "trailing bytes");
    let method = join(&[&[0x15], &field("m")]);
    refuse(Version::V5, 0xF0, &[], ProtocolError, "AUTH with Success");
    refuse(Version::V5, 0xF0, &join(&[&[0], &section(&method)]), ProtocolError, "AUTH with Success");
    refuse(Version::V5, 0xF0, &[0x18], ProtocolError, "no method");
    refuse(Version::V5, 0xF0, &[0x18, 0], ProtocolError, "no method");
    refuse(
        Version::V5,
        0xF0,
        &join(&[&[0x18], &section(&join(&[&method, &method]))]),
        ProtocolError,
        "twice",
    );
}

#[test]
fn lists_are_bounded() {
    let filters = |count: usize| join(&[&[0, 1, 0], &join(&[&field("t"), &[0]]).repeat(count)]);
    decode(&mut open(Version::V5), &frame(0x82, &filters(MAX_FILTERS))).unwrap();
    refuse(Version::V5, 0x82, &filters(MAX_FILTERS + 1), QuotaExceeded, "filters");
    let filters = join(&[&[0, 1], &field("t").repeat(MAX_FILTERS + 1)]);
    refuse(Version::V3, 0xA2, &filters, QuotaExceeded, "filters");

    let properties = |count: usize| {
        let properties = [0x26, 0, 0, 0, 0].repeat(count);
        let length = [(properties.len() & 0x7F) as u8 | 0x80, (properties.len() >> 7) as u8];
        join(&[&field("t"), &length, &properties])
    };
    decode(&mut open(Version::V5), &frame(0x30, &properties(MAX_USER_PROPERTIES))).unwrap();
    refuse(Version::V5, 0x30, &properties(MAX_USER_PROPERTIES + 1), QuotaExceeded, "user properties");
}
