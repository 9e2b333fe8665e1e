//! Who may do what: one table of roles and operations, for REST and MQTT alike. Each cell is tried; what is refused must
//! change nothing. The rules, cited by their numbers, are those of docs/rules.md: S1 for strangers throughout, H2 for former
//! members, H3 for rejoined ones.

use curlew_tests::{
    Actor, Answer, Chat, Engine, Http, Sent, TestServer, Value, both_engines,
    http::Method,
    json,
    mqtt::{Protocol, raw},
    wait::eventually,
};

/// Roles of the table's columns, in their order.
const ROLES: [&str; 8] = ["stranger", "contact", "blocked", "member", "former", "rejoined", "admin", "owner"];

/// What is expected of a role: done, or refused with a code.
type Cells = [&'static str; 8];

const OK: &str = "ok";
const NF: &str = "not-found";
const NM: &str = "not-member";
const FB: &str = "forbidden";
const BL: &str = "blocked";
const NC: &str = "not-contact";

/// Operation, and what it comes to for each role. `early` is a message that members of all times may have, `gap` one that was
/// sent while the former and the rejoined member were out. The author sent both, and has blocked the blocked one.
const TABLE: &[(&str, Cells)] = &[
    // operation, [stranger, contact, blocked, member, former, rejoined, admin, owner]
    ("read the chat", [NF, NF, NF, OK, OK, OK, OK, OK]),
    ("read messages", [NF, NF, NF, OK, OK, OK, OK, OK]),
    ("read events", [NF, NF, NF, OK, OK, OK, OK, OK]),
    ("read members", [NF, NF, NF, OK, NF, OK, OK, OK]),
    ("read replies to early", [NF, NF, NF, OK, OK, OK, OK, OK]),
    ("read replies to gap", [NF, NF, NF, OK, NF, NF, OK, OK]),
    // M9
    ("read who has early", [NF, NF, NF, FB, FB, FB, FB, FB]),
    ("send", [NF, NF, NF, OK, NM, OK, OK, OK]),
    ("send over mqtt", [NF, NF, NF, OK, NM, OK, OK, OK]),
    // M6
    ("answer early", [NF, NF, NF, OK, NM, OK, OK, OK]),
    ("answer gap", [NF, NF, NF, OK, NM, NF, OK, OK]),
    ("answer gap over mqtt", [NF, NF, NF, OK, NM, NF, OK, OK]),
    // M2
    ("react to early", [NF, NF, NF, OK, NM, OK, OK, OK]),
    ("react to gap", [NF, NF, NF, OK, NF, NF, OK, OK]),
    ("react to early over mqtt", [NF, NF, NF, OK, NM, OK, OK, OK]),
    ("react to gap over mqtt", [NF, NF, NF, OK, NF, NF, OK, OK]),
    // M1
    ("edit early", [NF, NF, NF, FB, NM, FB, FB, FB]),
    ("edit early over mqtt", [NF, NF, NF, FB, NM, FB, FB, FB]),
    // M4, R5
    ("delete early for everyone", [NF, NF, NF, FB, NM, FB, OK, OK]),
    ("delete early for everyone over mqtt", [NF, NF, NF, FB, NM, FB, OK, OK]),
    // M3
    ("delete early for me", [NF, NF, NF, OK, NM, OK, OK, OK]),
    ("delete gap for me", [NF, NF, NF, OK, NF, NF, OK, OK]),
    ("delete gap for me over mqtt", [NF, NF, NF, OK, NF, NF, OK, OK]),
    // M8
    ("forward early", [NF, NF, NF, OK, OK, OK, OK, OK]),
    ("forward gap", [NF, NF, NF, OK, NF, NF, OK, OK]),
    ("forward into the chat", [NF, NF, NF, OK, NM, OK, OK, OK]),
    ("say that early is read", [NF, NF, NF, OK, NM, OK, OK, OK]),
    ("mark all read", [NF, NF, NF, OK, NM, OK, OK, OK]),
    ("mark all delivered", [NF, NF, NF, OK, NM, OK, OK, OK]),
    ("mark read over mqtt", [NF, NF, NF, OK, NM, OK, OK, OK]),
    ("signal over mqtt", [NF, NF, NF, OK, NM, OK, OK, OK]),
    // R1 to R6
    ("rename", [NF, NF, NF, FB, NM, FB, OK, OK]),
    // N2
    ("clear the badge", [NF, NF, NF, OK, NM, OK, OK, OK]),
    ("mute", [NF, NF, NF, OK, NM, OK, OK, OK]),
    ("add a guest", [NF, NF, NF, FB, NM, FB, OK, OK]),
    ("remove the author", [NF, NF, NF, FB, NM, FB, OK, OK]),
    ("promote the author", [NF, NF, NF, FB, NM, FB, FB, OK]),
    ("leave", [NF, NF, NF, OK, OK, OK, OK, OK]),
    // S3
    ("see the author's profile", [OK; 8]),
    // S4, B1
    ("open a chat with the author", [NC, OK, BL, OK, OK, OK, OK, OK]),
    // C1 to C3, B1, B4
    ("accept the author", [NF, OK, BL, OK, OK, OK, OK, OK]),
    ("reject the author", [NF; 8]),
    ("ask the author to be a contact", [OK, OK, BL, OK, OK, OK, OK, OK]),
    ("rename the author's device", [NF; 8]),
    ("remove the author's device", [NF; 8]),
    ("remove the author's device over mqtt", [NF; 8]),
    ("remove the author's device by a topic of one's own over mqtt", [NF; 8]),
    ("publish as the author over mqtt", [NF; 8]),
    ("publish into the author's lane over mqtt", [NF; 8]),
    ("remove the author as a contact", [NF, OK, OK, OK, OK, OK, OK, OK]),
    ("block the author", [OK; 8]),
    ("unblock the author", [OK; 8]),
];

/// People who stay the same for all cells of a role.
struct People {
    founder: Actor,
    author: Actor,
    guest: Actor,
    subject: Actor,
}

/// A group in which the subject has its role.
struct Scene {
    group: Chat,
    early: Sent,
    gap: Sent,
    /// A group of the subject's own.
    own: Chat,
}

impl People {
    async fn gather(server: &TestServer, role: &str) -> Self {
        let [founder, author, guest] = server.contacts(["founder", "author", "guest"]).await;
        let subject = server.user("subject").await;
        if role != "stranger" {
            for peer in [&founder, &author, &guest] {
                peer.befriend(&subject).await;
            }
        }
        if role == "blocked" {
            author.http.post("/contacts/block", json!({ "userId": subject.id })).await.expect(200);
        }
        Self { founder, author, guest, subject }
    }

    async fn scene(&self, role: &str) -> Scene {
        let Self { founder, author, subject, .. } = self;
        let group = founder.group("birds", &[author]).await;
        let own = subject.group("mine", &[]).await;
        let is_in = !["stranger", "contact", "blocked"].contains(&role);
        if is_in {
            founder.add(&group, subject).await;
        }
        let early = author.post(&group, "early").await;
        if ["former", "rejoined"].contains(&role) {
            founder.remove(&group, subject).await;
        }
        let gap = author.post(&group, "gap").await;
        if role == "rejoined" {
            founder.add(&group, subject).await;
        }
        if ["admin", "owner"].contains(&role) {
            let path = format!("/chats/{group}/members/{}", subject.id);
            founder.http.patch(&path, json!({ "role": role })).await.expect(200);
        }
        Scene { group, early, gap, own }
    }
}

/// The code of a refusal, or that it was done.
fn outcome(answer: &Answer) -> String {
    match answer.status {
        200..=299 => OK.to_owned(),
        status => {
            let code = answer.json()["code"].as_str().unwrap_or_default().to_owned();
            answer.clone().expect_problem(status, &code);
            code
        }
    }
}

async fn publish(subject: &Actor, topic: &str, body: impl Into<Vec<u8>>) -> String {
    let ack = subject.mqtt().await.publish(topic, body).await;
    // 0x10: there is nobody else to hear it.
    if ["Success", "NoMatchingSubscribers"].contains(&ack.reason.as_str()) {
        return OK.to_owned();
    }
    ack.reason_string.split(':').next().unwrap_or_default().to_owned()
}

async fn attempt(operation: &str, people: &People, scene: &Scene) -> String {
    let People { author, guest, subject, .. } = people;
    let Scene { group, early, gap, own } = scene;
    let http = &subject.http;
    let chat = format!("/chats/{group}");
    let message = |sent: &Sent| format!("/chats/messages/{}", sent.id);
    let topic = |command: &str| format!("chats/{group}/{command}");
    let text = |text: &str| json!({ "type": "TEXT", "text": text });
    let answer_to = |sent: &Sent| json!({ "type": "TEXT", "text": "re", "replyToId": sent.id });
    let thumb = |sent: &Sent| json!({ "messageId": sent.id, "emoji": "👍" }).to_string();
    let answer = match operation {
        "read the chat" => http.get(&chat).await,
        "read messages" => http.get(&format!("{chat}/messages")).await,
        "read events" => http.get(&format!("{chat}/events")).await,
        "read members" => http.get(&format!("{chat}/members")).await,
        "read replies to early" => http.get(&format!("{}/replies", message(early))).await,
        "read replies to gap" => http.get(&format!("{}/replies", message(gap))).await,
        "read who has early" => http.get(&format!("{}/info", message(early))).await,
        "send" => http.post(&format!("{chat}/messages"), text("hi")).await,
        "send over mqtt" => return publish(subject, &topic("send"), text("hi").to_string()).await,
        "answer early" => http.post(&format!("{chat}/messages"), answer_to(early)).await,
        "answer gap" => http.post(&format!("{chat}/messages"), answer_to(gap)).await,
        "answer gap over mqtt" => return publish(subject, &topic("send"), answer_to(gap).to_string()).await,
        "react to early" => {
            http.post(&format!("{}/reactions", message(early)), json!({ "emoji": "👍" })).await
        }
        "react to gap" => http.post(&format!("{}/reactions", message(gap)), json!({ "emoji": "👍" })).await,
        "react to early over mqtt" => return publish(subject, &topic("react"), thumb(early)).await,
        "react to gap over mqtt" => return publish(subject, &topic("react"), thumb(gap)).await,
        "edit early" => http.patch(&message(early), json!({ "text": "x" })).await,
        "edit early over mqtt" => {
            let body = json!({ "messageId": early.id, "text": "x" });
            return publish(subject, &topic("edit"), body.to_string()).await;
        }
        "delete early for everyone" => http.delete(&format!("{}?for=everyone", message(early))).await,
        "delete early for everyone over mqtt" => {
            let body = json!({ "messageId": early.id, "for": "everyone" });
            return publish(subject, &topic("delete"), body.to_string()).await;
        }
        "delete early for me" => http.delete(&message(early)).await,
        "delete gap for me" => http.delete(&message(gap)).await,
        "delete gap for me over mqtt" => {
            let body = json!({ "messageId": gap.id });
            return publish(subject, &topic("delete"), body.to_string()).await;
        }
        "forward early" => {
            http.post(&format!("{}/forward", message(early)), json!({ "chatIds": [own.0] })).await
        }
        "forward gap" => http.post(&format!("{}/forward", message(gap)), json!({ "chatIds": [own.0] })).await,
        "forward into the chat" => {
            let mine = subject.post(own, "mine").await;
            http.post(&format!("{}/forward", message(&mine)), json!({ "chatIds": [group.0] })).await
        }
        "say that early is read" => {
            http.patch(&format!("{}/status", message(early)), json!({ "status": "READ" })).await
        }
        "mark all read" => http.post_nothing(&format!("{chat}/messages/read")).await,
        "mark all delivered" => http.post_nothing(&format!("{chat}/messages/delivered")).await,
        "mark read over mqtt" => return publish(subject, &topic("receipts"), r#"{"read":9}"#).await,
        "signal over mqtt" => return publish(subject, &topic(&format!("x/{}/t", subject.id)), "hi").await,
        "rename" => http.patch(&chat, json!({ "name": "terns" })).await,
        "clear the badge" => http.post_nothing(&format!("/notifications/clear/{group}")).await,
        "mute" => http.patch(&format!("{chat}/settings"), json!({ "pinned": true })).await,
        "add a guest" => http.post(&format!("{chat}/members"), json!({ "userIds": [guest.id] })).await,
        "remove the author" => http.delete(&format!("{chat}/members/{}", author.id)).await,
        "promote the author" => {
            http.patch(&format!("{chat}/members/{}", author.id), json!({ "role": "admin" })).await
        }
        "leave" => http.post_nothing(&format!("{chat}/leave")).await,
        "see the author's profile" => http.get(&format!("/users/{}", author.id)).await,
        "open a chat with the author" => {
            http.post("/chats", json!({ "type": "private", "userId": author.id })).await
        }
        "accept the author" => http.patch_nothing(&format!("/contacts/request/{}/accept", author.id)).await,
        "reject the author" => http.delete(&format!("/contacts/request/{}/reject", author.id)).await,
        "ask the author to be a contact" => {
            http.post("/contacts/request", json!({ "userId": author.id })).await
        }
        "rename the author's device" => {
            http.patch(&format!("/devices/{}", author.device_id), json!({ "name": "mine" })).await
        }
        "remove the author's device" => http.delete(&format!("/devices/{}", author.device_id)).await,
        "remove the author's device over mqtt" => {
            return publish(subject, &format!("users/{}/devices/{}/remove", author.id, author.device_id), "")
                .await;
        }
        "remove the author's device by a topic of one's own over mqtt" => {
            return publish(
                subject,
                &format!("users/{}/devices/{}/remove", subject.id, author.device_id),
                "",
            )
            .await;
        }
        "publish as the author over mqtt" => {
            return publish(subject, &topic(&format!("x/{}/t", author.id)), "hi").await;
        }
        "publish into the author's lane over mqtt" => {
            return publish(subject, &format!("users/{}/x/t", author.id), "hi").await;
        }
        "remove the author as a contact" => http.delete(&format!("/contacts/{}", author.id)).await,
        "block the author" => http.post("/contacts/block", json!({ "userId": author.id })).await,
        "unblock the author" => http.patch_nothing(&format!("/contacts/unblock/{}", author.id)).await,
        unknown => unreachable!("{unknown}"),
    };
    outcome(&answer)
}

/// Everything that somebody else could see to have changed, as the founder and the author see it, but how far messages got.
async fn state(people: &People, scene: &Scene) -> Value {
    let People { founder, author, .. } = people;
    let chat = founder.chat(&scene.group).await;
    let events = founder.events(&scene.group).await;
    let contacts = author.http.get("/contacts").await.expect(200);
    let pending = author.http.get("/contacts/pending").await.expect(200);
    let devices = author.http.get("/devices").await.expect(200);
    let names: Vec<_> =
        devices["items"].as_array().unwrap().iter().map(|device| device["name"].clone()).collect();
    let mut state = json!([chat, events, contacts, pending, names]);
    forget_receipts(&mut state);
    state
}

/// What arrived is acknowledged by itself, sooner or later.
fn forget_receipts(state: &mut Value) {
    match state {
        Value::Object(fields) => {
            for name in ["deliveredSeq", "readSeq", "status"] {
                fields.remove(name);
            }
            fields.values_mut().for_each(forget_receipts);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_receipts),
        _ => {}
    }
}

/// Tries every operation as `role`, from `device` of the subject.
async fn try_all(server: &TestServer, role: &str, other_device: bool) {
    let column = ROLES.iter().position(|known| *known == role).expect("a role of the table");
    let mut people = People::gather(server, role).await;
    if other_device {
        people.subject = people.subject.log_in_on(server, "tablet").await;
    }
    people.subject.connect().await;
    let mut scene = people.scene(role).await;
    for (operation, cells) in TABLE {
        let before = if cells[column] == OK { Value::Null } else { state(&people, &scene).await };
        let came_to = attempt(operation, &people, &scene).await;
        assert_eq!(came_to, cells[column], "a {role} wants to {operation}");
        if came_to == OK {
            scene = people.scene(role).await;
        } else {
            assert_eq!(state(&people, &scene).await, before, "a {role} may not {operation}, and yet");
        }
    }
}

macro_rules! roles {
    ($($test:ident: $role:literal, $other_device:literal;)+) => {
        both_engines! {$(
            async fn $test(server) {
                try_all(&server, $role, $other_device).await;
            }
        )+}
    };
}

roles! {
    a_stranger: "stranger", false;
    a_contact: "contact", false;
    somebody_blocked: "blocked", false;
    a_member: "member", false;
    a_member_on_another_device: "member", true;
    a_former_member: "former", false;
    a_rejoined_member: "rejoined", false;
    an_admin: "admin", false;
    an_owner: "owner", false;
}

/// Whose credentials are dead gets 401 whatever they ask for, and no connection.
async fn assert_dead(server: &TestServer, http: &Http, mqtt_password: &str) {
    let nowhere = "0192f0c1-0000-7000-8000-0000000000ff";
    let document = server.anonymous().get("/openapi.json").await.expect(200);
    let mut tried = 0;
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let open = operation["security"]
                .as_array()
                .is_some_and(|of| of.iter().all(|s| s == &json!({})) || of.is_empty());
            let Some(path) = path.strip_prefix("/api").filter(|_| !open) else { continue };
            let mut concrete = path.to_owned();
            while let (Some(from), Some(to)) = (concrete.find('{'), concrete.find('}')) {
                concrete.replace_range(from..=to, nowhere);
            }
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let answer = http.request(method.clone(), &concrete, Some(json!({}))).await;
            assert_eq!(answer.status, 401, "{method} {concrete}: {}", answer.text);
            answer.expect_problem(401, "unauthenticated");
            tried += 1;
        }
    }
    assert!(tried > 30, "{tried} operations were tried");
    let mut client = raw::RawClient::open(server.endpoints().mqtt(), Protocol::V5).await;
    let password = Some(mqtt_password.as_bytes().to_vec());
    let connect = raw::Connect { password, ..raw::Connect::default() };
    let (_, code, _) = client.try_connect(&connect).await.expect("an answer");
    assert!([0x86, 0x87].contains(&code), "{code:#x}");
}

both_engines! {
    async fn nobody_in_particular(server) {
        assert_dead(&server, &server.anonymous(), "x").await;
        assert_dead(&server, &server.anonymous().with_token("x"), "").await;
    }

    async fn who_was_logged_out(server) {
        let alice = server.user("alice").await;
        alice.http.post_nothing("/auth/logout").await.expect(204);
        assert_dead(&server, &alice.http, &alice.mqtt_password).await;
    }

    async fn who_has_deleted_their_account(server) {
        let alice = server.user("alice").await;
        let body = json!({ "password": curlew_tests::actor::PASSWORD });
        alice.http.request(Method::DELETE, "/auth/delete-profile", Some(body)).await.expect(204);
        assert_dead(&server, &alice.http, &alice.mqtt_password).await;
    }
}

#[tokio::test]
async fn whose_access_token_has_expired() {
    let setup = TestServer::setup(Engine::Sqlite).env("CURLEW_AUTH_ACCESS_TOKEN_TTL", "1s");
    let server = setup.start().await;
    let alice = server.user("alice").await;
    eventually("the end of the token", async || {
        (alice.http.get("/auth/profile").await.status == 401).then_some(())
    })
    .await;
    assert_dead(&server, &alice.http, &alice.access_token).await;
}
