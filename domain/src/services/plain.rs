//! The plain lane: publishing, and what is kept for sessions that are away.

use super::Base;
use crate::{
    error::{Error, ErrorCode, Result},
    ids::{ChatId, Seq, SessionId, UserId},
    plain::{
        DueWill, LastingSession, MAX_PAYLOAD, PlainMessage, PublishPlain, PublishedPlain, QueuePage,
        Recipient, Retained, Settle,
    },
    ports::store::Commit,
    rules::may_send,
    session::SessionFence,
};
use std::sync::Arc;
use uuid::Uuid;

/// Wills that are published in one go.
const WILLS: u32 = 64;

/// A publication in somebody's own lane.
#[derive(Clone, Debug)]
pub struct Publication {
    /// What; `retain` makes it the retained message of its topic.
    pub message: Arc<PlainMessage>,
    /// Sessions that last, at QoS 1 or 2.
    pub queue: Vec<Recipient>,
    /// Other sessions.
    pub live: Vec<Recipient>,
    /// At QoS 2, from a session that lasts: its packet identifier.
    pub received: Option<(SessionId, u16)>,
    /// The will that this is.
    pub will: Option<Uuid>,
}

/// The plain lane.
pub struct Plain {
    base: Base,
}

impl Plain {
    /// The service.
    pub fn new(base: Base) -> Self {
        Self { base }
    }

    /// Whether a message is one that the lane takes.
    pub fn check(message: &PlainMessage) -> Result<()> {
        if message.payload.len() > MAX_PAYLOAD {
            let detail = format!("the payload has {} bytes; at most {MAX_PAYLOAD}", message.payload.len());
            return Err(Error::refused(ErrorCode::PayloadTooLarge, detail));
        }
        Ok(())
    }

    /// Queues a publication of which something must be kept. Publications of one user commit in the order in which they
    /// are queued.
    pub async fn publish(&self, user: UserId, publication: Publication) -> Result<Commit<PublishedPlain>> {
        let Publication { message, queue, live, received, will } = publication;
        let (retain, at) = (message.retain, self.base.now());
        self.base
            .store
            .publish_plain(PublishPlain { user, message, queue, live, retain, received, will, at })
            .await
    }

    /// Whether the user may publish to those who are in the chat right now: as for a message.
    pub async fn may_signal(&self, user: UserId, chat: ChatId) -> Result<()> {
        let facts = self.base.store.find_send_facts(user, chat).await?;
        Ok(may_send(facts.as_ref())?)
    }

    /// A part of a session's queue.
    pub async fn list_queued(
        &self,
        session: SessionId,
        after: Seq,
        limit: u32,
        bytes: usize,
    ) -> Result<QueuePage> {
        self.base.store.list_queued(session, after, limit, bytes).await
    }

    /// Stores what a session has done; `false` when superseded.
    pub async fn settle(&self, fence: SessionFence, settle: Settle) -> Result<bool> {
        self.base.store.settle_queue(fence, settle).await
    }

    /// Retained messages that are not expired.
    pub async fn list_retained(&self, user: UserId, which: Retained) -> Result<Vec<PlainMessage>> {
        self.base.store.list_retained(user, which, self.base.now()).await
    }

    /// The user's sessions that outlive their connections.
    pub async fn list_lasting_sessions(&self, user: UserId) -> Result<Vec<LastingSession>> {
        self.base.store.list_lasting_sessions(user, self.base.now()).await
    }

    /// Some of the wills whose time has come.
    pub async fn list_due_wills(&self) -> Result<Vec<DueWill>> {
        self.base.store.list_due_wills(self.base.now(), WILLS).await
    }
}
