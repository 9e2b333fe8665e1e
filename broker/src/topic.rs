//! The topic grammar: what clients may publish to, and what their filters stand for.
//!
//! A filter never leads anywhere by itself; it narrows the user's own feed. So all that has to be known about one is
//! which families of topics it can match, and for which chat or chats.

mod space;
mod trie;

#[cfg(test)]
mod tests;

pub use space::{Granted, MountError, Share, Space};
pub use trie::Trie;

use curlew_domain::ids::{ChatId, DeviceId, UserId};
use uuid::Uuid;

/// Longest topic and filter in bytes, in full, which is what the standard's strings can hold `[MQTT-4.7.3-3]`.
pub const MAX_TOPIC_BYTES: usize = 65_535;

/// Most levels of a topic and of a filter.
pub const MAX_TOPIC_LEVELS: usize = 256;

/// A topic that clients publish to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// `chats/{chat}/send`
    Send(ChatId),
    /// `chats/{chat}/receipts`
    Receipts(ChatId),
    /// `chats/{chat}/edit`
    Edit(ChatId),
    /// `chats/{chat}/react`
    React(ChatId),
    /// `chats/{chat}/delete`
    Delete(ChatId),
    /// `chats/{chat}/typing`
    Typing(ChatId),
    /// `users/{me}/presence`
    Presence,
    /// `users/{me}/devices/{device}/remove`
    RemoveDevice(DeviceId),
    /// `users/{me}/x/…`: the user's own plain lane.
    Own,
    /// `chats/{chat}/x/{me}/…`: to those who are in the chat now.
    Signal(ChatId),
}

/// Why a topic names no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// Not a topic name at all: the connection closes.
    #[error("{0}")]
    Malformed(&'static str),
    /// Outside the grammar: 0x90.
    #[error("the topic is outside the grammar")]
    Outside,
    /// Under `users/{other}/`: 0x87.
    #[error("the topic belongs to another user")]
    Foreign,
}

/// One chat or user, or all that concern the subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Which<T> {
    /// All of mine.
    All,
    /// This one, if it is mine.
    One(T),
}

/// Chats that the user may see.
pub type Chats = Which<ChatId>;
/// Users whose presence the user may see.
pub type Users = Which<UserId>;

impl<T: PartialEq> Which<T> {
    fn covers(&self, id: &T) -> bool {
        match self {
            Self::All => true,
            Self::One(one) => one == id,
        }
    }
}

impl<T: From<Uuid>> From<Option<Uuid>> for Which<T> {
    fn from(named: Option<Uuid>) -> Self {
        named.map_or(Self::All, |id| Self::One(id.into()))
    }
}

/// What a topic filter can match. At least one field says something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Filter {
    /// `chats/{chat}/messages`
    pub messages: Option<Chats>,
    /// `chats/{chat}/receipts`
    pub receipts: Option<Chats>,
    /// `chats/{chat}/typing`
    pub typing: Option<Chats>,
    /// `users/{me}/events`
    pub events: bool,
    /// `users/{me}/errors`
    pub errors: bool,
    /// `users/{user}/presence`
    pub presence: Option<Users>,
    /// `users/{me}/x/…`
    pub own: bool,
    /// `chats/{chat}/x/{user}/…`
    pub signals: Option<Chats>,
}

impl Filter {
    /// Whether it matches the chat's `messages`.
    pub fn covers_messages(&self, chat: ChatId) -> bool {
        self.messages.is_some_and(|chats| chats.covers(&chat))
    }

    /// Whether it matches the chat's `receipts`.
    pub fn covers_receipts(&self, chat: ChatId) -> bool {
        self.receipts.is_some_and(|chats| chats.covers(&chat))
    }

    /// Whether it matches the chat's `typing`.
    pub fn covers_typing(&self, chat: ChatId) -> bool {
        self.typing.is_some_and(|chats| chats.covers(&chat))
    }
}

/// Why a filter is not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Not a filter at all: a protocol violation that closes the connection.
    #[error("{0}")]
    Malformed(&'static str),
    /// A filter that can match nothing the user could be entitled to: SUBACK 0x8F, in 3.1.1 0x80.
    #[error("the filter matches nothing within the grammar")]
    NotGranted,
}

/// The chat's log.
pub fn messages_topic(chat: ChatId) -> String {
    format!("chats/{chat}/messages")
}

/// The state of receipts in the chat.
pub fn receipts_topic(chat: ChatId) -> String {
    format!("chats/{chat}/receipts")
}

/// Who types in the chat.
pub fn typing_topic(chat: ChatId) -> String {
    format!("chats/{chat}/typing")
}

/// Whether the user is there.
pub fn presence_topic(user: UserId) -> String {
    format!("users/{user}/presence")
}

/// The user's personal log.
pub fn events_topic(user: UserId) -> String {
    format!("users/{user}/events")
}

/// Under which the user's devices talk among themselves; where their responses belong.
pub fn own_prefix(user: UserId) -> String {
    format!("users/{user}/x/")
}

/// Where the user's sessions are told of refused commands.
pub fn errors_topic(user: UserId) -> String {
    format!("users/{user}/errors")
}

/// The command that publishing to `topic` means, coming from `me`.
pub fn parse_command(topic: &str, me: UserId) -> Result<Command, TopicError> {
    // [MQTT-4.7.3-1]
    if topic.is_empty() {
        return Err(TopicError::Malformed("a topic name is empty"));
    }
    // [MQTT-4.7.0-1] (3.1.1: [MQTT-4.7.1-1]), [MQTT-4.7.3-2]
    if topic.contains(['+', '#', '\0']) {
        return Err(TopicError::Malformed("a topic name contains a wildcard or U+0000"));
    }
    if exceeds_limits(topic) {
        return Err(TopicError::Outside);
    }
    // The fifth part is what is left, however many levels it has.
    let mut levels = topic.splitn(5, '/');
    let mut next = || levels.next();
    match (next(), next(), next(), next(), next()) {
        (Some("chats"), Some(chat), Some(command), None, None) => {
            let chat = canonical_id(chat).ok_or(TopicError::Outside)?.into();
            match command {
                "send" => Ok(Command::Send(chat)),
                "receipts" => Ok(Command::Receipts(chat)),
                "edit" => Ok(Command::Edit(chat)),
                "react" => Ok(Command::React(chat)),
                "delete" => Ok(Command::Delete(chat)),
                "typing" => Ok(Command::Typing(chat)),
                _ => Err(TopicError::Outside),
            }
        }
        (Some("chats"), Some(chat), Some("x"), Some(sender), Some(rest)) if !rest.is_empty() => {
            let chat = canonical_id(chat).ok_or(TopicError::Outside)?.into();
            let sender = canonical_id(sender).ok_or(TopicError::Outside)?;
            if sender == me.uuid() { Ok(Command::Signal(chat)) } else { Err(TopicError::Foreign) }
        }
        (Some("users"), Some(user), Some(_), ..)
            if canonical_id(user).is_some_and(|user| user != me.uuid()) =>
        {
            Err(TopicError::Foreign)
        }
        (Some("users"), Some(user), Some("devices"), Some(device), Some("remove"))
            if canonical_id(user).is_some() =>
        {
            Ok(Command::RemoveDevice(canonical_id(device).ok_or(TopicError::Outside)?.into()))
        }
        (Some("users"), Some(user), Some("presence"), None, None) if canonical_id(user).is_some() => {
            Ok(Command::Presence)
        }
        // A topic that ends with the prefix would be empty for a session that is mounted there.
        (Some("users"), Some(user), Some("x"), Some(first), rest)
            if canonical_id(user).is_some() && !(first.is_empty() && rest.is_none()) =>
        {
            Ok(Command::Own)
        }
        _ => Err(TopicError::Outside),
    }
}

fn exceeds_limits(text: &str) -> bool {
    text.len() > MAX_TOPIC_BYTES || text.split('/').count() > MAX_TOPIC_LEVELS
}

/// A level of a topic family.
#[derive(Clone, Copy)]
enum Level {
    Literal(&'static str),
    Chat,
    Me,
    AnyUser,
    /// One or more levels of any text.
    Rest,
}

const MESSAGES: [Level; 3] = [Level::Literal("chats"), Level::Chat, Level::Literal("messages")];
const RECEIPTS: [Level; 3] = [Level::Literal("chats"), Level::Chat, Level::Literal("receipts")];
const TYPING: [Level; 3] = [Level::Literal("chats"), Level::Chat, Level::Literal("typing")];
const EVENTS: [Level; 3] = [Level::Literal("users"), Level::Me, Level::Literal("events")];
const ERRORS: [Level; 3] = [Level::Literal("users"), Level::Me, Level::Literal("errors")];
const PRESENCE: [Level; 3] = [Level::Literal("users"), Level::AnyUser, Level::Literal("presence")];
const OWN: [Level; 4] = [Level::Literal("users"), Level::Me, Level::Literal("x"), Level::Rest];
const SIGNALS: [Level; 5] =
    [Level::Literal("chats"), Level::Chat, Level::Literal("x"), Level::AnyUser, Level::Rest];

/// What `filter` means in a SUBSCRIBE of `me`. Granting it asks nothing of the database: entitlement is looked at
/// when something is delivered.
pub fn parse_filter(filter: &str, me: UserId) -> Result<Filter, FilterError> {
    check_form(filter)?;
    let chats = |family| intersect(filter, family, me).map(|named| named.chat.into());
    let users = |family| intersect(filter, family, me).is_some();
    let parsed = Filter {
        messages: chats(&MESSAGES),
        receipts: chats(&RECEIPTS),
        typing: chats(&TYPING),
        events: users(&EVENTS),
        errors: users(&ERRORS),
        presence: intersect(filter, &PRESENCE, me).map(|named| named.user.into()),
        own: users(&OWN),
        signals: chats(&SIGNALS),
    };
    if parsed == Filter::default() { Err(FilterError::NotGranted) } else { Ok(parsed) }
}

fn check_form(filter: &str) -> Result<(), FilterError> {
    let malformed = |detail| Err(FilterError::Malformed(detail));
    // [MQTT-4.7.3-1]
    if filter.is_empty() {
        return malformed("a topic filter is empty");
    }
    // [MQTT-4.7.3-2]
    if filter.contains('\0') {
        return malformed("a topic filter contains U+0000");
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        // [MQTT-4.7.1-1], [MQTT-4.7.1-2] (3.1.1: [MQTT-4.7.1-2], [MQTT-4.7.1-3])
        if level.len() > 1 && level.contains(['+', '#']) {
            return malformed("a wildcard shares its level of a topic filter");
        }
        // [MQTT-4.7.1-1] (3.1.1: [MQTT-4.7.1-2])
        if level == "#" && levels.peek().is_some() {
            return malformed("'#' is not the last level of a topic filter");
        }
    }
    if exceeds_limits(filter) { Err(FilterError::NotGranted) } else { Ok(()) }
}

/// What a filter names of a family of topics.
#[derive(Clone, Copy, Default)]
struct Named {
    chat: Option<Uuid>,
    user: Option<Uuid>,
}

/// Whether a well-formed filter and a family of topics have a topic in common: `None` if not.
///
/// No family begins with `$`, so that wildcards must not match such topics `[MQTT-4.7.2-1]` needs no rule here.
fn intersect(filter: &str, family: &[Level], me: UserId) -> Option<Named> {
    let mut named = Named::default();
    let mut family = family.iter();
    for level in filter.split('/') {
        if level == "#" {
            // Matches its parent level too (section 4.7.1.2), hence also after the last level of the family.
            return Some(named);
        }
        let expected = family.next()?;
        if matches!(expected, Level::Rest) {
            return Some(named);
        }
        if level == "+" {
            continue;
        }
        match *expected {
            Level::Literal(literal) if level == literal => {}
            Level::Chat => named.chat = Some(canonical_id(level)?),
            Level::Me if canonical_id(level)? == me.uuid() => {}
            Level::AnyUser => named.user = Some(canonical_id(level)?),
            Level::Literal(_) | Level::Me | Level::Rest => return None,
        }
    }
    family.next().is_none().then_some(named)
}

/// Topics are compared byte by byte, so an id has one spelling: lower case with hyphens.
fn canonical_id(level: &str) -> Option<Uuid> {
    let canonical =
        level.len() == 36 && level.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'));
    if canonical { Uuid::try_parse(level).ok() } else { None }
}
