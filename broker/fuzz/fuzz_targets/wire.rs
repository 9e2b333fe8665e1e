//! Bytes in pieces of any size, before and after CONNECT: nothing panics, no declared length makes the decoder keep more than
//! it was given, whatever decodes is within the limits, and what is answered can be encoded.
#![no_main]

use bytes::BytesMut;
use curlew_broker::{
    packet::{ConnAckProperties, In, Out, Reason},
    wire::{MAX_FILTERS, MAX_USER_PROPERTIES, Wire},
};
use libfuzzer_sys::fuzz_target;

const LIMIT: u32 = 64 * 1024;

/// CONNECT of both versions with the client identifier `c`.
const CONNECTS: [&[u8]; 2] = [b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01c", b"\x10\x0e\0\x04MQTT\x05\x02\0\0\0\0\x01c"];

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (opening, piece, bytes) = input;
    let mut wire = Wire::new(LIMIT);
    let (mut buffer, mut output) = (BytesMut::new(), BytesMut::new());
    if let Some(connect) = CONNECTS.get(usize::from(opening % 3)) {
        buffer.extend_from_slice(connect);
        assert!(matches!(wire.decode(&mut buffer), Ok(Some(In::Connect(_)))));
        accept(&mut wire, &mut output);
    }
    for piece in bytes.chunks(usize::from(piece).max(1)) {
        buffer.extend_from_slice(piece);
        loop {
            match wire.decode(&mut buffer) {
                Ok(Some(packet)) => {
                    check(&packet);
                    if let In::Connect(_) = packet {
                        accept(&mut wire, &mut output);
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    if let Some(reply) = error.reply() {
                        wire.encode(&reply, &mut output);
                    }
                    return;
                }
            }
        }
        assert!(buffer.len() <= bytes.len() + 16, "no more is kept than was given");
    }
});

fn accept(wire: &mut Wire, output: &mut BytesMut) {
    let properties = Box::new(ConnAckProperties::default());
    wire.encode(&Out::ConnAck { session_present: false, reason: Reason::Success, properties }, output);
}

/// What one packet alone may not break.
fn check(packet: &In) {
    match packet {
        In::Publish(publish) => {
            assert!(!publish.topic.contains(['+', '#', '\0']));
            assert!(!publish.topic.is_empty() || publish.properties.topic_alias.is_some());
            assert!(publish.properties.user_properties.len() <= MAX_USER_PROPERTIES);
            assert!(publish.properties.subscription_ids.is_empty());
        }
        In::Subscribe { filters, .. } => assert!((1..=MAX_FILTERS).contains(&filters.len())),
        In::Unsubscribe { filters, .. } => assert!((1..=MAX_FILTERS).contains(&filters.len())),
        In::Connect(connect) => assert!(connect.receive_maximum > 0 && connect.maximum_packet_size != Some(0)),
        _ => {}
    }
}
