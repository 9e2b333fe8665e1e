//! Appending messages: the hot path. Consecutive sends run in bulk, in five statements whatever their number, and are
//! judged one by one in memory, each seeing those before it.

use super::quote::{Quotes, store_mentions};
use crate::sql::{
    log::{LOG_COLUMNS, NewRow, insert_rows, log_columns, read_row},
    statement::statements,
    transaction::Tx,
    value::{Table, args},
    writer::{Reply, Scope},
};
use curlew_domain::{
    Error, ErrorCode, Refusal, Result,
    chat::{ChatKind, Role, Standing},
    clock::Timestamp,
    ids::{ChatId, Seq, Stream, UserId},
    message::{Content, Entry, LocalId, LogRow},
    ports::{
        relay::Committed,
        store::{AppendMessage, Appended},
    },
    rules::{SendFacts, may_send},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// Whether one of the two of a private chat `c` has blocked the other: 0 or 1; of a group 0.
macro_rules! pair_blocked {
    () => {
        "CASE WHEN EXISTS (SELECT 1 FROM relations b WHERE b.user_id = c.low AND b.peer_id = c.high AND b.blocks = 1)
                OR EXISTS (SELECT 1 FROM relations b WHERE b.user_id = c.high AND b.peer_id = c.low AND b.blocks = 1)
                THEN CAST(1 AS BIGINT) ELSE 0 END"
    };
}
pub(crate) use pair_blocked;

statements! {
    LOCK_CHATS = ["WITH r AS MATERIALIZED " rows(1: chat id) "
        SELECT c.id, c.kind, c.last_seq, c.last_at FROM r CROSS JOIN chats c WHERE c.id = r.chat ORDER BY c.id" lock(c)];
    STANDINGS = ["WITH r AS MATERIALIZED " rows(1: chat id, usr id) "
        SELECT c.id, r.usr, c.kind,
            (SELECT m.role FROM memberships m WHERE m.chat_id = c.id AND m.user_id = r.usr AND m.left_seq IS NULL),
            CASE WHEN EXISTS (SELECT 1 FROM memberships m WHERE m.chat_id = c.id AND m.user_id = r.usr)
                THEN CAST(1 AS BIGINT) ELSE 0 END,
            " (pair_blocked!()) ",
            CASE WHEN EXISTS (SELECT 1 FROM users u WHERE u.id IN (c.low, c.high) AND u.deleted_at IS NOT NULL)
                THEN CAST(1 AS BIGINT) ELSE 0 END
        FROM r CROSS JOIN chats c WHERE c.id = r.chat"];
    BY_LOCAL_ID = ["WITH r AS MATERIALIZED " rows(1: chat id, usr id, local text) "
        SELECT " (log_columns!()) ", l.content_hash, l.stream FROM r CROSS JOIN log l
        WHERE l.stream = r.chat AND l.sender = r.usr AND l.local_id = r.local"];
    ADVANCE_CHATS = ["WITH r AS MATERIALIZED " rows(1: chat id, seq int, at int) "
        UPDATE chats SET last_seq = r.seq, last_at = r.at FROM r WHERE chats.id = r.chat"];
}

/// A message in the queue.
pub(crate) struct Append {
    pub message: AppendMessage,
    pub reply: Reply<Appended>,
}

impl Append {
    fn known_by(&self) -> Option<(ChatId, UserId, &LocalId)> {
        self.message.local_id.as_ref().map(|local| (self.message.chat, self.message.sender, local))
    }
}

/// End of a chat's log.
struct End {
    seq: Seq,
    at: Timestamp,
    grown: bool,
}

/// A message that is stored, or about to be.
struct Known {
    row: Arc<LogRow>,
    /// `None` once emptied: any content counts as equal.
    content_hash: Option<Vec<u8>>,
}

impl Known {
    fn answer(&self, content_hash: &[u8; 32]) -> Result<Appended, Refusal> {
        if self.content_hash.as_ref().is_none_or(|known| known.is_empty() || known == content_hash) {
            return Ok(Appended::Existing(LogRow::clone(&self.row)));
        }
        let detail = format!("this localId was used for message {} with another content", self.row.id);
        Err(Refusal::new(ErrorCode::LocalIdConflict, detail))
    }
}

/// Appends the messages in their order; each gets its outcome.
pub(crate) async fn append_messages(
    scope: &mut Scope<'_>,
    run: &mut [&mut Append],
) -> Result<(), sqlx::Error> {
    if run.is_empty() {
        return Ok(());
    }
    let mut ends = lock_chats(scope.tx, run.iter().map(|append| append.message.chat)).await?;
    let facts = standings(scope.tx, run).await?;
    let mut known = find_known(scope.tx, run).await?;
    let quotes = Quotes::find(scope.tx, run.iter().map(|append| &append.message)).await?;
    let mut fresh: Vec<(Arc<LogRow>, usize)> = Vec::with_capacity(run.len());
    for (place, append) in run.iter_mut().enumerate() {
        let AppendMessage { chat, sender, id, content_hash, .. } = append.message;
        let key = append.known_by().map(|(chat, user, local)| (chat, user, local.clone()));
        if let Some(stored) = key.as_ref().and_then(|key| known.get(key)) {
            append.reply.set(stored.answer(&content_hash).map_err(Error::from));
            continue;
        }
        // A chat that was made between the two statements was not locked, so it does not exist yet.
        let end = ends.get_mut(&chat);
        let judged = may_send(end.as_ref().and_then(|_| facts.get(&(chat, sender))))
            .and_then(|()| quotes.judge(place, &append.message));
        let end = match (judged, end) {
            (Ok(()), Some(end)) => end,
            (Err(refusal), _) => {
                append.reply.set(Err(refusal.into()));
                continue;
            }
            (Ok(()), None) => {
                append.reply.set(Err(Error::not_found("chat")));
                continue;
            }
        };
        end.seq += 1;
        end.at = end.at.max(append.message.at);
        end.grown = true;
        let row = Arc::new(LogRow {
            stream: Stream::Chat(chat),
            seq: end.seq,
            id,
            sender,
            at: end.at,
            local_id: append.message.local_id.clone(),
            entry: Entry::Message(Content {
                reply_to: quotes.reply(place),
                mentions: append.message.mentions.clone(),
                forwarded_from: append.message.forwarded_from,
                ..Content::of_text(append.message.text.clone())
            }),
        });
        if let Some(key) = key {
            known.insert(key, Known { row: Arc::clone(&row), content_hash: Some(content_hash.to_vec()) });
        }
        append.reply.set(Ok(Appended::New(LogRow::clone(&row))));
        fresh.push((row, place));
    }
    let new: Vec<NewRow<'_>> = fresh
        .iter()
        .map(|(row, place)| NewRow { row, content_hash: Some(&run[*place].message.content_hash) })
        .collect();
    insert_rows(scope.tx, &new).await?;
    store_mentions(scope.tx, fresh.iter().map(|(row, _)| row.as_ref())).await?;
    advance_chats(
        scope.tx,
        ends.iter().filter(|(_, end)| end.grown).map(|(chat, end)| (*chat, end.seq, end.at)),
    )
    .await?;
    scope.committed.extend(fresh.into_iter().map(|(row, _)| Committed::Row(row)));
    Ok(())
}

async fn lock_chats(
    tx: &mut Tx,
    chats: impl Iterator<Item = ChatId>,
) -> Result<BTreeMap<ChatId, End>, sqlx::Error> {
    let chats: BTreeSet<ChatId> = chats.collect();
    let mut ends = BTreeMap::new();
    for row in tx.fetch(&LOCK_CHATS, args![Table::of_ids(chats.iter().map(|chat| chat.uuid()))]).await? {
        ends.insert(row.id(0)?, End { seq: row.seq(2)?, at: row.at(3)?, grown: false });
    }
    Ok(ends)
}

/// The ends of logs after rows were appended.
pub(crate) async fn advance_chats(
    tx: &mut Tx,
    ends: impl IntoIterator<Item = (ChatId, Seq, Timestamp)>,
) -> Result<(), sqlx::Error> {
    let mut any = false;
    let table = Table::of(ends, |row, (chat, seq, at)| {
        any = true;
        row.id(chat.uuid()).seq(seq).int(at.0);
    });
    if any {
        tx.execute(&ADVANCE_CHATS, args![table]).await?;
    }
    Ok(())
}

async fn standings(
    tx: &mut Tx,
    run: &[&mut Append],
) -> Result<HashMap<(ChatId, UserId), SendFacts>, sqlx::Error> {
    find_facts(tx, run.iter().map(|append| (append.message.chat, append.message.sender)).collect()).await
}

/// What a send depends on, outside the transaction of one.
pub(in crate::sql) async fn find_send_facts(
    tx: &mut Tx,
    user: UserId,
    chat: ChatId,
) -> Result<Option<SendFacts>, sqlx::Error> {
    Ok(find_facts(tx, [(chat, user)].into()).await?.remove(&(chat, user)))
}

async fn find_facts(
    tx: &mut Tx,
    pairs: BTreeSet<(ChatId, UserId)>,
) -> Result<HashMap<(ChatId, UserId), SendFacts>, sqlx::Error> {
    let table = Table::of(pairs, |row, (chat, user)| {
        row.id(chat.uuid()).id(user.uuid());
    });
    let mut facts = HashMap::new();
    for row in tx.fetch(&STANDINGS, args![table]).await? {
        let standing = standing(row.named_or_null(3, Role::parse)?, row.flag(4)?);
        let kind = row.named(2, ChatKind::parse)?;
        let of_pair = SendFacts { kind, standing, blocked: row.flag(5)?, deleted: row.flag(6)? };
        facts.insert((row.id(0)?, row.id(1)?), of_pair);
    }
    Ok(facts)
}

/// From the role of the active stay, and whether there was ever a stay.
pub(crate) fn standing(role: Option<Role>, ever: bool) -> Standing {
    match (role, ever) {
        (Some(role), _) => Standing::Active(role),
        (None, true) => Standing::Former,
        (None, false) => Standing::Stranger,
    }
}

async fn find_known(
    tx: &mut Tx,
    run: &[&mut Append],
) -> Result<HashMap<(ChatId, UserId, LocalId), Known>, sqlx::Error> {
    let keys: Vec<_> = run.iter().filter_map(|append| append.known_by()).collect();
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    find_by_local_id(tx, keys).await
}

async fn find_by_local_id(
    tx: &mut Tx,
    keys: impl IntoIterator<Item = (ChatId, UserId, &LocalId)>,
) -> Result<HashMap<(ChatId, UserId, LocalId), Known>, sqlx::Error> {
    let mut known = HashMap::new();
    let table = Table::of(keys, |row, (chat, user, local)| {
        row.id(chat.uuid()).id(user.uuid()).text(local.as_str());
    });
    for row in tx.fetch(&BY_LOCAL_ID, args![table]).await? {
        let chat: ChatId = row.id(LOG_COLUMNS + 1)?;
        let stored = Arc::new(read_row(Stream::Chat(chat), &row)?);
        if let Some(local) = stored.local_id.clone() {
            known.insert(
                (chat, stored.sender, local),
                Known { row: stored, content_hash: row.bytes_or_null(LOG_COLUMNS)? },
            );
        }
    }
    Ok(known)
}

/// What a user sent to chats under one `localId`.
pub(super) async fn find_sent(
    tx: &mut Tx,
    sender: UserId,
    chats: &[ChatId],
    local_id: &LocalId,
    content_hash: &[u8; 32],
) -> Result<Result<HashMap<ChatId, Appended>, Refusal>, sqlx::Error> {
    let known = find_by_local_id(tx, chats.iter().map(|chat| (*chat, sender, local_id))).await?;
    let sent = known.into_iter().map(|((chat, ..), known)| Ok((chat, known.answer(content_hash)?)));
    Ok(sent.collect())
}
