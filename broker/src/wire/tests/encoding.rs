//! What the server sends.

use super::*;
use crate::packet::PublishProperties;

fn ack_properties(reason: &str, user: &str) -> AckProperties {
    AckProperties {
        reason_string: (!reason.is_empty()).then(|| reason.to_owned()),
        user_properties: if user.is_empty() { Vec::new() } else { vec![("k".to_owned(), user.to_owned())] },
    }
}

fn none() -> AckProperties {
    AckProperties::default()
}

#[test]
fn outbound_packets_of_3_1_1() {
    let mut wire = open(Version::V3);
    let loud = || ack_properties("reason", "user");
    for (out, expected) in [
        (Out::PubAck(id(1), Reason::NotAuthorized, loud()), &[0x40, 2, 0, 1][..]),
        (Out::PubRec(id(1), Reason::QuotaExceeded, loud()), &[0x50, 2, 0, 1]),
        (Out::PubRel(id(1), Reason::Success), &[0x62, 2, 0, 1]),
        (Out::PubComp(id(1), Reason::PacketIdentifierNotFound), &[0x70, 2, 0, 1]),
        (
            Out::SubAck(
                id(1),
                vec![Reason::Success, Reason::GrantedQos1, Reason::GrantedQos2, Reason::TopicFilterInvalid],
                loud(),
            ),
            &[0x90, 6, 0, 1, 0, 1, 2, 0x80],
        ),
        (Out::UnsubAck(id(1), vec![Reason::NoSubscriptionExisted]), &[0xB0, 2, 0, 1]),
        (Out::PingResp, &[0xD0, 0]),
        (Out::Publish(Box::new(publish("t", Qos::AtLeastOnce))), b"\x32\x0c\0\x01t\0\x07payload"),
        (Out::Publish(Box::new(publish("t", Qos::AtMostOnce))), b"\x30\x0a\0\x01tpayload"),
    ] {
        assert_eq!(encoded(&mut wire, &out), expected, "{out:?}");
    }
    for out in [
        Out::Disconnect(Reason::SessionTakenOver, none()),
        Out::Auth { reason: Reason::ContinueAuthentication, method: "token".to_owned() },
    ] {
        let mut buf = BytesMut::new();
        assert_eq!(wire.encode(&out, &mut buf), Encoded::NoForm);
        assert!(buf.is_empty());
    }
}

#[test]
fn connack_of_3_1_1_has_its_own_codes() {
    for (reason, code) in [
        (Reason::Success, Some([1, 0])),
        (Reason::UnsupportedProtocolVersion, Some([0, 1])),
        (Reason::ClientIdentifierNotValid, Some([0, 2])),
        (Reason::ServerUnavailable, Some([0, 3])),
        (Reason::ImplementationSpecificError, Some([0, 5])),
        (Reason::ServerBusy, Some([0, 3])),
        (Reason::ConnectionRateExceeded, Some([0, 3])),
        (Reason::BadUserNameOrPassword, Some([0, 4])),
        (Reason::NotAuthorized, Some([0, 5])),
        (Reason::Banned, Some([0, 5])),
        // 3.1.1: [MQTT-3.1.4-1]
        (Reason::MalformedPacket, None),
    ] {
        let mut wire = Wire::new(LIMIT);
        decode(&mut wire, &connect(4, 2, &field("c"))).unwrap();
        let out = Out::ConnAck { session_present: true, reason, properties: Box::default() };
        let mut buf = BytesMut::new();
        wire.encode(&out, &mut buf);
        let expected = code.map(|[present, code]| vec![0x20, 2, present, code]).unwrap_or_default();
        assert_eq!(buf, expected, "{reason:?}");
    }
}

#[test]
fn outbound_packets_of_5() {
    let mut wire = open(Version::V5);
    for (out, expected) in [
        (Out::PubAck(id(1), Reason::Success, none()), &[0x40, 2, 0, 1][..]),
        (Out::PubAck(id(1), Reason::TopicNameInvalid, none()), &[0x40, 4, 0, 1, 0x90, 0]),
        (
            Out::PubAck(id(1), Reason::Success, ack_properties("", "v")),
            b"\x40\x0b\0\x01\0\x07\x26\0\x01k\0\x01v",
        ),
        (
            Out::PubRec(id(1), Reason::QuotaExceeded, ack_properties("r", "")),
            b"\x50\x08\0\x01\x97\x04\x1f\0\x01r",
        ),
        (Out::PubRel(id(1), Reason::Success), &[0x62, 2, 0, 1]),
        (Out::PubComp(id(1), Reason::PacketIdentifierNotFound), &[0x70, 4, 0, 1, 0x92, 0]),
        (
            Out::SubAck(id(1), vec![Reason::GrantedQos1, Reason::TopicFilterInvalid], none()),
            &[0x90, 5, 0, 1, 0, 1, 0x8F],
        ),
        (
            Out::UnsubAck(id(1), vec![Reason::Success, Reason::NoSubscriptionExisted]),
            &[0xB0, 5, 0, 1, 0, 0, 0x11],
        ),
        (Out::PingResp, &[0xD0, 0]),
        (Out::Disconnect(Reason::SessionTakenOver, none()), &[0xE0, 2, 0x8E, 0]),
        (Out::Auth { reason: Reason::Success, method: "m".to_owned() }, b"\xf0\x06\0\x04\x15\0\x01m"),
        // Codes the packet cannot carry.
        (Out::PubAck(id(1), Reason::ServerBusy, none()), &[0x40, 4, 0, 1, 0x80, 0]),
        (Out::Disconnect(Reason::BadAuthenticationMethod, none()), &[0xE0, 2, 0x87, 0]),
    ] {
        assert_eq!(encoded(&mut wire, &out), expected, "{out:?}");
    }
}

#[test]
fn connack_of_5_in_full() {
    let mut wire = Wire::new(LIMIT);
    decode(&mut wire, &connect(5, 2, &join(&[&[0], &field("")]))).unwrap();
    let properties = ConnAckProperties {
        session_expiry: Some(60),
        receive_maximum: Some(64),
        maximum_qos: Some(1),
        retain_available: Some(false),
        maximum_packet_size: Some(262_144),
        assigned_client_id: Some("assigned".to_owned()),
        topic_alias_maximum: Some(3),
        reason_string: Some("reason".to_owned()),
        wildcard_available: Some(true),
        subscription_ids_available: Some(false),
        shared_available: Some(false),
        server_keep_alive: Some(90),
        response_information: Some("users/1/x/".to_owned()),
        authentication_method: Some("token".to_owned()),
        user_properties: vec![("k".to_owned(), "v".to_owned())],
    };
    let out =
        Out::ConnAck { session_present: true, reason: Reason::Success, properties: Box::new(properties) };
    let mut buf = BytesMut::from(&encoded(&mut wire, &out)[..]);
    let (packet, _) = codec_v5::Codec::default().decode(&mut buf).unwrap().unwrap();
    let codec_v5::Packet::ConnectAck(ack) = packet else { panic!("{packet:?}") };
    assert!(ack.session_present);
    assert_eq!((ack.session_expiry_interval_secs, ack.receive_max.get()), (Some(60), 64));
    assert_eq!((ack.max_qos, ack.retain_available), (rmqtt_codec::types::QoS::AtLeastOnce, false));
    assert_eq!((ack.max_packet_size, ack.topic_alias_max), (Some(262_144), 3));
    assert_eq!(ack.assigned_client_id.as_deref(), Some("assigned"));
    assert_eq!(ack.reason_string.as_deref(), Some("reason"));
    assert!(ack.wildcard_subscription_available);
    assert!(!ack.subscription_identifiers_available && !ack.shared_subscription_available);
    assert_eq!((ack.server_keepalive_sec, ack.auth_method.as_deref()), (Some(90), Some("token")));
    assert_eq!(ack.response_info.as_deref(), Some("users/1/x/"));
    assert_eq!(ack.user_properties.len(), 1);

    // [MQTT-3.2.2-6]
    let out = Out::ConnAck {
        session_present: true,
        reason: Reason::ServerShuttingDown,
        properties: Box::default(),
    };
    assert_eq!(encoded(&mut wire, &out), [0x20, 3, 0, 0x88, 0]);
}

#[test]
fn publish_of_5_in_full() {
    let mut wire = open(Version::V5);
    let sent = Publish {
        dup: true,
        retain: true,
        properties: PublishProperties {
            payload_is_utf8: true,
            message_expiry: Some(17),
            topic_alias: Some(2),
            response_topic: Some("answer".to_owned()),
            correlation_data: Some(Bytes::from_static(b"cd")),
            user_properties: vec![("k".to_owned(), "v".to_owned())],
            subscription_ids: vec![1, 268_435_455],
            content_type: Some("json".to_owned()),
        },
        ..publish("topic", Qos::ExactlyOnce)
    };
    let mut buf = BytesMut::from(&encoded(&mut wire, &Out::Publish(Box::new(sent)))[..]);
    let (packet, _) = codec_v5::Codec::default().decode(&mut buf).unwrap().unwrap();
    let codec_v5::Packet::Publish(publish) = packet else { panic!("{packet:?}") };
    assert!(publish.dup && publish.retain);
    assert_eq!((&*publish.topic, publish.packet_id), ("topic", Some(id(7))));
    assert_eq!(publish.payload, "payload");
    let properties = publish.properties.unwrap();
    assert!(properties.is_utf8_payload);
    assert_eq!(properties.message_expiry_interval.map(Into::into), Some(17));
    assert_eq!(properties.topic_alias.map(Into::into), Some(2));
    assert_eq!(properties.response_topic.as_deref(), Some("answer"));
    assert_eq!(properties.correlation_data.as_deref(), Some(&b"cd"[..]));
    assert_eq!(properties.subscription_ids.len(), 2);
    assert_eq!(properties.content_type.as_deref(), Some("json"));
    assert_eq!(properties.user_properties.len(), 1);
}

#[test]
fn a_message_expiry_of_zero_is_written_as_zero() {
    let mut wire = open(Version::V5);
    for (alias, correlation_data) in [(None, None), (Some(3), Some(Bytes::from(vec![9; 200])))] {
        let mut sent = publish("topic", Qos::AtLeastOnce);
        sent.properties.message_expiry = Some(0);
        sent.properties.topic_alias = alias;
        sent.properties.correlation_data = correlation_data;
        let written = encoded(&mut wire, &Out::Publish(Box::new(sent.clone())));
        let In::Publish(back) = decode(&mut open(Version::V5), &BytesMut::from(&written[..])).unwrap() else {
            panic!()
        };
        assert_eq!(back.properties.message_expiry, Some(0));
        assert_eq!(back.properties.correlation_data, sent.properties.correlation_data);
        assert_eq!((back.topic, back.payload), (sent.topic, sent.payload));
    }
}

#[test]
fn values_the_standard_does_not_know_are_left_out() {
    let mut wire = open(Version::V5);
    let mut sent = publish("t", Qos::AtMostOnce);
    sent.dup = true;
    sent.packet_id = Some(id(1));
    sent.properties.topic_alias = Some(0);
    sent.properties.subscription_ids = vec![0, u32::MAX];
    assert_eq!(encoded(&mut wire, &Out::Publish(Box::new(sent))), b"\x30\x0b\0\x01t\0payload");
}

/// Maximum Packet Size.
fn limited(size: u32) -> Wire {
    open_with(Version::V5, &join(&[&[0x27], &size.to_be_bytes()]))
}

#[test]
fn acknowledgements_shed_what_does_not_fit() {
    // [MQTT-3.4.2-2], [MQTT-3.4.2-3]
    let out = Out::PubAck(id(1), Reason::NotAuthorized, ack_properties("code", "user"));
    let both = encoded(&mut limited(24), &out);
    assert_eq!(both.len(), 23);
    let reason_only = encoded(&mut limited(22), &out);
    assert_eq!(reason_only, b"\x40\x0b\0\x01\x87\x07\x1f\0\x04code");
    assert_eq!(encoded(&mut limited(13), &out), reason_only);
    assert_eq!(encoded(&mut limited(12), &out), [0x40, 4, 0, 1, 0x87, 0]);
    let mut buf = BytesMut::new();
    assert_eq!(limited(5).encode(&out, &mut buf), Encoded::TooLarge);
    assert!(buf.is_empty());
    assert_eq!(encoded(&mut limited(5), &Out::PubAck(id(1), Reason::Success, none())), [0x40, 2, 0, 1]);
    // Likewise a text that no packet can hold.
    let out = Out::Disconnect(Reason::ServerBusy, ack_properties(&"x".repeat(70_000), ""));
    assert_eq!(encoded(&mut open(Version::V5), &out), [0xE0, 2, 0x89, 0]);
}

#[test]
fn a_publish_larger_than_the_client_takes_is_dropped() {
    // [MQTT-3.1.2-24]
    let out = publish("t", Qos::AtMostOnce);
    let length = Wire::new(LIMIT).publish_length(&out);
    let mut wire = limited(length as u32);
    assert!(wire.fits(&out));
    assert_eq!(encoded(&mut wire, &Out::Publish(Box::new(out.clone()))).len(), length);
    let mut wire = limited(length as u32 - 1);
    assert!(!wire.fits(&out));
    let mut buf = BytesMut::new();
    assert_eq!(wire.encode(&Out::Publish(Box::new(out)), &mut buf), Encoded::TooLarge);
    assert!(buf.is_empty());
    let endless = publish(&"t".repeat(70_000), Qos::AtMostOnce);
    assert_eq!(open(Version::V3).encode(&Out::Publish(Box::new(endless)), &mut buf), Encoded::TooLarge);
    assert!(buf.is_empty());
}

/// Topic Alias Maximum and Maximum Packet Size.
fn aliased(aliases: u16, size: u32) -> Wire {
    let properties = [&[0x22], &aliases.to_be_bytes()[..], &[0x27], &size.to_be_bytes()].concat();
    open_with(Version::V5, &properties)
}

#[test]
fn a_client_that_takes_aliases_is_told_a_topic_once() {
    let mut wire = aliased(1, LIMIT);
    let topic = |topic: &str| Out::Publish(Box::new(publish(topic, Qos::AtLeastOnce)));
    let named = |topic: &str, dup: u8| {
        frame(0x32 | dup, &join(&[&field(topic), &[0, 7, 3, 0x23, 0, 1], b"payload"])).to_vec()
    };
    let by_alias = frame(0x32, &join(&[&field(""), &[0, 7, 3, 0x23, 0, 1], b"payload"])).to_vec();
    assert_eq!(encoded(&mut wire, &topic("topic")), named("topic", 0));
    assert_eq!(encoded(&mut wire, &topic("topic")), by_alias);
    assert_eq!(encoded(&mut wire, &topic("other")), named("other", 0), "[MQTT-3.1.2-26]");
    assert_eq!(encoded(&mut wire, &topic("topic")), named("topic", 0));
    // Another connection knows nothing of it; one sent again there has its topic, too.
    let mut again = publish("topic", Qos::AtLeastOnce);
    again.dup = true;
    assert_eq!(encoded(&mut aliased(1, LIMIT), &Out::Publish(Box::new(again))), named("topic", 8));
}

#[test]
fn an_alias_counts_only_once_the_packet_that_tells_it_was_written() {
    let mut wire = aliased(8, 40);
    let with = |payload: usize| {
        let payload = Bytes::from(vec![b'x'; payload]);
        Out::Publish(Box::new(Publish { payload, ..publish("topic", Qos::AtMostOnce) }))
    };
    let plain = 2 + 7 + 1;
    let mut buf = BytesMut::new();
    assert_eq!(wire.encode(&with(40 - plain + 1), &mut buf), Encoded::TooLarge);
    assert!(buf.is_empty());
    let largest = encoded(&mut wire, &with(40 - plain));
    assert_eq!(largest.len(), 40, "the name alone just fits");
    let told = encoded(&mut wire, &with(1));
    assert_eq!(told, frame(0x30, &join(&[&field("topic"), &[3, 0x23, 0, 1], b"x"])));
    let larger = encoded(&mut wire, &with(40 - plain + 2));
    assert_eq!(larger.len(), 40, "an alias makes room for the payload");
}

#[test]
fn without_request_problem_information_acknowledgements_are_bare() {
    // [MQTT-3.1.2-29]
    let mut wire = open_with(Version::V5, &[0x17, 0]);
    let loud = || ack_properties("reason", "user");
    assert_eq!(encoded(&mut wire, &Out::PubAck(id(1), Reason::Success, loud())), [0x40, 4, 0, 1, 0, 0]);
    assert_eq!(
        encoded(&mut wire, &Out::PubRec(id(1), Reason::NotAuthorized, loud())),
        [0x50, 4, 0, 1, 0x87, 0]
    );
    assert_eq!(encoded(&mut wire, &Out::SubAck(id(1), vec![Reason::Success], loud())), [0x90, 4, 0, 1, 0, 0]);
    assert!(encoded(&mut wire, &Out::Disconnect(Reason::ServerBusy, loud())).len() > 4);
}
