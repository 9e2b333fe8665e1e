//! Promise 2: one effect per send, for ever. A retry gets the first result and stores nothing.

use crate::{send_topic, text};
use curlew_tests::{
    Actor, Chat, Protocol, both_engines, json,
    mqtt::raw::{Connect, Properties},
};
use tokio::task::JoinSet;

/// Id and place of the message that an acknowledgement names.
fn named(properties: &Properties) -> (String, u64) {
    let seq = properties.user("seq").and_then(|seq| seq.parse().ok()).expect("a seq");
    (properties.user("messageId").expect("an id").to_owned(), seq)
}

/// Sends over MQTT, on a connection of its own, which must be acknowledged.
async fn publish(actor: &Actor, chat: &Chat, body: &str, local_id: &str) -> (String, u64) {
    let mut raw = actor.raw(Protocol::V5, Connect::default()).await;
    raw.publish(&send_topic(chat), &text(body, local_id), 1, 1).await;
    let (reason, properties) = raw.puback(1).await;
    assert_eq!(reason, 0, "{properties:?}");
    raw.disconnect().await;
    named(&properties)
}

/// Sends over REST, which must be answered with `status`.
async fn post(actor: &Actor, chat: &Chat, body: &str, local_id: &str, status: u16) -> (String, u64) {
    let body = json!({ "type": "TEXT", "text": body, "localId": local_id });
    let message = actor.http.post(&format!("/chats/{chat}/messages"), body).await.expect(status);
    (message["id"].as_str().expect("an id").to_owned(), message["seq"].as_u64().expect("a seq"))
}

both_engines! {
    async fn a_retry_over_mqtt_is_the_same_message(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        let mut raw = alice.raw(Protocol::V5, Connect::default()).await;
        raw.publish(&send_topic(&chat), &text("hello", "1"), 1, 1).await;
        let first = named(&raw.puback(1).await.1);
        // On the same connection, as another publication.
        raw.publish(&send_topic(&chat), &text("hello", "1"), 1, 2).await;
        assert_eq!(named(&raw.puback(2).await.1), first);
        // As a client does that never saw the PUBACK: the same packet again, with DUP.
        let mut raw = alice.raw(Protocol::V5, Connect::default()).await;
        raw.write(&raw.encode_publish(&send_topic(&chat), &text("hello", "1"), 1, 1, true)).await;
        assert_eq!(named(&raw.puback(1).await.1), first);
        assert_eq!(alice.texts(&chat).await, ["hello"]);
    }

    async fn a_retry_over_rest_is_200_and_the_same_message(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        let first = post(&alice, &chat, "hello", "1", 201).await;
        assert_eq!(post(&alice, &chat, "hello", "1", 200).await, first);
        assert_eq!(alice.texts(&chat).await, ["hello"]);
    }

    async fn a_retry_may_come_over_the_other_surface(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        let first = post(&alice, &chat, "by rest", "1", 201).await;
        assert_eq!(publish(&alice, &chat, "by rest", "1").await, first);
        let second = publish(&alice, &chat, "by mqtt", "2").await;
        assert_eq!(post(&alice, &chat, "by mqtt", "2", 200).await, second);
        assert_eq!(alice.texts(&chat).await, ["by rest", "by mqtt"]);
    }

    async fn a_retry_may_come_from_another_device_after_a_crash(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        let first = publish(&alice, &chat, "hello", "1").await;
        server.kill_and_restart().await;
        let tablet = alice.log_in_on(&server, "tablet").await;
        assert_eq!(publish(&tablet, &chat, "hello", "1").await, first);
        assert_eq!(post(&alice, &chat, "hello", "1", 200).await, first);
        assert_eq!(alice.texts(&chat).await, ["hello"]);
    }

    async fn a_retry_after_the_removal_is_the_same_message(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let group = alice.group("us", &[&bob]).await;
        let by_rest = post(&bob, &group, "by rest", "1", 201).await;
        let by_mqtt = publish(&bob, &group, "by mqtt", "2").await;
        alice.remove(&group, &bob).await;
        // Bob cannot send any more, but what he sent is sent.
        let body = json!({ "type": "TEXT", "text": "new", "localId": "3" });
        bob.http.post(&format!("/chats/{group}/messages"), body).await.expect_problem(403, "not-member");
        assert_eq!(publish(&bob, &group, "by rest", "1").await, by_rest);
        assert_eq!(post(&bob, &group, "by rest", "1", 200).await, by_rest);
        assert_eq!(publish(&bob, &group, "by mqtt", "2").await, by_mqtt);
        assert_eq!(post(&bob, &group, "by mqtt", "2", 200).await, by_mqtt);
        assert_eq!(alice.texts(&group).await, ["by rest", "by mqtt"]);
    }

    async fn the_same_local_id_with_another_content_is_a_conflict(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        post(&alice, &chat, "hello", "1", 201).await;
        let body = json!({ "type": "TEXT", "text": "other", "localId": "1" });
        let answer = alice.http.post(&format!("/chats/{chat}/messages"), body).await;
        answer.expect_problem(409, "local-id-conflict");
        let mut raw = alice.raw(Protocol::V5, Connect::default()).await;
        raw.publish(&send_topic(&chat), &text("other", "1"), 1, 1).await;
        let (reason, properties) = raw.puback(1).await;
        assert_eq!(reason, 0x80);
        assert!(properties.reason_string.starts_with("local-id-conflict"), "{properties:?}");
        assert_eq!(alice.texts(&chat).await, ["hello"]);
    }

    async fn a_local_id_is_of_one_sender_in_one_chat(server) {
        let [alice, bob, carol] = server.contacts(["alice", "bob", "carol"]).await;
        let chat = alice.private_chat(&bob).await;
        let other = alice.private_chat(&carol).await;
        let messages = [
            post(&alice, &chat, "alice to bob", "1", 201).await,
            post(&bob, &chat, "bob to alice", "1", 201).await,
            post(&alice, &other, "alice to carol", "1", 201).await,
        ];
        assert_eq!(messages[1].1, 2);
        assert_ne!(messages[0].0, messages[2].0);
    }

    async fn equal_sends_at_once_store_one_message(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        let mut posts = JoinSet::new();
        for _ in 0..16 {
            let (http, path) = (alice.http.clone(), format!("/chats/{chat}/messages"));
            let body = json!({ "type": "TEXT", "text": "hello", "localId": "1" });
            posts.spawn(async move { http.post(&path, body).await });
        }
        let answers = posts.join_all().await;
        let made = answers.iter().filter(|answer| answer.status == 201).count();
        let found = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!((made, found), (1, 15), "{answers:?}");
        let id = answers[0].json()["id"].clone();
        assert!(answers.iter().all(|answer| answer.json()["id"] == id && answer.json()["seq"] == 1));
        assert_eq!(alice.texts(&chat).await, ["hello"]);
    }

    async fn sends_without_a_local_id_are_each_a_message(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        for _ in 0..2 {
            let body = json!({ "type": "TEXT", "text": "hello" });
            alice.http.post(&format!("/chats/{chat}/messages"), body).await.expect(201);
        }
        assert_eq!(alice.texts(&chat).await, ["hello", "hello"]);
    }

    async fn a_group_is_founded_once_per_local_id(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let body = json!({ "type": "group", "name": "us", "memberIds": [bob.id], "localId": "1" });
        let made = alice.http.post("/chats", body.clone()).await.expect(201);
        let again = alice.http.post("/chats", body).await.expect(200);
        assert_eq!(made["id"], again["id"]);
    }
}
