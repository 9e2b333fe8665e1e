//! Packets that are too much of something. Each is refused where it crosses the limit, not at its end.

use super::*;
use std::iter;

/// As large as an operator may allow.
const LARGEST: u32 = 16 << 20;

fn generous(version: Version) -> Wire {
    let mut wire = open(version);
    wire.set_max_packet_size(LARGEST);
    wire
}

/// A property section of any length.
fn long_section(properties: &[u8]) -> Vec<u8> {
    frame(0, properties)[1..].to_vec()
}

#[test]
fn a_million_tiny_properties() {
    let properties = long_section(&[0x26, 0, 0, 0, 0].repeat(1_000_000));
    for (first, body) in [
        (0x30, join(&[&field("t"), &properties])),
        (0x40, join(&[&[0, 1, 0], &properties])),
        (0x62, join(&[&[0, 1, 0], &properties])),
        (0x82, join(&[&[0, 1], &properties, &field("t"), &[0]])),
        (0xA2, join(&[&[0, 1], &properties, &field("t")])),
        (0xE0, join(&[&[0], &properties])),
        (0xF0, join(&[&[0x19], &properties])),
    ] {
        let error = decode(&mut generous(Version::V5), &frame(first, &body)).unwrap_err();
        assert_eq!(error.reason, Reason::QuotaExceeded, "{first:#04x}");
        // At the limit that clients are told, its length is enough.
        let error = open(Version::V5).decode(&mut frame(first, &body)).unwrap_err();
        assert_eq!(error.reason, Reason::PacketTooLarge, "{first:#04x}");
    }
}

#[test]
fn as_many_tiny_properties_as_fit_into_a_connect() {
    let properties = long_section(&[0x26, 0, 0, 0, 0].repeat(3_000));
    let own = connect(5, 0x02, &join(&[&properties, &field("c")]));
    let of_the_will = connect(5, 0x06, &join(&[&[0], &field("c"), &properties, &field("t"), &field("x")]));
    for connect in [own, of_the_will] {
        assert!(connect.len() < LIMIT as usize);
        let error = decode_connect(&connect).unwrap_err();
        assert_eq!((error.reason, error.answer), (Reason::QuotaExceeded, Answer::ConnAck));
    }
}

#[test]
fn as_many_filters_as_16_bits_can_count() {
    for (version, properties) in [(Version::V3, &[][..]), (Version::V5, &[0][..])] {
        for (first, options) in [(0x82, &[0][..]), (0xA2, &[])] {
            let filters = join(&[&field("t"), options]).repeat(65_535);
            let frame = frame(first, &join(&[&[0, 1], properties, &filters]));
            let error = decode(&mut generous(version), &frame).unwrap_err();
            assert_eq!(error.reason, Reason::QuotaExceeded, "{version:?} {first:#04x}");
        }
    }
}

#[test]
fn topics_of_many_levels_and_texts_of_all_there_is() {
    // 65,535 bytes [MQTT-4.7.3-3]: more cannot be written. How deep a filter may be is for the grammar to say.
    let deep: String = iter::repeat_n("a", 32_768).collect::<Vec<_>>().join("/");
    assert_eq!(deep.len(), 65_535);
    for (version, properties) in [(Version::V3, &[][..]), (Version::V5, &[0][..])] {
        let wire = &mut generous(version);
        match decode(wire, &frame(0x30, &join(&[&field(&deep), properties]))).unwrap() {
            In::Publish(publish) => assert_eq!(publish.topic, deep),
            other => panic!("{other:?}"),
        }
        match decode(wire, &frame(0x82, &join(&[&[0, 1], properties, &field(&deep), &[0]]))).unwrap() {
            In::Subscribe { filters, .. } => assert_eq!(filters[0].filter, deep),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn lengths_that_are_declared_and_never_sent() {
    for version in [Version::V3, Version::V5] {
        // Of the packet, its topic, its properties, its client identifier: nothing is reserved for any.
        for beginning in [
            &b"\x30\x80\x80\x80\x07"[..],
            b"\x30\x80\x80\x80\x07\xFF\xFF",
            b"\x30\x80\x80\x80\x07\0\x01t\xFF\xFF\xFF\x06",
            b"\x82\x80\x80\x80\x07\0\x01",
        ] {
            let mut buf = BytesMut::from(beginning);
            let before = buf.capacity();
            assert!(generous(version).decode(&mut buf).unwrap().is_none());
            assert_eq!((buf.capacity(), &buf[..]), (before, beginning));
        }
        // In a packet that is whole they are wrong.
        let mut lying = frame(0x30, b"\xFF\xFFt");
        assert_eq!(generous(version).decode(&mut lying).unwrap_err().reason, Reason::MalformedPacket);
    }
}
