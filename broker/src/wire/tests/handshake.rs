//! The first packet: version, limits before authentication, and how refusals are answered.

use super::*;

/// The error of a wire that is given `bytes`, and the reply it writes.
fn refused(bytes: &[u8]) -> (WireError, Vec<u8>) {
    let mut wire = Wire::new(LIMIT);
    let error = wire.decode(&mut BytesMut::from(bytes)).unwrap_err();
    let mut buf = BytesMut::new();
    if let Some(reply) = error.reply() {
        assert_eq!(wire.encode(&reply, &mut buf), Encoded::Written);
    }
    (error, buf.to_vec())
}

#[test]
fn the_version_is_told_by_connect() {
    let mut wire = Wire::new(LIMIT);
    assert_eq!(wire.version(), None);
    decode(&mut wire, &connect(4, 2, &field(""))).unwrap();
    assert_eq!(wire.version(), Some(Version::V3));
    let mut wire = Wire::new(LIMIT);
    decode(&mut wire, &connect(5, 2, &join(&[&[0], &field("")]))).unwrap();
    assert_eq!(wire.version(), Some(Version::V5));
}

#[test]
fn what_does_not_speak_mqtt_gets_no_answer() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"\x16\x03\x01\x02\x00",
        b"\xc0",
        b"\x11",
        b"\x10\x0c\0\x04HTTP",
        b"\x10\x05\0\x04MQT",
        b"\x10\x06\0\x04MQTT",
        b"\x10\x00",
        b"\x10\xff\xff\xff\xff",
        b"\x10\x10\0\x05MQTT5",
    ] {
        let (error, reply) = refused(bytes);
        assert_eq!(error.answer, Answer::Nothing, "{bytes:x?}");
        assert!(reply.is_empty());
    }
}

#[test]
fn an_unsupported_version_is_answered_in_a_form_its_sender_can_read() {
    let v3_refusal = [0x20, 2, 0, 1];
    // Protocol level 3 has another name. [MQTT-3.1.2-2]
    let mqisdp = frame(0x10, &join(&[b"\0\x06MQIsdp\x03\x02\0\x3c", &field("c")]));
    assert_eq!(refused(&mqisdp).1, v3_refusal);
    assert_eq!(refused(&connect(3, 2, &field("c"))).1, v3_refusal);
    assert_eq!(refused(&connect(0x84, 2, &field("c"))).1, v3_refusal);
    let (error, reply) = refused(&connect(6, 2, &join(&[&[0], &field("c")])));
    assert_eq!(error.reason, Reason::UnsupportedProtocolVersion);
    assert_eq!(reply[..4], [0x20, reply.len() as u8 - 2, 0, 0x84]);
}

#[test]
fn a_connect_arrives_byte_by_byte() {
    let whole = connect(5, 2, &join(&[&[0], &field("client")]));
    let mut wire = Wire::new(LIMIT);
    let mut buf = BytesMut::new();
    for &byte in &whole[..whole.len() - 1] {
        buf.extend_from_slice(&[byte]);
        assert!(wire.decode(&mut buf).unwrap().is_none());
    }
    buf.extend_from_slice(&whole[whole.len() - 1..]);
    assert!(matches!(wire.decode(&mut buf), Ok(Some(In::Connect(_)))));
    assert!(buf.is_empty());
}

#[test]
fn a_declared_length_reserves_nothing() {
    let mut wire = open(Version::V5);
    wire.set_max_packet_size(64 << 20);
    let mut buf = BytesMut::from(&[0x30, 0x80, 0x80, 0x80, 0x10][..]);
    let before = buf.capacity();
    assert!(wire.decode(&mut buf).unwrap().is_none());
    assert_eq!(buf.capacity(), before);
}

#[test]
fn a_malformed_connect_is_answered_with_connack_in_5_only() {
    // [MQTT-3.1.4-1]
    let (error, reply) = refused(&connect(4, 3, &field("c")));
    assert_eq!((error.reason, error.answer), (Reason::MalformedPacket, Answer::Nothing));
    assert!(reply.is_empty());
    let (error, reply) = refused(&connect(5, 3, &join(&[&[0], &field("c")])));
    assert_eq!((error.reason, error.answer), (Reason::MalformedPacket, Answer::ConnAck));
    assert_eq!((reply[0], reply[3]), (0x20, 0x81));
}

#[test]
fn an_empty_client_identifier_needs_clean_session_in_3_1_1_only() {
    // 3.1.1: [MQTT-3.1.3-8]
    let (error, reply) = refused(&connect(4, 0, &field("")));
    assert_eq!(error.reason, Reason::ClientIdentifierNotValid);
    assert_eq!(reply, [0x20, 2, 0, 2]);
    // A broken CONNECT stays unanswered even so.
    assert_eq!(refused(&connect(4, 0, &join(&[&field(""), b"x"]))).0.answer, Answer::Nothing);

    let connect = decode_connect(&connect(5, 0, &join(&[&[0], &field("")]))).unwrap();
    assert!(!connect.clean_start && connect.client_id.is_empty());
}

#[test]
fn the_limit_before_authentication_counts_the_whole_packet() {
    let exact = |length: usize| connect(4, 0x82, &join(&[&field("c"), &field(vec![b'u'; length - 18])]));
    for (version_limit, accepted) in [(300, true), (299, false)] {
        let frame = exact(300);
        assert_eq!(frame.len(), 300);
        let result = Wire::new(version_limit).decode(&mut frame.clone());
        assert_eq!(result.is_ok(), accepted);
    }
    // Refused on its header, without waiting for the rest; in 5 with an answer.
    let (error, reply) = refused(b"\x10\xff\xff\x03\0\x04MQTT\x05");
    assert_eq!((error.reason, error.answer), (Reason::PacketTooLarge, Answer::ConnAck));
    assert_eq!(reply[3], 0x95);
    assert_eq!(refused(b"\x10\xff\xff\x03\0\x04MQTT\x04").0.answer, Answer::Nothing);
}

#[test]
fn the_limit_after_authentication_is_another() {
    for version in [Version::V3, Version::V5] {
        let mut wire = open(version);
        let empty_properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
        let frame = frame(0x30, &join(&[&field("t"), empty_properties, &vec![b'x'; 20_000]]));
        assert_eq!(decode(&mut wire, &frame).unwrap_err().reason, Reason::PacketTooLarge);
        wire.set_max_packet_size(frame.len() as u32 - 1);
        assert_eq!(decode(&mut wire, &frame).unwrap_err().reason, Reason::PacketTooLarge);
        wire.set_max_packet_size(frame.len() as u32);
        assert!(
            matches!(decode(&mut wire, &frame), Ok(In::Publish(publish)) if publish.payload.len() == 20_000)
        );
    }
}

#[test]
fn connect_comes_first_and_once() {
    // [MQTT-3.1.0-1], [MQTT-3.1.0-2]
    assert_eq!(refused(&[0xC0, 0]).0.reason, Reason::ProtocolError);
    let again = connect(5, 2, &join(&[&[0], &field("c")]));
    let error = decode(&mut open(Version::V5), &again).unwrap_err();
    assert_eq!((error.reason, error.answer), (Reason::ProtocolError, Answer::Disconnect));
    let again = connect(4, 2, &field("c"));
    let error = decode(&mut open(Version::V3), &again).unwrap_err();
    assert_eq!((error.reason, error.answer), (Reason::ProtocolError, Answer::Nothing));
}

#[test]
fn no_disconnect_is_sent_before_an_accepting_connack() {
    // [MQTT-3.14.0-1]
    let mut wire = Wire::new(LIMIT);
    decode(&mut wire, &connect(5, 2, &join(&[&[0], &field("c")]))).unwrap();
    let mut buf = BytesMut::new();
    let disconnect = Out::Disconnect(Reason::ServerBusy, AckProperties::default());
    assert_eq!(wire.encode(&disconnect, &mut buf), Encoded::NoForm);
    // What a client sends ahead of the CONNACK is answered with a CONNACK too.
    let error = decode(&mut wire, &frame(0xC0, &[1])).unwrap_err();
    assert_eq!(error.answer, Answer::ConnAck);
    assert!(buf.is_empty());
    assert_eq!(wire.encode(&accepted(), &mut buf), Encoded::Written);
    assert_eq!(wire.encode(&disconnect, &mut buf), Encoded::Written);
}
