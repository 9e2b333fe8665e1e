//! The plain lane: what comes for the session at each QoS, what waits in its queue, and what is stored when.

use super::*;
use crate::{
    plain::Item,
    session::plain::{SETTLE_AFTER, SETTLE_INTERVAL},
};
use curlew_domain::plain::{PlainMessage, PlainProperties, Recipient, Settle};
use std::sync::Arc;

const TOPIC: &str = "users/00000000-0000-0000-0000-000000000001/x/a/b";

fn message(payload: &'static str, qos: Qos) -> PlainMessage {
    PlainMessage {
        topic: TOPIC.into(),
        payload: payload.into(),
        qos,
        retain: false,
        properties: PlainProperties::default(),
        expires_at: None,
    }
}

fn item(message: PlainMessage, seq: Option<Seq>) -> Due {
    let recipient =
        Recipient { session: id(7), qos: message.qos, retain: message.retain, subscription_ids: Vec::new() };
    Due { item: Item { seq, ..Item::live(Arc::new(message), recipient) }, expires: None }
}

/// A message that waits in the queue.
fn queued(seq: Seq, qos: Qos) -> Due {
    item(message("queued", qos), Some(seq))
}

fn live(payload: &'static str, qos: Qos) -> Due {
    item(message(payload, qos), None)
}

/// The identifier of a place in the queue.
fn place(seq: u16) -> u16 {
    0x8000 | seq
}

impl Machine {
    fn plain(&mut self, due: Due) {
        assert!(self.session.wants_plain());
        self.session.handle_plain(due);
    }

    fn publishes(&mut self) -> Vec<(Qos, Option<u16>, bool)> {
        let publish = |out| match out {
            Out::Publish(publish) => (publish.qos, publish.packet_id.map(PacketId::get), publish.dup),
            other => panic!("{other:?}"),
        };
        self.written().into_iter().map(publish).collect()
    }

    fn settles(&mut self) -> Vec<Settle> {
        let settle = |action| match action {
            Action::Settle(settle) => Some(settle),
            _ => None,
        };
        self.actions().into_iter().filter_map(settle).collect()
    }
}

/// A session that lasts and has read its queue, which was empty.
fn caught_up() -> Machine {
    let filters = filters(&[("users/00000000-0000-0000-0000-000000000001/x/#", Qos::ExactlyOnce)]);
    let mut machine = Machine::new(Start { filters, ..start() });
    assert!(machine.actions().contains(&Action::ReadQueue { after: 0 }));
    machine.session.handle_queue(Vec::new(), false);
    machine
}

#[test]
fn live_messages_go_out_at_their_qos_and_nothing_is_stored_of_them() {
    let mut machine = Machine::new(Start { expiry_secs: 0, ..start() });
    for qos in [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce] {
        machine.plain(live("hello", qos));
    }
    let (one, two) = (Some(1), Some(2));
    assert_eq!(
        machine.publishes(),
        [(Qos::AtMostOnce, None, false), (Qos::AtLeastOnce, one, false), (Qos::ExactlyOnce, two, false)]
    );
    machine.acknowledge(1);
    machine.receive(In::PubRec(packet(2), Reason::Success));
    assert!(matches!(machine.written()[..], [Out::PubRel(id, Reason::Success)] if id.get() == 2));
    machine.receive(In::PubRec(packet(2), Reason::Success));
    assert!(matches!(machine.written()[..], [Out::PubRel(..)]), "the first PUBREL was lost");
    machine.receive(In::PubComp(packet(2), Reason::Success));
    machine.pass(SETTLE_INTERVAL);
    assert_eq!(machine.settles(), []);
    assert_eq!(machine.closed(), None);
}

#[test]
fn messages_and_rows_share_the_window_in_turn() {
    let mut machine = Machine::new(Start { expiry_secs: 0, window: 2, ..following(Qos::AtLeastOnce, 0) });
    machine.actions();
    (1..=2).for_each(|seq| machine.commit(seq));
    (0..2).for_each(|_| machine.plain(live("hello", Qos::AtLeastOnce)));
    assert_eq!(machine.written().len(), 2);
    machine.acknowledge(1);
    machine.acknowledge(2);
    let topics: Vec<_> = machine
        .written()
        .into_iter()
        .map(|out| match out {
            Out::Publish(publish) => publish.topic == TOPIC,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(topics.iter().filter(|plain| **plain).count(), 1, "neither starves the other");
}

#[test]
fn what_waits_in_the_queue_leaves_it_when_it_is_acknowledged() {
    let mut machine = caught_up();
    (1..=2).for_each(|seq| machine.plain(queued(seq, Qos::AtLeastOnce)));
    assert_eq!(
        machine.publishes(),
        [(Qos::AtLeastOnce, Some(place(1)), false), (Qos::AtLeastOnce, Some(place(2)), false)]
    );
    machine.acknowledge(place(2));
    assert_eq!(machine.settles(), [], "acknowledgements are collected");
    machine.pass(SETTLE_INTERVAL);
    assert_eq!(machine.settles(), [Settle { done: vec![2], sent: 2, ..Settle::default() }]);
    machine.acknowledge(place(1));
    machine.pass(SETTLE_INTERVAL);
    assert_eq!(machine.settles(), [], "one store after the other");
    machine.session.settled();
    machine.pass(SETTLE_INTERVAL);
    assert_eq!(machine.settles(), [Settle { done: vec![1], sent: 2, ..Settle::default() }]);
}

#[test]
fn many_acknowledgements_are_stored_at_once() {
    let mut machine = caught_up();
    for seq in 1..=SETTLE_AFTER as u16 {
        machine.plain(queued(seq.into(), Qos::AtLeastOnce));
        machine.publishes();
        machine.acknowledge(place(seq));
    }
    assert_eq!(machine.settles()[0].done.len(), SETTLE_AFTER);
}

#[test]
fn pubrel_waits_until_the_pubrec_is_stored() {
    let mut machine = caught_up();
    machine.plain(queued(1, Qos::ExactlyOnce));
    machine.publishes();
    machine.receive(In::PubRec(packet(place(1)), Reason::Success));
    machine.receive(In::PubRec(packet(place(1)), Reason::Success));
    assert_eq!(machine.settles(), [Settle { released: vec![1], sent: 1, ..Settle::default() }]);
    assert!(machine.written().is_empty());
    machine.session.settled();
    assert!(matches!(machine.written()[..], [Out::PubRel(id, Reason::Success)] if id.get() == place(1)));
    machine.receive(In::PubComp(packet(place(1)), Reason::Success));
    assert_eq!(machine.session.take_settle(), Settle { done: vec![1], sent: 1, ..Settle::default() });
}

#[test]
fn a_client_that_refuses_a_message_is_done_with_it() {
    let mut machine = caught_up();
    machine.plain(queued(1, Qos::ExactlyOnce));
    machine.publishes();
    machine.receive(In::PubRec(packet(place(1)), Reason::QuotaExceeded));
    assert!(machine.written().is_empty(), "[MQTT-4.3.3-4] wants PUBREL only below 0x80");
    assert_eq!(machine.session.take_settle().done, [1]);
}

#[test]
fn a_return_goes_on_where_the_queue_was() {
    let filters = filters(&[("users/+/x/#", Qos::ExactlyOnce)]);
    let mut machine = Machine::new(Start { filters, sent: 2, ..start() });
    assert!(machine.actions().contains(&Action::ReadQueue { after: 0 }));
    let mut released = queued(1, Qos::ExactlyOnce);
    released.item.released = true;
    let page = vec![released, queued(2, Qos::ExactlyOnce), queued(3, Qos::AtLeastOnce)];
    machine.session.handle_queue(page, false);
    let written = machine.written();
    let [Out::PubRel(first, Reason::Success), Out::Publish(second), Out::Publish(third)] = &written[..]
    else {
        panic!("{written:?}")
    };
    assert_eq!(first.get(), place(1), "the message itself is not sent again");
    assert_eq!((second.packet_id.unwrap().get(), second.dup), (place(2), true));
    assert_eq!((third.packet_id.unwrap().get(), third.dup), (place(3), false));
    machine.receive(In::PubComp(packet(place(1)), Reason::Success));
    assert_eq!(machine.session.take_settle(), Settle { done: vec![1], sent: 3, ..Settle::default() });
}

#[test]
fn what_is_missed_is_read_from_the_queue() {
    let mut machine = caught_up();
    machine.plain(queued(1, Qos::AtLeastOnce));
    machine.plain(queued(3, Qos::AtLeastOnce));
    machine.plain(queued(1, Qos::AtLeastOnce));
    assert_eq!(machine.publishes().len(), 1);
    assert_eq!(machine.actions(), [Action::ReadQueue { after: 1 }]);
    // While it is read, another one comes.
    machine.plain(queued(4, Qos::AtLeastOnce));
    machine.session.handle_queue(vec![queued(2, Qos::AtLeastOnce), queued(3, Qos::AtLeastOnce)], false);
    assert_eq!(machine.publishes().len(), 2);
    assert_eq!(machine.actions(), [Action::ReadQueue { after: 3 }]);
    machine.session.handle_queue(vec![queued(4, Qos::AtLeastOnce)], false);
    assert_eq!(machine.publishes().len(), 1);
    assert_eq!(machine.actions(), []);
}

#[test]
fn a_queue_is_read_part_by_part() {
    let mut machine = caught_up();
    machine.plain(queued(9, Qos::AtMostOnce));
    assert_eq!(machine.actions(), [Action::ReadQueue { after: 0 }]);
    machine.session.handle_queue(vec![queued(5, Qos::AtLeastOnce)], true);
    assert_eq!(machine.actions(), [], "not before the first part is sent");
    machine.publishes();
    assert_eq!(machine.actions(), [Action::ReadQueue { after: 5 }]);
}

#[test]
fn an_identifier_that_is_still_in_flight_keeps_its_successor_waiting() {
    let mut machine = caught_up();
    machine.plain(queued(1, Qos::AtLeastOnce));
    machine.publishes();
    machine.plain(queued(0x8001, Qos::AtLeastOnce));
    machine.actions();
    machine.session.handle_queue(vec![queued(0x8001, Qos::AtLeastOnce)], false);
    assert_eq!(machine.publishes(), []);
    machine.acknowledge(place(1));
    assert_eq!(machine.publishes(), [(Qos::AtLeastOnce, Some(place(1)), false)]);
}

#[test]
fn an_expired_message_is_not_sent_and_leaves_the_queue() {
    let mut machine = caught_up();
    let now = machine.now;
    let expiring = |due, secs| Due { expires: Some(now + Duration::from_secs(secs)), ..due };
    machine.plain(expiring(queued(1, Qos::AtLeastOnce), 5));
    machine.plain(expiring(queued(2, Qos::AtLeastOnce), 60));
    machine.now += Duration::from_millis(10_500);
    let written = machine.written();
    let [Out::Publish(publish)] = &written[..] else { panic!("{written:?}") };
    assert_eq!(publish.packet_id.unwrap().get(), place(2));
    assert_eq!(publish.properties.message_expiry, Some(50), "[MQTT-3.3.2-6]: what is left of it");
    assert_eq!(machine.session.take_settle().done, [1]);
}

#[test]
fn a_message_that_is_too_large_for_the_client_leaves_the_queue() {
    let mut machine = caught_up();
    machine.plain(queued(1, Qos::ExactlyOnce));
    let Some(Out::Publish(publish)) = machine.session.poll_transmit(machine.now) else { panic!("a PUBLISH") };
    machine.session.not_transmitted(&publish, machine.now);
    assert_eq!(machine.session.take_settle().done, [1]);
}

#[test]
fn a_mounted_session_sees_its_own_names() {
    let space = Space::mounted(me(), "x/a").unwrap();
    let mut machine = Machine::new(Start { space, expiry_secs: 0, ..start() });
    let mut due = live("hello", Qos::AtMostOnce);
    let mut elsewhere = message("not for here", Qos::AtMostOnce);
    elsewhere.topic = TOPIC.replace("/a/", "/other/");
    let properties = PlainProperties {
        response_topic: Some(TOPIC.replace("/b", "/reply")),
        content_type: Some("text/plain".into()),
        correlation_data: Some(Bytes::from_static(b"7")),
        user_properties: vec![("k".into(), "v".into())],
        payload_is_utf8: true,
    };
    due.item.message = Arc::new(PlainMessage { properties, ..message("hello", Qos::AtMostOnce) });
    machine.plain(item(elsewhere, None));
    machine.plain(due);
    let written = machine.written();
    let [Out::Publish(publish)] = &written[..] else { panic!("{written:?}") };
    assert_eq!(publish.topic, "b");
    let properties = &publish.properties;
    assert_eq!(properties.response_topic.as_deref(), Some("reply"));
    assert_eq!(properties.content_type.as_deref(), Some("text/plain"));
    assert_eq!(properties.correlation_data.as_deref(), Some(&b"7"[..]));
    assert_eq!(properties.user_properties, [("k".to_owned(), "v".to_owned())]);
    assert!(properties.payload_is_utf8);
}

#[test]
fn answers_that_do_not_fit_the_exchange_end_the_connection() {
    let ack: fn(PacketId) -> In = |id| In::PubAck(id, Reason::Success);
    let rec: fn(PacketId) -> In = |id| In::PubRec(id, Reason::Success);
    let comp: fn(PacketId) -> In = |id| In::PubComp(id, Reason::Success);
    for (qos, answer) in
        [(Qos::ExactlyOnce, ack), (Qos::ExactlyOnce, comp), (Qos::AtLeastOnce, rec), (Qos::AtLeastOnce, comp)]
    {
        let mut machine = caught_up();
        machine.plain(queued(1, qos));
        machine.publishes();
        machine.receive(answer(packet(place(1))));
        assert_eq!(machine.closed(), Some(Reason::ProtocolError), "{qos:?}");
    }
}

#[test]
fn answers_to_nothing_are_told_so_or_ignored() {
    let mut machine = caught_up();
    machine.receive(In::PubRec(packet(5), Reason::Success));
    assert!(matches!(machine.written()[..], [Out::PubRel(_, Reason::PacketIdentifierNotFound)]));
    machine.receive(In::PubComp(packet(5), Reason::Success));
    machine.acknowledge(5);
    assert!(machine.written().is_empty());
    assert_eq!(machine.closed(), None);
}

#[test]
fn a_stored_packet_identifier_is_free_when_that_is_stored() {
    let mut machine = caught_up();
    machine.publish(Qos::ExactlyOnce, 3);
    let commands = machine.commands();
    machine.session.command_done(&commands[0], Outcome::Done { properties: Vec::new(), recorded: true });
    assert!(matches!(machine.written()[..], [Out::PubRec(_, Reason::Success, _)]));
    machine.receive(In::PubRel(packet(3), Reason::Success));
    machine.receive(In::PubRel(packet(3), Reason::Success));
    assert!(machine.written().is_empty());
    assert_eq!(machine.settles(), [Settle { forgotten: vec![3], ..Settle::default() }]);
    machine.session.settled();
    assert!(matches!(machine.written()[..], [Out::PubComp(_, Reason::Success)]));
    // After a crash the session brings it along.
    let mut machine = Machine::new(Start { received: vec![packet(3)], ..start() });
    machine.publish(Qos::ExactlyOnce, 3);
    assert!(machine.commands().is_empty(), "it is not published again");
    assert!(matches!(machine.written()[..], [Out::PubRec(..)]));
}

#[test]
fn messages_wait_outside_when_the_client_is_slow() {
    let mut machine = Machine::new(Start { expiry_secs: 0, window: 1, ..start() });
    let mut taken = 0;
    while machine.session.wants_plain() {
        machine.session.handle_plain(live("hello", Qos::AtLeastOnce));
        taken += 1;
    }
    assert_eq!((taken, machine.publishes().len()), (64, 1));
    assert!(machine.session.wants_plain(), "there is room for one more");
}

#[test]
fn what_was_sent_before_is_sent_again_though_it_has_expired() {
    let filters = filters(&[("users/+/x/#", Qos::ExactlyOnce)]);
    let mut machine = Machine::new(Start { filters, sent: 1, ..start() });
    machine.actions();
    let expired = Some(machine.now);
    let page = vec![
        Due { expires: expired, ..queued(1, Qos::ExactlyOnce) },
        Due { expires: expired, ..queued(2, Qos::ExactlyOnce) },
    ];
    machine.now += Duration::from_secs(1);
    machine.session.handle_queue(page, false);
    assert_eq!(machine.publishes(), [(Qos::ExactlyOnce, Some(place(1)), true)], "[MQTT-4.3.3-7]");
    machine.receive(In::PubRec(packet(place(1)), Reason::Success));
    let settles = machine.settles();
    assert_eq!((&settles[0].done[..], &settles[0].released[..]), (&[2][..], &[1][..]), "[MQTT-4.3.3-13]");
}
