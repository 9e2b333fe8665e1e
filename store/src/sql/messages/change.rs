//! Changes of messages that are stored: editing, reacting, deleting.

use super::{append::find_send_facts, dress::dress, is_hidden};
use crate::{
    sql::{
        chats::lock::{LockedChat, publish},
        log::{append_personal, lock_users, log_columns, message_kinds, read_row},
        statement::statements,
        stays::Entitlement,
        transaction::Tx,
        value::args,
        writer::{Place, Scope, Write},
    },
    trouble::Failed,
};
use async_trait::async_trait;
use curlew_domain::{
    Refusal,
    chat::Standing,
    clock::Timestamp,
    ids::{ChatId, RowId, Stream, UserId},
    message::{Content, Emoji, Entry, LogRow, Target},
    ports::store::ChangeMessage,
    rules::{MessageChange, MessageFacts, may_change_message, require_member},
};
use uuid::Uuid;

statements! {
    FIND_MESSAGE = ["SELECT " (log_columns!()) " FROM log l WHERE l.stream = $1 AND l.id = $2 AND l.kind IN " (message_kinds!())];
    EDIT_MESSAGE = ["UPDATE log SET text = $3, edited_at = $4 WHERE stream = $1 AND seq = $2"];
    EMPTY_MESSAGE = ["UPDATE log SET text = NULL, body = NULL, message_seq = NULL, content_hash = NULL, deleted_at = $3
        WHERE stream = $1 AND seq = $2"];
    FIND_REACTION = ["SELECT x.emoji FROM reactions x WHERE x.chat_id = $1 AND x.message_seq = $2 AND x.user_id = $3"];
    PUT_REACTION = ["INSERT INTO reactions (chat_id, message_seq, user_id, emoji, at) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (chat_id, message_seq, user_id) DO UPDATE SET emoji = excluded.emoji, at = excluded.at"];
    DELETE_REACTION = ["DELETE FROM reactions WHERE chat_id = $1 AND message_seq = $2 AND user_id = $3"];
    DELETE_REACTIONS = ["DELETE FROM reactions WHERE chat_id = $1 AND message_seq = $2"];
    DELETE_MENTIONS = ["DELETE FROM mentions WHERE chat_id = $1 AND message_seq = $2
        AND user_id IN (SELECT m.user_id FROM memberships m WHERE m.chat_id = $1)"];
    HIDE_MESSAGE = ["INSERT INTO hidden_messages (chat_id, user_id, message_seq) VALUES ($1, $2, $3)
        ON CONFLICT (chat_id, user_id, message_seq) DO NOTHING"];
}

/// A message of this chat that the user may have.
async fn find_message(
    tx: &mut Tx,
    user: UserId,
    chat: ChatId,
    message: RowId,
) -> Result<Option<LogRow>, sqlx::Error> {
    let Some(row) = tx.find(&FIND_MESSAGE, args![chat, message]).await? else { return Ok(None) };
    let row = read_row(Stream::Chat(chat), &row)?;
    let entitlement = Entitlement::find(tx, user, chat).await?;
    Ok(Some(row).filter(|row| entitlement.is_some_and(|entitlement| entitlement.contains(row.seq))))
}

#[async_trait]
impl Write for ChangeMessage {
    type Answer = Target;
    const PLACE: Place = Place::ChatInTurn;

    fn key(&self) -> Uuid {
        self.chat.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Target, Failed> {
        let Self { chat, message, actor, delete_window, at, .. } = *self;
        let judge = |facts: Option<&MessageFacts>| may_change_message(&self.change, facts, delete_window, at);
        let locked = LockedChat::lock(scope.tx, chat, actor).await?;
        let mut found = find_message(scope.tx, actor, chat, message).await?;
        // What is hidden is there to be deleted for everyone, and for nothing else.
        if let Some(row) = &found
            && !matches!(self.change, MessageChange::Delete)
            && is_hidden(scope.tx, actor, chat, row.seq).await?
        {
            found = None;
        }
        let send = find_send_facts(scope.tx, actor, chat).await?;
        let Some(((locked, found), send)) = locked.zip(found).zip(send) else {
            judge(None)?;
            return Err(Refusal::not_found("message").into());
        };
        let content = match &found.entry {
            Entry::Message(content) => Some(content),
            _ => None,
        };
        judge(Some(&MessageFacts {
            send,
            mine: found.sender == actor,
            system: content.is_none(),
            deleted: content.is_some_and(|content| content.deleted_at.is_some()),
            sent_at: found.at,
        }))?;
        let target = Target { id: found.id, seq: found.seq };
        let entry = match &self.change {
            MessageChange::Edit(text) => self.edit(scope.tx, found, text).await?,
            MessageChange::React(emoji) => self.react(scope.tx, target, emoji.as_ref()).await?,
            MessageChange::Delete => self.empty(scope.tx, target, content).await?,
        };
        if let Some(entry) = entry {
            let row = locked.append(scope.tx, self.row, actor, at, entry).await?;
            publish(scope, row);
        }
        Ok(target)
    }
}

/// What the kinds of change write; each answers the row to append, `None` when it was so already.
trait Changing {
    async fn edit(&self, tx: &mut Tx, found: LogRow, text: &str) -> Result<Option<Entry>, sqlx::Error>;
    async fn react(
        &self,
        tx: &mut Tx,
        target: Target,
        emoji: Option<&Emoji>,
    ) -> Result<Option<Entry>, sqlx::Error>;
    async fn empty(
        &self,
        tx: &mut Tx,
        target: Target,
        content: Option<&Content>,
    ) -> Result<Option<Entry>, sqlx::Error>;
}

impl Changing for ChangeMessage {
    async fn edit(&self, tx: &mut Tx, mut found: LogRow, text: &str) -> Result<Option<Entry>, sqlx::Error> {
        let target = Target { id: found.id, seq: found.seq };
        let Entry::Message(content) = &mut found.entry else { return Ok(None) };
        if content.text.as_deref() == Some(text) {
            return Ok(None);
        }
        content.text = Some(text.to_owned());
        content.edited_at = Some(self.at);
        tx.execute(&EDIT_MESSAGE, args![self.chat, target.seq, Some(text), Some(self.at)]).await?;
        dress(tx, std::slice::from_mut(&mut found), |_, _| true).await?;
        Ok(Some(Entry::MessageEdited { target, message: Some(Box::new(found)) }))
    }

    async fn react(
        &self,
        tx: &mut Tx,
        target: Target,
        emoji: Option<&Emoji>,
    ) -> Result<Option<Entry>, sqlx::Error> {
        let place = || args![self.chat, target.seq, self.actor];
        let before = tx.find(&FIND_REACTION, place()).await?.map(|row| row.text(0)).transpose()?;
        if before.as_deref() == emoji.map(Emoji::as_str) {
            return Ok(None);
        }
        match emoji {
            Some(emoji) => {
                let args = args![self.chat, target.seq, self.actor, emoji.as_str(), self.at];
                tx.execute(&PUT_REACTION, args).await?;
            }
            None => {
                tx.execute(&DELETE_REACTION, place()).await?;
            }
        }
        Ok(Some(Entry::MessageReaction { target, emoji: emoji.cloned() }))
    }

    async fn empty(
        &self,
        tx: &mut Tx,
        target: Target,
        content: Option<&Content>,
    ) -> Result<Option<Entry>, sqlx::Error> {
        if content.is_none_or(|content| content.deleted_at.is_some()) {
            return Ok(None);
        }
        tx.execute(&EMPTY_MESSAGE, args![self.chat, target.seq, Some(self.at)]).await?;
        tx.execute(&DELETE_REACTIONS, args![self.chat, target.seq]).await?;
        if content.is_some_and(|content| !content.mentions.is_empty()) {
            tx.execute(&DELETE_MENTIONS, args![self.chat, target.seq]).await?;
        }
        Ok(Some(Entry::MessageDeleted(target)))
    }
}

/// A user deletes a message for themselves.
pub(in crate::sql) struct HideMessage {
    pub user: UserId,
    pub chat: ChatId,
    pub message: RowId,
    pub at: Timestamp,
}

#[async_trait]
impl Write for HideMessage {
    type Answer = Target;
    const PLACE: Place = Place::InTurn;

    fn key(&self) -> Uuid {
        self.chat.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Target, Failed> {
        let Self { user, chat, message, at } = *self;
        let found = find_message(scope.tx, user, chat, message).await?;
        let LogRow { id, seq, .. } = found.ok_or_else(|| Refusal::not_found("message"))?;
        let facts = find_send_facts(scope.tx, user, chat).await?;
        require_member(facts.map_or(Standing::Stranger, |facts| facts.standing))?;
        if scope.tx.execute(&HIDE_MESSAGE, args![chat, user, seq]).await? == 1 {
            lock_users(scope.tx, &[user]).await?;
            append_personal(scope, user, at, vec![(user, Entry::MessageHidden { message: id, chat })])
                .await?;
        }
        Ok(Target { id, seq })
    }
}
