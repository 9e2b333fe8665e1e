//! AUTH.

use super::*;

fn auth(reason: Reason, method: &str, data: &'static [u8]) -> In {
    let data = (!data.is_empty()).then(|| Bytes::from_static(data));
    In::Auth { reason, method: method.into(), data }
}

/// A session whose CONNECT named the method.
fn machine() -> Machine {
    Machine::new(Start { named_method: true, keep_alive: 10, ..start() })
}

#[test]
fn nothing_is_read_until_a_token_is_checked() {
    let mut machine = machine();
    machine.receive(auth(Reason::ReAuthenticate, TOKEN_METHOD, b"secret"));
    assert_eq!(machine.actions(), [Action::Authenticate("secret".into())]);
    assert!(!machine.session.wants_input());
    machine.pass(Duration::from_secs(15));
    assert_eq!(machine.closed(), None, "the silence is not the client's");
    machine.session.authenticated(true);
    let written = machine.written();
    let [Out::Auth { reason: Reason::Success, method }] = &written[..] else { panic!("{written:?}") };
    assert_eq!(method, TOKEN_METHOD);
    assert!(machine.session.wants_input());
    machine.receive(auth(Reason::ReAuthenticate, TOKEN_METHOD, b"another"));
    assert_eq!(machine.actions(), [Action::Authenticate("another".into())]);
}

#[test]
fn a_refused_token_ends_the_connection() {
    // [MQTT-4.12.1-2]
    let mut machine = machine();
    machine.receive(auth(Reason::ReAuthenticate, TOKEN_METHOD, b"secret"));
    machine.session.authenticated(false);
    assert!(matches!(machine.written()[..], [Out::Disconnect(Reason::NotAuthorized, _)]));
}

#[test]
fn a_token_accepted_after_the_end_says_nothing() {
    let mut machine = machine();
    machine.receive(auth(Reason::ReAuthenticate, TOKEN_METHOD, b"secret"));
    machine.session.close(Reason::NotAuthorized, "the login was ended");
    machine.session.authenticated(true);
    assert!(matches!(machine.written()[..], [Out::Disconnect(Reason::NotAuthorized, _)]));
}

#[test]
fn what_is_no_re_authentication_ends_the_connection() {
    let cases = [
        (true, auth(Reason::ContinueAuthentication, TOKEN_METHOD, b"t"), Reason::ProtocolError),
        (true, auth(Reason::ReAuthenticate, "other", b"t"), Reason::ProtocolError),
        (false, auth(Reason::ReAuthenticate, TOKEN_METHOD, b"t"), Reason::ProtocolError),
        (true, auth(Reason::ReAuthenticate, TOKEN_METHOD, b""), Reason::NotAuthorized),
        (true, auth(Reason::ReAuthenticate, TOKEN_METHOD, b"\xFF"), Reason::NotAuthorized),
    ];
    for (named_method, packet, reason) in cases {
        let mut machine = Machine::new(Start { named_method, ..start() });
        machine.receive(packet);
        assert_eq!(machine.actions(), [Action::Close(reason)]);
    }
}
