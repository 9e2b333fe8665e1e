//! Badges: what of a user's chats and contact requests waits to be noticed. All of it follows from logs, watermarks and
//! relations; nothing is counted up or down.

use crate::{contact::ContactView, ids::ChatId, message::MessageView, page::Page};
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Messages of a chat that wait to be noticed: others', neither deleted nor hidden, after what was read and cleared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Badge {
    /// How many, counted to 999.
    pub unread: u32,
    /// Those of them that mention the user.
    pub mentions: u32,
}

/// A chat with a badge.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChatNotification {
    /// Which.
    pub chat_id: ChatId,
    /// How many messages, counted to 999.
    pub unread_count: u32,
    /// Those of them that mention the user.
    pub mention_count: u32,
    /// Newest message row that the user may see.
    pub last_message: Option<MessageView>,
}

/// Chats with a badge, latest activity first, and contact requests not yet viewed, newest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Notifications {
    /// The chats.
    #[serde(flatten)]
    pub chats: Page<ChatNotification>,
    /// The requests, at most 200.
    pub contact_requests: Vec<ContactView>,
}

/// All badges.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct NotificationCounts {
    /// Unread messages of all chats, and contact requests.
    pub total: u32,
    /// Contact requests not yet viewed.
    pub contact_requests: u32,
    /// Chats with a badge.
    pub chats: BTreeMap<ChatId, Badge>,
}

impl NotificationCounts {
    /// Sums up.
    pub fn of(chats: BTreeMap<ChatId, Badge>, contact_requests: u32) -> Self {
        let total = chats.values().map(|badge| badge.unread).fold(contact_requests, u32::saturating_add);
        Self { total, contact_requests, chats }
    }
}
