//! The queues of sessions that last.

use super::{body_args, read_message, read_qos};
use crate::{
    sql::{
        sessions::holds_fence,
        statement::statements,
        transaction::Tx,
        value::{Row, Table, args},
        writer::{Place, Scope, Write},
    },
    trouble::Failed,
};
use async_trait::async_trait;
use curlew_domain::{
    ids::{Seq, SessionId},
    plain::{MAX_QUEUED, MAX_QUEUED_BYTES, PlainMessage, QueuePage, QueuedMessage, Recipient, Settle},
    session::SessionFence,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};
use uuid::Uuid;

/// Messages that are looked at to make room for one.
const TRIM: u32 = 64;

statements! {
    // Holds the sessions, then locks their queues, both in the order of the ids. One that ends meanwhile is not there.
    ENTER_QUEUES = ["WITH r AS MATERIALIZED " rows(1: session id, n int) "
        INSERT INTO plain_queues AS q (session_id, last_seq, sent, messages, bytes, dropped)
        SELECT s.id, r.n, 0, r.n, r.n * CAST($2 AS BIGINT), 0 FROM r CROSS JOIN sessions s WHERE s.id = r.session
        ORDER BY s.id" hold(s) "
        ON CONFLICT (session_id) DO UPDATE SET last_seq = q.last_seq + excluded.last_seq,
            messages = q.messages + excluded.messages, bytes = q.bytes + excluded.bytes
        RETURNING session_id, last_seq, sent, messages, bytes"];
    INSERT_QUEUED = ["WITH r AS MATERIALIZED " rows(1: session id, seq int, qos int, retain int, ids text) "
        INSERT INTO plain_queue (session_id, seq, qos, retain, subscription_ids, released, size, published_qos, expires_at,
            topic, properties, payload)
        SELECT r.session, r.seq, r.qos, r.retain, r.ids, 0, $2, $3, $4, $5, $6, $7 FROM r"];
    OLDEST_UNSENT = ["SELECT q.seq, q.size FROM plain_queue q WHERE q.session_id = $1 AND q.seq > $2 ORDER BY q.seq LIMIT $3"];
    DROP_UP_TO = ["DELETE FROM plain_queue WHERE session_id = $1 AND seq > $2 AND seq <= $3"];
    SHRINK_QUEUE = ["UPDATE plain_queues SET messages = messages - $2, bytes = bytes - $3, dropped = dropped + $4
        WHERE session_id = $1"];
    QUEUED_SIZES = ["SELECT q.seq, q.size FROM plain_queue q WHERE q.session_id = $1 AND q.seq > $2 ORDER BY q.seq LIMIT $3"];
    LIST_QUEUED = ["SELECT q.seq, q.released, q.qos, q.published_qos, q.retain, q.expires_at, q.subscription_ids,
            q.topic, q.properties, q.payload
        FROM plain_queue q WHERE q.session_id = $1 AND q.seq > $2 AND q.seq <= $3 ORDER BY q.seq"];
    DELETE_DONE = ["WITH r AS MATERIALIZED " rows(2: seq int) "
        DELETE FROM plain_queue WHERE session_id = $1 AND seq IN (SELECT r.seq FROM r) RETURNING size"];
    RELEASE = ["WITH r AS MATERIALIZED " rows(2: seq int) "
        UPDATE plain_queue SET released = 1 WHERE session_id = $1 AND seq IN (SELECT r.seq FROM r)"];
    RAISE_SENT = ["UPDATE plain_queues SET sent = $2 WHERE session_id = $1 AND sent < $2"];
    FORGET_RECEIVED = ["WITH r AS MATERIALIZED " rows(2: packet int) "
        DELETE FROM plain_received WHERE session_id = $1 AND packet_id IN (SELECT r.packet FROM r)"];
    LIST_RECEIVED = ["SELECT p.packet_id FROM plain_received p WHERE p.session_id = $1"];
    CLEAR_QUEUE = ["DELETE FROM plain_queue WHERE session_id = $1"];
    CLEAR_QUEUES = ["DELETE FROM plain_queues WHERE session_id = $1"];
    CLEAR_RECEIVED = ["DELETE FROM plain_received WHERE session_id = $1"];
}

/// A queue in which messages are counted that are not in it yet.
pub(super) struct Entered {
    session: SessionId,
    /// Their first place that is not taken.
    next: Seq,
    sent: Seq,
    messages: i64,
    bytes: i64,
}

impl Entered {
    /// The next place.
    pub fn take(&mut self) -> Seq {
        self.next += 1;
        self.next - 1
    }
}

/// Counts a message in the queue of each recipient; a session may be several of them, once for its own filters and once for
/// each shared one. Sessions that do not exist are not among the answers.
pub(super) async fn enter_queues(
    tx: &mut Tx,
    recipients: &[Recipient],
    size: usize,
) -> Result<HashMap<SessionId, Entered>, sqlx::Error> {
    let mut times: BTreeMap<SessionId, Seq> = BTreeMap::new();
    for recipient in recipients {
        *times.entry(recipient.session).or_default() += 1;
    }
    let table = Table::of(&times, |row, (session, n)| {
        row.id(session.uuid()).seq(*n);
    });
    let rows = tx.fetch(&ENTER_QUEUES, args![table, size as i64]).await?;
    rows.iter()
        .map(|row| {
            let (session, last) = (row.id(0)?, row.seq(1)?);
            let next = last + 1 - times.get(&session).copied().unwrap_or(0);
            let entered =
                Entered { session, next, sent: row.seq(2)?, messages: row.int(3)?, bytes: row.int(4)? };
            Ok((session, entered))
        })
        .collect()
}

/// Puts a message into its places.
pub(super) async fn insert_queued(
    tx: &mut Tx,
    places: &[(Recipient, Seq)],
    message: &PlainMessage,
) -> Result<(), sqlx::Error> {
    let table = Table::of(places, |row, (recipient, seq)| {
        let ids = serde_json::to_string(&recipient.subscription_ids).expect("numbers have a JSON form");
        row.id(recipient.session.uuid()).seq(*seq);
        row.int(recipient.qos as i64).int(recipient.retain.into()).text(&ids);
    });
    let mut args = args![table, message.size() as i64, message.qos as i64, message.expires_at];
    args.extend(body_args(message));
    tx.execute(&INSERT_QUEUED, args).await.map(drop)
}

/// Drops the oldest messages that were never sent until the queue is within its bounds.
pub(super) async fn trim_queue(tx: &mut Tx, queue: Entered) -> Result<(), sqlx::Error> {
    let Entered { session, sent, mut messages, mut bytes, .. } = queue;
    let too_large =
        |messages: i64, bytes: i64| messages > MAX_QUEUED.into() || bytes > MAX_QUEUED_BYTES as i64;
    let mut after = sent;
    while too_large(messages, bytes) {
        let oldest = tx.fetch(&OLDEST_UNSENT, args![session, after, TRIM]).await?;
        let (mut dropped, mut freed, mut upto) = (0i64, 0i64, after);
        for row in &oldest {
            if !too_large(messages, bytes) {
                break;
            }
            let size = row.int(1)?;
            (dropped, freed, upto) = (dropped + 1, freed + size, row.seq(0)?);
            (messages, bytes) = (messages - 1, bytes - size);
        }
        if dropped == 0 {
            break;
        }
        tx.execute(&DROP_UP_TO, args![session, after, upto]).await?;
        tx.execute(&SHRINK_QUEUE, args![session, dropped, freed, dropped]).await?;
        metrics::counter!("curlew_plain_dropped_total", "reason" => "queue")
            .increment(u64::try_from(dropped).unwrap_or(0));
        after = upto;
    }
    Ok(())
}

/// A part of a queue. Sizes are looked at first, so that no more is read than asked for.
pub(super) async fn list_queued(
    tx: &mut Tx,
    session: SessionId,
    after: Seq,
    limit: u32,
    bytes: usize,
) -> Result<QueuePage, sqlx::Error> {
    let sizes = tx.fetch(&QUEUED_SIZES, args![session, after, limit.saturating_add(1)]).await?;
    let (mut upto, mut taken, mut total) = (after, 0, 0);
    for row in sizes.iter().take(limit as usize) {
        let size = usize::try_from(row.int(1)?).unwrap_or(0);
        if taken > 0 && total + size > bytes {
            break;
        }
        (upto, taken, total) = (row.seq(0)?, taken + 1, total + size);
    }
    let rows = tx.fetch(&LIST_QUEUED, args![session, after, upto]).await?;
    let messages = rows.iter().map(|row| read_queued(row, session)).collect::<Result<_, _>>()?;
    Ok(QueuePage { messages, more: taken < sizes.len() })
}

fn read_queued(row: &Row, session: SessionId) -> Result<QueuedMessage, sqlx::Error> {
    let subscription_ids =
        serde_json::from_str(&row.text(6)?).map_err(|error| sqlx::Error::Decode(error.into()))?;
    let recipient = Recipient { session, qos: read_qos(row, 2)?, retain: row.flag(4)?, subscription_ids };
    let message = read_message(row, 7, (read_qos(row, 3)?, recipient.retain), row.at_or_null(5)?)?;
    Ok(QueuedMessage { seq: row.seq(0)?, message: Arc::new(message), recipient, released: row.flag(1)? })
}

pub(in crate::sql) async fn list_received(tx: &mut Tx, session: SessionId) -> Result<Vec<u16>, sqlx::Error> {
    let rows = tx.fetch(&LIST_RECEIVED, args![session]).await?;
    rows.iter().map(|row| Ok(u16::try_from(row.int(0)?).unwrap_or(0))).collect()
}

/// Forgets everything of a session that begins anew. The queue is locked before its messages go: what is being published to
/// it is in it before, or after from place 1 on.
pub(in crate::sql) async fn clear_queue(tx: &mut Tx, session: SessionId) -> Result<(), sqlx::Error> {
    for statement in [&CLEAR_QUEUES, &CLEAR_QUEUE, &CLEAR_RECEIVED] {
        tx.execute(statement, args![session]).await?;
    }
    Ok(())
}

/// Stores what a session has done; its fence has been looked at.
pub(in crate::sql) async fn apply_settle(
    tx: &mut Tx,
    session: SessionId,
    settle: &Settle,
) -> Result<(), sqlx::Error> {
    let Settle { done, released, sent, forgotten } = settle;
    let table = |seqs: &[Seq]| {
        Table::of(seqs, |row, seq| {
            row.seq(*seq);
        })
    };
    // Before what is done goes, so that the counts are touched in one order everywhere: the queue, then its messages.
    if *sent > 0 {
        tx.execute(&RAISE_SENT, args![session, *sent]).await?;
    }
    if !released.is_empty() {
        tx.execute(&RELEASE, args![session, table(released)]).await?;
    }
    if !done.is_empty() {
        let gone = tx.fetch(&DELETE_DONE, args![session, table(done)]).await?;
        let freed = gone.iter().map(|row| row.int(0)).sum::<Result<i64, _>>()?;
        if !gone.is_empty() {
            tx.execute(&SHRINK_QUEUE, args![session, gone.len() as i64, freed, 0i64]).await?;
        }
    }
    if !forgotten.is_empty() {
        let packets = Table::of(forgotten, |row, packet_id| {
            row.int(i64::from(*packet_id));
        });
        tx.execute(&FORGET_RECEIVED, args![session, packets]).await?;
    }
    Ok(())
}

/// A session stores what it has done.
pub(super) struct SettleQueue {
    pub fence: SessionFence,
    pub settle: Settle,
}

#[async_trait]
impl Write for SettleQueue {
    type Answer = bool;
    const PLACE: Place = Place::Sessions;

    fn key(&self) -> Uuid {
        self.fence.session.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<bool, Failed> {
        if !holds_fence(scope.tx, self.fence).await? {
            return Ok(false);
        }
        apply_settle(scope.tx, self.fence.session, &self.settle).await?;
        Ok(true)
    }
}
