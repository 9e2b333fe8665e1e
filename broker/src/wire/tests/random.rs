//! Bytes nobody would send on purpose, and some that somebody would.

use super::*;
use crate::packet::PublishProperties;
use proptest::prelude::*;

fn seeds() -> Vec<BytesMut> {
    let will = join(&[&[0], &field("c"), &[2, 1, 1], &field("t"), &field("x"), &field("u"), &field("p")]);
    let properties =
        join(&[&[0x02, 0, 0, 0, 0, 0x08], &field("r"), &[0x26], &field("k"), &field("v"), &[0x23, 0, 1]]);
    vec![
        connect(5, 0xEE, &will),
        connect(5, 0, &join(&[&[8, 0x11, 0, 0, 0, 9, 0x21, 0, 9], &field("")])),
        connect(4, 0xC2, &join(&[&field("c"), &field("u"), &field("p")])),
        frame(0x10, b"\0\x06MQIsdp\x03\x02\0\x3c\0\x01c"),
        frame(0x3B, &join(&[&field("topic"), &[0, 1, properties.len() as u8], &properties, b"x"])),
        frame(0x30, &join(&[&field("topic"), b"payload"])),
        frame(0x40, &join(&[&[0, 9, 0x87, 7, 0x26], &field("k"), &field("v")])),
        frame(0x62, &[0, 9]),
        frame(0x82, &join(&[&[0, 1, 2, 0x0B, 1], &field("$share/a/#"), &[0x19], &field("#"), &[1]])),
        frame(0x82, &join(&[&[0, 1], &field("#"), &[1]])),
        frame(0xA2, &join(&[&[0, 1, 0], &field("#")])),
        frame(0xC0, &[]),
        frame(0xE0, &[4, 5, 0x11, 0, 0, 0, 7]),
        frame(0xF0, &join(&[&[0x18, 8, 0x15], &field("m"), &[0x16], &field("d")])),
    ]
}

/// Everything the wire makes of `bytes`, given in pieces of `step`.
fn run(mut wire: Wire, bytes: &[u8], step: usize) -> Vec<Result<String, WireError>> {
    let mut buf = BytesMut::new();
    let mut seen = Vec::new();
    for piece in bytes.chunks(step) {
        buf.extend_from_slice(piece);
        loop {
            match wire.decode(&mut buf) {
                Ok(Some(packet)) => seen.push(Ok(format!("{packet:?}"))),
                Ok(None) => break,
                Err(error) => {
                    seen.push(Err(error));
                    return seen;
                }
            }
        }
    }
    seen
}

fn wires() -> [Wire; 3] {
    [Wire::new(LIMIT), open(Version::V3), open(Version::V5)]
}

/// Broken packets: a few bytes changed, inserted or removed.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let change =
        (0..3_u8, any::<prop::sample::Index>(), prop_oneof![any::<u8>(), Just(0), Just(0xFF), Just(b'#')]);
    (prop::collection::vec(prop::sample::select(seeds()), 1..4), prop::collection::vec(change, 0..5))
        .prop_map(|(packets, changes)| {
            let mut bytes = packets.concat();
            for (kind, at, byte) in changes {
                let at = at.index(bytes.len() + 1);
                match kind {
                    0 if at < bytes.len() => bytes[at] = byte,
                    1 if at < bytes.len() => {
                        bytes.remove(at);
                    }
                    _ => bytes.insert(at, byte),
                }
            }
            bytes
        })
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z/]{1,8}", "[a-zü]{120,140}"]
}

prop_compose! {
    fn any_publish()(
        topic in text(),
        payload in prop::collection::vec(any::<u8>(), 0..400),
        qos in prop::sample::select(vec![Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce]),
        retain: bool,
        payload_is_utf8: bool,
        message_expiry in prop::option::of(prop_oneof![Just(0), any::<u32>()]),
        topic_alias in prop::option::of(1_u16..),
        response_topic in prop::option::of(text()),
        correlation_data in prop::option::of(prop::collection::vec(any::<u8>(), 0..200)),
        user_properties in prop::collection::vec((text(), text()), 0..3),
        content_type in prop::option::of(text()),
    ) -> Publish {
        Publish {
            topic,
            payload: payload.into(),
            qos,
            dup: false,
            retain,
            packet_id: (qos != Qos::AtMostOnce).then(|| id(1)),
            properties: PublishProperties {
                payload_is_utf8,
                message_expiry,
                topic_alias,
                response_topic,
                correlation_data: correlation_data.map(Bytes::from),
                user_properties,
                subscription_ids: Vec::new(),
                content_type,
            },
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for wire in wires() {
            run(wire, &bytes, usize::MAX);
        }
    }

    #[test]
    fn broken_packets_mean_the_same_in_any_pieces(bytes in mutated(), step in 1_usize..9) {
        for (whole, pieces) in wires().into_iter().zip(wires()) {
            prop_assert_eq!(run(whole, &bytes, bytes.len().max(1)), run(pieces, &bytes, step));
        }
    }

    #[test]
    fn decoding_after_an_error_does_not_panic(bytes in mutated()) {
        for mut wire in wires() {
            let mut buf = BytesMut::from(&bytes[..]);
            for _ in 0..8 {
                let _ = wire.decode(&mut buf);
            }
        }
    }

    #[test]
    fn a_publish_survives_the_way_there_and_back(publish in any_publish()) {
        let mut wire = open(Version::V5);
        let written = encoded(&mut wire, &Out::Publish(Box::new(publish.clone())));
        prop_assert_eq!(written.len(), wire.publish_length(&publish));
        let back = decode(&mut wire, &BytesMut::from(&written[..])).unwrap();
        prop_assert_eq!(format!("{back:?}"), format!("{:?}", In::Publish(Box::new(publish.clone()))));

        let mut wire = open(Version::V3);
        let written = encoded(&mut wire, &Out::Publish(Box::new(publish.clone())));
        prop_assert_eq!(written.len(), wire.publish_length(&publish));
        let plain = Publish { properties: PublishProperties::default(), ..publish };
        let back = decode(&mut wire, &BytesMut::from(&written[..])).unwrap();
        prop_assert_eq!(format!("{back:?}"), format!("{:?}", In::Publish(Box::new(plain))));
    }
}
