//! SUBSCRIBE and UNSUBSCRIBE, and where streams begin.

use super::*;
use curlew_domain::session::FollowChats;

fn saves(machine: &mut Machine) -> Vec<((Follow, Follow), Cursors)> {
    let save = |action| match action {
        Action::SaveSubscriptions { follow, cursors, .. } => Some((follow, cursors)),
        _ => None,
    };
    machine.actions().into_iter().filter_map(save).collect()
}

fn cursors(cursors: &[(u128, Seq)]) -> Cursors {
    cursors.iter().map(|(n, seq)| (stream(*n).id(), *seq)).collect()
}

#[test]
fn suback_waits_until_the_filters_are_stored_and_nothing_is_read_meanwhile() {
    let mut machine = Machine::new(start());
    machine.subscribe(CHATS, Qos::ExactlyOnce);
    assert!(!machine.session.wants_input());
    let all = Follow { personal: false, chats: FollowChats::All };
    assert_eq!(saves(&mut machine), [((Follow::default(), all), Cursors::new())]);
    assert!(machine.written().is_empty());
    machine.session.subscriptions_saved(&Cursors::new());
    let written = machine.written();
    let [Out::SubAck(id, reasons, _)] = &written[..] else { panic!("{written:?}") };
    assert_eq!((id.get(), &reasons[..]), (9, &[Reason::GrantedQos1][..]));
    assert!(machine.session.wants_input());
}

#[test]
fn a_stream_is_entered_at_its_present_end() {
    let mut machine = Machine::new(start());
    machine.subscribe(CHATS, Qos::AtLeastOnce);
    machine.session.subscriptions_saved(&cursors(&[(1, 5)]));
    assert_eq!(machine.actions().len(), 1, "nothing is read");
    machine.commit(5);
    machine.commit(6);
    assert_eq!(machine.rows(), [sent(6, 1)]);
}

#[test]
fn rows_committed_while_the_filters_are_stored_are_read_if_they_are_after_the_end() {
    let mut machine = Machine::new(start());
    machine.subscribe(CHATS, Qos::AtLeastOnce);
    machine.actions();
    (5..=7).for_each(|seq| machine.commit(seq));
    machine.session.handle_row(stream(2), 3, || panic!("not known yet"));
    machine.session.subscriptions_saved(&cursors(&[(1, 6), (2, 3)]));
    assert_eq!(machine.actions(), [Action::Read(vec![(stream(1), 6)])]);
}

#[test]
fn repeating_or_widening_a_subscription_moves_no_stream() {
    let one = topic::messages_topic(chat(1));
    let filters = filters(&[(&one, Qos::AtLeastOnce)]);
    let mut machine = Machine::new(Start { filters, ..following(Qos::AtLeastOnce, 2) });
    machine.commit(3);
    machine.commit(4);
    machine.rows();
    machine.acknowledge(1);
    for filter in [&one[..], CHATS, "#"] {
        machine.subscribe(filter, Qos::AtLeastOnce);
        let (_, map) = saves(&mut machine).remove(0);
        assert_eq!(map, cursors(&[(1, 3)]), "{filter}");
        machine.session.subscriptions_saved(&map);
    }
    machine.commit(5);
    assert_eq!(machine.rows(), [sent(5, 3)]);
    machine.acknowledge(2);
    assert_eq!(machine.cursor(stream(1)), Some(4));
}

#[test]
fn rows_go_on_while_a_wider_filter_is_stored() {
    let mut machine = Machine::new(following(Qos::AtLeastOnce, 0));
    machine.subscribe("#", Qos::AtLeastOnce);
    machine.commit(1);
    assert_eq!(machine.rows(), [sent(1, 1)]);
    machine.session.subscriptions_saved(&cursors(&[(1, 0), (2, 4)]));
    machine.commit(2);
    assert_eq!(machine.rows(), [sent(2, 2)]);
}

#[test]
fn unsubscribing_removes_what_nothing_matches_any_more() {
    let one = topic::messages_topic(chat(1));
    let filters = filters(&[(&one, Qos::AtLeastOnce), (CHATS, Qos::AtLeastOnce)]);
    let map = cursors(&[(1, 0), (2, 0)]);
    let mut machine = Machine::new(Start { filters, cursors: map, ..start() });
    machine.commit(1);
    machine.session.handle_row(stream(2), 1, || payload(stream(2), 1));
    machine.unsubscribe(CHATS);
    let (previous, follow) = saves(&mut machine).remove(0).0;
    assert_eq!(previous.chats, FollowChats::All);
    assert_eq!(follow.chats, FollowChats::Only(vec![chat(1)]));
    assert_eq!(machine.rows().len(), 1, "the second chat's row is not sent any more");
    machine.session.subscriptions_saved(&cursors(&[(1, 0)]));
    assert!(
        matches!(machine.written()[..], [Out::UnsubAck(_, ref reasons)] if reasons[..] == [Reason::Success])
    );
    machine.session.handle_row(stream(2), 2, || panic!("not followed"));
    assert_eq!(machine.session.cursors(), cursors(&[(1, 0)]));
    machine.acknowledge(1);
    assert_eq!(machine.cursor(stream(1)), Some(1));
}

#[test]
fn unsubscribing_from_what_was_not_subscribed_to_is_told() {
    let mut machine = Machine::new(start());
    machine.unsubscribe(CHATS);
    machine.session.subscriptions_saved(&Cursors::new());
    let written = machine.written();
    assert!(
        matches!(&written[..], [Out::UnsubAck(_, reasons)] if reasons[..] == [Reason::NoSubscriptionExisted])
    );
}

#[test]
fn an_acknowledgement_after_unsubscribing_frees_its_place_and_moves_nothing() {
    let mut machine = Machine::new(Start { window: 1, ..following(Qos::AtLeastOnce, 0) });
    machine.commit(1);
    machine.rows();
    machine.unsubscribe(CHATS);
    machine.session.subscriptions_saved(&Cursors::new());
    machine.subscribe(CHATS, Qos::AtLeastOnce);
    machine.session.subscriptions_saved(&cursors(&[(1, 1)]));
    machine.written();
    machine.commit(2);
    assert_eq!(machine.rows(), [], "the window is still full");
    machine.acknowledge(1);
    assert_eq!(machine.cursor(stream(1)), Some(1));
    assert_eq!(machine.rows(), [sent(2, 2)]);
}

#[test]
fn a_page_asked_for_by_an_earlier_subscription_is_dropped() {
    let mut machine = Machine::new(following(Qos::AtLeastOnce, 0));
    machine.session.handle_hint(stream(1), 3);
    assert_eq!(machine.actions(), [Action::Read(vec![(stream(1), 0)])]);
    machine.unsubscribe(CHATS);
    machine.session.subscriptions_saved(&Cursors::new());
    machine.subscribe(CHATS, Qos::AtLeastOnce);
    machine.session.subscriptions_saved(&cursors(&[(1, 3)]));
    machine.page(stream(1), 0, &[1, 2, 3], 3);
    assert_eq!(machine.rows(), []);
    machine.commit(4);
    assert_eq!(machine.rows(), [sent(4, 1)]);
}

#[test]
fn a_chat_is_followed_from_the_join_without_a_new_subscribe() {
    let mut machine = Machine::new(following(Qos::AtLeastOnce, 0));
    machine.session.handle_joined(chat(2), 7);
    machine.session.handle_row(stream(2), 7, || payload(stream(2), 7));
    assert_eq!(machine.rows(), [sent(7, 1)]);
}

#[test]
fn coming_back_to_a_chat_goes_on_where_the_session_was() {
    let mut machine = Machine::new(following(Qos::AtLeastOnce, 3));
    machine.session.handle_joined(chat(1), 9);
    assert_eq!(machine.cursor(stream(1)), Some(3));
    machine.commit(9);
    assert_eq!(machine.actions(), [Action::Read(vec![(stream(1), 3)])]);
}

#[test]
fn a_join_that_no_filter_covers_is_nothing() {
    let filters = filters(&[(&topic::messages_topic(chat(1)), Qos::AtLeastOnce)]);
    let mut machine = Machine::new(Start { filters, ..start() });
    machine.session.handle_joined(chat(2), 7);
    assert_eq!(machine.session.cursors(), Cursors::new());
}

#[test]
fn a_chat_joined_while_the_filters_are_stored_is_followed_from_the_first_join() {
    let mut machine = Machine::new(start());
    machine.subscribe(CHATS, Qos::AtLeastOnce);
    machine.session.handle_joined(chat(2), 7);
    machine.session.handle_row(stream(2), 7, || panic!("not known yet"));
    machine.session.handle_joined(chat(2), 11);
    machine.actions();
    machine.session.subscriptions_saved(&Cursors::new());
    assert_eq!(machine.cursor(stream(2)), Some(6));
    assert_eq!(machine.actions(), [Action::Read(vec![(stream(2), 6)])]);
}

#[test]
fn streams_that_began_while_the_session_was_away_start_at_their_first_join() {
    let mut machine = Machine::new(following(Qos::AtLeastOnce, 3));
    machine.session.handle_stays(&[stay(1, 1, 3), stay(2, 4, 9)]);
    assert_eq!(machine.session.cursors(), cursors(&[(1, 3), (2, 3)]));
    assert_eq!(machine.actions(), [Action::Read(vec![(stream(2), 3)])]);
}

#[test]
fn cursors_are_not_stored_while_filters_are() {
    let mut machine = Machine::new(following(Qos::AtMostOnce, 0));
    machine.subscribe("+/+/messages", Qos::AtMostOnce);
    assert_eq!(saves(&mut machine).len(), 1);
    machine.commit(1);
    machine.rows();
    assert_eq!(machine.session.poll_timeout(), None);
    machine.now += FLUSH_INTERVAL;
    machine.session.handle_timeout(machine.now);
    assert_eq!(machine.actions(), [], "a map without the streams that are being entered");
    machine.session.subscriptions_saved(&cursors(&[(1, 0), (2, 4)]));
    machine.pass(Duration::ZERO);
    assert_eq!(machine.actions(), [Action::SaveCursors(cursors(&[(1, 1), (2, 4)]))]);
}

#[test]
fn a_filter_outside_the_grammar_is_not_granted_and_a_malformed_one_ends_the_connection() {
    let mut machine = Machine::new(start());
    let filters = ["users/00000000-0000-0000-0000-0000000000ff/events", "$SYS/#", CHATS];
    let filters = filters.map(|filter| wish(filter, Qos::AtMostOnce)).into();
    machine.receive(In::Subscribe { packet_id: packet(9), filters, subscription_id: None });
    machine.session.subscriptions_saved(&Cursors::new());
    let written = machine.written();
    let refused = Reason::TopicFilterInvalid;
    assert!(
        matches!(&written[..], [Out::SubAck(_, reasons, _)] if reasons[..] == [refused, refused, Reason::Success])
    );
    machine.subscribe("chats/#/messages", Qos::AtMostOnce);
    assert_eq!(machine.closed(), Some(Reason::TopicFilterInvalid));
}

#[test]
fn a_session_has_so_many_filters() {
    use crate::session::subscriptions::{Added, MAX_FILTERS, MAX_FILTERS_BYTES, MAX_FILTERS_LEVELS};
    let deep = |n: usize| format!("{}{n}", "/".repeat(topic::MAX_TOPIC_LEVELS - 4));
    let long = |n: usize| format!("{}{n}", "x".repeat(4096));
    for (filter, most) in [
        (&(|n: usize| n.to_string()) as &dyn Fn(usize) -> String, MAX_FILTERS),
        (&deep, MAX_FILTERS_LEVELS / topic::MAX_TOPIC_LEVELS),
        (&long, MAX_FILTERS_BYTES / 4096),
    ] {
        let mut subscriptions = Subscriptions::new(Space::mounted(me(), "x").unwrap());
        let mut add = |n| subscriptions.add(&wish(&filter(n), Qos::AtMostOnce), None).unwrap();
        let granted = (0..=MAX_FILTERS).take_while(|n| matches!(add(*n), Added::Granted { .. })).count();
        assert!(granted <= most && granted + 2 > most, "{granted} of {most}");
        assert!(matches!(add(granted), Added::Full), "0x97");
        assert!(matches!(add(0), Added::Granted { fresh: false, .. }), "one that is there may be replaced");
        assert!(subscriptions.remove(&filter(0)));
        assert!(matches!(
            subscriptions.add(&wish(&filter(granted), Qos::AtMostOnce), None),
            Ok(Added::Granted { .. })
        ));
    }
}
