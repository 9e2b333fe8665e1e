//! Bytes to packets and back, for MQTT 3.1.1 and 5.
//!
//! `rmqtt-codec` knows the layout of the packets; this module adds what it leaves open. A frame is taken from the
//! buffer only when it is whole; `validate` walks it strictly; then the codec decodes it, and the result is copied
//! into the neutral types of [`crate::packet`]. What one packet alone can do wrong is caught here, so the session
//! machine never sees it; rules that need memory beyond "which version, and has a CONNECT been accepted" (packet
//! identifiers in use, receive maximum, the client's topic aliases, keep-alive) are the session's. Which of *our* topic
//! aliases the client knows is known here, where packets are written.
//!
//! No bytes make this module panic, and no declared length makes it reserve memory.

mod properties;
mod reader;
mod v3;
mod v5;
mod validate;

#[cfg(test)]
mod tests;

pub use properties::MAX_USER_PROPERTIES;
pub use validate::MAX_FILTERS;

use crate::{
    alias::Outbound,
    packet::{AckProperties, ConnAckProperties, In, Out, Publish, Qos, Reason, Version},
};
use bytes::BytesMut;
use reader::{Fault, malformed, protocol_error, variable, variable_length};
use rmqtt_codec::error::DecodeError;
use tokio_util::codec::{Decoder, Encoder};

/// The largest remaining length there is (section 2.1.4; 3.1.1: 2.2.3). The codec panics beyond it.
const MAX_REMAINING_LENGTH: usize = 268_435_455;

/// Why decoding failed. The connection must be closed, after sending what [`WireError::reply`] says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail} ({reason:?})")]
pub struct WireError {
    /// The reason code of MQTT 5.
    pub reason: Reason,
    /// What is wrong, for the log and the reason string. Holds nothing the client sent.
    pub detail: &'static str,
    /// How the client is told.
    pub answer: Answer,
}

/// How a client is told of a [`WireError`] before the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Not at all: it has not shown that it speaks MQTT, or it speaks 3.1.1, which has no packet for it `[MQTT-3.1.4-1]`.
    Nothing,
    /// By CONNACK, since none has accepted its CONNECT yet. [`Wire::encode`] finds the form.
    ConnAck,
    /// By DISCONNECT.
    Disconnect,
}

impl WireError {
    /// The packet to send before closing.
    pub fn reply(&self) -> Option<Out> {
        let reason_string = Some(self.detail.to_owned());
        match self.answer {
            Answer::Nothing => None,
            Answer::ConnAck => Some(Out::ConnAck {
                session_present: false,
                reason: self.reason,
                properties: Box::new(ConnAckProperties { reason_string, ..ConnAckProperties::default() }),
            }),
            Answer::Disconnect => Some(Out::Disconnect(
                self.reason,
                AckProperties { reason_string, ..AckProperties::default() },
            )),
        }
    }
}

/// What became of a packet given to [`Wire::encode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoded {
    /// It is in the buffer.
    Written,
    /// Nothing was written, because the packet has no form here: DISCONNECT or AUTH in 3.1.1, any DISCONNECT before
    /// a CONNACK has accepted the client `[MQTT-3.14.0-1]`.
    NoForm,
    /// Nothing was written, because the packet is larger than the client takes, even without reason string and user
    /// properties. A PUBLISH is discarded and counts as sent then `[MQTT-3.1.2-24]`, `[MQTT-3.1.2-25]`.
    TooLarge,
}

/// The wire layer of one connection.
#[derive(Debug)]
pub struct Wire {
    codec: Codec,
    phase: Phase,
    /// Whole packet, inbound.
    max_inbound: u32,
    /// Whole packet, outbound: the client's Maximum Packet Size.
    max_outbound: Option<u32>,
    aliases: Outbound,
}

#[derive(Debug)]
enum Codec {
    Unknown,
    V3(rmqtt_codec::v3::Codec),
    V5(rmqtt_codec::v5::Codec),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No CONNECT yet.
    Connecting,
    /// A CONNECT, but no CONNACK that accepts it.
    Answering,
    /// A CONNACK has accepted it.
    Open,
}

const NOT_MQTT: Fault = protocol_error("the first packet is not a CONNECT of MQTT");

struct Header {
    first: u8,
    length: usize,
    remaining: usize,
}

impl Wire {
    /// A fresh connection, which may send packets of at most `max_before_auth` bytes each.
    pub fn new(max_before_auth: u32) -> Self {
        Self {
            codec: Codec::Unknown,
            phase: Phase::Connecting,
            max_inbound: max_before_auth,
            max_outbound: None,
            aliases: Outbound::default(),
        }
    }

    /// Changes the longest packet accepted, fixed header included. Called after authentication.
    pub const fn set_max_packet_size(&mut self, inbound: u32) {
        self.max_inbound = inbound;
    }

    /// Told by the first bytes of CONNECT, also by those of one that is refused: the version of the answer.
    pub const fn version(&self) -> Option<Version> {
        match self.codec {
            Codec::Unknown => None,
            Codec::V3(_) => Some(Version::V3),
            Codec::V5(_) => Some(Version::V5),
        }
    }

    /// Takes one packet off the front of `buf`; `None`: it needs more bytes. Reserves nothing for them: what a client
    /// declares costs memory only as it arrives.
    ///
    /// After an error the connection must be closed; `buf` is then in no defined state.
    pub fn decode(&mut self, buf: &mut BytesMut) -> Result<Option<In>, WireError> {
        self.take_packet(buf).map_err(|Fault { reason, detail }| WireError {
            reason,
            detail,
            answer: self.answer(reason),
        })
    }

    const fn answer(&self, reason: Reason) -> Answer {
        match (self.version(), self.phase) {
            (Some(Version::V5), Phase::Open) => Answer::Disconnect,
            // [MQTT-3.14.0-1]; section 4.13.1 wants a CONNACK here.
            (Some(Version::V5), Phase::Connecting | Phase::Answering) => Answer::ConnAck,
            // 3.1.1: [MQTT-3.1.2-2] and [MQTT-3.1.3-8], against [MQTT-3.1.4-1].
            (Some(Version::V3), Phase::Connecting) => match reason {
                Reason::UnsupportedProtocolVersion | Reason::ClientIdentifierNotValid => Answer::ConnAck,
                _ => Answer::Nothing,
            },
            (None | Some(Version::V3), _) => Answer::Nothing,
        }
    }

    fn take_packet(&mut self, buf: &mut BytesMut) -> Result<Option<In>, Fault> {
        let Some(header) = self.header(buf)? else { return Ok(None) };
        if self.version().is_none() && !self.detect(&buf[header.length..], header.remaining)? {
            return Ok(None);
        }
        let Some(version) = self.version() else { return Ok(None) };
        let length = header.length + header.remaining;
        // [MQTT-3.2.2-15] of the client; 3.1.1 has no limit, so no clause either.
        if length > self.max_inbound as usize {
            let detail = "the packet is longer than the server takes";
            return Err(Fault { reason: Reason::PacketTooLarge, detail });
        }
        if buf.len() < length {
            return Ok(None);
        }
        let body = &mut buf[header.length..length];
        let notes = validate::packet(version, header.first, body)?;
        notes.disguise(body);
        let decoded = match &mut self.codec {
            Codec::Unknown => None,
            Codec::V3(codec) => match codec.decode(buf).map_err(|error| undecodable(&error))? {
                Some((packet, _)) => Some(v3::decoded(packet)?),
                None => None,
            },
            Codec::V5(codec) => match codec.decode(buf).map_err(|error| undecodable(&error))? {
                Some((packet, _)) => Some(v5::decoded(packet, &notes)?),
                None => None,
            },
        };
        // The frame was whole, so the codec has no reason to wait.
        let decoded = decoded.ok_or(malformed("the packet cannot be decoded"))?;
        if let In::Connect(connect) = &decoded {
            self.phase = Phase::Answering;
            self.max_outbound = connect.maximum_packet_size;
            self.aliases = Outbound::new(connect.topic_alias_maximum);
        }
        Ok(Some(decoded))
    }

    /// The fixed header. A packet that may not come at all is refused before the rest of it is awaited.
    fn header(&self, buf: &[u8]) -> Result<Option<Header>, Fault> {
        let Some((&first, rest)) = buf.split_first() else { return Ok(None) };
        let connect = first & 0xF0 == validate::CONNECT;
        match (self.phase, self.version()) {
            // [MQTT-3.1.0-1]
            (Phase::Connecting, _) if !connect => {
                return Err(NOT_MQTT);
            }
            // [MQTT-3.1.0-2]
            (Phase::Answering | Phase::Open, _) if connect => {
                return Err(protocol_error("a second CONNECT"));
            }
            // Until the version is known, as the version that allows more.
            (_, version) => validate::first_byte(version.unwrap_or(Version::V5), first)?,
        }
        Ok(variable(rest)?.map(|(remaining, length)| Header {
            first,
            length: 1 + length,
            remaining: remaining as usize,
        }))
    }

    /// Looks at protocol name and level as soon as they are there; false: not yet.
    fn detect(&mut self, body: &[u8], remaining: usize) -> Result<bool, Fault> {
        let named = |name: &[u8]| {
            let seen = &body[..body.len().min(name.len()).min(remaining)];
            name.starts_with(seen).then_some(seen.len() == name.len())
        };
        let (name_length, complete) = match (named(b"\0\x04MQTT"), named(b"\0\x06MQIsdp")) {
            (Some(complete), _) => (6, complete),
            (None, Some(complete)) => (8, complete),
            // [MQTT-3.1.2-1]: whoever this is, it does not speak MQTT.
            (None, None) => return Err(NOT_MQTT),
        };
        if remaining <= name_length {
            return Err(NOT_MQTT);
        }
        let (true, Some(&level)) = (complete, body.get(name_length)) else { return Ok(false) };
        let (codec, known) = match (name_length, level) {
            (6, 4) => (Codec::V3(rmqtt_codec::v3::Codec::default()), true),
            (6, 5) => (Codec::V5(rmqtt_codec::v5::Codec::default()), true),
            // [MQTT-3.1.2-2], answered in the form its sender is likelier to read: bridges set the upper bit.
            (name, level) if name == 8 || level & 0x7F < 5 => {
                (Codec::V3(rmqtt_codec::v3::Codec::default()), false)
            }
            _ => (Codec::V5(rmqtt_codec::v5::Codec::default()), false),
        };
        self.codec = codec;
        if known {
            Ok(true)
        } else {
            let detail = "the protocol version is not supported";
            Err(Fault { reason: Reason::UnsupportedProtocolVersion, detail })
        }
    }

    /// Appends a packet. Acknowledgements, CONNACK and DISCONNECT shed user properties, then the reason string, when
    /// they would exceed the client's Maximum Packet Size `[MQTT-3.2.2-19]`, `[MQTT-3.2.2-20]`, `[MQTT-3.4.2-2]`,
    /// `[MQTT-3.4.2-3]`, `[MQTT-3.5.2-2]`, `[MQTT-3.5.2-3]`, `[MQTT-3.9.2-1]`, `[MQTT-3.9.2-2]`, `[MQTT-3.14.2-3]`,
    /// `[MQTT-3.14.2-4]`; with Request Problem Information 0 they have none `[MQTT-3.1.2-29]`. A PUBLISH without a topic
    /// alias gets one if the client takes it.
    pub fn encode(&mut self, out: &Out, buf: &mut BytesMut) -> Encoded {
        let Out::Publish(publish) = out else { return self.encode_as_is(out, buf) };
        if publish.properties.topic_alias.is_none()
            && let Some(alias) = self.aliases.find(&publish.topic)
        {
            let aliased = alias.apply(publish);
            // One with both topic name and alias may be too large where the name alone is not.
            if self.encode_as_is(&Out::Publish(Box::new(aliased)), buf) == Encoded::Written {
                self.aliases.written(alias, &publish.topic);
                return Encoded::Written;
            }
        }
        self.encode_as_is(out, buf)
    }

    fn encode_as_is(&mut self, out: &Out, buf: &mut BytesMut) -> Encoded {
        match out {
            Out::Disconnect(..) if self.phase != Phase::Open => return Encoded::NoForm,
            Out::Publish(publish) if !self.fits(publish) => return Encoded::TooLarge,
            _ => {}
        }
        let start = buf.len();
        let mut shed = None;
        loop {
            match self.append(shed.as_ref().unwrap_or(out), buf) {
                Some(true) if self.takes(buf.len() - start) => break,
                None => return Encoded::NoForm,
                Some(_) => buf.truncate(start),
            }
            shed = shorter(shed.as_ref().unwrap_or(out));
            if shed.is_none() {
                return Encoded::TooLarge;
            }
        }
        if let Out::ConnAck { reason: Reason::Success, .. } = out {
            self.phase = Phase::Open;
        }
        Encoded::Written
    }

    /// Whether the client takes this PUBLISH, with the topic name and the alias as they are in it `[MQTT-3.1.2-24]`.
    fn fits(&self, publish: &Publish) -> bool {
        self.takes(self.publish_length(publish))
    }

    /// Length of the whole packet in this connection's version (5, while it is unknown).
    fn publish_length(&self, publish: &Publish) -> usize {
        let mut remaining = 2 + publish.topic.len() + publish.payload.len();
        if publish.qos != Qos::AtMostOnce {
            remaining += 2;
        }
        if self.version() != Some(Version::V3) {
            let properties = v5::properties_length(&publish.properties);
            remaining += variable_length(properties) + properties;
        }
        1 + variable_length(remaining) + remaining
    }

    /// Whether the client takes a packet of this length, fixed header included.
    fn takes(&self, length: usize) -> bool {
        length <= self.max_outbound.map_or(usize::MAX, |max| max as usize)
            && length <= MAX_REMAINING_LENGTH + 5
    }

    /// `None`: it has no form. `Some(false)`: a text in it is too long to be encoded, and part of it may be in `buf`.
    fn append(&mut self, out: &Out, buf: &mut BytesMut) -> Option<bool> {
        match &mut self.codec {
            Codec::Unknown => None,
            Codec::V3(codec) => Some(codec.encode(v3::encodable(out)?, buf).is_ok()),
            Codec::V5(_) if v5::is_plain_ack(out) => {
                Some(rmqtt_codec::v3::Codec::default().encode(v3::encodable(out)?, buf).is_ok())
            }
            Codec::V5(codec) => {
                let start = buf.len();
                let written = codec.encode(v5::encodable(out), buf).is_ok();
                if let Out::Publish(publish) = out
                    && let Some(offset) = v5::zero_expiry_offset(publish)
                    && let Ok(Some((_, length))) = variable(&buf[start + 1..])
                    && let Some(expiry) = buf.get_mut(start + 1 + length + offset..)
                    && let Some(expiry) = expiry.first_chunk_mut::<4>()
                {
                    *expiry = [0; 4];
                }
                Some(written)
            }
        }
    }
}

fn undecodable(error: &DecodeError) -> Fault {
    malformed(match error {
        // [MQTT-1.5.4-1] (3.1.1: [MQTT-1.5.3-1])
        DecodeError::Utf8Error => "a text is not UTF-8",
        _ => "a field has a value that is not allowed",
    })
}

/// The same packet with less to say; `None`: there is nothing it could do without.
fn shorter(out: &Out) -> Option<Out> {
    // A PUBLISH has nothing to shed; do not copy it to find that out.
    if matches!(out, Out::Publish(_)) {
        return None;
    }
    let mut less = out.clone();
    let (reason_string, user_properties) = match &mut less {
        Out::ConnAck { properties, .. } => (&mut properties.reason_string, &mut properties.user_properties),
        Out::PubAck(_, _, properties)
        | Out::PubRec(_, _, properties)
        | Out::SubAck(_, _, properties)
        | Out::Disconnect(_, properties) => (&mut properties.reason_string, &mut properties.user_properties),
        _ => return None,
    };
    if user_properties.is_empty() {
        reason_string.take()?;
    } else {
        // The reason string tells a refused command its error code; it stays as long as it can.
        user_properties.clear();
    }
    Some(less)
}
