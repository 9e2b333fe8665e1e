//! What is done to messages after they were sent: edits, reactions, deletions, replies, mentions, forwards. The same over
//! REST and MQTT, and everything said twice is done once. M, B and R are rules of docs/rules.md.

use curlew_tests::{
    Actor, Chat, Engine, Sent, TestServer, Value, both_engines, json, mqtt::Ack, wait::eventually,
};

/// Alice and Bob in a private chat, both connected, with one message of Alice's.
async fn scene(server: &TestServer) -> (Actor, Actor, Sent) {
    let (alice, bob) = server.two_contacts().await;
    let sent = alice.send(&bob, "hello").await;
    bob.expect_message(&sent).await;
    (alice, bob, sent)
}

async fn publish(actor: &Actor, chat: &Chat, command: &str, body: Value) -> Ack {
    actor.mqtt().await.publish(&format!("chats/{chat}/{command}"), body.to_string()).await
}

/// A message as the actor finds it.
async fn find(actor: &Actor, sent: &Sent) -> Value {
    let page = actor.http.get(&format!("/chats/{}/messages?limit=200", sent.chat)).await.expect(200);
    let items = page["items"].as_array().unwrap();
    items.iter().find(|message| message["id"] == sent.id.as_str()).cloned().unwrap_or_default()
}

fn message_path(sent: &Sent) -> String {
    format!("/chats/messages/{}", sent.id)
}

/// How many rows the chat's log has.
async fn end(actor: &Actor, chat: &Chat) -> u64 {
    actor.chat(chat).await["lastSeq"].as_u64().unwrap()
}

both_engines! {
    // M1
    async fn an_edit_reaches_everybody(server) {
        let (alice, bob, sent) = scene(&server).await;
        for _ in 0..2 {
            let edited = alice.http.patch(&message_path(&sent), json!({ "text": "hello there" })).await.expect(200);
            assert_eq!((&edited["text"], &edited["id"]), (&json!("hello there"), &json!(sent.id)));
            assert!(edited["editedAt"].is_string() && edited["localId"] == sent.local_id.as_str());
        }
        let event = bob.expect_event("message-edited").await;
        assert_eq!(event.topic, format!("chats/{}/messages", sent.chat));
        assert_eq!((&event.json["messageId"], &event.json["messageSeq"]), (&json!(sent.id), &json!(sent.seq)));
        assert_eq!(event.json["message"]["text"], "hello there");
        assert!(event.json["message"].get("localId").is_none());
        let mine = alice.expect_event("message-edited").await;
        assert_eq!(mine.json["message"]["localId"], sent.local_id.as_str());
        assert_eq!(end(&alice, &sent.chat).await, sent.seq + 1, "said twice, done once");
    }

    async fn an_edit_over_mqtt_does_the_same(server) {
        let (alice, bob, sent) = scene(&server).await;
        for _ in 0..2 {
            let ack = publish(&alice, &sent.chat, "edit", json!({ "messageId": sent.id, "text": "new" })).await;
            assert_eq!(ack.reason, "Success", "{ack:?}");
            assert_eq!(ack.property("messageId"), Some(sent.id.as_str()));
        }
        assert_eq!(bob.expect_event("message-edited").await.json["message"]["text"], "new");
        assert_eq!(end(&alice, &sent.chat).await, sent.seq + 1);
        let ack = publish(&bob, &sent.chat, "edit", json!({ "messageId": sent.id, "text": "mine" })).await;
        assert_ne!(ack.reason, "Success");
        assert_eq!(find(&alice, &sent).await["text"], "new");
    }

    // M2
    async fn a_reaction_is_set_replaced_and_taken_back(server) {
        let (alice, bob, sent) = scene(&server).await;
        let path = format!("{}/reactions", message_path(&sent));
        for _ in 0..2 {
            let message = bob.http.post(&path, json!({ "emoji": "👍" })).await.expect(200);
            assert_eq!(message["reactions"], json!([{ "emoji": "👍", "userIds": [bob.id] }]));
        }
        let event = alice.expect_event("message-reaction").await;
        assert_eq!((&event.json["userId"], &event.json["emoji"]), (&json!(bob.id), &json!("👍")));
        for _ in 0..2 {
            let ack = publish(&bob, &sent.chat, "react", json!({ "messageId": sent.id, "emoji": "🎉" })).await;
            assert_eq!(ack.reason, "Success", "{ack:?}");
        }
        assert_eq!(alice.expect_event("message-reaction").await.json["emoji"], "🎉");
        for _ in 0..2 {
            bob.http.post(&path, json!({ "emoji": null })).await.expect(200);
        }
        assert!(alice.expect_event("message-reaction").await.json["emoji"].is_null());
        assert_eq!(find(&alice, &sent).await["reactions"], json!([]));
        assert_eq!(end(&alice, &sent.chat).await, sent.seq + 3);
        for bad in [json!({ "emoji": "👍👍" }), json!({ "emoji": "" }), json!({}), json!({ "emoji": "a" })] {
            let fields = bob.http.post(&path, bad).await.expect_invalid();
            assert_eq!(fields[0].0, "emoji");
        }
    }

    // M4, M5, M10
    async fn deleted_for_everyone_nothing_is_left_anywhere(server) {
        let (alice, bob, sent) = scene(&server).await;
        bob.go_offline().await;
        let secret = alice.post(&sent.chat, "the launch code").await;
        let reply = json!({ "type": "TEXT", "text": "ok", "replyToId": secret.id });
        alice.http.post(&format!("/chats/{}/messages", sent.chat), reply).await.expect(201);
        for _ in 0..2 {
            alice.http.delete(&format!("{}?for=everyone", message_path(&secret))).await.expect(204);
        }
        let event = alice.expect_event("message-deleted").await;
        assert_eq!((&event.json["messageId"], &event.json["by"]), (&json!(secret.id), &json!(alice.id)));
        assert_eq!(end(&alice, &sent.chat).await, secret.seq + 2);
        // What waited for Bob shows the place, not the text.
        bob.connect().await;
        let rows = bob.expect_rows(&sent.chat, 3).await;
        assert_eq!((rows[0].event(), rows[0].id()), ("new-message", secret.id.as_str()));
        assert!(rows[0].json["message"]["text"].is_null() && rows[0].json["message"]["deletedAt"].is_string());
        let tombstone = find(&bob, &secret).await;
        assert!(tombstone["text"].is_null() && tombstone["deletedAt"].is_string());
        // A reply's preview is the reply's own.
        assert_eq!(rows[1].json["message"]["replyTo"]["preview"], "the launch code");
        // The retry of a lost acknowledgement still finds it.
        let again = json!({ "type": "TEXT", "text": "the launch code", "localId": secret.local_id });
        let again = alice.http.post(&format!("/chats/{}/messages", sent.chat), again).await.expect(200);
        assert_eq!(again["id"], secret.id.as_str());
        assert!(again["text"].is_null());
    }

    // M4
    async fn what_waits_in_a_session_is_not_sent_once_it_was_deleted(server) {
        use curlew_tests::mqtt::{Protocol, raw};
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        // Bob's device takes one message at a time and acknowledges nothing.
        let connect = raw::Connect { receive_maximum: Some(1), ..raw::Connect::default() };
        let mut slow = bob.raw(Protocol::V5, connect).await;
        slow.subscribe(&[(&format!("chats/{chat}/messages"), 1)]).await;
        let first = alice.post(&chat, "first").await;
        let delivered = slow.publication().await;
        let secret = alice.post(&chat, "secret").await;
        alice.post(&chat, "last").await;
        alice.http.delete(&format!("{}?for=everyone", message_path(&secret))).await.expect(204);
        let mut texts = Vec::new();
        let mut publish = delivered;
        loop {
            let event: Value = serde_json::from_slice(&publish.payload).unwrap();
            texts.push((event["event"].clone(), event["message"]["text"].clone()));
            if event["event"] == "message-deleted" {
                break;
            }
            slow.acknowledge(publish.id).await;
            publish = slow.publication().await;
        }
        let message = |text: Value| (json!("new-message"), text);
        let deleted = (json!("message-deleted"), Value::Null);
        assert_eq!(texts, [message(json!("first")), message(Value::Null), message(json!("last")), deleted]);
        assert_eq!(first.seq, 1);
    }

    // M3
    async fn deleted_for_me_it_is_gone_on_all_my_devices(server) {
        let (alice, bob, sent) = scene(&server).await;
        let tablet = bob.log_in_on(&server, "tablet").await;
        tablet.connect().await;
        bob.http.delete(&message_path(&sent)).await.expect(204);
        let ack = publish(&bob, &sent.chat, "delete", json!({ "messageId": sent.id, "for": "me" })).await;
        assert_eq!(ack.reason, "Success", "{ack:?}");
        for device in [&bob, &tablet] {
            let event = device.expect_event("message-deleted").await;
            assert_eq!(event.topic, format!("users/{}/events", bob.id));
            assert_eq!((&event.json["messageId"], &event.json["scope"]), (&json!(sent.id), &json!("me")));
            assert_eq!(event.json["chatId"], sent.chat.0.as_str());
            assert_eq!(find(device, &sent).await, Value::Null);
        }
        assert_eq!(bob.chat(&sent.chat).await["unreadCount"], 0);
        assert!(bob.chat(&sent.chat).await["lastMessage"].is_null());
        assert_eq!(find(&alice, &sent).await["text"], "hello");
        assert_eq!(end(&alice, &sent.chat).await, sent.seq, "nobody else is told");
        bob.http.get(&format!("{}/replies", message_path(&sent))).await.expect(200);
        bob.http.get(&format!("{}/info", message_path(&sent))).await.expect_problem(404, "not-found");
    }

    // R5
    async fn a_group_is_moderated_by_its_admins(server) {
        let [alice, bob, carol] = server.contacts(["alice", "bob", "carol"]).await;
        let group = alice.group("birds", &[&bob, &carol]).await;
        let sent = bob.post(&group, "spam").await;
        let path = format!("{}?for=everyone", message_path(&sent));
        carol.http.delete(&path).await.expect_problem(403, "forbidden");
        alice.http.delete(&path).await.expect(204);
        assert!(find(&bob, &sent).await["text"].is_null());
        let owners = alice.post(&group, "the owner's").await;
        alice.http.patch(&format!("/chats/{group}/members/{}", bob.id), json!({ "role": "admin" })).await.expect(200);
        bob.http.delete(&format!("{}?for=everyone", message_path(&owners))).await.expect(204);
    }

    // M6
    async fn a_reply_quotes_what_it_answers(server) {
        let (alice, bob, sent) = scene(&server).await;
        let body = json!({ "type": "TEXT", "text": "hi", "replyToId": sent.id, "localId": "r1" });
        let ack = publish(&bob, &sent.chat, "send", body.clone()).await;
        assert_eq!(ack.reason, "Success", "{ack:?}");
        let quoted = json!({ "id": sent.id, "seq": sent.seq, "senderId": alice.id, "preview": "hello" });
        let event = alice.mqtt().await.receive("the reply", |r| r.text() == "hi").await;
        assert_eq!(event.json["message"]["replyTo"], quoted);
        let again = bob.http.post(&format!("/chats/{}/messages", sent.chat), body).await.expect(200);
        assert_eq!(again["replyTo"], quoted);
        let other = json!({ "type": "TEXT", "text": "hi", "localId": "r1" });
        bob.http.post(&format!("/chats/{}/messages", sent.chat), other).await.expect_problem(409, "local-id-conflict");
        let replies = alice.http.get(&format!("{}/replies", message_path(&sent))).await.expect(200);
        assert_eq!(replies["items"][0]["text"], "hi");
        assert!(replies["nextCursor"].is_null());
        let nothing = json!({ "type": "TEXT", "text": "hi", "replyToId": sent.chat.0 });
        bob.http.post(&format!("/chats/{}/messages", sent.chat), nothing).await.expect_problem(404, "not-found");
    }

    // M7
    async fn mentions_are_of_people_in_the_chat(server) {
        let [alice, bob, carol, dan] = server.contacts(["alice", "bob", "carol", "dan"]).await;
        let group = alice.group("birds", &[&bob, &carol]).await;
        let body = json!({ "type": "TEXT", "text": "@bob", "mentions": [bob.id, bob.id] });
        let message = alice.http.post(&format!("/chats/{group}/messages"), body).await.expect(201);
        assert_eq!(message["mentions"], json!([bob.id]));
        let body = json!({ "type": "TEXT", "text": "@dan", "mentions": [bob.id, dan.id] });
        let fields = alice.http.post(&format!("/chats/{group}/messages"), body).await.expect_invalid();
        assert_eq!(fields, [("mentions[1]".to_owned(), "not-a-member".to_owned())]);
    }

    // M8
    async fn a_message_is_forwarded_once(server) {
        let [alice, bob, carol] = server.contacts(["alice", "bob", "carol"]).await;
        let chat = alice.private_chat(&bob).await;
        let group = bob.group("birds", &[&carol]).await;
        let sent = alice.post(&chat, "news").await;
        let path = format!("{}/forward", message_path(&sent));
        let body = json!({ "chatIds": [group.0, group.0], "localId": "f1" });
        let answer = bob.http.post(&path, body.clone()).await.expect(201);
        let copy = &answer["items"][0];
        assert_eq!((answer["items"].as_array().unwrap().len(), &copy["text"]), (1, &json!("news")));
        assert_eq!(copy["forwardedFrom"], json!({ "id": sent.id, "senderId": alice.id }));
        let again = bob.http.post(&path, body).await.expect(200);
        assert_eq!(again["items"][0]["id"], copy["id"]);
        // A copy of a copy names the first.
        let further = carol.private_chat(&alice).await;
        let path = format!("/chats/messages/{}/forward", copy["id"].as_str().unwrap());
        let third = carol.http.post(&path, json!({ "chatIds": [further.0] })).await.expect(201);
        assert_eq!(third["items"][0]["forwardedFrom"]["id"], sent.id.as_str());
        // Nothing is sent when one of the chats is not the sender's.
        let before = end(&carol, &further).await;
        let foreign = json!({ "chatIds": [further.0, chat.0] });
        carol.http.post(&path, foreign).await.expect_problem(404, "not-found");
        assert_eq!(end(&carol, &further).await, before);
    }

    // M8, M10
    async fn a_repeated_forward_answers_the_first_copies(server) {
        let [alice, bob, carol] = server.contacts(["alice", "bob", "carol"]).await;
        let chat = alice.private_chat(&bob).await;
        let (group, other) = (bob.group("birds", &[&carol]).await, bob.private_chat(&carol).await);
        let sent = alice.post(&chat, "news").await;
        let path = format!("{}/forward", message_path(&sent));
        let first = json!({ "chatIds": [group.0], "localId": "f1" });
        let copy = bob.http.post(&path, first.clone()).await.expect(201)["items"][0]["id"].clone();
        alice.http.patch(&message_path(&sent), json!({ "text": "newer" })).await.expect(200);
        assert_eq!(bob.http.post(&path, first.clone()).await.expect(200)["items"][0]["id"], copy);
        // As after a crash between the two: the one that is missing is made.
        let both = json!({ "chatIds": [group.0, other.0], "localId": "f1" });
        let answer = bob.http.post(&path, both.clone()).await.expect(201);
        assert_eq!((&answer["items"][0]["id"], &answer["items"][0]["text"]), (&copy, &json!("news")));
        assert_eq!(answer["items"][1]["text"], "newer");
        // Nothing that happens afterwards makes another answer of it.
        bob.leave(&group).await;
        alice.http.delete(&format!("{}?for=everyone", message_path(&sent))).await.expect(204);
        bob.http.delete(&format!("{}?for=me", message_path(&sent))).await.expect(204);
        let again = bob.http.post(&path, both).await.expect(200);
        assert_eq!((&again["items"][0]["id"], &again["items"][1]["id"]), (&copy, &answer["items"][1]["id"]));
        // The same localId with another message is a conflict.
        let another = alice.post(&chat, "other news").await;
        let path = format!("{}/forward", message_path(&another));
        bob.http.post(&path, first).await.expect_problem(409, "local-id-conflict");
    }

    // M3
    async fn what_is_deleted_for_me_does_not_come_back(server) {
        let (alice, bob, sent) = scene(&server).await;
        bob.http.delete(&format!("{}?for=me", message_path(&sent))).await.expect(204);
        alice.http.patch(&message_path(&sent), json!({ "text": "secret again" })).await.expect(200);
        let event = bob.expect_event("message-edited").await;
        assert!(event.json["message"].is_null(), "{}", event.json);
        assert!(!json!(bob.events(&sent.chat).await).to_string().contains("secret again"));
        assert_eq!(alice.expect_event("message-edited").await.json["message"]["text"], "secret again");
        // Nor is anything done to it.
        let before = end(&alice, &sent.chat).await;
        let path = format!("{}/reactions", message_path(&sent));
        bob.http.post(&path, json!({ "emoji": "👍" })).await.expect_problem(404, "not-found");
        let ack = publish(&bob, &sent.chat, "react", json!({ "messageId": sent.id, "emoji": "👍" })).await;
        assert!(ack.reason_string.starts_with("not-found"), "{ack:?}");
        assert_eq!(end(&alice, &sent.chat).await, before);
    }

    // H2
    async fn who_has_left_is_not_shown_who_is_there(server) {
        let [alice, bob, carol] = server.contacts(["alice", "bob", "carol"]).await;
        let group = alice.group("birds", &[&bob]).await;
        let sent = alice.post(&group, "hello").await;
        bob.leave(&group).await;
        alice.add(&group, &carol).await;
        let chat = bob.chat(&group).await;
        assert!(chat["role"].is_null() && chat["members"].is_null() && chat["memberCount"].is_null(), "{chat}");
        assert!(!chat.to_string().contains(&carol.id));
        let path = format!("{}?for=me", message_path(&sent));
        bob.http.delete(&path).await.expect_problem(403, "not-member");
        // Removing who has gone is done already.
        alice.http.delete(&format!("/chats/{group}/members/{}", bob.id)).await.expect(200);
    }

    // P1
    async fn who_shows_contacts_what_they_read_shows_no_other(server) {
        let [alice, bob, carol] = server.contacts(["alice", "bob", "carol"]).await;
        let group = alice.group("birds", &[&bob, &carol]).await;
        bob.http.delete(&format!("/contacts/{}", carol.id)).await.expect(204);
        carol.http.put("/auth/privacy", json!({ "readReceipts": "contacts" })).await.expect(200);
        let (mine, his) = (alice.post(&group, "one").await, bob.post(&group, "two").await);
        carol.http.post_nothing(&format!("/chats/{group}/messages/read")).await.expect(204);
        let shown = async |viewer: &Actor, sent: &Sent| {
            let info = viewer.http.get(&format!("{}/info", message_path(sent))).await.expect(200);
            let of = info["recipients"].as_array().unwrap().iter().find(|r| r["user"]["id"] == carol.id.as_str());
            let status = of.unwrap()["status"].clone();
            let members = viewer.http.get(&format!("/chats/{group}/members")).await.expect(200)["items"].clone();
            let listed = viewer.chat(&group).await["members"].clone();
            let read = |members: &Value| {
                let of = members.as_array().unwrap().iter().find(|m| m["user"]["id"] == carol.id.as_str()).cloned();
                of.unwrap()["readSeq"].as_u64().unwrap()
            };
            (status, read(&members), read(&listed))
        };
        assert_eq!(shown(&alice, &mine).await, (json!("READ"), his.seq, his.seq));
        assert_eq!(shown(&bob, &his).await, (json!("DELIVERED"), 1, 1));
    }

    async fn a_null_where_media_would_be_named_is_none(server) {
        let (alice, bob, sent) = scene(&server).await;
        let path = format!("/chats/{}/messages", sent.chat);
        let body = |media| json!({ "type": "TEXT", "text": "hi", "mediaId": media });
        alice.http.post(&path, body(Value::Null)).await.expect(201);
        let fields = bob.http.post(&path, body(json!(sent.id))).await.expect_invalid();
        assert_eq!(fields, [("mediaId".to_owned(), "unsupported".to_owned())]);
    }

    // M9
    async fn its_sender_is_told_who_has_a_message(server) {
        let [alice, bob, carol] = server.contacts(["alice", "bob", "carol"]).await;
        let group = alice.group("birds", &[&bob, &carol]).await;
        let sent = alice.post(&group, "hello").await;
        bob.http.post_nothing(&format!("/chats/{group}/messages/read")).await.expect(204);
        let path = format!("{}/info", message_path(&sent));
        let info = alice.http.get(&path).await.expect(200);
        assert_eq!((&info["status"], &info["messageId"]), (&json!("SENT"), &json!(sent.id)));
        assert_eq!((&info["delivered"], &info["read"], &info["of"]), (&json!(1), &json!(1), &json!(2)));
        let of = |user: &Actor| {
            let recipients = info["recipients"].as_array().unwrap();
            recipients.iter().find(|r| r["user"]["id"] == user.id).unwrap()["status"].clone()
        };
        assert_eq!((of(&bob), of(&carol)), (json!("READ"), json!("SENT")));
        bob.http.get(&path).await.expect_problem(403, "forbidden");
    }

    // B1, B2
    async fn a_block_refuses_edits_and_reactions_and_lets_delete(server) {
        let (alice, bob, sent) = scene(&server).await;
        bob.http.post("/contacts/block", json!({ "userId": alice.id })).await.expect(200);
        alice.http.patch(&message_path(&sent), json!({ "text": "x" })).await.expect_problem(403, "blocked");
        let path = format!("{}/reactions", message_path(&sent));
        bob.http.post(&path, json!({ "emoji": "👍" })).await.expect_problem(403, "blocked");
        alice.http.delete(&format!("{}?for=everyone", message_path(&sent))).await.expect(204);
    }

    async fn a_refused_change_says_why_over_mqtt(server) {
        let (alice, bob, sent) = scene(&server).await;
        let refusals = [
            ("edit", json!({ "messageId": sent.id, "text": "x" }), "forbidden"),
            ("edit", json!({ "messageId": sent.id, "text": "" }), "invalid-request"),
            ("edit", json!({ "messageId": "x", "text": "x" }), "invalid-request"),
            ("edit", json!({ "messageId": sent.chat.0, "text": "x" }), "not-found"),
            ("react", json!({ "messageId": sent.id }), "invalid-request"),
            ("react", json!({ "messageId": sent.id, "emoji": "no" }), "invalid-request"),
            ("delete", json!({ "messageId": sent.id, "for": "everyone" }), "forbidden"),
            ("delete", json!({ "messageId": sent.id, "for": "him" }), "invalid-request"),
        ];
        for (command, body, code) in refusals {
            let ack = publish(&bob, &sent.chat, command, body.clone()).await;
            assert!(ack.reason_string.starts_with(code), "{command} {body}: {ack:?}");
        }
        assert_eq!(find(&alice, &sent).await["text"], "hello");
        assert_eq!(end(&alice, &sent.chat).await, sent.seq);
    }
}

#[tokio::test]
async fn deleted_text_is_not_in_the_database_file() {
    let server = TestServer::start(Engine::Sqlite).await;
    let [alice, bob] = server.contacts(["alice", "bob"]).await;
    let chat = alice.private_chat(&bob).await;
    let needle = "needle-in-the-haystack";
    let short = alice.post(&chat, needle).await;
    let long = alice.post(&chat, &format!("{} {}", "x".repeat(12_000), needle)).await;
    let edited = alice.post(&chat, needle).await;
    alice.http.patch(&message_path(&edited), json!({ "text": "harmless" })).await.expect(200);
    for sent in [&short, &long] {
        alice.http.delete(&format!("{}?for=everyone", message_path(sent))).await.expect(204);
    }
    // A clean end writes the journal into the database.
    server.terminate().await;
    let file = std::fs::read(server.data_dir().join("curlew.db")).unwrap();
    assert!(!file.windows(needle.len()).any(|window| window == needle.as_bytes()));
    assert!(file.windows(8).any(|window| window == b"harmless"));
}

#[tokio::test]
async fn a_sender_has_so_long_to_delete_for_everyone() {
    let setup = TestServer::setup(Engine::Sqlite).env("CURLEW_LIMITS_DELETE_WINDOW", "1ms");
    let server = setup.start().await;
    let [alice, bob] = server.contacts(["alice", "bob"]).await;
    let late = eventually("a message that is too old to be deleted", async || {
        let sent = alice.post(&bob, "hello").await;
        let answer = alice.http.delete(&format!("{}?for=everyone", message_path(&sent))).await;
        (answer.status != 204).then_some((sent, answer))
    });
    let (sent, answer) = late.await;
    answer.expect_problem(403, "too-late");
    assert_eq!(find(&bob, &sent).await["text"], "hello");
}
