//! Whether people are there.

use crate::{clock::Timestamp, ids::UserId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Whether somebody is there, as their contacts are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PresenceState {
    /// Connected and active on some device.
    Online,
    /// Connected, and in the background on every device.
    Away,
    /// Not connected.
    Offline,
    /// Not to be seen, or not any more.
    Unknown,
}

/// A contact, with whom presence is shared or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresenceContact {
    /// Who.
    pub user: UserId,
    /// Whether each sees the other: neither has blocked the other nor shows nobody when they were last seen.
    pub visible: bool,
    /// When a block or a setting last changed on either side: since then that is so at least.
    pub changed_at: Timestamp,
    /// When they were last active.
    pub last_seen_at: Option<Timestamp>,
}
