//! The filters of a session, and what they select.

use super::states::StateTopic;
use crate::{
    packet::{Qos, SubscribeFilter},
    topic::{self, Chats, FilterError, Granted, Space, Trie},
};
use curlew_domain::{
    ids::{ChatId, Stream},
    session::{Follow, FollowChats},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// Filters of one session at most.
pub const MAX_FILTERS: usize = 1024;
/// Bytes of all filters of one session at most.
pub const MAX_FILTERS_BYTES: usize = 128 * 1024;
/// Levels of all filters of one session at most.
pub const MAX_FILTERS_LEVELS: usize = 16 * 1024;

/// One granted filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// What it matches.
    pub granted: Granted,
    /// Highest QoS.
    pub qos: Qos,
    /// Subscription Identifier (5).
    pub id: Option<u32>,
    /// No Local (5).
    pub no_local: bool,
    /// Retain As Published (5).
    pub retain_as_published: bool,
}

/// As stored with the session.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    filter: String,
    qos: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<u32>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    no_local: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    retain_as_published: bool,
}

/// How an event reaches the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The highest QoS of the filters that match.
    pub qos: Qos,
    /// Their Subscription Identifiers `[MQTT-3.3.4-3]`.
    pub ids: Vec<u32>,
    /// Whether one of them wants RETAIN as published.
    pub retain_as_published: bool,
}

impl Grant {
    /// What matching subscriptions come to; `None` when there are none.
    pub fn of<'a>(matching: impl IntoIterator<Item = &'a Subscription>) -> Option<Self> {
        let mut grant: Option<Self> = None;
        for subscription in matching {
            let grant = grant.get_or_insert(Self {
                qos: Qos::AtMostOnce,
                ids: Vec::new(),
                retain_as_published: false,
            });
            grant.qos = grant.qos.max(subscription.qos);
            grant.ids.extend(subscription.id.filter(|id| !grant.ids.contains(id)));
            grant.retain_as_published |= subscription.retain_as_published;
        }
        grant
    }

    /// What those of these subscriptions come to that match the topic of a state.
    pub fn of_state(subscriptions: &[Arc<Subscription>], topic: StateTopic) -> Option<Self> {
        let name = topic.name();
        let matching = subscriptions.iter().filter(|subscription| subscription.granted.matches(&name));
        Self::of(matching.map(Arc::as_ref))
    }

    /// Outside the user's own plain lane: at QoS 1 at most.
    fn outside(self) -> Self {
        Self { qos: self.qos.min(Qos::AtLeastOnce), ..self }
    }
}

/// What became of a filter of a SUBSCRIBE.
#[derive(Clone, Debug)]
pub enum Added {
    /// It is granted; `fresh`: there was none of that text before.
    Granted {
        /// As it is now.
        subscription: Arc<Subscription>,
        /// Whether the filter is new.
        fresh: bool,
    },
    /// It can match nothing that the user may have.
    NotGranted,
    /// The session has as many filters as it may.
    Full,
}

/// The filters of a session.
#[derive(Clone, Debug)]
pub struct Subscriptions {
    space: Space,
    /// By their text.
    filters: BTreeMap<String, Arc<Subscription>>,
    index: Trie<Arc<Subscription>>,
    bytes: usize,
    levels: usize,
}

impl Subscriptions {
    /// None yet.
    pub fn new(space: Space) -> Self {
        Self { space, filters: BTreeMap::new(), index: Trie::default(), bytes: 0, levels: 0 }
    }

    /// From the store. A filter that is no longer granted is dropped.
    pub fn load(stored: &str, space: Space) -> Self {
        let stored: Vec<Stored> = serde_json::from_str(stored).unwrap_or_default();
        let mut subscriptions = Self::new(space);
        for Stored { filter, qos, id, no_local, retain_as_published } in stored {
            if let Ok(granted) = subscriptions.space.filter(&filter) {
                let qos = Qos::from_level(qos).unwrap_or(Qos::AtMostOnce);
                subscriptions
                    .insert(filter, Subscription { granted, qos, id, no_local, retain_as_published });
            }
        }
        subscriptions
    }

    /// For the store.
    pub fn store(&self) -> String {
        let stored: Vec<_> = self
            .filters
            .iter()
            .map(|(filter, s)| Stored {
                filter: filter.clone(),
                qos: s.qos as u8,
                id: s.id,
                no_local: s.no_local,
                retain_as_published: s.retain_as_published,
            })
            .collect();
        serde_json::to_string(&stored).expect("plain strings and numbers serialize")
    }

    /// How the session names topics.
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// Adds a filter, or replaces its options `[MQTT-3.8.4-3]`. `Err`: malformed. Outside the user's own plain lane
    /// everything goes out at QoS 1 at most, so that a filter which matches nothing in it is granted no more.
    pub fn add(&mut self, wish: &SubscribeFilter, id: Option<u32>) -> Result<Added, &'static str> {
        let granted = match self.space.filter(&wish.filter) {
            Ok(granted) => granted,
            Err(FilterError::NotGranted) => return Ok(Added::NotGranted),
            Err(FilterError::Malformed(why)) => return Err(why),
        };
        let fresh = !self.filters.contains_key(&wish.filter);
        let full = self.filters.len() >= MAX_FILTERS
            || self.bytes + granted.filter.len() > MAX_FILTERS_BYTES
            || self.levels + levels(&granted) > MAX_FILTERS_LEVELS;
        if fresh && full {
            return Ok(Added::Full);
        }
        let most = if granted.covers.own { Qos::ExactlyOnce } else { Qos::AtLeastOnce };
        let subscription = Subscription {
            granted,
            qos: wish.qos.min(most),
            id,
            no_local: wish.no_local,
            retain_as_published: wish.retain_as_published,
        };
        Ok(Added::Granted { subscription: self.insert(wish.filter.clone(), subscription), fresh })
    }

    fn insert(&mut self, text: String, subscription: Subscription) -> Arc<Subscription> {
        self.remove(&text);
        let subscription = Arc::new(subscription);
        self.bytes += subscription.granted.filter.len();
        self.levels += levels(&subscription.granted);
        self.index.insert(&subscription.granted.filter, Arc::clone(&subscription));
        self.filters.insert(text, Arc::clone(&subscription));
        subscription
    }

    /// Removes a filter; whether there was one.
    pub fn remove(&mut self, text: &str) -> bool {
        let Some(removed) = self.filters.remove(text) else { return false };
        self.bytes -= removed.granted.filter.len();
        self.levels -= levels(&removed.granted);
        self.index.remove(&removed.granted.filter, |known| Arc::ptr_eq(known, &removed));
        true
    }

    /// The durable streams selected.
    pub fn follow(&self) -> Follow {
        let mut follow = Follow::default();
        for subscription in self.filters.values() {
            let covers = &subscription.granted.covers;
            follow.personal |= covers.events;
            match (&covers.messages, &mut follow.chats) {
                (Some(Chats::All), chats) => *chats = FollowChats::All,
                (Some(Chats::One(chat)), FollowChats::Only(chats)) if !chats.contains(chat) => {
                    chats.push(*chat);
                }
                _ => {}
            }
        }
        follow
    }

    /// All filters.
    pub fn all(&self) -> Vec<Arc<Subscription>> {
        self.filters.values().cloned().collect()
    }

    /// The filters that can match topics of the user's own plain lane.
    pub fn own_lane(&self) -> Vec<Arc<Subscription>> {
        self.filters.values().filter(|subscription| subscription.granted.covers.own).cloned().collect()
    }

    /// How a row of a stream reaches the session.
    pub fn grant_stream(&self, stream: Stream) -> Option<Grant> {
        self.grant(&match stream {
            Stream::Chat(chat) => topic::messages_topic(chat),
            Stream::Personal(user) => topic::events_topic(user),
        })
    }

    /// How a state event reaches the session.
    pub fn grant_state(&self, topic: StateTopic) -> Option<Grant> {
        self.grant(&topic.name())
    }

    /// How it reaches the session who types.
    pub fn grant_typing(&self, chat: ChatId) -> Option<Grant> {
        self.grant(&topic::typing_topic(chat))
    }

    /// How `command-failed` reaches the session.
    pub fn grant_errors(&self) -> Option<Grant> {
        self.grant(&topic::errors_topic(self.space.me()))
    }

    /// How a message of a chat's plain lane reaches the session; `own`: it published it itself.
    pub fn grant_signal(&self, topic: &str, own: bool) -> Option<Grant> {
        // [MQTT-3.8.3-3]
        let grant = Grant::of(self.matching(topic).filter(|subscription| !(own && subscription.no_local)));
        grant.map(Grant::outside)
    }

    fn grant(&self, topic: &str) -> Option<Grant> {
        Grant::of(self.matching(topic)).map(Grant::outside)
    }

    /// Those that match a topic outside the user's own plain lane, the only place for shared subscriptions and for `$`.
    fn matching(&self, topic: &str) -> impl Iterator<Item = &Subscription> {
        self.index.matching(topic).into_iter().map(Arc::as_ref)
    }
}

fn levels(granted: &Granted) -> usize {
    granted.filter.split('/').count()
}
