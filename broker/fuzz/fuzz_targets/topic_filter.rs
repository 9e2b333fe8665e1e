//! The topic grammar and the trie on any text, against a matcher that says section 4.7 word by word.
#![no_main]

use curlew_broker::topic::{Command, FilterError, Space, Trie, parse_command, parse_filter};
use curlew_domain::ids::UserId;
use libfuzzer_sys::fuzz_target;

const CHAT: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
const ME: &str = "01890a5d-ac96-774b-bcce-b302099a0001";
const OTHER: &str = "01890a5d-ac96-774b-bcce-b302099a0002";

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

/// `c`, `m` and `o` stand for ids, so that they are met at all.
fn spelled(text: &str) -> String {
    let id = |level: &str| match level {
        "c" => CHAT.to_owned(),
        "m" => ME.to_owned(),
        "o" => OTHER.to_owned(),
        other => other.to_owned(),
    };
    text.split('/').map(id).collect::<Vec<_>>().join("/")
}

fuzz_target!(|input: (Vec<&str>, &str)| {
    let (filters, topic) = input;
    let me: UserId = ME.parse().expect("an id");
    let topic = spelled(topic);
    let spaces = [Space::of(me), Space::mounted(me, "x").expect("a mount")];
    let mut tries = [Trie::default(), Trie::default()];
    let mut granted = Vec::new();
    for (n, filter) in filters.iter().map(|filter| spelled(filter)).enumerate() {
        let parsed = parse_filter(&filter, me);
        if let Ok(covers) = parsed {
            let hits = |topic: &str| matches(&filter, topic);
            assert_eq!(covers.events, hits(&format!("users/{ME}/events")));
            assert_eq!(covers.errors, hits(&format!("users/{ME}/errors")));
            let chat = CHAT.parse().expect("an id");
            assert_eq!(covers.covers_messages(chat), hits(&format!("chats/{CHAT}/messages")));
            assert_eq!(covers.covers_receipts(chat), hits(&format!("chats/{CHAT}/receipts")));
            assert_eq!(covers.covers_typing(chat), hits(&format!("chats/{CHAT}/typing")));
        }
        for (space, trie) in spaces.iter().zip(&mut tries) {
            match space.filter(&filter) {
                Ok(grant) => {
                    trie.insert(&grant.filter, n);
                    granted.push((space.is_mounted(), n, grant));
                }
                Err(FilterError::Malformed(_)) => assert!(parsed.is_err() || filter.starts_with("$share/")),
                Err(FilterError::NotGranted) => {}
            }
        }
    }
    for (space, trie) in spaces.iter().zip(&mut tries) {
        if let Ok((command, full)) = space.command(&topic) {
            assert_eq!(space.show(&full), Some(&topic[..]));
            assert!(!space.is_mounted() || command == Command::Own, "a mount holds one within the lane");
            assert!(command != Command::Own || full.starts_with(&format!("users/{ME}/x/")));
        }
        let full = space.expand(&topic);
        let _ = parse_command(&full, me);
        let mut found: Vec<usize> = trie.matching(&full).into_iter().copied().collect();
        found.sort_unstable();
        let here = granted.iter().filter(|(mounted, ..)| *mounted == space.is_mounted());
        let expected: Vec<usize> =
            here.clone().filter(|(_, _, grant)| matches(&grant.filter, &full)).map(|(_, n, _)| *n).collect();
        assert_eq!(found, expected);
        for (_, n, grant) in here {
            assert_eq!(grant.matches(&full), matches(&grant.filter, &full) && !grant.spares(&full));
            trie.remove(&grant.filter, |value| value == n);
        }
        assert!(trie.is_empty(), "nothing is left behind");
    }
});
