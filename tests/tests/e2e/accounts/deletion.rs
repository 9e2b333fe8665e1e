//! The end of an account.

use super::{closed_within_a_second, profile, registration, text};
use crate::{pluck, send_topic};
use curlew_tests::{
    Protocol, RawClient, actor::PASSWORD, both_engines, json, mqtt::raw::Connect, wait::eventually,
};

both_engines! {
    async fn a_deleted_account_is_gone_and_what_it_sent_stays(server) {
        let [alice, bob, carol] = server.contacts(["alice", "bob", "carol"]).await;
        let tablet = alice.log_in_on(&server, "tablet").await;
        let chat = alice.private_chat(&bob).await;
        let group = alice.group("birds", &[&bob, &carol]).await;
        alice.post(&chat, "hello").await;
        alice.post(&group, "hello all").await;
        bob.connect().await;
        let mut raws = [
            alice.raw(Protocol::V5, Connect::default()).await,
            tablet.raw(Protocol::V5, Connect { clean: false, expiry: Some(600), ..Connect::default() }).await,
        ];
        let wrong = alice.http.delete_with("/auth/delete-profile", json!({ "password": "not the password" })).await;
        wrong.expect_problem(401, "invalid-credentials");
        let missing = alice.http.delete_with("/auth/delete-profile", json!({})).await.expect_invalid();
        assert_eq!(missing, [("password".into(), "required".into())]);
        profile(&tablet.http).await;

        alice.http.delete_with("/auth/delete-profile", json!({ "password": PASSWORD })).await.expect(204);
        for raw in &mut raws {
            assert_eq!(closed_within_a_second(raw).await, Some(0x87));
        }
        let again = alice.http.delete_with("/auth/delete-profile", json!({ "password": PASSWORD })).await;
        again.expect_problem(401, "unauthenticated");
        let mut raw = RawClient::open(server.endpoints().mqtt(), Protocol::V5).await;
        assert_eq!(raw.connect(&tablet.credentials(Connect::default())).await.1, 0x86);
        let login = json!({ "login": "alice", "password": PASSWORD });
        server.anonymous().post("/auth/login", login).await.expect_problem(401, "invalid-credentials");
        let taken = server.anonymous().post("/auth/register", registration("alice")).await;
        taken.expect_problem(409, "username-taken");

        // What the others see.
        let removed = bob.expect_event("contact-removed").await;
        assert_eq!(removed.json["userId"], alice.id.as_str());
        let left = bob.expect_event("members-changed").await;
        assert_eq!(left.topic, format!("chats/{group}/messages"));
        assert_eq!(left.json["removed"], json!([alice.id]));
        let heir = left.json["roles"].as_object().unwrap();
        assert!(heir.len() == 1 && heir.values().all(|role| role == "owner"), "{left:?}");
        let seen = bob.http.get(&format!("/users/{}", alice.id)).await.expect(200);
        assert_eq!((&seen["deleted"], text(&seen, "/displayName")), (&json!(true), "Deleted user".into()));
        assert!(text(&seen, "/username").starts_with("deleted."), "{seen}");
        let kept = bob.chat(&chat).await;
        assert_eq!((&kept["peer"]["deleted"], &kept["role"]), (&json!(true), &json!("member")));
        for (chat, said) in [(&chat, "hello"), (&group, "hello all")] {
            let page = bob.http.get(&format!("/chats/{chat}/messages")).await.expect(200);
            let message = page["items"].as_array().unwrap().iter().find(|m| m["text"] == said).cloned();
            assert_eq!(message.unwrap()["senderId"], alice.id.as_str(), "messages remain");
        }
        assert_eq!(bob.chat(&group).await["memberCount"], 2);
        assert!(bob.http.get("/contacts").await.expect(200)["items"].as_array().unwrap().iter().all(|c| c["user"]["id"] != alice.id.as_str()));

        // What they can do.
        let path = format!("/chats/{chat}/messages");
        for _ in 0..2 {
            let send = bob.http.post(&path, json!({ "type": "TEXT", "text": "are you there?" })).await;
            send.expect_problem(403, "user-deleted");
        }
        let ack = bob.mqtt().await.publish(&send_topic(&chat), crate::text("are you there?", "x")).await;
        assert_eq!(ack.reason, "NotAuthorized", "{ack:?}");
        assert!(ack.reason_string.starts_with("user-deleted"), "{ack:?}");
        carol.post(&group, "who was that?").await;
        carol.http.post("/chats", json!({ "type": "private", "userId": alice.id })).await.expect_problem(404, "not-found");
        let add = carol.http.post("/contacts/request", json!({ "userId": alice.id })).await;
        add.expect_problem(404, "not-found");
        let members = json!({ "type": "group", "name": "more", "memberIds": [alice.id] });
        carol.http.post("/chats", members).await.expect_problem(404, "not-found");
    }

    async fn open_requests_end_with_the_account(server) {
        let (alice, bob) = (server.user("alice").await, server.user("bob").await);
        bob.connect().await;
        alice.http.post("/contacts/request", json!({ "userId": bob.id })).await.expect(201);
        bob.expect_event("new-contact-request").await;
        alice.http.delete_with("/auth/delete-profile", json!({ "password": PASSWORD })).await.expect(204);
        let rejected = bob.expect_event("contact-request-rejected").await;
        assert_eq!(rejected.json["userId"], alice.id.as_str());
        assert!(pluck(&bob.http.get("/contacts/pending").await.expect(200)["items"], "/user/id").is_empty());
    }

    async fn a_deletion_that_a_crash_cuts_off_is_finished(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let mut groups = Vec::new();
        for n in 0..30 {
            groups.push(alice.group(&format!("group {n}"), &[&bob]).await);
        }
        let http = alice.http.clone();
        let deleting = tokio::spawn(async move {
            let body = json!({ "password": PASSWORD }).to_string().into_bytes();
            let _ = http.try_request("DELETE".parse().unwrap(), "/auth/delete-profile", Some(("application/json", body))).await;
        });
        eventually("the account is gone", async || {
            (bob.http.get(&format!("/users/{}", alice.id)).await.expect(200)["deleted"] == true).then_some(())
        })
        .await;
        server.kill_and_restart().await;
        deleting.await.unwrap();
        for group in &groups {
            eventually("the deleted user has left every group", async || {
                let chat = bob.chat(group).await;
                (chat["memberCount"] == 1 && chat["role"] == "owner").then_some(())
            })
            .await;
            let events = bob.events(group).await;
            let left = events.iter().filter(|event| event["removed"] == json!([alice.id])).count();
            assert_eq!(left, 1, "{events:?}");
        }
    }
}
