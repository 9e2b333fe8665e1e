//! What a published command asks of the services.

mod plain;

pub use plain::plain_message;

use crate::{
    connection::Edge,
    packet::PublishProperties,
    plain::Lane,
    reason,
    session::{Command, Outcome},
    topic::{self, Space, TopicError},
};
use bytes::Bytes;
use curlew_domain::{
    Error, ErrorCode, Refusal,
    event::DeletionScope,
    ids::{ChatId, DeviceId, RowId, Seq, SessionId, UserId},
    message::{LocalId, Target},
    plain::PlainMessage,
    ports::store::Commit,
    services::{Services, messaging::SendRequest},
};
use futures_util::{FutureExt, future::BoxFuture};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use std::sync::{Arc, atomic::AtomicUsize};

/// `chats/{chat}/receipts`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReceiptsRequest {
    #[serde(default)]
    delivered: Option<Seq>,
    #[serde(default)]
    read: Option<Seq>,
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
    /// Whether it outlives its connection.
    pub lasting: bool,
    /// How it names topics.
    pub space: Space,
    /// The user's plain lane.
    pub lane: Arc<Lane>,
    /// Publications in it that are being stored: what comes after them goes the same way, so that it does not overtake.
    pub storing: Arc<AtomicUsize>,
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
    let services = &edge.services;
    let reply = plain::reply_to(publisher, command);
    let show = reply.is_some();
    let started = match parsed {
        topic::Command::Send(chat) => send(services, publisher.user, chat, &command.payload, show).await,
        topic::Command::Receipts(chat) => raise(services, publisher, chat, &command.payload),
        topic::Command::Edit(chat) => edit(services, publisher.user, chat, &command.payload, show).await,
        topic::Command::React(chat) => react(services, publisher.user, chat, &command.payload, show).await,
        topic::Command::Delete(chat) => delete(services, publisher.user, chat, &command.payload).await,
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
            Err(error) => (failed(error, local_id(&payload)), None),
        };
        let reply = reply.and_then(|reply| reply.with(&outcome, result));
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

async fn send(services: &Services, user: UserId, chat: ChatId, payload: &[u8], show: bool) -> Started {
    let request: SendRequest = parse(payload)?;
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

async fn edit(services: &Services, user: UserId, chat: ChatId, payload: &[u8], show: bool) -> Started {
    let EditRequest { message_id, text } = parse(payload)?;
    let commit = services.messaging.edit(user, chat, message_id, text).await?;
    Ok(changed(services, user, commit, show))
}

async fn react(services: &Services, user: UserId, chat: ChatId, payload: &[u8], show: bool) -> Started {
    let ReactRequest { message_id, emoji } = parse(payload)?;
    let commit = services.messaging.react(user, chat, message_id, emoji.as_deref()).await?;
    Ok(changed(services, user, commit, show))
}

async fn delete(services: &Services, user: UserId, chat: ChatId, payload: &[u8]) -> Started {
    let DeleteRequest { message_id, scope } = parse(payload)?;
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

fn raise(services: &Services, publisher: &Publisher, chat: ChatId, payload: &[u8]) -> Started {
    let ReceiptsRequest { delivered, read } = parse(payload)?;
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

/// Most bytes of a client's own text that an error repeats.
const ECHO_LIMIT: usize = 200;

fn parse<T: DeserializeOwned>(payload: &[u8]) -> Result<T, Error> {
    let invalid = |mut detail: String| {
        detail.truncate(detail.floor_char_boundary(ECHO_LIMIT));
        Error::refused(ErrorCode::InvalidRequest, detail)
    };
    if payload.trim_ascii_start().first() != Some(&b'{') {
        return Err(invalid("the payload is not a JSON object".into()));
    }
    let mut json = serde_json::Deserializer::from_slice(payload);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let (path, message) = (error.path().to_string(), error.inner().to_string());
        // The place in the text helps nobody who is told the field.
        let message = message.rsplit_once(" at line ").map_or(&*message, |(message, _)| message);
        invalid(if path == "." { message.to_owned() } else { format!("{path}: {message}") })
    })?;
    json.end().map_err(|_| invalid("something follows the JSON object".into()))?;
    Ok(parsed)
}

/// The `localId` of a command that may be broken otherwise, to name it in its refusal.
fn local_id(payload: &[u8]) -> Option<LocalId> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Named {
        local_id: String,
    }
    let named: Named = serde_json::from_slice(payload).ok()?;
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
