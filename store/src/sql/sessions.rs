//! The port `Sessions`: MQTT sessions as rows, fenced by their generation.

use super::{
    SqlStore,
    contacts::note_seen,
    devices::see_and_hold,
    messages::personal_end,
    plain,
    statement::statements,
    stays::list_stay_ends,
    transaction::Tx,
    value::{Arg, Row, args},
    writer::{Place, Process, Scope, Write},
};
use crate::trouble::Failed;
use async_trait::async_trait;
use curlew_domain::{
    ErrorCode, Refusal, Result,
    clock::Timestamp,
    ids::{Seq, SessionId, StreamId, UserId},
    plain::LastingSession,
    ports::store::Sessions,
    session::{CloseSession, Cursors, OpenSession, OpenedSession, SaveSubscriptions, SessionFence},
};
use uuid::Uuid;

statements! {
    LOCK_SESSION = ["SELECT s.id, s.generation, s.filters, s.cursors, s.expiry_secs, s.opened_by, s.disconnected_at,
            (SELECT q.sent FROM plain_queues q WHERE q.session_id = s.id),
            (SELECT q.last_seq FROM plain_queues q WHERE q.session_id = s.id),
            CASE WHEN EXISTS (SELECT 1 FROM plain_received p WHERE p.session_id = s.id) THEN CAST(1 AS BIGINT) ELSE 0 END,
            CASE WHEN EXISTS (SELECT 1 FROM wills w WHERE w.session_id = s.id) THEN CAST(1 AS BIGINT) ELSE 0 END,
            COALESCE(s.left_at, s.lost_at - 120000, s.opened_at)
        FROM sessions s WHERE s.device_id = $1 AND s.client_id = $2 AND s.mount = $3" lock(s)];
    REOPEN_SESSION = ["UPDATE sessions SET generation = generation + 1, filters = $2, cursors = $3, expiry_secs = $4, opened_by = $5,
        opened_at = $6, disconnected_at = NULL, lost_at = NULL, left_at = NULL WHERE id = $1 RETURNING generation"];
    INSERT_SESSION = ["INSERT INTO sessions (id, device_id, user_id, client_id, mount, generation, filters, cursors, expiry_secs,
            opened_by, opened_at)
        VALUES ($1, $2, $3, $4, $5, 1, '', $6, $7, $8, $9)"];
    // Sessions that end with their connection do not count; connected ones go last.
    TRIM_SESSIONS = ["DELETE FROM sessions WHERE id IN (SELECT s.id FROM sessions s
            WHERE s.device_id = $1 AND s.expiry_secs > 0 AND s.id <> $2
            ORDER BY CASE WHEN s.disconnected_at IS NULL AND s.opened_by = $3 THEN 0 ELSE 1 END,
                COALESCE(s.disconnected_at, s.opened_at) DESC, s.id DESC
            LIMIT $5 OFFSET $4) RETURNING id"];
    LOCK_FENCE = ["SELECT s.id FROM sessions s WHERE s.id = $1 AND s.generation = $2" lock(s)];
    SAVE_SUBSCRIPTIONS = ["UPDATE sessions SET filters = $3, cursors = $4 WHERE id = $1 AND generation = $2"];
    SAVE_CURSORS = ["UPDATE sessions SET cursors = $3 WHERE id = $1 AND generation = $2"];
    CLOSE_SESSION = ["UPDATE sessions SET cursors = COALESCE($3, cursors), expiry_secs = $4, disconnected_at = $5, left_at = $6 WHERE id = $1 AND generation = $2"];
    // Sessions of one device are closed in several lanes, in any order: to wait for its row here could be to wait for each
    // other. Who has it locked is seeing it, too, or renames, retires or removes it.
    SEE_DEVICE_OF_SESSION = ["UPDATE devices SET last_seen_at = $3 WHERE id = (SELECT d.id FROM sessions s JOIN devices d ON d.id = s.device_id
        WHERE s.id = $1 AND s.generation = $2 AND d.last_seen_at < $3" lock_free(d) ")"];
    DELETE_SESSION = ["DELETE FROM sessions WHERE id = $1 AND generation = $2"];
    LASTING_SESSIONS = ["SELECT s.id, s.mount, s.filters FROM sessions s WHERE s.user_id = $1 AND s.expiry_secs > 0
        AND (s.disconnected_at IS NULL OR s.disconnected_at + s.expiry_secs * 1000 > $2)
        AND (s.disconnected_at IS NOT NULL OR s.opened_by = $3 OR $4 + s.expiry_secs * 1000 > $2)"];
    // The process that held them left its last sign of life with its lanes.
    LOSE_SESSIONS = ["UPDATE sessions SET lost_at = COALESCE((SELECT MAX(l.at) FROM lanes l WHERE l.at <= $2), $2)
        WHERE disconnected_at IS NULL AND opened_by <> $1 AND lost_at IS NULL RETURNING user_id, lost_at, mount"];
    PRUNE_SESSIONS = ["DELETE FROM sessions WHERE (disconnected_at IS NOT NULL AND disconnected_at + expiry_secs * 1000 <= $1)
        OR (disconnected_at IS NULL AND opened_by <> $2 AND $3 + expiry_secs * 1000 <= $1)"];
}

/// 24 bytes per stream: id, then position, big-endian.
fn encode_cursors(cursors: &Cursors) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(cursors.len() * 24);
    for (stream, seq) in cursors {
        bytes.extend_from_slice(stream.uuid().as_bytes());
        bytes.extend_from_slice(&seq.to_be_bytes());
    }
    bytes
}

fn decode_cursors(bytes: &[u8]) -> Result<Cursors, sqlx::Error> {
    let (entries, rest) = bytes.as_chunks::<24>();
    if !rest.is_empty() {
        return Err(sqlx::Error::Decode("a cursor map has a piece of an entry".into()));
    }
    Ok(entries
        .iter()
        .map(|entry| {
            let (id, seq) = entry.split_at(16);
            let id = Uuid::from_slice(id).expect("16 bytes are a UUID");
            let seq = Seq::from_be_bytes(seq.try_into().expect("8 bytes are a Seq"));
            (StreamId::from(id), seq)
        })
        .collect())
}

/// A session as it was found.
struct Found {
    id: SessionId,
    filters: String,
    cursors: Cursors,
    expired: bool,
    /// Its queue in the plain lane was, or may have been, sent up to here; `None`: it never had one.
    sent: Option<Seq>,
    has_received: bool,
    has_wills: bool,
    /// 0: it ended with its connection.
    expiry_ms: i64,
    /// From when on it must ask how things stand. Of a session whose process died: some time before, for who had fallen silent.
    left_at: Timestamp,
}

impl Found {
    fn read(row: &Row, process: &Process, now: Timestamp) -> Result<Self, sqlx::Error> {
        let expiry_ms = row.int(4)?.saturating_mul(1000);
        // A session that its process did not mark as disconnected when it died counts from the start of this one.
        let left_by_the_dead = row.id::<Uuid>(5)? != process.id;
        let disconnected_at = row.int_or_null(6)?;
        let died_connected = disconnected_at.is_none() && left_by_the_dead;
        let disconnected = disconnected_at.or_else(|| left_by_the_dead.then_some(process.started_at.0));
        Ok(Self {
            id: row.id(0)?,
            filters: row.text(2)?,
            cursors: decode_cursors(&row.bytes(3)?)?,
            expired: disconnected.is_some_and(|since| since.saturating_add(expiry_ms) <= now.0),
            // How far the dead had come nobody knows: all of it may have been sent `[MQTT-3.3.1-1]`.
            sent: row.seq_or_null(if died_connected { 8 } else { 7 })?,
            has_received: row.flag(9)?,
            has_wills: row.flag(10)?,
            expiry_ms,
            left_at: row.at(11)?,
        })
    }
}

#[async_trait]
impl Write for OpenSession {
    type Answer = OpenedSession;
    const PLACE: Place = Place::Sessions;

    fn key(&self) -> Uuid {
        self.device.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<OpenedSession, Failed> {
        let (client, mount) = (self.client_id.as_str(), self.mount.as_str());
        if !see_and_hold(scope.tx, self.device, self.at).await? {
            return Err(Refusal::new(ErrorCode::Unauthenticated, "the device was removed").into());
        }
        let row = scope.tx.find(&LOCK_SESSION, args![self.device, client, mount]).await?;
        let found = row.map(|row| Found::read(&row, scope.process, self.at)).transpose()?;
        let Some(found) = found else { return Ok(self.begin(scope).await?) };
        let present = !self.clean_start && !found.expired;
        let (filters, cursors) = if present { (found.filters, found.cursors) } else { Default::default() };
        let args = args![
            found.id,
            filters.as_str(),
            encode_cursors(&cursors),
            self.expiry_secs,
            scope.process.id,
            self.at
        ];
        let row = scope.tx.find(&REOPEN_SESSION, args).await?.ok_or(sqlx::Error::RowNotFound)?;
        let fence = SessionFence { session: found.id, generation: row.int(0)? };
        if found.has_wills {
            plain::end_wills(scope.tx, found.id, !present, self.at).await?;
        }
        let mut received = Vec::new();
        if !present && (found.sent.is_some() || found.has_received) {
            plain::clear_queue(scope.tx, found.id).await?;
        } else if found.has_received {
            received = plain::list_received(scope.tx, found.id).await?;
        }
        self.finish(scope, fence, found.expiry_ms == 0).await?;
        let sent = found.sent.filter(|_| present).unwrap_or(0);
        let left_at = present.then_some(found.left_at);
        Ok(OpenedSession { fence, present, left_at, filters, cursors, sent, received })
    }
}

/// Parts of opening a session.
trait Opening {
    async fn begin(&self, scope: &mut Scope<'_>) -> Result<OpenedSession, sqlx::Error>;
    async fn finish(
        &self,
        scope: &mut Scope<'_>,
        fence: SessionFence,
        one_more: bool,
    ) -> Result<(), sqlx::Error>;
    async fn trim(&self, scope: &mut Scope<'_>, but: SessionId) -> Result<(), sqlx::Error>;
}

impl Opening for OpenSession {
    /// A session that was not there.
    async fn begin(&self, scope: &mut Scope<'_>) -> Result<OpenedSession, sqlx::Error> {
        let args = args![
            self.new_id,
            self.device,
            self.user,
            self.client_id.as_str(),
            self.mount.as_str(),
            Vec::<u8>::new(),
            self.expiry_secs,
            scope.process.id,
            self.at
        ];
        scope.tx.execute(&INSERT_SESSION, args).await?;
        let fence = SessionFence { session: self.new_id, generation: 1 };
        self.finish(scope, fence, true).await?;
        Ok(OpenedSession {
            fence,
            present: false,
            left_at: None,
            filters: String::new(),
            cursors: Cursors::new(),
            sent: 0,
            received: Vec::new(),
        })
    }

    /// What is done however it was opened. `one_more`: the device may have a lasting session more than it had.
    async fn finish(
        &self,
        scope: &mut Scope<'_>,
        fence: SessionFence,
        one_more: bool,
    ) -> Result<(), sqlx::Error> {
        plain::store_will(scope.tx, scope.process, self, fence).await?;
        if one_more { self.trim(scope, fence.session).await } else { Ok(()) }
    }

    /// Keeps at most so many sessions of the device that outlive their connection, this one among them.
    async fn trim(&self, scope: &mut Scope<'_>, but: SessionId) -> Result<(), sqlx::Error> {
        if self.expiry_secs == 0 {
            return Ok(());
        }
        let others = self.max_per_device.saturating_sub(1);
        let args = args![self.device, but, scope.process.id, others, i64::from(u32::MAX)];
        let trimmed = scope.tx.fetch(&TRIM_SESSIONS, args).await?;
        let trimmed = trimmed.iter().map(|row| row.id(0)).collect::<Result<_, _>>()?;
        plain::end_wills_of(scope.tx, trimmed, self.at).await
    }
}

#[async_trait]
impl Write for SaveSubscriptions {
    type Answer = Option<Cursors>;
    const PLACE: Place = Place::Sessions;

    fn key(&self) -> Uuid {
        self.fence.session.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Option<Cursors>, Failed> {
        let SessionFence { session, generation } = self.fence;
        if !holds_fence(scope.tx, self.fence).await? {
            return Ok(None);
        }
        let cursors = enter_streams(scope.tx, self).await?;
        let args = args![session, generation, self.filters.as_str(), encode_cursors(&cursors)];
        let saved = scope.tx.execute(&SAVE_SUBSCRIPTIONS, args).await?;
        Ok((saved == 1).then_some(cursors))
    }
}

/// Whether the session is still that of this connection; locks it.
pub(super) async fn holds_fence(tx: &mut Tx, fence: SessionFence) -> Result<bool, sqlx::Error> {
    let SessionFence { session, generation } = fence;
    Ok(tx.find(&LOCK_FENCE, args![session, generation]).await?.is_some())
}

/// The user's sessions that outlive their connections and are not expired.
pub(super) async fn list_lasting(
    tx: &mut Tx,
    process: &Process,
    user: UserId,
    at: Timestamp,
) -> Result<Vec<LastingSession>, sqlx::Error> {
    let rows = tx.fetch(&LASTING_SESSIONS, args![user, at, process.id, process.started_at]).await?;
    rows.iter()
        .map(|row| Ok(LastingSession { session: row.id(0)?, mount: row.text(1)?, filters: row.text(2)? }))
        .collect()
}

/// The cursor map under the new filters.
async fn enter_streams(tx: &mut Tx, save: &SaveSubscriptions) -> Result<Cursors, sqlx::Error> {
    let mut cursors = Cursors::new();
    let mut enter = |stream: StreamId, selected_before: bool, beginning: Seq, end: Seq| {
        let fresh = if selected_before { beginning } else { end };
        cursors.insert(stream, save.cursors.get(&stream).copied().unwrap_or(fresh));
    };
    if save.follow.personal {
        let end = personal_end(tx, save.user).await?.unwrap_or(0);
        enter(save.user.into(), save.previous.personal, 0, end);
    }
    for stay in list_stay_ends(tx, save.user).await? {
        if save.follow.covers(stay.chat) {
            let beginning = stay.first_joined.saturating_sub(1);
            enter(stay.chat.into(), save.previous.covers(stay.chat), beginning, stay.end);
        }
    }
    Ok(cursors)
}

struct SaveCursors {
    fence: SessionFence,
    cursors: Cursors,
}

#[async_trait]
impl Write for SaveCursors {
    type Answer = bool;
    const PLACE: Place = Place::Sessions;

    fn key(&self) -> Uuid {
        self.fence.session.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<bool, Failed> {
        let SessionFence { session, generation } = self.fence;
        let args = args![session, generation, encode_cursors(&self.cursors)];
        Ok(scope.tx.execute(&SAVE_CURSORS, args).await? == 1)
    }
}

#[async_trait]
impl Write for CloseSession {
    type Answer = bool;
    const PLACE: Place = Place::Sessions;

    fn key(&self) -> Uuid {
        self.fence.session.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<bool, Failed> {
        let SessionFence { session, generation } = self.fence;
        scope.tx.execute(&SEE_DEVICE_OF_SESSION, args![session, generation, self.at]).await?;
        let changed = if self.expiry_secs == 0 {
            scope.tx.execute(&DELETE_SESSION, args![session, generation]).await?
        } else {
            let cursors = Arg::Bytes(self.cursors.as_ref().map(encode_cursors));
            let args = args![session, generation, cursors, self.expiry_secs, self.at, self.left_at];
            scope.tx.execute(&CLOSE_SESSION, args).await?
        };
        if changed == 1 {
            if self.expiry_secs > 0 {
                plain::apply_settle(scope.tx, session, &self.settle).await?;
            }
            plain::close_will(scope.tx, self).await?;
        }
        Ok(changed == 1)
    }
}

struct PruneSessions {
    at: Timestamp,
}

#[async_trait]
impl Write for PruneSessions {
    type Answer = u64;
    const PLACE: Place = Place::Sessions;

    fn key(&self) -> Uuid {
        Uuid::nil()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<u64, Failed> {
        let Process { id, started_at, .. } = *scope.process;
        let mut seen = Vec::new();
        for row in scope.tx.fetch(&LOSE_SESSIONS, args![id, started_at]).await? {
            // A device that is mounted does not make its user present.
            if row.text(2)?.is_empty() {
                seen.push((row.id(0)?, row.at(1)?));
            }
        }
        if !seen.is_empty() {
            note_seen(scope.tx, &seen).await?;
        }
        plain::orphan_wills(scope.tx, scope.process).await?;
        plain::prune_retained(scope.tx, self.at).await?;
        Ok(scope.tx.execute(&PRUNE_SESSIONS, args![self.at, id, started_at]).await?)
    }
}

#[async_trait]
impl Sessions for SqlStore {
    async fn open_session(&self, open: OpenSession) -> Result<OpenedSession> {
        self.writer.write(open).await
    }

    async fn save_subscriptions(&self, save: SaveSubscriptions) -> Result<Option<Cursors>> {
        self.writer.write(save).await
    }

    async fn save_cursors(&self, fence: SessionFence, cursors: Cursors) -> Result<bool> {
        self.writer.write(SaveCursors { fence, cursors }).await
    }

    async fn close_session(&self, close: CloseSession) -> Result<bool> {
        self.writer.write(close).await
    }

    async fn prune_sessions(&self, at: Timestamp) -> Result<u64> {
        self.writer.write(PruneSessions { at }).await
    }
}
