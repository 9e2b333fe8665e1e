//! An MQTT 5 client with nothing to it: thousands of them must leave the machine to the server.

use anyhow::{Context, ensure};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const CONNECT: u8 = 0x10;
const PUBLISH: u8 = 0x32;
const PUBACK: u8 = 0x40;
const SUBSCRIBE: u8 = 0x82;

const SESSION_EXPIRY: u8 = 0x11;
const RECEIVE_MAXIMUM: u8 = 0x21;
const USER_PROPERTY: u8 = 0x26;

/// Longest Remaining Length that is believed.
const LONGEST: usize = 1 << 20;

/// What a CONNECT says.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    pub username: String,
    pub password: String,
    pub client_id: String,
    /// Session Expiry Interval in seconds, with Clean Start 0; 0: a session that ends with its connection, with Clean Start 1.
    pub expiry_secs: u32,
}

/// A packet from the server, as far as it matters.
pub(super) enum Packet<'a> {
    ConnAck { present: bool, reason: u8, receive_maximum: u16 },
    Publish { id: Option<u16>, topic: &'a str, payload: &'a [u8] },
    PubAck { id: u16, reason: u8, seq: Option<u64> },
    SubAck { granted: bool },
    Disconnect { reason: u8 },
    Other,
}

/// A connection. Publications are acknowledged as they are handled.
pub(super) struct Client {
    socket: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Most unacknowledged publications that the server takes.
    pub receive_maximum: u16,
}

impl Client {
    /// Connects; answers whether the session was present, too.
    pub async fn connect(server: SocketAddr, credentials: &Credentials) -> anyhow::Result<(Self, bool)> {
        let mut socket = TcpStream::connect(server).await.context("TCP")?;
        socket.set_nodelay(true)?;
        socket.write_all(&encode_connect(credentials)).await?;
        let mut client = Self { socket, input: Vec::new(), output: Vec::new(), receive_maximum: u16::MAX };
        loop {
            client.fill().await?;
            let Some((packet, length)) = parse(&client.input)? else { continue };
            let Packet::ConnAck { present, reason, receive_maximum } = packet else {
                anyhow::bail!("the first packet is no CONNACK")
            };
            ensure!(reason == 0, "CONNACK {reason:#04x}");
            client.input.drain(..length);
            client.receive_maximum = receive_maximum;
            return Ok((client, present));
        }
    }

    /// Subscribes at QoS 1. Publications that come meanwhile are acknowledged and forgotten.
    pub async fn subscribe(&mut self, filters: &[&str]) -> anyhow::Result<()> {
        let mut body = vec![0, 1, 0];
        for filter in filters {
            text(&mut body, filter);
            body.push(1);
        }
        packet(&mut self.output, SUBSCRIBE, &body);
        self.flush().await?;
        let mut outcome = None;
        while outcome.is_none() {
            self.fill().await?;
            self.handle(|packet| {
                if let Packet::SubAck { granted } = packet {
                    outcome = Some(granted);
                }
            })
            .await?;
        }
        ensure!(outcome == Some(true), "a filter was refused");
        Ok(())
    }

    /// Waits for something to come, unless something is there. It may be dropped on its way.
    pub async fn fill(&mut self) -> anyhow::Result<()> {
        if parse(&self.input)?.is_some() {
            return Ok(());
        }
        let count = self.socket.read_buf(&mut self.input).await?;
        ensure!(count > 0, "the server has closed the connection");
        Ok(())
    }

    /// Gives everything that has come to `on`, and acknowledges it.
    pub async fn handle(&mut self, mut on: impl FnMut(Packet<'_>)) -> anyhow::Result<()> {
        let mut taken = 0;
        while let Some((packet, length)) = parse(&self.input[taken..])? {
            match packet {
                Packet::Publish { id: Some(id), .. } => {
                    self.output.extend([PUBACK, 2]);
                    self.output.extend(id.to_be_bytes());
                }
                Packet::Disconnect { reason } => anyhow::bail!("DISCONNECT {reason:#04x}"),
                _ => {}
            }
            on(packet);
            taken += length;
        }
        self.input.drain(..taken);
        self.flush().await
    }

    /// Publishes at QoS 1.
    pub async fn publish(&mut self, topic: &str, id: u16, payload: &[u8]) -> anyhow::Result<()> {
        let mut body = Vec::with_capacity(topic.len() + payload.len() + 5);
        text(&mut body, topic);
        body.extend(id.to_be_bytes());
        body.push(0);
        body.extend(payload);
        packet(&mut self.output, PUBLISH, &body);
        self.flush().await
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        if !self.output.is_empty() {
            self.socket.write_all(&self.output).await?;
            self.output.clear();
        }
        Ok(())
    }
}

fn encode_connect(credentials: &Credentials) -> Vec<u8> {
    let Credentials { username, password, client_id, expiry_secs } = credentials;
    let mut body = Vec::new();
    text(&mut body, "MQTT");
    let clean_start = u8::from(*expiry_secs == 0) << 1;
    // User name and password; no keep-alive.
    body.extend([5, 0xC0 | clean_start, 0, 0, 5, SESSION_EXPIRY]);
    body.extend(expiry_secs.to_be_bytes());
    for part in [client_id, username, password] {
        text(&mut body, part);
    }
    let mut bytes = Vec::new();
    packet(&mut bytes, CONNECT, &body);
    bytes
}

fn packet(out: &mut Vec<u8>, first: u8, body: &[u8]) {
    out.push(first);
    let mut length = body.len();
    loop {
        let digit = (length % 128) as u8;
        length /= 128;
        out.push(if length > 0 { digit | 0x80 } else { digit });
        if length == 0 {
            break;
        }
    }
    out.extend(body);
}

fn text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).expect("nothing that is sent here is that long");
    out.extend(length.to_be_bytes());
    out.extend(text.as_bytes());
}

/// The first packet and its length; `None`: it is not whole yet.
fn parse(input: &[u8]) -> anyhow::Result<Option<(Packet<'_>, usize)>> {
    let Some((&first, rest)) = input.split_first() else { return Ok(None) };
    let Some((remaining, size)) = variable(rest) else { return Ok(None) };
    ensure!(remaining <= LONGEST, "a packet of {remaining} bytes");
    let length = 1 + size + remaining;
    let Some(body) = input.get(1 + size..length) else { return Ok(None) };
    let packet = decode(first, body).context("a packet that cannot be read")?;
    Ok(Some((packet, length)))
}

fn decode(first: u8, body: &[u8]) -> Option<Packet<'_>> {
    let number = |at: usize| Some(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?]));
    Some(match first >> 4 {
        2 => {
            let mut receive_maximum = u16::MAX;
            for (id, value) in Properties::of(body.get(2..)?)?.0 {
                if let (RECEIVE_MAXIMUM, [high, low]) = (id, value) {
                    receive_maximum = u16::from_be_bytes([*high, *low]);
                }
            }
            Packet::ConnAck { present: body[0] & 1 == 1, reason: body[1], receive_maximum }
        }
        3 => {
            let end = 2 + usize::from(number(0)?);
            let topic = std::str::from_utf8(body.get(2..end)?).ok()?;
            let id = if first & 6 == 0 { None } else { Some(number(end)?) };
            let properties = body.get(end + if id.is_some() { 2 } else { 0 }..)?;
            let (_, payload) = Properties::of(properties)?;
            Packet::Publish { id, topic, payload }
        }
        4 => {
            let seq = match body.get(3..) {
                Some(properties) => Properties::of(properties)?.0.find_map(as_seq),
                None => None,
            };
            Packet::PubAck { id: number(0)?, reason: body.get(2).copied().unwrap_or(0), seq }
        }
        9 => {
            let (_, codes) = Properties::of(body.get(2..)?)?;
            Packet::SubAck { granted: codes.iter().all(|code| *code == 1) }
        }
        14 => Packet::Disconnect { reason: body.first().copied().unwrap_or(0) },
        _ => Packet::Other,
    })
}

/// The value of the user property `seq`.
fn as_seq((id, value): (u8, &[u8])) -> Option<u64> {
    let value = (id == USER_PROPERTY).then(|| value.strip_prefix(b"\0\x03seq"))??;
    std::str::from_utf8(value.get(2..)?).ok()?.parse().ok()
}

/// Properties as identifiers and values, which are still encoded but for the length of a text.
struct Properties<'a>(&'a [u8]);

impl<'a> Properties<'a> {
    /// Those at the beginning of `bytes`, and what follows.
    fn of(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (length, size) = variable(bytes)?;
        let (properties, rest) = bytes.get(size..)?.split_at_checked(length)?;
        Some((Self(properties), rest))
    }
}

impl<'a> Iterator for Properties<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&id, rest) = self.0.split_first()?;
        let text =
            |at: usize| Some(2 + usize::from(u16::from_be_bytes([*rest.get(at)?, *rest.get(at + 1)?])));
        let length = match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2A => 1,
            0x13 | 0x21..=0x23 => 2,
            0x02 | SESSION_EXPIRY | 0x18 | 0x27 => 4,
            0x0B => variable(rest)?.1,
            USER_PROPERTY => {
                let name = text(0)?;
                name + text(name)?
            }
            _ => text(0)?,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((id, value))
    }
}

/// A Variable Byte Integer and how many bytes it takes.
fn variable(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (n, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * n);
        if byte & 0x80 == 0 {
            return Some((value, n + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_taken_one_by_one_and_only_when_they_are_whole() {
        let mut bytes = vec![0x20, 6, 1, 0, 3, RECEIVE_MAXIMUM, 0, 64];
        // A user property of another name, then `seq`.
        let properties = b"\x26\0\x01a\0\x01b\x26\0\x03seq\0\x0242";
        let mut body = vec![0, 7, 0, properties.len() as u8];
        body.extend(properties);
        packet(&mut bytes, PUBACK, &body);
        let mut body = Vec::new();
        text(&mut body, "chats/1/messages");
        body.extend([0, 9, 0]);
        body.extend(b"{}");
        packet(&mut bytes, PUBLISH, &body);

        let (first, length) = parse(&bytes).unwrap().unwrap();
        assert!(matches!(first, Packet::ConnAck { present: true, reason: 0, receive_maximum: 64 }));
        assert!((0..length).all(|n| parse(&bytes[..n]).unwrap().is_none()));
        bytes.drain(..length);
        let (second, length) = parse(&bytes).unwrap().unwrap();
        assert!(matches!(second, Packet::PubAck { id: 7, reason: 0, seq: Some(42) }));
        bytes.drain(..length);
        let (third, length) = parse(&bytes).unwrap().unwrap();
        assert!(matches!(third, Packet::Publish { id: Some(9), topic: "chats/1/messages", payload: b"{}" }));
        assert_eq!(length, bytes.len());
    }
}
