//! Rows of logs: as they are stored, appended and read back.

use super::{
    statement::{Sql, statements},
    transaction::Tx,
    value::{Arg, Row, Table, args},
    writer::Scope,
};
use crate::trouble::unreadable;
use curlew_domain::{
    chat::{ChatBasics, HistoryVisible, LeaveReason},
    clock::Timestamp,
    ids::{ChatId, RowId, Seq, Stream, UserId},
    message::{ContactEvent, Content, Entry, LocalId, LogRow, MembersChanged, Origin, Reply, Target},
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
        "l.seq, l.id, l.kind, l.sender, l.at, l.local_id, l.text, l.body, l.message_seq, l.edited_at, l.deleted_at"
    };
}
pub(crate) use log_columns;

/// How many columns [`log_columns`] has.
pub(crate) const LOG_COLUMNS: usize = 11;

/// The kinds of rows that are messages, SYSTEM ones too.
macro_rules! message_kinds {
    () => {
        "('message', 'members-changed', 'chat-updated')"
    };
}
pub(crate) use message_kinds;

/// That the row, of a table `l`, is no message which the user of the argument given has hidden.
macro_rules! not_hidden {
    ($user:literal) => {
        concat!(
            "NOT EXISTS (SELECT 1 FROM hidden_messages h WHERE h.chat_id = l.stream AND h.user_id = ",
            $user,
            " AND h.message_seq = l.seq)"
        )
    };
}
pub(crate) use not_hidden;

macro_rules! insert {
    ($rows:expr) => {
        Sql {
            sqlite: concat!(
                "INSERT INTO log (stream, seq, id, kind, sender, at, local_id, content_hash, text, body, message_seq) VALUES ",
                $rows
            ),
            postgres: "INSERT INTO log (stream, seq, id, kind, sender, at, local_id, content_hash, text, body, message_seq)
                SELECT * FROM UNNEST($1::bytea[], $2::bigint[], $3::bytea[], $4::text[], $5::bytea[], $6::bigint[], $7::text[],
                    $8::bytea[], $9::text[], $10::text[], $11::bigint[])",
        }
    };
}

macro_rules! one {
    () => {
        "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
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

fn as_cells(new: &NewRow<'_>) -> [Arg; 11] {
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
        about(entry).into(),
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
        Arg::MaybeInts(rows.iter().map(|new| about(&new.row.entry).map(|seq| seq as i64)).collect()),
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

/// What a message has beside its text.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MessageBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<Reply>,
    #[serde(skip_serializing_if = "Option::is_none")]
    forwarded_from: Option<Origin>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mentions: Vec<UserId>,
}

impl MessageBody {
    fn of(content: &Content) -> Option<Self> {
        let Content { reply_to, forwarded_from, mentions, .. } = content;
        let plain = reply_to.is_none() && forwarded_from.is_none() && mentions.is_empty();
        (!plain).then(|| Self {
            reply_to: reply_to.clone(),
            forwarded_from: *forwarded_from,
            mentions: mentions.clone(),
        })
    }
}

/// The message that a row is about.
#[derive(Serialize, Deserialize)]
struct TargetBody {
    message: RowId,
}

#[derive(Serialize, Deserialize)]
struct HiddenBody {
    message: RowId,
    chat: ChatId,
}

#[derive(Serialize, Deserialize)]
struct ChatBody {
    chat: ChatId,
}

fn kind_of(entry: &Entry) -> &'static str {
    match entry {
        Entry::Message(_) => "message",
        Entry::MembersChanged(_) => "members-changed",
        Entry::ChatUpdated(_) => "chat-updated",
        Entry::MessageEdited { .. } => "message-edited",
        Entry::MessageDeleted(_) => "message-deleted",
        Entry::MessageReaction { .. } => "message-reaction",
        Entry::NewChat { .. } => "new-chat",
        Entry::ChatLeft { .. } => "chat-left",
        Entry::Contact { event, .. } => event.as_str(),
        Entry::ContactRequestsViewed => "contact-requests-viewed",
        Entry::NotificationsCleared(_) => "notifications-cleared",
        Entry::DevicesUpdated => "devices-updated",
        Entry::MessageHidden { .. } => "message-hidden",
        Entry::ChatSettingsChanged(_) => "chat-settings-changed",
        Entry::ProfileUpdated(_) => "profile-updated",
    }
}

fn text_of(entry: &Entry) -> Option<&str> {
    match entry {
        Entry::Message(content) => content.text.as_deref(),
        _ => None,
    }
}

/// The row of the same log that a row is about: what a message answers, what was edited.
fn about(entry: &Entry) -> Option<Seq> {
    match entry {
        Entry::Message(content) => content.reply_to.as_ref().map(|reply| reply.seq),
        Entry::MessageEdited { target, .. }
        | Entry::MessageDeleted(target)
        | Entry::MessageReaction { target, .. } => Some(target.seq),
        _ => None,
    }
}

/// What rows hold in JSON. Not what can be looked up when they are read: texts, reactions, names.
fn body_of(entry: &Entry) -> Option<String> {
    let json = match entry {
        Entry::Message(content) => serde_json::to_string(&MessageBody::of(content)?),
        Entry::MembersChanged(change) => serde_json::to_string(change),
        Entry::MessageEdited { target, .. }
        | Entry::MessageDeleted(target)
        | Entry::MessageReaction { target, .. } => serde_json::to_string(&TargetBody { message: target.id }),
        Entry::NewChat { chat, joined_seq } => {
            serde_json::to_string(&NewChatBody { chat: *chat, joined_seq: *joined_seq })
        }
        Entry::ChatLeft { chat, left_seq, reason } => {
            serde_json::to_string(&ChatLeftBody { chat: *chat, left_seq: *left_seq, reason: *reason })
        }
        Entry::Contact { peer, .. } | Entry::ProfileUpdated(peer) => {
            serde_json::to_string(&ContactBody { peer: *peer })
        }
        Entry::MessageHidden { message, chat } => {
            serde_json::to_string(&HiddenBody { message: *message, chat: *chat })
        }
        Entry::NotificationsCleared(chat) | Entry::ChatSettingsChanged(chat) => {
            serde_json::to_string(&ChatBody { chat: *chat })
        }
        Entry::ChatUpdated(_) | Entry::ContactRequestsViewed | Entry::DevicesUpdated => return None,
    };
    Some(json.expect("ids, numbers and names have a JSON form"))
}

/// Reads a row selected with [`log_columns`]. What has to be looked up is still missing: see `messages/dress`.
pub(crate) fn read_row(stream: Stream, row: &Row) -> Result<LogRow, sqlx::Error> {
    Ok(LogRow {
        stream,
        seq: row.seq(0)?,
        id: row.id(1)?,
        sender: row.id(3)?,
        at: row.at(4)?,
        local_id: row.text_or_null(5)?.map(LocalId::stored),
        entry: read_entry(stream, &row.text(2)?, row)?,
    })
}

fn read_entry(stream: Stream, kind: &str, row: &Row) -> Result<Entry, sqlx::Error> {
    Ok(match kind {
        "message" => Entry::Message(read_content(row)?),
        "members-changed" => Entry::MembersChanged(read_body::<MembersChanged>(row)?),
        "chat-updated" => Entry::ChatUpdated(Box::new(ChatBasics {
            id: stream.id().uuid().into(),
            name: None,
            description: None,
            picture_url: None,
            history_visible: HistoryVisible::default(),
        })),
        "message-edited" => Entry::MessageEdited { target: read_target(row)?, message: None },
        "message-deleted" => Entry::MessageDeleted(read_target(row)?),
        "message-reaction" => Entry::MessageReaction { target: read_target(row)?, emoji: None },
        "new-chat" => {
            let NewChatBody { chat, joined_seq } = read_body(row)?;
            Entry::NewChat { chat, joined_seq }
        }
        "chat-left" => {
            let ChatLeftBody { chat, left_seq, reason } = read_body(row)?;
            Entry::ChatLeft { chat, left_seq, reason }
        }
        "contact-requests-viewed" => Entry::ContactRequestsViewed,
        "notifications-cleared" => Entry::NotificationsCleared(read_body::<ChatBody>(row)?.chat),
        "devices-updated" => Entry::DevicesUpdated,
        "message-hidden" => {
            let HiddenBody { message, chat } = read_body(row)?;
            Entry::MessageHidden { message, chat }
        }
        "chat-settings-changed" => Entry::ChatSettingsChanged(read_body::<ChatBody>(row)?.chat),
        "profile-updated" => Entry::ProfileUpdated(read_body::<ContactBody>(row)?.peer),
        kind => {
            let event = ContactEvent::ALL.into_iter().find(|event| event.as_str() == kind);
            let event = event.ok_or_else(|| unreadable("kind of row", kind))?;
            Entry::Contact { event, peer: read_body::<ContactBody>(row)?.peer }
        }
    })
}

fn read_content(row: &Row) -> Result<Content, sqlx::Error> {
    let body = match row.text_or_null(7)? {
        Some(body) => serde_json::from_str(&body).map_err(|error| sqlx::Error::Decode(error.into()))?,
        None => MessageBody::default(),
    };
    let MessageBody { reply_to, forwarded_from, mentions } = body;
    Ok(Content {
        text: row.text_or_null(6)?,
        reply_to,
        forwarded_from,
        mentions,
        reactions: Vec::new(),
        edited_at: row.at_or_null(9)?,
        deleted_at: row.at_or_null(10)?,
    })
}

fn read_target(row: &Row) -> Result<Target, sqlx::Error> {
    Ok(Target { id: read_body::<TargetBody>(row)?.message, seq: row.seq(8)? })
}

fn read_body<T: DeserializeOwned>(row: &Row) -> Result<T, sqlx::Error> {
    let body = row.text_or_null(7)?.unwrap_or_default();
    serde_json::from_str(&body).map_err(|error| sqlx::Error::Decode(error.into()))
}
