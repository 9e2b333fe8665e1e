//! A session that returns.

use super::*;

/// The session after a disconnect, with the row of the first chat up to `end` in the log.
fn return_of(machine: Machine, end: Seq) -> Machine {
    let cursors = machine.session.cursors();
    let parked = machine.session.park(curlew_domain::clock::Timestamp(0));
    let mut machine = Machine::new(Start { cursors, parked, ..following(Qos::AtLeastOnce, 0) });
    machine.session.handle_stays(&[stay(1, 1, end)]);
    machine
}

#[test]
fn what_was_in_flight_goes_out_again_with_its_identifier_and_dup() {
    let mut machine = Machine::new(following(Qos::AtLeastOnce, 0));
    (1..=3).for_each(|seq| machine.commit(seq));
    machine.rows();
    machine.acknowledge(1);

    let mut machine = return_of(machine, 4);
    assert_eq!(machine.actions(), [Action::Read(vec![(stream(1), 1)])]);
    machine.page(stream(1), 1, &[2, 3, 4], 4);
    assert_eq!(machine.rows(), [sent_again(2, 2), sent_again(3, 3), sent(4, 1)]);
    machine.acknowledge(2);
    assert_eq!(machine.cursor(stream(1)), Some(2));
}

#[test]
fn what_was_not_reached_keeps_its_identifier_for_the_next_return() {
    let mut machine = Machine::new(following(Qos::AtLeastOnce, 0));
    (1..=2).for_each(|seq| machine.commit(seq));
    machine.rows();
    let machine = return_of(machine, 2);
    let mut machine = return_of(machine, 2);
    machine.actions();
    machine.page(stream(1), 0, &[1, 2], 2);
    assert_eq!(machine.rows(), [sent_again(1, 1), sent_again(2, 2)]);
}

#[test]
fn an_identifier_that_was_promised_is_not_given_away() {
    let mut machine = Machine::new(following(Qos::AtLeastOnce, 0));
    machine.commit(1);
    machine.rows();
    let cursors = [(stream(1).id(), 0), (stream(2).id(), 0)].into();
    let parked = machine.session.park(curlew_domain::clock::Timestamp(0));
    let mut machine = Machine::new(Start { cursors, parked, ..following(Qos::AtLeastOnce, 0) });
    machine.session.handle_row(stream(2), 1, || payload(stream(2), 1));
    assert_eq!(machine.rows(), [sent(1, 2)]);
}

#[test]
fn after_a_crash_everything_after_the_stored_cursor_comes_as_if_for_the_first_time() {
    let mut machine = Machine::new(following(Qos::AtLeastOnce, 2));
    machine.session.handle_stays(&[stay(1, 1, 4)]);
    machine.actions();
    machine.page(stream(1), 2, &[3, 4], 4);
    assert_eq!(machine.rows(), [sent(3, 1), sent(4, 2)]);
}

#[test]
fn a_row_whose_stream_is_not_followed_any_more_gives_its_identifier_back() {
    let mut machine = Machine::new(following(Qos::AtLeastOnce, 0));
    machine.commit(1);
    machine.rows();
    let parked = machine.session.park(curlew_domain::clock::Timestamp(0));
    // UNSUBSCRIBE was stored meanwhile, say.
    let machine = Machine::new(Start { parked, ..start() });
    assert!(machine.session.park(curlew_domain::clock::Timestamp(0)).unacknowledged.is_empty());
}

#[test]
fn a_row_that_was_unsubscribed_from_before_it_was_sent_again_gives_its_identifier_back() {
    let mut machine = Machine::new(following(Qos::AtLeastOnce, 0));
    machine.commit(1);
    machine.rows();
    let mut machine = return_of(machine, 1);
    machine.unsubscribe(CHATS);
    machine.session.subscriptions_saved(&Cursors::new());
    assert!(machine.session.park(curlew_domain::clock::Timestamp(0)).unacknowledged.is_empty());
}

#[test]
fn a_late_acknowledgement_of_what_was_not_sent_again_yet_is_ignored() {
    let mut machine = Machine::new(following(Qos::AtLeastOnce, 0));
    machine.commit(1);
    machine.rows();
    let mut machine = return_of(machine, 1);
    machine.acknowledge(1);
    machine.actions();
    machine.page(stream(1), 0, &[1], 1);
    assert_eq!(machine.rows(), [sent_again(1, 1)]);
    assert_eq!(machine.cursor(stream(1)), Some(0));
}
