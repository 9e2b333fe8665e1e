//! How a session names topics: as everybody does, or under a mount.

use super::{
    Command, Filter, FilterError, MAX_TOPIC_BYTES, MAX_TOPIC_LEVELS, TopicError, check_form, own_prefix,
    parse_command, parse_filter,
};
use curlew_domain::ids::UserId;
use std::borrow::Cow;

/// Longest mount, bytes.
const MAX_MOUNT_BYTES: usize = 128;
/// The level of the plain lane, with which every mount begins.
const LANE: &str = "x";

/// The names that one session gives to topics, and what they are in full.
///
/// A session that is mounted has its whole topic space under a prefix in the user's own plain lane, which it does not see:
/// behind it lies an ordinary broker, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    me: UserId,
    /// With its last slash.
    prefix: Option<String>,
}

/// A mount that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a mount is `x`, or begins with `x/`, without wildcards and empty levels, and has at most 128 bytes")]
pub struct MountError;

/// A shared subscription (section 4.8.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Share {
    /// ShareName.
    pub name: String,
    /// The filter in full.
    pub filter: String,
}

/// A filter as it was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// In full, without `$share/{name}/`.
    pub filter: String,
    /// What it can match.
    pub covers: Filter,
    /// If it is a shared subscription.
    pub share: Option<Share>,
    /// The number of the level at which it begins with a wildcard, as its session sees it: it does not match topics that
    /// have a `$` there `[MQTT-4.7.2-1]`.
    wild_from: Option<usize>,
}

impl Granted {
    /// Whether the filter matches a topic. For a few topics; for many filters there is [`Trie`](super::Trie).
    pub fn matches(&self, topic: &str) -> bool {
        let (mut filter, mut levels) = (self.filter.split('/'), topic.split('/'));
        let by_level = loop {
            match (filter.next(), levels.next()) {
                (Some("#"), _) | (None, None) => break true,
                (Some("+"), Some(_)) => {}
                (Some(wanted), Some(level)) if wanted == level => {}
                _ => break false,
            }
        };
        by_level && !self.spares(topic)
    }

    /// Whether a topic that the filter matches level by level is one that it does not match because of a `$`.
    pub fn spares(&self, topic: &str) -> bool {
        let level = self.wild_from.and_then(|number| topic.split('/').nth(number));
        level.is_some_and(|level| level.starts_with('$'))
    }
}

impl Space {
    /// Of a session without a mount.
    pub fn of(me: UserId) -> Self {
        Self { me, prefix: None }
    }

    /// Of a session with this mount; empty for none.
    pub fn mounted(me: UserId, mount: &str) -> Result<Self, MountError> {
        if mount.is_empty() {
            return Ok(Self::of(me));
        }
        let levels = || mount.split('/');
        let good = mount.len() <= MAX_MOUNT_BYTES
            && levels().next() == Some(LANE)
            && levels().all(|level| !level.is_empty() && !level.contains(['+', '#', '\0']));
        if good { Ok(Self { me, prefix: Some(format!("users/{me}/{mount}/")) }) } else { Err(MountError) }
    }

    /// Whose.
    pub fn me(&self) -> UserId {
        self.me
    }

    /// Whether it has a mount.
    pub fn is_mounted(&self) -> bool {
        self.prefix.is_some()
    }

    /// A topic in full.
    pub fn expand<'a>(&self, topic: &'a str) -> Cow<'a, str> {
        match &self.prefix {
            None => topic.into(),
            Some(prefix) => format!("{prefix}{topic}").into(),
        }
    }

    /// A topic as the session sees it; `None`: it cannot.
    pub fn show<'a>(&self, topic: &'a str) -> Option<&'a str> {
        match &self.prefix {
            None => Some(topic),
            Some(prefix) => topic.strip_prefix(prefix.as_str()).filter(|topic| !topic.is_empty()),
        }
    }

    /// What publishing to `topic` means, and the topic in full.
    pub fn command<'a>(&self, topic: &'a str) -> Result<(Command, Cow<'a, str>), TopicError> {
        if self.is_mounted() && topic.is_empty() {
            return Err(TopicError::Malformed("a topic name is empty"));
        }
        let topic = self.expand(topic);
        Ok((parse_command(&topic, self.me)?, topic))
    }

    /// What a filter of a SUBSCRIBE means.
    pub fn filter(&self, text: &str) -> Result<Granted, FilterError> {
        let (name, text) = match text.strip_prefix("$share/") {
            None => (None, text),
            Some(rest) => {
                let (name, filter) = rest.split_once('/').ok_or(FilterError::NotGranted)?;
                // [MQTT-4.8.2-1], [MQTT-4.8.2-2]: malformed in 5, where the wire layer has refused it; 3.1.1 has no rule.
                if name.is_empty() || name.contains(['+', '#']) || filter.is_empty() {
                    return Err(FilterError::NotGranted);
                }
                (Some(name), filter)
            }
        };
        check_form(text)?;
        let filter = self.expand(text).into_owned();
        if filter.len() > MAX_TOPIC_BYTES || filter.split('/').count() > MAX_TOPIC_LEVELS {
            return Err(FilterError::NotGranted);
        }
        let covers = parse_filter(&filter, self.me)?;
        if name.is_some() && !filter.starts_with(&own_prefix(self.me)) {
            return Err(FilterError::NotGranted);
        }
        let first = filter.split('/').count() - text.split('/').count();
        let wild = text.starts_with(['+', '#']);
        let share = name.map(|name| Share { name: name.to_owned(), filter: filter.clone() });
        Ok(Granted { filter, covers, share, wild_from: wild.then_some(first) })
    }
}
