//! Topic filters by level, so that those which match a topic are found without looking at the others.

use std::collections::HashMap;

/// Values by topic filter, found by the topics that the filters match (section 4.7). That wildcards do not match topics
/// that begin with `$` `[MQTT-4.7.2-1]` is left to the caller, who knows which level is the first one.
///
/// A look-up visits, level by level, the nodes that match so far: at most as many as there are filters.
#[derive(Clone, Debug)]
pub struct Trie<V> {
    root: Node<V>,
}

#[derive(Clone, Debug)]
struct Node<V> {
    literals: HashMap<Box<str>, Node<V>>,
    /// The level `+`.
    any: Option<Box<Node<V>>>,
    /// Of filters that end here.
    here: Vec<V>,
    /// Of filters that go on with `#`.
    below: Vec<V>,
}

impl<V> Default for Node<V> {
    fn default() -> Self {
        Self { literals: HashMap::new(), any: None, here: Vec::new(), below: Vec::new() }
    }
}

impl<V> Node<V> {
    fn is_empty(&self) -> bool {
        self.literals.is_empty() && self.any.is_none() && self.here.is_empty() && self.below.is_empty()
    }

    /// The values of the filter whose rest this is.
    fn values(&mut self, rest: Option<&str>) -> &mut Vec<V> {
        let Some(rest) = rest else { return &mut self.here };
        let (level, rest) = first_level(rest);
        match level {
            "#" => &mut self.below,
            "+" => self.any.get_or_insert_default().values(rest),
            literal => self.literals.entry(literal.into()).or_default().values(rest),
        }
    }

    fn remove(&mut self, rest: Option<&str>, gone: &mut impl FnMut(&V) -> bool) {
        let Some(rest) = rest else { return self.here.retain(|value| !gone(value)) };
        let (level, rest) = first_level(rest);
        match level {
            "#" => self.below.retain(|value| !gone(value)),
            "+" => {
                if let Some(node) = &mut self.any {
                    node.remove(rest, gone);
                }
                self.any.take_if(|node| node.is_empty());
            }
            literal => {
                if let Some(node) = self.literals.get_mut(literal) {
                    node.remove(rest, gone);
                    if node.is_empty() {
                        self.literals.remove(literal);
                    }
                }
            }
        }
    }
}

impl<V> Default for Trie<V> {
    fn default() -> Self {
        Self { root: Node::default() }
    }
}

fn first_level(rest: &str) -> (&str, Option<&str>) {
    rest.split_once('/').map_or((rest, None), |(level, rest)| (level, Some(rest)))
}

impl<V> Trie<V> {
    /// Adds a value under a well-formed filter.
    pub fn insert(&mut self, filter: &str, value: V) {
        self.root.values(Some(filter)).push(value);
    }

    /// Removes the values under this very filter for which `gone` holds.
    pub fn remove(&mut self, filter: &str, mut gone: impl FnMut(&V) -> bool) {
        self.root.remove(Some(filter), &mut gone);
    }

    /// The values of all filters that match a topic, in no particular order.
    pub fn matching<'a>(&'a self, topic: &str) -> Vec<&'a V> {
        let mut found: Vec<&V> = self.root.below.iter().collect();
        let mut nodes = vec![&self.root];
        for level in topic.split('/') {
            let mut next = Vec::with_capacity(nodes.len());
            for node in nodes {
                next.extend(node.literals.get(level));
                next.extend(node.any.as_deref());
            }
            // `#` matches the level before it, too (section 4.7.1.2).
            found.extend(next.iter().flat_map(|node| &node.below));
            nodes = next;
            if nodes.is_empty() {
                return found;
            }
        }
        found.extend(nodes.iter().flat_map(|node| &node.here));
        found
    }

    /// Whether there is no filter.
    pub fn is_empty(&self) -> bool {
        self.root.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What section 4.7.1 says, word by word.
    fn matches(filter: &str, topic: &str) -> bool {
        let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
        loop {
            match (filter.next(), topic.next()) {
                (Some("#"), _) | (None, None) => return true,
                (Some("+"), Some(_)) => {}
                (Some(wanted), Some(level)) if wanted == level => {}
                _ => return false,
            }
        }
    }

    #[test]
    fn the_examples_of_the_standard() {
        for (filter, topic, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("#", "sport", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("+/tennis/#", "sport/tennis", true),
        ] {
            let mut trie = Trie::default();
            trie.insert(filter, ());
            assert_eq!(!trie.matching(topic).is_empty(), expected, "{filter} {topic}");
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    proptest! {
        #[test]
        fn it_finds_what_matching_one_by_one_finds(
            filters in prop::collection::vec(prop::collection::vec(prop_oneof!["[ab]?", Just("+".to_owned())], 1..4), 0..12),
            multi in prop::collection::vec(any::<bool>(), 12),
            gone in prop::collection::vec(any::<bool>(), 12),
            topic in prop::collection::vec("[ab]?", 1..5),
        ) {
            let topic = topic.join("/");
            let filters: Vec<String> = filters
                .iter()
                .zip(&multi)
                .map(|(levels, multi)| if *multi { format!("{}/#", levels.join("/")) } else { levels.join("/") })
                .collect();
            let mut trie = Trie::default();
            for (n, filter) in filters.iter().enumerate() {
                trie.insert(filter, n);
            }
            for (n, filter) in filters.iter().enumerate().filter(|(n, _)| gone[*n]) {
                trie.remove(filter, |value| *value == n);
            }
            let left = |(n, _): &(usize, &String)| !gone[*n];
            let expected: Vec<usize> =
                filters.iter().enumerate().filter(left).filter(|(_, filter)| matches(filter, &topic)).map(|(n, _)| n).collect();
            let mut found: Vec<usize> = trie.matching(&topic).into_iter().copied().collect();
            found.sort_unstable();
            prop_assert_eq!(found, expected);
            for (n, filter) in filters.iter().enumerate() {
                trie.remove(filter, |value| *value == n);
            }
            prop_assert!(trie.is_empty(), "nothing is left behind");
        }
    }
}
