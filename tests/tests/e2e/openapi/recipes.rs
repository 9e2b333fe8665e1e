//! How each operation is done.

#![expect(clippy::match_same_arms, reason = "operations that are done alike are different ones")]

use super::Scene;
use curlew_tests::{Actor, Chat, Http, Value, actor::PASSWORD, http::Method, json};
use std::collections::BTreeMap;

/// A request of an operation, and the status it must be answered.
#[derive(Clone, Debug)]
pub struct Call {
    pub http: Http,
    /// Of the path, by name.
    pub ids: BTreeMap<&'static str, String>,
    pub query: String,
    pub body: Option<Value>,
    /// Instead: a body of whatever type.
    pub raw: Option<(&'static str, Vec<u8>)>,
    pub status: u16,
}

impl Call {
    pub fn id(mut self, name: &'static str, id: &(impl ToString + ?Sized)) -> Self {
        self.ids.insert(name, id.to_string());
        self
    }

    pub fn query(mut self, query: &str) -> Self {
        query.clone_into(&mut self.query);
        self
    }

    pub fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    pub fn expect(mut self, status: u16) -> Self {
        self.status = status;
        self
    }
}

fn by(http: &Http) -> Call {
    let http = http.clone();
    Call { http, ids: BTreeMap::new(), query: String::new(), body: None, raw: None, status: 200 }
}

async fn block(who: &Actor, whom: &Actor) {
    who.http.post("/contacts/block", json!({ "userId": whom.id })).await.expect(200);
}

/// A message of Alice's to the group that was deleted for everyone.
async fn gone(scene: &Scene<'_>) -> String {
    let message = scene.alice.post(&scene.group, "gone").await;
    scene.alice.http.delete(&format!("/chats/messages/{}?for=everyone", message.id)).await.expect(204);
    message.id
}

/// A private chat of Alice's, with a message of hers, with somebody whose account was deleted: Carol.
async fn deserted(scene: &Scene<'_>) -> Chat {
    let Scene { alice, carol, .. } = scene;
    alice.befriend(carol).await;
    let chat = alice.private_chat(carol).await;
    alice.post(&chat, "farewell").await;
    let body = json!({ "password": PASSWORD });
    carol.http.request(Method::DELETE, "/auth/delete-profile", Some(body)).await.expect(204);
    chat
}

/// The newest message of a chat.
async fn message_in(chat: &Chat, reader: &Actor) -> String {
    let chat = reader.chat(chat).await;
    chat["lastMessage"]["id"].as_str().expect("there is a message").to_owned()
}

/// A SYSTEM message of the group.
async fn system(scene: &Scene<'_>) -> String {
    let page = scene.alice.http.get(&format!("/chats/{}/messages", scene.group)).await.expect(200);
    let messages = page["items"].as_array().expect("a page has items");
    let message = messages.iter().find(|message| message["type"] == "SYSTEM").expect("founding made one");
    message["id"].as_str().expect("a message has an id").to_owned()
}

/// The calls of an operation: first one that is done, then what else of it can be answered. Empty: there is no recipe.
pub async fn of(operation: &str, scene: &Scene<'_>) -> Vec<Call> {
    let Scene { server, alice, bob, carol, dora, erin, chat, group, message, private, anyone } = scene;
    let alices = |chat: &Chat| by(&alice.http).id("chatId", chat);
    let bobs = |chat: &Chat| by(&bob.http).id("chatId", chat);
    // She was in the group.
    let doras = |chat: &Chat| by(&dora.http).id("chatId", chat);
    let carols = |chat: &Chat| by(&carol.http).id("chatId", chat);
    let of_message = |actor: &Actor| by(&actor.http).id("messageId", &message.id);
    let ask = async |from: &Actor, to: &Actor| {
        from.http.post("/contacts/request", json!({ "userId": to.id })).await
    };
    match operation {
        // auth
        "register" => {
            let body = json!({
                "username": format!("dora_{}", alice.username), "password": PASSWORD, "displayName": "Dora",
                "email": "dora@example.org", "phone": "+4712345678", "device": { "name": "phone", "platform": "test" },
            });
            let [again, mut wrong] = [body.clone(), body.clone()];
            wrong["password"] = json!("short");
            vec![
                by(anyone).body(body).expect(201),
                by(anyone).body(again).expect(409),
                by(anyone).body(wrong).expect(400),
            ]
        }
        "login" => {
            let login = |device: Value| {
                by(anyone).body(json!({ "login": alice.username, "password": PASSWORD, "device": device }))
            };
            for n in 1..10 {
                alice.log_in_on(server, &format!("tablet {n}")).await;
            }
            let eleventh = json!({ "name": "eleventh", "platform": "test" });
            let mut replacing = login(eleventh.clone());
            replacing.body.as_mut().expect("it has one")["replaceDeviceId"] = json!(bob.device_id);
            vec![
                login(json!({ "id": alice.device_id, "name": "phone", "platform": "test" })),
                by(anyone).body(json!({ "login": alice.username, "password": "another" })).expect(401),
                login(eleventh).expect(409),
                replacing.expect(404),
            ]
        }
        "refresh" => {
            let refresh = |token: &str| by(anyone).body(json!({ "refreshToken": token }));
            vec![refresh(&alice.refresh_token), refresh(&alice.access_token).expect(401)]
        }
        "logout" => {
            vec![by(&alice.http).body(json!({ "everywhere": true })).expect(204), by(&alice.http).expect(401)]
        }
        "get_profile" => vec![by(&alice.http)],
        "update_profile" => vec![
            by(&alice.http).body(
                json!({ "displayName": "Alice", "about": "", "email": "a@example.org", "phone": null }),
            ),
            by(&alice.http).body(json!({ "displayName": null })).expect(400),
        ],
        "change_password" => {
            let change =
                |new| by(&alice.http).body(json!({ "currentPassword": PASSWORD, "newPassword": new }));
            vec![change("another one").expect(204), change("a third one").expect(401)]
        }
        "get_privacy" => vec![by(&alice.http)],
        "update_privacy" => vec![
            by(&alice.http)
                .body(json!({ "lastSeen": "contacts", "picture": "nobody", "readReceipts": "everyone" })),
            by(&alice.http).body(json!({ "lastSeen": "some" })).expect(400),
        ],
        "delete_profile" => {
            let delete = |password| by(&alice.http).body(json!({ "password": password }));
            // The refusals come before it.
            vec![
                delete(PASSWORD).expect(204),
                delete(PASSWORD).expect(401),
                by(&bob.http).body(json!({ "password": "x" })).expect(401),
            ]
        }
        // devices
        "list_devices" => vec![by(&alice.http)],
        "rename_device" => vec![
            by(&alice.http).id("deviceId", &alice.device_id).body(json!({ "name": "pocket" })),
            by(&alice.http).id("deviceId", &alice.device_id).body(json!({ "name": "" })).expect(400),
            by(&alice.http).id("deviceId", &bob.device_id).body(json!({ "name": "pocket" })).expect(404),
        ],
        "remove_device" => {
            let tablet = alice.log_in_on(server, "tablet").await;
            vec![
                by(&alice.http).id("deviceId", &tablet.device_id).expect(204),
                by(&tablet.http).id("deviceId", &alice.device_id).expect(401),
            ]
        }
        // users
        "get_user" => vec![by(&alice.http).id("userId", &bob.id)],
        // contacts
        "request_contact" => {
            let request = |body| by(&alice.http).body(body);
            vec![
                request(json!({ "userId": carol.id })).expect(201),
                request(json!({ "username": carol.username })),
                request(json!({ "username": "nobody_here" })).expect(404),
                request(json!({ "userId": erin.id })).expect(403),
            ]
        }
        "accept_contact" => {
            ask(carol, alice).await;
            vec![
                by(&alice.http).id("contactId", &carol.id),
                by(&alice.http).id("contactId", &erin.id).expect(403),
            ]
        }
        "reject_contact" => {
            ask(carol, alice).await;
            vec![by(&alice.http).id("contactId", &carol.id).expect(204)]
        }
        "remove_contact" => vec![by(&alice.http).id("contactId", &bob.id).expect(204)],
        "block_user" => vec![
            by(&alice.http).body(json!({ "userId": bob.id })),
            by(&alice.http).body(json!({ "userId": super::NOTHING })).expect(404),
        ],
        "unblock_user" => vec![by(&alice.http).id("contactId", &bob.id).expect(204)],
        "list_contacts" => vec![by(&alice.http), by(&alice.http).query("limit=1")],
        "list_requests" => {
            ask(carol, alice).await;
            vec![by(&alice.http), by(&alice.http).query("cursor=x").expect(400)]
        }
        "list_blocked" => {
            alice.http.post("/contacts/block", json!({ "userId": bob.id })).await.expect(200);
            vec![by(&alice.http)]
        }
        "search_users" => vec![
            by(&alice.http).query("q=bob&limit=1"),
            by(&alice.http).expect(400),
            by(&alice.http).query("q=").expect(400),
        ],
        // notifications
        "list_notifications" => {
            ask(carol, alice).await;
            vec![by(&alice.http), by(&alice.http).query("limit=1")]
        }
        "get_count" => vec![by(&alice.http)],
        "get_all_counts" => vec![by(&alice.http), by(&bob.http)],
        "clear_chat" => vec![bobs(group).expect(204), doras(group).expect(403)],
        "mark_contacts_viewed" => vec![by(&alice.http).expect(204)],
        // chats
        "create_chat" => {
            let create = |body| by(&alice.http).body(body);
            let found = json!({ "type": "group", "name": "us", "memberIds": [bob.id], "localId": "g" });
            vec![
                create(found.clone()).expect(201),
                create(found),
                create(json!({ "type": "private", "userId": bob.id })),
                create(json!({ "type": "private", "userId": carol.id })).expect(403),
                create(json!({ "type": "private", "userId": erin.id })).expect(403),
                create(json!({ "type": "private", "userId": super::NOTHING })).expect(404),
                create(json!({ "type": "private", "name": "us" })).expect(400),
            ]
        }
        "list_chats" => vec![by(&alice.http), by(&alice.http).query("limit=1")],
        "get_chat" => vec![alices(group), alices(chat), carols(group).expect(404)],
        "update_chat" => vec![
            alices(group).body(json!({ "name": "them", "description": "all", "historyVisible": "all" })),
            alices(group).body(json!({ "name": "" })).expect(400),
            bobs(group).body(json!({ "name": "mine" })).expect(403),
            doras(group).body(json!({ "name": "mine" })).expect(403),
        ],
        "list_members" => vec![alices(group), alices(chat), alices(group).query("limit=1")],
        "add_members" => {
            let left = alice.group("left", &[dora]).await;
            dora.leave(&left).await;
            let add = |actor: &Actor, id: &str| {
                by(&actor.http).id("chatId", group).body(json!({ "userIds": [id] }))
            };
            vec![
                add(alice, &dora.id),
                add(alice, super::NOTHING).expect(404),
                add(alice, &carol.id).expect(403),
                add(alice, &erin.id).expect(403),
                add(bob, &carol.id).expect(403),
                by(&dora.http).id("chatId", &left).body(json!({ "userIds": [bob.id] })).expect(403),
            ]
        }
        "update_member" => vec![
            alices(group).id("userId", &bob.id).body(json!({ "role": "admin" })),
            bobs(group).id("userId", &alice.id).body(json!({ "role": "member" })).expect(403),
            doras(group).id("userId", &bob.id).body(json!({ "role": "member" })).expect(403),
        ],
        "remove_member" => {
            alice.add(group, dora).await;
            vec![
                alices(group).id("userId", &dora.id),
                bobs(group).id("userId", &alice.id).expect(403),
                doras(group).id("userId", &bob.id).expect(403),
            ]
        }
        "leave_chat" => vec![bobs(group).expect(204), bobs(group).expect(204), bobs(chat).expect(403)],
        "update_settings" => vec![
            alices(group)
                .body(json!({ "mutedUntil": "2030-01-01T00:00:00.000Z", "pinned": true, "archived": false })),
            alices(group).body(json!({ "mutedUntil": null })),
            alices(group).body(json!({ "mutedUntil": "tomorrow" })).expect(400),
            doras(group).body(json!({ "pinned": true })).expect(403),
        ],
        // messages
        "create_message" => {
            let deserted = deserted(scene).await;
            block(alice, bob).await;
            let body = json!({
                "type": "TEXT", "text": "hi", "localId": "m", "replyToId": message.id, "mentions": [bob.id],
            });
            vec![
                alices(group).body(body.clone()).expect(201),
                alices(group).body(body),
                alices(group).body(json!({ "type": "TEXT", "text": "ho", "localId": "m" })).expect(409),
                alices(group).body(json!({ "type": "TEXT", "text": "" })).expect(400),
                doras(group).body(json!({ "type": "TEXT", "text": "hi" })).expect(403),
                bobs(chat).body(json!({ "type": "TEXT", "text": "hi" })).expect(403),
                alices(&deserted).body(json!({ "type": "TEXT", "text": "hi" })).expect(403),
            ]
        }
        "list_messages" => {
            bob.http
                .post(&format!("/chats/messages/{}/reactions", message.id), json!({ "emoji": "👍" }))
                .await
                .expect(200);
            vec![
                alices(group),
                bobs(group).query("afterSeq=0&limit=1"),
                alices(group).query("beforeSeq=1&afterSeq=1").expect(400),
            ]
        }
        "list_events" => {
            let path = format!("/chats/messages/{}", message.id);
            bob.http.post(&format!("{path}/reactions"), json!({ "emoji": "👍" })).await.expect(200);
            alice.http.patch(&path, json!({ "text": "hello, hello" })).await.expect(200);
            alice.http.patch(&format!("/chats/{group}"), json!({ "name": "them" })).await.expect(200);
            alice.http.delete(&format!("{path}?for=everyone")).await.expect(204);
            alice.remove(group, bob).await;
            vec![alices(group), bobs(group).query("limit=2"), alices(group).query("cursor=b1").expect(400)]
        }
        "mark_delivered" | "mark_read" => vec![
            bobs(group).body(json!({ "upToSeq": 1 })).expect(204),
            bobs(group).expect(204),
            bobs(group).body(json!({ "upToSeq": -1 })).expect(400),
            doras(group).expect(403),
        ],
        "edit_message" => {
            let gone = gone(scene).await;
            let deserted = message_in(&deserted(scene).await, alice).await;
            block(alice, bob).await;
            let text = json!({ "text": "hello, hello" });
            vec![
                of_message(alice).body(text.clone()),
                of_message(alice).body(json!({ "text": "" })).expect(400),
                of_message(bob).body(text.clone()).expect(403),
                of_message(dora).body(text.clone()).expect(403),
                of_message(alice).id("messageId", &gone).body(text.clone()).expect(409),
                of_message(bob).id("messageId", &private.id).body(text.clone()).expect(403),
                of_message(alice).id("messageId", &deserted).body(text).expect(403),
            ]
        }
        "delete_message" => {
            let other = alice.post(group, "hello").await;
            vec![
                of_message(alice).query("for=everyone").expect(204),
                of_message(alice).query("for=nobody").expect(400),
                of_message(bob).id("messageId", &other.id).query("for=everyone").expect(403),
                of_message(bob).id("messageId", &other.id).expect(204),
                of_message(dora).query("for=everyone").expect(403),
            ]
        }
        "react" => {
            let (gone, system) = (gone(scene).await, system(scene).await);
            let deserted = message_in(&deserted(scene).await, alice).await;
            block(alice, bob).await;
            let emoji = json!({ "emoji": "👍" });
            vec![
                of_message(bob).body(emoji.clone()),
                of_message(bob).body(json!({ "emoji": null })),
                of_message(bob).body(json!({ "emoji": "no" })).expect(400),
                of_message(dora).body(emoji.clone()).expect(403),
                of_message(bob).id("messageId", &gone).body(emoji.clone()).expect(409),
                of_message(bob).id("messageId", &system).body(emoji.clone()).expect(403),
                of_message(bob).id("messageId", &private.id).body(emoji.clone()).expect(403),
                of_message(alice).id("messageId", &deserted).body(emoji).expect(403),
            ]
        }
        "list_replies" => {
            let reply = json!({ "type": "TEXT", "text": "hi", "replyToId": message.id });
            bob.http.post(&format!("/chats/{group}/messages"), reply).await.expect(201);
            vec![of_message(alice)]
        }
        "get_message_info" => vec![of_message(alice), of_message(bob).expect(403)],
        "forward_message" => {
            let (gone, system) = (gone(scene).await, system(scene).await);
            let deserted = deserted(scene).await;
            block(alice, bob).await;
            let to = |chat: &Chat| json!({ "chatIds": [chat.to_string()], "localId": "f" });
            vec![
                of_message(alice).body(to(group)).expect(201),
                of_message(alice).body(to(group)),
                of_message(alice).id("messageId", &private.id).body(to(group)).expect(409),
                of_message(alice).body(json!({ "chatIds": [] })).expect(400),
                of_message(dora).body(to(group)).expect(403),
                of_message(bob).body(to(chat)).expect(403),
                of_message(alice).body(to(&deserted)).expect(403),
                of_message(bob).id("messageId", &gone).body(to(group)).expect(409),
                of_message(bob).id("messageId", &system).body(to(group)).expect(403),
            ]
        }
        "update_message_status" => vec![
            of_message(bob).body(json!({ "status": "READ" })).expect(204),
            of_message(bob).body(json!({ "status": "SENT" })).expect(400),
            of_message(dora).body(json!({ "status": "READ" })).expect(403),
        ],
        // service
        "get_openapi" | "show_docs" | "show_health" | "show_readiness" | "show_metrics" => vec![by(anyone)],
        _ => Vec::new(),
    }
}
