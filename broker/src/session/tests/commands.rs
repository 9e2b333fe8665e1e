//! PUBLISH, and what acknowledges it.

use super::*;

fn acknowledgements(machine: &mut Machine) -> Vec<(u16, Reason)> {
    let acknowledgement = |out| match out {
        Out::PubAck(id, reason, _) | Out::PubRec(id, reason, _) | Out::PubComp(id, reason) => {
            Some((id.get(), reason))
        }
        _ => None,
    };
    machine.written().into_iter().filter_map(acknowledgement).collect()
}

#[test]
fn a_command_is_acknowledged_when_it_is_done_and_not_before() {
    let mut machine = Machine::new(start());
    machine.publish(Qos::AtLeastOnce, 7);
    let commands = machine.commands();
    machine.pass(Duration::from_hours(1));
    assert_eq!(acknowledgements(&mut machine), []);
    machine.session.command_done(&commands[0], done());
    assert_eq!(acknowledgements(&mut machine), [(7, Reason::Success)]);
}

#[test]
fn commands_are_handed_out_and_acknowledged_in_the_order_they_came() {
    let mut machine = Machine::new(start());
    machine.publish(Qos::ExactlyOnce, 3);
    machine.publish(Qos::AtLeastOnce, 1);
    machine.publish(Qos::AtMostOnce, 0);
    machine.publish(Qos::AtLeastOnce, 2);
    let commands = machine.commands();
    let handed_out: Vec<_> = commands.iter().map(|command| command.packet_id.map(PacketId::get)).collect();
    assert_eq!(handed_out, [Some(3), Some(1), None, Some(2)]);
    for command in &commands {
        machine.session.command_done(command, done());
    }
    let success = |id| (id, Reason::Success);
    assert_eq!(acknowledgements(&mut machine), [3, 1, 2].map(success));
}

#[test]
fn the_acknowledgement_tells_what_was_stored() {
    let mut machine = Machine::new(start());
    machine.publish(Qos::AtLeastOnce, 1);
    let command = machine.commands().remove(0);
    let properties = vec![("seq".to_owned(), "5".to_owned())];
    machine.session.command_done(&command, Outcome::Done { properties: properties.clone(), recorded: false });
    let written = machine.written();
    let [Out::PubAck(_, Reason::Success, told)] = &written[..] else { panic!("{written:?}") };
    assert_eq!(told.user_properties, properties);
}

#[test]
fn a_refusal_is_told_by_the_acknowledgement_in_5_and_by_an_event_in_3_1_1() {
    for version in [Version::V5, Version::V3] {
        let mut machine = Machine::new(Start { version, ..start() });
        machine.publish(Qos::AtLeastOnce, 1);
        let command = machine.commands().remove(0);
        machine.session.command_done(&command, refused());
        let written = machine.written();
        let [Out::PubAck(_, Reason::NotAuthorized, told)] = &written[..] else { panic!("{written:?}") };
        assert_eq!(told.reason_string.as_deref(), Some("not-member: gone"));
        let failure = machine.session.poll_failure();
        assert_eq!(
            failure.and_then(|failure| failure.packet_id),
            (version == Version::V3).then(|| packet(1))
        );
    }
}

#[test]
fn a_refusal_at_qos_0_becomes_an_event_for_those_who_subscribed() {
    let errors = topic::errors_topic(me());
    let filters = filters(&[(&errors, Qos::AtMostOnce)]);
    for (filters, told) in [(filters, 1), (String::new(), 0)] {
        let mut machine = Machine::new(Start { filters, ..start() });
        machine.publish(Qos::AtMostOnce, 0);
        let command = machine.commands().remove(0);
        machine.session.command_done(&command, refused());
        assert_eq!(machine.session.poll_failure().map(|failure| failure.code), Some(ErrorCode::NotMember));
        machine.session.handle_failure_event(|| Bytes::from_static(b"{}"));
        let written = machine.written();
        assert_eq!(written.len(), told);
        assert!(written.iter().all(|out| matches!(out, Out::Publish(publish) if publish.topic == errors)));
    }
}

#[test]
fn a_failure_that_may_pass_ends_the_connection_and_nothing_is_acknowledged_after_it() {
    let mut machine = Machine::new(start());
    machine.publish(Qos::AtLeastOnce, 1);
    machine.publish(Qos::AtLeastOnce, 2);
    let commands = machine.commands();
    machine.session.command_done(&commands[0], Outcome::TryLater);
    machine.session.command_done(&commands[1], done());
    let written = machine.written();
    assert!(matches!(written[..], [Out::Disconnect(Reason::ServerBusy, _)]), "{written:?}");
    assert_eq!(machine.closed(), Some(Reason::ServerBusy));
}

#[test]
fn so_many_commands_may_wait_and_then_nothing_is_read() {
    for (version, qos) in [
        (Version::V3, Qos::AtMostOnce),
        (Version::V3, Qos::AtLeastOnce),
        (Version::V3, Qos::ExactlyOnce),
        (Version::V5, Qos::AtMostOnce),
    ] {
        let mut machine = Machine::new(Start { version, ..start() });
        for id in 1..=MAX_COMMANDS {
            assert!(machine.session.wants_input());
            machine.publish(qos, id);
        }
        assert!(!machine.session.wants_input(), "{version:?} {qos:?}");
        let commands = machine.commands();
        machine.session.command_done(&commands[0], done());
        assert!(machine.session.wants_input());
    }
}

#[test]
fn more_publications_than_receive_maximum_end_the_connection_in_5() {
    for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
        let mut machine = Machine::new(start());
        (1..=MAX_COMMANDS).for_each(|id| machine.publish(qos, id));
        assert!(machine.session.wants_input(), "acknowledgements and PINGREQ go on [MQTT-3.3.4-8]");
        machine.publish(qos, MAX_COMMANDS + 1);
        assert!(matches!(machine.written()[..], [Out::Disconnect(Reason::ReceiveMaximumExceeded, _)]));
        let handed_out = machine.commands().len();
        assert_eq!(handed_out, usize::from(MAX_COMMANDS), "those before it");
    }
}

#[test]
fn a_publication_counts_until_its_last_acknowledgement() {
    let full = || {
        let mut machine = Machine::new(start());
        machine.publish(Qos::AtLeastOnce, 1);
        (2..=MAX_COMMANDS).for_each(|id| machine.publish(Qos::ExactlyOnce, id));
        let commands = machine.commands();
        (machine, commands)
    };
    let takes_one_more = |mut machine: Machine| {
        machine.publish(Qos::AtLeastOnce, 100);
        machine.closed().is_none()
    };
    let (mut machine, commands) = full();
    machine.session.command_done(&commands[0], done());
    assert!(takes_one_more(machine), "PUBACK");

    let (mut machine, commands) = full();
    machine.session.command_done(&commands[1], done());
    assert!(!takes_one_more(machine), "PUBREC is not the last");

    let (mut machine, commands) = full();
    machine.session.command_done(&commands[1], refused());
    assert!(takes_one_more(machine), "PUBREC with a refusal is");

    let (mut machine, commands) = full();
    machine.session.command_done(&commands[1], done());
    machine.publish(Qos::ExactlyOnce, 2);
    machine.receive(In::PubRel(packet(2), Reason::Success));
    assert!(takes_one_more(machine), "PUBCOMP; one sent again counts once");
}

#[test]
fn what_an_earlier_connection_left_open_does_not_count() {
    let received = (1..=MAX_COMMANDS).map(packet).collect();
    let parked = Parked { received, ..Parked::default() };
    let mut machine = Machine::new(Start { parked, ..start() });
    (1..=MAX_COMMANDS).for_each(|id| machine.publish(Qos::AtLeastOnce, 100 + id));
    assert_eq!(machine.closed(), None);
}

#[test]
fn a_command_may_name_its_topic_by_an_alias() {
    let mut machine = Machine::new(start());
    let mut publish = |topic: &str, alias| {
        machine.receive(In::Publish(Box::new(Publish {
            topic: topic.into(),
            payload: Bytes::from_static(b"{}"),
            qos: Qos::AtMostOnce,
            dup: false,
            retain: false,
            packet_id: None,
            properties: PublishProperties { topic_alias: Some(alias), ..PublishProperties::default() },
        })));
    };
    publish("chats/1/send", 3);
    publish("", 3);
    publish("", 4);
    let topics: Vec<_> = machine.commands().into_iter().map(|command| command.topic).collect();
    assert_eq!(topics, ["chats/1/send"; 2]);
    assert!(matches!(machine.written()[..], [Out::Disconnect(Reason::ProtocolError, _)]));
}

#[test]
fn a_client_that_does_not_take_its_answers_is_not_read() {
    let mut machine = Machine::new(start());
    for _ in 0..MAX_OUT {
        assert!(machine.session.wants_input());
        machine.receive(In::PingReq);
    }
    assert!(!machine.session.wants_input());
    assert!(matches!(machine.session.poll_transmit(machine.now), Some(Out::PingResp)));
    assert!(machine.session.wants_input());
}

#[test]
fn a_qos_2_command_sent_again_has_one_effect_until_it_is_released() {
    let mut machine = Machine::new(start());
    machine.publish(Qos::ExactlyOnce, 5);
    machine.publish(Qos::ExactlyOnce, 5);
    let commands = machine.commands();
    assert_eq!((commands.len(), acknowledgements(&mut machine)), (1, vec![]), "still under way");
    machine.session.command_done(&commands[0], done());
    machine.publish(Qos::ExactlyOnce, 5);
    assert_eq!(machine.commands(), []);
    assert_eq!(acknowledgements(&mut machine), [(5, Reason::Success); 2]);

    machine.receive(In::PubRel(packet(5), Reason::Success));
    machine.receive(In::PubRel(packet(5), Reason::Success));
    let released = [(5, Reason::Success), (5, Reason::PacketIdentifierNotFound)];
    assert_eq!(acknowledgements(&mut machine), released);
    machine.publish(Qos::ExactlyOnce, 5);
    assert_eq!(machine.commands().len(), 1, "a new command");
}

#[test]
fn a_qos_2_command_is_known_again_when_the_session_returns() {
    let mut machine = Machine::new(start());
    machine.publish(Qos::ExactlyOnce, 5);
    machine.publish(Qos::ExactlyOnce, 6);
    machine.publish(Qos::ExactlyOnce, 7);
    let commands = machine.commands();
    machine.session.command_done(&commands[0], done());
    machine.receive(In::Disconnect { reason: Reason::Success, session_expiry: None });
    machine.session.command_done(&commands[1], done());
    assert_eq!(acknowledgements(&mut machine), [(5, Reason::Success)], "nothing more after its DISCONNECT");

    let mut machine =
        Machine::new(Start { parked: machine.session.park(curlew_domain::clock::Timestamp(0)), ..start() });
    for id in 5..=7 {
        machine.publish(Qos::ExactlyOnce, id);
    }
    assert_eq!(acknowledgements(&mut machine), [(5, Reason::Success), (6, Reason::Success)]);
    let again: Vec<_> = machine.commands().iter().filter_map(|command| command.packet_id).collect();
    assert_eq!(again, [packet(7)], "it was not known to be stored");
}

#[test]
fn a_refused_qos_2_command_is_over_in_5_and_awaits_its_release_in_3_1_1() {
    for (version, again) in [(Version::V5, 1), (Version::V3, 0)] {
        let mut machine = Machine::new(Start { version, ..start() });
        machine.publish(Qos::ExactlyOnce, 5);
        let command = machine.commands().remove(0);
        machine.session.command_done(&command, refused());
        machine.publish(Qos::ExactlyOnce, 5);
        assert_eq!(machine.commands().len(), again);
    }
}

#[test]
fn a_release_before_the_acknowledgement_releases_nothing() {
    let mut machine = Machine::new(start());
    machine.publish(Qos::ExactlyOnce, 5);
    let command = machine.commands().remove(0);
    machine.receive(In::PubRel(packet(5), Reason::Success));
    machine.session.command_done(&command, done());
    assert_eq!(acknowledgements(&mut machine), [(5, Reason::PacketIdentifierNotFound), (5, Reason::Success)]);
    machine.receive(In::PubRel(packet(5), Reason::Success));
    assert_eq!(acknowledgements(&mut machine), [(5, Reason::Success)]);
}

#[test]
fn commands_that_are_never_released_end_the_connection() {
    let mut machine = Machine::new(Start { version: Version::V3, ..start() });
    for id in 1..=MAX_RECEIVED as u16 {
        machine.publish(Qos::ExactlyOnce, id);
        let command = machine.commands().remove(0);
        machine.session.command_done(&command, done());
        machine.written();
    }
    machine.publish(Qos::ExactlyOnce, MAX_RECEIVED as u16 + 1);
    assert_eq!(machine.closed(), Some(Reason::QuotaExceeded));
}
