//! State events: as they happen, and how things stand.

use super::*;
use crate::{
    delivery::SharedEvent,
    session::{StateFamily, StateQuery, StateTopic, states::MAX_WAITING},
};
use curlew_domain::{
    clock::Timestamp,
    event::{Event, EventBody},
    ids::UserId,
    presence::PresenceState,
    receipt::Status,
    session::FollowChats,
};
use uuid::Uuid;

const RECEIPTS: &str = "chats/+/receipts";
const LEFT_AT: Timestamp = Timestamp(1_000_000);

fn user(n: u128) -> UserId {
    Uuid::from_u128(n).into()
}

fn shared(at: i64, chat: Option<ChatId>, body: EventBody) -> Arc<SharedEvent> {
    SharedEvent::new(Event::live(Uuid::nil(), Timestamp(at), chat, body))
}

fn status(n: u128, message_seq: Seq, at: i64) -> (StateTopic, Arc<SharedEvent>) {
    let body = EventBody::MessageStatus { message_seq, status: Status::Delivered };
    (StateTopic::Receipts(chat(n)), shared(at, Some(chat(n)), body))
}

fn presence(of: UserId, state: PresenceState) -> (StateTopic, Arc<SharedEvent>) {
    (
        StateTopic::Presence(of),
        shared(0, None, EventBody::Presence { user_id: of, state, last_seen_at: None }),
    )
}

/// What was told, by `messageSeq` or state, with RETAIN.
fn told(machine: &mut Machine) -> Vec<(String, bool)> {
    let told = |out| match out {
        Out::Publish(publish) => {
            assert_eq!((publish.qos, publish.packet_id), (Qos::AtMostOnce, None));
            let event: serde_json::Value = serde_json::from_slice(&publish.payload).unwrap();
            let what = event.get("messageSeq").or_else(|| event.get("state")).unwrap();
            Some((what.to_string().replace('"', ""), publish.retain))
        }
        _ => None,
    };
    machine.written().into_iter().filter_map(told).collect()
}

fn live(texts: &[&str]) -> Vec<(String, bool)> {
    texts.iter().map(|text| ((*text).to_owned(), false)).collect()
}

fn machine(filter: &str) -> Machine {
    Machine::new(Start { filters: filters(&[(filter, Qos::AtLeastOnce)]), ..start() })
}

/// Stores the filters that are being stored.
fn save(machine: &mut Machine) {
    assert!(matches!(machine.actions()[..], [Action::SaveSubscriptions { .. }]));
    machine.session.subscriptions_saved(&Cursors::new());
}

fn asked(machine: &mut Machine) -> Vec<StateQuery> {
    let query = |action| match action {
        Action::ReadStates(query) => Some(query),
        _ => None,
    };
    machine.actions().into_iter().filter_map(query).collect()
}

#[test]
fn what_happens_is_sent_to_those_who_subscribed() {
    let mut machine = machine(RECEIPTS);
    for (topic, event) in [status(1, 3, 0), presence(user(7), PresenceState::Online)] {
        machine.session.handle_state(topic, event);
    }
    assert_eq!(told(&mut machine), live(&["3"]));
    assert_eq!(asked(&mut machine), []);
}

#[test]
fn of_presence_the_last_word_counts_while_it_waits() {
    let mut machine = machine("users/+/presence");
    for state in [PresenceState::Online, PresenceState::Away, PresenceState::Offline] {
        for of in [7, 8] {
            let (topic, event) = presence(user(of), state);
            machine.session.handle_state(topic, event);
        }
    }
    assert_eq!(told(&mut machine), live(&["offline", "offline"]));
}

#[test]
fn a_new_subscription_is_told_how_things_stand_and_then_what_happened_since() {
    let mut machine = Machine::new(start());
    machine.subscribe(RECEIPTS, Qos::AtMostOnce);
    save(&mut machine);
    let query = StateQuery { family: StateFamily::Receipts(FollowChats::All), since: None, after: None };
    assert_eq!(asked(&mut machine), std::slice::from_ref(&query));
    let (topic, newer) = status(1, 5, 0);
    machine.session.handle_state(topic, newer);
    assert_eq!(told(&mut machine), live(&[]), "not before what is older");
    machine.session.handle_states(vec![status(1, 3, 0), status(2, 4, 0)], Some(Uuid::from_u128(2)));
    let (first, rest) = (told(&mut machine), asked(&mut machine));
    assert_eq!(first, [("3".into(), true), ("4".into(), true), ("5".into(), false)]);
    assert_eq!(rest, [StateQuery { after: Some(Uuid::from_u128(2)), ..query }]);
    machine.session.handle_states(Vec::new(), None);
    assert_eq!((told(&mut machine), asked(&mut machine)), (live(&[]), vec![]));
}

#[test]
fn retain_handling_is_respected() {
    let mut machine = Machine::new(start());
    for (handling, expected) in
        [(RetainHandling::DoNotSend, 0), (RetainHandling::SendIfNew, 0), (RetainHandling::Send, 1)]
    {
        let filter = SubscribeFilter { retain_handling: handling, ..wish(RECEIPTS, Qos::AtMostOnce) };
        machine.receive(In::Subscribe { packet_id: packet(9), filters: vec![filter], subscription_id: None });
        save(&mut machine);
        machine.written();
        assert_eq!(asked(&mut machine).len(), expected, "{handling:?}");
    }
}

#[test]
fn retain_as_published_shows_that_it_is_state() {
    let mut machine = Machine::new(start());
    let filter = SubscribeFilter {
        retain_as_published: true,
        retain_handling: RetainHandling::DoNotSend,
        ..wish(RECEIPTS, Qos::AtMostOnce)
    };
    machine.receive(In::Subscribe { packet_id: packet(9), filters: vec![filter], subscription_id: None });
    save(&mut machine);
    let (topic, event) = status(1, 3, 0);
    machine.session.handle_state(topic, event);
    assert_eq!(told(&mut machine), [("3".to_owned(), true)]);
}

#[test]
fn one_question_for_all_filters_of_a_kind() {
    let mut machine = Machine::new(start());
    let wishes = |names: Vec<String>| names.iter().map(|name| wish(name, Qos::AtMostOnce)).collect();
    let named = wishes(vec![
        format!("chats/{}/receipts", chat(1)),
        format!("chats/{}/receipts", chat(2)),
        format!("users/{}/presence", user(7)),
    ]);
    machine.receive(In::Subscribe { packet_id: packet(9), filters: named, subscription_id: None });
    save(&mut machine);
    machine.written();
    let families = |machine: &mut Machine| {
        let mut families = Vec::new();
        while let Some(query) = asked(machine).pop() {
            families.push(query.family);
            machine.session.handle_states(Vec::new(), None);
        }
        families
    };
    let receipts = FollowChats::Only(vec![chat(1), chat(2)]);
    let expected = [StateFamily::Receipts(receipts), StateFamily::Presence(Some(vec![user(7)]))];
    assert_eq!(families(&mut machine), expected);
    machine.subscribe("#", Qos::AtMostOnce);
    machine.session.poll_action();
    machine.session.subscriptions_saved(&Cursors::new());
    machine.written();
    let expected = [StateFamily::Receipts(FollowChats::All), StateFamily::Presence(None)];
    assert_eq!(families(&mut machine), expected);
}

#[test]
fn who_comes_back_is_told_what_changed_but_not_what_they_were_told() {
    let mut machine = machine(RECEIPTS);
    for (topic, event) in [status(1, 3, LEFT_AT.0 - 1), status(2, 3, LEFT_AT.0 - 60_000)] {
        machine.session.handle_state(topic, event);
    }
    machine.written();
    machine.receive(In::Disconnect { reason: Reason::Success, session_expiry: None });
    let parked = machine.session.park(LEFT_AT);
    let filters = filters(&[(RECEIPTS, Qos::AtLeastOnce)]);
    let mut machine = Machine::new(Start { filters, parked, left_at: Some(LEFT_AT), ..start() });
    let query = asked(&mut machine).remove(0);
    assert!(query.since.is_some_and(|since| since < LEFT_AT), "what was on its way then may not have come");
    let page = vec![status(1, 3, LEFT_AT.0 + 9), status(2, 4, LEFT_AT.0 + 9)];
    machine.session.handle_states(page, None);
    assert_eq!(told(&mut machine), live(&["4"]));
}

#[test]
fn what_is_lost_is_read_when_there_is_room_again() {
    let mut machine = machine("#");
    for seq in 0..=MAX_WAITING as Seq {
        let (topic, event) = status(1, seq + 1, LEFT_AT.0 + seq as i64);
        machine.session.handle_state(topic, event);
    }
    assert_eq!(asked(&mut machine), [], "there is enough to send");
    assert_eq!(told(&mut machine).len(), MAX_WAITING);
    let queries = asked(&mut machine);
    assert_eq!(queries[0].family, StateFamily::Receipts(FollowChats::All));
    assert!(queries[0].since.is_some_and(|since| since.0 < LEFT_AT.0 + MAX_WAITING as i64));
    machine.session.handle_states(vec![status(1, 999, 0)], None);
    assert_eq!(told(&mut machine), live(&["999"]));
    assert_eq!(asked(&mut machine)[0].family, StateFamily::Presence(None));
}

#[test]
fn a_client_that_asks_faster_than_it_is_answered_waits() {
    let mut machine = Machine::new(start());
    let mut saved = 0;
    while machine.session.wants_input() {
        machine.subscribe("#", Qos::AtMostOnce);
        machine.session.poll_action();
        machine.session.subscriptions_saved(&Cursors::new());
        machine.written();
        saved += 1;
        assert!(saved < 100);
    }
    let mut answered = 0;
    while !asked(&mut machine).is_empty() {
        machine.session.handle_states(Vec::new(), None);
        answered += 1;
    }
    assert_eq!(answered, 2 * saved);
    assert!(machine.session.wants_input());
}

#[test]
fn a_client_that_did_not_take_its_leave_may_not_have_got_what_was_written() {
    let mut machine = machine(RECEIPTS);
    let (topic, event) = status(1, 3, LEFT_AT.0);
    machine.session.handle_state(topic, event);
    machine.written();
    machine.now += Duration::from_secs(90);
    assert_eq!(machine.session.left_at(LEFT_AT, machine.now), Timestamp(LEFT_AT.0 - 90_000), "last heard of");
    assert!(machine.session.park(LEFT_AT).told.is_empty());
}

#[test]
fn what_was_not_told_before_the_end_is_asked_for_again() {
    let left_at = |machine: &Machine| machine.session.left_at(LEFT_AT, machine.now);
    let mut resumed = Machine::new(Start {
        filters: filters(&[(RECEIPTS, Qos::AtMostOnce)]),
        left_at: Some(Timestamp(500_000)),
        ..start()
    });
    assert_eq!(left_at(&resumed), Timestamp(500_000), "nothing was asked yet");
    asked(&mut resumed);
    resumed.session.handle_states(vec![status(1, 3, LEFT_AT.0)], None);
    assert_eq!(left_at(&resumed), Timestamp(500_000), "what was read was not sent yet");
    resumed.written();
    assert_eq!(left_at(&resumed), LEFT_AT);
    let mut fresh = Machine::new(start());
    fresh.subscribe(RECEIPTS, Qos::AtMostOnce);
    save(&mut fresh);
    let never_told = left_at(&fresh);
    assert_eq!(never_told, Timestamp(-LEFT_AT.0), "how things stand was never told");
    let filters = filters(&[(RECEIPTS, Qos::AtMostOnce)]);
    let mut back = Machine::new(Start { filters, left_at: Some(never_told), ..start() });
    assert_eq!(asked(&mut back)[0].since, None);
    back.session.handle_states(vec![status(1, 3, 0)], None);
    assert_eq!(told(&mut back), live(&["3"]));
    assert!(asked(&mut back)[0].since.is_some());
    back.session.handle_states(vec![status(1, 3, 0), status(2, 3, 0)], None);
    assert_eq!(told(&mut back), live(&["3"]), "not twice");
}

#[test]
fn what_is_lost_during_a_question_is_one_question_more() {
    let mut machine = machine(RECEIPTS);
    machine.session.handle_states_lost(LEFT_AT);
    machine.written();
    assert_eq!(asked(&mut machine).len(), 1);
    for n in 0..100 {
        machine.session.handle_states_lost(Timestamp(LEFT_AT.0 + n));
        machine.written();
    }
    assert!(machine.session.wants_input());
    machine.session.handle_states(Vec::new(), None);
    machine.written();
    assert_eq!(asked(&mut machine).len(), 1);
    machine.session.handle_states(Vec::new(), None);
    machine.written();
    assert_eq!(asked(&mut machine), []);
}
