//! From commits to connections.

use crate::{
    clock::Timestamp,
    event::Event,
    ids::{DeviceId, LoginId, SessionId, UserId},
    message::LogRow,
    plain::PlainDelivery,
};
use async_trait::async_trait;
use std::sync::Arc;

/// Something that was committed and that connections wait for.
#[derive(Clone, Debug)]
pub enum Committed {
    /// A row of a log.
    Row(Arc<LogRow>),
    /// A publication in a plain lane.
    Plain(Arc<PlainDelivery>),
    /// The end of logins: their connections must end.
    LoginsEnded(Vec<LoginId>),
    /// With whom these users share their presence may have changed.
    VisibilityChanged(Vec<UserId>),
}

/// Carries what was committed to the connections that wait for it.
#[async_trait]
pub trait Relay: Send + Sync {
    /// Takes what one commit holds. Called after the commit and before its callers are answered; for one log, and for one
    /// session's queue, in `seq` order. A row that gives somebody a stay stands in the personal log and comes before the
    /// chat's row of the same change. Must not block.
    fn committed(&self, committed: Vec<Committed>);

    /// Takes an event of a chat's receipts for a user's connections. One that has no room for it reads how things stand.
    /// `except`: not to this session.
    fn notify(&self, to: UserId, event: Arc<Event>, except: Option<SessionId>);

    /// Watermarks may have been committed since that time of which nobody can tell what became: connections read how things
    /// stand.
    fn receipts_uncertain(&self, since: Timestamp);

    /// Ends the connections of these logins; returns once nothing more is written to any of them. The commit that ended the
    /// logins has told them already: this is for who waits.
    async fn end_logins(&self, logins: &[LoginId]);

    /// The user's devices that are connected now.
    async fn online_devices(&self, user: UserId) -> Vec<DeviceId>;
}
