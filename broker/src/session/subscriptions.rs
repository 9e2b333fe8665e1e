//! The filters of a session, and what they select.

use crate::{
    packet::{Qos, SubscribeFilter},
    topic::{Chats, Filter, FilterError, parse_filter},
};
use curlew_domain::{
    ids::{ChatId, Stream, UserId},
    session::{Follow, FollowChats},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Filters of one session at most.
pub const MAX_FILTERS: usize = 1024;

/// One granted filter.
#[derive(Clone, Debug)]
struct Subscription {
    filter: Filter,
    qos: Qos,
    /// Subscription Identifier (5).
    id: Option<u32>,
}

/// As stored with the session.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    filter: String,
    qos: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<u32>,
}

/// How an event reaches the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The highest QoS of the filters that match, 1 at most.
    pub qos: Qos,
    /// Their Subscription Identifiers `[MQTT-3.3.4-3]`.
    pub ids: Vec<u32>,
}

/// The filters of a session.
#[derive(Clone, Debug, Default)]
pub struct Subscriptions(BTreeMap<String, Subscription>);

impl Subscriptions {
    /// From the store. A filter that is no longer granted is dropped.
    pub fn load(stored: &str, me: UserId) -> Self {
        let stored: Vec<Stored> = serde_json::from_str(stored).unwrap_or_default();
        let granted = stored.into_iter().filter_map(|Stored { filter: text, qos, id }| {
            let filter = parse_filter(&text, me).ok()?;
            let qos = if qos == 0 { Qos::AtMostOnce } else { Qos::AtLeastOnce };
            Some((text, Subscription { filter, qos, id }))
        });
        Self(granted.collect())
    }

    /// For the store.
    pub fn store(&self) -> String {
        let stored: Vec<_> = self
            .0
            .iter()
            .map(|(filter, s)| Stored { filter: filter.clone(), qos: s.qos as u8, id: s.id })
            .collect();
        serde_json::to_string(&stored).expect("plain strings and numbers serialize")
    }

    /// Adds a filter, or replaces its options `[MQTT-3.8.4-3]`; answers the granted QoS: durable events go out at QoS 1 at
    /// most. `Ok(None)`: not granted. `Err`: malformed.
    pub fn add(
        &mut self,
        wish: &SubscribeFilter,
        id: Option<u32>,
        me: UserId,
    ) -> Result<Option<Qos>, &'static str> {
        let filter = match parse_filter(&wish.filter, me) {
            Ok(filter) => filter,
            Err(FilterError::NotGranted) => return Ok(None),
            Err(FilterError::Malformed(why)) => return Err(why),
        };
        if self.0.len() >= MAX_FILTERS && !self.0.contains_key(&wish.filter) {
            return Ok(None);
        }
        let qos = wish.qos.min(Qos::AtLeastOnce);
        self.0.insert(wish.filter.clone(), Subscription { filter, qos, id });
        Ok(Some(qos))
    }

    /// Removes a filter; whether there was one.
    pub fn remove(&mut self, filter: &str) -> bool {
        self.0.remove(filter).is_some()
    }

    /// The durable streams selected.
    pub fn follow(&self) -> Follow {
        let mut follow = Follow::default();
        for Subscription { filter, .. } in self.0.values() {
            follow.personal |= filter.events;
            match (&filter.messages, &mut follow.chats) {
                (Some(Chats::All), chats) => *chats = FollowChats::All,
                (Some(Chats::One(chat)), FollowChats::Only(chats)) if !chats.contains(chat) => {
                    chats.push(*chat);
                }
                _ => {}
            }
        }
        follow
    }

    /// How a row of a stream reaches the session.
    pub fn grant_stream(&self, stream: Stream) -> Option<Grant> {
        match stream {
            Stream::Chat(chat) => self.grant(|filter| filter.covers_messages(chat)),
            Stream::Personal(_) => self.grant(|filter| filter.events),
        }
    }

    /// How a receipt event reaches the session.
    pub fn grant_receipts(&self, chat: ChatId) -> Option<Grant> {
        self.grant(|filter| filter.covers_receipts(chat))
    }

    /// How `command-failed` reaches the session.
    pub fn grant_errors(&self) -> Option<Grant> {
        self.grant(|filter| filter.errors)
    }

    fn grant(&self, matches: impl Fn(&Filter) -> bool) -> Option<Grant> {
        let mut matching = self.0.values().filter(|s| matches(&s.filter)).peekable();
        matching.peek()?;
        let mut grant = Grant { qos: Qos::AtMostOnce, ids: Vec::new() };
        for subscription in matching {
            grant.qos = grant.qos.max(subscription.qos);
            grant.ids.extend(subscription.id.filter(|id| !grant.ids.contains(id)));
        }
        Some(grant)
    }
}
