//! A member gets exactly the rows of each stay, on every surface, for ever.

use crate::{pluck, send_topic, text};
use curlew_tests::{Actor, Chat, Protocol, Received, TestServer, both_engines, json, mqtt::raw::Connect};

/// Alice's group with Bob and Carol, everybody connected, and a chat of Alice and Bob for sentinels.
async fn scene(server: &TestServer) -> ([Actor; 3], Chat, Chat) {
    let actors = server.contacts(["alice", "bob", "carol"]).await;
    let [alice, bob, carol] = &actors;
    let private = alice.private_chat(bob).await;
    let group = alice.group("us", &[bob, carol]).await;
    for actor in &actors {
        actor.connect().await;
    }
    (actors, group, private)
}

fn seqs(rows: &[Received]) -> Vec<u64> {
    rows.iter().map(Received::seq).collect()
}

/// What Bob may have of the group by REST: up to `left_seq`, and as a former member.
async fn assert_former(bob: &Actor, group: &Chat, left_seq: u64) {
    let events = bob.events(group).await;
    let seqs: Vec<_> = events.iter().map(|event| event["seq"].as_u64().unwrap_or_default()).collect();
    assert_eq!(seqs, (1..=left_seq).collect::<Vec<_>>());
    let messages = bob.http.get(&format!("/chats/{group}/messages")).await.expect(200);
    assert_eq!(messages["items"][0]["seq"], left_seq, "{messages}");
    let chat = bob.chat(group).await;
    assert!(chat["role"].is_null(), "{chat}");
    assert_eq!(chat["lastSeq"], left_seq, "nothing above is told of: {chat}");
    let chats = bob.http.get("/chats").await.expect(200);
    assert!(!pluck(&chats["items"], "/id").contains(&group.0), "former members do not list it");
}

/// Whatever Bob tries in the group is refused.
async fn assert_cannot_write(bob: &Actor, group: &Chat) {
    let path = format!("/chats/{group}");
    let http = &bob.http;
    let send = json!({ "type": "TEXT", "text": "still here" });
    http.post(&format!("{path}/messages"), send).await.expect_problem(403, "not-member");
    http.post_nothing(&format!("{path}/messages/read")).await.expect_problem(403, "not-member");
    http.post(&format!("{path}/members"), json!({ "userIds": [bob.id] }))
        .await
        .expect_problem(403, "not-member");
    let mut raw = bob.raw(Protocol::V5, Connect::default()).await;
    raw.publish(&send_topic(group), &text("still here", "1"), 1, 1).await;
    let (reason, properties) = raw.puback(1).await;
    assert_eq!(reason, 0x87);
    assert!(properties.reason_string.starts_with("not-member"), "{properties:?}");
}

both_engines! {
    async fn a_removed_member_gets_everything_up_to_it_and_nothing_above(server) {
        let ([alice, bob, carol], group, private) = scene(&server).await;
        alice.post(&group, "before").await;
        alice.remove(&group, &bob).await;
        carol.post(&group, "after").await;
        let rows = bob.expect_rows(&group, 2).await;
        assert_eq!(seqs(&rows), [2, 3]);
        assert_eq!(rows[0].text(), "before");
        assert_eq!(rows[1].event(), "members-changed");
        assert_eq!(rows[1].json["removed"], json!([bob.id]));
        let left = bob.expect_event("chat-left").await;
        assert_eq!(left.topic, format!("users/{}/events", bob.id));
        assert_eq!((&left.json["chatId"], &left.json["reason"]), (&json!(group.0), &json!("removed")));
        let sentinel = alice.post(&private, "sentinel").await;
        bob.expect_nothing_until(&sentinel).await;
        assert_former(&bob, &group, 3).await;
        assert_cannot_write(&bob, &group).await;

        // Nor after coming back.
        bob.go_offline().await;
        carol.post(&group, "while away").await;
        server.restart().await;
        bob.connect().await;
        let sentinel = alice.post(&private, "another sentinel").await;
        bob.expect_nothing_until(&sentinel).await;
        assert_former(&bob, &group, 3).await;
        assert_eq!(carol.texts(&group).await, ["before", "after", "while away"]);
        // The surest sentinel is one in the same stream: nothing lies between what he had and his return.
        alice.add(&group, &bob).await;
        assert_eq!(seqs(&bob.expect_rows(&group, 1).await), [6]);
    }

    async fn a_member_removed_while_away_gets_everything_up_to_it(server) {
        let ([alice, bob, carol], group, _) = scene(&server).await;
        bob.go_offline().await;
        alice.post(&group, "before").await;
        alice.remove(&group, &bob).await;
        carol.post(&group, "after").await;
        server.kill_and_restart().await;
        bob.connect().await;
        assert_eq!(seqs(&bob.expect_rows(&group, 2).await), [2, 3]);
        alice.add(&group, &bob).await;
        assert_eq!(seqs(&bob.expect_rows(&group, 1).await), [5], "not the row between");
    }

    async fn leaving_ends_it_the_same_way(server) {
        let ([alice, bob, carol], group, private) = scene(&server).await;
        bob.leave(&group).await;
        // Again: changes nothing.
        bob.leave(&group).await;
        carol.post(&group, "after").await;
        assert_eq!(seqs(&bob.expect_rows(&group, 1).await), [2]);
        let sentinel = alice.post(&private, "sentinel").await;
        bob.expect_nothing_until(&sentinel).await;
        assert_former(&bob, &group, 2).await;
        assert_cannot_write(&bob, &group).await;
        assert_eq!(alice.chat(&group).await["memberCount"], 2);
    }

    async fn a_subscription_follows_joins(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        bob.connect().await;
        let group = alice.group("us", &[&bob]).await;
        let sent = alice.post(&group, "welcome").await;
        // The very first row, too: the one that let him in.
        let founding = bob.mqtt().await.receive("row 1", |r| r.is_of_a_chat() && r.seq() == 1).await;
        assert_eq!(founding.event(), "members-changed");
        assert_eq!(founding.json["added"].as_array().map(Vec::len), Some(2));
        bob.expect_message(&sent).await;
        let new_chat = bob.expect_event("new-chat").await;
        assert_eq!(new_chat.json["chat"]["id"], group.0);
    }

    async fn a_subscription_to_one_chat_follows_the_join_to_come(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let group = alice.group("us", &[]).await;
        let mut raw = bob.raw(Protocol::V5, Connect::default()).await;
        assert_eq!(raw.subscribe(&[(&format!("chats/{group}/messages"), 1)]).await, [1]);
        alice.post(&group, "before").await;
        alice.add(&group, &bob).await;
        alice.post(&group, "after").await;
        let rows = [raw.publication().await.json(), raw.publication().await.json()];
        assert_eq!((&rows[0]["seq"], &rows[0]["event"]), (&json!(3), &json!("members-changed")));
        assert_eq!(rows[1]["message"]["text"], "after");
    }

    async fn joins_while_away_are_followed(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        bob.connect().await;
        bob.go_offline().await;
        let group = alice.group("us", &[&bob]).await;
        alice.post(&group, "welcome").await;
        server.kill_and_restart().await;
        bob.connect().await;
        assert_eq!(seqs(&bob.expect_rows(&group, 2).await), [1, 2]);
    }

    async fn who_joins_later_has_no_history(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let group = alice.group("us", &[]).await;
        alice.post(&group, "before").await;
        bob.connect().await;
        alice.add(&group, &bob).await;
        let sent = alice.post(&group, "after").await;
        let rows = bob.rows_until(&sent).await;
        assert_eq!(seqs(&rows), [3], "from the row that lets him in");
        assert_eq!(bob.texts(&group).await, ["after"]);
        let page = bob.http.get(&format!("/chats/{group}/messages")).await.expect(200);
        assert_eq!(pluck(&page["items"], "/type"), ["TEXT", "SYSTEM"]);
    }

    async fn who_joins_a_group_with_open_history_may_read_it(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let body = json!({ "type": "group", "name": "us", "memberIds": [], "historyVisible": "all" });
        let answer = alice.http.post("/chats", body).await.expect(201);
        let group = Chat(answer["id"].as_str().unwrap().to_owned());
        alice.post(&group, "before").await;
        bob.connect().await;
        alice.add(&group, &bob).await;
        let sent = alice.post(&group, "after").await;
        assert_eq!(bob.texts(&group).await, ["before", "after"]);
        // A stream begins with the join all the same.
        assert_eq!(seqs(&bob.rows_until(&sent).await), [3]);
    }

    async fn who_comes_back_has_both_stays_and_not_the_time_between(server) {
        let ([alice, bob, carol], group, _) = scene(&server).await;
        alice.post(&group, "first stay").await;
        alice.remove(&group, &bob).await;
        carol.post(&group, "between").await;
        alice.add(&group, &bob).await;
        carol.post(&group, "second stay").await;
        // 2 first stay, 3 removed, 4 between, 5 added, 6 second stay.
        assert_eq!(seqs(&bob.expect_rows(&group, 4).await), [2, 3, 5, 6]);
        assert_eq!(bob.texts(&group).await, ["first stay", "second stay"]);
        assert_eq!(bob.chat(&group).await["role"], "member");
    }

    async fn who_comes_back_while_away_gets_both_stays(server) {
        let ([alice, bob, carol], group, _) = scene(&server).await;
        bob.go_offline().await;
        alice.post(&group, "first stay").await;
        alice.remove(&group, &bob).await;
        carol.post(&group, "between").await;
        alice.add(&group, &bob).await;
        let last = carol.post(&group, "second stay").await;
        bob.connect().await;
        assert_eq!(seqs(&bob.expect_rows(&group, 4).await), [2, 3, 5, last.seq]);
    }

    async fn sends_against_a_removal_end_at_it(server) {
        let ([alice, bob, carol], group, _) = scene(&server).await;
        // Bob sends as fast as he can while he is being removed, and goes on: every row of his lies before the removal.
        let mut raw = bob.raw(Protocol::V5, Connect::default()).await;
        let send = |number: u16| text("x", &number.to_string());
        for number in 1..=40 {
            raw.publish(&send_topic(&group), &send(number), 1, number).await;
        }
        alice.remove(&group, &bob).await;
        for number in 41..=50 {
            raw.publish(&send_topic(&group), &send(number), 1, number).await;
        }
        let mut stored = 0;
        for number in 1..=50 {
            let (reason, properties) = raw.puback(number).await;
            match reason {
                0 if number <= 40 => stored += 1,
                0x87 => assert!(properties.reason_string.starts_with("not-member"), "{properties:?}"),
                other => panic!("{number}: {other:#x} {properties:?}"),
            }
        }
        let events = carol.events(&group).await;
        let removal = events.iter().position(|e| e["removed"] == json!([bob.id])).expect("the removal is in the log");
        let his: Vec<_> = events.iter().enumerate().filter(|(_, e)| e["message"]["senderId"] == bob.id).collect();
        assert_eq!(his.len(), stored);
        assert!(his.iter().all(|(at, _)| *at < removal));
    }
}
