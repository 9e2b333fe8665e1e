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
    receipts::list_receipts,
    statement::{Sql, statements},
    stays::{Entitlement, find_marks},
    transaction::Tx,
    users::{USER_COLUMNS, as_page, read_user, user_columns},
    value::{Arg, Table, args},
};
use crate::trouble::repeated;
use async_trait::async_trait;
use change::HideMessage;
use curlew_domain::{
    Result,
    clock::Timestamp,
    ids::{ChatId, RowId, Seq, Stream, StreamId, UserId},
    message::{Entry, LocalId, LogRow, MessageView, Target},
    page::{Page, PageRequest, Position},
    ports::store::{AppendMessage, Appended, ChangeMessage, Commit, Log, LogPage, MessagesFrom},
    receipt::{Mark, Raise, Raised, ReceiptsPage, ReceiptsQuery, Recipient, Sight, Status},
    rules::SendFacts,
};
use dress::dress;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use tokio::time::Instant;
use uuid::Uuid;

statements! {
    READ_RANGES = ["WITH r AS MATERIALIZED " rows(1: stream id, low int, high int) "
        SELECT " (log_columns!()) ", l.stream FROM r"
        each(log l: "l.stream = r.stream AND l.seq >= r.low AND l.seq <= r.high AND " (not_hidden!("$2")))
        " ORDER BY l.stream, l.seq"];
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
    ARE_HIDDEN = ["WITH r AS MATERIALIZED " rows(1: chat id, seq int) "
        SELECT h.chat_id, h.message_seq FROM r CROSS JOIN hidden_messages h
        WHERE h.chat_id = r.chat AND h.user_id = $2 AND h.message_seq = r.seq"];
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

/// Pages of several logs, each after a row: as a seq is one row at most, as many seqs are read as rows are wanted.
async fn read_logs(
    tx: &mut Tx,
    user: UserId,
    wanted: &[(Stream, Seq)],
    limit: u32,
) -> Result<Vec<Option<LogPage>>, sqlx::Error> {
    let chats = wanted.iter().filter_map(|(stream, _)| match stream {
        Stream::Chat(chat) => Some(*chat),
        Stream::Personal(_) => None,
    });
    let entitlements = Entitlement::find_all(tx, user, chats).await?;
    let own = if wanted.iter().any(|(stream, _)| *stream == Stream::Personal(user)) {
        personal_end(tx, user).await?.map(Entitlement::whole)
    } else {
        None
    };
    let of = |stream: &Stream| match stream {
        Stream::Chat(chat) => entitlements.get(chat),
        Stream::Personal(owner) => own.as_ref().filter(|_| *owner == user),
    };
    let mut room = u64::from(limit);
    let mut ranges = Vec::new();
    let mut pages = Vec::with_capacity(wanted.len());
    for (stream, after) in wanted {
        pages.push(of(stream).map(|entitlement| {
            let mut page = LogPage { rows: Vec::new(), end: entitlement.end, more: false };
            for (low, high) in entitlement.after(*after) {
                let high_now = high.min(low + room - 1);
                room -= high_now + 1 - low;
                if low <= high_now {
                    ranges.push((*stream, low, high_now));
                }
                if high_now < high {
                    (page.end, page.more) = (high_now, true);
                    break;
                }
            }
            page
        }));
    }
    let mut rows = read_ranges(tx, user, &ranges).await?;
    let hidden = hidden_targets(tx, user, &rows).await?;
    let may = |chat, seq| {
        let entitled = entitlements.get(&chat).is_some_and(|entitlement| entitlement.contains(seq));
        entitled && !hidden.contains(&(chat, seq))
    };
    dress(tx, &mut rows, may).await?;
    for row in rows {
        let place = wanted.iter().position(|(stream, _)| *stream == row.stream);
        if let Some(page) = place.and_then(|place| pages[place].as_mut()) {
            page.rows.push(row);
        }
    }
    Ok(pages)
}

/// Rows out of ranges of logs, both ends included, as they are stored.
async fn read_ranges(
    tx: &mut Tx,
    user: UserId,
    ranges: &[(Stream, Seq, Seq)],
) -> Result<Vec<LogRow>, sqlx::Error> {
    if ranges.is_empty() {
        return Ok(Vec::new());
    }
    let streams: HashMap<StreamId, Stream> =
        ranges.iter().map(|(stream, ..)| (stream.id(), *stream)).collect();
    let table = Table::of(ranges, |row, (stream, low, high)| {
        row.id(stream.id().uuid()).seq(*low).seq(*high);
    });
    let mut rows = Vec::new();
    for row in tx.fetch(&READ_RANGES, args![table, user]).await? {
        if let Some(stream) = streams.get(&row.id(LOG_COLUMNS)?) {
            rows.push(read_row(*stream, &row)?);
        }
    }
    Ok(rows)
}

/// Of the messages that rows say were edited, those which the user has hidden.
async fn hidden_targets(
    tx: &mut Tx,
    user: UserId,
    rows: &[LogRow],
) -> Result<HashSet<(ChatId, Seq)>, sqlx::Error> {
    let edited = rows.iter().filter_map(|row| match (row.stream, &row.entry) {
        (Stream::Chat(chat), Entry::MessageEdited { target, .. }) => Some((chat, target.seq)),
        _ => None,
    });
    let edited: BTreeSet<(ChatId, Seq)> = edited.collect();
    if edited.is_empty() {
        return Ok(HashSet::new());
    }
    let table = Table::of(edited, |row, (chat, seq)| {
        row.id(chat.uuid()).seq(seq);
    });
    let hidden = tx.fetch(&ARE_HIDDEN, args![table, user]).await?;
    hidden.iter().map(|row| Ok((row.id(0)?, row.seq(1)?))).collect()
}

async fn list_messages(
    tx: &mut Tx,
    user: UserId,
    chat: ChatId,
    from: MessagesFrom,
    limit: u32,
) -> Result<Option<Vec<MessageView>>, sqlx::Error> {
    let Some(entitlement) = Entitlement::find(tx, user, chat).await? else { return Ok(None) };
    let stream = Stream::Chat(chat);
    let below = match from {
        MessagesFrom::Newest => Seq::MAX,
        MessagesFrom::Before(seq) => seq.saturating_sub(1),
        MessagesFrom::After(seq) => {
            let wanted = Wanted { sql: &MESSAGES_UP, stream, user, about: None, limit };
            let rows = wanted.read(tx, entitlement.after(seq)).await?;
            return Ok(Some(show(tx, user, rows).await?));
        }
    };
    let ranges = entitlement.ranges.into_iter().rev().map(|(first, last)| (first, last.min(below)));
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
    let wanted = Wanted {
        sql: &REPLIES,
        stream: Stream::Chat(chat),
        user,
        about: Some(row.seq),
        limit: page.limit + 1,
    };
    let rows = wanted.read(tx, entitlement.after(after)).await?;
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

    async fn read_logs(
        &self,
        user: UserId,
        wanted: &[(Stream, Seq)],
        limit: u32,
    ) -> Result<Vec<Option<LogPage>>> {
        read!(self, |tx| read_logs(tx, user, wanted, limit).await?)
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

    async fn raise_watermarks(&self, raises: Vec<Raise>, at: Timestamp) -> Vec<Result<Raised>> {
        // Each in the lane of its chat, so that no two lanes raise watermarks of the same stay.
        let mut lanes: BTreeMap<usize, (Vec<usize>, Vec<Raise>)> = BTreeMap::new();
        for (place, raise) in raises.into_iter().enumerate() {
            let (places, raises) = lanes.entry(self.writer.lane_of(raise.chat.uuid())).or_default();
            places.push(place);
            raises.push(raise);
        }
        let since = Instant::now();
        let mut commits = Vec::with_capacity(lanes.len());
        for (lane, (places, raises)) in lanes {
            commits.push((places, self.writer.raise(lane, raises, at, since).await));
        }
        let mut outcomes: BTreeMap<usize, Result<Raised>> = BTreeMap::new();
        for (places, queued) in commits {
            let committed = match queued {
                Ok(commit) => commit.await,
                Err(error) => Err(error),
            };
            match committed {
                Ok(raised) => outcomes.extend(places.into_iter().zip(raised)),
                Err(error) => outcomes.extend(places.into_iter().map(|place| (place, Err(repeated(&error))))),
            }
        }
        outcomes.into_values().collect()
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
