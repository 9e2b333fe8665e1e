//! Private chats and groups: founding, members, lists.

use crate::pluck;
use curlew_tests::{Actor, Chat, Engine, TestServer, Value, both_engines, json, wait::eventually};

fn role_of<'a>(chat: &'a Value, user: &Actor) -> &'a Value {
    let members = chat["members"].as_array().expect("a group has members");
    &members.iter().find(|member| member["user"]["id"] == user.id).expect("a member")["role"]
}

async fn listed(actor: &Actor) -> Vec<String> {
    pluck(&actor.http.get("/chats").await.expect(200)["items"], "/id")
}

both_engines! {
    async fn there_is_one_private_chat_per_pair(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        alice.connect().await;
        bob.connect().await;
        let open = |actor: &Actor, peer: &Actor| {
            let (http, body) = (actor.http.clone(), json!({ "type": "private", "userId": peer.id }));
            async move { http.post("/chats", body).await }
        };
        let made = open(&alice, &bob).await.expect(201);
        assert_eq!(made["type"], "private");
        assert_eq!(made["peer"]["id"], bob.id);
        assert_eq!((&made["lastSeq"], &made["unreadCount"]), (&json!(0), &json!(0)));
        assert!(made["lastMessage"].is_null());
        assert!(made.get("members").is_none());
        let same = open(&alice, &bob).await.expect(200);
        assert_eq!(same["id"], made["id"]);
        let mirrored = open(&bob, &alice).await.expect(200);
        assert_eq!((&mirrored["id"], &mirrored["peer"]["id"]), (&made["id"], &json!(alice.id)));
        for actor in [&alice, &bob] {
            let event = actor.expect_event("new-chat").await;
            assert_eq!(event.json["chat"]["id"], made["id"]);
        }
    }

    async fn of_two_who_open_their_chat_at_once_both_get_the_same(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let (one, other) = tokio::join!(alice.private_chat(&bob), bob.private_chat(&alice));
        assert_eq!(one, other);
    }

    async fn a_group_begins_with_its_founders(server) {
        let [alice, bob, carol] = server.contacts(["alice", "bob", "carol"]).await;
        let body = json!({ "type": "group", "name": " Us ", "memberIds": [bob.id, carol.id, bob.id, alice.id] });
        let group = alice.http.post("/chats", body).await.expect(201);
        assert_eq!((&group["type"], &group["name"]), (&json!("group"), &json!("Us")));
        assert_eq!((&group["memberCount"], &group["role"]), (&json!(3), &json!("owner")));
        assert_eq!((&group["historyVisible"], &group["lastSeq"]), (&json!("joined"), &json!(1)));
        assert_eq!(group["createdBy"], alice.id);
        assert_eq!(group["settings"], json!({ "mutedUntil": null, "pinned": false, "archived": false }));
        assert_eq!(role_of(&group, &bob), "member");
        assert!(group.get("peer").is_none());
        let chat = Chat(group["id"].as_str().unwrap().to_owned());
        let events = bob.events(&chat).await;
        assert_eq!(events.len(), 1);
        assert_eq!((&events[0]["event"], &events[0]["seq"]), (&json!("members-changed"), &json!(1)));
        assert_eq!(events[0]["message"]["type"], "SYSTEM");
        let mut added: Vec<_> = events[0]["added"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
        added.sort_unstable();
        let mut founders = [alice.id.as_str(), &bob.id, &carol.id];
        founders.sort_unstable();
        assert_eq!(added, founders);
        assert_eq!(events[0]["roles"][&alice.id], "owner");
    }

    async fn members_are_added_and_removed_by_those_who_may(server) {
        let [alice, bob, carol] = server.contacts(["alice", "bob", "carol"]).await;
        let group = alice.group("us", &[&bob]).await;
        bob.connect().await;
        let add = json!({ "userIds": [carol.id] });
        let members = format!("/chats/{group}/members");
        bob.http.post(&members, add).await.expect_problem(403, "forbidden");
        let chat = alice.add(&group, &carol).await;
        assert_eq!((&chat["memberCount"], role_of(&chat, &carol)), (&json!(3), &json!("member")));
        // Again: changes nothing.
        assert_eq!(alice.add(&group, &carol).await["lastSeq"], 2);
        let row = bob.expect_event("members-changed").await;
        assert_eq!((&row.json["added"], &row.json["removed"]), (&json!([carol.id]), &json!([])));

        bob.http.delete(&format!("{members}/{}", carol.id)).await.expect_problem(403, "forbidden");
        let chat = alice.remove(&group, &carol).await;
        assert_eq!((&chat["memberCount"], &chat["lastSeq"]), (&json!(2), &json!(3)));
        // Again: changes nothing. Who never was there is not found.
        assert_eq!(alice.remove(&group, &carol).await["lastSeq"], 3);
        let nobody = group.0.as_str();
        alice.http.delete(&format!("{members}/{nobody}")).await.expect_problem(404, "not-found");
        let row = bob.expect_event("members-changed").await;
        assert_eq!((&row.json["added"], &row.json["removed"]), (&json!([]), &json!([carol.id])));
        let list = bob.http.get(&members).await.expect(200);
        assert_eq!(pluck(&list["items"], "/user/username"), ["alice", "bob"]);
        carol.http.get(&members).await.expect_problem(404, "not-found");
    }

    async fn the_last_owner_hands_the_group_over(server) {
        let [alice, bob, carol] = server.contacts(["alice", "bob", "carol"]).await;
        let group = alice.group("us", &[&bob]).await;
        alice.add(&group, &carol).await;
        alice.leave(&group).await;
        let chat = bob.chat(&group).await;
        assert_eq!(role_of(&chat, &bob), "owner", "the longest-standing member");
        assert_eq!(role_of(&chat, &carol), "member");
        let last = bob.events(&group).await.pop().unwrap();
        assert_eq!((&last["removed"], &last["roles"]), (&json!([alice.id]), &json!({ (bob.id.as_str()): "owner" })));
        bob.remove(&group, &carol).await;
        bob.leave(&group).await;
        assert_eq!(listed(&bob).await, [""; 0]);
    }

    async fn removing_oneself_is_leaving(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let group = alice.group("us", &[&bob]).await;
        bob.connect().await;
        let chat = bob.remove(&group, &bob).await;
        assert!(chat["role"].is_null());
        let left = bob.expect_event("chat-left").await;
        assert_eq!((&left.json["chatId"], &left.json["reason"]), (&json!(group.0), &json!("left")));
    }

    async fn a_private_chat_has_no_members_to_change(server) {
        let [alice, bob, carol] = server.contacts(["alice", "bob", "carol"]).await;
        let chat = alice.private_chat(&bob).await;
        let path = format!("/chats/{chat}");
        let add = json!({ "userIds": [carol.id] });
        alice.http.post(&format!("{path}/members"), add).await.expect_problem(403, "forbidden");
        alice.http.delete(&format!("{path}/members/{}", bob.id)).await.expect_problem(403, "forbidden");
        alice.http.post_nothing(&format!("{path}/leave")).await.expect_problem(403, "forbidden");
        assert_eq!(bob.chat(&chat).await["lastSeq"], 0);
    }

    async fn the_list_shows_the_latest_activity_first(server) {
        let [alice, bob, carol] = server.contacts(["alice", "bob", "carol"]).await;
        let with_bob = alice.private_chat(&bob).await;
        let with_carol = alice.private_chat(&carol).await;
        bob.post(&with_bob, "one").await;
        // Of the same millisecond either may be first.
        let newest = eventually("a later millisecond", async || {
            let two = bob.post(&with_bob, "two").await;
            (listed(&alice).await[0] == with_bob.0).then_some(two)
        })
        .await;
        let page = alice.http.get("/chats").await.expect(200);
        assert_eq!(pluck(&page["items"], "/id"), [with_bob.0.clone(), with_carol.0.clone()]);
        let first = &page["items"][0];
        assert_eq!(first["lastMessage"]["id"], newest.id);
        assert_eq!((&first["unreadCount"], &first["lastSeq"]), (&json!(newest.seq), &json!(newest.seq)));
        assert!(page["items"][1]["lastMessage"].is_null());
        eventually("a later millisecond", async || {
            carol.post(&with_carol, "three").await;
            (listed(&alice).await == [with_carol.0.clone(), with_bob.0.clone()]).then_some(())
        })
        .await;
    }

    async fn the_list_pages(server) {
        let alice = server.user("alice").await;
        let mut groups = Vec::new();
        for number in 0..5 {
            groups.push(alice.group(&format!("group {number}"), &[]).await.0);
        }
        let (mut found, mut path) = (Vec::new(), "/chats?limit=2".to_owned());
        loop {
            let page = alice.http.get(&path).await.expect(200);
            found.extend(pluck(&page["items"], "/id"));
            let Some(cursor) = page["nextCursor"].as_str() else { break };
            path = format!("/chats?limit=2&cursor={cursor}");
        }
        found.sort_unstable();
        groups.sort_unstable();
        assert_eq!(found, groups, "each once");
    }

    async fn a_list_takes_as_many_statements_however_long_it_is(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let statements = async || -> u64 {
            let page = server.anonymous().get("/metrics").await.text;
            let line = page.lines().find(|line| line.starts_with("curlew_sql_statements_total ")).unwrap();
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        let mut counted = Vec::new();
        for wanted in [2, 40] {
            for n in 0..wanted {
                let group = alice.group(&n.to_string(), &[&bob]).await;
                alice.post(&group, "hello").await;
            }
            let mut least = u64::MAX;
            // Others' statements, such as those of housekeeping, only add to it.
            for _ in 0..3 {
                let before = statements().await;
                bob.http.get("/chats?limit=200").await.expect(200);
                bob.http.get("/notifications?limit=200").await.expect(200);
                bob.http.get("/notifications/all-counts").await.expect(200);
                least = least.min(statements().await - before);
            }
            counted.push(least);
        }
        assert_eq!(counted[0], counted[1]);
        assert!(counted[0] < 40, "{counted:?}");
    }

    async fn own_messages_are_not_unread(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let group = alice.group("us", &[&bob]).await;
        alice.post(&group, "mine").await;
        bob.post(&group, "yours").await;
        assert_eq!(alice.chat(&group).await["unreadCount"], 1, "neither mine nor SYSTEM");
        assert_eq!(bob.chat(&group).await["unreadCount"], 1);
    }

    async fn a_crash_forgets_no_chat(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let private = alice.private_chat(&bob).await;
        let group = alice.group("us", &[&bob]).await;
        alice.remove(&group, &bob).await;
        server.kill_and_restart().await;
        assert_eq!(listed(&bob).await, [private.to_string()]);
        assert_eq!(bob.chat(&group).await["lastSeq"], 2);
        assert_eq!(alice.chat(&group).await["memberCount"], 1);
    }
}

#[tokio::test]
async fn a_group_has_a_bounded_number_of_members() {
    let server = TestServer::setup(Engine::Sqlite).env("CURLEW_LIMITS_GROUP_MEMBERS", "2").start().await;
    let [alice, bob, carol] = server.contacts(["alice", "bob", "carol"]).await;
    let group = alice.group("us", &[&bob]).await;
    let add = json!({ "userIds": [carol.id] });
    alice.http.post(&format!("/chats/{group}/members"), add).await.expect_problem(409, "group-full");
    let body = json!({ "type": "group", "name": "us", "memberIds": [bob.id, carol.id] });
    alice.http.post("/chats", body).await.expect_problem(409, "group-full");
    assert_eq!(alice.chat(&group).await["memberCount"], 2);
}
