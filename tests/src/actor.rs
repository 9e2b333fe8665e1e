//! People: each has an account, a device, a REST client and, when connected, an MQTT client.

use crate::{
    http::Http,
    mqtt::{Connection, Options, Protocol, Received, raw},
    server::{Endpoints, TestServer},
};
use serde_json::{Value, json};
use std::{
    fmt,
    ops::DerefMut,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

/// Everybody's password.
pub const PASSWORD: &str = "correct horse battery";

/// A chat, by its id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Chat(pub String);

impl fmt::Display for Chat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a message goes.
pub enum To<'a> {
    /// Into the private chat with this one.
    Peer(&'a Actor),
    /// Into this chat.
    Chat(&'a Chat),
}

impl<'a> From<&'a Actor> for To<'a> {
    fn from(peer: &'a Actor) -> Self {
        Self::Peer(peer)
    }
}

impl<'a> From<&'a Chat> for To<'a> {
    fn from(chat: &'a Chat) -> Self {
        Self::Chat(chat)
    }
}

/// A message that was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its id.
    pub id: String,
    /// Its chat.
    pub chat: Chat,
    /// Its place in the chat's log.
    pub seq: u64,
    /// Its text.
    pub text: String,
    /// The sender's id of it.
    pub local_id: String,
}

/// State of a message, as its sender sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Stored.
    Sent,
    /// With everybody.
    Delivered,
    /// Read by everybody.
    Read,
}

impl Status {
    /// As the server writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "SENT",
            Self::Delivered => "DELIVERED",
            Self::Read => "READ",
        }
    }
}

/// A user with a device.
pub struct Actor {
    /// User id.
    pub id: String,
    /// User name.
    pub username: String,
    /// The device.
    pub device_id: String,
    /// Access token.
    pub access_token: String,
    /// Refresh token.
    pub refresh_token: String,
    /// For MQTT only.
    pub mqtt_password: String,
    /// REST with the access token.
    pub http: Http,
    endpoints: Arc<Endpoints>,
    protocol: Protocol,
    connection: Mutex<Option<Connection>>,
    local_ids: AtomicU32,
}

impl Actor {
    /// Registers, which logs in.
    pub async fn register(server: &TestServer, username: &str) -> Self {
        let body = json!({
            "username": username,
            "password": PASSWORD,
            "displayName": username,
            "device": { "name": "phone", "platform": "test" },
        });
        let answer = server.anonymous().post("/auth/register", body).await.expect(201);
        Self::from_login(server, &answer)
    }

    /// From a login answer.
    pub fn from_login(server: &TestServer, answer: &Value) -> Self {
        let text = |pointer: &str| {
            let value = answer.pointer(pointer).and_then(Value::as_str);
            value.unwrap_or_else(|| panic!("{pointer} is missing in the login answer {answer}")).to_owned()
        };
        let access_token = text("/accessToken");
        Self {
            id: text("/user/id"),
            username: text("/user/username"),
            device_id: text("/device/id"),
            refresh_token: text("/refreshToken"),
            mqtt_password: text("/mqtt/password"),
            http: server.anonymous().with_token(&access_token),
            access_token,
            endpoints: Arc::clone(server.endpoints()),
            protocol: Protocol::V5,
            connection: Mutex::new(None),
            local_ids: AtomicU32::new(0),
        }
    }

    /// The same user on another device.
    pub async fn log_in_on(&self, server: &TestServer, device: &str) -> Self {
        let body = json!({
            "login": self.username,
            "password": PASSWORD,
            "device": { "name": device, "platform": "test" },
        });
        Self::from_login(server, &server.anonymous().post("/auth/login", body).await.expect(200))
    }

    /// Connects with this protocol from now on.
    #[must_use]
    pub fn speaking(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    // ---- contacts and chats, over REST

    /// Becomes a contact of `peer`: one asks, the other accepts.
    pub async fn befriend(&self, peer: &Self) {
        self.http.post("/contacts/request", json!({ "userId": peer.id })).await.expect(201);
        peer.http.patch_nothing(&format!("/contacts/request/{}/accept", self.id)).await.expect(200);
    }

    /// The private chat with `peer`.
    pub async fn private_chat(&self, peer: &Self) -> Chat {
        let answer = self.http.post("/chats", json!({ "type": "private", "userId": peer.id })).await;
        assert!([200, 201].contains(&answer.status), "a private chat: {answer:?}");
        Chat(answer.json()["id"].as_str().expect("a chat has an id").to_owned())
    }

    /// Founds a group.
    pub async fn group(&self, name: &str, members: &[&Self]) -> Chat {
        let members: Vec<_> = members.iter().map(|member| &member.id).collect();
        let body = json!({ "type": "group", "name": name, "memberIds": members });
        let chat = self.http.post("/chats", body).await.expect(201);
        Chat(chat["id"].as_str().expect("a chat has an id").to_owned())
    }

    /// Adds a member; answers the chat.
    pub async fn add(&self, chat: &Chat, member: &Self) -> Value {
        self.http.post(&format!("/chats/{chat}/members"), json!({ "userIds": [member.id] })).await.expect(200)
    }

    /// Removes a member; answers the chat.
    pub async fn remove(&self, chat: &Chat, member: &Self) -> Value {
        self.http.delete(&format!("/chats/{chat}/members/{}", member.id)).await.expect(200)
    }

    /// Leaves.
    pub async fn leave(&self, chat: &Chat) {
        self.http.post_nothing(&format!("/chats/{chat}/leave")).await.expect(204);
    }

    /// The chat as this user sees it.
    pub async fn chat(&self, chat: &Chat) -> Value {
        self.http.get(&format!("/chats/{chat}")).await.expect(200)
    }

    /// The whole log of a chat, as far as this user may see it, page by page.
    pub async fn events(&self, chat: &Chat) -> Vec<Value> {
        self.events_after(chat, 0).await
    }

    /// The log of a chat after a row, page by page.
    pub async fn events_after(&self, chat: &Chat, mut after: u64) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let page =
                self.http.get(&format!("/chats/{chat}/events?limit=200&afterSeq={after}")).await.expect(200);
            let items = page["items"].as_array().expect("a page has items");
            events.extend(items.iter().cloned());
            match items.last() {
                Some(last) if !page["nextCursor"].is_null() => {
                    after = last["seq"].as_u64().expect("a row has a seq");
                }
                _ => return events,
            }
        }
    }

    /// Texts of the messages of a chat, oldest first, as this user may read them.
    pub async fn texts(&self, chat: &Chat) -> Vec<String> {
        let events = self.events(chat).await;
        let texts = events.iter().filter_map(|event| event["message"]["text"].as_str().map(str::to_owned));
        texts.collect()
    }

    /// The state of a message that this user has sent, by REST.
    pub async fn status_of(&self, sent: &Sent) -> String {
        let page =
            self.http.get(&format!("/chats/{}/messages?afterSeq={}&limit=1", sent.chat, sent.seq - 1)).await;
        let message = page.expect(200)["items"][0].clone();
        assert_eq!(message["id"], sent.id.as_str(), "{message}");
        message["status"].as_str().expect("an own message has a status").to_owned()
    }

    // ---- sending

    /// Sends over REST.
    pub async fn post(&self, to: impl Into<To<'_>>, text: &str) -> Sent {
        let chat = self.resolve(to.into()).await;
        let local_id = self.local_id();
        let body = json!({ "type": "TEXT", "text": text, "localId": local_id });
        let message = self.http.post(&format!("/chats/{chat}/messages"), body).await.expect(201);
        Self::sent(&message)
    }

    /// Sends over MQTT at QoS 1, and waits for the acknowledgement.
    pub async fn send(&self, to: impl Into<To<'_>>, text: &str) -> Sent {
        let chat = self.resolve(to.into()).await;
        let local_id = self.local_id();
        let body = json!({ "type": "TEXT", "text": text, "localId": local_id });
        let ack = self.mqtt().await.publish(&format!("chats/{chat}/send"), body.to_string()).await;
        assert_eq!(ack.reason, "Success", "{ack:?}");
        let (Some(id), Some(seq)) = (ack.property("messageId"), ack.property("seq")) else {
            // 3.1.1 has no place for them.
            return self.find_sent(&chat, &local_id).await;
        };
        let (id, seq) = (id.to_owned(), seq.parse().expect("a seq is a number"));
        Sent { id, chat, seq, text: text.to_owned(), local_id }
    }

    async fn find_sent(&self, chat: &Chat, local_id: &str) -> Sent {
        let page = self.http.get(&format!("/chats/{chat}/messages")).await.expect(200);
        let items = page["items"].as_array().expect("a page has items");
        let message = items.iter().find(|message| message["localId"] == local_id);
        Self::sent(message.expect("an acknowledged message is stored"))
    }

    fn sent(message: &Value) -> Sent {
        let text = |field: &str| message[field].as_str().unwrap_or_default().to_owned();
        Sent {
            id: text("id"),
            chat: Chat(text("chatId")),
            seq: message["seq"].as_u64().expect("a message has a seq"),
            text: text("text"),
            local_id: text("localId"),
        }
    }

    fn local_id(&self) -> String {
        format!("{}-{}", self.username, self.local_ids.fetch_add(1, Ordering::Relaxed))
    }

    async fn resolve(&self, to: To<'_>) -> Chat {
        match to {
            To::Peer(peer) => self.private_chat(peer).await,
            To::Chat(chat) => chat.clone(),
        }
    }

    // ---- MQTT

    /// How this device connects.
    pub fn options(&self) -> Options {
        Options {
            protocol: self.protocol,
            client_id: "phone".into(),
            username: self.username.clone(),
            password: self.mqtt_password.clone(),
            clean: false,
            lasting: true,
        }
    }

    /// What this device follows: its chats, their receipts, its events and errors.
    pub fn filters(&self) -> [(String, u8); 4] {
        [
            ("chats/+/messages".into(), 1),
            ("chats/+/receipts".into(), 1),
            (format!("users/{}/events", self.id), 1),
            (format!("users/{}/errors", self.id), 1),
        ]
    }

    /// Connects the session that lasts, and subscribes when it is a new one.
    pub async fn connect(&self) -> &Self {
        let mut connection = self.open(&self.options()).await.expect("CONNECT is accepted");
        if !connection.session_present() {
            let filters = self.filters();
            let filters: Vec<_> = filters.iter().map(|(filter, qos)| (filter.as_str(), *qos)).collect();
            connection.subscribe(&filters).await;
        }
        self.adopt(connection).await;
        self
    }

    /// A connection of its own, as `options` say; `Err` is why it was refused.
    pub async fn open(&self, options: &Options) -> Result<Connection, String> {
        Connection::open(self.endpoints.mqtt(), options).await
    }

    /// Makes a connection the one that the other methods use.
    pub async fn adopt(&self, connection: Connection) {
        *self.connection.lock().await = Some(connection);
    }

    /// A socket, connected by hand with this device's credentials.
    pub async fn raw(&self, protocol: Protocol, connect: raw::Connect) -> raw::RawClient {
        let (client, _) = self.raw_session(protocol, connect).await;
        client
    }

    /// The same, and whether the session was present.
    pub async fn raw_session(&self, protocol: Protocol, connect: raw::Connect) -> (raw::RawClient, bool) {
        let mut client = raw::RawClient::open(self.endpoints.mqtt(), protocol).await;
        let (session_present, code, properties) = client.connect(&self.credentials(connect)).await;
        assert_eq!(code, 0, "CONNECT is accepted: {properties:?}");
        (client, session_present)
    }

    /// `connect` with this device's credentials.
    pub fn credentials(&self, connect: raw::Connect) -> raw::Connect {
        let username = Some(format!("{}{}", self.id, connect.options));
        let password = Some(self.mqtt_password.clone().into_bytes());
        raw::Connect { username, password, ..connect }
    }

    /// Ends the connection with DISCONNECT, after everything that came has been acknowledged. The session stays.
    pub async fn go_offline(&self) {
        let connection = self.connection.lock().await.take();
        connection.expect("connected").disconnect().await;
    }

    /// The connection.
    pub async fn mqtt(&self) -> impl DerefMut<Target = Connection> {
        let guard = self.connection.lock().await;
        let connected: MappedMutexGuard<'_, Connection> =
            MutexGuard::map(guard, |connection| connection.as_mut().expect("connected"));
        connected
    }

    /// Takes the message out of what has arrived or will; it must be as its sender sent it.
    pub async fn expect_message(&self, sent: &Sent) -> Received {
        let what = format!("the message {sent:?} at {}", self.username);
        let received =
            self.mqtt().await.receive(&what, |r| r.event() == "new-message" && r.id() == sent.id).await;
        assert_eq!(received.topic, format!("chats/{}/messages", sent.chat), "{received:?}");
        assert_eq!((received.seq(), received.text()), (sent.seq, sent.text.as_str()), "{received:?}");
        received
    }

    /// Takes the next rows of a chat's log, in the order of their arrival.
    pub async fn expect_rows(&self, chat: &Chat, count: usize) -> Vec<Received> {
        let (what, topic) =
            (format!("{count} rows of {chat} at {}", self.username), format!("chats/{chat}/messages"));
        let mut rows = Vec::with_capacity(count);
        let mut connection = self.mqtt().await;
        for _ in 0..count {
            rows.push(connection.receive(&what, |r| r.topic == topic).await);
        }
        rows
    }

    /// Takes the first event of this name.
    pub async fn expect_event(&self, name: &str) -> Received {
        let what = format!("{name} at {}", self.username);
        self.mqtt().await.receive(&what, |r| r.event() == name).await
    }

    /// Waits until this sender has been told that the message has at least this state.
    pub async fn expect_status(&self, sent: &Sent, status: Status) -> Received {
        let what = format!("{} of {sent:?} at {}", status.as_str(), self.username);
        let topic = format!("chats/{}/receipts", sent.chat);
        let is_it = |r: &Received| {
            r.event() == "message-status-update"
                && r.topic == topic
                && r.json["messageSeq"].as_u64() >= Some(sent.seq)
                && r.json["status"] == status.as_str()
        };
        self.mqtt().await.receive(&what, is_it).await
    }

    /// Everything that arrives before the sentinel, which goes with it. The sentinel is a message sent afterwards.
    pub async fn everything_until(&self, sentinel: &Sent) -> Vec<Received> {
        let what = format!("the sentinel {sentinel:?} at {}", self.username);
        self.mqtt().await.receive_until(&what, |r| r.event() == "new-message" && r.id() == sentinel.id).await
    }

    /// Rows of chats that arrive before the sentinel.
    pub async fn rows_until(&self, sentinel: &Sent) -> Vec<Received> {
        let all = self.everything_until(sentinel).await;
        all.into_iter().filter(Received::is_of_a_chat).collect()
    }

    /// No row of a chat arrives before the sentinel.
    pub async fn expect_nothing_until(&self, sentinel: &Sent) {
        let rows = self.rows_until(sentinel).await;
        assert!(rows.is_empty(), "{} got {rows:#?}", self.username);
    }

    /// Waits until the server has closed the connection; answers why.
    pub async fn expect_closed(&self) -> String {
        let why = self.mqtt().await.closed().await;
        *self.connection.lock().await = None;
        why
    }
}
