//! The port `Notifications`: badges, derived from logs, watermarks and relations.

use super::{
    SqlStore,
    chats::{lock::LockedChat, view::last_messages},
    contacts::list_new_requests,
    log::{append_personal, lock_users},
    messages::append::find_send_facts,
    read,
    receipts::{count_mentions, count_unread},
    statement::statements,
    transaction::Tx,
    users::as_page,
    value::args,
    writer::{Place, Scope, Write},
};
use crate::trouble::Failed;
use async_trait::async_trait;
use curlew_domain::{
    Refusal, Result,
    clock::Timestamp,
    contact::ContactView,
    ids::{ChatId, Seq, UserId},
    message::Entry,
    notification::{Badge, ChatNotification, NotificationCounts},
    page::{Page, PageRequest, Position},
    ports::store::Notifications,
    rules::require_member,
};
use std::collections::HashMap;
use uuid::Uuid;

statements! {
    // Chats that have rows after what was read and cleared.
    LIST_CANDIDATES = ["SELECT c.id, m.visible_from, c.last_seq, c.last_at, m.read_seq, m.cleared_seq
        FROM memberships m JOIN chats c ON c.id = m.chat_id
        WHERE m.user_id = $1 AND m.left_seq IS NULL AND c.last_seq > m.read_seq AND c.last_seq > m.cleared_seq
        ORDER BY c.last_at DESC, c.id DESC"];
    FIND_WATERMARKS = ["SELECT m.read_seq, m.cleared_seq FROM memberships m
        WHERE m.chat_id = $1 AND m.user_id = $2 AND m.left_seq IS NULL" lock(m)];
    CLEAR_BADGE = ["UPDATE memberships SET cleared_seq = $3 WHERE chat_id = $1 AND user_id = $2 AND left_seq IS NULL"];
    VIEW_REQUESTS = ["UPDATE relations SET viewed = 1 WHERE user_id = $1 AND relation = 'incoming' AND viewed = 0"];
    COUNT_REQUESTS = ["SELECT COUNT(*) FROM relations r
        WHERE r.user_id = $1 AND r.relation = 'incoming' AND r.viewed = 0 AND r.blocks = 0"];
}

/// A chat with a badge.
struct Badged {
    chat: ChatId,
    visible_from: Seq,
    end: Seq,
    last_at: i64,
    badge: Badge,
}

/// The user's chats with a badge, latest activity first: three statements.
async fn find_badged(tx: &mut Tx, user: UserId) -> Result<Vec<Badged>, sqlx::Error> {
    let mut candidates = Vec::new();
    let mut above = Vec::new();
    for row in tx.fetch(&LIST_CANDIDATES, args![user]).await? {
        let (chat, end): (ChatId, Seq) = (row.id(0)?, row.seq(2)?);
        above.push((chat, user, row.seq(4)?.max(row.seq(5)?), end));
        let (visible_from, last_at) = (row.seq(1)?, row.int(3)?);
        candidates.push(Badged { chat, visible_from, end, last_at, badge: Badge::default() });
    }
    let unread = count_unread(tx, above.iter().copied()).await?;
    above.retain(|(chat, ..)| unread.get(&(*chat, user)).is_some_and(|count| *count > 0));
    let mentions = count_mentions(tx, above).await?;
    for candidate in &mut candidates {
        let of = |counts: &HashMap<(ChatId, UserId), u32>| {
            counts.get(&(candidate.chat, user)).copied().unwrap_or(0)
        };
        candidate.badge = Badge { unread: of(&unread), mentions: of(&mentions) };
    }
    candidates.retain(|candidate| candidate.badge.unread > 0);
    Ok(candidates)
}

async fn list_chats(
    tx: &mut Tx,
    user: UserId,
    page: PageRequest,
) -> Result<Page<ChatNotification>, sqlx::Error> {
    let place = |badged: &Badged| Position { key: badged.last_at, id: badged.chat.uuid() };
    let mut badged = find_badged(tx, user).await?;
    if let Some(Position { key, id }) = page.after {
        badged.retain(|badged| (badged.last_at, badged.chat.uuid()) < (key, id));
    }
    badged.truncate(page.limit as usize + 1);
    let Page { items, next_cursor } = as_page(badged, page, place);
    let mut last = if items.is_empty() {
        HashMap::new()
    } else {
        last_messages(tx, user, items.iter().map(|of| (of.chat, of.visible_from, of.end))).await?
    };
    let show = |Badged { chat, badge, .. }: Badged| ChatNotification {
        chat_id: chat,
        unread_count: badge.unread,
        mention_count: badge.mentions,
        last_message: last.remove(&chat),
    };
    Ok(Page { items: items.into_iter().map(show).collect(), next_cursor })
}

async fn count_all(tx: &mut Tx, user: UserId) -> Result<NotificationCounts, sqlx::Error> {
    let chats = find_badged(tx, user).await?.into_iter().map(|badged| (badged.chat, badged.badge)).collect();
    let requests = tx.find(&COUNT_REQUESTS, args![user]).await?.map(|row| row.count(0)).transpose()?;
    Ok(NotificationCounts::of(chats, requests.unwrap_or(0)))
}

/// A user clears the badge of a chat.
struct ClearBadge {
    user: UserId,
    chat: ChatId,
    at: Timestamp,
}

#[async_trait]
impl Write for ClearBadge {
    type Answer = ();
    const PLACE: Place = Place::InTurn;

    fn key(&self) -> Uuid {
        self.chat.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<(), Failed> {
        let Self { user, chat, at } = *self;
        let locked =
            LockedChat::lock(scope.tx, chat, user).await?.ok_or_else(|| Refusal::not_found("chat"))?;
        let facts = find_send_facts(scope.tx, user, chat).await?;
        require_member(facts.ok_or_else(|| Refusal::not_found("chat"))?.standing)?;
        let row = scope.tx.find(&FIND_WATERMARKS, args![chat, user]).await?;
        let row = row.ok_or(sqlx::Error::RowNotFound)?;
        let above = row.seq(0)?.max(row.seq(1)?);
        let unread = count_unread(scope.tx, [(chat, user, above, locked.end)]).await?;
        // Nothing that there is shows in the badge, and nothing that comes is cleared.
        if unread.get(&(chat, user)).is_none_or(|count| *count == 0) {
            return Ok(());
        }
        scope.tx.execute(&CLEAR_BADGE, args![chat, user, locked.end]).await?;
        lock_users(scope.tx, &[user]).await?;
        append_personal(scope, user, at, vec![(user, Entry::NotificationsCleared(chat))]).await?;
        Ok(())
    }
}

/// A user has seen their incoming contact requests.
struct ViewRequests {
    user: UserId,
    at: Timestamp,
}

#[async_trait]
impl Write for ViewRequests {
    type Answer = ();
    const PLACE: Place = Place::InTurn;

    fn key(&self) -> Uuid {
        self.user.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<(), Failed> {
        let Self { user, at } = *self;
        lock_users(scope.tx, &[user]).await?;
        if scope.tx.execute(&VIEW_REQUESTS, args![user]).await? > 0 {
            append_personal(scope, user, at, vec![(user, Entry::ContactRequestsViewed)]).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Notifications for SqlStore {
    async fn list_chat_notifications(
        &self,
        user: UserId,
        page: PageRequest,
    ) -> Result<Page<ChatNotification>> {
        read!(self, |tx| list_chats(tx, user, page).await?)
    }

    async fn list_new_requests(&self, user: UserId, limit: u32) -> Result<Vec<ContactView>> {
        read!(self, single | tx | list_new_requests(tx, user, limit).await?)
    }

    async fn count_notifications(&self, user: UserId) -> Result<NotificationCounts> {
        read!(self, |tx| count_all(tx, user).await?)
    }

    async fn clear_notifications(&self, user: UserId, chat: ChatId, at: Timestamp) -> Result<()> {
        self.writer.write(ClearBadge { user, chat, at }).await
    }

    async fn mark_requests_viewed(&self, user: UserId, at: Timestamp) -> Result<()> {
        self.writer.write(ViewRequests { user, at }).await
    }
}
