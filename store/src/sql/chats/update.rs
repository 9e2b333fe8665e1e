//! Changes of a group itself, and of a member's own settings.

use super::lock::{LockedChat, publish};
use crate::{
    sql::{
        log::{append_personal, lock_users},
        messages::append::find_send_facts,
        statement::statements,
        value::args,
        writer::{Place, Scope, Write},
    },
    trouble::Failed,
};
use async_trait::async_trait;
use curlew_domain::{
    Refusal,
    chat::{ChatBasics, ChatSettings},
    clock::Timestamp,
    ids::{ChatId, UserId},
    message::Entry,
    ports::store::{SettingsChange, UpdateChat},
    rules::{may_update_chat, require_member},
};
use uuid::Uuid;

statements! {
    UPDATE_CHAT = ["UPDATE chats SET name = $2, description = $3, history_visible = $4 WHERE id = $1"];
    FIND_SETTINGS = ["SELECT m.muted_until, m.pinned, m.archived FROM memberships m
        WHERE m.chat_id = $1 AND m.user_id = $2 AND m.left_seq IS NULL" lock(m)];
    UPDATE_SETTINGS = ["UPDATE memberships SET muted_until = $3, pinned = $4, archived = $5
        WHERE chat_id = $1 AND user_id = $2 AND left_seq IS NULL"];
}

#[async_trait]
impl Write for UpdateChat {
    type Answer = bool;
    const PLACE: Place = Place::ChatInTurn;

    fn key(&self) -> Uuid {
        self.chat.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<bool, Failed> {
        let Self { chat, actor, change, row, at } = self;
        let Some(locked) = LockedChat::lock(scope.tx, *chat, *actor).await? else {
            may_update_chat(None)?;
            return Ok(false);
        };
        let facts = find_send_facts(scope.tx, *actor, *chat).await?;
        may_update_chat(facts.map(|facts| (facts.kind, facts.standing)))?;
        let basics = ChatBasics {
            id: *chat,
            name: change.name.clone().or_else(|| locked.name.clone()),
            description: change.description.clone().unwrap_or_else(|| locked.description.clone()),
            picture_url: None,
            history_visible: change.history_visible.unwrap_or(locked.history_visible),
        };
        let before = (&locked.name, &locked.description, locked.history_visible);
        if before == (&basics.name, &basics.description, basics.history_visible) {
            return Ok(false);
        }
        let (name, description) = (basics.name.as_deref(), basics.description.as_deref());
        let args = args![*chat, name, description, basics.history_visible.as_str()];
        scope.tx.execute(&UPDATE_CHAT, args).await?;
        let entry = Entry::ChatUpdated(Box::new(basics));
        let row = locked.append(scope.tx, *row, *actor, *at, entry).await?;
        publish(scope, row);
        Ok(true)
    }
}

/// A member changes their own settings of a chat.
pub(in crate::sql) struct UpdateSettings {
    pub user: UserId,
    pub chat: ChatId,
    pub change: SettingsChange,
    pub at: Timestamp,
}

#[async_trait]
impl Write for UpdateSettings {
    type Answer = ChatSettings;
    const PLACE: Place = Place::InTurn;

    fn key(&self) -> Uuid {
        self.chat.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<ChatSettings, Failed> {
        let Self { user, chat, change, at } = *self;
        let facts = find_send_facts(scope.tx, user, chat).await?;
        require_member(facts.ok_or_else(|| Refusal::not_found("chat"))?.standing)?;
        let row = scope.tx.find(&FIND_SETTINGS, args![chat, user]).await?;
        let row = row.ok_or(sqlx::Error::RowNotFound)?;
        let before =
            ChatSettings { muted_until: row.at_or_null(0)?, pinned: row.flag(1)?, archived: row.flag(2)? };
        let after = ChatSettings {
            muted_until: change.muted_until.unwrap_or(before.muted_until),
            pinned: change.pinned.unwrap_or(before.pinned),
            archived: change.archived.unwrap_or(before.archived),
        };
        if after != before {
            let args = args![chat, user, after.muted_until, after.pinned, after.archived];
            scope.tx.execute(&UPDATE_SETTINGS, args).await?;
            lock_users(scope.tx, &[user]).await?;
            append_personal(scope, user, at, vec![(user, Entry::ChatSettingsChanged(chat))]).await?;
        }
        Ok(after)
    }
}
