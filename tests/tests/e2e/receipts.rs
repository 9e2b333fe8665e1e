//! Delivered and read: by REST, by MQTT, by the mere acknowledgement of a device.

use curlew_tests::{
    Actor, Chat, Protocol, Received, TestServer,
    actor::Status::{Delivered, Read},
    both_engines, json,
    mqtt::raw::Connect,
};

/// Alice, connected, and Bob, who is not; their chat.
async fn scene(server: &TestServer) -> (Actor, Actor, Chat) {
    let [alice, bob] = server.contacts(["alice", "bob"]).await;
    let chat = alice.private_chat(&bob).await;
    alice.connect().await;
    (alice, bob, chat)
}

/// Alice, connected, and a group of hers with Bob and Carol, who are not.
async fn group_scene(server: &TestServer) -> (Actor, Actor, Actor, Chat) {
    let [alice, bob, carol] = server.contacts(["alice", "bob", "carol"]).await;
    let group = alice.group("us", &[&bob, &carol]).await;
    alice.connect().await;
    (alice, bob, carol, group)
}

/// The next receipt event with these counts.
async fn expect_counts(actor: &Actor, seq: u64, counts: (u64, u64, u64)) -> Received {
    let (delivered, read, of) = counts;
    let is_it = |r: &Received| {
        r.event() == "message-status-update"
            && r.json["messageSeq"] == seq
            && [&r.json["delivered"], &r.json["read"], &r.json["of"]] == [delivered, read, of]
    };
    actor.mqtt().await.receive(&format!("{counts:?} of row {seq}"), is_it).await
}

async fn unread(actor: &Actor, chat: &Chat) -> u64 {
    actor.chat(chat).await["unreadCount"].as_u64().expect("a count")
}

both_engines! {
    async fn delivered_and_read_over_rest(server) {
        let (alice, bob, chat) = scene(&server).await;
        let first = alice.post(&chat, "first").await;
        let second = alice.post(&chat, "second").await;
        let path = format!("/chats/{chat}/messages");
        bob.http.post(&format!("{path}/delivered"), json!({ "upToSeq": first.seq })).await.expect(204);
        let update = alice.expect_status(&first, Delivered).await;
        assert_eq!((&update.json["messageSeq"], &update.json["chatId"]), (&json!(1), &json!(chat.0)));
        assert_eq!((alice.status_of(&first).await, alice.status_of(&second).await), ("DELIVERED".into(), "SENT".into()));
        assert_eq!(unread(&bob, &chat).await, 2);

        bob.http.post(&format!("{path}/read"), json!({ "upToSeq": first.seq })).await.expect(204);
        alice.expect_status(&first, Read).await;
        assert_eq!((alice.status_of(&first).await, alice.status_of(&second).await), ("READ".into(), "SENT".into()));
        assert_eq!(unread(&bob, &chat).await, 1);

        // Without a bound: to the present end. READ raises DELIVERED.
        bob.http.post_nothing(&format!("{path}/read")).await.expect(204);
        alice.expect_status(&second, Read).await;
        assert_eq!(unread(&bob, &chat).await, 0);
        // Watermarks only grow.
        bob.http.post(&format!("{path}/delivered"), json!({ "upToSeq": 1 })).await.expect(204);
        assert_eq!(alice.status_of(&second).await, "READ");
    }

    async fn one_message_is_marked_by_its_id(server) {
        let (alice, bob, chat) = scene(&server).await;
        let sent = alice.post(&chat, "hello").await;
        for (status, expected) in [("DELIVERED", Delivered), ("READ", Read)] {
            let path = format!("/chats/messages/{}/status", sent.id);
            bob.http.patch(&path, json!({ "status": status })).await.expect(204);
            alice.expect_status(&sent, expected).await;
            assert_eq!(alice.status_of(&sent).await, status);
        }
        let path = format!("/chats/messages/{}/status", sent.id);
        bob.http.patch(&path, json!({ "status": "SENT" })).await.expect_problem(400, "invalid-request");
    }

    async fn delivered_and_read_over_mqtt(server) {
        let (alice, bob, chat) = scene(&server).await;
        let sent = alice.post(&chat, "hello").await;
        let mut raw = bob.raw(Protocol::V5, Connect::default()).await;
        let topic = format!("chats/{chat}/receipts");
        raw.publish(&topic, br#"{"delivered":1}"#, 1, 1).await;
        assert_eq!(raw.puback(1).await.0, 0);
        alice.expect_status(&sent, Delivered).await;
        // Beyond the end: clamped.
        raw.publish(&topic, br#"{"read":1000}"#, 1, 2).await;
        assert_eq!(raw.puback(2).await.0, 0);
        alice.expect_status(&sent, Read).await;
        let next = alice.post(&chat, "unread").await;
        assert_eq!(alice.status_of(&next).await, "SENT");
        raw.publish(&topic, br#"{"delivered":2,"read":2}"#, 0, 0).await;
        alice.expect_status(&next, Read).await;
    }

    async fn a_device_that_acknowledges_has_it_delivered(server) {
        let (alice, bob, chat) = scene(&server).await;
        let mut raw = bob.raw(Protocol::V3, Connect::default()).await;
        raw.subscribe(&[("chats/+/messages", 1)]).await;
        let sent = alice.post(&chat, "hello").await;
        let publication = raw.publication().await;
        assert_eq!(alice.status_of(&sent).await, "SENT", "not by sending it");
        raw.acknowledge(publication.id).await;
        let update = alice.expect_status(&sent, Delivered).await;
        assert_eq!((update.qos, update.retain), (0, false));
        assert_eq!(alice.status_of(&sent).await, "DELIVERED");
    }

    async fn several_messages_delivered_at_once_are_told_so(server) {
        let (alice, bob, chat) = scene(&server).await;
        for number in 1..=3 {
            alice.post(&chat, &number.to_string()).await;
        }
        bob.http.post_nothing(&format!("/chats/{chat}/messages/delivered")).await.expect(204);
        let update = alice.expect_event("message-status-update").await;
        assert_eq!((&update.json["messageSeq"], &update.json["status"]), (&json!(3), &json!("DELIVERED")));
        let delivered = alice.expect_event("messages-delivered").await;
        assert_eq!(delivered.topic, format!("chats/{chat}/receipts"));
        assert_eq!((&delivered.json["upToSeq"], &delivered.json["userId"]), (&json!(3), &json!(bob.id)));
    }

    async fn reading_is_told_to_ones_other_devices(server) {
        let (alice, bob, chat) = scene(&server).await;
        alice.post(&chat, "first").await;
        alice.post(&chat, "second").await;
        bob.connect().await;
        let tablet = bob.log_in_on(&server, "tablet").await;
        tablet.connect().await;
        let topic = format!("chats/{chat}/receipts");
        let ack = bob.mqtt().await.publish(&topic, json!({ "read": 1 }).to_string()).await;
        assert_eq!(ack.reason, "Success");
        let told = tablet.expect_event("read-elsewhere").await;
        assert_eq!(told.topic, topic);
        assert_eq!((&told.json["readSeq"], &told.json["unreadCount"]), (&json!(1), &json!(1)));
        // Not to the session that did it, nor to anybody else.
        let sentinel = alice.post(&chat, "sentinel").await;
        for actor in [&bob, &alice] {
            let before = actor.everything_until(&sentinel).await;
            assert!(before.iter().all(|r| r.event() != "read-elsewhere"), "{before:?}");
        }
    }

    async fn a_groups_receipts_are_counts(server) {
        let (alice, bob, carol, group) = group_scene(&server).await;
        let sent = alice.post(&group, "hello").await;
        let path = format!("/chats/{group}/messages");
        bob.http.post_nothing(&format!("{path}/delivered")).await.expect(204);
        let update = expect_counts(&alice, sent.seq, (1, 0, 2)).await;
        assert!(update.json.get("status").is_none(), "{update:?}");
        assert_eq!(alice.status_of(&sent).await, "SENT");
        carol.http.post_nothing(&format!("{path}/read")).await.expect(204);
        expect_counts(&alice, sent.seq, (2, 1, 2)).await;
        assert_eq!(alice.status_of(&sent).await, "DELIVERED");
        bob.http.post_nothing(&format!("{path}/read")).await.expect(204);
        expect_counts(&alice, sent.seq, (2, 2, 2)).await;
        assert_eq!(alice.status_of(&sent).await, "READ");
    }

    async fn who_left_before_a_message_reached_them_does_not_count(server) {
        let (alice, bob, carol, group) = group_scene(&server).await;
        let sent = alice.post(&group, "hello").await;
        carol.leave(&group).await;
        bob.http.post_nothing(&format!("/chats/{group}/messages/read")).await.expect(204);
        assert_eq!(alice.status_of(&sent).await, "READ");
        // Who comes later does not count either.
        alice.add(&group, &carol).await;
        assert_eq!(alice.status_of(&sent).await, "READ");
        let alone = alice.group("alone", &[]).await;
        let for_nobody = alice.post(&alone, "echo").await;
        assert_eq!(alice.status_of(&for_nobody).await, "SENT");
    }

    async fn watermarks_survive_a_crash(server) {
        let (alice, bob, chat) = scene(&server).await;
        let sent = alice.post(&chat, "hello").await;
        bob.http.post_nothing(&format!("/chats/{chat}/messages/read")).await.expect(204);
        server.kill_and_restart().await;
        assert_eq!(alice.status_of(&sent).await, "READ");
        assert_eq!(unread(&bob, &chat).await, 0);
    }

    async fn a_block_hides_receipts_both_ways(server) {
        let (alice, bob, chat) = scene(&server).await;
        // Her device would acknowledge what Bob sends, perhaps before the block.
        alice.go_offline().await;
        let of_alice = alice.post(&chat, "from alice").await;
        let of_bob = bob.post(&chat, "from bob").await;
        alice.http.post("/contacts/block", json!({ "userId": bob.id })).await.expect(200);
        for reader in [&alice, &bob] {
            reader.http.post_nothing(&format!("/chats/{chat}/messages/read")).await.expect(204);
            assert_eq!(unread(reader, &chat).await, 0);
        }
        assert_eq!(alice.status_of(&of_alice).await, "SENT");
        assert_eq!(bob.status_of(&of_bob).await, "SENT");
        alice.http.patch(&format!("/contacts/unblock/{}", bob.id), json!({})).await.expect(204);
        let later = alice.post(&chat, "again").await;
        bob.http.post_nothing(&format!("/chats/{chat}/messages/read")).await.expect(204);
        assert_eq!(alice.status_of(&later).await, "READ");
    }

    async fn receipts_go_to_those_they_concern_only(server) {
        let (alice, bob, carol, group) = group_scene(&server).await;
        carol.connect().await;
        alice.post(&group, "hello").await;
        bob.http.post_nothing(&format!("/chats/{group}/messages/read")).await.expect(204);
        // Carol's own device acknowledges what it gets; what the others do is Alice's business.
        let sentinel = alice.post(&group, "sentinel").await;
        let before = carol.everything_until(&sentinel).await;
        assert!(before.iter().all(curlew_tests::Received::is_of_a_chat), "{before:?}");
    }
}

/// What was told of receipts: the chat, what, and RETAIN.
async fn told(raw: &mut curlew_tests::RawClient) -> (String, String, bool) {
    let publication = raw.publication().await;
    let event = publication.json();
    let what = match event["event"].as_str().unwrap() {
        "message-status-update" if event["status"].is_string() => {
            format!("{} {}", event["messageSeq"], event["status"].as_str().unwrap())
        }
        "message-status-update" => {
            format!("{} {}/{} of {}", event["messageSeq"], event["delivered"], event["read"], event["of"])
        }
        "read-elsewhere" => format!("read {} left {}", event["readSeq"], event["unreadCount"]),
        other => other.to_owned(),
    };
    (event["chatId"].as_str().unwrap().to_owned(), what, publication.retain)
}

fn lasting(client_id: &str) -> Connect {
    Connect { client_id: client_id.into(), clean: false, expiry: Some(3600), ..Connect::default() }
}

both_engines! {
    async fn a_new_subscription_is_told_of_what_is_unfinished(server) {
        let [alice, bob, carol] = server.contacts(["alice", "bob", "carol"]).await;
        let (with_bob, with_carol) = (alice.private_chat(&bob).await, alice.private_chat(&carol).await);
        for chat in [&with_bob, &with_carol] {
            alice.post(chat, "one").await;
            alice.post(chat, "two").await;
        }
        bob.http.post(&format!("/chats/{with_bob}/messages/delivered"), json!({ "upToSeq": 2 })).await.expect(204);
        carol.http.post_nothing(&format!("/chats/{with_carol}/messages/read")).await.expect(204);
        let mut raw = alice.raw(Protocol::V5, Connect::default()).await;
        raw.subscribe(&[("chats/+/receipts", 1)]).await;
        assert_eq!(told(&mut raw).await, (with_bob.0.clone(), "2 DELIVERED".into(), true));
        raw.expect_quiet().await;
        // Live, and then once more.
        bob.http.post(&format!("/chats/{with_bob}/messages/read"), json!({ "upToSeq": 1 })).await.expect(204);
        assert_eq!(told(&mut raw).await, (with_bob.0.clone(), "1 READ".into(), false));
        raw.subscribe(&[(&format!("chats/{with_bob}/receipts"), 0)]).await;
        assert_eq!(told(&mut raw).await, (with_bob.0.clone(), "1 READ".into(), true));
        assert_eq!(told(&mut raw).await, (with_bob.0.clone(), "2 DELIVERED".into(), true));
        // Retain Handling 2: not at all. Retain As Published: RETAIN 1 on live ones.
        raw.subscribe_with(&[("chats/+/receipts", 0b10_1000)], None).await;
        bob.http.post_nothing(&format!("/chats/{with_bob}/messages/read")).await.expect(204);
        assert_eq!(told(&mut raw).await, (with_bob.0, "2 READ".into(), true));
        raw.expect_quiet().await;
    }

    async fn who_comes_back_is_told_once_of_each_chat_that_changed(server) {
        let [alice, bob, carol] = server.contacts(["alice", "bob", "carol"]).await;
        let (with_bob, with_carol) = (alice.private_chat(&bob).await, alice.private_chat(&carol).await);
        let group = alice.group("us", &[&bob, &carol]).await;
        let mut raw = alice.raw(Protocol::V5, lasting("state")).await;
        raw.subscribe(&[("chats/+/receipts", 1)]).await;
        alice.post(&with_carol, "seen at once").await;
        carol.http.post_nothing(&format!("/chats/{with_carol}/messages/read")).await.expect(204);
        assert_eq!(told(&mut raw).await, (with_carol.0.clone(), "1 READ".into(), false));
        raw.disconnect().await;
        for n in 1..=5 {
            alice.post(&with_bob, &n.to_string()).await;
            let read = json!({ "upToSeq": n });
            bob.http.post(&format!("/chats/{with_bob}/messages/delivered"), read.clone()).await.expect(204);
            bob.http.post(&format!("/chats/{with_bob}/messages/read"), read).await.expect(204);
        }
        alice.post(&group, "two").await;
        alice.post(&group, "three").await;
        bob.http.post(&format!("/chats/{group}/messages/read"), json!({ "upToSeq": 2 })).await.expect(204);
        let (mut raw, present) = alice.raw_session(Protocol::V5, lasting("state")).await;
        assert!(present);
        let mut events = vec![told(&mut raw).await, told(&mut raw).await];
        events.sort();
        let mut expected =
            vec![(with_bob.0, "5 READ".to_owned(), false), (group.0, "2 1/1 of 2".to_owned(), false)];
        expected.sort();
        assert_eq!(events, expected);
        raw.expect_quiet().await;
    }

    async fn what_was_read_elsewhere_meanwhile_is_told_on_return(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        let mut raw = bob.raw(Protocol::V5, lasting("state")).await;
        raw.subscribe(&[("chats/+/receipts", 1)]).await;
        raw.disconnect().await;
        for n in 1..=3 {
            alice.post(&chat, &n.to_string()).await;
        }
        for n in 1..=2 {
            bob.http.post(&format!("/chats/{chat}/messages/read"), json!({ "upToSeq": n })).await.expect(204);
        }
        let (mut raw, _) = bob.raw_session(Protocol::V5, lasting("state")).await;
        assert_eq!(told(&mut raw).await, (chat.0, "read 2 left 1".into(), false));
        raw.expect_quiet().await;
    }

    async fn many_messages_read_at_once_are_one_update(server) {
        let (alice, bob, chat) = scene(&server).await;
        for n in 0..100 {
            alice.mqtt().await.publish_and_forget(&format!("chats/{chat}/send"), json!({ "type": "TEXT", "text": n.to_string() }).to_string()).await;
        }
        let last = alice.send(&chat, "the last").await;
        bob.http.post_nothing(&format!("/chats/{chat}/messages/read")).await.expect(204);
        alice.expect_status(&last, Read).await;
        let sentinel = alice.post(&chat, "sentinel").await;
        let others = alice.everything_until(&sentinel).await;
        let updates: Vec<_> = others.iter().filter(|r| r.event() == "message-status-update").collect();
        assert!(updates.is_empty(), "{updates:?}");
    }

    async fn what_a_crash_swallows_of_an_acknowledgement_is_made_good(server) {
        let (alice, bob, _, group) = group_scene(&server).await;
        let (mut raw, _) = bob.raw_session(Protocol::V5, lasting("state")).await;
        raw.subscribe(&[("chats/+/messages", 1)]).await;
        // The group's size is known after the first: from then on acknowledgements are collected for a second.
        for _ in 0..2 {
            let sent = alice.post(&group, "hello").await;
            let publication = raw.publication().await;
            raw.acknowledge(publication.id).await;
            if sent.seq == 2 {
                expect_counts(&alice, sent.seq, (1, 0, 2)).await;
            }
        }
        raw.disconnect().await;
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        server.kill_and_restart().await;
        alice.connect().await;
        let (_raw, present) = bob.raw_session(Protocol::V5, lasting("state")).await;
        assert!(present);
        expect_counts(&alice, 3, (1, 0, 2)).await;
    }
}

both_engines! {
    async fn delivered_may_mean_that_the_app_was_opened(server: with |setup| setup.env("CURLEW_RECEIPTS_DELIVERED_ON", "open")) {
        let (alice, bob, chat) = scene(&server).await;
        let sent = alice.post(&chat, "hello").await;
        let state = format!("users/{}/presence", bob.id);
        // Opening delivers, whatever is subscribed.
        let mut raw = bob.raw(Protocol::V5, lasting("phone")).await;
        alice.expect_status(&sent, Delivered).await;
        raw.subscribe(&[("chats/+/messages", 1)]).await;
        raw.publish(&state, br#"{"state":"away"}"#, 1, 1).await;
        assert_eq!(raw.puback(1).await.0, 0);
        let sent = alice.post(&chat, "in the background").await;
        let publication = raw.publication().await;
        raw.acknowledge(publication.id).await;
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        assert_eq!(alice.status_of(&sent).await, "SENT");
        raw.publish(&state, br#"{"state":"active"}"#, 1, 2).await;
        assert_eq!(raw.puback(2).await.0, 0);
        alice.expect_status(&sent, Delivered).await;
        let sent = alice.post(&chat, "before one's eyes").await;
        while raw.publication().await.json()["id"] != sent.id.as_str() {}
        assert_eq!(alice.status_of(&sent).await, "SENT", "not without an acknowledgement");
    }
}
