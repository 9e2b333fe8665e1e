//! The port `Log`: appending messages, reading logs, watermarks.

pub(super) mod append;
pub(super) mod change;
pub(super) mod dress;
pub(super) mod quote;

use super::{
    SqlStore,
    chats::view::{find_sights, show, withheld_from},
    log::{LOG_COLUMNS, log_columns, message_kinds, not_hidden, read_row},
    read,
    receipts::{RaiseWatermarks, list_receipts},
    statement::{Sql, statements},
    stays::{Entitlement, find_marks},
    transaction::Tx,
    users::{USER_COLUMNS, as_page, read_user, user_columns},
    value::{Arg, Table, args},
};
use async_trait::async_trait;
use change::HideMessage;
use curlew_domain::{
    Result,
    clock::Timestamp,
    ids::{ChatId, RowId, Seq, Stream, UserId},
    message::{Entry, LocalId, LogRow, MessageView, Target},
    page::{Page, PageRequest, Position},
    ports::store::{AppendMessage, Appended, ChangeMessage, Commit, Log, LogPage, MessagesFrom},
    receipt::{Mark, Raise, Raised, ReceiptsPage, ReceiptsQuery, Recipient, Sight, Status},
    rules::SendFacts,
};
use dress::dress;
use std::collections::{BTreeSet, HashMap, HashSet};
use uuid::Uuid;

statements! {
    READ_ROWS = ["SELECT " (log_columns!()) " FROM log l WHERE l.stream = $1 AND l.seq >= $2 AND l.seq <= $3
        AND " (not_hidden!("$5")) " ORDER BY l.seq LIMIT $4"];
    MESSAGES_UP = ["SELECT " (log_columns!()) " FROM log l WHERE l.stream = $1 AND l.seq >= $2 AND l.seq <= $3
        AND l.kind IN " (message_kinds!()) " AND " (not_hidden!("$5")) " ORDER BY l.seq LIMIT $4"];
    MESSAGES_DOWN = ["SELECT " (log_columns!()) " FROM log l WHERE l.stream = $1 AND l.seq >= $2 AND l.seq <= $3
        AND l.kind IN " (message_kinds!()) " AND " (not_hidden!("$5")) " ORDER BY l.seq DESC LIMIT $4"];
    REPLIES = ["SELECT " (log_columns!()) " FROM log l WHERE l.stream = $1 AND l.seq >= $2 AND l.seq <= $3
        AND l.message_seq = $6 AND l.kind = 'message' AND " (not_hidden!("$5")) " ORDER BY l.seq LIMIT $4"];
    // One statement, so that what is not the user's takes no longer than what does not exist.
    FIND_ROW = ["SELECT " (log_columns!()) ", l.stream FROM log l WHERE l.id = $1 AND l.kind IN " (message_kinds!()) "
        AND EXISTS (SELECT 1 FROM memberships m WHERE m.chat_id = l.stream AND m.user_id = $2 AND m.visible_from <= l.seq
            AND (m.left_seq IS NULL OR m.left_seq >= l.seq))"];
    IS_HIDDEN = ["SELECT h.message_seq FROM hidden_messages h WHERE h.chat_id = $1 AND h.user_id = $2 AND h.message_seq = $3"];
    ARE_HIDDEN = ["WITH r AS MATERIALIZED " rows(1: seq int) "
        SELECT h.message_seq FROM r CROSS JOIN hidden_messages h WHERE h.chat_id = $2 AND h.user_id = $3 AND h.message_seq = r.seq"];
    RECIPIENTS = ["SELECT " (user_columns!()) ", m.joined_seq, m.left_seq, m.shown_delivered_seq, m.shown_read_seq
        FROM memberships m JOIN users u ON u.id = m.user_id
        WHERE m.chat_id = $1 AND m.joined_seq < $2 AND (m.left_seq IS NULL OR m.left_seq >= $2) AND m.user_id <> $3
        ORDER BY m.joined_seq, m.user_id"];
    PERSONAL_END = ["SELECT personal_seq FROM users WHERE id = $1"];
    PING = ["SELECT CAST(1 AS BIGINT)"];
}

/// End of a user's personal log; `None`: no such user.
pub(super) async fn personal_end(tx: &mut Tx, user: UserId) -> Result<Option<Seq>, sqlx::Error> {
    tx.find(&PERSONAL_END, args![user]).await?.map(|row| row.seq(0)).transpose()
}

/// Which rows of a log, and for whom.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    sql: &'a Sql,
    stream: Stream,
    user: UserId,
    /// The message that they answer.
    about: Option<Seq>,
    limit: u32,
}

impl Wanted<'_> {
    /// Up to `limit` rows out of `ranges`, in the order of the statement, complete.
    async fn read(
        &self,
        tx: &mut Tx,
        ranges: impl Iterator<Item = (Seq, Seq)> + Send,
    ) -> Result<Vec<LogRow>, sqlx::Error> {
        let mut rows: Vec<LogRow> = Vec::new();
        for (first, last) in ranges.filter(|(first, last)| first <= last) {
            let missing = self.limit.saturating_sub(u32::try_from(rows.len()).unwrap_or(u32::MAX));
            if missing == 0 {
                break;
            }
            let mut args = args![self.stream.id(), first, last, missing, self.user];
            args.extend(self.about.map(Arg::from));
            for row in tx.fetch(self.sql, args).await? {
                rows.push(read_row(self.stream, &row)?);
            }
        }
        Ok(rows)
    }
}

async fn read_log(
    tx: &mut Tx,
    user: UserId,
    stream: Stream,
    after: Seq,
    limit: u32,
) -> Result<Option<LogPage>, sqlx::Error> {
    let (ranges, end) = match stream {
        Stream::Chat(chat) => match Entitlement::find(tx, user, chat).await? {
            Some(entitlement) => (entitlement.ranges, entitlement.end),
            None => return Ok(None),
        },
        Stream::Personal(owner) if owner == user => match personal_end(tx, user).await? {
            Some(end) => (vec![(1, end)], end),
            None => return Ok(None),
        },
        Stream::Personal(_) => return Ok(None),
    };
    let next = after.saturating_add(1);
    let entitled = ranges.clone();
    let ranges = ranges.into_iter().map(|(first, last)| (first.max(next), last));
    let mut rows = Wanted { sql: &READ_ROWS, stream, user, about: None, limit }.read(tx, ranges).await?;
    if matches!(stream, Stream::Chat(_)) {
        let hidden = hidden_targets(tx, user, stream, &rows).await?;
        let entitled = |seq| entitled.iter().any(|(first, last)| (*first..=*last).contains(&seq));
        dress(tx, &mut rows, |_, seq| entitled(seq) && !hidden.contains(&seq)).await?;
    }
    let full = rows.len() >= limit as usize;
    let end = rows.last().filter(|_| full).map_or(end, |row| row.seq);
    Ok(Some(LogPage { rows, end }))
}

/// Of the messages that rows say were edited, those which the user has hidden.
async fn hidden_targets(
    tx: &mut Tx,
    user: UserId,
    stream: Stream,
    rows: &[LogRow],
) -> Result<HashSet<Seq>, sqlx::Error> {
    let edited = rows.iter().filter_map(|row| match &row.entry {
        Entry::MessageEdited { target, .. } => Some(target.seq),
        _ => None,
    });
    let edited: BTreeSet<Seq> = edited.collect();
    if edited.is_empty() {
        return Ok(HashSet::new());
    }
    let table = Table::of(edited, |row, seq| {
        row.seq(seq);
    });
    let hidden = tx.fetch(&ARE_HIDDEN, args![table, stream.id(), user]).await?;
    hidden.iter().map(|row| row.seq(0)).collect()
}

async fn list_messages(
    tx: &mut Tx,
    user: UserId,
    chat: ChatId,
    from: MessagesFrom,
    limit: u32,
) -> Result<Option<Vec<MessageView>>, sqlx::Error> {
    let Some(Entitlement { ranges, .. }) = Entitlement::find(tx, user, chat).await? else { return Ok(None) };
    let stream = Stream::Chat(chat);
    let below = match from {
        MessagesFrom::Newest => Seq::MAX,
        MessagesFrom::Before(seq) => seq.saturating_sub(1),
        MessagesFrom::After(seq) => {
            let ranges = ranges.into_iter().map(|(first, last)| (first.max(seq.saturating_add(1)), last));
            let rows =
                Wanted { sql: &MESSAGES_UP, stream, user, about: None, limit }.read(tx, ranges).await?;
            return Ok(Some(show(tx, user, rows).await?));
        }
    };
    let ranges = ranges.into_iter().rev().map(|(first, last)| (first, last.min(below)));
    let rows = Wanted { sql: &MESSAGES_DOWN, stream, user, about: None, limit }.read(tx, ranges).await?;
    Ok(Some(show(tx, user, rows).await?))
}

/// A message that the user may have, hidden or not, and its chat.
async fn find_entitled(
    tx: &mut Tx,
    user: UserId,
    message: RowId,
) -> Result<Option<(ChatId, LogRow)>, sqlx::Error> {
    let Some(row) = tx.find(&FIND_ROW, args![message, user]).await? else { return Ok(None) };
    let chat: ChatId = row.id(LOG_COLUMNS)?;
    Ok(Some((chat, read_row(Stream::Chat(chat), &row)?)))
}

/// Whether the user has deleted the message for themselves.
async fn is_hidden(tx: &mut Tx, user: UserId, chat: ChatId, message_seq: Seq) -> Result<bool, sqlx::Error> {
    Ok(tx.find(&IS_HIDDEN, args![chat, user, message_seq]).await?.is_some())
}

async fn find_message(tx: &mut Tx, user: UserId, message: RowId) -> Result<Option<MessageView>, sqlx::Error> {
    let Some((chat, row)) = find_entitled(tx, user, message).await? else { return Ok(None) };
    if is_hidden(tx, user, chat, row.seq).await? {
        return Ok(None);
    }
    Ok(show(tx, user, vec![row]).await?.pop())
}

async fn list_replies(
    tx: &mut Tx,
    user: UserId,
    message: RowId,
    page: PageRequest,
) -> Result<Option<Page<MessageView>>, sqlx::Error> {
    let Some((chat, row)) = find_entitled(tx, user, message).await? else { return Ok(None) };
    let Some(entitlement) = Entitlement::find(tx, user, chat).await? else { return Ok(None) };
    let after = page.after.map_or(0, |after| Seq::try_from(after.key).unwrap_or(0));
    let ranges = entitlement.ranges.into_iter().map(|(first, last)| (first.max(after + 1), last));
    let wanted = Wanted {
        sql: &REPLIES,
        stream: Stream::Chat(chat),
        user,
        about: Some(row.seq),
        limit: page.limit + 1,
    };
    let rows = wanted.read(tx, ranges).await?;
    let replies = show(tx, user, rows).await?;
    Ok(Some(as_page(replies, page, |reply| Position {
        key: i64::try_from(reply.seq).unwrap_or(i64::MAX),
        id: Uuid::nil(),
    })))
}

async fn list_recipients(
    tx: &mut Tx,
    chat: ChatId,
    sender: UserId,
    seq: Seq,
) -> Result<Vec<Recipient>, sqlx::Error> {
    let sight = find_sights(tx, sender, &[chat]).await?.remove(&chat).unwrap_or(Sight::Nothing);
    let mut recipients = Vec::new();
    for row in tx.fetch(&RECIPIENTS, args![chat, seq, sender]).await? {
        let user = read_user(&row, 0)?;
        let mark = Mark {
            user: user.id,
            joined_seq: row.seq(USER_COLUMNS)?,
            left_seq: row.seq_or_null(USER_COLUMNS + 1)?,
            delivered_seq: row.seq(USER_COLUMNS + 2)?,
            read_seq: row.seq(USER_COLUMNS + 3)?,
        };
        let status = mark.status_of(sender, sight, seq);
        recipients.extend(status.map(|status| Recipient { user: user.into(), status }));
    }
    let withheld = withheld_from(tx, sender, recipients.iter().map(|recipient| recipient.user.id)).await?;
    for recipient in recipients.iter_mut().filter(|recipient| withheld.contains(&recipient.user.id)) {
        recipient.status = recipient.status.min(Status::Delivered);
    }
    Ok(recipients)
}

#[async_trait]
impl Log for SqlStore {
    async fn content_key(&self) -> Result<[u8; 32]> {
        Ok(self.content_key)
    }

    async fn append_message(&self, message: AppendMessage) -> Result<Commit<Appended>> {
        self.writer.append(message).await
    }

    async fn find_sent(
        &self,
        sender: UserId,
        chats: &[ChatId],
        local_id: &LocalId,
        content_hash: &[u8; 32],
    ) -> Result<HashMap<ChatId, Appended>> {
        let sent =
            read!(self, single | tx | append::find_sent(tx, sender, chats, local_id, content_hash).await?)?;
        Ok(sent?)
    }

    async fn read_log(
        &self,
        user: UserId,
        stream: Stream,
        after: Seq,
        limit: u32,
    ) -> Result<Option<LogPage>> {
        read!(self, |tx| read_log(tx, user, stream, after, limit).await?)
    }

    async fn list_messages(
        &self,
        user: UserId,
        chat: ChatId,
        from: MessagesFrom,
        limit: u32,
    ) -> Result<Option<Vec<MessageView>>> {
        read!(self, |tx| list_messages(tx, user, chat, from, limit).await?)
    }

    async fn change_message(&self, change: ChangeMessage) -> Result<Commit<Target>> {
        self.writer.submit(change).await
    }

    async fn hide_message(
        &self,
        user: UserId,
        chat: ChatId,
        message: RowId,
        at: Timestamp,
    ) -> Result<Commit<Target>> {
        self.writer.submit(HideMessage { user, chat, message, at }).await
    }

    async fn list_replies(
        &self,
        user: UserId,
        message: RowId,
        page: PageRequest,
    ) -> Result<Option<Page<MessageView>>> {
        read!(self, |tx| list_replies(tx, user, message, page).await?)
    }

    async fn list_recipients(&self, chat: ChatId, sender: UserId, seq: Seq) -> Result<Vec<Recipient>> {
        read!(self, |tx| list_recipients(tx, chat, sender, seq).await?)
    }

    async fn locate_message(&self, user: UserId, message: RowId) -> Result<Option<ChatId>> {
        read!(self, single | tx | find_entitled(tx, user, message).await?.map(|(chat, _)| chat))
    }

    async fn find_message(&self, user: UserId, message: RowId) -> Result<Option<MessageView>> {
        read!(self, |tx| find_message(tx, user, message).await?)
    }

    async fn list_marks(&self, chats: Vec<ChatId>) -> Result<HashMap<ChatId, Vec<Mark>>> {
        read!(self, single | tx | find_marks(tx, chats.iter().copied()).await?)
    }

    async fn list_receipts(&self, user: UserId, query: ReceiptsQuery) -> Result<ReceiptsPage> {
        read!(self, |tx| list_receipts(tx, user, &query).await?)
    }

    async fn raise_watermarks(
        &self,
        raises: Vec<Raise>,
        at: Timestamp,
    ) -> Result<Commit<Vec<Result<Raised>>>> {
        self.writer.submit(RaiseWatermarks { raises, at }).await
    }

    async fn find_send_facts(&self, user: UserId, chat: ChatId) -> Result<Option<SendFacts>> {
        read!(self, single | tx | append::find_send_facts(tx, user, chat).await?)
    }

    async fn ping(&self) -> Result<()> {
        read!(
            self,
            single | tx | {
                tx.fetch(&PING, args![]).await?;
            }
        )
    }
}
