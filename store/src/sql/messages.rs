//! The port `Log`: appending messages, reading logs, watermarks.

pub(super) mod append;

use super::{
    SqlStore,
    chats::view::show,
    log::{log_columns, read_row},
    read,
    receipts::RaiseWatermarks,
    statement::{Sql, statements},
    stays::Entitlement,
    transaction::Tx,
    value::args,
};
use async_trait::async_trait;
use curlew_domain::{
    Result,
    clock::Timestamp,
    ids::{ChatId, RowId, Seq, Stream, UserId},
    message::{LogRow, MessageView},
    ports::store::{AppendMessage, Appended, Commit, Log, LogPage, MessagesFrom},
    receipt::{Raise, Raised},
    rules::SendFacts,
};

statements! {
    READ_ROWS = ["SELECT " (log_columns!()) " FROM log l WHERE l.stream = $1 AND l.seq >= $2 AND l.seq <= $3
        ORDER BY l.seq LIMIT $4"];
    MESSAGES_UP = ["SELECT " (log_columns!()) " FROM log l WHERE l.stream = $1 AND l.seq >= $2 AND l.seq <= $3
        AND l.kind IN ('message', 'members-changed') ORDER BY l.seq LIMIT $4"];
    MESSAGES_DOWN = ["SELECT " (log_columns!()) " FROM log l WHERE l.stream = $1 AND l.seq >= $2 AND l.seq <= $3
        AND l.kind IN ('message', 'members-changed') ORDER BY l.seq DESC LIMIT $4"];
    FIND_ROW = ["SELECT " (log_columns!()) ", l.stream FROM log l WHERE l.id = $1 AND l.kind IN ('message', 'members-changed')"];
    PERSONAL_END = ["SELECT personal_seq FROM users WHERE id = $1"];
    PING = ["SELECT CAST(1 AS BIGINT)"];
}

/// End of a user's personal log; `None`: no such user.
pub(super) async fn personal_end(tx: &mut Tx, user: UserId) -> Result<Option<Seq>, sqlx::Error> {
    tx.find(&PERSONAL_END, args![user]).await?.map(|row| row.seq(0)).transpose()
}

/// Up to `limit` rows out of `ranges`, in the order of the statement.
async fn read_ranges(
    tx: &mut Tx,
    sql: &Sql,
    stream: Stream,
    ranges: impl Iterator<Item = (Seq, Seq)> + Send,
    limit: u32,
) -> Result<Vec<LogRow>, sqlx::Error> {
    let mut rows: Vec<LogRow> = Vec::new();
    for (first, last) in ranges.filter(|(first, last)| first <= last) {
        let missing = limit.saturating_sub(u32::try_from(rows.len()).unwrap_or(u32::MAX));
        if missing == 0 {
            break;
        }
        for row in tx.fetch(sql, args![stream.id(), first, last, missing]).await? {
            rows.push(read_row(stream, &row)?);
        }
    }
    Ok(rows)
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
    let ranges = ranges.into_iter().map(|(first, last)| (first.max(next), last));
    let rows = read_ranges(tx, &READ_ROWS, stream, ranges, limit).await?;
    let full = rows.len() >= limit as usize;
    let end = rows.last().filter(|_| full).map_or(end, |row| row.seq);
    Ok(Some(LogPage { rows, end }))
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
            let rows = read_ranges(tx, &MESSAGES_UP, stream, ranges, limit).await?;
            return Ok(Some(show(tx, user, rows).await?));
        }
    };
    let ranges = ranges.into_iter().rev().map(|(first, last)| (first, last.min(below)));
    let rows = read_ranges(tx, &MESSAGES_DOWN, stream, ranges, limit).await?;
    Ok(Some(show(tx, user, rows).await?))
}

async fn find_message(tx: &mut Tx, user: UserId, message: RowId) -> Result<Option<MessageView>, sqlx::Error> {
    let Some(row) = tx.find(&FIND_ROW, args![message]).await? else { return Ok(None) };
    let chat: ChatId = row.id(8)?;
    let row = read_row(Stream::Chat(chat), &row)?;
    let entitled =
        Entitlement::find(tx, user, chat).await?.is_some_and(|entitlement| entitlement.contains(row.seq));
    if !entitled {
        return Ok(None);
    }
    Ok(show(tx, user, vec![row]).await?.pop())
}

#[async_trait]
impl Log for SqlStore {
    async fn content_key(&self) -> Result<[u8; 32]> {
        Ok(self.content_key)
    }

    async fn append_message(&self, message: AppendMessage) -> Result<Commit<Appended>> {
        self.writer.append(message).await
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

    async fn find_message(&self, user: UserId, message: RowId) -> Result<Option<MessageView>> {
        read!(self, |tx| find_message(tx, user, message).await?)
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
