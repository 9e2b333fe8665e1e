//! MQTT sessions as rows: what survives the connection, the process and the node.

use crate::{
    clock::Timestamp,
    ids::{ChatId, DeviceId, Seq, SessionId, StreamId, UserId},
    plain::{NewWill, Settle},
};
use std::collections::BTreeMap;

/// Acknowledged position of a session in each of its streams.
pub type Cursors = BTreeMap<StreamId, Seq>;

/// The streams that a session's filters select, out of those its user has or ever had a stay in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Follow {
    /// The personal log.
    pub personal: bool,
    /// Chats.
    pub chats: FollowChats,
}

/// Which chats a session's filters select.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FollowChats {
    /// All of the user's.
    All,
    /// These, as far as they are the user's.
    Only(Vec<ChatId>),
}

impl Default for FollowChats {
    fn default() -> Self {
        Self::Only(Vec::new())
    }
}

impl Follow {
    /// Whether the chat's log is selected.
    pub fn covers(&self, chat: ChatId) -> bool {
        match &self.chats {
            FollowChats::All => true,
            FollowChats::Only(chats) => chats.contains(&chat),
        }
    }
}

/// A CONNECT that was authenticated.
#[derive(Clone, Debug)]
pub struct OpenSession {
    /// Id for a session that is made anew.
    pub new_id: SessionId,
    /// Whose.
    pub user: UserId,
    /// On which device.
    pub device: DeviceId,
    /// Client identifier, scoped to the device.
    pub client_id: String,
    /// Mount, empty for none.
    pub mount: String,
    /// Clean Start: forget filters and cursors.
    pub clean_start: bool,
    /// Session Expiry Interval in seconds, already capped.
    pub expiry_secs: u32,
    /// Sessions kept per device; the one longest disconnected makes room.
    pub max_per_device: u32,
    /// To be published when the connection ends without a DISCONNECT that takes it back. An earlier connection's will is
    /// published now if its session ends here (Clean Start, expired) or its delay is 0; else it is forgotten, since its
    /// session goes on `[MQTT-3.1.3-9]`.
    pub will: Option<NewWill>,
    /// Now.
    pub at: Timestamp,
}

/// The session as opened: its generation fences every later write.
#[derive(Clone, Debug)]
pub struct OpenedSession {
    /// What later writes must name.
    pub fence: SessionFence,
    /// Session Present.
    pub present: bool,
    /// From when on it must ask how things stand, negative if it was never told that; `None`: the session is new.
    pub left_at: Option<Timestamp>,
    /// The filters, as [`SaveSubscriptions::filters`] stored them; empty for none.
    pub filters: String,
    /// The cursor map.
    pub cursors: Cursors,
    /// Plain lane: everything in the queue up to here has been sent at least once, or may have been by a process that died.
    pub sent: Seq,
    /// Plain lane: packet identifiers of its own publications at QoS 2 that were published and not yet released.
    pub received: Vec<u16>,
}

/// (session, generation): a write that names a superseded generation changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionFence {
    /// Session.
    pub session: SessionId,
    /// Generation taken at CONNECT.
    pub generation: i64,
}

/// New filters of a session, after SUBSCRIBE or UNSUBSCRIBE.
#[derive(Clone, Debug)]
pub struct SaveSubscriptions {
    /// Which session.
    pub fence: SessionFence,
    /// Whose.
    pub user: UserId,
    /// All filters now, opaque to the store.
    pub filters: String,
    /// What was selected before. A stream selected by it and absent from `cursors` began after its SUBSCRIBE and enters at
    /// the row before its first stay's `joined_seq`.
    pub previous: Follow,
    /// What is selected now. A stream selected by it alone enters at its present end; one no longer selected goes.
    pub follow: Follow,
    /// The cursor map as acknowledged so far.
    pub cursors: Cursors,
}

/// The end of a connection.
#[derive(Clone, Debug)]
pub struct CloseSession {
    /// Which session.
    pub fence: SessionFence,
    /// The cursor map as acknowledged; `None` leaves it as it is.
    pub cursors: Option<Cursors>,
    /// Session Expiry Interval in seconds; 0 forgets the session.
    pub expiry_secs: u32,
    /// Plain lane: what was not stored yet.
    pub settle: Settle,
    /// From when on it must ask how things stand when it comes back; negative if it was never told that.
    pub left_at: Timestamp,
    /// Whether the client took its will back; else it is due after its delay, or with the session's end if that is sooner.
    pub discard_will: bool,
    /// Now.
    pub at: Timestamp,
}
