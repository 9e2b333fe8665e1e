//! What the standards ask of a server beyond one packet, clause by clause; the numbers are those of MQTT 5.

use super::*;

fn subscribe_to(machine: &mut Machine, filters: &[(&str, Qos)]) -> Vec<Reason> {
    let filters = filters.iter().map(|(filter, qos)| wish(filter, *qos)).collect();
    machine.receive(In::Subscribe { packet_id: packet(9), filters, subscription_id: None });
    let cursors = machine.session.cursors();
    machine.session.subscriptions_saved(&cursors);
    machine
        .written()
        .into_iter()
        .find_map(|out| match out {
            Out::SubAck(id, reasons, _) if id == packet(9) => Some(reasons),
            _ => None,
        })
        .expect("SUBACK")
}

fn unsubscribe_from(machine: &mut Machine, filters: &[&str]) -> Vec<Reason> {
    let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
    machine.receive(In::Unsubscribe { packet_id: packet(8), filters });
    let cursors = machine.session.cursors();
    machine.session.subscriptions_saved(&cursors);
    machine
        .written()
        .into_iter()
        .find_map(|out| match out {
            Out::UnsubAck(id, reasons) if id == packet(8) => Some(reasons),
            _ => None,
        })
        .expect("UNSUBACK")
}

/// `[MQTT-3.3.4-10]`, `[MQTT-4.9.0-3]`.
#[test]
fn a_full_window_holds_up_publications_only() {
    let mut machine = Machine::new(Start { window: 1, ..following(Qos::AtLeastOnce, 0) });
    (1..=2).for_each(|seq| machine.commit(seq));
    assert_eq!(machine.rows(), [sent(1, 1)]);
    machine.receive(In::PingReq);
    assert!(matches!(machine.written()[..], [Out::PingResp]));
    machine.publish(Qos::AtLeastOnce, 7);
    let command = machine.commands().remove(0);
    machine.session.command_done(&command, done());
    assert!(matches!(machine.written()[..], [Out::PubAck(id, Reason::Success, _)] if id == packet(7)));
    assert_eq!(subscribe_to(&mut machine, &[("#", Qos::AtLeastOnce)]), [Reason::GrantedQos1]);
    assert_eq!(machine.rows(), [], "the window is still full");
    machine.acknowledge(1);
    assert_eq!(machine.rows(), [sent(2, 2)]);
}

/// `[MQTT-4.4.0-2]`: nor is it sent again when the session returns.
#[test]
fn a_publication_that_the_client_refuses_is_acknowledged() {
    let mut machine = Machine::new(Start { window: 1, ..following(Qos::AtLeastOnce, 0) });
    (1..=2).for_each(|seq| machine.commit(seq));
    assert_eq!(machine.rows(), [sent(1, 1)]);
    machine.receive(In::PubAck(packet(1), Reason::UnspecifiedError));
    assert_eq!((machine.cursor(stream(1)), machine.rows()), (Some(1), vec![sent(2, 2)]));
}

/// `[MQTT-4.3.2-3]`: only its own PUBACK acknowledges it.
#[test]
fn an_acknowledgement_of_nothing_changes_nothing() {
    let mut machine = Machine::new(Start { window: 1, ..following(Qos::AtLeastOnce, 0) });
    (1..=2).for_each(|seq| machine.commit(seq));
    machine.rows();
    for id in [2, 77, u16::MAX] {
        machine.acknowledge(id);
        assert_eq!((machine.cursor(stream(1)), machine.rows(), machine.closed()), (Some(0), vec![], None));
    }
}

/// `[MQTT-4.3.2-4]`, `[MQTT-4.3.2-5]`: after its PUBACK an identifier is of a new message, DUP or not.
#[test]
fn an_identifier_is_free_again_after_its_puback() {
    let mut machine = Machine::new(start());
    for _ in 0..2 {
        machine.publish(Qos::AtLeastOnce, 5);
        let commands = machine.commands();
        assert_eq!(commands.len(), 1);
        machine.session.command_done(&commands[0], done());
        assert!(matches!(machine.written()[..], [Out::PubAck(id, Reason::Success, _)] if id == packet(5)));
    }
}

/// `[MQTT-3.8.4-5]` to `[MQTT-3.8.4-7]`, `[MQTT-3.9.3-1]`, `[MQTT-3.9.3-2]`.
#[test]
fn a_subscribe_of_several_filters_is_several_and_has_one_answer() {
    let mut machine = Machine::new(start());
    let reasons = subscribe_to(
        &mut machine,
        &[
            ("$SYS/#", Qos::AtMostOnce),
            (CHATS, Qos::AtLeastOnce),
            ("nowhere", Qos::AtLeastOnce),
            (CHATS, Qos::AtMostOnce),
        ],
    );
    let refused = Reason::TopicFilterInvalid;
    assert_eq!(reasons, [refused, Reason::GrantedQos1, refused, Reason::Success]);
    machine.session.handle_joined(chat(1), 1);
    machine.commit(1);
    assert_eq!(machine.rows(), [Sent { seq: 1, packet: None, dup: false }], "the last one counts");
}

/// `[MQTT-3.8.4-3]`: one copy, with the options of the newer.
#[test]
fn the_same_filter_again_replaces_the_subscription() {
    let mut machine = Machine::new(following(Qos::AtLeastOnce, 0));
    machine.commit(1);
    assert_eq!(machine.rows(), [sent(1, 1)]);
    assert_eq!(subscribe_to(&mut machine, &[(CHATS, Qos::AtMostOnce)]), [Reason::Success]);
    machine.commit(2);
    assert_eq!(machine.rows(), [Sent { seq: 2, packet: None, dup: false }]);
    assert_eq!(unsubscribe_from(&mut machine, &[CHATS]), [Reason::Success], "there is one");
    assert_eq!(unsubscribe_from(&mut machine, &[CHATS]), [Reason::NoSubscriptionExisted]);
}

/// `[MQTT-3.10.4-1]`, `[MQTT-3.10.4-4]` to `[MQTT-3.10.4-6]`, `[MQTT-3.11.3-1]`, `[MQTT-3.11.3-2]`.
#[test]
fn an_unsubscribe_compares_character_by_character_and_has_one_answer_for_each_filter() {
    let mut machine = Machine::new(following(Qos::AtLeastOnce, 0));
    let none = Reason::NoSubscriptionExisted;
    let one = topic::messages_topic(chat(1));
    let others = ["#", "chats/#", "chats/+/message", "chats/+/messages/", "Chats/+/messages", &one];
    assert_eq!(unsubscribe_from(&mut machine, &others), [none; 6]);
    machine.commit(1);
    assert_eq!(machine.rows(), [sent(1, 1)], "what was not named stays");
    assert_eq!(unsubscribe_from(&mut machine, &["#", CHATS, CHATS]), [none, Reason::Success, none]);
    machine.commit(2);
    assert_eq!(machine.rows(), []);
}
