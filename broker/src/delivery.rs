//! What the registry hands to connections.

use crate::{format::Format, packet::Reason, session::StateTopic};
use bytes::Bytes;
use curlew_domain::{
    event::{Audience, Event},
    ids::{ChatId, Seq, SessionId, Stream, UserId},
    message::LogRow,
    plain::PlainMessage,
};
use std::sync::{Arc, OnceLock};

/// One payload in each format, encoded when somebody first wants it.
#[derive(Debug, Default)]
struct Encodings {
    json: OnceLock<Bytes>,
    cbor: OnceLock<Bytes>,
}

impl Encodings {
    fn get(&self, format: Format, encode: impl FnOnce() -> Bytes) -> Bytes {
        let cell = match format {
            Format::Json => &self.json,
            Format::Cbor => &self.cbor,
        };
        cell.get_or_init(encode).clone()
    }
}

/// A committed row of a chat's log, encoded once in each format for all who get it; what only the sender may see is a second
/// encoding.
#[derive(Debug)]
pub struct SharedRow {
    row: Arc<LogRow>,
    others: Encodings,
    sender: Encodings,
}

impl SharedRow {
    /// Not encoded yet.
    pub fn new(row: Arc<LogRow>) -> Self {
        Self { row, others: Encodings::default(), sender: Encodings::default() }
    }

    /// The row.
    pub fn row(&self) -> &LogRow {
        &self.row
    }

    /// The payload as `reader` gets it.
    pub fn payload(&self, reader: UserId, format: Format) -> Bytes {
        let (encodings, audience) = if reader == self.row.sender {
            (&self.sender, Audience::Sender)
        } else {
            (&self.others, Audience::Others)
        };
        let encode =
            || Event::of_chat_row(&self.row, audience).map(|event| format.encode(&event)).unwrap_or_default();
        encodings.get(format, encode)
    }
}

/// A live or state event, encoded once in each format.
#[derive(Debug)]
pub struct SharedEvent {
    /// The event.
    pub event: Arc<Event>,
    payload: Encodings,
}

impl SharedEvent {
    /// For all who get it; not encoded yet.
    pub fn new(event: impl Into<Arc<Event>>) -> Arc<Self> {
        Arc::new(Self { event: event.into(), payload: Encodings::default() })
    }

    /// The payload.
    pub fn payload(&self, format: Format) -> Bytes {
        self.payload.get(format, || format.encode(&self.event))
    }
}

/// A state event, and of what.
pub type StateEvent = (StateTopic, Arc<SharedEvent>);

/// What a connection is told.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// A row of a chat's log.
    Row(Arc<SharedRow>),
    /// Rows of another log were committed up to here.
    Hint(Stream, Seq),
    /// The user has hidden a row of this log: what waits of it may show it.
    Stale(Stream),
    /// The user entered a chat.
    Joined(ChatId, Seq),
    /// A state event.
    State(StateTopic, Arc<SharedEvent>),
    /// Somebody types in a chat, or does not any more.
    Typing(ChatId, Arc<SharedEvent>),
    /// A message of a chat's plain lane, and the session that published it.
    Signal(Arc<PlainMessage>, SessionId),
    /// Something waits in the user's own plain lane.
    Plain,
}

/// Why a connection must end, told by somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A newer connection of the same session.
    TakenOver,
    /// Its login was ended.
    LoginEnded,
    /// The server stops.
    ShuttingDown,
}

impl Ending {
    /// The reason of the DISCONNECT.
    pub const fn reason(self) -> Reason {
        match self {
            Self::TakenOver => Reason::SessionTakenOver,
            Self::LoginEnded => Reason::NotAuthorized,
            Self::ShuttingDown => Reason::ServerShuttingDown,
        }
    }
}
