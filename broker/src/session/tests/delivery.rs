//! Rows on their way to the client.

use super::*;

#[test]
fn rows_go_out_in_order_inside_the_window() {
    let mut machine = Machine::new(following(Qos::AtLeastOnce, 0));
    (1..=6).for_each(|seq| machine.commit(seq));
    assert_eq!(machine.rows(), [sent(1, 1), sent(2, 2), sent(3, 3), sent(4, 4)]);
    machine.acknowledge(2);
    assert_eq!(machine.rows(), [sent(5, 5)]);
    machine.acknowledge(1);
    assert_eq!(machine.rows(), [sent(6, 6)]);
}

#[test]
fn the_window_is_no_wider_than_the_client_says() {
    let mut machine = Machine::new(Start { window: 1, ..following(Qos::AtLeastOnce, 0) });
    (1..=2).for_each(|seq| machine.commit(seq));
    assert_eq!(machine.rows(), [sent(1, 1)]);
}

#[test]
fn a_row_that_does_not_follow_the_last_one_is_read_from_the_log_with_what_is_before_it() {
    let mut machine = Machine::new(following(Qos::AtLeastOnce, 4));
    machine.commit(5);
    machine.commit(7);
    assert_eq!(machine.rows(), [sent(5, 1)]);
    assert_eq!(machine.actions(), [Action::Read(vec![(stream(1), 5)])]);
    machine.commit(8);
    assert_eq!((machine.rows(), machine.actions()), (vec![], vec![]), "it is being read already");
    machine.page(stream(1), 5, &[6, 7], 7);
    assert_eq!(machine.rows(), [sent(6, 2), sent(7, 3)]);
    assert_eq!(machine.actions(), [Action::Read(vec![(stream(1), 7)])]);
    machine.page(stream(1), 7, &[8], 8);
    machine.commit(9);
    assert_eq!(machine.rows(), [sent(8, 4)], "and the window is full");
}

#[test]
fn a_row_comes_once_though_the_commit_and_the_log_bring_it() {
    let mut machine = Machine::new(following(Qos::AtMostOnce, 0));
    machine.session.handle_hint(stream(1), 1);
    machine.actions();
    machine.page(stream(1), 0, &[1, 2], 2);
    (1..=3).for_each(|seq| machine.commit(seq));
    let seqs: Vec<_> = machine.rows().iter().map(|row| row.seq).collect();
    assert_eq!(seqs, [1, 2, 3]);
}

#[test]
fn what_does_not_fit_waits_in_the_log() {
    let mut machine = Machine::new(following(Qos::AtMostOnce, 0));
    let most = MAX_READY as Seq;
    (1..=most + 10).for_each(|seq| machine.commit(seq));
    assert_eq!(machine.actions(), [], "nothing is read before what was taken is written");
    let seqs: Vec<_> = machine.rows().iter().map(|row| row.seq).collect();
    assert_eq!(seqs, (1..=most).collect::<Vec<_>>());
    assert_eq!(machine.actions(), [Action::Read(vec![(stream(1), most)])]);
}

#[test]
fn holes_of_the_log_are_no_gaps() {
    let mut machine = Machine::new(following(Qos::AtLeastOnce, 2));
    machine.commit(9);
    machine.actions();
    machine.page(stream(1), 2, &[9], 9);
    machine.commit(10);
    assert_eq!(machine.rows(), [sent(9, 1), sent(10, 2)]);
}

#[test]
fn the_cursor_never_passes_a_row_that_is_not_acknowledged() {
    let mut machine = Machine::new(following(Qos::AtLeastOnce, 0));
    (1..=4).for_each(|seq| machine.commit(seq));
    machine.rows();
    for (packet, cursor) in [(2, 0), (4, 0), (2, 0), (1, 2), (3, 4)] {
        machine.acknowledge(packet);
        assert_eq!(machine.cursor(stream(1)), Some(cursor), "after {packet}");
    }
}

#[test]
fn the_user_has_a_chat_up_to_the_cursor() {
    let mut machine = Machine::new(following(Qos::AtLeastOnce, 0));
    (1..=2).for_each(|seq| machine.commit(seq));
    machine.rows();
    machine.acknowledge(2);
    assert_eq!(machine.actions(), []);
    machine.acknowledge(1);
    assert_eq!(machine.actions(), [Action::Acknowledged(chat(1), 2)]);
}

#[test]
fn at_qos_0_the_cursor_moves_when_the_row_is_written() {
    let mut machine = Machine::new(following(Qos::AtMostOnce, 0));
    machine.commit(1);
    assert_eq!(machine.cursor(stream(1)), Some(0));
    assert_eq!(machine.rows(), [Sent { seq: 1, packet: None, dup: false }]);
    assert_eq!(machine.cursor(stream(1)), Some(1));
    assert_eq!(machine.actions(), [], "nobody can tell whether it was received");
}

#[test]
fn a_row_at_qos_0_does_not_acknowledge_those_before_it() {
    let mut machine = Machine::new(following(Qos::AtLeastOnce, 0));
    machine.commit(1);
    machine.rows();
    machine.subscribe(CHATS, Qos::AtMostOnce);
    machine.actions();
    let cursors = machine.session.cursors();
    machine.session.subscriptions_saved(&cursors);
    machine.commit(2);
    assert_eq!(machine.rows(), [Sent { seq: 2, packet: None, dup: false }]);
    assert_eq!(machine.cursor(stream(1)), Some(0));
    machine.acknowledge(1);
    assert_eq!(machine.cursor(stream(1)), Some(2));
}

#[test]
fn a_row_larger_than_the_client_takes_counts_as_delivered() {
    let mut machine = Machine::new(Start { window: 1, ..following(Qos::AtLeastOnce, 0) });
    (1..=2).for_each(|seq| machine.commit(seq));
    let Some(Out::Publish(publish)) = machine.session.poll_transmit(machine.now) else { panic!("no row") };
    machine.session.not_transmitted(&publish, machine.now);
    assert_eq!(machine.cursor(stream(1)), Some(1));
    assert_eq!(machine.rows(), [sent(2, 2)]);
}

#[test]
fn an_event_carries_the_highest_qos_and_the_identifiers_of_the_filters_that_match() {
    let mut machine = Machine::new(Start { cursors: [(stream(1).id(), 0)].into(), ..start() });
    let one = topic::messages_topic(chat(1));
    let other = topic::messages_topic(chat(2));
    let wishes = [
        ("#", Qos::AtMostOnce, Some(3)),
        (&one, Qos::ExactlyOnce, Some(8)),
        (&other, Qos::AtLeastOnce, Some(5)),
    ];
    let wishes =
        wishes.into_iter().chain([(CHATS, Qos::AtMostOnce, Some(3)), ("chats/#", Qos::AtMostOnce, None)]);
    for (filter, qos, subscription_id) in wishes {
        let filters = vec![wish(filter, qos)];
        machine.receive(In::Subscribe { packet_id: packet(9), filters, subscription_id });
        let cursors = machine.session.cursors();
        machine.session.subscriptions_saved(&cursors);
    }
    machine.commit(1);
    let published = machine.written().into_iter().find_map(|out| match out {
        Out::Publish(publish) => Some(publish),
        _ => None,
    });
    let mut publish = published.expect("the row");
    publish.properties.subscription_ids.sort_unstable();
    assert_eq!((publish.qos, publish.topic), (Qos::AtLeastOnce, one));
    assert_eq!(publish.properties.subscription_ids, [3, 8]);
}

#[test]
fn streams_that_are_behind_are_read_together_and_take_turns() {
    let cursors = [(stream(1).id(), 0), (stream(2).id(), 0)].into();
    let mut machine = Machine::new(Start { cursors, ..following(Qos::AtMostOnce, 0) });
    machine.session.handle_stays(&[stay(1, 1, 9), stay(2, 1, 9)]);
    assert_eq!(machine.actions(), [Action::Read(vec![(stream(1), 0), (stream(2), 0)])]);
    let rows = vec![(1, payload(stream(1), 1))];
    let goes_on = Page { stream: stream(1), after: 0, rows, end: 1, more: true };
    let unread = Page { stream: stream(2), after: 0, rows: Vec::new(), end: 0, more: true };
    machine.session.handle_pages(vec![goes_on, unread]);
    assert_eq!(machine.actions(), [], "not before the page was written");
    machine.rows();
    assert_eq!(machine.actions(), [Action::Read(vec![(stream(2), 0), (stream(1), 1)])]);
}

#[test]
fn so_many_streams_are_read_together_and_the_others_next() {
    let most = u128::try_from(MAX_LOGS).unwrap();
    let streams: Vec<Stream> = (1..=most + 1).map(stream).collect();
    let cursors = streams.iter().map(|stream| (stream.id(), 0)).collect();
    let mut machine = Machine::new(Start { cursors, ..following(Qos::AtMostOnce, 0) });
    let stays: Vec<StayEnd> = (1..=most + 1).map(|n| stay(n, 1, 9)).collect();
    machine.session.handle_stays(&stays);
    let wanted: Vec<_> = streams.iter().map(|stream| (*stream, 0)).collect();
    let (first, next) = wanted.split_at(MAX_LOGS);
    assert_eq!(machine.actions(), [Action::Read(first.to_vec())]);
    let empty = |(stream, after): &(Stream, Seq)| Page {
        stream: *stream,
        after: *after,
        rows: Vec::new(),
        end: 9,
        more: false,
    };
    machine.session.handle_pages(first.iter().map(empty).collect());
    assert_eq!(machine.actions(), [Action::Read(next.to_vec())]);
}

#[test]
fn live_events_are_shed_when_packets_are_waiting() {
    let mut machine = Machine::new(Start { filters: filters(&[("#", Qos::AtLeastOnce)]), ..start() });
    for _ in 0..2 * MAX_OUT {
        machine.session.handle_typing(chat(1), || Bytes::from_static(b"{}"));
    }
    let written = machine.written();
    assert_eq!(written.len(), MAX_OUT / 4);
    let at_qos_0 =
        |out: &Out| matches!(out, Out::Publish(publish) if publish.packet_id.is_none() && !publish.retain);
    assert!(written.iter().all(at_qos_0));
}

#[test]
fn what_waits_to_be_sent_and_was_deleted_meanwhile_is_read_again() {
    let mut machine = Machine::new(following(Qos::AtLeastOnce, 0));
    (1..=6).for_each(|seq| machine.commit(seq));
    assert_eq!(machine.rows().len(), 4, "the window is full");
    machine.session.handle_emptied(stream(1), 5);
    machine.commit(7);
    machine.acknowledge(1);
    assert_eq!(machine.rows(), [], "what was taken is let go");
    assert!(machine.actions().contains(&Action::Read(vec![(stream(1), 4)])));
    machine.page(stream(1), 4, &[6, 7], 7);
    assert_eq!(machine.rows(), [sent(6, 5)]);
}

#[test]
fn a_page_that_may_have_been_read_before_a_deletion_is_read_again() {
    let mut machine = Machine::new(following(Qos::AtLeastOnce, 0));
    machine.session.handle_hint(stream(1), 2);
    assert_eq!(machine.actions(), [Action::Read(vec![(stream(1), 0)])]);
    machine.session.handle_emptied(stream(1), 2);
    machine.page(stream(1), 0, &[1, 2], 2);
    assert_eq!(machine.rows(), []);
    assert_eq!(machine.actions(), [Action::Read(vec![(stream(1), 0)])]);
    machine.page(stream(1), 0, &[1, 2], 2);
    assert_eq!(machine.rows(), [sent(1, 1), sent(2, 2)]);
}
