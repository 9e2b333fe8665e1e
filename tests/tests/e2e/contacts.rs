//! Contacts over REST, and what the other side hears of them over MQTT.

use crate::pluck;
use curlew_tests::{Actor, Received, TestServer, Value, both_engines, json};

/// Alice and Bob, who do not know each other, connected.
async fn strangers(server: &TestServer) -> (Actor, Actor) {
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    alice.connect().await;
    bob.connect().await;
    (alice, bob)
}

/// The next event of the personal log.
async fn next_event(actor: &Actor) -> Received {
    let topic = format!("users/{}/events", actor.id);
    actor.mqtt().await.receive("a personal event", |r| r.topic == topic).await
}

async fn request(from: &Actor, to: &Actor) -> Value {
    from.http.post("/contacts/request", json!({ "userId": to.id })).await.expect(201)
}

async fn names(actor: &Actor, list: &str) -> Vec<String> {
    pluck(&actor.http.get(list).await.expect(200)["items"], "/user/username")
}

both_engines! {
    // C1
    async fn a_request_is_seen_by_both_and_accepted(server) {
        let (alice, bob) = strangers(&server).await;
        let contact = request(&alice, &bob).await;
        assert_eq!((&contact["user"]["id"], &contact["state"]), (&json!(bob.id), &json!("outgoing")));
        let event = next_event(&bob).await;
        assert_eq!((event.event(), event.seq()), ("new-contact-request", 1));
        assert_eq!(event.json["contact"]["user"]["username"], "alice");
        assert_eq!(event.json["contact"]["state"], "incoming");
        for (actor, state) in [(&alice, "outgoing"), (&bob, "incoming")] {
            let pending = actor.http.get("/contacts/pending").await.expect(200);
            assert_eq!(pluck(&pending["items"], "/state"), [state]);
        }
        // Again: changes nothing, and nobody is told again.
        alice.http.post("/contacts/request", json!({ "username": "bob" })).await.expect(200);

        let contact = bob.http.patch_nothing(&format!("/contacts/request/{}/accept", alice.id)).await.expect(200);
        assert_eq!((&contact["user"]["id"], &contact["state"]), (&json!(alice.id), &json!("contact")));
        for (actor, peer, seq) in [(&alice, &bob, 1), (&bob, &alice, 2)] {
            let event = next_event(actor).await;
            assert_eq!((event.event(), event.seq()), ("contact-request-accepted", seq));
            assert_eq!(event.json["contact"]["user"]["id"], peer.id);
            assert_eq!(event.json["contact"]["state"], "contact");
            assert_eq!(names(actor, "/contacts").await, std::slice::from_ref(&peer.username));
            assert_eq!(names(actor, "/contacts/pending").await, [""; 0]);
        }
        // Again: changes nothing.
        bob.http.patch_nothing(&format!("/contacts/request/{}/accept", alice.id)).await.expect(200);
    }

    // C1
    async fn two_who_ask_each_other_are_contacts(server) {
        let (alice, bob) = strangers(&server).await;
        request(&alice, &bob).await;
        let contact = request(&bob, &alice).await;
        assert_eq!(contact["state"], "contact");
        assert_eq!(names(&alice, "/contacts").await, ["bob"]);
    }

    // C2
    async fn a_request_is_rejected(server) {
        let (alice, bob) = strangers(&server).await;
        request(&alice, &bob).await;
        let reject = format!("/contacts/request/{}/reject", alice.id);
        bob.http.delete(&reject).await.expect(204);
        // Again: there is none, as for somebody who never asked.
        bob.http.delete(&reject).await.expect_problem(404, "not-found");
        let event = next_event(&alice).await;
        assert_eq!((event.event(), &event.json["userId"]), ("contact-request-rejected", &json!(bob.id)));
        for actor in [&alice, &bob] {
            assert_eq!(names(actor, "/contacts/pending").await, [""; 0]);
            assert_eq!(names(actor, "/contacts").await, [""; 0]);
        }
        let accept = format!("/contacts/request/{}/accept", alice.id);
        bob.http.patch_nothing(&accept).await.expect_problem(404, "not-found");
    }

    // C2
    async fn a_request_is_withdrawn_by_its_sender(server) {
        let (alice, bob) = strangers(&server).await;
        request(&alice, &bob).await;
        alice.http.delete(&format!("/contacts/request/{}/reject", bob.id)).await.expect(204);
        assert_eq!(next_event(&bob).await.event(), "new-contact-request");
        assert_eq!(next_event(&bob).await.event(), "contact-request-rejected");
        let accept = format!("/contacts/request/{}/accept", alice.id);
        bob.http.patch_nothing(&accept).await.expect_problem(404, "not-found");
    }

    async fn nobody_accepts_their_own_request(server) {
        let (alice, bob) = strangers(&server).await;
        request(&alice, &bob).await;
        let accept = format!("/contacts/request/{}/accept", bob.id);
        alice.http.patch_nothing(&accept).await.expect_problem(404, "not-found");
        assert_eq!(names(&alice, "/contacts").await, [""; 0]);
    }

    // C3
    async fn a_contact_is_removed(server) {
        let (alice, bob) = server.two_contacts().await;
        alice.http.delete(&format!("/contacts/{}", bob.id)).await.expect(204);
        let event = next_event(&bob).await;
        assert_eq!((event.event(), &event.json["userId"]), ("contact-removed", &json!(alice.id)));
        assert_eq!(names(&bob, "/contacts").await, [""; 0]);
        alice.http.delete(&format!("/contacts/{}", bob.id)).await.expect_problem(404, "not-found");
    }

    // B1, B3, B4
    async fn a_block_closes_the_private_chat_both_ways_until_it_ends(server) {
        let (alice, bob) = server.two_contacts().await;
        let chat = alice.private_chat(&bob).await;
        let before = alice.post(&chat, "before").await;
        for _ in 0..2 {
            let contact = bob.http.post("/contacts/block", json!({ "userId": alice.id })).await.expect(200);
            assert_eq!(contact["state"], "blocked");
        }
        let event = next_event(&alice).await;
        assert_eq!((event.event(), &event.json["userId"]), ("blocked-by-contact", &json!(bob.id)));
        for actor in [&alice, &bob] {
            let body = json!({ "type": "TEXT", "text": "blocked" });
            let answer = actor.http.post(&format!("/chats/{chat}/messages"), body).await;
            answer.expect_problem(403, "blocked");
            // It hides nothing that is in the log.
            assert_eq!(actor.texts(&chat).await, ["before"]);
        }
        let ack = alice.mqtt().await.publish(&crate::send_topic(&chat), crate::text("blocked", "1")).await;
        assert_eq!(ack.reason, "NotAuthorized");
        assert!(ack.reason_string.starts_with("blocked"), "{ack:?}");
        assert_eq!(names(&bob, "/contacts/blocked").await, ["alice"]);
        assert_eq!(names(&alice, "/contacts/blocked").await, [""; 0], "whom others block is theirs");
        assert_eq!(names(&bob, "/contacts").await, [""; 0]);
        let body = json!({ "type": "group", "name": "us", "memberIds": [bob.id] });
        alice.http.post("/chats", body).await.expect_problem(403, "blocked");

        for _ in 0..2 {
            bob.http.patch_nothing(&format!("/contacts/unblock/{}", alice.id)).await.expect(204);
        }
        // Each was told once.
        let event = next_event(&alice).await;
        assert_eq!((event.event(), &event.json["userId"]), ("unblocked-by-contact", &json!(bob.id)));
        let after = alice.post(&chat, "after").await;
        assert_eq!(after.seq, before.seq + 1);
        assert_eq!(names(&bob, "/contacts").await, ["alice"], "a block keeps a contact for the time after it");
    }

    // B4
    async fn a_block_ends_requests_and_refuses_new_ones_silently(server) {
        let (alice, bob) = strangers(&server).await;
        request(&alice, &bob).await;
        bob.http.post("/contacts/block", json!({ "userId": alice.id })).await.expect(200);
        assert_eq!(names(&bob, "/contacts/pending").await, [""; 0]);
        let again = alice.http.post("/contacts/request", json!({ "userId": bob.id })).await;
        again.expect_problem(403, "blocked");
        bob.http.patch_nothing(&format!("/contacts/unblock/{}", alice.id)).await.expect(204);
        // Strangers are not told of blocks: the next that Alice hears is an acceptance.
        request(&alice, &bob).await;
        bob.http.patch_nothing(&format!("/contacts/request/{}/accept", alice.id)).await.expect(200);
        assert_eq!(next_event(&alice).await.event(), "contact-request-accepted");
    }

    // B2
    async fn a_block_does_not_act_inside_shared_groups(server) {
        let [alice, bob, carol] = server.contacts(["alice", "bob", "carol"]).await;
        let group = alice.group("us", &[&bob, &carol]).await;
        bob.connect().await;
        bob.http.post("/contacts/block", json!({ "userId": carol.id })).await.expect(200);
        let sent = carol.post(&group, "hello").await;
        bob.expect_message(&sent).await;
    }

    async fn lists_page(server) {
        let alice = server.user("alice").await;
        for number in 0..5 {
            server.user(&format!("user{number}")).await.befriend(&alice).await;
        }
        let (mut found, mut path) = (Vec::new(), "/contacts?limit=2".to_owned());
        loop {
            let page = alice.http.get(&path).await.expect(200);
            let names = pluck(&page["items"], "/user/username");
            assert!(names.len() <= 2);
            found.extend(names);
            let Some(cursor) = page["nextCursor"].as_str() else { break };
            path = format!("/contacts?limit=2&cursor={cursor}");
        }
        assert_eq!(found, ["user4", "user3", "user2", "user1", "user0"], "newest first");
    }
}

#[tokio::test]
async fn wishes_that_make_no_sense_are_refused() {
    let server = TestServer::start(curlew_tests::Engine::Sqlite).await;
    let (alice, bob) = (server.user("alice").await, server.user("bob").await);
    let ask = async |body: Value| alice.http.post("/contacts/request", body).await;
    let field = |field: &str, code: &str| vec![(field.to_owned(), code.to_owned())];
    assert_eq!(ask(json!({ "userId": alice.id })).await.expect_invalid(), field("userId", "self"));
    assert_eq!(ask(json!({})).await.expect_invalid(), field("userId", "required"));
    ask(json!({ "userId": alice.device_id })).await.expect_problem(404, "not-found");
    ask(json!({ "username": "nobody" })).await.expect_problem(404, "not-found");
    ask(json!({ "userId": bob.id, "username": "bob" })).await.expect_problem(400, "invalid-request");
    let block = alice.http.post("/contacts/block", json!({ "userId": alice.device_id })).await;
    block.expect_problem(404, "not-found");
}
