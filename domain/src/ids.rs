//! Identifiers. All are UUIDv7: 16 bytes at rest, canonical text on the wire.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use utoipa::ToSchema;
use uuid::Uuid;

macro_rules! id {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        #[serde(transparent)]
        #[schema(value_type = String, format = Uuid)]
        pub struct $name(Uuid);

        impl $name {
            /// The bare UUID.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(id: Uuid) -> Self {
                Self(id)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::from_str(text).map(Self)
            }
        }
    )+};
}

id! {
    /// An account.
    UserId,
    /// One successful sign-in.
    LoginId,
    /// A phone, browser or gadget of a user.
    DeviceId,
    /// An MQTT session: (device, client identifier, mount).
    SessionId,
    /// A private or group chat.
    ChatId,
    /// A row of a log; of a message row, the message's id.
    RowId,
    /// A log as a session follows it: a chat's, or a user's personal log.
    StreamId,
}

impl From<ChatId> for StreamId {
    fn from(chat: ChatId) -> Self {
        Self(chat.0)
    }
}

impl From<UserId> for StreamId {
    fn from(user: UserId) -> Self {
        Self(user.0)
    }
}

/// Which log: a chat's or a user's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stream {
    /// A chat's log.
    Chat(ChatId),
    /// A user's personal log.
    Personal(UserId),
}

impl Stream {
    /// The id under which the log's rows are stored.
    pub fn id(self) -> StreamId {
        match self {
            Self::Chat(chat) => chat.into(),
            Self::Personal(user) => user.into(),
        }
    }
}

/// Position in a log: 1, 2, 3 … without gaps. 0 is "before the first row".
pub type Seq = u64;
