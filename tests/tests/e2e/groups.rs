//! Groups as they are run: roles, names, history, one's own settings, a thousand members. R and H are rules of
//! docs/rules.md.

use curlew_tests::{Actor, Chat, Engine, TestServer, Value, both_engines, json};
use futures_util::future::join_all;
use std::time::{Duration, Instant};

async fn update(actor: &Actor, chat: &Chat, body: Value) -> curlew_tests::Answer {
    actor.http.patch(&format!("/chats/{chat}"), body).await
}

async fn set_role(actor: &Actor, chat: &Chat, user: &Actor, role: &str) -> curlew_tests::Answer {
    actor.http.patch(&format!("/chats/{chat}/members/{}", user.id), json!({ "role": role })).await
}

async fn role_of(chat: &Chat, user: &Actor) -> Value {
    user.chat(chat).await["role"].clone()
}

/// What somebody of a role wants to do in a group of owner, admin and member; a fresh group for each, since most succeed.
const CELLS: [(&str, [bool; 3]); 14] = [
    // (operation, may [owner, admin, member]): R1 to R6
    ("rename", [true, true, false]),
    ("describe", [true, true, false]),
    ("history", [true, true, false]),
    ("add", [true, true, false]),
    ("remove a member", [true, true, false]),
    ("remove an admin", [true, false, false]),
    ("remove an owner", [true, false, false]),
    ("make an admin", [true, false, false]),
    ("make an owner", [true, false, false]),
    ("demote an admin", [true, false, false]),
    ("delete another's message for everyone", [true, true, false]),
    ("send", [true, true, true]),
    ("react", [true, true, true]),
    ("leave", [true, true, true]),
];

both_engines! {
    async fn who_may_do_what_is_a_table(server) {
        let [owner, admin, member, second_owner, second_admin, other, guest] =
            server.contacts(["owner", "admin", "member", "second", "deputy", "other", "guest"]).await;
        for (operation, may) in CELLS {
            for (actor, allowed) in [&owner, &admin, &member].into_iter().zip(may) {
                let group = owner.group("birds", &[&admin, &member, &second_owner, &second_admin, &other]).await;
                set_role(&owner, &group, &admin, "admin").await.expect(200);
                set_role(&owner, &group, &second_admin, "admin").await.expect(200);
                set_role(&owner, &group, &second_owner, "owner").await.expect(200);
                let sent = other.post(&group, "hello").await;
                let remove = async |user: &Actor| actor.http.delete(&format!("/chats/{group}/members/{}", user.id)).await;
                let answer = match operation {
                    "rename" => update(actor, &group, json!({ "name": "terns" })).await,
                    "describe" => update(actor, &group, json!({ "description": "seabirds" })).await,
                    "history" => update(actor, &group, json!({ "historyVisible": "all" })).await,
                    "add" => {
                        let body = json!({ "userIds": [guest.id] });
                        actor.http.post(&format!("/chats/{group}/members"), body).await
                    }
                    "remove a member" => remove(&other).await,
                    "remove an admin" => remove(&second_admin).await,
                    "remove an owner" => remove(&second_owner).await,
                    "make an admin" => set_role(actor, &group, &other, "admin").await,
                    "make an owner" => set_role(actor, &group, &other, "owner").await,
                    "demote an admin" => set_role(actor, &group, &second_admin, "member").await,
                    "delete another's message for everyone" => {
                        actor.http.delete(&format!("/chats/messages/{}?for=everyone", sent.id)).await
                    }
                    "send" => {
                        let body = json!({ "type": "TEXT", "text": "hi" });
                        actor.http.post(&format!("/chats/{group}/messages"), body).await
                    }
                    "react" => {
                        let body = json!({ "emoji": "👍" });
                        actor.http.post(&format!("/chats/messages/{}/reactions", sent.id), body).await
                    }
                    "leave" => actor.http.post_nothing(&format!("/chats/{group}/leave")).await,
                    unknown => unreachable!("{unknown}"),
                };
                let what = format!("{} wants to {operation}: {} {}", actor.username, answer.status, answer.text);
                if allowed {
                    assert!([200, 201, 204].contains(&answer.status), "{what}");
                } else {
                    assert_eq!(answer.status, 403, "{what}");
                    answer.expect_problem(403, "forbidden");
                }
            }
        }
    }

    // R7
    async fn a_group_never_is_without_an_owner(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let group = alice.group("birds", &[&bob]).await;
        set_role(&alice, &group, &alice, "member").await.expect_problem(403, "forbidden");
        set_role(&alice, &group, &bob, "owner").await.expect(200);
        set_role(&alice, &group, &alice, "member").await.expect(200);
        assert_eq!(role_of(&group, &bob).await, "owner");
        assert_eq!(role_of(&group, &alice).await, "member");
    }

    async fn a_promotion_reaches_everybody(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let group = alice.group("birds", &[&bob]).await;
        alice.connect().await;
        bob.connect().await;
        for _ in 0..2 {
            let chat = set_role(&alice, &group, &bob, "admin").await.expect(200);
            assert_eq!(chat["lastSeq"], 2);
        }
        for actor in [&alice, &bob] {
            let event = actor.expect_event("members-changed").await;
            assert_eq!((&event.json["added"], &event.json["removed"]), (&json!([]), &json!([])));
            assert_eq!(event.json["roles"], json!({ bob.id.clone(): "admin" }));
            assert_eq!(event.json["message"]["type"], "SYSTEM");
        }
    }

    async fn a_changed_group_is_told_to_its_members(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let group = alice.group("birds", &[&bob]).await;
        bob.connect().await;
        for _ in 0..2 {
            let chat = update(&alice, &group, json!({ "name": " Terns ", "description": "of the sea" })).await.expect(200);
            assert_eq!((&chat["name"], &chat["description"], &chat["lastSeq"]), (&json!("Terns"), &json!("of the sea"), &json!(2)));
        }
        let event = bob.expect_event("chat-updated").await;
        assert_eq!(event.topic, format!("chats/{group}/messages"));
        let basics = json!({ "id": group.0, "name": "Terns", "description": "of the sea", "pictureUrl": null, "historyVisible": "joined" });
        assert_eq!(event.json["chat"], basics);
        assert_eq!((&event.json["message"]["type"], &event.json["message"]["text"]), (&json!("SYSTEM"), &Value::Null));
        let chat = update(&alice, &group, json!({ "description": null })).await.expect(200);
        assert!(chat["description"].is_null());
        // Who reads it later reads what is so then.
        let events = bob.events(&group).await;
        assert!(events[1]["chat"]["description"].is_null(), "{events:?}");
        assert_eq!(update(&alice, &group, json!({ "name": "" })).await.expect_invalid()[0].0, "name");
    }

    // H1
    async fn what_one_may_read_is_fixed_at_joining(server) {
        let [alice, bob, carol] = server.contacts(["alice", "bob", "carol"]).await;
        let group = alice.group("birds", &[]).await;
        alice.post(&group, "one").await;
        alice.add(&group, &bob).await;
        update(&alice, &group, json!({ "historyVisible": "all" })).await.expect(200);
        alice.post(&group, "two").await;
        alice.add(&group, &carol).await;
        assert_eq!(bob.texts(&group).await, ["two"]);
        assert_eq!(carol.texts(&group).await, ["one", "two"]);
        update(&alice, &group, json!({ "historyVisible": "joined" })).await.expect(200);
        assert_eq!(carol.texts(&group).await, ["one", "two"]);
    }

    async fn settings_follow_me_to_all_my_devices(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        let tablet = alice.log_in_on(&server, "tablet").await;
        tablet.connect().await;
        let path = format!("/chats/{chat}/settings");
        let wished = json!({ "mutedUntil": "2030-01-01T01:00:00+01:00", "pinned": true });
        let settings = json!({ "mutedUntil": "2030-01-01T00:00:00.000Z", "pinned": true, "archived": false });
        for _ in 0..2 {
            assert_eq!(alice.http.patch(&path, wished.clone()).await.expect(200), settings);
        }
        let event = tablet.expect_event("chat-settings-changed").await;
        assert_eq!((&event.json["chatId"], &event.json["settings"]), (&json!(chat.0), &settings));
        assert_eq!(alice.chat(&chat).await["settings"], settings);
        alice.http.patch(&path, json!({ "mutedUntil": null })).await.expect(200);
        assert!(alice.chat(&chat).await["settings"]["mutedUntil"].is_null());
        assert_eq!(alice.http.patch(&path, json!({ "mutedUntil": "soon" })).await.expect_invalid()[0].0, "mutedUntil");
        assert_eq!(bob.chat(&chat).await["settings"]["pinned"], false);
    }

    // H5
    async fn who_may_not_have_a_message_learns_of_its_edit_without_it(server) {
        let [alice, bob, carol] = server.contacts(["alice", "bob", "carol"]).await;
        let group = alice.group("birds", &[&bob]).await;
        let sent = alice.post(&group, "before carol").await;
        alice.add(&group, &carol).await;
        for actor in [&bob, &carol] {
            actor.connect().await;
        }
        alice.http.patch(&format!("/chats/messages/{}", sent.id), json!({ "text": "edited" })).await.expect(200);
        assert_eq!(bob.expect_event("message-edited").await.json["message"]["text"], "edited");
        let event = carol.expect_event("message-edited").await;
        assert_eq!(event.json["messageSeq"], sent.seq);
        assert!(event.json.get("message").is_none(), "{}", event.json);
        carol.http.post(&format!("/chats/messages/{}/reactions", sent.id), json!({ "emoji": "👍" }))
            .await.expect_problem(404, "not-found");
    }
}

// R10
#[tokio::test]
async fn a_thousand_members_make_a_group_and_nobody_waits_for_it() {
    let setup = TestServer::setup(Engine::Sqlite).env("CURLEW_CHATS_REQUIRE_CONTACT", "false");
    let server = setup.start().await;
    let [alice, bob] = server.contacts(["alice", "bob"]).await;
    let registering = async |n: usize| server.user(&format!("member{n}")).await.id;
    let mut members = Vec::new();
    for chunk in (0..1022).collect::<Vec<_>>().chunks(32) {
        members.extend(join_all(chunk.iter().map(|n| registering(*n))).await);
    }
    members.push(bob.id.clone());
    let chat = alice.private_chat(&bob).await;
    let body = json!({ "type": "group", "name": "all", "memberIds": members });
    let began = Instant::now();
    let (group, slowest) = tokio::join!(alice.http.post("/chats", body), async {
        let mut slowest = Duration::ZERO;
        for n in 0..20 {
            let began = Instant::now();
            bob.post(&chat, &n.to_string()).await;
            slowest = slowest.max(began.elapsed());
        }
        slowest
    });
    let group = group.expect(201);
    assert_eq!(group["memberCount"], 1024);
    assert_eq!(group["members"].as_array().unwrap().len(), 20);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(slowest < Duration::from_secs(5), "a send waited {slowest:?}");
    let group = Chat(group["id"].as_str().unwrap().to_owned());
    let one_more = server.user("onemore").await;
    let body = json!({ "userIds": [one_more.id] });
    alice.http.post(&format!("/chats/{group}/members"), body).await.expect_problem(409, "group-full");
    alice.post(&group, "hello, everybody").await;
    assert_eq!(bob.texts(&group).await, ["hello, everybody"]);
}
