//! Relations between two users.

use crate::{account::UserView, clock::Timestamp};
use serde::Serialize;

/// One side of a relation between two users, apart from blocking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Relation {
    /// None.
    #[default]
    None,
    /// I have asked.
    Outgoing,
    /// The other has asked.
    Incoming,
    /// Both agreed.
    Contact,
}

impl Relation {
    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Outgoing => "outgoing",
            Self::Incoming => "incoming",
            Self::Contact => "contact",
        }
    }

    /// From the store.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::None, Self::Outgoing, Self::Incoming, Self::Contact].into_iter().find(|r| r.as_str() == text)
    }

    /// The same relation seen from the other side.
    #[must_use]
    pub const fn mirrored(self) -> Self {
        match self {
            Self::Outgoing => Self::Incoming,
            Self::Incoming => Self::Outgoing,
            same => same,
        }
    }
}

/// A relation between two users as one of them sees it. The other sees `relation` mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Relations {
    /// Seen from me.
    pub relation: Relation,
    /// I have blocked the other.
    pub i_block: bool,
    /// The other has blocked me.
    pub blocks_me: bool,
}

impl Relations {
    /// Whether either has blocked the other.
    pub const fn blocked(&self) -> bool {
        self.i_block || self.blocks_me
    }
}

/// What a user can do to a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelationAction {
    /// Ask.
    Request,
    /// Say yes.
    Accept,
    /// Say no, or withdraw one's own request.
    Reject,
    /// End it.
    Remove,
    /// Block.
    Block,
    /// Unblock.
    Unblock,
}

/// State of a contact as shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ContactState {
    /// Both agreed.
    Contact,
    /// The other has asked.
    Incoming,
    /// I have asked.
    Outgoing,
    /// I have blocked the other.
    Blocked,
}

/// A contact as one side sees it.
#[derive(Clone, Debug, Serialize)]
pub struct ContactView {
    /// The other.
    pub user: UserView,
    /// State.
    pub state: ContactState,
    /// Since when it is in this state.
    pub since: Timestamp,
}

/// Which contacts a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContactFilter {
    /// Accepted and not blocked by me.
    Contacts,
    /// Requests, either way.
    Pending,
    /// Blocked by me.
    Blocked,
}
