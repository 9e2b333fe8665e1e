//! Log rows and messages.

use crate::{
    chat::{ChatBasics, LeaveReason, Role},
    clock::Timestamp,
    error::FieldError,
    ids::{ChatId, RowId, Seq, Stream, UserId},
    receipt::Status,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use unicode_segmentation::UnicodeSegmentation;
use utoipa::ToSchema;

/// Longest emoji in bytes: a family of four with skin tones has 41.
const MAX_EMOJI_BYTES: usize = 64;
/// How many characters of a message its replies quote.
const PREVIEW_CHARS: usize = 100;
/// Most people mentioned in one message.
pub const MAX_MENTIONS: usize = 64;

/// A client's own id of a send: 1–64 printable ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(
    min_length = 1,
    max_length = 64,
    pattern = "^[ -~]{1,64}$",
    example = "0192f0c1-7a10-7000-8000-0000000000aa"
)]
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

/// An emoji: one extended grapheme cluster (Unicode Standard Annex 29) beyond ASCII's letters and digits alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(min_length = 1, max_length = 64, example = "👍")]
pub struct Emoji(String);

impl Emoji {
    /// Checks that it is one grapheme.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        let one = text.len() <= MAX_EMOJI_BYTES && text.graphemes(true).count() == 1;
        if !one || text.is_ascii() || text.chars().any(char::is_control) {
            return Err(FieldError::new("emoji", "invalid", "must be one emoji"));
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

/// The beginning of a text, as replies quote it.
pub fn preview_of(text: &str) -> String {
    let mut graphemes = text.graphemes(true);
    let mut preview: String = graphemes.by_ref().take(PREVIEW_CHARS).collect();
    preview.truncate(preview.floor_char_boundary(PREVIEW_CHARS * 4));
    if preview.len() < text.len() {
        preview.push('…');
    }
    preview
}

/// Type of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
    Message(Content),
    /// A membership change (chat log). It is the SYSTEM message and the event at once.
    MembersChanged(MembersChanged),
    /// Name, description, picture or history of a group changed (chat log). It is the SYSTEM message and the event at once.
    ChatUpdated(Box<ChatBasics>),
    /// A message's text was replaced (chat log).
    MessageEdited {
        /// Which.
        target: Target,
        /// As it is now; `None` for a reader who may not have it.
        message: Option<Box<LogRow>>,
    },
    /// A message was deleted for everyone (chat log), by the row's sender.
    MessageDeleted(Target),
    /// The row's sender set or took back a reaction (chat log).
    MessageReaction {
        /// To which message.
        target: Target,
        /// Theirs now.
        emoji: Option<Emoji>,
    },
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
    /// The incoming contact requests were seen (personal log).
    ContactRequestsViewed,
    /// The badge of a chat was cleared (personal log).
    NotificationsCleared(ChatId),
    /// The list of the user's devices changed (personal log).
    DevicesUpdated,
    /// The user deleted a message for themselves (personal log).
    MessageHidden {
        /// Which.
        message: RowId,
        /// Of which chat.
        chat: ChatId,
    },
    /// The user's own settings of a chat changed (personal log).
    ChatSettingsChanged(ChatId),
    /// A profile changed: one's own, or a contact's (personal log).
    ProfileUpdated(UserId),
}

/// What a text message says. Everything but the times is gone once it was deleted for everyone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// `None` once emptied.
    pub text: Option<String>,
    /// What it answers.
    pub reply_to: Option<Reply>,
    /// What it was copied from.
    pub forwarded_from: Option<Origin>,
    /// Who is mentioned.
    pub mentions: Vec<UserId>,
    /// As they are now.
    pub reactions: Vec<Reaction>,
    /// When it was last edited.
    pub edited_at: Option<Timestamp>,
    /// When it was deleted for everyone.
    pub deleted_at: Option<Timestamp>,
}

impl Content {
    /// A text and nothing else.
    pub fn of_text(text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..Self::default() }
    }
}

/// What a message answers. The preview is the reply's own: it stays when the other message is edited or deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reply {
    /// The message answered.
    pub id: RowId,
    /// Its place in the chat's log.
    pub seq: Seq,
    /// Who sent it.
    pub sender_id: UserId,
    /// The beginning of its text when it was answered; `null` if there was none.
    pub preview: Option<String>,
}

/// What a message was copied from; of a copy of a copy, the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// The message copied. It says nothing to those who may not have it.
    pub id: RowId,
    /// Who sent it.
    pub sender_id: UserId,
}

/// One emoji and everybody whose reaction it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reaction {
    /// The emoji.
    pub emoji: Emoji,
    /// Whose, first to last.
    pub user_ids: Vec<UserId>,
}

/// The message that a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its id.
    pub id: RowId,
    /// Its place in the same log.
    pub seq: Seq,
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
#[derive(Clone, Debug, Serialize, ToSchema)]
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
    pub reply_to: Option<Reply>,
    /// What it was copied from.
    pub forwarded_from: Option<Origin>,
    /// Who is mentioned.
    pub mentions: Vec<UserId>,
    /// Reactions by emoji, oldest first.
    pub reactions: Vec<Reaction>,
    /// When it was sent.
    pub created_at: Timestamp,
    /// When it was edited.
    pub edited_at: Option<Timestamp>,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
    /// To the sender only: their own id of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub local_id: Option<LocalId>,
    /// To the sender only, over REST: how far it got.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub status: Option<Status>,
}

impl LogRow {
    /// The message this row of a chat's log is, without what only the sender may see; `None` for rows of other kinds.
    pub fn message(&self) -> Option<MessageView> {
        let Stream::Chat(chat_id) = self.stream else { return None };
        let (kind, content) = match &self.entry {
            Entry::Message(content) => (MessageType::Text, content.clone()),
            Entry::MembersChanged(_) | Entry::ChatUpdated(_) => (MessageType::System, Content::default()),
            _ => return None,
        };
        Some(MessageView {
            id: self.id,
            chat_id,
            seq: self.seq,
            sender_id: self.sender,
            kind,
            text: content.text,
            media: None,
            reply_to: content.reply_to,
            forwarded_from: content.forwarded_from,
            mentions: content.mentions,
            reactions: content.reactions,
            created_at: self.at,
            edited_at: content.edited_at,
            deleted_at: content.deleted_at,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emoji_is_one_grapheme() {
        for good in ["👍", "👍🏽", "👨‍👩‍👧‍👦", "🇳🇴", "1️⃣", "❤️", "🏴󠁧󠁢󠁥󠁮󠁧󠁿"]
        {
            assert!(Emoji::parse(good).is_ok(), "{good}");
        }
        let zalgo = format!("👍{}", "\u{301}".repeat(40));
        for bad in ["", "👍👍", "a", "7", ":)", "👍 ", "\u{85}", zalgo.as_str()] {
            assert!(Emoji::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_preview_is_bounded_in_characters_and_bytes() {
        assert_eq!(preview_of("short"), "short");
        assert_eq!(preview_of(&"x".repeat(200)), format!("{}…", "x".repeat(100)));
        assert!(preview_of(&"x\u{301}".repeat(16_000)).len() <= 403);
        assert!(preview_of(&format!("x{}", "\u{301}".repeat(16_000))).len() <= 403);
    }
}
