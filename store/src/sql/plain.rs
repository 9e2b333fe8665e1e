//! The port `Plain`: the plain lane. Publishing, the queues of sessions that last, retained messages, wills.

mod publish;
mod queue;
mod retained;
mod wills;

use super::{
    SqlStore, read,
    sessions::list_lasting,
    statement::Sql,
    value::{Arg, Row},
};
use crate::trouble::unreadable;
use async_trait::async_trait;
use curlew_domain::{
    Result,
    clock::Timestamp,
    ids::{Seq, SessionId, UserId},
    plain::{
        DueWill, LastingSession, PlainMessage, PlainProperties, PublishPlain, PublishedPlain, Qos, QueuePage,
        Retained, Settle,
    },
    ports::store::{Commit, Plain},
    session::SessionFence,
};
pub(super) use queue::{apply_settle, clear_queue, list_received};
pub(super) use retained::prune_retained;
pub(super) use wills::{close_will, end_wills, end_wills_of, orphan_wills, store_will};

/// Every statement of the plain lane, by name.
pub(super) fn statements() -> impl Iterator<Item = (&'static str, Sql)> {
    [publish::STATEMENTS, queue::STATEMENTS, retained::STATEMENTS, wills::STATEMENTS]
        .into_iter()
        .flatten()
        .copied()
}

/// Topic, properties and payload of a message.
fn body_args(message: &PlainMessage) -> [Arg; 3] {
    [
        message.topic.as_str().into(),
        serde_json::to_string(&message.properties).expect("properties have a JSON form").into(),
        message.payload.to_vec().into(),
    ]
}

/// Reads a message whose topic, properties and payload begin at column `first`.
fn read_message(
    row: &Row,
    first: usize,
    (qos, retain): (Qos, bool),
    expires_at: Option<Timestamp>,
) -> Result<PlainMessage, sqlx::Error> {
    let properties: PlainProperties =
        serde_json::from_str(&row.text(first + 1)?).map_err(|error| sqlx::Error::Decode(error.into()))?;
    Ok(PlainMessage {
        topic: row.text(first)?,
        payload: row.bytes(first + 2)?.into(),
        qos,
        retain,
        properties,
        expires_at,
    })
}

fn read_qos(row: &Row, column: usize) -> Result<Qos, sqlx::Error> {
    let level = row.int(column)?;
    u8::try_from(level).ok().and_then(Qos::from_level).ok_or_else(|| unreadable("QoS", &level.to_string()))
}

#[async_trait]
impl Plain for SqlStore {
    async fn publish_plain(&self, publish: PublishPlain) -> Result<Commit<PublishedPlain>> {
        self.writer.submit(publish).await
    }

    async fn list_queued(
        &self,
        session: SessionId,
        after: Seq,
        limit: u32,
        bytes: usize,
    ) -> Result<QueuePage> {
        read!(self, |tx| queue::list_queued(tx, session, after, limit, bytes).await?)
    }

    async fn settle_queue(&self, fence: SessionFence, settle: Settle) -> Result<bool> {
        self.writer.write(queue::SettleQueue { fence, settle }).await
    }

    async fn list_retained(&self, user: UserId, which: Retained, at: Timestamp) -> Result<Vec<PlainMessage>> {
        read!(self, single | tx | retained::list_retained(tx, user, &which, at).await?)
    }

    async fn list_lasting_sessions(&self, user: UserId, at: Timestamp) -> Result<Vec<LastingSession>> {
        let process = self.process.clone();
        read!(self, single | tx | list_lasting(tx, &process, user, at).await?)
    }

    async fn list_due_wills(&self, at: Timestamp, limit: u32) -> Result<Vec<DueWill>> {
        read!(self, single | tx | wills::list_due(tx, at, limit).await?)
    }
}
