//! From commits to connections.

use crate::{
    event::Event,
    ids::{LoginId, SessionId, UserId},
    message::LogRow,
};
use async_trait::async_trait;
use std::sync::Arc;

/// Carries what was committed to the connections that wait for it.
#[async_trait]
pub trait Relay: Send + Sync {
    /// Takes the rows of one commit. Called after the commit, for one log in `seq` order; a row that gives somebody a stay
    /// stands in the personal log and comes before the chat's row of the same change. Must not block.
    fn committed(&self, rows: Vec<Arc<LogRow>>);

    /// Takes a live or state event for a user's connections. May be shed. `except`: not to this session.
    fn notify(&self, to: UserId, event: Arc<Event>, except: Option<SessionId>);

    /// Ends the connections of these logins; returns once nothing more is written to any of them.
    async fn end_logins(&self, logins: &[LoginId]);
}
