//! Whose the lane is, how it looks without a mount, and the lanes of chats.

use super::{MOUNT, body, connect, fleeting};
use curlew_tests::{
    Protocol, RawClient, both_engines,
    mqtt::raw::{Connect, Packet},
};

async fn bare(actor: &curlew_tests::Actor, client_id: &str) -> RawClient {
    actor.raw(Protocol::V5, Connect { client_id: client_id.into(), ..Connect::default() }).await
}

both_engines! {
    async fn a_mount_hides_the_prefix_and_nothing_else(server) {
        let alice = server.user("alice").await;
        let prefix = format!("users/{}/x/", alice.id);
        let mut mounted = connect(&alice, "mounted").await;
        mounted.subscribe(&[("#", 0)]).await;
        let mut bare = bare(&alice, "bare").await;
        bare.subscribe(&[(&format!("{prefix}#"), 0)]).await;
        for topic in ["a", "/", "/a", "a//b", "$x/a", "chats/+1".trim_end_matches("+1"), "é/ü"] {
            mounted.publish_to_the_end(topic, b"from the mount", 1).await;
            assert_eq!(bare.publication().await.topic, format!("{prefix}{topic}"));
            bare.publish(&format!("{prefix}{topic}"), b"from outside", 0, 0).await;
            assert_eq!(bare.publication().await.topic, format!("{prefix}{topic}"));
            // [MQTT-4.7.2-1]: `#` does not match what begins with `$`, as the mounted client sees it.
            if !topic.starts_with('$') {
                assert_eq!(mounted.publication().await.topic, topic);
                assert_eq!(mounted.publication().await.topic, topic);
            }
        }
        mounted.expect_quiet().await;
    }

    async fn a_deeper_mount_sees_a_part(server) {
        let alice = server.user("alice").await;
        let mut deep =
            alice.raw(Protocol::V5, Connect { options: "?mount=x/home", ..fleeting("deep") }).await;
        deep.subscribe(&[("#", 0)]).await;
        let mut mounted = connect(&alice, "mounted").await;
        for topic in ["home", "garden/lamp", "homes/lamp", "home/lamp"] {
            mounted.publish_to_the_end(topic, b"on", 0).await;
        }
        assert_eq!(deep.publication().await.topic, "lamp");
        deep.expect_quiet().await;
        for options in ["?mount=y", "?mount=x/", "?mount=x/%2B", "?mount=../x", "?mount=x/a//b", "?colour=red"] {
            let mut raw = RawClient::open(server.endpoints().mqtt(), Protocol::V5).await;
            let connect = alice.credentials(Connect { options, ..Connect::default() });
            assert_eq!(raw.connect(&connect).await.1, 0x86, "{options}");
        }
    }

    /// Sessions of one client identifier with and without a mount are two.
    async fn a_mounted_session_is_another(server) {
        let alice = server.user("alice").await;
        let mut bare = bare(&alice, "same").await;
        let mut mounted = connect(&alice, "same").await;
        bare.expect_quiet().await;
        mounted.expect_quiet().await;
        let again = alice.raw_session(Protocol::V5, crate::plain::lasting("same")).await;
        assert!(!again.1);
        assert_eq!(mounted.closed().await, Some(0x8E));
        bare.expect_quiet().await;
    }

    async fn the_lane_is_ones_own(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let theirs = format!("users/{}/x/a", alice.id);
        let mut mounted = connect(&bob, "mounted").await;
        mounted.subscribe(&[("#", 1), (&theirs, 1), ("+/+/+/+", 1)]).await;
        let mut bare = bare(&bob, "bare").await;
        assert_eq!(bare.subscribe(&[(&theirs, 1), ("#", 1), ("users/+/x/#", 1)]).await, [0x8F, 1, 1].map(|code| code));
        bare.publish(&theirs, b"forged", 1, 4).await;
        assert_eq!(bare.puback(4).await.0, 0x87);
        mounted.publish_to_the_end(&theirs, b"bob's own topic of that name", 1).await;
        let mut hers = connect(&alice, "hers").await;
        hers.subscribe(&[("#", 1)]).await;
        hers.publish_to_the_end("a", b"alice's", 1).await;
        assert_eq!(body(&hers.take_publication().await), "alice's");
        hers.expect_quiet().await;
        for _ in 0..1 {
            assert_eq!(body(&mounted.take_publication().await), "bob's own topic of that name");
        }
        mounted.expect_quiet().await;
    }

    async fn a_mounted_client_sees_no_chats(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        let mut mounted = connect(&bob, "mounted").await;
        assert_eq!(mounted.subscribe(&[("#", 1), ("chats/+/messages", 1)]).await, [1, 1]);
        alice.post(&chat, "hello").await;
        mounted.publish_to_the_end(&crate::send_topic(&chat), b"not a command here", 1).await;
        assert_eq!(body(&mounted.take_publication().await), "not a command here");
        assert_eq!(bob.texts(&chat).await, ["hello"]);
    }

    /// A Response Topic in one's own lane gets the whole result with the Correlation Data.
    async fn a_command_answers_where_it_is_told_to(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        let reply = format!("users/{}/x/reply", alice.id);
        let mut raw = bare(&alice, "raw").await;
        raw.subscribe(&[(&reply, 1)]).await;
        let text = |id: u8, value: &str| [&[id][..], &curlew_tests::mqtt::raw::text(value)].concat();
        let properties = [text(0x08, &reply), text(0x09, "42")].concat();
        let send = crate::send_topic(&chat);
        raw.publish_with(&properties, &send, &crate::text("hello", "1"), 5).await;
        raw.publish_with(&properties, &send, b"{}", 6).await;
        let mut answers = Vec::new();
        let mut acknowledged = Vec::new();
        while answers.len() < 2 || acknowledged.len() < 2 {
            match raw.read().await {
                Some(Packet::Publish(publication)) => answers.push(publication),
                Some(Packet::PubAck { id, reason, .. }) => acknowledged.push((id, reason)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(acknowledged, [(5, 0), (6, 0x99)]);
        assert_eq!(answers[0].json()["text"], "hello");
        assert_eq!(answers[0].json()["localId"], "1");
        assert_eq!(answers[1].json()["code"], "invalid-request");
        assert!(answers.iter().all(|a| a.properties.correlation_data.as_deref() == Some("42")));
    }

    async fn members_signal_each_other_while_they_are_there(server) {
        let [alice, bob, carol] = server.contacts(["alice", "bob", "carol"]).await;
        let chat = alice.group("group", &[&bob]).await;
        let topic = format!("chats/{chat}/x/{}/call", alice.id);
        let mut hers = bare(&alice, "hers").await;
        let mut his = bare(&bob, "his").await;
        let mut strangers = bare(&carol, "strangers").await;
        for raw in [&mut hers, &mut his, &mut strangers] {
            assert_eq!(raw.subscribe(&[("chats/+/x/#", 2)]).await, [1]);
        }
        hers.retain(&topic, b"ringing", 1, 3).await;
        let publication = his.take_publication().await;
        assert_eq!((&publication.topic, body(&publication), publication.qos), (&topic, "ringing", 1));
        let mut got = 0;
        while got < 2 {
            match hers.read().await {
                Some(Packet::PubAck { id: 3, reason: 0, .. }) => got += 1,
                Some(Packet::Publish(publication)) => {
                    hers.acknowledge(publication.id).await;
                    got += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        // In nobody else's name, and into no chat of others.
        hers.publish(&format!("chats/{chat}/x/{}/call", bob.id), b"forged", 1, 4).await;
        assert_eq!(hers.puback(4).await.0, 0x87);
        strangers.publish(&format!("chats/{chat}/x/{}/call", carol.id), b"hello?", 1, 5).await;
        assert_eq!(strangers.puback(5).await.0, 0x87);
        // Nothing is kept.
        let mut late = bare(&bob, "late").await;
        late.subscribe(&[("chats/+/x/#", 2)]).await;
        late.expect_quiet().await;
        alice.remove(&chat, &bob).await;
        his.publish(&format!("chats/{chat}/x/{}/call", bob.id), b"still here", 1, 6).await;
        assert_eq!(his.puback(6).await.0, 0x87);
        hers.publish_to_the_end(&topic, b"among us", 1).await;
        his.expect_quiet().await;
        strangers.expect_quiet().await;
    }

    async fn a_block_ends_signals_in_the_private_chat(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        bob.http.post("/contacts/block", curlew_tests::json!({ "userId": alice.id })).await.expect(200);
        let mut raw = bare(&alice, "raw").await;
        raw.publish(&format!("chats/{chat}/x/{}/call", alice.id), b"ringing", 1, 3).await;
        let (reason, properties) = raw.puback(3).await;
        assert_eq!(reason, 0x87);
        assert!(properties.reason_string.starts_with("blocked"));
    }

    async fn options_may_come_with_any_form_of_the_name(server) {
        let alice = server.user("alice").await;
        for name in [String::new(), alice.id.clone(), alice.username.clone()] {
            let mut raw = RawClient::open(server.endpoints().mqtt(), Protocol::V3).await;
            let connect = Connect {
                username: Some(format!("{name}{MOUNT}&format=json")),
                ..alice.credentials(Connect::default())
            };
            assert_eq!(raw.connect(&connect).await.1, 0, "{name}");
            assert_eq!(raw.subscribe(&[("any/topic", 2)]).await, [2]);
        }
    }
}
