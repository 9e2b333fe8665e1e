//! MQTT, as a stock client speaks it: `rumqttc`, 3.1.1 or 5, automatic acknowledgements, nothing of ours in it. For
//! what such a client hides there is [`raw`].

pub mod raw;
mod stock;
pub mod websocket;

use crate::wait::within;
use serde_json::Value;
use std::{collections::VecDeque, net::SocketAddr};
use stock::Client;
use tokio::{sync::mpsc, task::JoinHandle};

/// Session Expiry Interval of sessions that last: a day.
const LASTING: u32 = 86_400;

/// Which MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// 3.1.1.
    V3,
    /// 5.
    V5,
}

/// How to connect.
#[derive(Clone, Debug)]
pub struct Options {
    /// 3.1.1 or 5.
    pub protocol: Protocol,
    /// Client identifier.
    pub client_id: String,
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
    /// Clean Session or Clean Start.
    pub clean: bool,
    /// Whether the session outlives the connection (5; in 3.1.1 that is what Clean Session 0 means).
    pub lasting: bool,
}

/// A publication that arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// Topic.
    pub topic: String,
    /// Quality of service.
    pub qos: u8,
    /// DUP.
    pub dup: bool,
    /// RETAIN.
    pub retain: bool,
    /// Payload.
    pub json: Value,
}

impl Received {
    /// What it is, such as `new-message`.
    pub fn event(&self) -> &str {
        self.json["event"].as_str().unwrap_or_default()
    }

    /// The row's id.
    pub fn id(&self) -> &str {
        self.json["id"].as_str().unwrap_or_default()
    }

    /// Position in its log, 0 when it has none.
    pub fn seq(&self) -> u64 {
        self.json["seq"].as_u64().unwrap_or_default()
    }

    /// Text of the message in it.
    pub fn text(&self) -> &str {
        self.json["message"]["text"].as_str().unwrap_or_default()
    }

    /// Whether it is a row of a chat's log.
    pub fn is_of_a_chat(&self) -> bool {
        self.topic.starts_with("chats/") && self.topic.ends_with("/messages")
    }
}

/// Acknowledgement of a publication of ours.
#[derive(Clone, Debug, Default)]
pub struct Ack {
    /// Reason, named as the client library names it; `Success` in 3.1.1.
    pub reason: String,
    /// Reason string (5).
    pub reason_string: String,
    /// User properties (5).
    pub properties: Vec<(String, String)>,
}

impl Ack {
    /// A user property.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What the client reports.
#[derive(Debug)]
enum Incoming {
    Connected {
        session_present: bool,
    },
    Publication(Received),
    Ack(Ack),
    /// What each filter was granted: its QoS, or the name of the refusal.
    Subscribed(Vec<Result<u8, String>>),
    Unsubscribed,
    /// The connection is gone; why, as the client library puts it.
    Closed(String),
}

/// A connection of a stock client. Dropped, it breaks off without DISCONNECT.
pub struct Connection {
    client: Client,
    incoming: mpsc::Receiver<Incoming>,
    polling: JoinHandle<()>,
    /// Publications that arrived and were not asked for yet, in order.
    inbox: VecDeque<Received>,
    session_present: bool,
}

impl Connection {
    /// Connects; `Err` is why it was refused.
    pub async fn open(address: SocketAddr, options: &Options) -> Result<Self, String> {
        // Far more than any test has waiting; beyond it the client stops reading, as a slow one does.
        let (sender, incoming) = mpsc::channel(16_384);
        let (client, polling) = Client::start(address, options, sender);
        let mut connection =
            Self { client, incoming, polling, inbox: VecDeque::new(), session_present: false };
        match within("CONNACK", connection.incoming.recv()).await {
            Some(Incoming::Connected { session_present }) => {
                connection.session_present = session_present;
                Ok(connection)
            }
            Some(Incoming::Closed(why)) => Err(why),
            other => panic!("instead of CONNACK: {other:?}"),
        }
    }

    /// Session Present of CONNACK.
    pub fn session_present(&self) -> bool {
        self.session_present
    }

    /// Subscribes; each filter must be granted with the QoS it asks for.
    pub async fn subscribe(&mut self, filters: &[(&str, u8)]) {
        let granted = self.try_subscribe(filters).await;
        let asked: Vec<_> = filters.iter().map(|(_, qos)| Ok(*qos)).collect();
        assert_eq!(granted, asked, "{filters:?}");
    }

    /// Subscribes; answers for each filter the QoS granted, or the name of the refusal.
    pub async fn try_subscribe(&mut self, filters: &[(&str, u8)]) -> Vec<Result<u8, String>> {
        self.client.subscribe(filters).await;
        loop {
            if let Incoming::Subscribed(granted) = self.next("SUBACK").await {
                return granted;
            }
        }
    }

    /// Unsubscribes.
    pub async fn unsubscribe(&mut self, filter: &str) {
        self.client.unsubscribe(filter).await;
        while !matches!(self.next("UNSUBACK").await, Incoming::Unsubscribed) {}
    }

    /// Publishes at QoS 1 and waits for the acknowledgement.
    pub async fn publish(&mut self, topic: &str, payload: impl Into<Vec<u8>>) -> Ack {
        self.client.publish(topic, 1, payload.into()).await;
        loop {
            if let Incoming::Ack(ack) = self.next("PUBACK").await {
                return ack;
            }
        }
    }

    /// Publishes at QoS 0.
    pub async fn publish_and_forget(&mut self, topic: &str, payload: impl Into<Vec<u8>>) {
        self.client.publish(topic, 0, payload.into()).await;
    }

    /// The first publication, in the order of arrival, that is `wanted`. Those before it stay for later calls.
    pub async fn receive(&mut self, what: &str, wanted: impl Fn(&Received) -> bool) -> Received {
        let mut seen = 0;
        loop {
            while self.inbox.len() <= seen {
                self.next_publication(what).await;
            }
            if wanted(&self.inbox[seen]) {
                return self.inbox.remove(seen).expect("it is there");
            }
            seen += 1;
        }
    }

    /// Takes every publication up to the one that is the `sentinel`, and answers those before it.
    pub async fn receive_until(&mut self, what: &str, sentinel: impl Fn(&Received) -> bool) -> Vec<Received> {
        let mut before = Vec::new();
        loop {
            while self.inbox.is_empty() {
                self.next_publication(what).await;
            }
            let received = self.inbox.pop_front().expect("it is there");
            if sentinel(&received) {
                return before;
            }
            before.push(received);
        }
    }

    /// Sends DISCONNECT after every acknowledgement that is due.
    pub async fn disconnect(mut self) {
        self.client.disconnect().await;
        while !matches!(self.next("the end of the connection").await, Incoming::Closed(_)) {}
    }

    /// Waits until the server has closed the connection; answers why, as the client library puts it.
    pub async fn closed(&mut self) -> String {
        loop {
            if let Incoming::Closed(why) = self.next("the server to close the connection").await {
                return why;
            }
        }
    }

    /// Publications that have arrived so far.
    pub fn arrived(&mut self) -> Vec<Received> {
        while let Ok(incoming) = self.incoming.try_recv() {
            if let Incoming::Publication(received) = incoming {
                self.inbox.push_back(received);
            }
        }
        self.inbox.drain(..).collect()
    }

    async fn next_publication(&mut self, what: &str) {
        let waiting: Vec<_> = self.inbox.iter().map(|r| format!("{} {}", r.topic, r.json)).collect();
        let what = format!("{what}; arrived so far: {waiting:#?}");
        if let Incoming::Closed(why) = self.next(&what).await {
            panic!("the connection was closed ({why}) instead of bringing {what}");
        }
    }

    /// The next report. Publications go to the inbox before they are reported.
    async fn next(&mut self, what: &str) -> Incoming {
        let incoming = within(what, self.incoming.recv()).await;
        let incoming = incoming.unwrap_or_else(|| Incoming::Closed("it was closed before".into()));
        if let Incoming::Publication(received) = &incoming {
            self.inbox.push_back(received.clone());
        }
        incoming
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.polling.abort();
    }
}
