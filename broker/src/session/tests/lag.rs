//! Deliveries that were lost, because the connection could not keep up.

use super::*;

fn lagging() -> Machine {
    let mut machine = Machine::new(following(Qos::AtLeastOnce, 0));
    machine.session.handle_lag();
    assert_eq!(machine.actions(), [Action::ListStays]);
    machine
}

#[test]
fn what_was_lost_is_found_by_asking_for_the_ends_of_all_stays() {
    let mut machine = lagging();
    machine.session.handle_stays(&[stay(1, 1, 2)]);
    assert_eq!(machine.actions(), [Action::Read(vec![(stream(1), 0)])]);
    machine.page(stream(1), 0, &[1, 2], 2);
    assert_eq!(machine.rows(), [sent(1, 1), sent(2, 2)]);
}

#[test]
fn what_is_lost_while_the_stays_are_on_their_way_makes_it_ask_again() {
    let mut machine = lagging();
    machine.session.handle_lag();
    assert_eq!(machine.actions(), [], "one question at a time");
    machine.session.handle_stays(&[stay(1, 1, 0)]);
    assert_eq!(machine.actions(), [Action::ListStays]);
    machine.session.handle_stays(&[stay(1, 1, 0)]);
    assert_eq!(machine.actions(), []);
}

#[test]
fn a_lost_join_starts_the_stream_at_the_join() {
    let mut machine = lagging();
    machine.session.handle_stays(&[stay(2, 5, 6)]);
    assert_eq!(machine.cursor(stream(2)), Some(4));
    assert_eq!(machine.actions(), [Action::Read(vec![(stream(2), 4)])]);
}

#[test]
fn a_later_stay_does_not_hide_a_first_one_that_was_lost() {
    let mut machine = lagging();
    // The first stay, 1 to 3, is among what was lost; the list may have been read before it.
    machine.session.handle_joined(chat(2), 7);
    assert_eq!(machine.cursor(stream(2)), None);
    machine.session.handle_stays(&[]);
    assert_eq!(machine.actions(), [Action::ListStays]);
    machine.session.handle_stays(&[StayEnd { last_joined: 7, ..stay(2, 1, 7) }]);
    assert_eq!(machine.cursor(stream(2)), Some(0));
}

#[test]
fn a_stream_that_only_the_list_tells_of_is_read_though_the_list_knows_no_row() {
    let mut machine = lagging();
    // A private chat is empty when the list is read; then its first row comes, of a stream nobody knows.
    machine.session.handle_row(stream(2), 1, || panic!("it is not followed"));
    machine.session.handle_stays(&[stay(2, 0, 0)]);
    assert_eq!(machine.actions(), [Action::Read(vec![(stream(2), 0)])]);
}

#[test]
fn while_filters_are_stored_the_question_waits() {
    let mut machine = Machine::new(following(Qos::AtLeastOnce, 0));
    machine.subscribe("+/+/messages", Qos::AtLeastOnce);
    machine.session.handle_lag();
    assert!(matches!(machine.actions()[..], [Action::SaveSubscriptions { .. }]));
    let cursors = machine.session.cursors();
    machine.session.subscriptions_saved(&cursors);
    assert_eq!(machine.actions(), [Action::ListStays]);
}

#[test]
fn an_answer_that_comes_while_filters_are_stored_is_asked_for_again() {
    let mut machine = lagging();
    machine.subscribe("+/+/messages", Qos::AtLeastOnce);
    machine.actions();
    machine.session.handle_stays(&[stay(1, 1, 5)]);
    let cursors = machine.session.cursors();
    machine.session.subscriptions_saved(&cursors);
    assert_eq!(machine.actions(), [Action::ListStays]);
}

#[test]
fn what_waits_is_read_again_since_a_deletion_may_be_among_what_was_lost() {
    let mut machine = Machine::new(following(Qos::AtLeastOnce, 0));
    (1..=6).for_each(|seq| machine.commit(seq));
    assert_eq!(machine.rows().len(), 4, "the window is full");
    machine.session.handle_lag();
    machine.acknowledge(1);
    assert_eq!(machine.rows(), [], "what was taken is let go");
    assert!(machine.actions().contains(&Action::Read(vec![(stream(1), 4)])));
    machine.page(stream(1), 4, &[6], 6);
    assert_eq!(machine.rows(), [sent(6, 5)]);
}
