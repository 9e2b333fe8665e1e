//! A small MQTT client made by hand: it sends whatever bytes it is told to, acknowledges nothing by itself, and shows
//! what a stock client hides: reason codes, user properties, DUP, packet identifiers, how a connection ends.

mod properties;

use super::Protocol;
use crate::wait::within;
pub use properties::Properties;
use serde_json::Value;
use std::{collections::VecDeque, fmt, io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

const CONNECT: u8 = 0x10;
const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const SUBSCRIBE: u8 = 0x82;
const AUTH: u8 = 0xF0;
const UNSUBSCRIBE: u8 = 0xA2;
const PINGREQ: [u8; 2] = [0xC0, 0];
const DISCONNECT: [u8; 2] = [0xE0, 0];

/// A step of an exchange at QoS 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Answer {
    /// PUBREC
    Receive = 0x50,
    /// PUBREL
    Release = 0x62,
    /// PUBCOMP
    Complete = 0x70,
}

/// A packet from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// CONNACK
    ConnAck {
        /// Session Present.
        session_present: bool,
        /// Return code (3.1.1) or reason code (5).
        code: u8,
        /// Properties (5).
        properties: Properties,
    },
    /// PUBLISH
    Publish(Publication),
    /// PUBACK
    PubAck {
        /// Packet identifier.
        id: u16,
        /// Reason code; 0 in 3.1.1.
        reason: u8,
        /// Properties (5).
        properties: Properties,
    },
    /// PUBREC
    PubRec {
        /// Packet identifier.
        id: u16,
        /// Reason code; 0 in 3.1.1.
        reason: u8,
    },
    /// PUBREL
    PubRel {
        /// Packet identifier.
        id: u16,
        /// Reason code; 0 in 3.1.1.
        reason: u8,
    },
    /// PUBCOMP
    PubComp {
        /// Packet identifier.
        id: u16,
        /// Reason code; 0 in 3.1.1.
        reason: u8,
    },
    /// UNSUBACK
    UnsubAck {
        /// Packet identifier.
        id: u16,
        /// One for each filter (5).
        codes: Vec<u8>,
    },
    /// SUBACK
    SubAck {
        /// Packet identifier.
        id: u16,
        /// One for each filter.
        codes: Vec<u8>,
    },
    /// PINGRESP
    PingResp,
    /// DISCONNECT (5)
    Disconnect {
        /// Reason code.
        reason: u8,
        /// Properties.
        properties: Properties,
    },
    /// AUTH (5)
    Auth {
        /// Reason code.
        reason: u8,
        /// Properties.
        properties: Properties,
    },
    /// Anything else: its first byte and what follows the remaining length.
    Other(u8, Vec<u8>),
}

/// A PUBLISH from the server.
#[derive(Clone, PartialEq, Eq)]
pub struct Publication {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// Quality of service.
    pub qos: u8,
    /// DUP.
    pub dup: bool,
    /// RETAIN.
    pub retain: bool,
    /// Packet identifier; 0 at QoS 0.
    pub id: u16,
    /// Topic Alias (5).
    pub alias: Option<u32>,
    /// Properties (5).
    pub properties: Properties,
}

impl fmt::Debug for Publication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, payload, qos, dup, retain, id, alias, .. } = self;
        let payload = String::from_utf8_lossy(payload);
        write!(f, "PUBLISH {topic} qos {qos} dup {dup} retain {retain} id {id} alias {alias:?}: {payload}")
    }
}

impl Publication {
    /// The payload, as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.payload).expect("every event is JSON")
    }

    /// The payload, which must be one CBOR value.
    pub fn cbor(&self) -> Value {
        let mut rest = &self.payload[..];
        let value =
            ciborium::from_reader(&mut rest).unwrap_or_else(|error| panic!("{error}: not CBOR: {self:?}"));
        assert!(rest.is_empty(), "something follows the CBOR: {self:?}");
        value
    }
}

/// The will of a CONNECT.
#[derive(Clone, Debug, Default)]
pub struct Will {
    /// Topic.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// Quality of service.
    pub qos: u8,
    /// Will Retain.
    pub retain: bool,
    /// Will Delay Interval (5).
    pub delay: Option<u32>,
    /// Message Expiry Interval (5).
    pub expiry: Option<u32>,
}

/// A CONNECT.
#[derive(Clone, Debug)]
pub struct Connect {
    /// Client identifier.
    pub client_id: String,
    /// User name.
    pub username: Option<String>,
    /// Password.
    pub password: Option<Vec<u8>>,
    /// Clean Session or Clean Start.
    pub clean: bool,
    /// Session Expiry Interval (5).
    pub expiry: Option<u32>,
    /// Receive Maximum (5).
    pub receive_maximum: Option<u16>,
    /// Options at the end of the user name, such as `?mount=x`.
    pub options: &'static str,
    /// The will.
    pub will: Option<Will>,
    /// Maximum Packet Size (5).
    pub maximum_packet_size: Option<u32>,
    /// Keep Alive.
    pub keep_alive: u16,
    /// Request Problem Information = 0 (5).
    pub no_problem_information: bool,
    /// Topic Alias Maximum (5).
    pub topic_alias_maximum: Option<u16>,
    /// Request Response Information = 1 (5).
    pub response_information: bool,
    /// User properties (5).
    pub user: &'static [(&'static str, &'static str)],
    /// Authentication Method and Authentication Data (5).
    pub authentication: Option<(String, Vec<u8>)>,
}

impl Default for Connect {
    fn default() -> Self {
        Self {
            client_id: "raw".into(),
            username: None,
            password: None,
            clean: true,
            expiry: None,
            receive_maximum: None,
            options: "",
            will: None,
            maximum_packet_size: None,
            keep_alive: 0,
            no_problem_information: false,
            topic_alias_maximum: None,
            response_information: false,
            user: &[],
            authentication: None,
        }
    }
}

/// What went over a connection, without TCP's own part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets, both ways.
    pub packets: usize,
    /// Bytes of them.
    pub bytes: usize,
}

/// A connection.
pub struct RawClient {
    /// So far.
    pub traffic: Traffic,
    protocol: Protocol,
    reader: Box<dyn AsyncRead + Send + Unpin>,
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    buffer: Vec<u8>,
    /// Packets that came while others were waited for.
    early: VecDeque<Packet>,
}

impl RawClient {
    /// Opens a socket, and sends nothing yet.
    pub async fn open(address: SocketAddr, protocol: Protocol) -> Self {
        Self::try_open(address, protocol).await.expect("the server listens")
    }

    /// Opens a socket to a server that may be gone.
    pub async fn try_open(address: SocketAddr, protocol: Protocol) -> io::Result<Self> {
        let socket = within("a TCP connection", TcpStream::connect(address)).await?;
        socket.set_nodelay(true)?;
        Ok(Self::over(socket, protocol))
    }

    /// Speaks over any stream of bytes.
    pub fn over(stream: impl AsyncRead + AsyncWrite + Send + 'static, protocol: Protocol) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self {
            traffic: Traffic::default(),
            protocol,
            reader: Box::new(reader),
            writer: Box::new(writer),
            buffer: Vec::new(),
            early: VecDeque::new(),
        }
    }

    /// Sends CONNECT, and answers the CONNACK: session present, code, properties.
    pub async fn connect(&mut self, connect: &Connect) -> (bool, u8, Properties) {
        self.try_connect(connect).await.expect("CONNACK, not the end of the connection")
    }

    /// The same, with a server that may be gone.
    pub async fn try_connect(&mut self, connect: &Connect) -> Option<(bool, u8, Properties)> {
        self.write(&encode_connect(self.protocol, connect)).await;
        match self.read().await? {
            Packet::ConnAck { session_present, code, properties } => {
                Some((session_present, code, properties))
            }
            other => panic!("instead of CONNACK: {other:?}"),
        }
    }

    /// Writes bytes as they are. A server that has closed meanwhile is noticed when reading.
    pub async fn write(&mut self, bytes: &[u8]) {
        let write = async {
            self.writer.write_all(bytes).await?;
            self.writer.flush().await
        };
        let _ = within("room in the socket", write).await;
        self.count(bytes.len());
    }

    fn count(&mut self, bytes: usize) {
        self.traffic.packets += 1;
        self.traffic.bytes += bytes;
    }

    /// Sends PUBLISH.
    pub async fn publish(&mut self, topic: &str, payload: &[u8], qos: u8, id: u16) {
        self.write(&self.encode_publish(topic, payload, qos, id, false)).await;
    }

    /// The bytes of a PUBLISH.
    pub fn encode_publish(&self, topic: &str, payload: &[u8], qos: u8, id: u16, dup: bool) -> Vec<u8> {
        let mut body = text(topic);
        if qos > 0 {
            body.extend(id.to_be_bytes());
        }
        body.extend(self.no_properties());
        body.extend(payload);
        packet(PUBLISH | (u8::from(dup) << 3) | (qos << 1), &body)
    }

    /// Sends PUBLISH at QoS 1 with properties (5).
    pub async fn publish_with(&mut self, properties: &[u8], topic: &str, payload: &[u8], id: u16) {
        self.write(&self.encode_with(properties, topic, payload, id)).await;
    }

    /// The bytes of a PUBLISH at QoS 1 with properties (5).
    pub fn encode_with(&self, properties: &[u8], topic: &str, payload: &[u8], id: u16) -> Vec<u8> {
        let body = [&text(topic)[..], &id.to_be_bytes(), &property_block(properties), payload].concat();
        packet(PUBLISH | 2, &body)
    }

    /// Sends PUBLISH with RETAIN.
    pub async fn retain(&mut self, topic: &str, payload: &[u8], qos: u8, id: u16) {
        let mut bytes = self.encode_publish(topic, payload, qos, id, false);
        bytes[0] |= 1;
        self.write(&bytes).await;
    }

    /// Sends SUBSCRIBE with options and a Subscription Identifier (5), and answers the codes of the SUBACK, and what was
    /// published before it.
    pub async fn subscribe_with(
        &mut self,
        filters: &[(&str, u8)],
        identifier: Option<u8>,
    ) -> (Vec<u8>, Vec<Publication>) {
        let properties = identifier.map(|identifier| vec![0x0B, identifier]).unwrap_or_default();
        let mut body = [&[0, 1][..], &property_block(&properties)].concat();
        for (filter, options) in filters {
            body.extend(text(filter));
            body.push(*options);
        }
        self.write(&packet(SUBSCRIBE, &body)).await;
        let mut before = Vec::new();
        loop {
            match self.read().await {
                Some(Packet::SubAck { codes, .. }) => return (codes, before),
                Some(Packet::Publish(publication)) => before.push(publication),
                other => panic!("instead of SUBACK: {other:?}"),
            }
        }
    }

    /// Sends UNSUBSCRIBE, and waits for the UNSUBACK: its codes (5).
    pub async fn unsubscribe(&mut self, filter: &str) -> Vec<u8> {
        let body = [&[0, 2][..], self.no_properties(), &text(filter)].concat();
        self.write(&packet(UNSUBSCRIBE, &body)).await;
        loop {
            match self.read().await {
                Some(Packet::UnsubAck { codes, .. }) => return codes,
                Some(Packet::Publish(_)) => {}
                other => panic!("instead of UNSUBACK: {other:?}"),
            }
        }
    }

    /// Sends PUBREC, PUBREL or PUBCOMP.
    pub async fn answer(&mut self, answer: Answer, id: u16) {
        self.write(&packet(answer as u8, &id.to_be_bytes())).await;
    }

    /// Publishes at QoS 0, 1 or 2, and goes through the whole exchange. Publications that come meanwhile are read later.
    pub async fn publish_to_the_end(&mut self, topic: &str, payload: &[u8], qos: u8) {
        self.publish(topic, payload, qos, 77).await;
        if qos == 0 {
            return;
        }
        loop {
            match within("an acknowledgement", self.read_patiently()).await {
                Some(Packet::PubAck { id: 77, reason: 0, .. }) if qos == 1 => return,
                Some(Packet::PubRec { id: 77, reason: 0 }) => self.answer(Answer::Release, 77).await,
                Some(Packet::PubComp { id: 77, reason: 0 }) => return,
                Some(packet @ Packet::Publish(_)) => self.early.push_back(packet),
                other => panic!("instead of an acknowledgement: {other:?}"),
            }
        }
    }

    /// The next packet, which must be a publication, acknowledged to the end.
    pub async fn take_publication(&mut self) -> Publication {
        let publication = self.publication().await;
        match publication.qos {
            0 => {}
            1 => self.acknowledge(publication.id).await,
            _ => {
                self.answer(Answer::Receive, publication.id).await;
                let id = publication.id;
                // Other publications may come first.
                loop {
                    match within("PUBREL", self.read_patiently()).await {
                        Some(Packet::PubRel { id: released, reason: 0 }) if released == id => break,
                        Some(packet @ Packet::Publish(_)) => self.early.push_back(packet),
                        other => panic!("instead of PUBREL: {other:?}"),
                    }
                }
                self.answer(Answer::Complete, id).await;
            }
        }
        publication
    }

    /// Nothing more has come: PINGRESP is next.
    pub async fn expect_quiet(&mut self) {
        self.ping().await;
        assert_eq!(self.read().await, Some(Packet::PingResp));
    }

    /// Sends DISCONNECT with this reason code (5).
    pub async fn leave(&mut self, reason: u8) {
        self.write(&[DISCONNECT[0], 1, reason]).await;
    }

    /// Sends AUTH (5).
    pub async fn authenticate(&mut self, reason: u8, method: &str, data: &[u8]) {
        let properties = [&[0x15][..], &text(method), &[0x16], &binary(data)].concat();
        self.write(&packet(AUTH, &[&[reason][..], &property_block(&properties)].concat())).await;
    }

    /// Sends SUBSCRIBE, and answers the codes of the SUBACK. Publications that come before it are lost.
    pub async fn subscribe(&mut self, filters: &[(&str, u8)]) -> Vec<u8> {
        self.write(&self.encode_subscribe(1, filters)).await;
        loop {
            match self.read().await {
                Some(Packet::SubAck { codes, .. }) => return codes,
                Some(Packet::Publish(_)) => {}
                other => panic!("instead of SUBACK: {other:?}"),
            }
        }
    }

    /// The bytes of a SUBSCRIBE.
    pub fn encode_subscribe(&self, id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
        let mut body = id.to_be_bytes().to_vec();
        body.extend(self.no_properties());
        for (filter, qos) in filters {
            body.extend(text(filter));
            body.push(*qos);
        }
        packet(SUBSCRIBE, &body)
    }

    /// Sends PUBACK.
    pub async fn acknowledge(&mut self, id: u16) {
        self.write(&packet(PUBACK, &id.to_be_bytes())).await;
    }

    /// Sends PINGREQ.
    pub async fn ping(&mut self) {
        self.write(&PINGREQ).await;
    }

    /// Sends DISCONNECT, and reads until the server has closed.
    pub async fn disconnect(mut self) {
        self.write(&DISCONNECT).await;
        while self.read().await.is_some() {}
    }

    /// The next packet; `None` when the server has closed the connection.
    pub async fn read(&mut self) -> Option<Packet> {
        if let Some(packet) = self.early.pop_front() {
            return Some(packet);
        }
        within("a packet, or the end of the connection", self.read_patiently()).await
    }

    /// The same, for at most `patience`; `Err` when nothing came.
    pub async fn read_for(&mut self, patience: Duration) -> Result<Option<Packet>, ()> {
        tokio::time::timeout(patience, self.read_patiently()).await.map_err(drop)
    }

    async fn read_patiently(&mut self) -> Option<Packet> {
        loop {
            if let Some((first, body)) = self.take_packet() {
                return Some(decode(self.protocol, first, body));
            }
            let mut chunk = [0; 4096];
            // A reset is an end, too: the server need not read what it closes upon.
            match self.reader.read(&mut chunk).await {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.buffer.extend(&chunk[..count]),
            }
        }
    }

    /// The next publication.
    pub async fn publication(&mut self) -> Publication {
        match self.read().await {
            Some(Packet::Publish(publication)) => publication,
            other => panic!("instead of PUBLISH: {other:?}"),
        }
    }

    /// The next packet, which must be this PUBACK; its reason and properties.
    pub async fn puback(&mut self, expected: u16) -> (u8, Properties) {
        match self.read().await {
            Some(Packet::PubAck { id, reason, properties }) if id == expected => (reason, properties),
            other => panic!("instead of PUBACK {expected}: {other:?}"),
        }
    }

    /// The server closes, after DISCONNECT in 5: its reason code. Everything before it is dropped.
    pub async fn closed(&mut self) -> Option<u8> {
        let mut told = None;
        while let Some(packet) = self.read().await {
            if let Packet::Disconnect { reason, .. } = packet {
                told = Some(reason);
            }
        }
        told
    }

    fn no_properties(&self) -> &'static [u8] {
        if self.protocol == Protocol::V5 { &[0] } else { &[] }
    }

    fn take_packet(&mut self) -> Option<(u8, Vec<u8>)> {
        let (length, size) = properties::variable(self.buffer.get(1..)?)?;
        let begin = 1 + size;
        let end = begin + length as usize;
        let body = self.buffer.get(begin..end)?.to_vec();
        let first = self.buffer[0];
        self.buffer.drain(..end);
        self.count(end);
        Some((first, body))
    }
}

/// A CONNECT as bytes.
pub fn encode_connect(protocol: Protocol, connect: &Connect) -> Vec<u8> {
    let mut body = text("MQTT");
    body.push(if protocol == Protocol::V5 { 5 } else { 4 });
    let flag = |set: bool, bit: u8| u8::from(set) << bit;
    let will = connect.will.as_ref().map_or(0, |will| 4 | (will.qos << 3) | flag(will.retain, 5));
    body.push(
        flag(connect.clean, 1)
            | will
            | flag(connect.password.is_some(), 6)
            | flag(connect.username.is_some(), 7),
    );
    body.extend(connect.keep_alive.to_be_bytes());
    if protocol == Protocol::V5 {
        body.extend(connect_properties(connect));
    }
    body.extend(text(&connect.client_id));
    if let Some(will) = &connect.will {
        if protocol == Protocol::V5 {
            let property = |id: u8, value: Option<u32>| {
                value.map(|value| [&[id][..], &value.to_be_bytes()].concat()).unwrap_or_default()
            };
            body.extend(property_block(&[property(0x18, will.delay), property(0x02, will.expiry)].concat()));
        }
        body.extend(text(&will.topic));
        body.extend(binary(&will.payload));
    }
    if let Some(username) = &connect.username {
        body.extend(text(username));
    }
    if let Some(password) = &connect.password {
        body.extend(binary(password));
    }
    packet(CONNECT, &body)
}

fn connect_properties(connect: &Connect) -> Vec<u8> {
    let mut properties = Vec::new();
    if let Some(expiry) = connect.expiry {
        properties.push(0x11);
        properties.extend(expiry.to_be_bytes());
    }
    if let Some(maximum) = connect.receive_maximum {
        properties.push(0x21);
        properties.extend(maximum.to_be_bytes());
    }
    if let Some(maximum) = connect.maximum_packet_size {
        properties.push(0x27);
        properties.extend(maximum.to_be_bytes());
    }
    if connect.no_problem_information {
        properties.extend([0x17, 0]);
    }
    if connect.response_information {
        properties.extend([0x19, 1]);
    }
    if let Some(maximum) = connect.topic_alias_maximum {
        properties.push(0x22);
        properties.extend(maximum.to_be_bytes());
    }
    for (name, value) in connect.user {
        properties.push(0x26);
        properties.extend(text(name));
        properties.extend(text(value));
    }
    if let Some((method, data)) = &connect.authentication {
        properties.push(0x15);
        properties.extend(text(method));
        properties.push(0x16);
        properties.extend(binary(data));
    }
    property_block(&properties)
}

/// Properties with their length.
fn property_block(properties: &[u8]) -> Vec<u8> {
    // A packet without its first byte looks the same.
    packet(0, properties)[1..].to_vec()
}

/// A packet: its first byte, the remaining length, the rest.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let digit = (length % 128) as u8;
        length /= 128;
        bytes.push(if length > 0 { digit | 0x80 } else { digit });
        if length == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

/// A value as CBOR.
pub fn cbor(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("a value can be written");
    bytes
}

/// A UTF-8 string with its length.
pub fn text(text: &str) -> Vec<u8> {
    binary(text.as_bytes())
}

fn binary(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("MQTT counts in 16 bits");
    [&length.to_be_bytes(), bytes].concat()
}

fn decode(protocol: Protocol, first: u8, body: Vec<u8>) -> Packet {
    let v5 = protocol == Protocol::V5;
    let properties = |bytes: &[u8]| if v5 { Properties::read(bytes).0 } else { Properties::default() };
    let number = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    match first >> 4 {
        2 => Packet::ConnAck {
            session_present: body[0] & 1 == 1,
            code: body[1],
            properties: properties(&body[2..]),
        },
        3 => Packet::Publish(decode_publish(v5, first, &body)),
        4 => Packet::PubAck {
            id: number(0),
            reason: body.get(2).copied().unwrap_or_default(),
            properties: properties(body.get(3..).unwrap_or_default()),
        },
        5 => Packet::PubRec { id: number(0), reason: body.get(2).copied().unwrap_or_default() },
        6 => Packet::PubRel { id: number(0), reason: body.get(2).copied().unwrap_or_default() },
        7 => Packet::PubComp { id: number(0), reason: body.get(2).copied().unwrap_or_default() },
        11 => {
            let skip = if v5 { Properties::read(&body[2..]).1 } else { 0 };
            Packet::UnsubAck { id: number(0), codes: body[2 + skip..].to_vec() }
        }
        9 => {
            let skip = if v5 { Properties::read(&body[2..]).1 } else { 0 };
            Packet::SubAck { id: number(0), codes: body[2 + skip..].to_vec() }
        }
        13 => Packet::PingResp,
        14 => Packet::Disconnect {
            reason: body.first().copied().unwrap_or_default(),
            properties: properties(body.get(1..).unwrap_or_default()),
        },
        15 => Packet::Auth {
            reason: body.first().copied().unwrap_or_default(),
            properties: properties(body.get(1..).unwrap_or_default()),
        },
        _ => Packet::Other(first, body),
    }
}

fn decode_publish(v5: bool, first: u8, body: &[u8]) -> Publication {
    let qos = (first >> 1) & 3;
    let number = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let mut at = 2 + usize::from(number(0));
    let topic = String::from_utf8(body[2..at].to_vec()).expect("a topic is UTF-8");
    let mut id = 0;
    if qos > 0 {
        id = number(at);
        at += 2;
    }
    let mut properties = Properties::default();
    if v5 {
        let (read, size) = Properties::read(&body[at..]);
        properties = read;
        at += size;
    }
    let (dup, retain) = (first & 8 != 0, first & 1 == 1);
    let alias = properties.topic_alias;
    Publication { topic, payload: body[at..].to_vec(), qos, dup, retain, id, alias, properties }
}
