//! Topic aliases (MQTT 5, section 3.3.2.3.4): a number that stands for a topic name. Each direction of each connection has
//! its own, and they end with it.

use crate::packet::{Publish, Reason};
use std::collections::HashMap;

/// Aliases a client may use, announced as Topic Alias Maximum.
pub const MAX_INBOUND: u16 = 16;
/// Bytes of topic names that they may stand for together. No topic that leads anywhere is longer than 1 KiB.
const MAX_INBOUND_BYTES: usize = 16 * 1024;
/// Aliases used towards one client, at most; a client may take fewer.
pub const MAX_OUTBOUND: u16 = 64;
/// An alias takes as many bytes, so it is no gain for a topic name that is not longer.
const ALIAS_BYTES: usize = 3;

/// What the client's aliases stand for.
#[derive(Debug, Default)]
pub struct Inbound {
    topics: HashMap<u16, String>,
}

impl Inbound {
    /// Gives the PUBLISH its topic name, and keeps what it says of an alias. Every PUBLISH must pass, in the order they came.
    ///
    /// # Errors
    /// What ends the connection.
    pub fn resolve(&mut self, publish: &mut Publish) -> Result<(), (Reason, &'static str)> {
        let Some(alias) = publish.properties.topic_alias.take() else { return Ok(()) };
        // 0: [MQTT-3.3.2-8]; refused before it comes here.
        if alias == 0 || alias > MAX_INBOUND {
            return Err((Reason::TopicAliasInvalid, "the topic alias is above the maximum [MQTT-3.3.2-9]"));
        }
        if publish.topic.is_empty() {
            let unknown = (Reason::ProtocolError, "the topic alias stands for nothing yet");
            publish.topic.clone_from(self.topics.get(&alias).ok_or(unknown)?);
            return Ok(());
        }
        let others = self.topics.iter().filter(|(other, _)| **other != alias);
        let bytes = others.map(|(_, topic)| topic.len()).sum::<usize>() + publish.topic.len();
        if bytes > MAX_INBOUND_BYTES {
            return Err((
                Reason::QuotaExceeded,
                "the topic aliases stand for more than 16 KiB of topic names",
            ));
        }
        self.topics.insert(alias, publish.topic.clone());
        Ok(())
    }
}

/// Which aliases the client knows, of the topics sent last.
#[derive(Debug, Default)]
pub struct Outbound {
    max: u16,
    topics: HashMap<String, Slot>,
    uses: u64,
}

#[derive(Debug)]
struct Slot {
    alias: u16,
    /// The higher, the later.
    used: u64,
}

/// How an alias goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alias {
    /// Instead of the topic name.
    Known(u16),
    /// With it; the client learns it.
    New(u16),
}

impl Alias {
    /// The PUBLISH with the alias.
    pub fn apply(self, publish: &Publish) -> Publish {
        let Publish { ref payload, qos, dup, retain, packet_id, .. } = *publish;
        let (topic, alias) = match self {
            Self::Known(alias) => (String::new(), alias),
            Self::New(alias) => (publish.topic.clone(), alias),
        };
        let mut properties = publish.properties.clone();
        properties.topic_alias = Some(alias);
        Publish { topic, payload: payload.clone(), qos, dup, retain, packet_id, properties }
    }
}

impl Outbound {
    /// For a client that takes so many `[MQTT-3.1.2-26]`, `[MQTT-3.1.2-27]`.
    pub fn new(topic_alias_maximum: u16) -> Self {
        Self { max: topic_alias_maximum.min(MAX_OUTBOUND), ..Self::default() }
    }

    /// What to send for this topic name; `None`: the name alone. Nothing is known to the client before
    /// [`Self::written`].
    pub fn find(&self, topic: &str) -> Option<Alias> {
        if self.max == 0 || topic.len() <= ALIAS_BYTES {
            return None;
        }
        if let Some(slot) = self.topics.get(topic) {
            return Some(Alias::Known(slot.alias));
        }
        let free = u16::try_from(self.topics.len() + 1).ok().filter(|alias| *alias <= self.max);
        let oldest = || self.topics.values().min_by_key(|slot| slot.used).map(|slot| slot.alias);
        free.or_else(oldest).map(Alias::New)
    }

    /// The packet with the alias is on its way.
    pub fn written(&mut self, alias: Alias, topic: &str) {
        self.uses += 1;
        match alias {
            Alias::Known(_) => {
                if let Some(slot) = self.topics.get_mut(topic) {
                    slot.used = self.uses;
                }
            }
            Alias::New(alias) => {
                if self.topics.len() >= usize::from(self.max) {
                    self.topics.retain(|_, slot| slot.alias != alias);
                }
                self.topics.insert(topic.to_owned(), Slot { alias, used: self.uses });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{PublishProperties, Qos};
    use bytes::Bytes;

    fn publish(topic: &str, alias: Option<u16>) -> Publish {
        Publish {
            topic: topic.into(),
            payload: Bytes::new(),
            qos: Qos::AtMostOnce,
            dup: false,
            retain: false,
            packet_id: None,
            properties: PublishProperties { topic_alias: alias, ..PublishProperties::default() },
        }
    }

    fn resolve(inbound: &mut Inbound, topic: &str, alias: Option<u16>) -> Result<String, Reason> {
        let mut publish = publish(topic, alias);
        inbound.resolve(&mut publish).map_err(|(reason, _)| reason)?;
        Ok(publish.topic)
    }

    #[test]
    fn an_alias_stands_for_the_topic_it_was_last_sent_with() {
        let mut inbound = Inbound::default();
        assert_eq!(resolve(&mut inbound, "one", Some(1)).unwrap(), "one");
        assert_eq!(resolve(&mut inbound, "max", Some(MAX_INBOUND)).unwrap(), "max");
        assert_eq!(resolve(&mut inbound, "", Some(1)).unwrap(), "one");
        assert_eq!(resolve(&mut inbound, "other", Some(1)).unwrap(), "other");
        assert_eq!(resolve(&mut inbound, "plain", None).unwrap(), "plain");
        assert_eq!(resolve(&mut inbound, "", Some(1)).unwrap(), "other");
        assert_eq!(resolve(&mut inbound, "", Some(MAX_INBOUND)).unwrap(), "max");
    }

    #[test]
    fn aliases_that_were_not_offered_or_not_set_are_refused() {
        let mut inbound = Inbound::default();
        let above = resolve(&mut inbound, "topic", Some(MAX_INBOUND + 1));
        assert_eq!(above, Err(Reason::TopicAliasInvalid));
        assert_eq!(resolve(&mut inbound, "topic", Some(0)), Err(Reason::TopicAliasInvalid));
        assert_eq!(resolve(&mut inbound, "", Some(1)), Err(Reason::ProtocolError));
    }

    #[test]
    fn topics_of_aliases_take_bounded_memory() {
        let mut inbound = Inbound::default();
        let long = "x".repeat(MAX_INBOUND_BYTES - 1);
        resolve(&mut inbound, &long, Some(1)).unwrap();
        resolve(&mut inbound, &long, Some(1)).unwrap();
        resolve(&mut inbound, "1", Some(2)).unwrap();
        assert_eq!(resolve(&mut inbound, "1", Some(3)), Err(Reason::QuotaExceeded));
        resolve(&mut inbound, "short", Some(1)).unwrap();
        resolve(&mut inbound, "1", Some(3)).unwrap();
    }

    fn send(outbound: &mut Outbound, topic: &str) -> Option<Alias> {
        let alias = outbound.find(topic)?;
        outbound.written(alias, topic);
        Some(alias)
    }

    #[test]
    fn a_topic_is_named_once_and_then_its_alias_will_do() {
        let mut outbound = Outbound::new(u16::MAX);
        assert_eq!(outbound.find("first"), Some(Alias::New(1)));
        assert_eq!(send(&mut outbound, "first"), Some(Alias::New(1)), "it was not written before");
        assert_eq!(send(&mut outbound, "second"), Some(Alias::New(2)));
        assert_eq!(send(&mut outbound, "first"), Some(Alias::Known(1)));
    }

    #[test]
    fn the_topic_that_was_used_longest_ago_makes_room() {
        let mut outbound = Outbound::new(2);
        for topic in ["first", "second", "first"] {
            send(&mut outbound, topic);
        }
        assert_eq!(outbound.find("third"), Some(Alias::New(2)));
        assert_eq!(outbound.find("second"), Some(Alias::Known(2)), "the third was not written");
        assert_eq!(send(&mut outbound, "third"), Some(Alias::New(2)));
        assert_eq!(send(&mut outbound, "first"), Some(Alias::Known(1)));
        assert_eq!(send(&mut outbound, "second"), Some(Alias::New(2)), "instead of the third");
        assert_eq!(outbound.find("third"), Some(Alias::New(1)));
    }

    #[test]
    fn neither_the_clients_maximum_nor_ours_is_exceeded() {
        assert_eq!(Outbound::new(0).find("topic"), None);
        for (theirs, used) in [(1, 1), (u16::MAX, MAX_OUTBOUND)] {
            let mut outbound = Outbound::new(theirs);
            for number in 0..1_000 {
                let Some(Alias::New(alias)) = send(&mut outbound, &format!("topic {number}")) else {
                    panic!()
                };
                assert!((1..=used).contains(&alias), "[MQTT-3.1.2-26]");
            }
            assert_eq!(outbound.topics.len(), usize::from(used));
        }
    }

    #[test]
    fn a_topic_as_short_as_an_alias_needs_none() {
        assert_eq!(Outbound::new(1).find("abc"), None);
    }
}
