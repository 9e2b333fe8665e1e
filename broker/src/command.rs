//! What a published command asks of the services.

use crate::{
    reason,
    session::{Command, Outcome},
    topic::{self, TopicError},
};
use curlew_domain::{
    Error, ErrorCode, Refusal,
    account::Principal,
    ids::{ChatId, Seq, SessionId},
    message::LocalId,
    services::{Services, messaging::SendRequest},
};
use futures_util::{FutureExt, future::BoxFuture};
use serde::{Deserialize, de::DeserializeOwned};

/// `chats/{chat}/receipts`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReceiptsRequest {
    #[serde(default)]
    delivered: Option<Seq>,
    #[serde(default)]
    read: Option<Seq>,
}

/// Who publishes.
#[derive(Clone, Copy, Debug)]
pub struct Publisher {
    /// Established at CONNECT.
    pub principal: Principal,
    /// The session.
    pub session: SessionId,
}

/// Hands a command to its service. Waits only for room in the store's queue, so that commands started one after the other
/// stay in that order; what is answered resolves when the command is committed or refused.
pub async fn start(
    services: &Services,
    publisher: Publisher,
    command: &Command,
) -> BoxFuture<'static, Outcome> {
    // Section 3.3.2.3.2.
    if command.payload_is_utf8 && std::str::from_utf8(&command.payload).is_err() {
        let error =
            Error::refused(ErrorCode::InvalidRequest, "the payload is not the UTF-8 it is declared to be");
        return std::future::ready(failed(error, None)).boxed();
    }
    let parsed = match topic::parse_command(&command.topic, publisher.principal.user) {
        Ok(parsed) => parsed,
        Err(error) => return std::future::ready(refused_topic(error)).boxed(),
    };
    let started = match parsed {
        topic::Command::Send(chat) => send(services, publisher, chat, &command.payload).await,
        topic::Command::Receipts(chat) => raise(services, publisher, chat, &command.payload),
    };
    let payload = command.payload.clone();
    let failed = move |error| failed(error, local_id(&payload));
    match started {
        Ok(waiting) => waiting.map(|outcome| outcome.unwrap_or_else(failed)).boxed(),
        Err(error) => std::future::ready(failed(error)).boxed(),
    }
}

type Started = Result<BoxFuture<'static, Result<Outcome, Error>>, Error>;

async fn send(services: &Services, publisher: Publisher, chat: ChatId, payload: &[u8]) -> Started {
    let request: SendRequest = parse(payload)?;
    let commit = services.messaging.send(publisher.principal.user, chat, request).await?;
    let done = async move {
        let appended = commit.await?;
        let row = appended.row();
        let properties = vec![("messageId".into(), row.id.to_string()), ("seq".into(), row.seq.to_string())];
        Ok(Outcome::Done { properties })
    };
    Ok(done.boxed())
}

fn raise(services: &Services, publisher: Publisher, chat: ChatId, payload: &[u8]) -> Started {
    let ReceiptsRequest { delivered, read } = parse(payload)?;
    if delivered.is_none() && read.is_none() {
        return Err(Error::invalid("delivered", "required", "needs `delivered`, `read` or both"));
    }
    let receipts = services.receipts.clone();
    let done = async move {
        receipts.raise(publisher.principal.user, chat, delivered, read, Some(publisher.session)).await?;
        Ok(Outcome::Done { properties: Vec::new() })
    };
    Ok(done.boxed())
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
