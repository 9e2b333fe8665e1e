//! Events: what devices receive. One schema for MQTT and for `GET …/events`.

use crate::{
    account::UserView,
    chat::{ChatBasics, ChatSettings, ChatView, LeaveReason, Role},
    clock::Timestamp,
    contact::ContactView,
    device::DeviceView,
    error::ErrorCode,
    ids::{ChatId, RowId, Seq, Stream, UserId},
    message::{Emoji, Entry, LocalId, LogRow, MessageView, Target},
    presence::PresenceState,
    receipt::Status,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;
use uuid::Uuid;

/// An event in its envelope.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Schema version: 1.
    #[schema(example = 1)]
    pub v: u8,
    /// The row's id; of a state or live event, its own.
    pub id: Uuid,
    /// When.
    pub at: Timestamp,
    /// Position in its log (durable events).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub seq: Option<Seq>,
    /// The chat it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub chat_id: Option<ChatId>,
    /// `event` and its fields.
    #[serde(flatten)]
    pub body: EventBody,
}

/// What happened.
#[derive(Clone, Debug, Serialize, ToSchema)]
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
    /// Name, description, picture or history of the group changed.
    ChatUpdated {
        /// The SYSTEM message.
        message: Box<MessageView>,
        /// The group as it is now.
        chat: Box<ChatBasics>,
    },
    /// A message's text was replaced.
    MessageEdited {
        /// Which.
        message_id: RowId,
        /// Its place in this log.
        message_seq: Seq,
        /// As it is now; absent for members who may not have it.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(nullable = false)]
        message: Option<Box<MessageView>>,
    },
    /// A message was deleted for everyone.
    MessageDeleted {
        /// Which.
        message_id: RowId,
        /// Its place in this log.
        message_seq: Seq,
        /// By whom.
        by: UserId,
    },
    /// Somebody reacted to a message, or took it back.
    MessageReaction {
        /// To which.
        message_id: RowId,
        /// Its place in this log.
        message_seq: Seq,
        /// Who.
        user_id: UserId,
        /// Their reaction now.
        emoji: Option<Emoji>,
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
    /// I have seen the incoming contact requests on some device.
    ContactRequestsViewed,
    /// I have cleared the badge of a chat on some device.
    NotificationsCleared,
    /// The list of my devices changed.
    DevicesUpdated {
        /// As it is now.
        devices: Vec<DeviceView>,
    },
    /// I have deleted a message for myself on some device.
    #[serde(rename = "message-deleted")]
    MessageHidden {
        /// Which.
        message_id: RowId,
        /// For whom: `me`.
        scope: DeletionScope,
    },
    /// I have changed my settings of a chat on some device.
    ChatSettingsChanged {
        /// As they are now.
        settings: ChatSettings,
    },
    /// My profile or that of a contact changed.
    ProfileUpdated {
        /// As it is now.
        user: Box<UserView>,
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
    /// Somebody types in the chat, or does not any more.
    UserTyping {
        /// Who.
        user_id: UserId,
        /// Whether.
        typing: bool,
    },
    /// Whether a contact is there.
    Presence {
        /// Who.
        user_id: UserId,
        /// Whether.
        state: PresenceState,
        /// When they were last active; `null` when that is not known or not to be known.
        last_seen_at: Option<Timestamp>,
    },
    /// A command published over MQTT was refused.
    CommandFailed {
        /// Where it was published.
        topic: String,
        /// Its `localId`, if one could be read.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(nullable = false)]
        local_id: Option<LocalId>,
        /// Its packet identifier (QoS 1 and 2).
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(nullable = false)]
        packet_id: Option<u16>,
        /// Stable code.
        code: ErrorCode,
        /// For people.
        detail: String,
    },
}

/// For whom a message was deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeletionScope {
    /// For the user alone, on all of their devices.
    #[default]
    Me,
    /// For everyone: it is emptied.
    Everyone,
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
        let body = match &row.entry {
            Entry::Message(_) => EventBody::NewMessage { message: message_for(row, audience)? },
            Entry::MembersChanged(change) => EventBody::MembersChanged {
                message: message_for(row, audience)?,
                added: change.added.clone(),
                removed: change.removed.clone(),
                roles: change.roles.clone(),
            },
            Entry::ChatUpdated(basics) => {
                EventBody::ChatUpdated { message: message_for(row, audience)?, chat: basics.clone() }
            }
            Entry::MessageEdited { target, message } => EventBody::MessageEdited {
                message_id: target.id,
                message_seq: target.seq,
                message: message.as_ref().and_then(|message| message_for(message, audience)),
            },
            Entry::MessageDeleted(Target { id, seq }) => {
                EventBody::MessageDeleted { message_id: *id, message_seq: *seq, by: row.sender }
            }
            Entry::MessageReaction { target, emoji } => EventBody::MessageReaction {
                message_id: target.id,
                message_seq: target.seq,
                user_id: row.sender,
                emoji: emoji.clone(),
            },
            _ => return None,
        };
        Some(Self::durable(row, Some(chat), body))
    }

    /// JSON, as sent.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an event has string keys only and no failing serializer")
    }
}

/// A message as `audience` sees it. Who edits a message is its sender.
fn message_for(row: &LogRow, audience: Audience) -> Option<Box<MessageView>> {
    let mut message = row.message()?;
    if audience == Audience::Sender {
        message.local_id.clone_from(&row.local_id);
    }
    Some(Box::new(message))
}
