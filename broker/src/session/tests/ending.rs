//! How connections end.

use super::*;

fn disconnect(machine: &mut Machine, session_expiry: Option<u32>) {
    machine.receive(In::Disconnect { reason: Reason::Success, session_expiry });
}

#[test]
fn disconnect_may_change_how_long_the_session_lasts() {
    for (wish, expiry) in [(None, 3600), (Some(0), 0), (Some(60), 60), (Some(u32::MAX), MAX_EXPIRY_SECS)] {
        let mut machine = Machine::new(start());
        disconnect(&mut machine, wish);
        assert_eq!((machine.closed(), machine.session.expiry_secs()), (Some(Reason::Success), expiry));
        assert!(machine.written().is_empty(), "it is not answered");
    }
}

#[test]
fn disconnect_cannot_keep_a_session_that_was_to_end() {
    let mut machine = Machine::new(Start { expiry_secs: 0, ..start() });
    disconnect(&mut machine, Some(60));
    assert_eq!((machine.closed(), machine.session.expiry_secs()), (Some(Reason::ProtocolError), 0));
    let mut machine = Machine::new(Start { expiry_secs: 0, ..start() });
    disconnect(&mut machine, Some(0));
    assert_eq!(machine.closed(), Some(Reason::Success));
}

#[test]
fn only_a_normal_disconnect_takes_the_will_back() {
    // [MQTT-3.14.4-3]; of 3.1.1 the wire layer makes reason 0x00.
    for (reason, taken_back) in
        [(Reason::Success, true), (Reason::DisconnectWithWill, false), (Reason::UnspecifiedError, false)]
    {
        let mut machine = Machine::new(start());
        machine.receive(In::Disconnect { reason, session_expiry: None });
        assert_eq!(
            (machine.closed(), machine.session.will_taken_back()),
            (Some(Reason::Success), taken_back)
        );
    }
    let mut machine = Machine::new(Start { expiry_secs: 0, ..start() });
    disconnect(&mut machine, Some(60));
    assert!(!machine.session.will_taken_back(), "it was none");
    let mut machine = Machine::new(start());
    machine.session.close(Reason::SessionTakenOver, "a newer one");
    disconnect(&mut machine, None);
    assert!(!machine.session.will_taken_back(), "it came too late");
}

#[test]
fn what_the_client_may_not_send_ends_the_connection() {
    let alias = Publish {
        topic: "chats".into(),
        payload: Bytes::new(),
        qos: Qos::AtMostOnce,
        dup: false,
        retain: false,
        packet_id: None,
        properties: PublishProperties {
            topic_alias: Some(alias::MAX_INBOUND + 1),
            ..PublishProperties::default()
        },
    };
    let auth = In::Auth { reason: Reason::ReAuthenticate, method: "token".into(), data: None };
    let cases = [
        (In::PubRec(packet(1), Reason::Success), Reason::ProtocolError),
        (In::PubComp(packet(1), Reason::Success), Reason::ProtocolError),
        (In::Publish(Box::new(alias)), Reason::TopicAliasInvalid),
        (auth, Reason::ProtocolError),
    ];
    for (packet, reason) in cases {
        let mut machine = Machine::new(following(Qos::AtLeastOnce, 0));
        machine.commit(1);
        assert_eq!(machine.rows(), [sent(1, 1)]);
        machine.receive(packet);
        assert!(matches!(machine.written()[..], [Out::Disconnect(told, _)] if told == reason));
        assert_eq!(machine.closed(), Some(reason));
    }
}

#[test]
fn after_the_end_no_row_is_sent_and_no_packet_is_heard() {
    let mut machine = Machine::new(following(Qos::AtLeastOnce, 0));
    machine.commit(1);
    machine.receive(In::PingReq);
    machine.session.close(Reason::SessionTakenOver, "a newer one");
    machine.session.close(Reason::ServerShuttingDown, "another reason");
    machine.commit(2);
    machine.session.handle_typing(chat(1), || panic!("nobody gets it"));
    let written = machine.written();
    assert!(
        matches!(written[..], [Out::PingResp, Out::Disconnect(Reason::SessionTakenOver, _)]),
        "{written:?}"
    );
    assert!(!machine.session.wants_input());
    machine.publish(Qos::AtLeastOnce, 1);
    assert_eq!(machine.actions(), [Action::Close(Reason::SessionTakenOver)]);
    assert_eq!(machine.session.poll_timeout(), None);
}

#[test]
fn commands_that_came_before_the_disconnect_are_handed_out() {
    let mut machine = Machine::new(start());
    machine.publish(Qos::AtMostOnce, 0);
    disconnect(&mut machine, None);
    let actions = machine.actions();
    assert!(matches!(actions[..], [Action::Command(_), Action::Close(Reason::Success)]), "{actions:?}");
}
