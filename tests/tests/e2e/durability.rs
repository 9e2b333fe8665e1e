//! Promise 1: an acknowledgement leaves the server only after the commit. Promise 9: a failure that may pass is never
//! acknowledged. Promise 4 across crashes.

mod crash;

use crate::{QUIET, send_topic, text};
use curlew_tests::{
    Actor, Chat, Protocol, RawClient, TestServer, both_engines, json,
    mqtt::raw::{Connect, Packet},
};
use std::pin::pin;
use tokio::task::JoinSet;

/// Alice, the chat with Bob, and a connection of hers made by hand. Nobody else is connected, so nothing else commits.
async fn alice_at_the_wire(server: &TestServer, protocol: Protocol) -> (Actor, Chat, RawClient) {
    let [alice, bob] = server.contacts(["alice", "bob"]).await;
    let chat = alice.private_chat(&bob).await;
    let raw = alice.raw(protocol, Connect::default()).await;
    (alice, chat, raw)
}

/// The server has read what was sent before, is alive, and answers none of it.
async fn assert_unanswered(raw: &mut RawClient) {
    raw.ping().await;
    assert_eq!(raw.read().await, Some(Packet::PingResp));
    let answer = raw.read_for(QUIET).await;
    assert!(answer.is_err(), "answered before the commit: {answer:?}");
}

both_engines! {
    async fn a_puback_waits_for_the_commit(server) {
        let (alice, chat, mut raw) = alice_at_the_wire(&server, Protocol::V5).await;
        let held = server.db_hold_commits().await;
        raw.publish(&send_topic(&chat), &text("hello", "1"), 1, 7).await;
        assert_unanswered(&mut raw).await;
        assert_eq!(alice.texts(&chat).await, [""; 0]);

        held.release().await;
        let (reason, properties) = raw.puback(7).await;
        assert_eq!(reason, 0, "{properties:?}");
        let events = alice.events(&chat).await;
        assert_eq!(events.len(), 1);
        assert_eq!(properties.user("messageId"), events[0]["id"].as_str());
        assert_eq!(properties.user("seq"), Some("1"));
    }

    async fn a_puback_of_mqtt_3_waits_for_the_commit(server) {
        let (alice, chat, mut raw) = alice_at_the_wire(&server, Protocol::V3).await;
        let held = server.db_hold_commits().await;
        raw.publish(&send_topic(&chat), &text("hello", "1"), 1, 7).await;
        assert_unanswered(&mut raw).await;

        held.release().await;
        raw.puback(7).await;
        assert_eq!(alice.texts(&chat).await, ["hello"]);
    }

    async fn a_pubrec_waits_for_the_commit(server) {
        let (alice, chat, mut raw) = alice_at_the_wire(&server, Protocol::V5).await;
        let held = server.db_hold_commits().await;
        raw.publish(&send_topic(&chat), &text("hello", "1"), 2, 7).await;
        assert_unanswered(&mut raw).await;

        held.release().await;
        assert_eq!(raw.read().await, Some(Packet::PubRec { id: 7, reason: 0 }));
        assert_eq!(alice.texts(&chat).await, ["hello"]);
    }

    async fn a_201_waits_for_the_commit(server) {
        let (alice, chat, _raw) = alice_at_the_wire(&server, Protocol::V5).await;
        let held = server.db_hold_commits().await;
        let path = format!("/chats/{chat}/messages");
        let mut post = pin!(alice.http.post(&path, json!({ "type": "TEXT", "text": "hello" })));
        let early = tokio::time::timeout(QUIET, &mut post).await;
        assert!(early.is_err(), "answered before the commit: {early:?}");

        held.release().await;
        post.await.expect(201);
        assert_eq!(alice.texts(&chat).await, ["hello"]);
    }

    async fn a_registration_waits_for_the_commit(server) {
        let held = server.db_hold_commits().await;
        let anonymous = server.anonymous();
        let body = json!({ "username": "carol", "password": "correct horse", "displayName": "Carol" });
        let mut post = pin!(anonymous.post("/auth/register", body));
        let early = tokio::time::timeout(QUIET, &mut post).await;
        assert!(early.is_err(), "answered before the commit: {early:?}");

        held.release().await;
        post.await.expect(201);
    }

    async fn who_sends_faster_than_it_can_be_stored_waits_and_loses_nothing(server) {
        let (alice, chat, mut raw) = alice_at_the_wire(&server, Protocol::V3).await;
        let held = server.db_hold_commits().await;
        for number in 1..=200 {
            raw.publish(&send_topic(&chat), &text(&number.to_string(), &number.to_string()), 1, number).await;
        }
        // The server takes in a bounded number of commands; then it stops reading, so not even a ping is answered.
        raw.ping().await;
        let answer = raw.read_for(QUIET).await;
        assert!(answer.is_err(), "{answer:?}");
        held.release().await;
        let mut acknowledged = Vec::new();
        while acknowledged.len() < 200 {
            match raw.read().await {
                Some(Packet::PubAck { id, .. }) => acknowledged.push(id),
                Some(Packet::PingResp) => {}
                other => panic!("instead of PUBACK: {other:?}"),
            }
        }
        assert_eq!(acknowledged, (1..=200).collect::<Vec<_>>(), "in their order");
        let expected: Vec<_> = (1..=200).map(|number| number.to_string()).collect();
        assert_eq!(alice.texts(&chat).await, expected);
    }

    async fn a_message_is_delivered_only_after_its_commit(server) {
        let (alice, bob) = server.two_contacts().await;
        let chat = alice.private_chat(&bob).await;
        let first = alice.post(&chat, "first").await;
        bob.expect_message(&first).await;
        // Bob's receipt of it is stored before commits are held back.
        alice.expect_status(&first, curlew_tests::actor::Status::Delivered).await;

        let held = server.db_hold_commits().await;
        let path = format!("/chats/{chat}/messages");
        let mut post = pin!(alice.http.post(&path, json!({ "type": "TEXT", "text": "second" })));
        assert!(tokio::time::timeout(QUIET, &mut post).await.is_err());
        let early = bob.mqtt().await.arrived();
        assert!(early.is_empty(), "delivered before the commit: {early:?}");

        held.release().await;
        post.await.expect(201);
        bob.mqtt().await.receive("the second message", |r| r.text() == "second").await;
    }
}

both_engines! {
    async fn a_commit_that_cannot_happen_gets_no_puback_and_ends_the_connection(server: with |setup| {
        setup.env("CURLEW_COMMIT_PATIENCE", "1s")
    }) {
        let (alice, chat, mut raw) = alice_at_the_wire(&server, Protocol::V5).await;
        let held = server.db_hold_commits().await;
        raw.publish(&send_topic(&chat), &text("hello", "1"), 1, 7).await;
        let answer = raw.read().await;
        let Some(Packet::Disconnect { reason: 0x89, .. }) = answer else { panic!("instead of DISCONNECT 0x89: {answer:?}") };
        assert_eq!(raw.read().await, None);

        held.release().await;
        // The client does what clients do: it comes back and tries again.
        let mut raw = alice.raw(Protocol::V5, Connect::default()).await;
        raw.publish(&send_topic(&chat), &text("hello", "1"), 1, 7).await;
        assert_eq!(raw.puback(7).await.0, 0);
        assert_eq!(alice.texts(&chat).await, ["hello"]);
    }

    async fn a_commit_that_cannot_happen_gets_no_puback_in_mqtt_3(server: with |setup| {
        setup.env("CURLEW_COMMIT_PATIENCE", "1s")
    }) {
        let (_alice, chat, mut raw) = alice_at_the_wire(&server, Protocol::V3).await;
        let held = server.db_hold_commits().await;
        raw.publish(&send_topic(&chat), &text("hello", "1"), 1, 7).await;
        assert_eq!(raw.read().await, None, "3.1.1 has no word for it: the connection ends");
        held.release().await;
    }

    async fn a_commit_that_cannot_happen_is_503_with_retry_after(server: with |setup| {
        setup.env("CURLEW_COMMIT_PATIENCE", "1s")
    }) {
        let (alice, chat, _raw) = alice_at_the_wire(&server, Protocol::V5).await;
        let held = server.db_hold_commits().await;
        let path = format!("/chats/{chat}/messages");
        let body = json!({ "type": "TEXT", "text": "hello", "localId": "1" });
        let answer = alice.http.post(&path, body.clone()).await;
        let retry_after = answer.header("retry-after").parse::<u32>();
        assert!(retry_after.is_ok_and(|seconds| seconds > 0), "{answer:?}");
        answer.expect_problem(503, "unavailable");

        held.release().await;
        let answer = alice.http.post(&path, body).await;
        assert!([200, 201].contains(&answer.status), "{answer:?}");
        assert_eq!(alice.texts(&chat).await, ["hello"]);
    }

    async fn a_connect_that_cannot_be_stored_is_told_to_come_back(server: with |setup| {
        setup.env("CURLEW_COMMIT_PATIENCE", "1s")
    }) {
        let alice = server.user("alice").await;
        let held = server.db_hold_commits().await;
        for (protocol, expected) in [(Protocol::V5, 0x88), (Protocol::V3, 3)] {
            let mut raw = RawClient::open(server.endpoints().mqtt(), protocol).await;
            let (_, code, _) = raw.connect(&alice.credentials(Connect::default())).await;
            assert_eq!(code, expected, "{protocol:?}");
            assert_eq!(raw.read().await, None);
        }
        held.release().await;
        alice.raw(Protocol::V5, Connect::default()).await;
    }

    async fn a_subscription_that_cannot_be_stored_gets_no_suback(server: with |setup| {
        setup.env("CURLEW_COMMIT_PATIENCE", "1s")
    }) {
        let (_alice, _chat, mut raw) = alice_at_the_wire(&server, Protocol::V5).await;
        let held = server.db_hold_commits().await;
        raw.write(&raw.encode_subscribe(1, &[("chats/+/messages", 1)])).await;
        let answer = raw.read().await;
        assert!(matches!(answer, Some(Packet::Disconnect { reason: 0x89, .. })), "{answer:?}");
        assert_eq!(raw.read().await, None);
        held.release().await;
    }
}

both_engines! {
    async fn a_full_queue_is_503_and_never_lost(server: with |setup| {
        setup.env("CURLEW_COMMIT_PATIENCE", "1s").env("CURLEW_COMMIT_QUEUE", "1")
    }) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        let held = server.db_hold_commits().await;
        let mut posts = JoinSet::new();
        for number in 0..8 {
            let (http, path) = (alice.http.clone(), format!("/chats/{chat}/messages"));
            let body = json!({ "type": "TEXT", "text": number.to_string(), "localId": number.to_string() });
            posts.spawn(async move { http.post(&path, body).await });
        }
        for answer in posts.join_all().await {
            assert!(!answer.header("retry-after").is_empty(), "{answer:?}");
            answer.expect_problem(503, "unavailable");
        }
        held.release().await;
        alice.post(&chat, "goes on").await;
        assert_eq!(alice.texts(&chat).await.last().map(String::as_str), Some("goes on"));
    }
}
