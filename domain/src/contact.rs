//! Relations between two users.

use crate::{
    account::{UserView, parse_label},
    clock::Timestamp,
    error::{Error, FieldError},
    ids::UserId,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use utoipa::ToSchema;

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

/// How somebody found by a search stands to the one who searches. Being blocked by them is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ShownRelation {
    /// Not at all.
    None,
    /// Both agreed.
    Contact,
    /// The other has asked.
    Incoming,
    /// I have asked.
    Outgoing,
    /// I have blocked the other.
    Blocked,
}

impl ShownRelation {
    /// A block hides what is beneath it.
    pub const fn of(relation: Relation, i_block: bool) -> Self {
        match relation {
            _ if i_block => Self::Blocked,
            Relation::None => Self::None,
            Relation::Outgoing => Self::Outgoing,
            Relation::Incoming => Self::Incoming,
            Relation::Contact => Self::Contact,
        }
    }
}

/// Somebody found by a search.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FoundUser {
    /// Who.
    pub user: UserView,
    /// How they stand to the one who searches.
    pub relation: ShownRelation,
}

/// A search of people: the beginning of a user name or of a display name, in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchQuery(String);

impl SearchQuery {
    /// 1 to 64 characters.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        parse_label(text, "q", 1, 64).map(|text| Self(search_key(&text)))
    }

    /// Lower case, as it is compared.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A display name as it is searched.
pub fn search_key(text: &str) -> String {
    text.to_lowercase()
}

/// Where a page of a search begins: after this one. User names that match come first, then display names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchPosition {
    /// After this user name.
    Username(String),
    /// After this display name, as it is searched, of this user.
    DisplayName(String, UserId),
}

impl SearchPosition {
    /// The opaque form.
    pub fn encode(&self) -> String {
        let text = match self {
            Self::Username(name) => format!("u{name}"),
            Self::DisplayName(name, user) => format!("d{user}{name}"),
        };
        URL_SAFE_NO_PAD.encode(text)
    }

    /// Reads the opaque form.
    pub fn decode(cursor: &str) -> Result<Self, Error> {
        let invalid = || Error::invalid("cursor", "invalid", "not a cursor that this server handed out");
        let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| invalid())?;
        let text = String::from_utf8(bytes).map_err(|_| invalid())?;
        // PostgreSQL refuses NUL in text.
        if text.len() > 1024 || text.contains('\0') {
            return Err(invalid());
        }
        match text.split_at_checked(1).ok_or_else(invalid)? {
            ("u", name) => Ok(Self::Username(name.to_owned())),
            ("d", rest) => {
                let (user, name) = rest.split_at_checked(36).ok_or_else(invalid)?;
                Ok(Self::DisplayName(name.to_owned(), user.parse().map_err(|_| invalid())?))
            }
            _ => Err(invalid()),
        }
    }
}

/// State of a contact as shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
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
#[derive(Clone, Debug, Serialize, ToSchema)]
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

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_place_in_a_search_is_read_as_it_was_written() {
        let user = UserId::from(Uuid::from_u128(7));
        for position in
            [SearchPosition::Username("bob".into()), SearchPosition::DisplayName("bøb".into(), user)]
        {
            assert_eq!(SearchPosition::decode(&position.encode()).unwrap(), position);
        }
        for bad in ["", "x", "ZHg", "eHg"] {
            assert!(SearchPosition::decode(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_search_is_in_lower_case_and_bounded() {
        assert_eq!(SearchQuery::parse(" BØB ").unwrap().as_str(), "bøb");
        for bad in ["", "  ", "x".repeat(65).as_str(), "a\u{0}"] {
            assert!(SearchQuery::parse(bad).is_err(), "{bad}");
        }
    }
}
