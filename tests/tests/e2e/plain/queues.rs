//! What waits for sessions that are away, and exchanges that outlive connections and the server.

use super::{body, connect, lasting, subscriber};
use curlew_tests::{
    Actor, Protocol, RawClient, both_engines,
    mqtt::raw::{Answer, Connect, Packet},
};

/// A session that lasts, of either version.
fn kept(protocol: Protocol, client_id: &str) -> Connect {
    match protocol {
        Protocol::V3 => Connect { expiry: None, ..lasting(client_id) },
        Protocol::V5 => lasting(client_id),
    }
}

async fn subscribed(alice: &Actor, protocol: Protocol, qos: u8) -> RawClient {
    let (mut raw, present) = alice.raw_session(protocol, kept(protocol, "away")).await;
    assert!(!present);
    raw.subscribe(&[("#", qos)]).await;
    raw
}

async fn back(alice: &Actor, protocol: Protocol) -> RawClient {
    let (raw, present) = alice.raw_session(protocol, kept(protocol, "away")).await;
    assert!(present);
    raw
}

both_engines! {
    /// [MQTT-4.5.0-1], [MQTT-4.4.0-1]
    async fn what_was_published_meanwhile_waits(server) {
        let alice = server.user("alice").await;
        for protocol in [Protocol::V3, Protocol::V5] {
            subscribed(&alice, protocol, 2).await.disconnect().await;
            let mut publisher = connect(&alice, "publisher").await;
            for qos in [0, 1, 2, 1] {
                publisher.publish_to_the_end("a", format!("at {qos}").as_bytes(), qos).await;
            }
            server.kill_and_restart().await;
            let mut raw = back(&alice, protocol).await;
            for expected in ["at 1", "at 2", "at 1"] {
                let publication = raw.take_publication().await;
                assert_eq!((body(&publication), publication.dup), (expected, false));
            }
            raw.expect_quiet().await;
            raw.disconnect().await;
            let mut raw = back(&alice, protocol).await;
            raw.expect_quiet().await;
            raw.disconnect().await;
            // Clean Session ends it.
            alice.raw(protocol, Connect { clean: true, expiry: None, ..kept(protocol, "away") }).await.disconnect().await;
        }
    }

    /// [MQTT-4.4.0-1]: what is in flight goes out again, in its order, with its packet identifier.
    async fn what_is_in_flight_survives_connections_and_the_server(server) {
        let alice = server.user("alice").await;
        let mut raw = subscribed(&alice, Protocol::V5, 2).await;
        let mut publisher = connect(&alice, "publisher").await;
        for (payload, qos) in [("one", 1), ("two", 2), ("three", 2), ("four", 1)] {
            publisher.publish_to_the_end("a", payload.as_bytes(), qos).await;
        }
        let mut sent = Vec::new();
        for _ in 0..4 {
            sent.push(raw.publication().await);
        }
        raw.answer(Answer::Receive, sent[2].id).await;
        assert_eq!(raw.read().await, Some(Packet::PubRel { id: sent[2].id, reason: 0 }));
        raw.acknowledge(sent[3].id).await;
        raw.expect_quiet().await;
        // The connection breaks.
        drop(raw);
        let mut raw = back(&alice, Protocol::V5).await;
        let check = async |raw: &mut RawClient, dup: Option<bool>| {
            for earlier in &sent[..2] {
                let publication = raw.publication().await;
                assert_eq!((&publication.payload, publication.id), (&earlier.payload, earlier.id));
                assert!(dup.is_none_or(|dup| publication.dup == dup));
            }
            assert_eq!(raw.read().await, Some(Packet::PubRel { id: sent[2].id, reason: 0 }));
            raw.expect_quiet().await;
        };
        check(&mut raw, Some(true)).await;
        // The server dies; what was sent before that is known since the last connection's end.
        server.kill_and_restart().await;
        let mut raw = back(&alice, Protocol::V5).await;
        check(&mut raw, Some(true)).await;
        raw.answer(Answer::Complete, sent[2].id).await;
        raw.acknowledge(sent[0].id).await;
        raw.answer(Answer::Receive, sent[1].id).await;
        assert_eq!(raw.read().await, Some(Packet::PubRel { id: sent[1].id, reason: 0 }));
        raw.answer(Answer::Complete, sent[1].id).await;
        raw.disconnect().await;
        back(&alice, Protocol::V5).await.expect_quiet().await;
    }

    /// Promise 1 in the plain lane: after PUBACK it is there.
    async fn what_was_acknowledged_survives_a_crash(server) {
        let alice = server.user("alice").await;
        let _connected = subscribed(&alice, Protocol::V5, 1).await;
        let mut publisher = connect(&alice, "publisher").await;
        for number in 1..=20 {
            publisher.publish_to_the_end("a", number.to_string().as_bytes(), 1).await;
        }
        server.kill_and_restart().await;
        let mut raw = back(&alice, Protocol::V5).await;
        for number in 1..=20 {
            let publication = raw.take_publication().await;
            assert_eq!(body(&publication), number.to_string());
            assert!(publication.dup, "[MQTT-3.3.1-1]: it may have been sent before");
        }
    }

    /// Exactly once, though the server dies between PUBREC and PUBREL, and again before PUBCOMP.
    async fn a_publisher_at_qos_2_goes_on_after_a_crash(server) {
        let alice = server.user("alice").await;
        let mut away = subscribed(&alice, Protocol::V5, 2).await;
        let mut publisher = alice.raw(Protocol::V5, lasting("publisher")).await;
        publisher.publish("a", b"once", 2, 9).await;
        assert_eq!(publisher.read().await, Some(Packet::PubRec { id: 9, reason: 0 }));
        away.publication().await;
        server.kill_and_restart().await;
        let (mut publisher, present) = alice.raw_session(Protocol::V5, lasting("publisher")).await;
        assert!(present);
        let again = publisher.encode_publish("a", b"once", 2, 9, true);
        publisher.write(&again).await;
        assert_eq!(publisher.read().await, Some(Packet::PubRec { id: 9, reason: 0 }));
        publisher.answer(Answer::Release, 9).await;
        assert_eq!(publisher.read().await, Some(Packet::PubComp { id: 9, reason: 0 }));
        server.kill_and_restart().await;
        let mut publisher = alice.raw(Protocol::V5, lasting("publisher")).await;
        publisher.publish("a", b"twice", 2, 9).await;
        assert_eq!(publisher.read().await, Some(Packet::PubRec { id: 9, reason: 0 }));
        let mut raw = back(&alice, Protocol::V5).await;
        assert_eq!(body(&raw.take_publication().await), "once");
        assert_eq!(body(&raw.take_publication().await), "twice");
        raw.expect_quiet().await;
    }

    /// [MQTT-3.3.2-5], [MQTT-3.3.2-6]
    async fn what_waits_expires(server) {
        let alice = server.user("alice").await;
        subscribed(&alice, Protocol::V5, 1).await.disconnect().await;
        let mut publisher = connect(&alice, "publisher").await;
        for (payload, secs) in [("short", 1u32), ("long", 100)] {
            let properties = [&[0x02][..], &secs.to_be_bytes()].concat();
            publisher.publish_with(&properties, "a", payload.as_bytes(), 7).await;
            assert_eq!(publisher.puback(7).await.0, 0);
        }
        tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
        let mut raw = back(&alice, Protocol::V5).await;
        let publication = raw.take_publication().await;
        assert_eq!(body(&publication), "long");
        assert!((90..=99).contains(&publication.properties.message_expiry.unwrap()));
        raw.expect_quiet().await;
    }

    async fn of_too_many_the_newest_wait(server) {
        let alice = server.user("alice").await;
        subscribed(&alice, Protocol::V5, 1).await.disconnect().await;
        let mut publisher = connect(&alice, "publisher").await;
        let payload = vec![b'x'; 60 * 1024];
        for number in 1..=20u8 {
            let payload = [&payload[..], &[number]].concat();
            publisher.publish_to_the_end("a", &payload, 1).await;
        }
        let mut raw = back(&alice, Protocol::V5).await;
        let mut got = vec![*raw.take_publication().await.payload.last().unwrap()];
        while got.last() != Some(&20) {
            got.push(*raw.take_publication().await.payload.last().unwrap());
        }
        // 17 of them are 1 MiB.
        assert_eq!(got, (4..=20).collect::<Vec<_>>());
    }

    async fn a_session_that_ended_has_nothing_waiting(server) {
        let alice = server.user("alice").await;
        let brief = Connect { expiry: Some(1), ..lasting("brief") };
        let mut raw = alice.raw(Protocol::V5, brief.clone()).await;
        raw.subscribe(&[("#", 1)]).await;
        raw.disconnect().await;
        connect(&alice, "publisher").await.publish_to_the_end("a", b"x", 1).await;
        tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
        let (mut raw, present) = alice.raw_session(Protocol::V5, brief).await;
        assert!(!present);
        raw.expect_quiet().await;
    }

    async fn a_failure_that_may_pass_is_not_acknowledged(server) {
        let alice = server.user("alice").await;
        subscribed(&alice, Protocol::V5, 1).await.disconnect().await;
        let mut live = subscriber(&alice, Protocol::V5, &[("#", 0)]).await;
        let mut publisher = connect(&alice, "publisher").await;
        let held = server.db_hold_commits().await;
        publisher.publish("a", b"x", 1, 3).await;
        publisher.expect_quiet().await;
        live.expect_quiet().await;
        held.release().await;
        assert_eq!(publisher.puback(3).await.0, 0);
        assert_eq!(body(&live.publication().await), "x");
    }
}
