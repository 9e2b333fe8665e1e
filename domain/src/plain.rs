//! The plain lane: ordinary MQTT among the devices of one user, beside the logs. What must outlive a connection is kept:
//! retained messages, what waits for a session that lasts, the packet identifiers of an exchange at QoS 2, wills.

use crate::{
    clock::Timestamp,
    ids::{Seq, SessionId, UserId},
};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::Arc;
use uuid::Uuid;

/// Quality of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Qos {
    /// At most once.
    AtMostOnce = 0,
    /// At least once.
    AtLeastOnce = 1,
    /// Exactly once.
    ExactlyOnce = 2,
}

impl Qos {
    /// 0, 1 or 2.
    pub fn from_level(level: u8) -> Option<Self> {
        [Self::AtMostOnce, Self::AtLeastOnce, Self::ExactlyOnce].into_iter().find(|qos| *qos as u8 == level)
    }
}

/// Longest payload, bytes.
pub const MAX_PAYLOAD: usize = 64 * 1024;
/// Messages that wait for one session; the oldest goes.
pub const MAX_QUEUED: u32 = 1000;
/// Bytes of them, as [`PlainMessage::size`] counts.
pub const MAX_QUEUED_BYTES: u64 = 1024 * 1024;
/// Retained messages of one user; more are refused.
pub const MAX_RETAINED: u32 = 1000;
/// Bytes of them, as [`PlainMessage::size`] counts.
pub const MAX_RETAINED_BYTES: u64 = 4 * 1024 * 1024;

/// What a publisher says about a message, beside topic and payload (MQTT 5). The parts that follow are forwarded
/// unaltered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlainProperties {
    /// Payload Format Indicator: the payload is UTF-8.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub payload_is_utf8: bool,
    /// Content Type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Response Topic, in full as an unmounted session would name it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_topic: Option<String>,
    /// Correlation Data.
    #[serde(skip_serializing_if = "Option::is_none", with = "base64_text")]
    pub correlation_data: Option<Bytes>,
    /// User properties, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub user_properties: Vec<(String, String)>,
}

/// Binary data as text.
mod base64_text {
    use super::{Bytes, Deserialize, Deserializer, Engine, STANDARD_NO_PAD, Serializer};
    use serde::de::Error;

    #[expect(clippy::ref_option, reason = "serde hands over a reference to the field")]
    pub fn serialize<S: Serializer>(data: &Option<Bytes>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD_NO_PAD.encode(data.as_deref().unwrap_or_default()))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD_NO_PAD.decode(text).map(|data| Some(data.into())).map_err(D::Error::custom)
    }
}

/// A message of the plain lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlainMessage {
    /// Topic name in full, `users/{user}/x/…` or `chats/{chat}/x/{user}/…`.
    pub topic: String,
    /// Payload.
    pub payload: Bytes,
    /// As published.
    pub qos: Qos,
    /// As published.
    pub retain: bool,
    /// Properties.
    pub properties: PlainProperties,
    /// After this it is delivered to nobody any more (Message Expiry Interval).
    pub expires_at: Option<Timestamp>,
}

impl PlainMessage {
    /// Bytes that it counts for wherever messages are kept.
    pub fn size(&self) -> usize {
        let PlainProperties { content_type, response_topic, correlation_data, user_properties, .. } =
            &self.properties;
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        self.topic.len()
            + self.payload.len()
            + text(content_type)
            + text(response_topic)
            + correlation_data.as_ref().map_or(0, Bytes::len)
            + user_properties.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
    }

    /// Whether it must not be delivered any more.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

/// How a message reaches one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Which.
    pub session: SessionId,
    /// The lower one of what was published and what was granted.
    pub qos: Qos,
    /// RETAIN as the session sees it.
    pub retain: bool,
    /// Subscription Identifiers of the filters that match.
    pub subscription_ids: Vec<u32>,
}

/// A publication in the lane of a user, of which something must be kept.
#[derive(Clone, Debug)]
pub struct PublishPlain {
    /// Whose lane.
    pub user: UserId,
    /// What.
    pub message: Arc<PlainMessage>,
    /// Sessions that last, at QoS 1 or 2: it waits in their queues until they have acknowledged it. One that is named twice
    /// (by its own filters, and by a shared one) gets it twice.
    pub queue: Vec<Recipient>,
    /// Other sessions: handed to the relay after the commit, and kept nowhere.
    pub live: Vec<Recipient>,
    /// Whether it becomes the retained message of its topic; with an empty payload the topic has none any more.
    pub retain: bool,
    /// At QoS 2, from a session that lasts: its packet identifier, so that it is published once however often it comes.
    pub received: Option<(SessionId, u16)>,
    /// The will that this is.
    pub will: Option<Uuid>,
    /// Now.
    pub at: Timestamp,
}

/// What became of a [`PublishPlain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishedPlain {
    /// It was published.
    Now,
    /// It had been before (the packet identifier was known), or need not be any more (the will was gone): nothing was done.
    Before,
}

/// A committed publication on its way to sessions connected here.
#[derive(Clone, Debug)]
pub struct PlainDelivery {
    /// Whose lane.
    pub user: UserId,
    /// What.
    pub message: Arc<PlainMessage>,
    /// Sessions in whose queue it waits, each with its place there.
    pub queued: Vec<(Recipient, Seq)>,
    /// Other sessions.
    pub live: Vec<Recipient>,
    /// Sessions named in [`PublishPlain::queue`] that do not exist (any more).
    pub gone: Vec<SessionId>,
}

/// A message that waits for a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedMessage {
    /// Its place in the session's queue: 1, 2, 3 …, without gaps when it was queued. The packet identifier follows from it.
    pub seq: Seq,
    /// What.
    pub message: Arc<PlainMessage>,
    /// How; `session` is the queue's.
    pub recipient: Recipient,
    /// QoS 2: PUBREC has come, PUBREL is due, the message is not sent again.
    pub released: bool,
}

/// A part of a session's queue.
#[derive(Clone, Debug, Default)]
pub struct QueuePage {
    /// In order.
    pub messages: Vec<QueuedMessage>,
    /// Whether there are more.
    pub more: bool,
}

/// What a session has done with its queue and with what it published. Empty changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settle {
    /// Acknowledged to the end (PUBACK, PUBCOMP), expired or too large: these leave the queue.
    pub done: Vec<Seq>,
    /// PUBREC has come.
    pub released: Vec<Seq>,
    /// Everything up to here has been sent at least once.
    pub sent: Seq,
    /// PUBREL has come: these packet identifiers of its own publications are free again.
    pub forgotten: Vec<u16>,
}

/// Which retained messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retained {
    /// That of this topic.
    Of(String),
    /// Those of topics that begin with this, which ends with a `/`.
    Below(String),
}

/// A session that lasts, as far as the plain lane must know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastingSession {
    /// Which.
    pub session: SessionId,
    /// Its mount, empty for none.
    pub mount: String,
    /// Its filters, as stored.
    pub filters: String,
}

/// The will of a CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewWill {
    /// Id.
    pub id: Uuid,
    /// What. It does not expire yet.
    pub message: PlainMessage,
    /// Message Expiry Interval, seconds, counted from when it is published.
    pub expiry_secs: Option<u32>,
    /// Will Delay Interval, seconds.
    pub delay_secs: u32,
}

/// A will whose time has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueWill {
    /// Id, for [`PublishPlain::will`].
    pub id: Uuid,
    /// Whose.
    pub user: UserId,
    /// Of which session.
    pub session: SessionId,
    /// What.
    pub message: PlainMessage,
    /// Message Expiry Interval, seconds.
    pub expiry_secs: Option<u32>,
}
