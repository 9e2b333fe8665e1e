//! Somebody who never was in a chat can neither read nor write it, and learns nothing of it.

use crate::{send_topic, text};
use curlew_tests::{
    Actor, Answer, Chat, Protocol, Sent, TestServer, both_engines, json,
    mqtt::raw::{Connect, Packet},
};

/// A chat that is not there.
const NOWHERE: &str = "0192f0c1-0000-7000-8000-000000000001";

/// Alice and Bob with a chat and a message in it; Mallory, and a chat of hers with Carol.
async fn scene(server: &TestServer) -> (Actor, Actor, Actor, Chat, Sent, Chat) {
    let [alice, bob] = server.contacts(["alice", "bob"]).await;
    let [mallory, carol] = server.contacts(["mallory", "carol"]).await;
    let chat = alice.private_chat(&bob).await;
    let secret = alice.post(&chat, "secret").await;
    let hers = mallory.private_chat(&carol).await;
    (alice, mallory, carol, chat, secret, hers)
}

/// Every way to ask for a chat or a message, over REST.
async fn requests(mallory: &Actor, hers: &Chat, chat: &str, message: &str, victim: &Actor) -> Vec<Answer> {
    let http = &mallory.http;
    let own = mallory.post(hers, "mine").await;
    let (chat_path, message_path) = (format!("/chats/{chat}"), format!("/chats/messages/{message}"));
    vec![
        http.get(&chat_path).await,
        http.get(&format!("{chat_path}/messages")).await,
        http.get(&format!("{chat_path}/events")).await,
        http.get(&format!("{chat_path}/members")).await,
        http.post(&format!("{chat_path}/messages"), json!({ "type": "TEXT", "text": "hi" })).await,
        http.post_nothing(&format!("{chat_path}/messages/delivered")).await,
        http.post_nothing(&format!("{chat_path}/messages/read")).await,
        http.post(&format!("{chat_path}/members"), json!({ "userIds": [mallory.id] })).await,
        http.delete(&format!("{chat_path}/members/{}", victim.id)).await,
        http.post_nothing(&format!("{chat_path}/leave")).await,
        http.patch(&chat_path, json!({ "name": "mine" })).await,
        http.patch(&format!("{chat_path}/settings"), json!({ "pinned": true })).await,
        http.patch(&format!("{chat_path}/members/{}", victim.id), json!({ "role": "member" })).await,
        http.patch(&format!("{message_path}/status"), json!({ "status": "READ" })).await,
        http.patch(&message_path, json!({ "text": "mine" })).await,
        http.delete(&message_path).await,
        http.delete(&format!("{message_path}?for=everyone")).await,
        http.post(&format!("{message_path}/reactions"), json!({ "emoji": "👍" })).await,
        http.get(&format!("{message_path}/replies")).await,
        http.get(&format!("{message_path}/info")).await,
        http.post(&format!("{message_path}/forward"), json!({ "chatIds": [hers.0] })).await,
        // A foreign id in a body, of a chat or a message that is one's own otherwise.
        http.post(&format!("/chats/messages/{}/forward", own.id), json!({ "chatIds": [chat] })).await,
        http.post(
            &format!("/chats/{hers}/messages"),
            json!({ "type": "TEXT", "text": "re", "replyToId": message }),
        )
        .await,
    ]
}

both_engines! {
    async fn a_foreign_chat_looks_over_rest_as_one_that_does_not_exist(server) {
        let (alice, mallory, _, chat, secret, hers) = scene(&server).await;
        let group = alice.group("us", &[]).await;
        let in_group = alice.post(&group, "secret").await;
        let nothing = requests(&mallory, &hers, NOWHERE, NOWHERE, &alice).await;
        for (chat, message) in [(&chat, &secret), (&group, &in_group)] {
            let foreign = requests(&mallory, &hers, &chat.0, &message.id, &alice).await;
            for (foreign, nothing) in foreign.into_iter().zip(&nothing) {
                let of_nothing = nothing.clone().expect_problem(404, "not-found");
                let of_foreign = foreign.expect_problem(404, "not-found");
                assert_eq!(of_foreign["detail"], of_nothing["detail"]);
            }
        }
        assert_eq!(alice.texts(&chat).await, ["secret"]);
        assert_eq!(alice.status_of(&secret).await, "SENT");
        assert_eq!(alice.chat(&group).await["memberCount"], 1);
    }

    async fn no_filter_brings_a_foreign_chat(server) {
        let (alice, mallory, carol, chat, _, hers) = scene(&server).await;
        let mut raw = mallory.raw(Protocol::V5, Connect::default()).await;
        let filters = [
            format!("chats/{chat}/messages"),
            format!("chats/{chat}/receipts"),
            format!("chats/{chat}/#"),
            format!("chats/{chat}/+"),
            format!("+/{chat}/messages"),
            "chats/+/messages".into(),
            "chats/#".into(),
            "+/+/+".into(),
            "#".into(),
        ];
        let wishes: Vec<_> = filters.iter().map(|filter| (filter.as_str(), 1)).collect();
        // Granted without a look-up: a filter tells nothing about what is there.
        assert_eq!(raw.subscribe(&wishes).await, [1; 9]);
        let foreign = [
            format!("users/{}/events", alice.id),
            format!("users/{}/errors", alice.id),
            format!("users/{}/x/y", alice.id),
            "$share/group/chats/+/messages".into(),
            "elsewhere".into(),
        ];
        let wishes: Vec<_> = foreign.iter().map(|filter| (filter.as_str(), 1)).collect();
        assert_eq!(raw.subscribe(&wishes).await, [0x8F; 5]);

        alice.post(&chat, "another secret").await;
        alice.group("secret group", &[]).await;
        alice.http.post_nothing(&format!("/chats/{chat}/messages/read")).await.expect(204);
        let sentinel = carol.post(&hers, "sentinel").await;
        let received = raw.publication().await;
        assert_eq!(received.json()["id"], sentinel.id, "before it nothing comes: {received:?}");
        // Neither later, nor from what is caught up after coming back.
        let second = carol.post(&hers, "second sentinel").await;
        assert_eq!(raw.publication().await.json()["id"], second.id);
    }

    async fn foreign_filters_are_refused_in_mqtt_3_too(server) {
        let (alice, mallory, ..) = scene(&server).await;
        let mut raw = mallory.raw(Protocol::V3, Connect::default()).await;
        let events = format!("users/{}/events", alice.id);
        assert_eq!(raw.subscribe(&[(&events, 1), ("#", 1)]).await, [0x80, 1]);
    }

    async fn a_lasting_session_catches_up_with_nothing_foreign(server) {
        let (alice, mallory, carol, chat, _, hers) = scene(&server).await;
        let one = format!("chats/{chat}/messages");
        let connection = mallory.open(&mallory.options()).await.unwrap();
        mallory.adopt(connection).await;
        mallory.mqtt().await.subscribe(&[(&one, 1), ("#", 1)]).await;
        mallory.go_offline().await;
        alice.post(&chat, "another secret").await;
        server.kill_and_restart().await;
        mallory.connect().await;
        assert!(mallory.mqtt().await.session_present());
        let sentinel = carol.post(&hers, "sentinel").await;
        let before = mallory.everything_until(&sentinel).await;
        assert!(before.is_empty(), "{before:?}");
    }

    async fn publishing_to_a_foreign_chat_is_refused_as_to_one_that_does_not_exist(server) {
        let (alice, mallory, _, chat, secret, hers) = scene(&server).await;
        let mut raw = mallory.raw(Protocol::V5, Connect::default()).await;
        let about = |message: &str| {
            [
                ("edit", json!({ "messageId": message, "text": "mine" })),
                ("react", json!({ "messageId": message, "emoji": "👍" })),
                ("delete", json!({ "messageId": message, "for": "everyone" })),
                ("delete", json!({ "messageId": message })),
                ("send", json!({ "type": "TEXT", "text": "re", "replyToId": message })),
            ]
        };
        for (of_foreign, of_nothing) in about(&secret.id).into_iter().zip(about(NOWHERE)) {
            let mut answers = Vec::new();
            for (target, (kind, body)) in
                [(chat.0.as_str(), &of_foreign), (&hers.0, &of_foreign), (&hers.0, &of_nothing), (NOWHERE, &of_nothing)]
            {
                raw.publish(&format!("chats/{target}/{kind}"), body.to_string().as_bytes(), 1, 1).await;
                let answer = raw.puback(1).await;
                assert!(answer.1.reason_string.starts_with("not-found"), "{kind} {target}: {answer:?}");
                answers.push(answer);
            }
            assert!(answers[1] == answers[2] && answers[0] == answers[3], "{answers:?}");
        }
        for kind in ["send", "receipts"] {
            let body = if kind == "send" { text("hi", "1") } else { br#"{"read":1}"#.to_vec() };
            let mut answers = Vec::new();
            for target in [chat.0.as_str(), NOWHERE] {
                raw.publish(&format!("chats/{target}/{kind}"), &body, 1, 1).await;
                answers.push(raw.puback(1).await);
            }
            assert_eq!(answers[0], answers[1], "{kind}");
            assert_eq!(answers[0].0, 0x87, "{kind}");
            assert!(answers[0].1.reason_string.starts_with("not-found"), "{answers:?}");
        }
        assert_eq!(alice.texts(&chat).await, ["secret"]);
        assert_eq!(alice.status_of(&secret).await, "SENT");
    }

    async fn nobody_publishes_where_the_server_speaks(server) {
        let (alice, mallory, _, chat, ..) = scene(&server).await;
        alice.connect().await;
        let mut raw = mallory.raw(Protocol::V5, Connect::default()).await;
        let topics = [
            format!("users/{}/events", alice.id),
            format!("users/{}/errors", alice.id),
            format!("users/{}/events", mallory.id),
            format!("chats/{chat}/messages"),
        ];
        for topic in topics {
            raw.publish(&topic, b"{}", 1, 1).await;
            let (reason, _) = raw.puback(1).await;
            assert!([0x87, 0x90].contains(&reason), "{topic}: {reason:#x}");
        }
        let sentinel = alice.post(&chat, "sentinel").await;
        let before = alice.everything_until(&sentinel).await;
        let before: Vec<_> = before.into_iter().filter(|r| !r.retain).collect();
        assert!(before.is_empty(), "{before:?}");
    }

    async fn the_user_name_of_another_opens_nothing(server) {
        let (alice, mallory, ..) = scene(&server).await;
        for name in [&alice.id, &alice.username] {
            let connect = mallory.credentials(Connect::default());
            let connect = Connect { username: Some(name.clone()), ..connect };
            let mut raw = curlew_tests::RawClient::open(server.endpoints().mqtt(), Protocol::V5).await;
            assert_eq!(raw.connect(&connect).await.1, 0x86);
            assert_eq!(raw.read().await, None);
        }
    }

    async fn a_client_identifier_takes_over_no_stranger(server) {
        let (alice, mallory, ..) = scene(&server).await;
        let same = || Connect { client_id: "same".into(), clean: false, expiry: Some(60), ..Connect::default() };
        let mut hers = alice.raw(Protocol::V5, same()).await;
        let (_, present) = mallory.raw_session(Protocol::V5, same()).await;
        assert!(!present, "the session of somebody else");
        hers.ping().await;
        assert_eq!(hers.read().await, Some(Packet::PingResp));
    }

    async fn a_private_chat_needs_a_contact(server) {
        let (alice, mallory, ..) = scene(&server).await;
        let body = json!({ "type": "private", "userId": alice.id });
        mallory.http.post("/chats", body).await.expect_problem(403, "not-contact");
        let body = json!({ "type": "group", "name": "trap", "memberIds": [alice.id] });
        mallory.http.post("/chats", body).await.expect_problem(403, "not-contact");
        let group = mallory.group("mine", &[]).await;
        let body = json!({ "userIds": [alice.id] });
        let answer = mallory.http.post(&format!("/chats/{group}/members"), body).await;
        answer.expect_problem(403, "not-contact");
        assert_eq!(mallory.chat(&group).await["memberCount"], 1);
    }
}

both_engines! {
    async fn contacts_are_not_needed_where_the_operator_says_so(server: with |setup| {
        setup.env("CURLEW_CHATS_REQUIRE_CONTACT", "false")
    }) {
        let (alice, bob) = (server.user("alice").await, server.user("bob").await);
        bob.connect().await;
        let chat = alice.private_chat(&bob).await;
        let sent = alice.post(&chat, "hello").await;
        bob.expect_message(&sent).await;
    }
}

#[tokio::test]
async fn sends_to_a_foreign_chat_at_qos_0_store_nothing() {
    let server = TestServer::start(curlew_tests::Engine::Sqlite).await;
    let (alice, mallory, _, chat, ..) = scene(&server).await;
    mallory.connect().await;
    mallory.mqtt().await.publish_and_forget(&send_topic(&chat), text("hi", "1")).await;
    let failed = mallory.expect_event("command-failed").await;
    assert_eq!(failed.json["code"], "not-found");
    assert_eq!(alice.texts(&chat).await, ["secret"]);
}
