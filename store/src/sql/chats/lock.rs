//! A chat under lock: where its log ends, and how it grows by one row.

use crate::sql::{
    log::{NewRow, insert_rows},
    messages::append::advance_chats,
    statement::statements,
    transaction::Tx,
    value::args,
    writer::Scope,
};
use curlew_domain::{
    chat::{ChatKind, HistoryVisible},
    clock::Timestamp,
    ids::{ChatId, RowId, Seq, Stream, UserId},
    message::{Entry, LogRow},
    ports::relay::Committed,
};
use std::sync::Arc;

statements! {
    LOCK_CHAT = ["SELECT c.kind, c.last_seq, c.last_at, c.history_visible, c.name, c.description FROM chats c
        WHERE c.id = $1 AND EXISTS (SELECT 1 FROM memberships m WHERE m.chat_id = c.id AND m.user_id = $2)" lock(c)];
}

/// A chat as it was locked. Until the transaction ends nobody else appends to its log or changes its members.
pub(in crate::sql) struct LockedChat {
    pub id: ChatId,
    pub kind: ChatKind,
    pub end: Seq,
    pub last_at: Timestamp,
    pub history_visible: HistoryVisible,
    pub name: Option<String>,
    pub description: Option<String>,
}

impl LockedChat {
    /// Locks a chat in which `actor` is or was. For strangers it is as one that does not exist, and takes no longer.
    pub async fn lock(tx: &mut Tx, id: ChatId, actor: UserId) -> Result<Option<Self>, sqlx::Error> {
        let Some(row) = tx.find(&LOCK_CHAT, args![id, actor]).await? else { return Ok(None) };
        Ok(Some(Self {
            id,
            kind: row.named(0, ChatKind::parse)?,
            end: row.seq(1)?,
            last_at: row.at(2)?,
            history_visible: row.named(3, HistoryVisible::parse)?,
            name: row.text_or_null(4)?,
            description: row.text_or_null(5)?,
        }))
    }

    /// Appends a row to the log. The relay gets it with [`publish`]; what must come before it there is pushed in between.
    pub async fn append(
        &self,
        tx: &mut Tx,
        id: RowId,
        sender: UserId,
        at: Timestamp,
        entry: Entry,
    ) -> Result<LogRow, sqlx::Error> {
        let (stream, seq, at) = (Stream::Chat(self.id), self.end + 1, self.last_at.max(at));
        let row = LogRow { stream, seq, id, sender, at, local_id: None, entry };
        insert_rows(tx, &[NewRow::from(&row)]).await?;
        advance_chats(tx, [(self.id, row.seq, row.at)]).await?;
        Ok(row)
    }
}

/// Hands a row to the relay once the transaction is committed.
pub(in crate::sql) fn publish(scope: &mut Scope<'_>, row: LogRow) {
    scope.committed.push(Committed::Row(Arc::new(row)));
}
