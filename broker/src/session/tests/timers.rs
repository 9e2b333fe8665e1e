//! Keep-alive, stalled clients, storing cursors.

use super::*;
use curlew_domain::rate::UserLimits;

#[test]
fn a_client_that_is_silent_for_one_and_a_half_keep_alives_is_disconnected() {
    let mut machine = Machine::new(Start { keep_alive: 10, ..start() });
    machine.pass(Duration::from_secs(14));
    machine.receive(In::PingReq);
    assert!(matches!(machine.written()[..], [Out::PingResp]));
    machine.pass(Duration::from_millis(14_999));
    assert_eq!(machine.closed(), None);
    machine.pass(Duration::from_millis(1));
    assert!(matches!(machine.written()[..], [Out::Disconnect(Reason::KeepAliveTimeout, _)]));
    assert_eq!(machine.closed(), Some(Reason::KeepAliveTimeout));
}

#[test]
fn a_keep_alive_of_0_lets_a_client_be_silent() {
    let mut machine = Machine::new(start());
    assert_eq!(machine.session.poll_timeout(), None);
    machine.pass(Duration::from_hours(24));
    assert_eq!(machine.closed(), None);
}

#[test]
fn a_client_is_not_blamed_for_silence_while_it_is_not_read() {
    let mut machine = Machine::new(Start { keep_alive: 10, ..start() });
    machine.subscribe(CHATS, Qos::AtLeastOnce);
    machine.pass(Duration::from_secs(15));
    machine.pass(Duration::from_secs(15));
    assert_eq!(machine.closed(), None);
    machine.session.subscriptions_saved(&Cursors::new());
    machine.pass(Duration::from_secs(14));
    assert_eq!(machine.closed(), None, "it begins anew");
    machine.pass(Duration::from_secs(1));
    assert_eq!(machine.closed(), Some(Reason::KeepAliveTimeout));
}

#[test]
fn a_full_window_without_an_acknowledgement_for_60_s_ends_the_connection() {
    let mut machine = Machine::new(Start { window: 2, ..following(Qos::AtLeastOnce, 0) });
    (1..=4).for_each(|seq| machine.commit(seq));
    machine.rows();
    machine.pass(Duration::from_secs(59));
    machine.acknowledge(1);
    machine.rows();
    machine.pass(Duration::from_secs(59));
    machine.acknowledge(77);
    machine.pass(Duration::from_millis(999));
    assert_eq!(machine.closed(), None, "an acknowledgement, and then 59.999 s");
    machine.pass(Duration::from_millis(1));
    assert_eq!(machine.closed(), Some(Reason::QuotaExceeded), "the stray one did not count");
}

#[test]
fn a_window_that_is_not_full_may_wait() {
    let mut machine = Machine::new(Start { window: 2, ..following(Qos::AtLeastOnce, 0) });
    machine.commit(1);
    machine.rows();
    machine.pass(Duration::from_hours(1));
    assert_eq!(machine.closed(), None);
}

fn stored(machine: &mut Machine) -> Vec<Seq> {
    let cursor = |action| match action {
        Action::SaveCursors(cursors) => cursors.get(&stream(1).id()).copied(),
        _ => None,
    };
    machine.actions().into_iter().filter_map(cursor).collect()
}

/// Commits, sends and acknowledges.
fn acknowledge(machine: &mut Machine, seqs: std::ops::RangeInclusive<Seq>) {
    for seq in seqs {
        machine.commit(seq);
        let packet = machine.rows()[0].packet.unwrap();
        machine.acknowledge(packet);
    }
}

#[test]
fn cursors_are_stored_30_s_after_an_acknowledgement() {
    let mut machine = Machine::new(following(Qos::AtLeastOnce, 0));
    acknowledge(&mut machine, 1..=1);
    machine.pass(Duration::from_secs(29));
    acknowledge(&mut machine, 2..=2);
    assert_eq!(stored(&mut machine), Vec::<Seq>::new());
    machine.pass(Duration::from_secs(1));
    assert_eq!(stored(&mut machine), [2]);
    assert_eq!(machine.session.poll_timeout(), None);
}

#[test]
fn cursors_are_stored_after_so_many_acknowledgements_one_map_at_a_time() {
    let mut machine = Machine::new(following(Qos::AtLeastOnce, 0));
    let many = Seq::from(FLUSH_AFTER);
    acknowledge(&mut machine, 1..=many - 1);
    assert_eq!(stored(&mut machine), Vec::<Seq>::new());
    acknowledge(&mut machine, many..=many);
    assert_eq!(stored(&mut machine), [many]);
    acknowledge(&mut machine, many + 1..=3 * many);
    assert_eq!(stored(&mut machine), Vec::<Seq>::new(), "the first is still being stored");
    machine.session.cursors_saved(true, machine.now);
    acknowledge(&mut machine, 3 * many + 1..=3 * many + 1);
    assert_eq!(stored(&mut machine), [3 * many + 1]);
}

#[test]
fn cursors_that_could_not_be_stored_are_tried_again() {
    let mut machine = Machine::new(following(Qos::AtLeastOnce, 0));
    acknowledge(&mut machine, 1..=1);
    machine.pass(FLUSH_INTERVAL);
    assert_eq!(stored(&mut machine), [1]);
    machine.session.cursors_saved(false, machine.now);
    machine.pass(FLUSH_INTERVAL);
    assert_eq!(stored(&mut machine), [1]);
}

/// Commands of which one a second may be read, and four at once.
fn limited() -> Start {
    let limits = UserLimits { messages_per_second: 1, plain_messages_per_second: 100 };
    Start { rates: Arc::new(Rates::new(limits)), keep_alive: 1, ..start() }
}

#[test]
fn who_publishes_too_fast_is_read_later() {
    let mut machine = Machine::new(limited());
    for id in 1..=3 {
        machine.publish(Qos::AtLeastOnce, id);
        assert!(machine.session.wants_input());
    }
    machine.publish(Qos::AtMostOnce, 0);
    assert!(!machine.session.wants_input());
    assert_eq!(machine.commands().len(), 4, "nothing is refused");
    machine.pass(Duration::from_millis(999));
    assert!(!machine.session.wants_input());
    machine.pass(Duration::from_millis(1));
    assert!(machine.session.wants_input());
    machine.pass(Duration::from_millis(1_499));
    assert_eq!(machine.closed(), None, "the silence is the client's only since then");
    machine.pass(Duration::from_millis(1));
    assert_eq!(machine.closed(), Some(Reason::KeepAliveTimeout));
}

#[test]
fn all_connections_of_a_user_share_one_limit() {
    let rates = limited().rates;
    let mut one = Machine::new(Start { rates: Arc::clone(&rates), ..start() });
    let mut other = Machine::new(Start { rates, ..start() });
    (1..=4).for_each(|id| one.publish(Qos::AtLeastOnce, id));
    other.receive(In::PingReq);
    assert!(other.session.wants_input(), "it has not published");
    other.publish(Qos::AtLeastOnce, 1);
    assert!(!other.session.wants_input());
}

#[test]
fn only_publications_count() {
    let mut machine = Machine::new(limited());
    (0..20).for_each(|_| machine.receive(In::PingReq));
    (1..=20).for_each(|id| machine.acknowledge(id));
    assert!(machine.session.wants_input());
}
