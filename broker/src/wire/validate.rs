//! A strict walk over a packet that a client sent, before the codec sees it. The codec is lenient; whatever the
//! standard forbids in a single packet is refused here, except text that is not UTF-8, which the codec refuses.
//!
//! Clauses are those of MQTT 5; where 3.1.1 numbers the same rule differently, both are given.

use super::properties::{self, Found};
use super::reader::{Fault, Reader, malformed, protocol_error};
use crate::packet::{Reason, Version};

/// Topic filters in one SUBSCRIBE or UNSUBSCRIBE. The standard sets no bound.
pub const MAX_FILTERS: usize = 1024;

pub(super) const CONNECT: u8 = 0x10;
const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBREL: u8 = 0x60;
const PUBCOMP: u8 = 0x70;
const SUBSCRIBE: u8 = 0x80;
const UNSUBSCRIBE: u8 = 0xA0;
const PINGREQ: u8 = 0xC0;
const DISCONNECT: u8 = 0xE0;
const AUTH: u8 = 0xF0;

const CLEAN_START: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_QOS: u8 = 0x18;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USER_NAME: u8 = 0x80;

/// What the codec would lose, or wrongly refuse.
#[derive(Default)]
pub(super) struct Notes {
    /// Where the value of a Message Expiry Interval of 0 begins; the codec refuses 0, so it is shown 1.
    pub(super) zero_expiry_at: Option<usize>,
    /// Where the connect flags are, if the client identifier is empty and Clean Start 0; the codec refuses that, so it is shown 1.
    pub(super) kept_session_at: Option<usize>,
    /// Session Expiry Interval of a CONNECT; the codec does not tell 0 from absent.
    pub(super) session_expiry: Option<u32>,
}

impl Notes {
    /// Changes a packet that is legal but that the codec refuses into one that it takes. Undone after decoding.
    pub(super) fn disguise(&self, body: &mut [u8]) {
        if let Some(at) = self.zero_expiry_at {
            body[at + 3] = 1;
        }
        if let Some(at) = self.kept_session_at {
            body[at] |= CLEAN_START;
        }
    }
}

/// Type and flags: whether a client of this version may send such a packet at all.
pub(super) const fn first_byte(version: Version, first: u8) -> Result<(), Fault> {
    let flags = match first & 0xF0 {
        // Whatever they are; `publish` looks at them.
        PUBLISH => first & 0x0F,
        // [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1]
        PUBREL | SUBSCRIBE | UNSUBSCRIBE => 2,
        CONNECT | PUBACK | PUBREC | PUBCOMP | PINGREQ | DISCONNECT => 0,
        AUTH if matches!(version, Version::V5) => 0,
        // Table 2-1: type 0, in 3.1.1 also 15.
        0x00 | AUTH => return Err(malformed("the packet type is reserved")),
        _ => return Err(protocol_error("only a server may send a packet of this type")),
    };
    // [MQTT-2.1.3-1] (3.1.1: [MQTT-2.2.2-2])
    if first & 0x0F == flags {
        Ok(())
    } else {
        Err(malformed("a reserved flag of the fixed header is wrong"))
    }
}

/// The whole packet; `first` has passed [`first_byte`].
pub(super) fn packet(version: Version, first: u8, body: &[u8]) -> Result<Notes, Fault> {
    let mut body = Reader::new(body);
    let mut notes = Notes::default();
    match first & 0xF0 {
        CONNECT => notes = connect(version, &mut body)?,
        PUBLISH => notes.zero_expiry_at = publish(version, first & 0x0F, &mut body)?,
        PUBACK | PUBREC | PUBREL | PUBCOMP => ack(version, &mut body)?,
        SUBSCRIBE => subscribe(version, &mut body)?,
        UNSUBSCRIBE => unsubscribe(version, &mut body)?,
        DISCONNECT if version == Version::V5 => disconnect(&mut body)?,
        AUTH => auth(&mut body)?,
        // PINGREQ, and DISCONNECT of 3.1.1, have no body.
        _ => {}
    }
    body.end()?;
    Ok(notes)
}

/// Protocol name and level have been looked at already.
fn connect(version: Version, body: &mut Reader<'_>) -> Result<Notes, Fault> {
    body.text()?;
    body.u8()?;
    let flags_at = body.position();
    let flags = body.u8()?;
    connect_flags(version, flags)?;
    body.u16()?;
    let mut notes = Notes::default();
    if version == Version::V5 {
        let found = properties::walk(body, properties::CONNECT)?;
        if found.auth_data() && !found.auth_method() {
            // Section 3.1.2.11.10
            return Err(protocol_error("authentication data without a method"));
        }
        notes.session_expiry = found.session_expiry;
    }
    let anonymous = body.text()?.is_empty();
    if flags & WILL != 0 {
        if version == Version::V5 {
            notes.zero_expiry_at = properties::walk(body, properties::WILL)?.zero_expiry_at;
        }
        topic_name(body.text()?)?;
        body.binary()?;
    }
    if flags & USER_NAME != 0 {
        body.text()?;
    }
    if flags & PASSWORD != 0 {
        body.binary()?;
    }
    body.end()?;
    if anonymous && flags & CLEAN_START == 0 {
        if version == Version::V3 {
            // 3.1.1: [MQTT-3.1.3-8]. Last, since it alone is answered with a CONNACK.
            let detail = "an empty client identifier needs Clean Session 1";
            return Err(Fault { reason: Reason::ClientIdentifierNotValid, detail });
        }
        // MQTT 5 has no such rule: the server assigns one [MQTT-3.1.3-6].
        notes.kept_session_at = Some(flags_at);
    }
    Ok(notes)
}

fn connect_flags(version: Version, flags: u8) -> Result<(), Fault> {
    // [MQTT-3.1.2-3]
    if flags & 1 != 0 {
        return Err(malformed("the reserved connect flag is set"));
    }
    // [MQTT-3.1.2-11], [MQTT-3.1.2-13] (3.1.1: [MQTT-3.1.2-13], [MQTT-3.1.2-15])
    if flags & WILL == 0 && flags & (WILL_QOS | WILL_RETAIN) != 0 {
        return Err(malformed("will QoS or will retain without a will"));
    }
    // [MQTT-3.1.2-12] (3.1.1: [MQTT-3.1.2-14])
    if flags & WILL_QOS == WILL_QOS {
        return Err(malformed("the will QoS is 3"));
    }
    // 3.1.1: [MQTT-3.1.2-22]. Legal in MQTT 5.
    if version == Version::V3 && flags & PASSWORD != 0 && flags & USER_NAME == 0 {
        return Err(malformed("a password without a user name"));
    }
    Ok(())
}

/// Returns where a Message Expiry Interval of 0 begins.
fn publish(version: Version, flags: u8, body: &mut Reader<'_>) -> Result<Option<usize>, Fault> {
    let qos = (flags >> 1) & 3;
    // [MQTT-3.3.1-4]
    if qos == 3 {
        return Err(malformed("the QoS is 3"));
    }
    // [MQTT-3.3.1-2]
    if qos == 0 && flags & 8 != 0 {
        return Err(malformed("DUP is set at QoS 0"));
    }
    let topic = body.text()?;
    // Empty stands for the alias in MQTT 5, see below.
    if !(version == Version::V5 && topic.is_empty()) {
        topic_name(topic)?;
    }
    if qos > 0 {
        packet_id(body)?;
    }
    let mut zero_expiry_at = None;
    if version == Version::V5 {
        let found: Found = properties::walk(body, properties::PUBLISH)?;
        // Section 3.3.2.1
        if topic.is_empty() && !found.topic_alias() {
            return Err(protocol_error("neither a topic name nor a topic alias"));
        }
        // [MQTT-3.3.4-6]
        if found.subscription_id() {
            return Err(protocol_error("a client must not send a subscription identifier in PUBLISH"));
        }
        zero_expiry_at = found.zero_expiry_at;
    }
    let rest = body.remaining();
    body.bytes(rest)?;
    Ok(zero_expiry_at)
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP. The codec knows which reason codes each may have.
fn ack(version: Version, body: &mut Reader<'_>) -> Result<(), Fault> {
    packet_id(body)?;
    if version == Version::V5 && !body.is_empty() {
        body.u8()?;
        // Section 3.4.2.2.1: below a remaining length of 4 there is no property length.
        if !body.is_empty() {
            properties::walk(body, properties::ACK)?;
        }
    }
    Ok(())
}

fn subscribe(version: Version, body: &mut Reader<'_>) -> Result<(), Fault> {
    packet_id(body)?;
    if version == Version::V5 {
        properties::walk(body, properties::SUBSCRIBE)?;
    }
    filters(body, |filter, body| {
        let options = body.u8()?;
        // [MQTT-3.8.3-5] (3.1.1: [MQTT-3.8.3-4], where six bits are reserved)
        let reserved = if version == Version::V5 { 0xC0 } else { 0xFC };
        if options & reserved != 0 {
            return Err(malformed("a reserved bit of the subscription options is set"));
        }
        // Section 3.8.3.1 (3.1.1: [MQTT-3.8.3-4])
        if options & 0x03 == 3 {
            return Err(protocol_error("the maximum QoS of a subscription is 3"));
        }
        if options & 0x30 == 0x30 {
            return Err(protocol_error("Retain Handling is 3"));
        }
        // [MQTT-3.8.3-4]
        if version == Version::V5 && shared(filter)? && options & 0x04 != 0 {
            return Err(protocol_error("No Local on a shared subscription"));
        }
        Ok(())
    })
}

fn unsubscribe(version: Version, body: &mut Reader<'_>) -> Result<(), Fault> {
    packet_id(body)?;
    if version == Version::V5 {
        properties::walk(body, properties::UNSUBSCRIBE)?;
    }
    filters(body, |filter, _| {
        if version == Version::V5 {
            shared(filter)?;
        }
        Ok(())
    })
}

/// The filters up to the end of the packet, with what follows each.
fn filters<'a>(
    body: &mut Reader<'a>,
    mut each: impl FnMut(&'a [u8], &mut Reader<'a>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let mut count = 0;
    while !body.is_empty() {
        let filter = body.text()?;
        // [MQTT-4.7.3-1]
        if filter.is_empty() {
            return Err(malformed("a topic filter is empty"));
        }
        wildcards(filter)?;
        each(filter, body)?;
        count += 1;
        if count > MAX_FILTERS {
            return Err(Fault {
                reason: Reason::QuotaExceeded,
                detail: "too many topic filters in one packet",
            });
        }
    }
    // [MQTT-3.8.3-2], [MQTT-3.10.3-2] (3.1.1: [MQTT-3.8.3-3], [MQTT-3.10.3-2])
    if count == 0 { Err(protocol_error("no topic filter")) } else { Ok(()) }
}

/// `#` is the last level, and a wildcard has its level for itself `[MQTT-4.7.1-1]`, `[MQTT-4.7.1-2]` (3.1.1:
/// `[MQTT-4.7.1-2]`, `[MQTT-4.7.1-3]`). Of a shared subscription the share name is a level that must not be one
/// `[MQTT-4.8.2-2]`; see [`shared`].
fn wildcards(filter: &[u8]) -> Result<(), Fault> {
    let mut levels = filter.split(|&byte| byte == b'/').peekable();
    while let Some(level) = levels.next() {
        if level.len() > 1 && has_wildcard(level) {
            return Err(malformed("a wildcard shares its level of a topic filter"));
        }
        if level == b"#" && levels.peek().is_some() {
            return Err(malformed("'#' is not the last level of a topic filter"));
        }
    }
    Ok(())
}

/// Whether this is a shared subscription; one must read `$share/{name}/{filter}` `[MQTT-4.8.2-1]`, `[MQTT-4.8.2-2]`.
/// In 3.1.1 `$share` means nothing.
fn shared(filter: &[u8]) -> Result<bool, Fault> {
    let Some(rest) = filter.strip_prefix(b"$share/") else { return Ok(false) };
    let mut parts = rest.splitn(2, |&byte| byte == b'/');
    let name = parts.next().unwrap_or_default();
    let filter = parts.next().unwrap_or_default();
    if name.is_empty() || filter.is_empty() || has_wildcard(name) {
        return Err(malformed("a shared subscription without a proper share name and filter"));
    }
    Ok(true)
}

/// DISCONNECT of MQTT 5.
fn disconnect(body: &mut Reader<'_>) -> Result<(), Fault> {
    if body.is_empty() {
        return Ok(());
    }
    // Table 3-10: the codes a client may use.
    if !matches!(body.u8()?, 0x00 | 0x04 | 0x80..=0x83 | 0x90 | 0x93..=0x99) {
        return Err(protocol_error("a client must not use this reason code in DISCONNECT"));
    }
    if !body.is_empty() {
        properties::walk(body, properties::DISCONNECT)?;
    }
    Ok(())
}

fn auth(body: &mut Reader<'_>) -> Result<(), Fault> {
    // Section 3.15.2.1: without a body the reason is Success, which only a server may send.
    if body.is_empty() || !matches!(body.u8()?, 0x18 | 0x19) {
        return Err(protocol_error("a client must not use this reason code in AUTH"));
    }
    // Section 3.15.2.2.2
    if body.is_empty() || !properties::walk(body, properties::AUTH)?.auth_method() {
        return Err(protocol_error("AUTH without an authentication method"));
    }
    Ok(())
}

/// `[MQTT-2.2.1-3]` (3.1.1: `[MQTT-2.3.1-1]`)
fn packet_id(body: &mut Reader<'_>) -> Result<(), Fault> {
    if body.u16()? == 0 { Err(protocol_error("the packet identifier is 0")) } else { Ok(()) }
}

/// A topic name is not empty `[MQTT-4.7.3-1]` and has no wildcards `[MQTT-4.7.0-1]`, `[MQTT-3.3.2-2]` (3.1.1: `[MQTT-4.7.1-1]`).
pub(super) fn topic_name(topic: &[u8]) -> Result<(), Fault> {
    if topic.is_empty() {
        return Err(malformed("a topic name is empty"));
    }
    if has_wildcard(topic) {
        return Err(malformed("a topic name contains a wildcard"));
    }
    Ok(())
}

fn has_wildcard(text: &[u8]) -> bool {
    text.iter().any(|&byte| matches!(byte, b'+' | b'#'))
}
