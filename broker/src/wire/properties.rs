//! The property section of MQTT 5 packets: which properties a packet may have, that each comes at most once,
//! and what values they may take.

use super::reader::{Fault, Reader, malformed, protocol_error};
use super::validate::topic_name;
use crate::packet::Reason;

/// User properties in one section (a CONNECT with a will has two). The standard sets no bound; without one, a packet of tiny properties costs
/// a dozen times its size in memory.
pub const MAX_USER_PROPERTIES: usize = 64;

const PAYLOAD_FORMAT: u8 = 0x01;
const MESSAGE_EXPIRY: u8 = 0x02;
const CONTENT_TYPE: u8 = 0x03;
const RESPONSE_TOPIC: u8 = 0x08;
const CORRELATION_DATA: u8 = 0x09;
const SUBSCRIPTION_ID: u8 = 0x0B;
const SESSION_EXPIRY: u8 = 0x11;
const AUTH_METHOD: u8 = 0x15;
const AUTH_DATA: u8 = 0x16;
const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
const WILL_DELAY: u8 = 0x18;
const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
const REASON_STRING: u8 = 0x1F;
const RECEIVE_MAXIMUM: u8 = 0x21;
const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
const TOPIC_ALIAS: u8 = 0x23;
const USER_PROPERTY: u8 = 0x26;
const MAXIMUM_PACKET_SIZE: u8 = 0x27;

/// A set of properties, one bit each: no identifier is above 0x2A.
#[derive(Clone, Copy)]
pub(super) struct Set(u64);

impl Set {
    const fn of(ids: &[u8]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < ids.len() {
            bits |= 1 << ids[index];
            index += 1;
        }
        Self(bits)
    }

    const fn has(self, id: u8) -> bool {
        id < 64 && self.0 & (1 << id) != 0
    }

    const fn add(&mut self, id: u8) {
        self.0 |= 1 << id;
    }
}

pub(super) const CONNECT: Set = Set::of(&[
    SESSION_EXPIRY,
    AUTH_METHOD,
    AUTH_DATA,
    REQUEST_PROBLEM_INFORMATION,
    REQUEST_RESPONSE_INFORMATION,
    RECEIVE_MAXIMUM,
    TOPIC_ALIAS_MAXIMUM,
    USER_PROPERTY,
    MAXIMUM_PACKET_SIZE,
]);
pub(super) const WILL: Set = Set::of(&[
    PAYLOAD_FORMAT,
    MESSAGE_EXPIRY,
    CONTENT_TYPE,
    RESPONSE_TOPIC,
    CORRELATION_DATA,
    WILL_DELAY,
    USER_PROPERTY,
]);
pub(super) const PUBLISH: Set = Set::of(&[
    PAYLOAD_FORMAT,
    MESSAGE_EXPIRY,
    CONTENT_TYPE,
    RESPONSE_TOPIC,
    CORRELATION_DATA,
    SUBSCRIPTION_ID,
    TOPIC_ALIAS,
    USER_PROPERTY,
]);
/// PUBACK, PUBREC, PUBREL, PUBCOMP.
pub(super) const ACK: Set = Set::of(&[REASON_STRING, USER_PROPERTY]);
pub(super) const SUBSCRIBE: Set = Set::of(&[SUBSCRIPTION_ID, USER_PROPERTY]);
pub(super) const UNSUBSCRIBE: Set = Set::of(&[USER_PROPERTY]);
pub(super) const DISCONNECT: Set = Set::of(&[SESSION_EXPIRY, REASON_STRING, USER_PROPERTY]);
pub(super) const AUTH: Set = Set::of(&[AUTH_METHOD, AUTH_DATA, REASON_STRING, USER_PROPERTY]);

/// What a section held, as far as a rule or the codec needs it.
pub(super) struct Found {
    seen: Set,
    /// Where the value of a Message Expiry Interval of 0 begins.
    pub(super) zero_expiry_at: Option<usize>,
    pub(super) session_expiry: Option<u32>,
}

impl Found {
    pub(super) const fn topic_alias(&self) -> bool {
        self.seen.has(TOPIC_ALIAS)
    }

    pub(super) const fn subscription_id(&self) -> bool {
        self.seen.has(SUBSCRIPTION_ID)
    }

    pub(super) const fn auth_method(&self) -> bool {
        self.seen.has(AUTH_METHOD)
    }

    pub(super) const fn auth_data(&self) -> bool {
        self.seen.has(AUTH_DATA)
    }
}

/// Walks one property section, length included.
pub(super) fn walk(body: &mut Reader<'_>, allowed: Set) -> Result<Found, Fault> {
    let length = body.variable()?;
    let mut section = body.part(length as usize)?;
    let mut found = Found { seen: Set(0), zero_expiry_at: None, session_expiry: None };
    let mut user_properties = 0;
    while !section.is_empty() {
        // A variable byte integer by the standard, but every identifier there is fits one byte.
        let id = section.u8()?;
        if !allowed.has(id) {
            return Err(NOT_ALLOWED);
        }
        if id == USER_PROPERTY {
            user_properties += 1;
            if user_properties > MAX_USER_PROPERTIES {
                return Err(Fault { reason: Reason::QuotaExceeded, detail: "too many user properties" });
            }
        } else if found.seen.has(id) {
            // "It is a Protocol Error to include … more than once", section by section.
            return Err(protocol_error("a property occurs twice"));
        }
        found.seen.add(id);
        value(&mut section, id, &mut found)?;
    }
    Ok(found)
}

/// Section 2.2.2.2: an identifier that is not valid for its packet type makes the packet malformed.
const NOT_ALLOWED: Fault = malformed("a property is unknown or does not belong into this packet");

fn value(section: &mut Reader<'_>, id: u8, found: &mut Found) -> Result<(), Fault> {
    match id {
        PAYLOAD_FORMAT | REQUEST_PROBLEM_INFORMATION | REQUEST_RESPONSE_INFORMATION => {
            if section.u8()? > 1 {
                return Err(protocol_error("a property that is 0 or 1 has another value"));
            }
        }
        MESSAGE_EXPIRY => {
            let at = section.position();
            if section.u32()? == 0 {
                found.zero_expiry_at = Some(at);
            }
        }
        SESSION_EXPIRY => found.session_expiry = Some(section.u32()?),
        WILL_DELAY => {
            section.u32()?;
        }
        MAXIMUM_PACKET_SIZE => {
            if section.u32()? == 0 {
                return Err(protocol_error("Maximum Packet Size is 0"));
            }
        }
        RECEIVE_MAXIMUM => {
            if section.u16()? == 0 {
                return Err(protocol_error("Receive Maximum is 0"));
            }
        }
        TOPIC_ALIAS_MAXIMUM => {
            section.u16()?;
        }
        TOPIC_ALIAS => {
            // [MQTT-3.3.2-8]
            if section.u16()? == 0 {
                return Err(Fault { reason: Reason::TopicAliasInvalid, detail: "the topic alias is 0" });
            }
        }
        SUBSCRIPTION_ID => {
            // Section 3.8.2.1.2: 1 to 268,435,455.
            if section.variable()? == 0 {
                return Err(protocol_error("the subscription identifier is 0"));
            }
        }
        // [MQTT-3.3.2-14]; of a will likewise.
        RESPONSE_TOPIC => topic_name(section.text()?)?,
        CORRELATION_DATA | AUTH_DATA => {
            section.binary()?;
        }
        CONTENT_TYPE | AUTH_METHOD | REASON_STRING => {
            section.text()?;
        }
        USER_PROPERTY => {
            section.text()?;
            section.text()?;
        }
        _ => return Err(NOT_ALLOWED),
    }
    Ok(())
}
