//! MQTT 3.1.1: between the codec's packets and the neutral ones.

use super::reader::{Fault, protocol_error};
use crate::packet::{Connect, In, Out, PublishProperties, RetainHandling, SubscribeFilter, Version, Will};
use crate::packet::{Publish, Qos, Reason};
use bytes::Bytes;
use rmqtt_codec::types as codec_types;
use rmqtt_codec::v3::{self, ConnectAckReason, Packet, SubscribeReturnCode};

/// Copies text and payloads out of the packet, so that nothing pins the read buffer.
pub(super) fn decoded(packet: Packet) -> Result<In, Fault> {
    Ok(match packet {
        Packet::Connect(connect) => In::Connect(Box::new(connected(&connect))),
        Packet::Publish(publish) => In::Publish(Box::new(Publish {
            topic: publish.topic.to_string(),
            payload: Bytes::copy_from_slice(&publish.payload),
            qos: qos(publish.qos),
            dup: publish.dup,
            retain: publish.retain,
            packet_id: publish.packet_id,
            properties: PublishProperties::default(),
        })),
        Packet::PublishAck { packet_id } => In::PubAck(packet_id, Reason::Success),
        Packet::PublishReceived { packet_id } => In::PubRec(packet_id, Reason::Success),
        Packet::PublishRelease { packet_id } => In::PubRel(packet_id, Reason::Success),
        Packet::PublishComplete { packet_id } => In::PubComp(packet_id, Reason::Success),
        Packet::Subscribe { packet_id, topic_filters } => In::Subscribe {
            packet_id,
            filters: topic_filters
                .iter()
                .map(|(filter, wanted)| SubscribeFilter {
                    filter: filter.to_string(),
                    qos: qos(*wanted),
                    no_local: false,
                    retain_as_published: false,
                    retain_handling: RetainHandling::Send,
                })
                .collect(),
            subscription_id: None,
        },
        Packet::Unsubscribe { packet_id, topic_filters } => {
            In::Unsubscribe { packet_id, filters: topic_filters.iter().map(ToString::to_string).collect() }
        }
        Packet::PingRequest => In::PingReq,
        Packet::Disconnect => In::Disconnect { reason: Reason::Success, session_expiry: None },
        Packet::ConnectAck(_)
        | Packet::SubscribeAck { .. }
        | Packet::UnsubscribeAck { .. }
        | Packet::PingResponse => {
            return Err(protocol_error("only a server may send a packet of this type"));
        }
    })
}

fn connected(connect: &v3::Connect) -> Connect {
    Connect {
        version: Version::V3,
        clean_start: connect.clean_session,
        keep_alive: connect.keep_alive,
        client_id: connect.client_id.to_string(),
        username: connect.username.as_ref().map(ToString::to_string),
        password: connect.password.as_deref().map(Bytes::copy_from_slice),
        will: connect.last_will.as_ref().map(|will| Will {
            delay: 0,
            publish: Publish {
                topic: will.topic.to_string(),
                payload: Bytes::copy_from_slice(&will.message),
                qos: qos(will.qos),
                dup: false,
                retain: will.retain,
                packet_id: None,
                properties: PublishProperties::default(),
            },
        }),
        session_expiry: None,
        receive_maximum: u16::MAX,
        maximum_packet_size: None,
        topic_alias_maximum: 0,
        request_response_information: false,
        request_problem_information: true,
        user_properties: Vec::new(),
        authentication_method: None,
        authentication_data: None,
    }
}

/// `None`: the packet has no form in 3.1.1.
pub(super) fn encodable(out: &Out) -> Option<Packet> {
    Some(match out {
        Out::ConnAck { session_present, reason, .. } => Packet::ConnectAck(v3::ConnectAck {
            return_code: return_code(*reason)?,
            // 3.1.1: [MQTT-3.2.2-4]
            session_present: *session_present && *reason == Reason::Success,
        }),
        Out::Publish(publish) => Packet::Publish(Box::new(published(publish, None))),
        Out::PubAck(packet_id, ..) => Packet::PublishAck { packet_id: *packet_id },
        Out::PubRec(packet_id, ..) => Packet::PublishReceived { packet_id: *packet_id },
        Out::PubRel(packet_id, _) => Packet::PublishRelease { packet_id: *packet_id },
        Out::PubComp(packet_id, _) => Packet::PublishComplete { packet_id: *packet_id },
        Out::SubAck(packet_id, reasons, _) => Packet::SubscribeAck {
            packet_id: *packet_id,
            status: reasons.iter().map(|reason| granted(*reason)).collect(),
        },
        Out::UnsubAck(packet_id, _) => Packet::UnsubscribeAck { packet_id: *packet_id },
        Out::PingResp => Packet::PingResponse,
        Out::Disconnect(..) | Out::Auth { .. } => return None,
    })
}

/// The codec has one PUBLISH for both versions.
pub(super) fn published(
    publish: &Publish,
    properties: Option<rmqtt_codec::v5::PublishProperties>,
) -> codec_types::Publish {
    codec_types::Publish {
        dup: publish.dup && publish.qos != Qos::AtMostOnce,
        retain: publish.retain,
        qos: codec_qos(publish.qos),
        topic: publish.topic.as_str().into(),
        packet_id: publish.packet_id.filter(|_| publish.qos != Qos::AtMostOnce),
        payload: publish.payload.clone(),
        properties,
    }
}

/// Table 3.1 of 3.1.1. What may pass is 3, what will not is 5; a malformed CONNECT gets no CONNACK `[MQTT-3.1.4-1]`.
const fn return_code(reason: Reason) -> Option<ConnectAckReason> {
    Some(match reason {
        Reason::Success => ConnectAckReason::ConnectionAccepted,
        Reason::MalformedPacket | Reason::ProtocolError => return None,
        Reason::UnsupportedProtocolVersion => ConnectAckReason::UnacceptableProtocolVersion,
        Reason::ClientIdentifierNotValid => ConnectAckReason::IdentifierRejected,
        Reason::BadUserNameOrPassword => ConnectAckReason::BadUserNameOrPassword,
        Reason::NotAuthorized
        | Reason::Banned
        | Reason::BadAuthenticationMethod
        // A `format` that is none.
        | Reason::ImplementationSpecificError
        | Reason::TopicNameInvalid
        | Reason::PacketTooLarge
        | Reason::PayloadFormatInvalid
        | Reason::RetainNotSupported
        | Reason::QosNotSupported => ConnectAckReason::NotAuthorized,
        _ => ConnectAckReason::ServiceUnavailable,
    })
}

const fn granted(reason: Reason) -> SubscribeReturnCode {
    match reason {
        Reason::Success => SubscribeReturnCode::Success(codec_types::QoS::AtMostOnce),
        Reason::GrantedQos1 => SubscribeReturnCode::Success(codec_types::QoS::AtLeastOnce),
        Reason::GrantedQos2 => SubscribeReturnCode::Success(codec_types::QoS::ExactlyOnce),
        _ => SubscribeReturnCode::Failure,
    }
}

pub(super) const fn qos(qos: codec_types::QoS) -> Qos {
    match qos {
        codec_types::QoS::AtMostOnce => Qos::AtMostOnce,
        codec_types::QoS::AtLeastOnce => Qos::AtLeastOnce,
        codec_types::QoS::ExactlyOnce => Qos::ExactlyOnce,
    }
}

const fn codec_qos(qos: Qos) -> codec_types::QoS {
    match qos {
        Qos::AtMostOnce => codec_types::QoS::AtMostOnce,
        Qos::AtLeastOnce => codec_types::QoS::AtLeastOnce,
        Qos::ExactlyOnce => codec_types::QoS::ExactlyOnce,
    }
}
