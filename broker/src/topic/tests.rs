use super::*;
use proptest::prelude::*;

const CHAT: &str = "01890a5d-ac96-774b-bcce-b302099a8057";
const ME: &str = "01890a5d-ac96-774b-bcce-b302099a0001";
const OTHER: &str = "01890a5d-ac96-774b-bcce-b302099a0002";

fn me() -> UserId {
    ME.parse().unwrap()
}

fn chat() -> ChatId {
    CHAT.parse().unwrap()
}

/// `{chat}`, `{me}` and `{other}` stand for ids.
fn spelled(pattern: &str) -> String {
    pattern.replace("{chat}", CHAT).replace("{me}", ME).replace("{other}", OTHER)
}

fn filter(pattern: &str) -> Result<Filter, FilterError> {
    parse_filter(&spelled(pattern), me())
}

fn command(pattern: &str) -> Result<Command, TopicError> {
    parse_command(&spelled(pattern), me())
}

const NONE: Filter = Filter {
    messages: None,
    receipts: None,
    typing: None,
    events: false,
    errors: false,
    presence: None,
    own: false,
    signals: None,
};

#[test]
fn commands_are_recognised() {
    assert_eq!(command("chats/{chat}/send"), Ok(Command::Send(chat())));
    assert_eq!(command("chats/{chat}/edit"), Ok(Command::Edit(chat())));
    assert_eq!(command("chats/{chat}/react"), Ok(Command::React(chat())));
    assert_eq!(command("chats/{chat}/delete"), Ok(Command::Delete(chat())));
    assert_eq!(command("chats/{chat}/receipts"), Ok(Command::Receipts(chat())));
    let device = CHAT.parse().unwrap();
    assert_eq!(command("users/{me}/devices/{chat}/remove"), Ok(Command::RemoveDevice(device)));
}

#[test]
fn topics_outside_the_grammar_are_told_from_foreign_and_malformed_ones() {
    for topic in [
        "chats",
        "chats/",
        "chats/{chat}",
        "chats/{chat}/",
        "chats/{chat}/messages",
        "chats/{chat}/forward",
        "chats/{chat}/send/",
        "/chats/{chat}/send",
        "Chats/{chat}/send",
        "chats/x/send",
        "users/{me}/events",
        "users/{me}",
        "users/{other}",
        "users/bob/presence",
        "users/{me}/devices/{chat}",
        "users/{me}/devices/phone/remove",
        "users/{me}/devices/{chat}/remove/",
        "$SYS/broker",
        "é",
        "/",
    ] {
        assert_eq!(command(topic), Err(TopicError::Outside), "{topic}");
    }
    for topic in [
        "users/{other}/presence",
        "users/{other}/x/a/b",
        "users/{other}/events",
        "users/{other}/devices/{chat}/remove",
    ] {
        assert_eq!(command(topic), Err(TopicError::Foreign), "{topic}");
    }
    for topic in ["", "chats/+/send", "chats/{chat}/send#", "chats/{chat}/se\0nd"] {
        assert!(matches!(command(topic), Err(TopicError::Malformed(_))), "{topic}");
    }
}

#[test]
fn ids_have_one_spelling() {
    let upper = CHAT.to_uppercase();
    let simple = CHAT.replace('-', "");
    let braced = format!("{{{CHAT}}}");
    let urn = format!("urn:uuid:{CHAT}");
    let misplaced = "01890a5da-c96-774b-bcce-b302099a8057".to_owned();
    for id in [upper, simple, braced, urn, misplaced, CHAT[..35].to_owned()] {
        assert_eq!(parse_command(&format!("chats/{id}/send"), me()), Err(TopicError::Outside), "{id}");
        assert_eq!(parse_filter(&format!("chats/{id}/messages"), me()), Err(FilterError::NotGranted), "{id}");
    }
}

#[test]
fn filters_narrow_the_own_feed() {
    let all = Some(Chats::All);
    let one = Some(Chats::One(chat()));
    let other_one = Some(Users::One(OTHER.parse().unwrap()));
    let chats = Filter { messages: all, receipts: all, typing: all, signals: all, ..NONE };
    let everything = Filter {
        messages: all,
        receipts: all,
        typing: all,
        events: true,
        errors: true,
        presence: Some(Users::All),
        ..NONE
    };
    let users = Filter { events: true, errors: true, presence: Some(Users::All), own: true, ..NONE };
    for (text, expected) in [
        ("#", Filter { own: true, signals: all, ..everything }),
        ("+/#", Filter { own: true, signals: all, ..everything }),
        ("+/+/+", everything),
        ("+/+/+/#", Filter { own: true, signals: all, ..everything }),
        ("chats/#", chats),
        ("chats/+/#", chats),
        ("chats/+/+", Filter { signals: None, ..chats }),
        ("chats/+/messages", Filter { messages: all, ..NONE }),
        ("chats/+/messages/#", Filter { messages: all, ..NONE }),
        ("+/+/messages", Filter { messages: all, ..NONE }),
        ("chats/{chat}/messages", Filter { messages: one, ..NONE }),
        ("+/{chat}/messages", Filter { messages: one, ..NONE }),
        ("chats/{chat}/#", Filter { messages: one, receipts: one, typing: one, signals: one, ..NONE }),
        ("chats/{chat}/typing", Filter { typing: one, ..NONE }),
        ("chats/+/receipts", Filter { receipts: all, ..NONE }),
        ("users/#", users),
        ("users/+/#", users),
        ("users/{me}/#", Filter { presence: Some(Users::One(me())), ..users }),
        ("users/{me}/events", Filter { events: true, ..NONE }),
        ("users/+/events", Filter { events: true, ..NONE }),
        ("+/{me}/errors", Filter { errors: true, ..NONE }),
        ("users/+/presence", Filter { presence: Some(Users::All), ..NONE }),
        ("users/{other}/presence", Filter { presence: other_one, ..NONE }),
        ("users/{other}/#", Filter { presence: other_one, ..NONE }),
        ("users/{other}/+", Filter { presence: other_one, ..NONE }),
        ("users/{me}/x/#", Filter { own: true, ..NONE }),
        ("users/{me}/x/+/b", Filter { own: true, ..NONE }),
        ("users/+/x//", Filter { own: true, ..NONE }),
        ("+/+/+/temperature", Filter { own: true, ..NONE }),
        ("users/+/+/temperature", Filter { own: true, ..NONE }),
        ("chats/+/x/#", Filter { signals: all, ..NONE }),
        ("chats/{chat}/x/{other}/call", Filter { signals: one, ..NONE }),
        ("chats/+/+/{me}/call/+", Filter { signals: all, ..NONE }),
    ] {
        assert_eq!(filter(text), Ok(expected), "{text}");
    }
}

#[test]
fn an_id_at_a_wildcard_first_level_may_be_a_chat_or_a_user() {
    let user = Uuid::try_parse(ME).unwrap();
    let expected = Some(Chats::One(user.into()));
    assert_eq!(
        filter("+/{me}/#"),
        Ok(Filter {
            messages: expected,
            receipts: expected,
            typing: expected,
            events: true,
            errors: true,
            presence: Some(Users::One(user.into())),
            own: true,
            signals: expected,
        })
    );
}

#[test]
fn filters_that_can_match_nothing_are_not_granted() {
    for text in [
        "+",
        "/",
        "/#",
        "chats",
        "chats/+",
        "chats/{chat}",
        "chats/{chat}/send",
        "chats/{chat}/messages/more",
        "chats/+/messages/+",
        "users/{other}/x/#",
        "chats/+/x",
        "chats/+/x/+",
        "chats/+/x/bob/call",
        "users/{me}/x",
        "users/{other}/x/a",
        "users/{other}/events",
        "users/{other}/errors",
        "users/bob/presence",
        "chats/nonsense/#",
        "$SYS/#",
        "$share/group/chats/+/messages",
        "$share/group",
        "topic",
    ] {
        assert_eq!(filter(text), Err(FilterError::NotGranted), "{text}");
    }
}

#[test]
fn malformed_filters_are_told_apart() {
    for text in ["", "#/a", "chats/#/messages", "chats#", "chats/a+", "chats/+a/x", "##", "a/\0"] {
        assert!(matches!(filter(text), Err(FilterError::Malformed(_))), "{text}");
    }
}

#[test]
fn a_filter_beyond_the_bounds_is_not_granted() {
    let deep = "+/".repeat(MAX_TOPIC_LEVELS) + "#";
    for text in [&"a".repeat(MAX_TOPIC_BYTES + 1), &deep] {
        assert_eq!(filter(text), Err(FilterError::NotGranted), "{text}");
    }
}

#[test]
fn a_filter_covers_its_own_chat_only() {
    let other = ChatId::from(Uuid::try_parse(OTHER).unwrap());
    let one = filter("chats/{chat}/messages").unwrap();
    assert!(one.covers_messages(chat()) && !one.covers_messages(other));
    assert!(!one.covers_receipts(chat()) && !one.covers_typing(chat()));
    let all = filter("chats/#").unwrap();
    assert!(all.covers_messages(other) && all.covers_receipts(other) && all.covers_typing(other));
}

#[test]
fn built_topics_match_their_filters() {
    assert_eq!(filter(&messages_topic(chat())), filter("chats/{chat}/messages"));
    assert_eq!(filter(&receipts_topic(chat())), filter("chats/{chat}/receipts"));
    assert_eq!(filter(&events_topic(me())), filter("users/{me}/events"));
    assert_eq!(filter(&errors_topic(me())), filter("users/{me}/errors"));
    assert_eq!(command(&receipts_topic(chat())), Ok(Command::Receipts(chat())));
}

/// The textbook matcher of section 4.7, as an oracle.
fn matches(filter: &[&str], topic: &[&str]) -> bool {
    match (filter.split_first(), topic.split_first()) {
        (Some((&"#", _)), _) | (None, None) => true,
        (Some((level, filter)), Some((name, topic))) => {
            (*level == "+" || level == name) && matches(filter, topic)
        }
        _ => false,
    }
}

proptest! {
    #[test]
    fn a_filter_covers_exactly_the_topics_it_matches(levels in prop::collection::vec(
        prop::sample::select(vec![
            "chats", "users", "+", "#", "{chat}", "{me}", "{other}", "messages", "receipts", "typing", "events",
            "errors", "presence", "",
        ]),
        1..5,
    )) {
        let text = levels.join("/");
        let hits = |topic: &str| {
            let (filter, topic) = (spelled(&text), spelled(topic));
            matches(&filter.split('/').collect::<Vec<_>>(), &topic.split('/').collect::<Vec<_>>())
        };
        match filter(&text) {
            Err(FilterError::Malformed(_)) => {}
            parsed => {
                let parsed = parsed.unwrap_or_default();
                prop_assert_eq!(parsed.covers_messages(chat()), hits("chats/{chat}/messages"));
                prop_assert_eq!(parsed.covers_receipts(chat()), hits("chats/{chat}/receipts"));
                prop_assert_eq!(parsed.covers_typing(chat()), hits("chats/{chat}/typing"));
                prop_assert_eq!(parsed.events, hits("users/{me}/events"));
                prop_assert_eq!(parsed.errors, hits("users/{me}/errors"));
                // Of users and chats whose ids do not occur here there are presence topics too.
                let presence = hits("users/{other}/presence");
                let covers = parsed.presence.is_some_and(|users| users.covers(&OTHER.parse().unwrap()));
                prop_assert!(covers || !presence);
            }
        }
    }

    #[test]
    fn no_text_makes_the_grammar_panic(text in "\\PC{0,80}") {
        let _ = parse_command(&text, me());
        let _ = parse_filter(&text, me());
    }
}
