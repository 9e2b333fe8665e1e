//! Helpers: packets are written byte by byte here, or by the codec in the role of a client.

mod clauses;
mod encoding;
mod handshake;
mod limits;
mod packets;
mod properties;
mod random;
mod refusals;

use super::*;
use crate::packet::{Connect, PacketId};
use bytes::Bytes;
use rmqtt_codec::{v3 as codec_v3, v5 as codec_v5};

const LIMIT: u32 = 16 * 1024;

/// What no text may hold `[MQTT-1.5.4-1]`, `[MQTT-1.5.4-2]`: a byte that is never UTF-8, a byte too few, one too many, a
/// surrogate, a longer spelling of U+0000, a code point beyond the last, U+0000.
const BAD_TEXTS: [&[u8]; 8] = [
    b"\xFF",
    b"a\xE2\x82",
    b"\x80",
    b"\xED\xA0\x80",
    b"\xED\xBF\xBF",
    b"\xC0\x80",
    b"\xF4\x90\x80\x80",
    b"a\0b",
];

fn id(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

/// Fixed header and body.
fn frame(first: u8, body: &[u8]) -> BytesMut {
    let mut frame = BytesMut::from(&[first][..]);
    let mut rest = body.len();
    loop {
        let more = if rest > 0x7F { 0x80 } else { 0 };
        frame.extend_from_slice(&[(rest & 0x7F) as u8 | more]);
        rest >>= 7;
        if rest == 0 {
            break;
        }
    }
    frame.extend_from_slice(body);
    frame
}

/// Text or binary data with its length.
fn field(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let mut field = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    field.extend_from_slice(bytes);
    field
}

/// A property section.
fn section(properties: &[u8]) -> Vec<u8> {
    join(&[&[u8::try_from(properties.len()).unwrap()], properties])
}

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// A CONNECT with keep-alive 60 and the given flags and rest.
fn connect(level: u8, flags: u8, rest: &[u8]) -> BytesMut {
    frame(0x10, &join(&[b"\0\x04MQTT", &[level, flags, 0, 60], rest]))
}

fn decode(wire: &mut Wire, frame: &BytesMut) -> Result<In, WireError> {
    let mut buf = frame.clone();
    let packet = wire.decode(&mut buf)?.expect("a whole frame was given");
    assert!(buf.is_empty(), "the whole frame is taken");
    Ok(packet)
}

fn decode_connect(frame: &BytesMut) -> Result<Connect, WireError> {
    match decode(&mut Wire::new(LIMIT), frame)? {
        In::Connect(connect) => Ok(*connect),
        other => panic!("{other:?}"),
    }
}

/// A wire whose CONNECT (with these properties in MQTT 5) has been accepted.
fn open_with(version: Version, properties: &[u8]) -> Wire {
    let mut wire = Wire::new(LIMIT);
    let frame = match version {
        Version::V3 => connect(4, 2, &field("c")),
        Version::V5 => connect(5, 2, &join(&[&[properties.len() as u8], properties, &field("c")])),
    };
    decode(&mut wire, &frame).unwrap();
    assert_eq!(wire.encode(&accepted(), &mut BytesMut::new()), Encoded::Written);
    wire
}

fn open(version: Version) -> Wire {
    open_with(version, &[])
}

fn accepted() -> Out {
    Out::ConnAck { session_present: false, reason: Reason::Success, properties: Box::default() }
}

fn encoded(wire: &mut Wire, out: &Out) -> Vec<u8> {
    let mut buf = BytesMut::from(&b"before"[..]);
    assert_eq!(wire.encode(out, &mut buf), Encoded::Written, "{out:?}");
    buf.split_off(6).to_vec()
}

fn publish(topic: &str, qos: Qos) -> Publish {
    Publish {
        topic: topic.to_owned(),
        payload: Bytes::from_static(b"payload"),
        qos,
        dup: false,
        retain: false,
        packet_id: (qos != Qos::AtMostOnce).then(|| id(7)),
        properties: crate::packet::PublishProperties::default(),
    }
}
