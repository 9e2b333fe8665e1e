//! What legal packets become.

use super::*;
use crate::packet::{RetainHandling, SubscribeFilter};
use codec_v5::{LastWill, UserProperty};
use rmqtt_codec::types::QoS;

/// As a client would write it.
fn from_v5(packet: codec_v5::Packet) -> BytesMut {
    let mut buf = BytesMut::new();
    codec_v5::Codec::default().encode(packet, &mut buf).unwrap();
    buf
}

fn from_v3(packet: codec_v3::Packet) -> BytesMut {
    let mut buf = BytesMut::new();
    codec_v3::Codec::default().encode(packet, &mut buf).unwrap();
    buf
}

fn property() -> UserProperty {
    ("format".into(), "cbor".into())
}

fn neutral_property() -> Vec<(String, String)> {
    vec![("format".to_owned(), "cbor".to_owned())]
}

#[test]
fn connect_5_in_full() {
    let connect = decode_connect(&from_v5(codec_v5::Packet::from(codec_v5::Connect {
        clean_start: true,
        keep_alive: 30,
        session_expiry_interval_secs: 3600,
        auth_method: Some("token".into()),
        auth_data: Some(Bytes::from_static(b"\0secret")),
        request_problem_info: false,
        request_response_info: true,
        receive_max: 20.try_into().ok(),
        topic_alias_max: 5,
        user_properties: vec![property()],
        max_packet_size: 4096.try_into().ok(),
        last_will: Some(LastWill {
            qos: QoS::ExactlyOnce,
            retain: true,
            topic: "will/topic".into(),
            message: Bytes::from_static(b"gone"),
            will_delay_interval_sec: Some(9),
            correlation_data: Some(Bytes::from_static(b"cd")),
            message_expiry_interval: 8.try_into().ok(),
            content_type: Some("text".into()),
            user_properties: vec![property()],
            is_utf8_payload: Some(true),
            response_topic: Some("answer".into()),
        }),
        client_id: "phone".into(),
        username: None,
        password: Some(Bytes::from_static(b"\xff\0")),
        cert: None,
    })))
    .unwrap();
    assert_eq!((connect.version, connect.clean_start, connect.keep_alive), (Version::V5, true, 30));
    assert_eq!(connect.client_id, "phone");
    // A password without a user name is legal in 5.
    assert_eq!((connect.username, connect.password.as_deref()), (None, Some(&b"\xff\0"[..])));
    assert_eq!(connect.session_expiry, Some(3600));
    assert_eq!((connect.receive_maximum, connect.maximum_packet_size), (20, Some(4096)));
    assert_eq!(connect.topic_alias_maximum, 5);
    assert!(connect.request_response_information && !connect.request_problem_information);
    assert_eq!(connect.user_properties, neutral_property());
    assert_eq!(connect.authentication_method.as_deref(), Some("token"));
    assert_eq!(connect.authentication_data.as_deref(), Some(&b"\0secret"[..]));
    let will = connect.will.unwrap();
    assert_eq!(will.delay, 9);
    assert_eq!((will.publish.topic.as_str(), &will.publish.payload[..]), ("will/topic", &b"gone"[..]));
    assert_eq!(
        (will.publish.qos, will.publish.retain, will.publish.packet_id),
        (Qos::ExactlyOnce, true, None)
    );
    let properties = will.publish.properties;
    assert!(properties.payload_is_utf8);
    assert_eq!(properties.message_expiry, Some(8));
    assert_eq!(properties.response_topic.as_deref(), Some("answer"));
    assert_eq!(properties.correlation_data.as_deref(), Some(&b"cd"[..]));
    assert_eq!(properties.content_type.as_deref(), Some("text"));
    assert_eq!(properties.user_properties, neutral_property());
}

#[test]
fn connect_5_tells_absent_from_zero() {
    let with =
        |properties: &[u8]| connect(5, 2, &join(&[&[properties.len() as u8], properties, &field("c")]));
    let bare = decode_connect(&with(&[])).unwrap();
    assert_eq!((bare.session_expiry, bare.receive_maximum, bare.topic_alias_maximum), (None, 65_535, 0));
    assert!(bare.request_problem_information && !bare.request_response_information);
    assert_eq!(decode_connect(&with(&[0x11, 0, 0, 0, 0])).unwrap().session_expiry, Some(0));
}

#[test]
fn connect_3_1_1_in_full() {
    let connect = decode_connect(&from_v3(codec_v3::Packet::from(codec_v3::Connect {
        clean_session: false,
        keep_alive: 0,
        last_will: Some(codec_v3::LastWill {
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: "t".into(),
            message: Bytes::new(),
        }),
        client_id: "phone".into(),
        username: Some("".into()),
        password: Some(Bytes::from_static(b"pw")),
        ..codec_v3::Connect::default()
    })))
    .unwrap();
    assert_eq!((connect.version, connect.clean_start, connect.keep_alive), (Version::V3, false, 0));
    assert_eq!((connect.username.as_deref(), connect.password.as_deref()), (Some(""), Some(&b"pw"[..])));
    let will = connect.will.unwrap().publish;
    assert_eq!((will.topic.as_str(), will.qos, will.retain), ("t", Qos::AtLeastOnce, false));
}

#[test]
fn publish_is_decoded_in_both_versions() {
    for (version, properties) in [(Version::V3, &[][..]), (Version::V5, &[0][..])] {
        let mut wire = open(version);
        let frame = frame(0x3D, &join(&[&field("a/ü"), &[0x12, 0x34], properties, b"body"]));
        let In::Publish(publish) = decode(&mut wire, &frame).unwrap() else { panic!() };
        assert_eq!((publish.topic.as_str(), &publish.payload[..]), ("a/ü", &b"body"[..]));
        assert_eq!((publish.qos, publish.dup, publish.retain), (Qos::ExactlyOnce, true, true));
        assert_eq!(publish.packet_id, Some(id(0x1234)));
    }
}

#[test]
fn publish_5_has_its_properties() {
    let properties = join(&[
        &[0x01, 1],
        &[0x02, 0, 0, 1, 0],
        &[0x23, 0, 9],
        &[0x08],
        &field("answer"),
        &[0x09],
        &field(b"\xff"),
        &[0x26],
        &field("k"),
        &field("v"),
        &[0x26],
        &field("k"),
        &field("v"),
        &[0x03],
        &field("json"),
    ]);
    let body = join(&[&field(""), &[properties.len() as u8], &properties]);
    let In::Publish(publish) = decode(&mut open(Version::V5), &frame(0x30, &body)).unwrap() else { panic!() };
    assert!(publish.topic.is_empty() && publish.payload.is_empty());
    let properties = publish.properties;
    assert!(properties.payload_is_utf8);
    assert_eq!((properties.message_expiry, properties.topic_alias), (Some(256), Some(9)));
    assert_eq!(properties.response_topic.as_deref(), Some("answer"));
    assert_eq!(properties.correlation_data.as_deref(), Some(&b"\xff"[..]));
    assert_eq!(properties.content_type.as_deref(), Some("json"));
    assert_eq!(properties.user_properties.len(), 2);
}

#[test]
fn a_message_expiry_of_zero_is_legal() {
    let body = join(&[&field("t"), &[5, 0x02, 0, 0, 0, 0], b"x"]);
    let In::Publish(publish) = decode(&mut open(Version::V5), &frame(0x30, &body)).unwrap() else { panic!() };
    assert_eq!(publish.properties.message_expiry, Some(0));
    let rest = join(&[&[0], &field("c"), &[5, 0x02, 0, 0, 0, 0], &field("t"), &field("x")]);
    let will = decode_connect(&connect(5, 0x06, &rest)).unwrap().will.unwrap();
    assert_eq!(will.publish.properties.message_expiry, Some(0));
}

#[test]
fn a_payload_does_not_pin_the_read_buffer() {
    let mut wire = open(Version::V5);
    let mut buf = BytesMut::with_capacity(4096);
    buf.extend_from_slice(&frame(0x30, &join(&[&field("t"), &[0], b"payload"])));
    let before = buf.capacity();
    let _publish = wire.decode(&mut buf).unwrap().unwrap();
    // Only an unshared buffer gets its front back.
    assert!(buf.try_reclaim(before));
}

#[test]
fn acknowledgements_are_decoded() {
    let mut wire = open(Version::V5);
    let mut ack = |first, body: &[u8]| decode(&mut wire, &frame(first, body)).unwrap();
    assert!(matches!(ack(0x40, &[0, 9]), In::PubAck(i, Reason::Success) if i == id(9)));
    assert!(matches!(ack(0x40, &[0, 9, 0x10]), In::PubAck(_, Reason::NoMatchingSubscribers)));
    assert!(matches!(ack(0x50, &[0, 9, 0x87, 0]), In::PubRec(_, Reason::NotAuthorized)));
    let detailed = join(&[&[0, 9, 0x92, 4, 0x1F], &field("x")]);
    assert!(matches!(ack(0x62, &detailed), In::PubRel(_, Reason::PacketIdentifierNotFound)));
    assert!(matches!(ack(0x70, &[0, 9]), In::PubComp(_, Reason::Success)));
    let mut wire = open(Version::V3);
    for first in [0x40, 0x50, 0x62, 0x70] {
        decode(&mut wire, &frame(first, &[0, 9])).unwrap();
    }
}

#[test]
fn subscribe_and_unsubscribe_are_decoded() {
    let options = SubscribeFilter {
        filter: "a/+".to_owned(),
        qos: Qos::AtLeastOnce,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Send,
    };
    let mut wire = open(Version::V3);
    let body = join(&[&[0, 1], &field("a/+"), &[1]]);
    match decode(&mut wire, &frame(0x82, &body)).unwrap() {
        In::Subscribe { packet_id, filters, subscription_id: None } => {
            assert_eq!((packet_id, filters), (id(1), vec![options.clone()]));
        }
        other => panic!("{other:?}"),
    }
    let mut wire = open(Version::V5);
    let body =
        join(&[&[0, 1, 5, 0x0B, 0xFF, 0xFF, 0xFF, 0x7F], &field("a/+"), &[1], &field("$share/g/b"), &[0x1A]]);
    match decode(&mut wire, &frame(0x82, &body)).unwrap() {
        In::Subscribe { filters, subscription_id: Some(268_435_455), .. } => {
            let second = SubscribeFilter {
                filter: "$share/g/b".to_owned(),
                qos: Qos::ExactlyOnce,
                no_local: false,
                retain_as_published: true,
                retain_handling: RetainHandling::SendIfNew,
            };
            assert_eq!(filters, [options, second]);
        }
        other => panic!("{other:?}"),
    }
    let body = join(&[&[0, 2, 0], &field("a"), &field("b")]);
    match decode(&mut wire, &frame(0xA2, &body)).unwrap() {
        In::Unsubscribe { packet_id, filters } => {
            assert_eq!((packet_id, filters), (id(2), vec!["a".into(), "b".into()]));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn ping_disconnect_and_auth_are_decoded() {
    let mut wire = open(Version::V5);
    assert!(matches!(decode(&mut wire, &frame(0xC0, &[])), Ok(In::PingReq)));
    assert!(matches!(
        decode(&mut wire, &frame(0xE0, &[])),
        Ok(In::Disconnect { reason: Reason::Success, session_expiry: None })
    ));
    assert!(matches!(
        decode(&mut wire, &frame(0xE0, &[4, 5, 0x11, 0, 0, 0, 7])),
        Ok(In::Disconnect { reason: Reason::DisconnectWithWill, session_expiry: Some(7) })
    ));
    let properties = join(&[&[0x15], &field("token"), &[0x16], &field(b"\0\xff")]);
    let body = join(&[&[0x19, properties.len() as u8], &properties]);
    match decode(&mut wire, &frame(0xF0, &body)).unwrap() {
        In::Auth { reason: Reason::ReAuthenticate, method, data } => {
            assert_eq!((method.as_str(), data.as_deref()), ("token", Some(&b"\0\xff"[..])));
        }
        other => panic!("{other:?}"),
    }
    let mut wire = open(Version::V3);
    assert!(matches!(decode(&mut wire, &frame(0xC0, &[])), Ok(In::PingReq)));
    assert!(matches!(
        decode(&mut wire, &frame(0xE0, &[])),
        Ok(In::Disconnect { reason: Reason::Success, .. })
    ));
}

#[test]
fn several_packets_in_one_buffer_come_out_one_by_one() {
    let mut wire = open(Version::V3);
    let mut buf = BytesMut::new();
    buf.extend_from_slice(&frame(0x30, &join(&[&field("t"), b"1"])));
    buf.extend_from_slice(&frame(0xC0, &[]));
    buf.extend_from_slice(&frame(0x30, &join(&[&field("t"), b"2"]))[..4]);
    assert!(matches!(wire.decode(&mut buf), Ok(Some(In::Publish(publish))) if publish.payload[..] == *b"1"));
    assert!(matches!(wire.decode(&mut buf), Ok(Some(In::PingReq))));
    assert!(matches!(wire.decode(&mut buf), Ok(None)));
    assert_eq!(buf.len(), 4);
}
