//! Log rows and messages.

use crate::{
    chat::{LeaveReason, Role},
    clock::Timestamp,
    error::FieldError,
    ids::{ChatId, RowId, Seq, Stream, UserId},
    receipt::Status,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A client's own id of a send: 1–64 printable ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct LocalId(String);

impl LocalId {
    /// Checks length and alphabet.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        if !(1..=64).contains(&text.len()) || !text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            return Err(FieldError::new("localId", "invalid", "must be 1 to 64 printable ASCII characters"));
        }
        Ok(Self(text.to_owned()))
    }

    /// One that is already in the store.
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text of a message: not empty, at most the configured number of bytes, without U+0000 (PostgreSQL cannot hold it).
pub fn parse_text(text: String, max_bytes: usize) -> Result<String, FieldError> {
    if text.is_empty() {
        return Err(FieldError::new("text", "empty", "must not be empty"));
    }
    if text.len() > max_bytes {
        let detail = format!("is {} bytes long, at most {max_bytes} are allowed", text.len());
        return Err(FieldError::new("text", "too-long", detail));
    }
    if text.contains('\0') {
        return Err(FieldError::new("text", "characters", "must not contain U+0000"));
    }
    Ok(text)
}

/// Type of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum MessageType {
    /// Text.
    Text,
    /// Made by the server: a membership change.
    System,
}

/// What a row of a log says. Stored as `kind` and the columns it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A text message (chat log).
    Message {
        /// `None` once emptied.
        text: Option<String>,
    },
    /// A membership change (chat log). It is the SYSTEM message and the event at once.
    MembersChanged(MembersChanged),
    /// The user entered a chat (personal log).
    NewChat {
        /// Which.
        chat: ChatId,
        /// Where the stay begins.
        joined_seq: Seq,
    },
    /// A stay ended (personal log).
    ChatLeft {
        /// Which.
        chat: ChatId,
        /// Last row of the stay.
        left_seq: Seq,
        /// Why.
        reason: LeaveReason,
    },
    /// Something happened between two users (personal log).
    Contact {
        /// What.
        event: ContactEvent,
        /// The other.
        peer: UserId,
    },
}

/// Members added, removed, and roles given, by one row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MembersChanged {
    /// Who joined.
    pub added: Vec<UserId>,
    /// Who left or was removed.
    pub removed: Vec<UserId>,
    /// Roles given by this row, to those added too.
    pub roles: BTreeMap<UserId, Role>,
}

/// What happened between two users, seen from the owner of the personal log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ContactEvent {
    /// The peer asks.
    NewContactRequest,
    /// A request was accepted.
    ContactRequestAccepted,
    /// A request was rejected or withdrawn by the peer.
    ContactRequestRejected,
    /// The peer ended the relation.
    ContactRemoved,
    /// The peer blocked me.
    BlockedByContact,
    /// The peer unblocked me.
    UnblockedByContact,
}

impl ContactEvent {
    /// Every one of them.
    pub const ALL: [Self; 6] = [
        Self::NewContactRequest,
        Self::ContactRequestAccepted,
        Self::ContactRequestRejected,
        Self::ContactRemoved,
        Self::BlockedByContact,
        Self::UnblockedByContact,
    ];

    /// The name, on the wire and as stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NewContactRequest => "new-contact-request",
            Self::ContactRequestAccepted => "contact-request-accepted",
            Self::ContactRequestRejected => "contact-request-rejected",
            Self::ContactRemoved => "contact-removed",
            Self::BlockedByContact => "blocked-by-contact",
            Self::UnblockedByContact => "unblocked-by-contact",
        }
    }
}

/// One row of a log, as committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRow {
    /// Which log.
    pub stream: Stream,
    /// Position.
    pub seq: Seq,
    /// Id; of a message row, the message's.
    pub id: RowId,
    /// Who caused it.
    pub sender: UserId,
    /// When; never runs backwards within a log.
    pub at: Timestamp,
    /// The sender's own id of it.
    pub local_id: Option<LocalId>,
    /// What it says.
    pub entry: Entry,
}

/// A message as a surface shows it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageView {
    /// Id.
    pub id: RowId,
    /// Chat.
    pub chat_id: ChatId,
    /// Position in the chat's log.
    pub seq: Seq,
    /// Sender.
    pub sender_id: UserId,
    /// Type.
    #[serde(rename = "type")]
    pub kind: MessageType,
    /// Text.
    pub text: Option<String>,
    /// Attachment.
    pub media: Option<()>,
    /// What it answers.
    pub reply_to: Option<()>,
    /// Where it was copied from.
    pub forwarded_from: Option<()>,
    /// Who is mentioned.
    pub mentions: Vec<UserId>,
    /// Reactions by emoji.
    pub reactions: Vec<()>,
    /// When it was sent.
    pub created_at: Timestamp,
    /// When it was edited.
    pub edited_at: Option<Timestamp>,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
    /// To the sender only: their own id of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_id: Option<LocalId>,
    /// To the sender only, over REST: how far it got.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
}

impl LogRow {
    /// The message this row of a chat's log is, without what only the sender may see; `None` for rows of other kinds.
    pub fn message(&self) -> Option<MessageView> {
        let Stream::Chat(chat_id) = self.stream else { return None };
        let (kind, text) = match &self.entry {
            Entry::Message { text } => (MessageType::Text, text.clone()),
            Entry::MembersChanged(_) => (MessageType::System, None),
            Entry::NewChat { .. } | Entry::ChatLeft { .. } | Entry::Contact { .. } => return None,
        };
        Some(MessageView {
            id: self.id,
            chat_id,
            seq: self.seq,
            sender_id: self.sender,
            kind,
            text,
            media: None,
            reply_to: None,
            forwarded_from: None,
            mentions: Vec::new(),
            reactions: Vec::new(),
            created_at: self.at,
            edited_at: None,
            deleted_at: None,
            local_id: None,
            status: None,
        })
    }

    /// The message as `viewer` sees it over REST, `status` left to the caller.
    pub fn message_for(&self, viewer: UserId) -> Option<MessageView> {
        let mut message = self.message()?;
        if viewer == self.sender {
            message.local_id.clone_from(&self.local_id);
        }
        Some(message)
    }
}
