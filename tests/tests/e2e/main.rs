//! End to end: the real program on both engines, real sockets, people on both sides. One binary, so that its tests share
//! one PostgreSQL server. The promises are those of ARCHITECTURE.md:
//!
//! | promise | file |
//! |---|---|
//! | 1 an acknowledgement means durable | [`durability`] |
//! | 2 one effect per send | [`idempotency`] |
//! | 3 order, 4 nothing missed | [`delivery`], [`durability`] |
//! | 5 what you are entitled to | [`entitlement`] |
//! | 7 bad input | [`bad_requests`], [`bad_packets`], [`refused_commands`] |
//! | 9 a failure that may pass is never acknowledged | [`durability`] |
//!
//! Real answers are held against the OpenAPI document ([`openapi`]).
//!
//! The rest is what people do ([`accounts`], [`contacts`], [`chats`], [`messages`], [`receipts`]), how connections and
//! processes begin and end ([`sessions`], [`lifecycle`]), the letter of MQTT ([`standard`]), a shorter form of the same
//! ([`cbor`]), ordinary MQTT beside the chats ([`plain`]), a client that others wrote ([`mqttjs`]) and what operators use ([`program`]).

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests, too")]

mod accounts;
mod authorization;
mod bad_packets;
mod bad_requests;
mod cbor;
mod changes;
mod chats;
mod contacts;
mod cost;
mod delivery;
mod durability;
mod entitlement;
mod exchange;
mod groups;
mod http_hardening;
mod idempotency;
mod lifecycle;
mod messages;
mod mqttjs;
mod notifications;
mod openapi;
mod plain;
mod presence;
mod program;
mod receipts;
mod refused_commands;
mod scale;
mod sessions;
mod standard;
mod tls;
mod typing;
mod websocket;

use curlew_tests::{Chat, Value};
use std::time::Duration;

/// How long a thing that must not happen is watched for, where no sentinel can prove its absence: several times as long
/// as it takes when it does happen.
const QUIET: Duration = Duration::from_millis(300);

/// The body of a send.
fn text(text: &str, local_id: &str) -> Vec<u8> {
    serde_json::json!({ "type": "TEXT", "text": text, "localId": local_id }).to_string().into_bytes()
}

/// Where a chat's messages are sent to.
fn send_topic(chat: &Chat) -> String {
    format!("chats/{chat}/send")
}

/// A list's items, reduced to one text each.
#[track_caller]
fn pluck(list: &Value, pointer: &str) -> Vec<String> {
    let items = list.as_array().unwrap_or_else(|| panic!("not a list: {list}"));
    let text = |item: &Value| item.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    items.iter().map(|item| text(item).unwrap_or_else(|| panic!("{pointer} is missing in {item}"))).collect()
}
