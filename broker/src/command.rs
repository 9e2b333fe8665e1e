//! What a published command asks of the services.

mod plain;

pub use plain::plain_message;

use crate::{
    connection::Edge,
    format::Format,
    packet::PublishProperties,
    plain::Lane,
    presence::Mode,
    reason,
    session::{Command, Outcome},
    topic::{self, Space, TopicError},
    typing::tell,
};
use bytes::Bytes;
use curlew_domain::{
    Error, ErrorCode, Refusal,
    event::DeletionScope,
    ids::{ChatId, DeviceId, RowId, Seq, SessionId, UserId},
    message::{LocalId, Target},
    plain::PlainMessage,
    ports::store::Commit,
    receipt::DeliveredOn,
    services::{Services, messaging::SendRequest},
};
use futures_util::{FutureExt, future::BoxFuture};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    future::ready,
    sync::{Arc, atomic::AtomicUsize},
    time::Instant,
};

/// `chats/{chat}/receipts`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReceiptsRequest {
    #[serde(default)]
    delivered: Option<Seq>,
    #[serde(default)]
    read: Option<Seq>,
}

/// `chats/{chat}/typing`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TypingRequest {
    typing: bool,
}

/// `users/{me}/presence`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PresenceRequest {
    state: Mode,
}

/// `chats/{chat}/edit`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EditRequest {
    message_id: RowId,
    text: String,
}

/// `chats/{chat}/react`. `emoji` must be there, if only to be `null`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ReactRequest {
    message_id: RowId,
    #[serde(deserialize_with = "Option::deserialize")]
    emoji: Option<String>,
}

/// `chats/{chat}/delete`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeleteRequest {
    message_id: RowId,
    #[serde(rename = "for", default)]
    scope: DeletionScope,
}

/// Who publishes.
#[derive(Clone, Debug)]
pub struct Publisher {
    /// Who.
    pub user: UserId,
    /// The session.
    pub session: SessionId,
    /// The connection, as the registry numbers it.
    pub connection: u64,
    /// Whether it outlives its connection.
    pub lasting: bool,
    /// How it names topics.
    pub space: Space,
    /// How it writes commands, and reads their results.
    pub format: Format,
    /// The user's plain lane.
    pub lane: Arc<Lane>,
    /// Publications in it that are being stored: what comes after them goes the same way, so that it does not overtake.
    pub storing: Arc<AtomicUsize>,
}

/// The body of a command.
#[derive(Clone, Copy)]
struct Body<'a> {
    format: Format,
    payload: &'a [u8],
}

impl Body<'_> {
    fn decode<T: DeserializeOwned>(self) -> Result<T, Error> {
        self.format.decode(self.payload)
    }
}

/// How a command ended.
#[derive(Debug)]
pub struct Ended {
    /// For the client.
    pub outcome: Outcome,
    /// The whole result, for those who asked where to send it: into the user's own plain lane.
    pub reply: Option<PlainMessage>,
}

impl From<Outcome> for Ended {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, reply: None }
    }
}

/// Hands a command to its service. Waits only for what comes before a place in the store's queue, so that commands started one
/// after the other stay in that order; what is answered resolves when the command is committed or refused.
pub async fn start(edge: &Edge, publisher: &Publisher, command: &Command) -> BoxFuture<'static, Ended> {
    if let Err(error) = check_text(&command.properties, &command.payload) {
        return std::future::ready(failed(error, None).into()).boxed();
    }
    let (parsed, topic) = match publisher.space.command(&command.topic) {
        Ok(parsed) => parsed,
        Err(error) => return std::future::ready(refused_topic(error).into()).boxed(),
    };
    let (services, format) = (&edge.services, publisher.format);
    let body = Body { format, payload: &command.payload };
    let reply = plain::reply_to(publisher, command);
    let show = reply.is_some();
    let started = match parsed {
        topic::Command::Send(chat) => send(services, publisher.user, chat, body, show).await,
        topic::Command::Receipts(chat) => raise(services, publisher, chat, body),
        topic::Command::Edit(chat) => edit(services, publisher.user, chat, body, show).await,
        topic::Command::React(chat) => react(services, publisher.user, chat, body, show).await,
        topic::Command::Delete(chat) => delete(services, publisher.user, chat, body).await,
        topic::Command::Typing(chat) => typing(edge, publisher.user, chat, body).await,
        topic::Command::Presence => presence(edge, publisher, body).await,
        topic::Command::RemoveDevice(device) => {
            remove_device(services, publisher.user, device, &command.payload)
        }
        topic::Command::Own => plain::publish(edge, publisher, command, topic.into_owned()).await,
        topic::Command::Signal(chat) => {
            plain::signal(edge, publisher, command, chat, topic.into_owned()).await
        }
    };
    let payload = match parsed {
        topic::Command::RemoveDevice(_) | topic::Command::Own | topic::Command::Signal(_) => Bytes::new(),
        _ => command.payload.clone(),
    };
    let ended = async move {
        let ended = match started {
            Ok(waiting) => waiting.await,
            Err(error) => Err(error),
        };
        let (outcome, result) = match ended {
            Ok(done) => done,
            Err(error) => (failed(error, local_id(Body { format, payload: &payload })), None),
        };
        let reply = reply.and_then(|reply| reply.with(format, &outcome, result));
        Ended { outcome, reply }
    };
    ended.boxed()
}

/// Whether a payload is the text that it is declared to be (section 3.3.2.3.2).
pub fn check_text(properties: &PublishProperties, payload: &[u8]) -> Result<(), Error> {
    if properties.payload_is_utf8 && std::str::from_utf8(payload).is_err() {
        let detail = "the payload is not the UTF-8 it is declared to be";
        return Err(Error::refused(ErrorCode::InvalidRequest, detail));
    }
    Ok(())
}

/// What a command came to, and its result in full for those who asked where to send it.
type Done = (Outcome, Option<Value>);
type Started = Result<BoxFuture<'static, Result<Done, Error>>, Error>;

fn done(properties: Vec<(String, String)>) -> Outcome {
    Outcome::Done { properties, recorded: false }
}

async fn send(services: &Services, user: UserId, chat: ChatId, body: Body<'_>, show: bool) -> Started {
    let request: SendRequest = body.decode()?;
    let commit = services.messaging.send(user, chat, request).await?;
    let messaging = Arc::clone(&services.messaging);
    let sent = async move {
        let appended = commit.await?;
        let row = appended.row();
        let properties = vec![("messageId".into(), row.id.to_string()), ("seq".into(), row.seq.to_string())];
        let message = if show { messaging.show_sent(user, &appended).await.ok() } else { None };
        Ok((done(properties), message.and_then(|message| serde_json::to_value(message).ok())))
    };
    Ok(sent.boxed())
}

async fn edit(services: &Services, user: UserId, chat: ChatId, body: Body<'_>, show: bool) -> Started {
    let EditRequest { message_id, text } = body.decode()?;
    let commit = services.messaging.edit(user, chat, message_id, text).await?;
    Ok(changed(services, user, commit, show))
}

async fn react(services: &Services, user: UserId, chat: ChatId, body: Body<'_>, show: bool) -> Started {
    let ReactRequest { message_id, emoji } = body.decode()?;
    let commit = services.messaging.react(user, chat, message_id, emoji.as_deref()).await?;
    Ok(changed(services, user, commit, show))
}

async fn delete(services: &Services, user: UserId, chat: ChatId, body: Body<'_>) -> Started {
    let DeleteRequest { message_id, scope } = body.decode()?;
    let commit = services.messaging.delete(user, chat, message_id, scope).await?;
    Ok(changed(services, user, commit, false))
}

/// Waits for a change of a message; names the message in the acknowledgement. `show`: somebody waits for
/// the result in full, which is the message.
fn changed(
    services: &Services,
    user: UserId,
    commit: Commit<Target>,
    show: bool,
) -> BoxFuture<'static, Result<Done, Error>> {
    let messaging = Arc::clone(&services.messaging);
    let waiting = async move {
        let Target { id, seq } = commit.await?;
        let properties = vec![("messageId".into(), id.to_string()), ("seq".into(), seq.to_string())];
        let message = if show { messaging.find(user, id).await.ok() } else { None };
        Ok((done(properties), message.and_then(|message| serde_json::to_value(message).ok())))
    };
    waiting.boxed()
}

/// Only told to those who may be told: the rules for sending hold.
async fn typing(edge: &Edge, user: UserId, chat: ChatId, body: Body<'_>) -> Started {
    let TypingRequest { typing } = body.decode()?;
    edge.services.plain.may_signal(user, chat).await?;
    if let Some(typing) = edge.typing.set(chat, user, typing, Instant::now()) {
        tell(edge, chat, user, typing);
    }
    Ok(ready(Ok((done(Vec::new()), None))).boxed())
}

async fn presence(edge: &Edge, publisher: &Publisher, body: Body<'_>) -> Started {
    let PresenceRequest { state } = body.decode()?;
    let user = publisher.user;
    edge.registry.presence.set(user, publisher.connection, state);
    if state == Mode::Active && edge.delivered_on == DeliveredOn::Open {
        edge.opened(user, &edge.services.messaging.list_stays(user).await?);
    }
    Ok(ready(Ok((done(Vec::new()), None))).boxed())
}

fn raise(services: &Services, publisher: &Publisher, chat: ChatId, body: Body<'_>) -> Started {
    let ReceiptsRequest { delivered, read } = body.decode()?;
    if delivered.is_none() && read.is_none() {
        return Err(Error::invalid("delivered", "required", "needs `delivered`, `read` or both"));
    }
    let receipts = services.receipts.clone();
    let (user, session) = (publisher.user, publisher.session);
    let raised = async move {
        receipts.raise(user, chat, delivered, read, Some(session)).await?;
        Ok((done(Vec::new()), None))
    };
    Ok(raised.boxed())
}

/// The topic says all. A device that removes itself is not acknowledged but sent away: when it is done nothing more is written
/// to its connections, this one among them.
fn remove_device(services: &Services, user: UserId, device: DeviceId, payload: &[u8]) -> Started {
    if !payload.is_empty() {
        return Err(Error::refused(ErrorCode::InvalidRequest, "the payload must be empty"));
    }
    let devices = services.devices.clone();
    let removed = async move {
        devices.remove(user, device).await?;
        Ok((done(Vec::new()), None))
    };
    Ok(removed.boxed())
}

/// The `localId` of a command that may be broken otherwise, to name it in its refusal.
fn local_id(body: Body<'_>) -> Option<LocalId> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Named {
        local_id: String,
    }
    let named: Named = body.decode().ok()?;
    LocalId::parse(&named.local_id).ok()
}

fn refused_topic(error: TopicError) -> Outcome {
    let (reason, code) = match error {
        TopicError::Malformed(_) | TopicError::Outside => {
            (crate::packet::Reason::TopicNameInvalid, ErrorCode::InvalidTopic)
        }
        TopicError::Foreign => (crate::packet::Reason::NotAuthorized, ErrorCode::NotFound),
    };
    Outcome::Refused { reason, code, detail: error.to_string(), local_id: None }
}

fn failed(error: Error, local_id: Option<LocalId>) -> Outcome {
    match error {
        Error::Refused(Refusal { code, detail, .. }) => {
            Outcome::Refused { reason: reason::of_refusal(code), code, detail: detail.into_owned(), local_id }
        }
        Error::Unavailable(cause) => {
            tracing::warn!(%cause, "a command could not be stored");
            Outcome::TryLater
        }
        Error::Internal(cause) => {
            tracing::error!(%cause, "a command failed");
            let code = ErrorCode::Internal;
            Outcome::Refused {
                reason: reason::of_refusal(code),
                code,
                detail: "a defect of the server".into(),
                local_id,
            }
        }
    }
}
