//! What the machine and its connection say to each other.

use super::{
    states::{StateQuery, ToldStates},
    subscriptions::Subscription,
    window::Unacknowledged,
};
use crate::{
    format::Format,
    packet::{PacketId, PublishProperties, Qos, Reason, Version},
    rate::Rates,
    topic::Space,
};
use bytes::Bytes;
use curlew_domain::{
    clock::Timestamp,
    error::ErrorCode,
    ids::{ChatId, Seq, Stream, UserId},
    message::LocalId,
    plain::Settle,
    session::{Cursors, Follow},
};
use std::sync::Arc;

/// What the machine asks its connection to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Carry out a command; report with [`Session::command_done`](super::Session::command_done), in the order handed out.
    Command(Command),
    /// Whose token is this? Report with [`Session::authenticated`](super::Session::authenticated). Until then no input is wanted.
    Authenticate(String),
    /// Store filters and cursor map; report with [`Session::subscriptions_saved`](super::Session::subscriptions_saved). Until then no input is wanted.
    SaveSubscriptions {
        /// All filters now.
        filters: String,
        /// What was selected, and what is.
        follow: (Follow, Follow),
        /// Acknowledged so far.
        cursors: Cursors,
        /// The filters in the plain lane, if they changed.
        own_lane: Option<Vec<Arc<Subscription>>>,
        /// Those of a SUBSCRIBE for which the retained messages are due.
        retained: Vec<Arc<Subscription>>,
    },
    /// Read the session's queue in the plain lane; report with [`Session::handle_queue`](super::Session::handle_queue).
    ReadQueue {
        /// After which place.
        after: Seq,
    },
    /// Store what was done with the queue; report with [`Session::settled`](super::Session::settled).
    Settle(Settle),
    /// Read these logs, each after a row; report with [`Session::handle_pages`](super::Session::handle_pages).
    Read(Vec<(Stream, Seq)>),
    /// Read how things stand; report with [`Session::handle_states`](super::Session::handle_states).
    ReadStates(StateQuery),
    /// Store the cursor map; report with [`Session::cursors_saved`](super::Session::cursors_saved).
    SaveCursors(Cursors),
    /// The user's devices have this chat up to here.
    Acknowledged(ChatId, Seq),
    /// Rows may have been lost on the way from the commits: report the ends of all stays with [`Session::handle_stays`](super::Session::handle_stays).
    ListStays,
    /// Close once everything that [`Session::poll_transmit`](super::Session::poll_transmit) still gives is written.
    Close(Reason),
}

/// A PUBLISH on its way to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Topic name.
    pub topic: String,
    /// Payload.
    pub payload: Bytes,
    /// Quality of service.
    pub qos: Qos,
    /// RETAIN.
    pub retain: bool,
    /// Packet identifier, if QoS > 0.
    pub packet_id: Option<PacketId>,
    /// Properties (5).
    pub properties: PublishProperties,
}

/// How a command ended.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Committed.
    Done {
        /// User properties for the acknowledgement (5).
        properties: Vec<(String, String)>,
        /// Whether its packet identifier is stored with the session until PUBREL.
        recorded: bool,
    },
    /// Refused for good.
    Refused {
        /// MQTT's view of it.
        reason: Reason,
        /// Ours.
        code: ErrorCode,
        /// For people.
        detail: String,
        /// The command's `localId`, if it could be read.
        local_id: Option<LocalId>,
    },
    /// A failure that may pass: never acknowledged.
    TryLater,
}

/// A refused command of which the acknowledgement could not tell: becomes `command-failed`.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Where it was published.
    pub topic: String,
    /// Packet identifier, if QoS > 0.
    pub packet_id: Option<PacketId>,
    /// Code.
    pub code: ErrorCode,
    /// For people.
    pub detail: String,
    /// The command's `localId`, if it could be read.
    pub local_id: Option<LocalId>,
}

/// What the process keeps of a session whose connection ended, for its return.
#[derive(Clone, Debug, Default)]
pub struct Parked {
    /// Publications in flight.
    pub unacknowledged: Unacknowledged,
    /// What it was told of receipts last.
    pub told: ToldStates,
    /// QoS 2 commands that were acknowledged with PUBREC and not yet released `[MQTT-4.3.3-10]`.
    pub received: Vec<PacketId>,
}

/// What a session begins with.
pub struct Start {
    /// Whose.
    pub me: UserId,
    /// How it names topics.
    pub space: Space,
    /// 3.1.1 or 5.
    pub version: Version,
    /// Of events.
    pub format: Format,
    /// Stored filters.
    pub filters: String,
    /// Stored cursor map.
    pub cursors: Cursors,
    /// When it was left, if it comes back.
    pub left_at: Option<Timestamp>,
    /// What the process kept.
    pub parked: Parked,
    /// Its queue in the plain lane was sent up to here.
    pub sent: Seq,
    /// Packet identifiers of its publications in the plain lane that were not released.
    pub received: Vec<PacketId>,
    /// In-flight window: the client's Receive Maximum and ours.
    pub window: u16,
    /// Keep Alive of CONNECT; 0 = none.
    pub keep_alive: u16,
    /// Session Expiry Interval in seconds.
    pub expiry_secs: u32,
    /// Whether CONNECT named the authentication method.
    pub named_method: bool,
    /// What the user has published, shared by all of their connections.
    pub rates: Arc<Rates>,
}

/// A page of a log.
#[derive(Clone, Debug)]
pub struct Page {
    /// Which log.
    pub stream: Stream,
    /// After which row it was asked for.
    pub after: Seq,
    /// In `seq` order.
    pub rows: Vec<(Seq, Bytes)>,
    /// Everything the user may have up to here is in `rows` or before it.
    pub end: Seq,
    /// Whether there is more: also of a log for which there was no room.
    pub more: bool,
}
