//! MQTT 5: between the codec's packets and the neutral ones.

use super::reader::{Fault, malformed, protocol_error, variable_length};
use super::v3::{published, qos};
use super::validate::Notes;
use crate::packet::{AckProperties, ConnAckProperties, Connect, In, Out, PublishProperties, RetainHandling};
use crate::packet::{Publish, Qos, Reason, SubscribeFilter, Version, Will};
use bytes::Bytes;
use bytestring::ByteString;
use rmqtt_codec::types as codec_types;
use rmqtt_codec::v5::{self, Packet};
use std::num::{NonZeroU16, NonZeroU32};

/// The largest value of a variable byte integer; the codec panics on larger ones.
const MAX_VARIABLE: u32 = 268_435_455;

/// Copies text and payloads out of the packet, so that nothing pins the read buffer.
pub(super) fn decoded(packet: Packet, notes: &Notes) -> Result<In, Fault> {
    Ok(match packet {
        Packet::Connect(connect) => In::Connect(Box::new(connected(&connect, notes))),
        Packet::Publish(publish) => In::Publish(Box::new(received(&publish, notes))),
        Packet::PublishAck(ack) => In::PubAck(ack.packet_id, reason(ack.reason_code)?),
        Packet::PublishReceived(ack) => In::PubRec(ack.packet_id, reason(ack.reason_code)?),
        Packet::PublishRelease(ack) => In::PubRel(ack.packet_id, reason(ack.reason_code)?),
        Packet::PublishComplete(ack) => In::PubComp(ack.packet_id, reason(ack.reason_code)?),
        Packet::Subscribe(subscribe) => In::Subscribe {
            packet_id: subscribe.packet_id,
            filters: subscribe
                .topic_filters
                .iter()
                .map(|(filter, options)| wanted(filter, *options))
                .collect(),
            subscription_id: subscribe.id.map(NonZeroU32::get),
        },
        Packet::Unsubscribe(unsubscribe) => In::Unsubscribe {
            packet_id: unsubscribe.packet_id,
            filters: unsubscribe.topic_filters.iter().map(ToString::to_string).collect(),
        },
        Packet::PingRequest => In::PingReq,
        Packet::Disconnect(disconnect) => In::Disconnect {
            reason: reason(disconnect.reason_code)?,
            session_expiry: disconnect.session_expiry_interval_secs,
        },
        Packet::Auth(auth) => In::Auth {
            reason: reason(auth.reason_code)?,
            method: auth
                .auth_method
                .ok_or(protocol_error("AUTH without an authentication method"))?
                .to_string(),
            data: auth.auth_data.as_deref().map(Bytes::copy_from_slice),
        },
        Packet::ConnectAck(_)
        | Packet::SubscribeAck(_)
        | Packet::UnsubscribeAck(_)
        | Packet::PingResponse => {
            return Err(protocol_error("only a server may send a packet of this type"));
        }
    })
}

/// The codec checked that the code belongs to the packet.
fn reason(code: impl Into<u8>) -> Result<Reason, Fault> {
    Reason::from_code(code.into()).ok_or(malformed("the reason code is unknown"))
}

fn connected(connect: &v5::Connect, notes: &Notes) -> Connect {
    Connect {
        version: Version::V5,
        clean_start: connect.clean_start && notes.kept_session_at.is_none(),
        keep_alive: connect.keep_alive,
        client_id: connect.client_id.to_string(),
        username: connect.username.as_ref().map(ToString::to_string),
        password: connect.password.as_deref().map(Bytes::copy_from_slice),
        will: connect.last_will.as_ref().map(|will| testament(will, notes)),
        session_expiry: notes.session_expiry,
        receive_maximum: connect.receive_max.map_or(u16::MAX, NonZeroU16::get),
        maximum_packet_size: connect.max_packet_size.map(NonZeroU32::get),
        topic_alias_maximum: connect.topic_alias_max,
        request_response_information: connect.request_response_info,
        request_problem_information: connect.request_problem_info,
        user_properties: pairs(&connect.user_properties),
        authentication_method: connect.auth_method.as_ref().map(ToString::to_string),
        authentication_data: connect.auth_data.as_deref().map(Bytes::copy_from_slice),
    }
}

fn testament(will: &v5::LastWill, notes: &Notes) -> Will {
    Will {
        delay: will.will_delay_interval_sec.unwrap_or(0),
        publish: Publish {
            topic: will.topic.to_string(),
            payload: Bytes::copy_from_slice(&will.message),
            qos: qos(will.qos),
            dup: false,
            retain: will.retain,
            packet_id: None,
            properties: PublishProperties {
                payload_is_utf8: will.is_utf8_payload.unwrap_or(false),
                message_expiry: expiry(will.message_expiry_interval, notes),
                topic_alias: None,
                response_topic: will.response_topic.as_ref().map(ToString::to_string),
                correlation_data: will.correlation_data.as_deref().map(Bytes::copy_from_slice),
                user_properties: pairs(&will.user_properties),
                subscription_ids: Vec::new(),
                content_type: will.content_type.as_ref().map(ToString::to_string),
            },
        },
    }
}

fn received(publish: &codec_types::Publish, notes: &Notes) -> Publish {
    Publish {
        topic: publish.topic.to_string(),
        payload: Bytes::copy_from_slice(&publish.payload),
        qos: qos(publish.qos),
        dup: publish.dup,
        retain: publish.retain,
        packet_id: publish.packet_id,
        properties: publish.properties.as_ref().map_or_else(PublishProperties::default, |properties| {
            PublishProperties {
                payload_is_utf8: properties.is_utf8_payload,
                message_expiry: expiry(properties.message_expiry_interval, notes),
                topic_alias: properties.topic_alias.map(NonZeroU16::get),
                response_topic: properties.response_topic.as_ref().map(ToString::to_string),
                correlation_data: properties.correlation_data.as_deref().map(Bytes::copy_from_slice),
                user_properties: pairs(&properties.user_properties),
                subscription_ids: Vec::new(),
                content_type: properties.content_type.as_ref().map(ToString::to_string),
            }
        }),
    }
}

fn expiry(decoded: Option<NonZeroU32>, notes: &Notes) -> Option<u32> {
    if notes.zero_expiry_at.is_some() { Some(0) } else { decoded.map(NonZeroU32::get) }
}

fn wanted(filter: &ByteString, options: v5::SubscriptionOptions) -> SubscribeFilter {
    SubscribeFilter {
        filter: filter.to_string(),
        qos: qos(options.qos),
        no_local: options.no_local,
        retain_as_published: options.retain_as_published,
        retain_handling: match options.retain_handling {
            v5::RetainHandling::AtSubscribe => RetainHandling::Send,
            v5::RetainHandling::AtSubscribeNew => RetainHandling::SendIfNew,
            v5::RetainHandling::NoAtSubscribe => RetainHandling::DoNotSend,
        },
    }
}

fn pairs(properties: &v5::UserProperties) -> Vec<(String, String)> {
    properties.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn codec_pairs(properties: &[(String, String)]) -> v5::UserProperties {
    properties.iter().map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect()
}

fn text(text: Option<&String>) -> Option<ByteString> {
    text.map(|text| text.as_str().into())
}

/// An acknowledgement that says nothing but "success": in MQTT 5 it may be as short as in 3.1.1 (section 3.4.2.1).
pub(super) fn is_plain_ack(out: &Out) -> bool {
    match out {
        Out::PubAck(_, Reason::Success, properties) | Out::PubRec(_, Reason::Success, properties) => {
            *properties == AckProperties::default()
        }
        Out::PubRel(_, Reason::Success) | Out::PubComp(_, Reason::Success) => true,
        _ => false,
    }
}

pub(super) fn encodable(out: &Out) -> Packet {
    match out {
        Out::ConnAck { session_present, reason, properties } => {
            Packet::ConnectAck(Box::new(conn_ack(*session_present, *reason, properties)))
        }
        Out::Publish(publish) => {
            Packet::Publish(Box::new(published(publish, Some(publish_properties(&publish.properties)))))
        }
        Out::PubAck(packet_id, reason, properties) => {
            Packet::PublishAck(pub_ack(*packet_id, *reason, properties))
        }
        Out::PubRec(packet_id, reason, properties) => {
            Packet::PublishReceived(pub_ack(*packet_id, *reason, properties))
        }
        Out::PubRel(packet_id, reason) => Packet::PublishRelease(pub_rel(*packet_id, *reason)),
        Out::PubComp(packet_id, reason) => Packet::PublishComplete(pub_rel(*packet_id, *reason)),
        Out::SubAck(packet_id, reasons, properties) => Packet::SubscribeAck(v5::SubscribeAck {
            packet_id: *packet_id,
            properties: codec_pairs(&properties.user_properties),
            reason_string: text(properties.reason_string.as_ref()),
            status: reasons
                .iter()
                .map(|reason| code_or(*reason, v5::SubscribeAckReason::UnspecifiedError))
                .collect(),
        }),
        Out::UnsubAck(packet_id, reasons) => Packet::UnsubscribeAck(v5::UnsubscribeAck {
            packet_id: *packet_id,
            properties: Vec::new(),
            reason_string: None,
            status: reasons
                .iter()
                .map(|reason| code_or(*reason, v5::UnsubscribeAckReason::UnspecifiedError))
                .collect(),
        }),
        Out::PingResp => Packet::PingResponse,
        Out::Disconnect(reason, properties) => {
            // Table 3-10 has no 0x8C, though the codec has.
            let reason = match reason {
                Reason::BadAuthenticationMethod => Reason::NotAuthorized,
                reason => *reason,
            };
            Packet::Disconnect(v5::Disconnect {
                reason_code: code_or(reason, v5::DisconnectReasonCode::UnspecifiedError),
                session_expiry_interval_secs: None,
                server_reference: None,
                reason_string: text(properties.reason_string.as_ref()),
                user_properties: codec_pairs(&properties.user_properties),
            })
        }
        Out::Auth { reason, method } => Packet::Auth(v5::Auth {
            reason_code: code_or(*reason, v5::AuthReasonCode::ContinueAuth),
            auth_method: Some(method.as_str().into()),
            auth_data: None,
            reason_string: None,
            user_properties: Vec::new(),
        }),
    }
}

/// A reason that this packet cannot carry becomes `otherwise`.
fn code_or<C: TryFrom<u8>>(reason: Reason, otherwise: C) -> C {
    C::try_from(reason.code()).unwrap_or(otherwise)
}

fn conn_ack(session_present: bool, reason: Reason, properties: &ConnAckProperties) -> v5::ConnectAck {
    let reason_code = match reason {
        Reason::ServerShuttingDown => v5::ConnectAckReason::ServerUnavailable,
        reason => code_or(reason, v5::ConnectAckReason::UnspecifiedError),
    };
    v5::ConnectAck {
        // [MQTT-3.2.2-6]
        session_present: session_present && reason_code == v5::ConnectAckReason::Success,
        reason_code,
        session_expiry_interval_secs: properties.session_expiry,
        receive_max: properties.receive_maximum.and_then(NonZeroU16::new).unwrap_or(NonZeroU16::MAX),
        max_qos: match properties.maximum_qos {
            Some(0) => codec_types::QoS::AtMostOnce,
            Some(1) => codec_types::QoS::AtLeastOnce,
            _ => codec_types::QoS::ExactlyOnce,
        },
        max_packet_size: properties.maximum_packet_size,
        assigned_client_id: text(properties.assigned_client_id.as_ref()),
        topic_alias_max: properties.topic_alias_maximum.unwrap_or(0),
        retain_available: properties.retain_available.unwrap_or(true),
        wildcard_subscription_available: properties.wildcard_available.unwrap_or(true),
        subscription_identifiers_available: properties.subscription_ids_available.unwrap_or(true),
        shared_subscription_available: properties.shared_available.unwrap_or(true),
        server_keepalive_sec: properties.server_keep_alive,
        response_info: text(properties.response_information.as_ref()),
        server_reference: None,
        auth_method: text(properties.authentication_method.as_ref()),
        auth_data: None,
        reason_string: text(properties.reason_string.as_ref()),
        user_properties: codec_pairs(&properties.user_properties),
    }
}

fn pub_ack(packet_id: NonZeroU16, reason: Reason, properties: &AckProperties) -> v5::PublishAck {
    v5::PublishAck {
        packet_id,
        reason_code: code_or(reason, v5::PublishAckReason::UnspecifiedError),
        properties: codec_pairs(&properties.user_properties),
        reason_string: text(properties.reason_string.as_ref()),
    }
}

/// PUBREL and PUBCOMP know no other failure than 0x92.
fn pub_rel(packet_id: NonZeroU16, reason: Reason) -> v5::PublishAck2 {
    let otherwise = if reason.is_error() {
        v5::PublishAck2Reason::PacketIdNotFound
    } else {
        v5::PublishAck2Reason::Success
    };
    v5::PublishAck2 {
        packet_id,
        reason_code: code_or(reason, otherwise),
        properties: Vec::new(),
        reason_string: None,
    }
}

fn publish_properties(properties: &PublishProperties) -> v5::PublishProperties {
    v5::PublishProperties {
        topic_alias: properties.topic_alias.and_then(NonZeroU16::new),
        correlation_data: properties.correlation_data.clone(),
        // 0 has no form in the codec: `zero_expiry_offset` says where to write it.
        message_expiry_interval: properties
            .message_expiry
            .map(|seconds| NonZeroU32::new(seconds).unwrap_or(NonZeroU32::MIN)),
        content_type: text(properties.content_type.as_ref()),
        user_properties: codec_pairs(&properties.user_properties),
        is_utf8_payload: properties.payload_is_utf8,
        response_topic: text(properties.response_topic.as_ref()),
        subscription_ids: subscription_ids(properties).collect(),
    }
}

fn subscription_ids(properties: &PublishProperties) -> impl Iterator<Item = NonZeroU32> {
    properties
        .subscription_ids
        .iter()
        .filter_map(|id| NonZeroU32::new(*id))
        .filter(|id| id.get() <= MAX_VARIABLE)
}

/// Length of the property section of a PUBLISH, without the length itself.
pub(super) fn properties_length(properties: &PublishProperties) -> usize {
    const fn field(length: usize) -> usize {
        3 + length
    }
    let text = |text: &Option<String>| text.as_ref().map_or(0, |text| field(text.len()));
    usize::from(properties.payload_is_utf8) * 2
        + properties.message_expiry.map_or(0, |_| 5)
        + properties.topic_alias.and_then(NonZeroU16::new).map_or(0, |_| 3)
        + text(&properties.response_topic)
        + text(&properties.content_type)
        + properties.correlation_data.as_ref().map_or(0, |data| field(data.len()))
        + properties.user_properties.iter().map(|(name, value)| 5 + name.len() + value.len()).sum::<usize>()
        + subscription_ids(properties).map(|id| 1 + variable_length(id.get() as usize)).sum::<usize>()
}

/// Where in an encoded PUBLISH, counted from the end of its fixed header, the four bytes of a Message Expiry Interval
/// are that must become 0. The codec writes topic alias and correlation data before them.
pub(super) fn zero_expiry_offset(publish: &Publish) -> Option<usize> {
    let properties = &publish.properties;
    (properties.message_expiry == Some(0)).then(|| {
        2 + publish.topic.len()
            + if publish.qos == Qos::AtMostOnce { 0 } else { 2 }
            + variable_length(properties_length(properties))
            + properties.topic_alias.and_then(NonZeroU16::new).map_or(0, |_| 3)
            + properties.correlation_data.as_ref().map_or(0, |data| 3 + data.len())
            + 1
    })
}
