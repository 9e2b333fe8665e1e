//! Badges over REST, and what a user's other devices hear of them; finding people. N, S and B are rules of
//! docs/rules.md.

use crate::pluck;
use curlew_tests::{Actor, both_engines, json};

both_engines! {
    // N1, N2, N5
    async fn a_badge_counts_until_it_is_read_or_cleared(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let group = alice.group("birds", &[&bob]).await;
        let tablet = bob.log_in_on(&server, "tablet").await;
        tablet.connect().await;
        for n in 0..3 {
            let mentions = if n == 1 { vec![&bob.id] } else { vec![] };
            let body = json!({ "type": "TEXT", "text": n.to_string(), "mentions": mentions });
            alice.http.post(&format!("/chats/{group}/messages"), body).await.expect(201);
        }
        for device in [&bob, &tablet] {
            let list = device.http.get("/notifications").await.expect(200);
            let item = &list["items"][0];
            assert_eq!((&item["chatId"], &item["unreadCount"]), (&json!(group.0), &json!(3)));
            assert_eq!((&item["mentionCount"], &item["lastMessage"]["text"]), (&json!(1), &json!("2")));
            assert_eq!((&list["contactRequests"], &list["nextCursor"]), (&json!([]), &json!(null)));
            assert_eq!(device.http.get("/notifications/count").await.expect(200), json!({ "total": 3 }));
            let all = json!({ "total": 3, "contactRequests": 0, "chats": { group.0.clone(): { "unread": 3, "mentions": 1 } } });
            assert_eq!(device.http.get("/notifications/all-counts").await.expect(200), all);
        }
        for _ in 0..2 {
            bob.http.post_nothing(&format!("/notifications/clear/{group}")).await.expect(204);
        }
        let event = tablet.expect_event("notifications-cleared").await;
        assert_eq!((event.topic, &event.json["chatId"]), (format!("users/{}/events", bob.id), &json!(group.0)));
        assert_eq!(bob.http.get("/notifications/count").await.expect(200), json!({ "total": 0 }));
        // Clearing is not reading.
        assert_eq!(bob.chat(&group).await["unreadCount"], 3);
        assert_ne!(alice.chat(&group).await["lastMessage"]["status"], "READ");
        alice.post(&group, "again").await;
        assert_eq!(bob.http.get("/notifications/count").await.expect(200), json!({ "total": 1 }));
        bob.http.post_nothing(&format!("/chats/{group}/messages/read")).await.expect(204);
        assert_eq!(bob.http.get("/notifications").await.expect(200)["items"], json!([]));
        alice.http.get("/notifications/all-counts").await.expect(200);
    }

    async fn a_badge_is_ones_own(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let (group, mallory) = (alice.group("birds", &[&bob]).await, server.user("mallory").await);
        mallory.http.post_nothing(&format!("/notifications/clear/{group}")).await.expect_problem(404, "not-found");
        bob.leave(&group).await;
        bob.http.post_nothing(&format!("/notifications/clear/{group}")).await.expect_problem(403, "not-member");
    }

    // N3
    async fn contact_requests_are_new_until_they_were_viewed(server) {
        let (alice, bob) = (server.user("alice").await, server.user("bob").await);
        bob.connect().await;
        alice.http.post("/contacts/request", json!({ "userId": bob.id })).await.expect(201);
        let list = bob.http.get("/notifications").await.expect(200);
        assert_eq!(list["contactRequests"][0]["user"]["id"], alice.id);
        assert_eq!(list["contactRequests"][0]["state"], "incoming");
        assert_eq!(bob.http.get("/notifications/count").await.expect(200), json!({ "total": 1 }));
        for _ in 0..2 {
            bob.http.post_nothing("/notifications/mark-contacts-viewed").await.expect(204);
        }
        let event = bob.expect_event("contact-requests-viewed").await;
        assert_eq!(event.topic, format!("users/{}/events", bob.id));
        assert_eq!(bob.http.get("/notifications").await.expect(200)["contactRequests"], json!([]));
        assert_eq!(pluck(&bob.http.get("/contacts/pending").await.expect(200)["items"], "/state"), ["incoming"]);
    }

    // S3, B4
    async fn people_are_searched(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let robert = server.user("robert").await;
        robert.http.post("/contacts/request", json!({ "userId": alice.id })).await.expect(201);
        let search = async |who: &Actor, query: &str| who.http.get(&format!("/contacts/search?{query}")).await;
        let found = search(&alice, "q=BO").await.expect(200);
        assert_eq!(pluck(&found["items"], "/user/username"), ["bob"]);
        assert_eq!(found["items"][0]["relation"], "contact");
        assert!(found["items"][0]["user"].get("email").is_none());
        assert_eq!(search(&alice, "q=rob").await.expect(200)["items"][0]["relation"], "incoming");
        bob.http.post("/contacts/block", json!({ "userId": alice.id })).await.expect(200);
        assert_eq!(search(&bob, "q=alice").await.expect(200)["items"][0]["relation"], "blocked");
        assert_eq!(search(&alice, "q=bob").await.expect(200)["items"][0]["relation"], "contact");
        for (query, field) in [("", "q"), ("q=", "q"), ("q=%20", "q"), ("q=a&limit=0", "limit"), ("q=a&cursor=x", "cursor"), ("q=a&p=b", "p")] {
            assert_eq!(search(&alice, query).await.expect_invalid()[0].0, field, "{query}");
        }
        let first = search(&alice, "q=r&limit=1").await.expect(200);
        assert_eq!((pluck(&first["items"], "/user/username"), &first["nextCursor"]), (vec!["robert".to_owned()], &json!(null)));
    }
}
