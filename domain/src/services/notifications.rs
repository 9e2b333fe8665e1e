//! Badges.

use super::Base;
use crate::{
    error::Result,
    ids::{ChatId, UserId},
    notification::{self, NotificationCounts},
    page::{MAX_LIMIT, PageRequest},
};

/// Badges.
pub struct Notifications {
    base: Base,
}

impl Notifications {
    /// The service.
    pub fn new(base: Base) -> Self {
        Self { base }
    }

    /// Chats with a badge, and contact requests not yet viewed.
    pub async fn list(&self, user: UserId, page: PageRequest) -> Result<notification::Notifications> {
        Ok(notification::Notifications {
            chats: self.base.store.list_chat_notifications(user, page).await?,
            contact_requests: self.base.store.list_new_requests(user, MAX_LIMIT).await?,
        })
    }

    /// All badges.
    pub async fn counts(&self, user: UserId) -> Result<NotificationCounts> {
        self.base.store.count_notifications(user).await
    }

    /// Clears the badge of a chat; what is unread stays unread.
    pub async fn clear(&self, user: UserId, chat: ChatId) -> Result<()> {
        self.base.store.clear_notifications(user, chat, self.base.now()).await
    }

    /// Notes that the incoming contact requests were viewed.
    pub async fn mark_contacts_viewed(&self, user: UserId) -> Result<()> {
        self.base.store.mark_requests_viewed(user, self.base.now()).await
    }
}
