//! Rules about flags, codes and text, not by example but over all there is.

use super::*;

const VERSIONS: [(Version, u8, &[u8]); 2] = [(Version::V3, 4, &[]), (Version::V5, 5, &[0])];

/// `[MQTT-2.1.3-1]`, `[MQTT-3.6.1-1]`, `[MQTT-3.8.1-1]`, `[MQTT-3.10.1-1]`, `[MQTT-3.14.1-1]`, `[MQTT-3.15.1-1]`,
/// `[MQTT-3.1.0-2]`; 3.1.1: `[MQTT-2.2.2-1]`, `[MQTT-2.2.2-2]`. The first byte is enough: the rest is not waited for.
#[test]
fn types_and_flags_of_the_fixed_header() {
    for (version, ..) in VERSIONS {
        for first in 0..=u8::MAX {
            let (kind, flags) = (first >> 4, first & 0x0F);
            let expected = match kind {
                0 => Some(Reason::MalformedPacket),
                15 if version == Version::V3 => Some(Reason::MalformedPacket),
                // A second CONNECT, and what only a server may send.
                1 | 2 | 9 | 11 | 13 => Some(Reason::ProtocolError),
                // QoS 3 and DUP at QoS 0 are seen once the packet is whole.
                3 => None,
                6 | 8 | 10 => (flags != 2).then_some(Reason::MalformedPacket),
                _ => (flags != 0).then_some(Reason::MalformedPacket),
            };
            let seen = open(version).decode(&mut BytesMut::from(&[first][..])).err();
            assert_eq!(seen.map(|error| error.reason), expected, "{version:?} {first:#04x}");
        }
    }
}

/// `[MQTT-3.3.1-2]`, `[MQTT-3.3.1-4]`, `[MQTT-2.2.1-2]` (3.1.1: `[MQTT-2.3.1-5]`).
#[test]
fn flags_of_publish() {
    for (version, _, properties) in VERSIONS {
        for flags in 0..16_u8 {
            let qos = (flags >> 1) & 3;
            let id: &[u8] = if qos > 0 { &[0, 7] } else { &[] };
            let result =
                decode(&mut open(version), &frame(0x30 | flags, &join(&[&field("t"), id, properties, b"x"])));
            if qos == 3 || qos == 0 && flags & 8 != 0 {
                assert_eq!(result.unwrap_err().reason, Reason::MalformedPacket, "{version:?} {flags:#x}");
            } else {
                let In::Publish(publish) = result.unwrap() else { panic!() };
                assert_eq!(publish.packet_id.is_some(), qos > 0);
                assert_eq!(&publish.payload[..], b"x");
            }
        }
    }
}

/// The fields that these connect flags announce.
fn announced(flags: u8, properties: &[u8]) -> Vec<Vec<u8>> {
    let mut fields = vec![properties.to_vec(), field("c")];
    if flags & 0x04 != 0 {
        fields.extend([properties.to_vec(), field("t"), field("x")]);
    }
    // User name, password.
    fields.extend([0x80, 0x40].iter().filter(|flag| flags & **flag != 0).map(|_| field("u")));
    fields
}

/// `[MQTT-3.1.2-3]`, `[MQTT-3.1.2-9]`, `[MQTT-3.1.2-11]` to `[MQTT-3.1.2-13]`, `[MQTT-3.1.2-16]` to `[MQTT-3.1.2-19]`,
/// `[MQTT-3.1.3-1]`, `[MQTT-3.1.4-1]`; 3.1.1: `[MQTT-3.1.2-3]`, `[MQTT-3.1.2-9]`, `[MQTT-3.1.2-11]`, `[MQTT-3.1.2-13]` to
/// `[MQTT-3.1.2-15]`, `[MQTT-3.1.2-18]` to `[MQTT-3.1.2-22]`, `[MQTT-3.1.3-1]`, `[MQTT-3.1.4-1]`.
#[test]
fn connect_flags_and_what_they_announce() {
    for (version, level, properties) in VERSIONS {
        for flags in 0..=u8::MAX {
            let (will, will_qos, will_retain) = (flags & 0x04 != 0, (flags >> 3) & 3, flags & 0x20 != 0);
            let (user_name, password) = (flags & 0x80 != 0, flags & 0x40 != 0);
            let legal = flags & 1 == 0
                && (will || will_qos == 0 && !will_retain)
                && will_qos < 3
                && (version == Version::V5 || user_name || !password);
            let fields = announced(flags, properties);
            let result = decode_connect(&connect(level, flags, &fields.concat()));
            if !legal {
                assert_eq!(result.unwrap_err().reason, Reason::MalformedPacket, "{version:?} {flags:#04x}");
                continue;
            }
            let connect_packet = result.unwrap();
            assert_eq!(connect_packet.clean_start, flags & 2 != 0);
            assert_eq!(connect_packet.will.is_some(), will);
            assert_eq!(connect_packet.username.is_some(), user_name);
            assert_eq!(connect_packet.password.is_some(), password);
            let one_less = fields[..fields.len() - 1].concat();
            let one_more = join(&[&fields.concat(), &field("y")]);
            for other in [one_less, one_more] {
                let error = decode_connect(&connect(level, flags, &other)).unwrap_err();
                assert_eq!(error.reason, Reason::MalformedPacket, "{version:?} {flags:#04x} {other:x?}");
            }
        }
    }
}

/// `[MQTT-3.1.4-1]`: it ends with its last field, and nowhere before.
#[test]
fn a_connect_that_ends_too_early_is_refused() {
    for (_, level, properties) in VERSIONS {
        let whole = connect(level, 0xC6, &announced(0xC6, properties).concat());
        decode_connect(&whole).unwrap();
        for length in 0..whole.len() - 2 {
            let cut = frame(0x10, &whole[2..2 + length]);
            assert!(Wire::new(LIMIT).decode(&mut cut.clone()).is_err(), "{cut:x?}");
        }
    }
}

/// `[MQTT-3.1.3-3]` to `[MQTT-3.1.3-5]`.
#[test]
fn client_identifiers_of_letters_and_digits_are_taken() {
    const LETTERS: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for (_, level, properties) in VERSIONS {
        for id in
            (0..LETTERS.len()).map(|at| &LETTERS[at..(at + 23).min(LETTERS.len())]).chain(["ü/+#$ \u{FEFF}"])
        {
            let connect = decode_connect(&connect(level, 2, &join(&[properties, &field(id)]))).unwrap();
            assert_eq!(connect.client_id, id);
        }
    }
}

/// `[MQTT-1.5.4-1]`, `[MQTT-1.5.4-2]`, `[MQTT-3.1.3-4]`, `[MQTT-3.1.3-11]`, `[MQTT-3.1.3-12]`, `[MQTT-3.3.2-1]`, `[MQTT-3.8.3-1]`,
/// `[MQTT-3.10.3-1]`, `[MQTT-4.7.3-2]`; 3.1.1: `[MQTT-1.5.3-1]`, `[MQTT-1.5.3-2]`, `[MQTT-3.1.3-4]`, `[MQTT-3.1.3-10]`,
/// `[MQTT-3.1.3-11]`, `[MQTT-3.3.2-1]`, `[MQTT-3.8.3-1]`, `[MQTT-3.10.3-1]`, `[MQTT-4.7.3-2]`.
#[test]
fn every_text_is_utf_8_without_nul() {
    for (version, level, properties) in VERSIONS {
        for bad in BAD_TEXTS {
            let bad = &field(bad);
            let (none, other) = (properties, &field("x"));
            for (flags, rest) in [
                (0x02, join(&[none, bad])),
                (0x06, join(&[none, other, none, bad, other])),
                (0x82, join(&[none, other, bad])),
            ] {
                let error = decode_connect(&connect(level, flags, &rest)).unwrap_err();
                assert_eq!(error.reason, Reason::MalformedPacket, "{version:?} {flags:#04x} {bad:x?}");
            }
            for (first, body) in [
                (0x30, join(&[bad, none])),
                (0x32, join(&[bad, &[0, 1], none])),
                (0x82, join(&[&[0, 1], none, bad, &[0]])),
                (0x82, join(&[&[0, 1], none, other, &[0], bad, &[0]])),
                (0xA2, join(&[&[0, 1], none, bad])),
                (0xA2, join(&[&[0, 1], none, other, bad])),
            ] {
                let error = decode(&mut open(version), &frame(first, &body)).unwrap_err();
                assert_eq!(error.reason, Reason::MalformedPacket, "{version:?} {first:#04x} {bad:x?}");
            }
        }
    }
}

/// `[MQTT-1.5.4-3]` (3.1.1: `[MQTT-1.5.3-3]`); nor is anything else normalized `[MQTT-4.7.3-4]`.
#[test]
fn text_stays_as_it_was_sent() {
    for (version, level, properties) in VERSIONS {
        // U+FEFF before, within and after; ü in two spellings; what is no character; a control character.
        for text in ["\u{FEFF}a\u{FEFF}/b\u{FEFF}", "ü", "u\u{308}", "\u{FFFF}", "a\u{1}", " a ", "A/a", "//"]
        {
            let connect = decode_connect(&connect(
                level,
                0x86,
                &join(&[properties, &field(text), properties, &field(text), &field("x"), &field(text)]),
            ))
            .unwrap();
            assert_eq!((&*connect.client_id, connect.username.as_deref()), (text, Some(text)));
            assert_eq!(connect.will.unwrap().publish.topic, text);
            let wire = &mut open(version);
            match decode(wire, &frame(0x30, &join(&[&field(text), properties]))).unwrap() {
                In::Publish(publish) => assert_eq!(publish.topic, text),
                other => panic!("{other:?}"),
            }
            match decode(wire, &frame(0x82, &join(&[&[0, 1], properties, &field(text), &[0]]))).unwrap() {
                In::Subscribe { filters, .. } => assert_eq!(filters[0].filter, text),
                other => panic!("{other:?}"),
            }
            match decode(wire, &frame(0xA2, &join(&[&[0, 1], properties, &field(text)]))).unwrap() {
                In::Unsubscribe { filters, .. } => assert_eq!(filters, [text]),
                other => panic!("{other:?}"),
            }
        }
    }
}

/// `[MQTT-4.7.1-1]`, `[MQTT-4.7.1-2]`; 3.1.1: `[MQTT-4.7.1-2]`, `[MQTT-4.7.1-3]`.
#[test]
fn wildcards_of_filters_have_their_level_for_themselves() {
    let subscribe = |version, properties: &[u8], filter: &str| {
        decode(&mut open(version), &frame(0x82, &join(&[&[0, 1], properties, &field(filter), &[0]])))
    };
    let unsubscribe = |version, properties: &[u8], filter: &str| {
        decode(&mut open(version), &frame(0xA2, &join(&[&[0, 1], properties, &field(filter)])))
    };
    for (version, _, properties) in VERSIONS {
        for filter in [
            "#/",
            "a/#/b",
            "#/a",
            "a#",
            "#a",
            "##",
            "+a",
            "a+",
            "a/b+/c",
            "++",
            "+#",
            "$share/g/a#",
            "$share/g/#/b",
        ] {
            for result in [subscribe(version, properties, filter), unsubscribe(version, properties, filter)] {
                assert_eq!(result.unwrap_err().reason, Reason::MalformedPacket, "{version:?} {filter}");
            }
        }
        for filter in [
            "#",
            "+",
            "/",
            "//",
            "/#",
            "+/+",
            "+/#",
            "a/+/b",
            "/+/",
            "a/#",
            "$share/g/#",
            "$share/g/+/a",
            "$SYS/#",
        ] {
            subscribe(version, properties, filter).unwrap();
            unsubscribe(version, properties, filter).unwrap();
        }
    }
}

/// `[MQTT-3.8.3-5]`, section 3.8.3.1; 3.1.1: `[MQTT-3.8.3-4]`.
#[test]
fn subscription_options() {
    for (version, _, properties) in VERSIONS {
        for options in 0..=u8::MAX {
            let reserved = if version == Version::V5 { 0xC0 } else { 0xFC };
            let (qos, retain_handling) = (options & 3, (options >> 4) & 3);
            let expected = if options & reserved != 0 {
                Some(Reason::MalformedPacket)
            } else {
                (qos == 3 || retain_handling == 3).then_some(Reason::ProtocolError)
            };
            let body = join(&[&[0, 1], properties, &field("t"), &[options]]);
            let seen = decode(&mut open(version), &frame(0x82, &body)).err();
            assert_eq!(seen.map(|error| error.reason), expected, "{version:?} {options:#04x}");
        }
    }
}

/// `[MQTT-3.4.2-1]`, `[MQTT-3.5.2-1]`, `[MQTT-3.6.2-1]`, `[MQTT-3.7.2-1]`, `[MQTT-3.14.2-1]`, `[MQTT-3.15.2-1]`.
#[test]
fn reason_codes_that_a_client_may_use() {
    const PUBACK: [u8; 9] = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
    const PUBREL: [u8; 2] = [0x00, 0x92];
    const DISCONNECT: [u8; 14] =
        [0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99];
    const AUTH: [u8; 2] = [0x18, 0x19];
    for code in 0..=u8::MAX {
        for (first, before, codes) in [
            (0x40, &[0, 1][..], &PUBACK[..]),
            (0x50, &[0, 1], &PUBACK),
            (0x62, &[0, 1], &PUBREL),
            (0x70, &[0, 1], &PUBREL),
            (0xE0, &[], &DISCONNECT),
            (0xF0, &[], &AUTH),
        ] {
            let body = join(&[before, &[code], &section(if first == 0xF0 { b"\x15\0\x01m" } else { b"" })]);
            let seen = decode(&mut open(Version::V5), &frame(first, &body)).err().map(|error| error.reason);
            let expected = if codes.contains(&code) {
                None
            } else if first < 0xE0 {
                Some(Reason::MalformedPacket)
            } else {
                Some(Reason::ProtocolError)
            };
            assert_eq!(seen, expected, "{code:#04x} in {first:#04x}");
        }
    }
}

/// `[MQTT-2.2.1-3]` (3.1.1: `[MQTT-2.3.1-1]`).
#[test]
fn packet_identifiers_are_not_zero() {
    for (version, _, properties) in VERSIONS {
        for (id, legal) in [([0, 0], false), ([0, 1], true), ([1, 0], true), ([0xFF, 0xFF], true)] {
            for (first, body) in [
                (0x32, join(&[&field("t"), &id, properties])),
                (0x34, join(&[&field("t"), &id, properties])),
                (0x40, id.to_vec()),
                (0x50, id.to_vec()),
                (0x62, id.to_vec()),
                (0x70, id.to_vec()),
                (0x82, join(&[&id, properties, &field("t"), &[0]])),
                (0xA2, join(&[&id, properties, &field("t")])),
            ] {
                let seen = decode(&mut open(version), &frame(first, &body)).err().map(|error| error.reason);
                let expected = (!legal).then_some(Reason::ProtocolError);
                assert_eq!(seen, expected, "{version:?} {first:#04x} {id:x?}");
            }
        }
    }
}
