//! Sending and reading over REST.

use crate::pluck;
use curlew_tests::{Actor, Chat, TestServer, Value, both_engines, json};

/// A chat with messages `1` to `count`, sent by Alice.
async fn chat_with(server: &TestServer, count: u64) -> (Actor, Actor, Chat) {
    let [alice, bob] = server.contacts(["alice", "bob"]).await;
    let chat = alice.private_chat(&bob).await;
    for number in 1..=count {
        assert_eq!(alice.post(&chat, &number.to_string()).await.seq, number);
    }
    (alice, bob, chat)
}

async fn page(actor: &Actor, chat: &Chat, query: &str) -> (Vec<String>, Value) {
    let page = actor.http.get(&format!("/chats/{chat}/messages{query}")).await.expect(200);
    (pluck(&page["items"], "/text"), page["nextCursor"].clone())
}

both_engines! {
    async fn a_message_is_stored_as_sent(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        let said = "Grüße, 世界 👋🏽\n\t\"quoted\" \\ </script> \u{202e}";
        let body = json!({ "type": "TEXT", "text": said, "localId": "an id ~!" });
        let message = alice.http.post(&format!("/chats/{chat}/messages"), body).await.expect(201);
        assert_eq!(message["text"], said);
        assert_eq!((&message["chatId"], &message["seq"]), (&json!(chat.0), &json!(1)));
        assert_eq!((&message["senderId"], &message["type"]), (&json!(alice.id), &json!("TEXT")));
        assert_eq!((&message["localId"], &message["status"]), (&json!("an id ~!"), &json!("SENT")));
        for field in ["media", "replyTo", "forwardedFrom", "editedAt", "deletedAt"] {
            assert!(message[field].is_null(), "{field}: {message}");
        }
        assert_eq!((&message["mentions"], &message["reactions"]), (&json!([]), &json!([])));

        let seen = bob.http.get(&format!("/chats/{chat}/messages")).await.expect(200)["items"][0].clone();
        assert!(seen.get("localId").is_none() && seen.get("status").is_none(), "the sender's alone: {seen}");
        for field in ["id", "chatId", "seq", "senderId", "type", "text", "createdAt"] {
            assert_eq!(seen[field], message[field], "{field}");
        }
        let event = bob.events(&chat).await.pop().unwrap();
        assert_eq!((&event["event"], &event["id"]), (&json!("new-message"), &message["id"]));
        assert_eq!((&event["v"], &event["seq"], &event["at"]), (&json!(1), &json!(1), &message["createdAt"]));
        assert_eq!(event["message"], seen);
    }

    async fn messages_page_newest_first(server) {
        let (alice, bob, chat) = chat_with(&server, 5).await;
        for reader in [&alice, &bob] {
            assert_eq!(page(reader, &chat, "").await.0, ["5", "4", "3", "2", "1"]);
            let (texts, cursor) = page(reader, &chat, "?limit=2").await;
            assert_eq!(texts, ["5", "4"]);
            let (texts, cursor) = page(reader, &chat, &format!("?limit=2&cursor={}", cursor.as_str().unwrap())).await;
            assert_eq!(texts, ["3", "2"]);
            let (texts, cursor) = page(reader, &chat, &format!("?limit=2&cursor={}", cursor.as_str().unwrap())).await;
            assert_eq!(texts, ["1"]);
            assert!(cursor.is_null());
            assert_eq!(page(reader, &chat, "?beforeSeq=3").await.0, ["2", "1"]);
            assert_eq!(page(reader, &chat, "?afterSeq=3").await.0, ["4", "5"]);
            assert_eq!(page(reader, &chat, "?afterSeq=1&limit=2").await.0, ["2", "3"]);
            assert_eq!(page(reader, &chat, "?afterSeq=5").await.0, [""; 0]);
        }
    }

    async fn events_page_upwards(server) {
        let (_, bob, chat) = chat_with(&server, 5).await;
        let path = format!("/chats/{chat}/events");
        let page = bob.http.get(&format!("{path}?limit=2")).await.expect(200);
        assert_eq!(pluck(&page["items"], "/message/text"), ["1", "2"]);
        let cursor = page["nextCursor"].as_str().unwrap();
        let page = bob.http.get(&format!("{path}?limit=200&cursor={cursor}")).await.expect(200);
        assert_eq!(pluck(&page["items"], "/message/text"), ["3", "4", "5"]);
        assert!(page["nextCursor"].is_null());
        let page = bob.http.get(&format!("{path}?afterSeq=5")).await.expect(200);
        assert_eq!(page["items"], json!([]));
    }

    async fn a_text_may_be_as_long_as_the_limit(server) {
        let (alice, bob, chat) = chat_with(&server, 0).await;
        // Escaped in JSON it is six times as long.
        let longest = "\u{1}".repeat(16 * 1024);
        let sent = alice.post(&chat, &longest).await;
        assert_eq!(bob.texts(&chat).await, std::slice::from_ref(&longest));
        alice.connect().await;
        bob.connect().await;
        let sent_over_mqtt = alice.send(&chat, &longest).await;
        assert_eq!(sent_over_mqtt.seq, sent.seq + 1);
        bob.expect_message(&sent_over_mqtt).await;
    }

    async fn many_send_at_once_and_each_message_gets_its_place(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        let mut posts = tokio::task::JoinSet::new();
        for number in 0..60 {
            let http = if number % 2 == 0 { alice.http.clone() } else { bob.http.clone() };
            let path = format!("/chats/{chat}/messages");
            let body = json!({ "type": "TEXT", "text": number.to_string() });
            posts.spawn(async move { http.post(&path, body).await.expect(201)["seq"].as_u64().unwrap() });
        }
        let mut seqs = posts.join_all().await;
        seqs.sort_unstable();
        assert_eq!(seqs, (1..=60).collect::<Vec<_>>());
    }
}
