//! MQTT sessions: opened at CONNECT, fenced by their generation, closed with the connection.

use super::{Base, Receipts};
use crate::{
    account::Principal,
    clock::Timestamp,
    error::Result,
    ids::UserId,
    plain::{NewWill, PlainMessage, Settle},
    session::{CloseSession, Cursors, Follow, OpenSession, OpenedSession, SaveSubscriptions, SessionFence},
};
use std::{sync::Arc, time::Duration};

/// A session lasts at most this long without its connection.
pub const MAX_EXPIRY: Duration = Duration::from_hours(60 * 24);
/// Sessions kept per device.
pub const MAX_PER_DEVICE: u32 = 8;

/// What a CONNECT says about its session.
#[derive(Clone, Debug)]
pub struct SessionWish {
    /// Client identifier, given or assigned.
    pub client_id: String,
    /// Mount, empty for none.
    pub mount: String,
    /// Clean Start.
    pub clean_start: bool,
    /// Session Expiry Interval, seconds, already capped at [`MAX_EXPIRY`].
    pub expiry_secs: u32,
    /// The will.
    pub will: Option<WillWish>,
}

/// What a CONNECT says about its will.
#[derive(Clone, Debug)]
pub struct WillWish {
    /// What. It does not expire yet.
    pub message: PlainMessage,
    /// Message Expiry Interval, seconds, counted from when it is published.
    pub expiry_secs: Option<u32>,
    /// Will Delay Interval, seconds.
    pub delay_secs: u32,
}

/// How a session ends its connection.
#[derive(Clone, Debug)]
pub struct SessionEnd {
    /// Acknowledged so far.
    pub cursors: Cursors,
    /// Plain lane: what was not stored yet.
    pub settle: Settle,
    /// Session Expiry Interval, seconds; 0 forgets the session.
    pub expiry_secs: u32,
    /// From when on it must ask how things stand when it comes back.
    pub left_at: Timestamp,
    /// Whether the client took its will back.
    pub discard_will: bool,
}

/// MQTT sessions. That one has acknowledged something is stored only after what follows from it for receipts, so that a
/// crash has it acknowledged again, and never swallows it.
pub struct Sessions {
    base: Base,
    receipts: Arc<Receipts>,
}

impl Sessions {
    /// The service.
    pub fn new(base: Base, receipts: Arc<Receipts>) -> Self {
        Self { base, receipts }
    }

    /// Takes the next generation of a session.
    pub async fn open(&self, principal: &Principal, wish: SessionWish) -> Result<OpenedSession> {
        let open = OpenSession {
            new_id: self.base.new_id(),
            user: principal.user,
            device: principal.device,
            client_id: wish.client_id,
            mount: wish.mount,
            clean_start: wish.clean_start,
            expiry_secs: wish.expiry_secs,
            max_per_device: MAX_PER_DEVICE,
            will: wish.will.map(|WillWish { message, expiry_secs, delay_secs }| NewWill {
                id: self.base.new_id(),
                message,
                expiry_secs,
                delay_secs,
            }),
            at: self.base.now(),
        };
        self.base.store.open_session(open).await
    }

    /// Stores new filters; answers the new cursor map, `None` when superseded.
    pub async fn save_subscriptions(
        &self,
        fence: SessionFence,
        user: UserId,
        filters: String,
        (previous, follow): (Follow, Follow),
        cursors: Cursors,
    ) -> Result<Option<Cursors>> {
        self.receipts.settle(user).await?;
        let save = SaveSubscriptions { fence, user, filters, previous, follow, cursors };
        self.base.store.save_subscriptions(save).await
    }

    /// Stores the cursor map; `false` when superseded.
    pub async fn save_cursors(&self, fence: SessionFence, user: UserId, cursors: Cursors) -> Result<bool> {
        self.receipts.settle(user).await?;
        self.base.store.save_cursors(fence, cursors).await
    }

    /// Stores how a session is left at the end of its connection; `false` when superseded.
    pub async fn close(&self, fence: SessionFence, user: UserId, end: SessionEnd) -> Result<bool> {
        let SessionEnd { cursors, settle, expiry_secs, left_at, discard_will } = end;
        // Its end is an end all the same.
        let cursors = match self.receipts.settle(user).await {
            Ok(()) => Some(cursors),
            Err(error) => {
                tracing::warn!(%error, "what a session acknowledged last may come again");
                None
            }
        };
        let at = self.base.now();
        let close = CloseSession { fence, cursors, expiry_secs, settle, left_at, discard_will, at };
        self.base.store.close_session(close).await
    }

    /// Forgets expired sessions; answers how many.
    pub async fn prune(&self) -> Result<u64> {
        self.base.store.prune_sessions(self.base.now()).await
    }
}
