//! Helpers: packets are written byte by byte here, or by the codec in the role of a client.

mod encoding;
mod handshake;
mod packets;
mod random;
mod refusals;

use super::*;
use crate::packet::{Connect, PacketId};
use bytes::Bytes;
use rmqtt_codec::{v3 as codec_v3, v5 as codec_v5};

const LIMIT: u32 = 16 * 1024;

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
