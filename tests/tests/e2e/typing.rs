//! Who types.

use curlew_tests::{
    Actor, Chat, Protocol, Received, TestServer, both_engines, json, mqtt::Connection, mqtt::raw::Connect,
};
use std::time::{Duration, Instant};

async fn follow(actor: &Actor, client_id: &str) -> Connection {
    let options = curlew_tests::mqtt::Options { client_id: client_id.into(), ..actor.options() };
    let mut connection = actor.open(&options).await.expect("CONNECT is accepted");
    connection.subscribe(&[("chats/+/typing", 1)]).await;
    connection
}

async fn say(connection: &mut Connection, chat: &Chat, typing: bool) -> String {
    connection.publish(&format!("chats/{chat}/typing"), json!({ "typing": typing }).to_string()).await.reason
}

async fn expect(connection: &mut Connection, of: &Actor, chat: &Chat, typing: bool) -> Received {
    let told = connection.receive(&format!("typing: {typing}"), |r| r.event() == "user-typing").await;
    assert_eq!(told.topic, format!("chats/{chat}/typing"));
    assert_eq!((&told.json["userId"], &told.json["typing"]), (&json!(of.id), &json!(typing)));
    assert_eq!((told.qos, told.retain), (0, false));
    told
}

async fn group(server: &TestServer) -> (Actor, Actor, Actor, Chat) {
    let [alice, bob, carol] = server.contacts(["alice", "bob", "carol"]).await;
    let chat = alice.group("us", &[&bob]).await;
    (alice, bob, carol, chat)
}

both_engines! {
    async fn members_who_subscribed_are_told_and_it_ends_by_itself(server) {
        let (alice, bob, carol, chat) = group(&server).await;
        let (mut from, mut to, mut stranger) = (follow(&alice, "a").await, follow(&bob, "b").await, follow(&carol, "c").await);
        let mut elsewhere = follow(&alice, "a2").await;
        let began = Instant::now();
        assert_eq!(say(&mut from, &chat, true).await, "Success");
        expect(&mut to, &alice, &chat, true).await;
        // Again within two seconds, it is not told again, but lasts longer.
        assert_eq!(say(&mut from, &chat, true).await, "Success");
        expect(&mut to, &alice, &chat, false).await;
        let lasted = began.elapsed();
        assert!((Duration::from_secs(6)..Duration::from_secs(9)).contains(&lasted), "{lasted:?}");
        for connection in [&mut from, &mut elsewhere, &mut stranger] {
            let arrived = connection.arrived();
            assert!(arrived.is_empty(), "{arrived:?}");
        }
        // Nothing is retained.
        assert_eq!(say(&mut from, &chat, true).await, "Success");
        expect(&mut to, &alice, &chat, true).await;
        let mut late = follow(&bob, "late").await;
        assert_eq!(say(&mut from, &chat, false).await, "Success");
        expect(&mut late, &alice, &chat, false).await;
    }

    async fn only_members_type_and_in_a_private_chat_nobody_who_is_blocked(server) {
        let (alice, bob, carol, chat) = group(&server).await;
        let mut stranger = follow(&carol, "c").await;
        assert_eq!(say(&mut stranger, &chat, true).await, "NotAuthorized");
        let private = alice.private_chat(&bob).await;
        alice.http.post("/contacts/block", json!({ "userId": bob.id })).await.expect(200);
        let (mut from, mut to) = (follow(&bob, "b").await, follow(&alice, "a").await);
        assert_eq!(say(&mut from, &private, true).await, "NotAuthorized");
        assert_eq!(say(&mut to, &private, true).await, "NotAuthorized");
        assert_eq!(say(&mut from, &chat, true).await, "Success", "in the group it goes on");
        expect(&mut to, &bob, &chat, true).await;
    }

    async fn what_is_no_typing_is_refused(server) {
        let (alice, _, _, chat) = group(&server).await;
        let mut raw = alice.raw(Protocol::V5, Connect::default()).await;
        for body in [&b"{}"[..], br#"{"typing":1}"#, br#"{"typing":true,"x":1}"#, b"", b"true"] {
            raw.publish(&format!("chats/{chat}/typing"), body, 1, 1).await;
            assert_eq!(raw.puback(1).await.0, 0x99);
        }
    }
}
