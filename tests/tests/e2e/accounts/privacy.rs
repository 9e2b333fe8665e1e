//! Who sees what.

use curlew_tests::{Actor, Chat, Value, actor::Status, both_engines, json};

async fn show_read_to(actor: &Actor, to: &str) {
    actor.http.put("/auth/privacy", json!({ "readReceipts": to })).await.expect(200);
}

async fn read_all(actor: &Actor, chat: &Chat) {
    actor.http.post_nothing(&format!("/chats/{chat}/messages/read")).await.expect(204);
}

async fn counts(actor: &Actor, chat: &Chat, seq: u64) -> Value {
    let topic = format!("chats/{chat}/receipts");
    let is_it = |r: &curlew_tests::mqtt::Received| {
        r.topic == topic && r.json["messageSeq"] == seq && r.json["of"].is_u64()
    };
    actor.mqtt().await.receive("counts", is_it).await.json
}

both_engines! {
    async fn read_receipts_are_hidden_both_ways_and_for_good(server) {
        let (alice, bob) = server.two_contacts().await;
        let chat = alice.private_chat(&bob).await;
        show_read_to(&bob, "nobody").await;
        let sent = alice.send(&chat, "hidden").await;
        bob.expect_message(&sent).await;
        read_all(&bob, &chat).await;
        alice.expect_status(&sent, Status::Delivered).await;
        assert_eq!(alice.status_of(&sent).await, "DELIVERED");
        // Who hides is not shown.
        let answer = bob.send(&chat, "answer").await;
        alice.expect_message(&answer).await;
        read_all(&alice, &chat).await;
        bob.expect_status(&answer, Status::Delivered).await;
        assert_eq!(bob.status_of(&answer).await, "DELIVERED");
        // What happened meanwhile stays hidden.
        show_read_to(&bob, "everyone").await;
        for (reader, seq) in [(&alice, answer.seq), (&bob, sent.seq)] {
            let again = reader.http.post(&format!("/chats/{chat}/messages/read"), json!({ "upToSeq": seq })).await;
            again.expect(204);
        }
        assert_eq!(alice.status_of(&sent).await, "DELIVERED");
        assert_eq!(bob.status_of(&answer).await, "DELIVERED");
        let next = alice.send(&chat, "shown").await;
        bob.expect_message(&next).await;
        read_all(&bob, &chat).await;
        alice.expect_status(&next, Status::Read).await;
        assert_eq!(alice.status_of(&next).await, "READ");
        // The unread count was true all the time.
        assert_eq!(bob.chat(&chat).await["unreadCount"], 0);
    }

    async fn a_member_who_hides_is_not_counted_and_sees_no_counts(server) {
        let [alice, bob, carol] = server.contacts(["alice", "bob", "carol"]).await;
        let group = alice.group("birds", &[&bob, &carol]).await;
        alice.connect().await;
        bob.connect().await;
        show_read_to(&bob, "nobody").await;
        let sent = alice.send(&group, "who reads?").await;
        bob.expect_message(&sent).await;
        read_all(&bob, &group).await;
        let told = counts(&alice, &group, sent.seq).await;
        assert_eq!((&told["delivered"], &told["read"], &told["of"]), (&json!(1), &json!(0), &json!(2)));
        read_all(&carol, &group).await;
        let told = counts(&alice, &group, sent.seq).await;
        assert_eq!((&told["delivered"], &told["read"], &told["of"]), (&json!(2), &json!(1), &json!(2)));
        assert_eq!(alice.status_of(&sent).await, "DELIVERED");
        // And he sees of others what they see of him.
        let answer = bob.send(&group, "I do not say").await;
        for reader in [&alice, &carol] {
            read_all(reader, &group).await;
        }
        assert_eq!(bob.status_of(&answer).await, "DELIVERED");
        let members = bob.http.get(&format!("/chats/{group}/members")).await.expect(200);
        for member in members["items"].as_array().unwrap() {
            assert_eq!(member["readSeq"], member["joinedSeq"], "{member}");
        }
        let told = counts(&bob, &group, answer.seq).await;
        assert_eq!(told["read"], 0, "{told}");
        show_read_to(&bob, "everyone").await;
        assert_eq!(bob.status_of(&answer).await, "DELIVERED", "what happened meanwhile stays hidden");
        let later = bob.send(&group, "now I do").await;
        for reader in [&alice, &carol] {
            read_all(reader, &group).await;
        }
        assert_eq!((bob.status_of(&answer).await, bob.status_of(&later).await), ("READ".into(), "READ".into()));
    }
}
