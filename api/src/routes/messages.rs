//! `/api/chats/…/messages` and `…/events`: sending, reading, receipts; what is done to one message is in `changes`.

mod changes;

use crate::{
    extract::{Authenticated, Json, JsonOrEmpty, Path, Query},
    limits::Meter,
    openapi::Routes,
    problem::Problem,
};
use axum::{extract::State, http::StatusCode};
use curlew_domain::{
    Error, ErrorCode,
    event::Event,
    ids::{ChatId, RowId, Seq, Stream, UserId},
    message::MessageView,
    page::{Page, parse_limit},
    ports::store::{Appended, MessagesFrom},
    services::{Services, messaging::SendRequest},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

/// No position lies beyond: the databases count in 63 bits.
const MAX_SEQ: Seq = i64::MAX as Seq;

pub fn routes() -> Routes {
    Routes::of("messages")
        .add(routes!(create_message, list_messages))
        .add(routes!(mark_delivered))
        .add(routes!(mark_read))
        .add(routes!(list_events))
        .add(routes!(update_message_status))
        .merge(changes::routes())
}

/// `?limit=`, and one of `beforeSeq`, `afterSeq` and a `cursor` that stands for either.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct MessagesQuery {
    /// Most items of the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// Messages before this position, newest first.
    before_seq: Option<Seq>,
    /// Messages after this position, oldest first.
    after_seq: Option<Seq>,
    /// The `nextCursor` of the page before. Opaque.
    cursor: Option<String>,
}

/// `?limit=`, and `afterSeq` or a `cursor` that stands for it.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct EventsQuery {
    /// Most items of the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// Events after this position.
    #[param(default = 0)]
    after_seq: Option<Seq>,
    /// The `nextCursor` of the page before. Opaque.
    cursor: Option<String>,
}

impl MessagesQuery {
    fn parse(&self) -> Result<(MessagesFrom, u32), Problem> {
        let from = match (self.before_seq, self.after_seq, self.cursor.as_deref()) {
            (None, None, None) => MessagesFrom::Newest,
            (Some(seq), None, None) => MessagesFrom::Before(seq.min(MAX_SEQ)),
            (None, Some(seq), None) => MessagesFrom::After(seq.min(MAX_SEQ)),
            (None, None, Some(cursor)) => read_cursor(cursor)?,
            _ => return Err(ambiguous("give one of beforeSeq, afterSeq and cursor")),
        };
        Ok((from, parse_limit(self.limit)?))
    }
}

impl EventsQuery {
    fn parse(&self) -> Result<(Seq, u32), Problem> {
        let after = match (self.after_seq, self.cursor.as_deref()) {
            (after, None) => after.unwrap_or_default().min(MAX_SEQ),
            (None, Some(cursor)) => match read_cursor(cursor)? {
                MessagesFrom::After(seq) => seq,
                MessagesFrom::Newest | MessagesFrom::Before(_) => return Err(bad_cursor()),
            },
            (Some(_), Some(_)) => return Err(ambiguous("give either afterSeq or cursor")),
        };
        Ok((after, parse_limit(self.limit)?))
    }
}

/// The opaque form of a place in a log.
fn write_cursor(from: MessagesFrom) -> Option<String> {
    match from {
        MessagesFrom::Newest => None,
        MessagesFrom::Before(seq) => Some(format!("b{seq}")),
        MessagesFrom::After(seq) => Some(format!("a{seq}")),
    }
}

fn read_cursor(cursor: &str) -> Result<MessagesFrom, Problem> {
    let direction = cursor.get(..1).ok_or_else(bad_cursor)?;
    let seq = cursor[1..].parse().ok().filter(|seq| *seq <= MAX_SEQ).ok_or_else(bad_cursor)?;
    match direction {
        "b" => Ok(MessagesFrom::Before(seq)),
        "a" => Ok(MessagesFrom::After(seq)),
        _ => Err(bad_cursor()),
    }
}

fn bad_cursor() -> Problem {
    Error::invalid("cursor", "invalid", "not a cursor that this server handed out for this list").into()
}

fn ambiguous(detail: &'static str) -> Problem {
    Error::invalid("cursor", "conflict", detail).into()
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RaiseWatermarkRequest {
    /// A position in the chat's log; one beyond its end is its end.
    #[schema(example = 7)]
    up_to_seq: Option<Seq>,
}

impl RaiseWatermarkRequest {
    /// `Seq::MAX` stands for the end as of the transaction, to which everything is clamped anyway.
    fn bound(&self) -> Seq {
        self.up_to_seq.filter(|seq| *seq <= MAX_SEQ).unwrap_or(Seq::MAX)
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateMessageStatusRequest {
    status: ReachedStatus,
}

/// What a receiver can say of a message.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
enum ReachedStatus {
    Delivered,
    Read,
}

/// A page of events. It may hold fewer than `limit`, also none: go on as long as there is a `nextCursor`. `end`: everything
/// that the caller may have up to there is in `items` or before it; ask from there on.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct EventsAnswer {
    items: Vec<Event>,
    next_cursor: Option<String>,
    end: Seq,
}

/// Send a message
///
/// The answer comes after the commit. With a `localId` a send can be repeated until it is answered, and has its effect once.
#[utoipa::path(
    post,
    path = "/{chatId}/messages",
    request_body = SendRequest,
    responses(
        (status = 201, description = "The message, stored by this request.", body = MessageView),
        (status = 200, description = "The message, stored before under the same `localId`.", body = MessageView),
    ),
    extensions(("x-error-codes" = json!([ErrorCode::NotMember, ErrorCode::Blocked, ErrorCode::UserDeleted, ErrorCode::LocalIdConflict, ErrorCode::TooManyRequests]))),
)]
async fn create_message(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    meter: Meter,
    Path(chat): Path<ChatId>,
    Json(request): Json<SendRequest>,
) -> Result<(StatusCode, Json<MessageView>), Problem> {
    meter.count_commands(me.user, 1)?;
    let appended = services.messaging.send(me.user, chat, request).await?.await?;
    let new = matches!(appended, Appended::New(_));
    let message = services.messaging.show_sent(me.user, &appended).await?;
    Ok((super::created_if(new), Json(message)))
}

/// List the messages of a chat
///
/// Newest first; with `afterSeq` upwards. Give one of `beforeSeq`, `afterSeq` and `cursor`.
#[utoipa::path(
    get,
    path = "/{chatId}/messages",
    params(MessagesQuery),
    responses((status = 200, description = "A page of messages.", body = Page<MessageView>)),
)]
async fn list_messages(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Path(chat): Path<ChatId>,
    Query(query): Query<MessagesQuery>,
) -> Result<Json<Page<MessageView>>, Problem> {
    let (from, limit) = query.parse()?;
    let items = services.messaging.list(me.user, chat, from, limit).await?;
    let next = items.last().filter(|_| items.len() >= limit as usize).map(|last| match from {
        MessagesFrom::After(_) => MessagesFrom::After(last.seq),
        MessagesFrom::Newest | MessagesFrom::Before(_) => MessagesFrom::Before(last.seq),
    });
    Ok(Json(Page { items, next_cursor: next.and_then(write_cursor) }))
}

/// Read the log of a chat
///
/// As MQTT shows it, for clients without a session. Give `afterSeq` or `cursor`.
#[utoipa::path(
    get,
    path = "/{chatId}/events",
    params(EventsQuery),
    responses((status = 200, description = "A page of events.", body = EventsAnswer)),
)]
async fn list_events(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Path(chat): Path<ChatId>,
    Query(query): Query<EventsQuery>,
) -> Result<Json<EventsAnswer>, Problem> {
    let (after, limit) = query.parse()?;
    let mut pages = services.messaging.read_events(me.user, &[(Stream::Chat(chat), after)], limit).await?;
    let page = pages.pop().flatten().ok_or_else(|| Error::not_found("chat"))?;
    let next_cursor = page.more.then_some(MessagesFrom::After(page.end)).and_then(write_cursor);
    Ok(Json(EventsAnswer { items: page.events, next_cursor, end: page.end }))
}

/// Say that messages arrived
///
/// Raises my DELIVERED watermark, never lowers it. Without `upToSeq` to the end as of this transaction.
#[utoipa::path(
    post,
    path = "/{chatId}/messages/delivered",
    request_body = Option<RaiseWatermarkRequest>,
    responses((status = 204, description = "My watermark is at least there.")),
    extensions(("x-error-codes" = json!([ErrorCode::NotMember, ErrorCode::TooManyRequests]))),
)]
async fn mark_delivered(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    meter: Meter,
    Path(chat): Path<ChatId>,
    JsonOrEmpty(request): JsonOrEmpty<RaiseWatermarkRequest>,
) -> Result<StatusCode, Problem> {
    meter.count_commands(me.user, 1)?;
    raise(&services, me.user, chat, ReachedStatus::Delivered, request.bound()).await
}

/// Say that messages were read
///
/// Raises my READ and DELIVERED watermarks, never lowers them. Without `upToSeq` to the end as of this transaction.
#[utoipa::path(
    post,
    path = "/{chatId}/messages/read",
    request_body = Option<RaiseWatermarkRequest>,
    responses((status = 204, description = "My watermark is at least there.")),
    extensions(("x-error-codes" = json!([ErrorCode::NotMember, ErrorCode::TooManyRequests]))),
)]
async fn mark_read(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    meter: Meter,
    Path(chat): Path<ChatId>,
    JsonOrEmpty(request): JsonOrEmpty<RaiseWatermarkRequest>,
) -> Result<StatusCode, Problem> {
    meter.count_commands(me.user, 1)?;
    raise(&services, me.user, chat, ReachedStatus::Read, request.bound()).await
}

/// Say that a message arrived or was read
///
/// Raises my watermark to this message, never lowers it.
#[utoipa::path(
    patch,
    path = "/messages/{messageId}/status",
    request_body = UpdateMessageStatusRequest,
    responses((status = 204, description = "My watermark is at least there.")),
    extensions(("x-error-codes" = json!([ErrorCode::NotMember, ErrorCode::TooManyRequests]))),
)]
async fn update_message_status(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    meter: Meter,
    Path(message): Path<RowId>,
    Json(request): Json<UpdateMessageStatusRequest>,
) -> Result<StatusCode, Problem> {
    meter.count_commands(me.user, 1)?;
    let message = services.messaging.find(me.user, message).await?;
    raise(&services, me.user, message.chat_id, request.status, message.seq).await
}

async fn raise(
    services: &Services,
    user: UserId,
    chat: ChatId,
    to: ReachedStatus,
    seq: Seq,
) -> Result<StatusCode, Problem> {
    let (delivered, read) = match to {
        ReachedStatus::Delivered => (Some(seq), None),
        ReachedStatus::Read => (None, Some(seq)),
    };
    services.receipts.raise(user, chat, delivered, read, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_paged_from_one_place() {
        let query = |before_seq, after_seq, cursor: Option<&str>| {
            let cursor = cursor.map(Into::into);
            MessagesQuery { limit: None, before_seq, after_seq, cursor }.parse().map(|(from, _)| from)
        };
        assert_eq!(query(None, None, None).unwrap(), MessagesFrom::Newest);
        assert_eq!(query(Some(7), None, None).unwrap(), MessagesFrom::Before(7));
        assert_eq!(query(None, Some(Seq::MAX), None).unwrap(), MessagesFrom::After(MAX_SEQ));
        for from in [MessagesFrom::Before(3), MessagesFrom::After(0)] {
            assert_eq!(query(None, None, write_cursor(from).as_deref()).unwrap(), from);
        }
        assert!(query(Some(1), Some(1), None).is_err());
        assert!(query(Some(1), None, Some("b1")).is_err());
        for bad in ["", "b", "c1", "b-1", "øb1", "a18446744073709551615"] {
            assert!(query(None, None, Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn events_are_paged_upwards() {
        let query = |after_seq, cursor: Option<&str>| {
            let cursor = cursor.map(Into::into);
            EventsQuery { limit: Some(10), after_seq, cursor }.parse()
        };
        assert_eq!(query(None, None).unwrap(), (0, 10));
        assert_eq!(query(None, Some("a9")).unwrap(), (9, 10));
        assert!(query(None, Some("b9")).is_err());
        assert!(query(Some(9), Some("a9")).is_err());
    }

    #[test]
    fn an_absent_bound_and_one_beyond_all_logs_are_the_end() {
        let bound = |up_to_seq| RaiseWatermarkRequest { up_to_seq }.bound();
        assert_eq!(bound(None), Seq::MAX);
        assert_eq!(bound(Some(MAX_SEQ + 1)), Seq::MAX);
        assert_eq!(bound(Some(5)), 5);
    }
}
