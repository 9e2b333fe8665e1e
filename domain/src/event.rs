//! Events: what devices receive. One schema for MQTT and for `GET …/events`.

use crate::{
    chat::{ChatView, LeaveReason, Role},
    clock::Timestamp,
    contact::ContactView,
    error::ErrorCode,
    ids::{ChatId, RowId, Seq, Stream, UserId},
    message::{Entry, LocalId, LogRow, MessageView},
    receipt::Status,
};
use serde::Serialize;
use std::collections::BTreeMap;
use uuid::Uuid;

/// An event in its envelope.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Schema version: 1.
    pub v: u8,
    /// The row's id; of a state or live event, its own.
    pub id: Uuid,
    /// When.
    pub at: Timestamp,
    /// Position in its log (durable events).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<Seq>,
    /// The chat it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat_id: Option<ChatId>,
    /// `event` and its fields.
    #[serde(flatten)]
    pub body: EventBody,
}

/// What happened.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum EventBody {
    /// A message was sent.
    NewMessage {
        /// It.
        message: Box<MessageView>,
    },
    /// Members joined, left or got another role.
    MembersChanged {
        /// The SYSTEM message.
        message: Box<MessageView>,
        /// Who joined.
        added: Vec<UserId>,
        /// Who left or was removed.
        removed: Vec<UserId>,
        /// Roles given.
        roles: BTreeMap<UserId, Role>,
    },
    /// I entered a chat.
    NewChat {
        /// As it is now.
        chat: Box<ChatView>,
    },
    /// My stay in a chat ended.
    ChatLeft {
        /// Why.
        reason: LeaveReason,
    },
    /// Somebody asks to be a contact.
    NewContactRequest {
        /// Who.
        contact: Box<ContactView>,
    },
    /// A contact request was accepted.
    ContactRequestAccepted {
        /// By whom.
        contact: Box<ContactView>,
    },
    /// A contact request was rejected or withdrawn.
    ContactRequestRejected {
        /// By whom.
        user_id: UserId,
    },
    /// A contact ended the relation.
    ContactRemoved {
        /// Who.
        user_id: UserId,
    },
    /// A contact blocked me.
    BlockedByContact {
        /// Who.
        user_id: UserId,
    },
    /// A contact unblocked me.
    UnblockedByContact {
        /// Who.
        user_id: UserId,
    },
    /// A private chat's message, and all before it, reached at least this state.
    #[serde(rename = "message-status-update")]
    MessageStatus {
        /// The newest message concerned.
        message_seq: Seq,
        /// Its state.
        status: Status,
    },
    /// The same for a group, as counts.
    #[serde(rename = "message-status-update")]
    GroupMessageStatus {
        /// The newest message concerned.
        message_seq: Seq,
        /// How many have it.
        delivered: u32,
        /// How many have read it.
        read: u32,
        /// Of how many.
        of: u32,
    },
    /// Several messages were delivered at once.
    MessagesDelivered {
        /// Up to here.
        up_to_seq: Seq,
        /// To whom.
        user_id: UserId,
    },
    /// I have read on another device.
    ReadElsewhere {
        /// Up to here.
        read_seq: Seq,
        /// What is left, counted to 999.
        unread_count: u32,
    },
    /// A command published over MQTT was refused.
    CommandFailed {
        /// Where it was published.
        topic: String,
        /// Its `localId`, if one could be read.
        #[serde(skip_serializing_if = "Option::is_none")]
        local_id: Option<LocalId>,
        /// Its packet identifier (QoS 1 and 2).
        #[serde(skip_serializing_if = "Option::is_none")]
        packet_id: Option<u16>,
        /// Stable code.
        #[serde(serialize_with = "code_name")]
        code: ErrorCode,
        /// For people.
        detail: String,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn code_name<S: serde::Serializer>(code: &ErrorCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(code.as_str())
}

/// Who an event is encoded for: the sender of a message also sees their own `localId`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The sender's sessions.
    Sender,
    /// Everybody else's.
    Others,
}

impl Event {
    /// A live or state event.
    pub fn live(id: Uuid, at: Timestamp, chat: Option<ChatId>, body: EventBody) -> Self {
        Self { v: 1, id, at, seq: None, chat_id: chat, body }
    }

    /// The event that a row of a log is.
    pub fn durable(row: &LogRow, chat: Option<ChatId>, body: EventBody) -> Self {
        Self { v: 1, id: RowId::uuid(row.id), at: row.at, seq: Some(row.seq), chat_id: chat, body }
    }

    /// The event of a row of a chat's log; `None` for rows of personal logs, which need a look-up.
    pub fn of_chat_row(row: &LogRow, audience: Audience) -> Option<Self> {
        let Stream::Chat(chat) = row.stream else { return None };
        let mut message = row.message()?;
        if audience == Audience::Sender {
            message.local_id.clone_from(&row.local_id);
        }
        let message = Box::new(message);
        let body = match &row.entry {
            Entry::MembersChanged(change) => EventBody::MembersChanged {
                message,
                added: change.added.clone(),
                removed: change.removed.clone(),
                roles: change.roles.clone(),
            },
            _ => EventBody::NewMessage { message },
        };
        Some(Self::durable(row, Some(chat), body))
    }

    /// JSON, as sent.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an event has string keys only and no failing serializer")
    }
}
