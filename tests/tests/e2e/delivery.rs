//! Promises 3 and 4: a plain MQTT client that stays away and comes back misses nothing, in order.

use crate::{send_topic, text};
use curlew_tests::{
    Actor, Chat, Protocol, RawClient, Sent, TestServer,
    actor::Status::Delivered,
    both_engines,
    mqtt::raw::{Connect, Packet, Publication},
    wait::eventually,
};

/// More than fit into any window: rows that a session gets after it was away.
const MANY: usize = 500;

/// Sends `count` messages over MQTT, pipelined.
async fn send_many(alice: &Actor, chat: &Chat, count: usize) {
    let mut raw = alice.raw(Protocol::V5, Connect { client_id: "many".into(), ..Connect::default() }).await;
    let (mut sent, mut acknowledged) = (0, 0);
    while acknowledged < count {
        while sent < count && sent < acknowledged + 64 {
            sent += 1;
            let local_id = format!("many-{sent}");
            let id = u16::try_from(sent).expect("few enough");
            raw.publish(&send_topic(chat), &text(&local_id, &local_id), 1, id).await;
        }
        match raw.read().await {
            Some(Packet::PubAck { reason: 0, .. }) => acknowledged += 1,
            other => panic!("instead of PUBACK: {other:?}"),
        }
    }
    raw.disconnect().await;
}

fn seqs(rows: &[curlew_tests::Received]) -> Vec<u64> {
    rows.iter().map(curlew_tests::Received::seq).collect()
}

/// Two contacts, of whom Bob speaks `protocol`.
async fn contacts_speaking(server: &TestServer, protocol: Protocol) -> (Actor, Actor, Chat) {
    let [alice, bob] = server.contacts(["alice", "bob"]).await;
    let bob = bob.speaking(protocol);
    let chat = alice.private_chat(&bob).await;
    alice.connect().await;
    bob.connect().await;
    (alice, bob, chat)
}

async fn arrives_after_a_crash(server: TestServer, protocol: Protocol) {
    let (alice, bob, _) = contacts_speaking(&server, protocol).await;
    bob.go_offline().await;
    let sent = alice.send(&bob, "hello").await;
    server.kill_and_restart().await;
    bob.connect().await.expect_message(&sent).await;
    alice.connect().await;
    assert!(bob.mqtt().await.session_present());
}

async fn arrives_in_order_after_a_restart(server: TestServer, protocol: Protocol) {
    let (alice, bob, chat) = contacts_speaking(&server, protocol).await;
    bob.go_offline().await;
    send_many(&alice, &chat, MANY / 2).await;
    server.restart().await;
    send_many_after_restart(&alice, &chat).await;
    bob.connect().await;
    assert!(bob.mqtt().await.session_present());
    let sentinel = alice.post(&chat, "sentinel").await;
    let rows = bob.rows_until(&sentinel).await;
    assert_eq!(seqs(&rows), (1..=MANY as u64).collect::<Vec<_>>());

    // What was acknowledged does not come again.
    bob.go_offline().await;
    bob.connect().await;
    let sentinel = alice.post(&chat, "another sentinel").await;
    bob.expect_nothing_until(&sentinel).await;
}

/// The other half, under other names.
async fn send_many_after_restart(alice: &Actor, chat: &Chat) {
    let mut raw = alice.raw(Protocol::V5, Connect::default()).await;
    for number in 1..=MANY / 2 {
        let local_id = format!("after-{number}");
        let id = u16::try_from(number).expect("few enough");
        raw.publish(&send_topic(chat), &text(&local_id, &local_id), 1, id).await;
        if number % 50 == 0 {
            for _ in 0..50 {
                let answer = raw.read().await;
                assert!(matches!(answer, Some(Packet::PubAck { reason: 0, .. })), "{answer:?}");
            }
        }
    }
    raw.disconnect().await;
}

/// A lasting session of Bob's at the wire, subscribed to his chats.
async fn lasting(bob: &Actor, protocol: Protocol) -> (RawClient, bool) {
    let connect =
        Connect { client_id: "wire".into(), clean: false, expiry: Some(3600), ..Connect::default() };
    let (mut raw, present) = bob.raw_session(protocol, connect).await;
    if !present {
        assert_eq!(raw.subscribe(&[("chats/+/messages", 1)]).await, [1]);
    }
    (raw, present)
}

async fn publications(raw: &mut RawClient, count: usize) -> Vec<Publication> {
    let mut publications = Vec::new();
    for _ in 0..count {
        publications.push(raw.publication().await);
    }
    publications
}

fn texts_of(publications: &[Publication]) -> Vec<String> {
    publications.iter().map(|p| p.json()["message"]["text"].as_str().unwrap_or_default().to_owned()).collect()
}

async fn unacknowledged_come_again(server: TestServer, protocol: Protocol) {
    let [alice, bob] = server.contacts(["alice", "bob"]).await;
    let chat = alice.private_chat(&bob).await;
    let (mut raw, _) = lasting(&bob, protocol).await;
    for number in 1..=4 {
        alice.post(&chat, &number.to_string()).await;
    }
    let first = publications(&mut raw, 4).await;
    assert!(first.iter().all(|p| p.qos == 1 && !p.dup && p.id != 0), "{first:?}");
    raw.acknowledge(first[0].id).await;
    raw.acknowledge(first[1].id).await;
    // Answered after the acknowledgements were read.
    raw.ping().await;
    assert_eq!(raw.read().await, Some(Packet::PingResp));
    drop(raw);

    let (mut raw, present) = lasting(&bob, protocol).await;
    assert!(present);
    let again = publications(&mut raw, 2).await;
    assert_eq!(texts_of(&again), ["3", "4"]);
    assert!(again.iter().all(|p| p.dup), "the same process knows that it has sent them: {again:?}");
    assert_eq!((again[0].id, again[1].id), (first[2].id, first[3].id), "with the same packet identifiers");
    assert_eq!(again[0].payload, first[2].payload);

    // After a crash the process has forgotten what it sent, not what was acknowledged before its last goodbye.
    server.kill_and_restart().await;
    let (mut raw, present) = lasting(&bob, protocol).await;
    assert!(present);
    assert_eq!(texts_of(&publications(&mut raw, 2).await), ["3", "4"]);
}

both_engines! {
    async fn what_was_published_at_qos_0_before_leaving_is_stored(server) {
        let (alice, bob, chat) = contacts_speaking(&server, Protocol::V3).await;
        let leaving = Connect { client_id: "pen".into(), clean: true, ..Connect::default() };
        for number in 0..20 {
            let (mut raw, _) = alice.raw_session(Protocol::V3, leaving.clone()).await;
            let publish = raw.encode_publish(&send_topic(&chat), &text(&number.to_string(), &number.to_string()), 0, 0, false);
            // In one piece, as a client on a bad network does it.
            raw.write(&[publish, vec![0xe0, 0]].concat()).await;
            eventually("the message", async || (bob.texts(&chat).await.len() > number).then_some(())).await;
        }
    }

    async fn a_message_to_an_offline_device_arrives_after_a_crash(server) {
        arrives_after_a_crash(server, Protocol::V5).await;
    }

    async fn a_message_to_an_offline_device_of_mqtt_3_arrives_after_a_crash(server) {
        arrives_after_a_crash(server, Protocol::V3).await;
    }

    async fn more_than_a_window_arrives_in_order_after_a_restart(server) {
        arrives_in_order_after_a_restart(server, Protocol::V5).await;
    }

    async fn more_than_a_window_arrives_in_order_after_a_restart_in_mqtt_3(server) {
        arrives_in_order_after_a_restart(server, Protocol::V3).await;
    }

    async fn what_was_not_acknowledged_comes_again(server) {
        unacknowledged_come_again(server, Protocol::V5).await;
    }

    async fn what_was_not_acknowledged_comes_again_in_mqtt_3(server) {
        unacknowledged_come_again(server, Protocol::V3).await;
    }

    async fn a_message_arrives_live_and_its_sender_is_told(server) {
        let (alice, bob) = server.two_contacts().await;
        let sent = alice.send(&bob, "hello").await;
        let received = bob.expect_message(&sent).await;
        assert_eq!((received.qos, received.retain), (1, false));
        assert_eq!(received.json["v"], 1);
        assert_eq!(received.json["chatId"], sent.chat.0);
        assert_eq!(received.json["message"]["senderId"], alice.id);
        assert_eq!(received.json["message"]["type"], "TEXT");
        alice.expect_status(&sent, Delivered).await;
    }

    async fn only_the_senders_own_sessions_see_the_local_id(server) {
        let (alice, bob) = server.two_contacts().await;
        let tablet = alice.log_in_on(&server, "tablet").await;
        tablet.connect().await;
        let sent = alice.send(&bob, "hello").await;
        for own in [&alice, &tablet] {
            let received = own.expect_message(&sent).await;
            assert_eq!(received.json["message"]["localId"], sent.local_id);
            assert!(received.json["message"].get("status").is_none(), "never in events: {received:?}");
        }
        let received = bob.expect_message(&sent).await;
        assert!(received.json["message"].get("localId").is_none(), "{received:?}");
        assert!(received.json["message"].get("status").is_none(), "{received:?}");
    }

    async fn every_session_gets_its_own_copy(server) {
        let (alice, bob) = server.two_contacts().await;
        let tablet = bob.log_in_on(&server, "tablet").await.speaking(Protocol::V3);
        tablet.connect().await;
        tablet.go_offline().await;
        let sent = alice.send(&bob, "hello").await;
        bob.expect_message(&sent).await;
        alice.expect_status(&sent, Delivered).await;
        tablet.connect().await.expect_message(&sent).await;
    }

    async fn sends_of_one_connection_keep_their_order(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        send_many(&alice, &chat, 200).await;
        let expected: Vec<_> = (1..=200).map(|number| format!("many-{number}")).collect();
        assert_eq!(alice.texts(&chat).await, expected);
    }

    async fn a_subscription_begins_at_the_present_end(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        alice.post(&chat, "before").await;
        bob.connect().await;
        let sentinel = alice.post(&chat, "after").await;
        bob.expect_nothing_until(&sentinel).await;
    }

    async fn subscribing_again_moves_nothing(server) {
        let (alice, bob) = server.two_contacts().await;
        let chat = alice.private_chat(&bob).await;
        let first = alice.post(&chat, "first").await;
        bob.expect_message(&first).await;
        bob.go_offline().await;
        let missed = alice.post(&chat, "missed").await;
        // As `mosquitto_sub -c` does: it subscribes at every connect; and then some more.
        bob.connect().await;
        let one = format!("chats/{chat}/messages");
        bob.mqtt().await.subscribe(&[("chats/+/messages", 1), ("#", 1), (&one, 0)]).await;
        let sentinel = alice.post(&chat, "sentinel").await;
        let rows = bob.rows_until(&sentinel).await;
        assert_eq!(rows.iter().map(|r| r.id().to_owned()).collect::<Vec<_>>(), [missed.id]);
    }

    async fn unsubscribing_ends_it_and_a_new_subscription_begins_at_the_end(server) {
        let (alice, bob) = server.two_contacts().await;
        let chat = alice.private_chat(&bob).await;
        bob.mqtt().await.unsubscribe("chats/+/messages").await;
        alice.post(&chat, "not followed").await;
        bob.mqtt().await.subscribe(&[("chats/+/messages", 1)]).await;
        let sentinel = alice.post(&chat, "sentinel").await;
        bob.expect_nothing_until(&sentinel).await;
    }

    async fn clean_start_forgets_what_waited(server) {
        let (alice, bob) = server.two_contacts().await;
        let chat = alice.private_chat(&bob).await;
        bob.go_offline().await;
        alice.post(&chat, "waits for the old session").await;
        let clean = curlew_tests::mqtt::Options { clean: true, ..bob.options() };
        let connection = bob.open(&clean).await.unwrap();
        assert!(!connection.session_present());
        bob.adopt(connection).await;
        bob.mqtt().await.subscribe(&[("chats/+/messages", 1)]).await;
        let sentinel = alice.post(&chat, "sentinel").await;
        bob.expect_nothing_until(&sentinel).await;
    }

    async fn a_session_with_qos_0_gets_qos_0(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        let mut raw = bob.raw(Protocol::V5, Connect::default()).await;
        assert_eq!(raw.subscribe(&[("chats/+/messages", 0)]).await, [0]);
        alice.post(&chat, "hello").await;
        let publication = raw.publication().await;
        assert_eq!((publication.qos, publication.id), (0, 0));
    }

    async fn the_highest_qos_of_matching_filters_counts_and_one_copy_comes(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        let mut raw = bob.raw(Protocol::V5, Connect::default()).await;
        let one = format!("chats/{chat}/#");
        // QoS 2 is granted as 1: durable events go out at QoS 1 at most.
        assert_eq!(raw.subscribe(&[("#", 0), (&one, 2), ("chats/+/messages", 0)]).await, [0, 1, 0]);
        alice.post(&chat, "hello").await;
        alice.post(&chat, "sentinel").await;
        let rows = publications(&mut raw, 2).await;
        assert_eq!(texts_of(&rows), ["hello", "sentinel"]);
        assert!(rows.iter().all(|p| p.qos == 1));
    }

    async fn a_client_that_does_not_acknowledge_gets_no_more_than_its_window(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        let connect = Connect { receive_maximum: Some(5), ..Connect::default() };
        let mut raw = bob.raw(Protocol::V5, connect).await;
        raw.subscribe(&[("chats/+/messages", 1)]).await;
        send_many(&alice, &chat, 12).await;
        let mut rows = publications(&mut raw, 5).await;
        raw.ping().await;
        assert_eq!(raw.read().await, Some(Packet::PingResp), "nothing beyond the window");
        while rows.len() < 12 {
            let oldest = rows[rows.len() - 5].id;
            raw.acknowledge(oldest).await;
            rows.push(raw.publication().await);
        }
        let expected: Vec<_> = (1..=12).map(|number| format!("many-{number}")).collect();
        assert_eq!(texts_of(&rows), expected);
    }

    async fn personal_events_wait_for_their_device_too(server) {
        let alice = server.user("alice").await;
        let bob = server.user("bob").await;
        bob.connect().await;
        bob.go_offline().await;
        alice.befriend(&bob).await;
        let group = alice.group("us", &[&bob]).await;
        server.kill_and_restart().await;
        bob.connect().await;
        let request = bob.expect_event("new-contact-request").await;
        assert_eq!((request.seq(), request.qos), (1, 1));
        assert_eq!(request.topic, format!("users/{}/events", bob.id));
        assert_eq!(bob.expect_event("contact-request-accepted").await.seq(), 2);
        let new_chat = bob.expect_event("new-chat").await;
        assert_eq!(new_chat.seq(), 3);
        assert_eq!(new_chat.json["chat"]["id"], group.0);
    }

    async fn receipts_of_what_arrived_late_reach_the_sender(server) {
        let (alice, bob) = server.two_contacts().await;
        bob.go_offline().await;
        let sent: Sent = alice.send(&bob, "hello").await;
        assert_eq!(alice.status_of(&sent).await, "SENT");
        bob.connect().await.expect_message(&sent).await;
        alice.expect_status(&sent, Delivered).await;
        assert_eq!(alice.status_of(&sent).await, "DELIVERED");
    }
}
