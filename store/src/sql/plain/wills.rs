//! Wills: stored with the CONNECT, due when the connection has ended without taking them back.

use super::{body_args, read_message, read_qos};
use crate::sql::{
    statement::statements,
    transaction::Tx,
    value::{Table, args},
    writer::Process,
};
use curlew_domain::{
    clock::Timestamp,
    ids::SessionId,
    plain::{DueWill, NewWill},
    session::{CloseSession, OpenSession, SessionFence},
};
use uuid::Uuid;

statements! {
    INSERT_WILL = ["INSERT INTO wills (id, user_id, session_id, generation, opened_by, delay_secs, expiry_secs, qos, retain,
            topic, properties, payload)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"];
    DUE_NOW = ["UPDATE wills SET due = $2 WHERE session_id = $1 AND (due IS NULL OR due > $2)"];
    DUE_WITHOUT_DELAY = ["UPDATE wills SET due = $2 WHERE session_id = $1 AND due IS NULL AND delay_secs = 0"];
    DELETE_PENDING = ["DELETE FROM wills WHERE session_id = $1 AND (due IS NULL OR due > $2)"];
    DISCARD_WILL = ["DELETE FROM wills WHERE session_id = $1 AND generation = $2 AND due IS NULL"];
    DUE_AFTER_DELAY = ["UPDATE wills SET due = $3 + CASE WHEN delay_secs < $4 THEN delay_secs ELSE $4 END * 1000
        WHERE session_id = $1 AND generation = $2 AND due IS NULL"];
    DUE_OF_TRIMMED = ["WITH r AS MATERIALIZED " rows(1: session id) "
        UPDATE wills SET due = $2 WHERE session_id IN (SELECT r.session FROM r) AND (due IS NULL OR due > $2)"];
    // Of connections that died with their process.
    ORPHAN_WILLS = ["UPDATE wills SET due = $2 + 1000 * COALESCE(
            (SELECT CASE WHEN delay_secs < s.expiry_secs THEN delay_secs ELSE s.expiry_secs END FROM sessions s
                WHERE s.id = wills.session_id), 0)
        WHERE due IS NULL AND opened_by <> $1"];
    FIND_DUE = ["SELECT w.id FROM wills w WHERE w.id = $1 AND w.due <= $2" lock(w)];
    LIST_DUE = ["SELECT w.id, w.user_id, w.session_id, w.expiry_secs, w.qos, w.retain, w.topic, w.properties, w.payload
        FROM wills w WHERE w.due <= $1 ORDER BY w.due, w.id LIMIT $2"];
}

/// The wills of earlier connections of a session that is opened again. `ended`: it begins anew, so that they are published;
/// else only those without a delay are.
pub(in crate::sql) async fn end_wills(
    tx: &mut Tx,
    session: SessionId,
    ended: bool,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    if ended {
        tx.execute(&DUE_NOW, args![session, at]).await?;
    } else {
        tx.execute(&DUE_WITHOUT_DELAY, args![session, at]).await?;
        tx.execute(&DELETE_PENDING, args![session, at]).await?;
    }
    Ok(())
}

/// Keeps the will of a CONNECT.
pub(in crate::sql) async fn store_will(
    tx: &mut Tx,
    process: &Process,
    open: &OpenSession,
    fence: SessionFence,
) -> Result<(), sqlx::Error> {
    let Some(NewWill { id, message, expiry_secs, delay_secs }) = &open.will else { return Ok(()) };
    let mut args = args![
        *id,
        open.user,
        fence.session,
        fence.generation,
        process.id,
        *delay_secs,
        expiry_secs.map(i64::from),
        message.qos as i64,
        message.retain
    ];
    args.extend(body_args(message));
    tx.execute(&INSERT_WILL, args).await.map(drop)
}

/// The will of a connection that ends.
pub(in crate::sql) async fn close_will(tx: &mut Tx, close: &CloseSession) -> Result<(), sqlx::Error> {
    let SessionFence { session, generation } = close.fence;
    if close.discard_will {
        tx.execute(&DISCARD_WILL, args![session, generation]).await?;
    } else {
        tx.execute(&DUE_AFTER_DELAY, args![session, generation, close.at, close.expiry_secs]).await?;
    }
    Ok(())
}

/// The wills of sessions that were discarded to make room.
pub(in crate::sql) async fn end_wills_of(
    tx: &mut Tx,
    sessions: Vec<SessionId>,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    if !sessions.is_empty() {
        let table = Table::of_ids(sessions.into_iter().map(SessionId::uuid));
        tx.execute(&DUE_OF_TRIMMED, args![table, at]).await?;
    }
    Ok(())
}

/// Makes the wills due of connections that died with an earlier process: their delay counts from the start of this one.
pub(in crate::sql) async fn orphan_wills(tx: &mut Tx, process: &Process) -> Result<(), sqlx::Error> {
    tx.execute(&ORPHAN_WILLS, args![process.id, process.started_at]).await.map(drop)
}

/// Whether the will is still to be published.
pub(super) async fn is_due(tx: &mut Tx, will: Uuid, at: Timestamp) -> Result<bool, sqlx::Error> {
    Ok(tx.find(&FIND_DUE, args![will, at]).await?.is_some())
}

pub(super) async fn list_due(tx: &mut Tx, at: Timestamp, limit: u32) -> Result<Vec<DueWill>, sqlx::Error> {
    let rows = tx.fetch(&LIST_DUE, args![at, limit]).await?;
    rows.iter()
        .map(|row| {
            let expiry = row.int_or_null(3)?.map(|secs| u32::try_from(secs).unwrap_or(u32::MAX));
            Ok(DueWill {
                id: row.id(0)?,
                user: row.id(1)?,
                session: row.id(2)?,
                message: read_message(row, 6, (read_qos(row, 4)?, row.flag(5)?), None)?,
                expiry_secs: expiry,
            })
        })
        .collect()
}
