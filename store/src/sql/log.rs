//! Rows of logs: as they are stored, appended and read back.

use super::{
    statement::{Sql, statements},
    transaction::Tx,
    value::{Arg, Row, Table, args},
    writer::Scope,
};
use crate::trouble::unreadable;
use curlew_domain::{
    chat::LeaveReason,
    clock::Timestamp,
    ids::{ChatId, Seq, Stream, UserId},
    message::{ContactEvent, Entry, LocalId, LogRow, MembersChanged},
    ports::relay::Committed,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

/// The columns that [`read_row`] expects, of a table `l`, in front of all others.
macro_rules! log_columns {
    () => {
        "l.seq, l.id, l.kind, l.sender, l.at, l.local_id, l.text, l.body"
    };
}
pub(crate) use log_columns;

macro_rules! insert {
    ($rows:expr) => {
        Sql {
            sqlite: concat!(
                "INSERT INTO log (stream, seq, id, kind, sender, at, local_id, content_hash, text, body) VALUES ",
                $rows
            ),
            postgres: "INSERT INTO log (stream, seq, id, kind, sender, at, local_id, content_hash, text, body)
                SELECT * FROM UNNEST($1::bytea[], $2::bigint[], $3::bytea[], $4::text[], $5::bytea[], $6::bigint[], $7::text[],
                    $8::bytea[], $9::text[], $10::text[])",
        }
    };
}

macro_rules! one {
    () => {
        "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    };
}
macro_rules! four {
    () => {
        concat!(one!(), ", ", one!(), ", ", one!(), ", ", one!())
    };
}
macro_rules! sixteen {
    () => {
        concat!(four!(), ", ", four!(), ", ", four!(), ", ", four!())
    };
}

/// Plain `?` in few sizes: sqlx looks up `$n` by name, and every text takes a place in the statement cache.
const INSERTS: [(usize, Sql); 4] = [
    (32, insert!(concat!(sixteen!(), ", ", sixteen!()))),
    (16, insert!(sixteen!())),
    (4, insert!(four!())),
    (1, insert!(one!())),
];

statements! {
    LOCK_USERS = ["WITH r AS MATERIALIZED " rows(1: usr id) "
        SELECT u.id, u.deleted_at FROM r CROSS JOIN users u WHERE u.id = r.usr ORDER BY u.id" lock(u)];
    EXTEND_PERSONAL = ["WITH r AS MATERIALIZED " rows(1: usr id) "
        UPDATE users SET personal_seq = personal_seq + 1,
            personal_at = CASE WHEN $2 > personal_at THEN $2 ELSE personal_at END
        WHERE id IN (SELECT usr FROM r) RETURNING id, personal_seq, personal_at"];
}

/// Every insert, for the test that prepares them.
pub(crate) fn inserts() -> impl Iterator<Item = (&'static str, Sql)> {
    INSERTS.into_iter().map(|(_, sql)| ("INSERTS", sql))
}

/// A row to be stored.
pub(crate) struct NewRow<'a> {
    pub row: &'a LogRow,
    /// Of a message.
    pub content_hash: Option<&'a [u8; 32]>,
}

impl<'a> From<&'a LogRow> for NewRow<'a> {
    fn from(row: &'a LogRow) -> Self {
        Self { row, content_hash: None }
    }
}

/// Stores rows whose `seq` has been allocated under the lock of their log.
pub(crate) async fn insert_rows(tx: &mut Tx, rows: &[NewRow<'_>]) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    if tx.is_postgres() {
        return tx.execute(&INSERTS[0].1, as_arrays(rows)).await.map(drop);
    }
    let mut rest = rows;
    for (size, sql) in &INSERTS {
        while rest.len() >= *size {
            let (now, later) = rest.split_at(*size);
            tx.execute(sql, now.iter().flat_map(as_cells).collect()).await?;
            rest = later;
        }
    }
    Ok(())
}

fn as_cells(new: &NewRow<'_>) -> [Arg; 10] {
    let LogRow { stream, seq, id, sender, at, local_id, entry } = new.row;
    [
        stream.id().into(),
        (*seq).into(),
        (*id).into(),
        kind_of(entry).into(),
        (*sender).into(),
        (*at).into(),
        local_id.as_ref().map(LocalId::as_str).into(),
        Arg::Bytes(new.content_hash.map(|hash| hash.to_vec())),
        text_of(entry).into(),
        body_of(entry).into(),
    ]
}

fn as_arrays(rows: &[NewRow<'_>]) -> Vec<Arg> {
    let bytes = |of: &dyn Fn(&NewRow<'_>) -> Option<Vec<u8>>| Arg::Blobs(rows.iter().map(of).collect());
    let texts =
        |of: &dyn Fn(&LogRow) -> Option<String>| Arg::Texts(rows.iter().map(|new| of(new.row)).collect());
    let ints = |of: &dyn Fn(&LogRow) -> i64| Arg::Ints(rows.iter().map(|new| of(new.row)).collect());
    vec![
        bytes(&|new| Some(new.row.stream.id().uuid().as_bytes().to_vec())),
        ints(&|row| row.seq as i64),
        bytes(&|new| Some(new.row.id.uuid().as_bytes().to_vec())),
        texts(&|row| Some(kind_of(&row.entry).to_owned())),
        bytes(&|new| Some(new.row.sender.uuid().as_bytes().to_vec())),
        ints(&|row| row.at.0),
        texts(&|row| row.local_id.as_ref().map(|local| local.as_str().to_owned())),
        bytes(&|new| new.content_hash.map(|hash| hash.to_vec())),
        texts(&|row| text_of(&row.entry).map(str::to_owned)),
        texts(&|row| body_of(&row.entry)),
    ]
}

/// Locks users in the order of their ids; answers those that exist and are not deleted.
pub(crate) async fn lock_users(tx: &mut Tx, users: &[UserId]) -> Result<Vec<UserId>, sqlx::Error> {
    let users: BTreeSet<UserId> = users.iter().copied().collect();
    let rows = tx.fetch(&LOCK_USERS, args![Table::of_ids(users.into_iter().map(UserId::uuid))]).await?;
    let mut alive = Vec::with_capacity(rows.len());
    for row in rows {
        if row.int_or_null(1)?.is_none() {
            alive.push(row.id(0)?);
        }
    }
    Ok(alive)
}

/// Appends one row to the personal log of each user named, once each. Their users must be locked.
pub(crate) async fn append_personal(
    scope: &mut Scope<'_>,
    sender: UserId,
    at: Timestamp,
    entries: Vec<(UserId, Entry)>,
) -> Result<(), sqlx::Error> {
    if entries.is_empty() {
        return Ok(());
    }
    let table = Table::of_ids(entries.iter().map(|(user, _)| user.uuid()));
    let mut ends: HashMap<UserId, (Seq, Timestamp)> = HashMap::new();
    for row in scope.tx.fetch(&EXTEND_PERSONAL, args![table, at]).await? {
        ends.insert(row.id(0)?, (row.seq(1)?, row.at(2)?));
    }
    let rows: Vec<LogRow> = entries
        .into_iter()
        .filter_map(|(user, entry)| {
            let (seq, at) = *ends.get(&user)?;
            let id = scope.process.entropy.uuid().into();
            Some(LogRow { stream: Stream::Personal(user), seq, id, sender, at, local_id: None, entry })
        })
        .collect();
    insert_rows(scope.tx, &rows.iter().map(NewRow::from).collect::<Vec<_>>()).await?;
    scope.committed.extend(rows.into_iter().map(|row| Committed::Row(Arc::new(row))));
    Ok(())
}

#[derive(Serialize, Deserialize)]
struct NewChatBody {
    chat: ChatId,
    joined_seq: Seq,
}

#[derive(Serialize, Deserialize)]
struct ChatLeftBody {
    chat: ChatId,
    left_seq: Seq,
    reason: LeaveReason,
}

#[derive(Serialize, Deserialize)]
struct ContactBody {
    peer: UserId,
}

fn kind_of(entry: &Entry) -> &'static str {
    match entry {
        Entry::Message { .. } => "message",
        Entry::MembersChanged(_) => "members-changed",
        Entry::NewChat { .. } => "new-chat",
        Entry::ChatLeft { .. } => "chat-left",
        Entry::Contact { event, .. } => event.as_str(),
    }
}

fn text_of(entry: &Entry) -> Option<&str> {
    match entry {
        Entry::Message { text } => text.as_deref(),
        _ => None,
    }
}

fn body_of(entry: &Entry) -> Option<String> {
    let json = match entry {
        Entry::Message { .. } => return None,
        Entry::MembersChanged(change) => serde_json::to_string(change),
        Entry::NewChat { chat, joined_seq } => {
            serde_json::to_string(&NewChatBody { chat: *chat, joined_seq: *joined_seq })
        }
        Entry::ChatLeft { chat, left_seq, reason } => {
            serde_json::to_string(&ChatLeftBody { chat: *chat, left_seq: *left_seq, reason: *reason })
        }
        Entry::Contact { peer, .. } => serde_json::to_string(&ContactBody { peer: *peer }),
    };
    Some(json.expect("ids, numbers and names have a JSON form"))
}

/// Reads a row selected with [`log_columns`].
pub(crate) fn read_row(stream: Stream, row: &Row) -> Result<LogRow, sqlx::Error> {
    Ok(LogRow {
        stream,
        seq: row.seq(0)?,
        id: row.id(1)?,
        sender: row.id(3)?,
        at: row.at(4)?,
        local_id: row.text_or_null(5)?.map(LocalId::stored),
        entry: read_entry(&row.text(2)?, row)?,
    })
}

fn read_entry(kind: &str, row: &Row) -> Result<Entry, sqlx::Error> {
    Ok(match kind {
        "message" => Entry::Message { text: row.text_or_null(6)? },
        "members-changed" => Entry::MembersChanged(read_body::<MembersChanged>(row)?),
        "new-chat" => {
            let NewChatBody { chat, joined_seq } = read_body(row)?;
            Entry::NewChat { chat, joined_seq }
        }
        "chat-left" => {
            let ChatLeftBody { chat, left_seq, reason } = read_body(row)?;
            Entry::ChatLeft { chat, left_seq, reason }
        }
        kind => {
            let event = ContactEvent::ALL.into_iter().find(|event| event.as_str() == kind);
            let event = event.ok_or_else(|| unreadable("kind of row", kind))?;
            Entry::Contact { event, peer: read_body::<ContactBody>(row)?.peer }
        }
    })
}

fn read_body<T: DeserializeOwned>(row: &Row) -> Result<T, sqlx::Error> {
    let body = row.text_or_null(7)?.unwrap_or_default();
    serde_json::from_str(&body).map_err(|error| sqlx::Error::Decode(error.into()))
}
