//! What is done to one message after it was sent: edits, deletions, reactions, replies, forwards, and who has it.

use crate::{
    extract::{Authenticated, Json, PageQuery, Path, Query, nullable},
    fields::Fields,
    limits::Meter,
    openapi::Routes,
    problem::Problem,
};
use axum::{extract::State, http::StatusCode};
use curlew_domain::{
    ErrorCode,
    event::DeletionScope,
    ids::{ChatId, RowId},
    message::{LocalId, MessageView},
    page::Page,
    ports::store::Appended,
    receipt::MessageInfo,
    services::Services,
};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

pub fn routes() -> Routes {
    Routes::of("messages")
        .add(routes!(edit_message, delete_message))
        .add(routes!(react))
        .add(routes!(list_replies))
        .add(routes!(get_message_info))
        .add(routes!(forward_message))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct EditMessageRequest {
    /// Not empty, at most 16 KiB of UTF-8, without U+0000.
    #[schema(value_type = String, min_length = 1, max_length = 16384, pattern = "^[^\\u0000]*$", example = "See you at seven")]
    text: Option<String>,
}

/// `emoji` must be there, if only to be `null`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReactRequest {
    /// One emoji; `null` takes mine back.
    #[serde(default, deserialize_with = "nullable")]
    #[schema(required, value_type = Option<String>, min_length = 1, max_length = 64, example = "👍")]
    emoji: Option<Option<String>>,
}

/// `?for=me` (the default) or `everyone`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct DeleteQuery {
    /// For whom.
    #[serde(rename = "for", default)]
    #[param(inline)]
    scope: DeletionScope,
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ForwardRequest {
    /// 1 to 20 chats, each once.
    #[schema(value_type = Vec<ChatId>, min_items = 1)]
    chat_ids: Option<Vec<String>>,
    /// The same again makes no second copy.
    #[schema(value_type = Option<LocalId>)]
    local_id: Option<String>,
}

impl ForwardRequest {
    /// The chats, each once.
    fn parse(self) -> Result<(Vec<ChatId>, Option<LocalId>), Problem> {
        let mut fields = Fields::default();
        let chats =
            fields.required("chatIds", self.chat_ids).map(|ids| fields.ids::<ChatId>("chatIds", &ids));
        let local_id = self.local_id.and_then(|text| fields.keep(LocalId::parse(&text)));
        let mut seen = HashSet::new();
        let distinct = |ids: Vec<ChatId>| ids.into_iter().filter(|chat| seen.insert(*chat)).collect();
        fields.finish(chats.map(distinct).map(|chats| (chats, local_id)))
    }
}

/// The copies, in the order of the chats.
#[derive(Debug, Serialize, ToSchema)]
struct ForwardAnswer {
    items: Vec<MessageView>,
}

/// Replace the text of my message
///
/// Again: changes nothing.
#[utoipa::path(
    patch,
    path = "/messages/{messageId}",
    request_body = EditMessageRequest,
    responses((status = 200, description = "The message with this text.", body = MessageView)),
    extensions(("x-error-codes" = json!([ErrorCode::Forbidden, ErrorCode::NotMember, ErrorCode::Blocked, ErrorCode::UserDeleted, ErrorCode::MessageDeleted, ErrorCode::TooManyRequests]))),
)]
async fn edit_message(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    meter: Meter,
    Path(message): Path<RowId>,
    Json(request): Json<EditMessageRequest>,
) -> Result<Json<MessageView>, Problem> {
    meter.count_commands(me.user, 1)?;
    let chat = services.messaging.chat_of(me.user, message).await?;
    let text = request.text.unwrap_or_default();
    services.messaging.edit(me.user, chat, message, text).await?.await?;
    Ok(Json(services.messaging.find(me.user, message).await?))
}

/// Delete a message, for me or for everyone
///
/// For everyone: its sender within a time limit, or admins and owners. It leaves a tombstone. Again: changes nothing.
#[utoipa::path(
    delete,
    path = "/messages/{messageId}",
    params(DeleteQuery),
    responses((status = 204, description = "It is deleted.")),
    extensions(("x-error-codes" = json!([ErrorCode::Forbidden, ErrorCode::NotMember, ErrorCode::TooLate, ErrorCode::TooManyRequests]))),
)]
async fn delete_message(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    meter: Meter,
    Path(message): Path<RowId>,
    Query(query): Query<DeleteQuery>,
) -> Result<StatusCode, Problem> {
    meter.count_commands(me.user, 1)?;
    let chat = services.messaging.chat_of(me.user, message).await?;
    services.messaging.delete(me.user, chat, message, query.scope).await?.await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Set or take back my reaction
///
/// `null` takes it back. Again: changes nothing.
#[utoipa::path(
    post,
    path = "/messages/{messageId}/reactions",
    request_body = ReactRequest,
    responses((status = 200, description = "The message as it is now.", body = MessageView)),
    extensions(("x-error-codes" = json!([ErrorCode::Forbidden, ErrorCode::NotMember, ErrorCode::Blocked, ErrorCode::UserDeleted, ErrorCode::MessageDeleted, ErrorCode::TooManyRequests]))),
)]
async fn react(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    meter: Meter,
    Path(message): Path<RowId>,
    Json(request): Json<ReactRequest>,
) -> Result<Json<MessageView>, Problem> {
    meter.count_commands(me.user, 1)?;
    let mut fields = Fields::default();
    let emoji = fields.required("emoji", request.emoji);
    let emoji = fields.finish(emoji)?;
    let chat = services.messaging.chat_of(me.user, message).await?;
    services.messaging.react(me.user, chat, message, emoji.as_deref()).await?.await?;
    Ok(Json(services.messaging.find(me.user, message).await?))
}

/// List the answers to a message
///
/// Oldest first.
#[utoipa::path(
    get,
    path = "/messages/{messageId}/replies",
    params(PageQuery),
    responses((status = 200, description = "A page of messages.", body = Page<MessageView>)),
)]
async fn list_replies(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Path(message): Path<RowId>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<MessageView>>, Problem> {
    Ok(Json(services.messaging.list_replies(me.user, message, page.parse()?).await?))
}

/// Read who has received and read my message
#[utoipa::path(
    get,
    path = "/messages/{messageId}/info",
    responses((status = 200, description = "Who has it.", body = MessageInfo)),
    extensions(("x-error-codes" = json!([ErrorCode::Forbidden]))),
)]
async fn get_message_info(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Path(message): Path<RowId>,
) -> Result<Json<MessageInfo>, Problem> {
    Ok(Json(services.messaging.info(me.user, message).await?))
}

/// Copy a message into chats
///
/// All of them or none.
#[utoipa::path(
    post,
    path = "/messages/{messageId}/forward",
    request_body = ForwardRequest,
    responses(
        (status = 201, description = "The copies, stored by this request.", body = ForwardAnswer),
        (status = 200, description = "The copies, all stored before under the same `localId`.", body = ForwardAnswer),
    ),
    extensions(("x-error-codes" = json!([ErrorCode::Forbidden, ErrorCode::NotMember, ErrorCode::Blocked, ErrorCode::UserDeleted, ErrorCode::MessageDeleted, ErrorCode::LocalIdConflict, ErrorCode::TooManyRequests]))),
)]
async fn forward_message(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    meter: Meter,
    Path(message): Path<RowId>,
    Json(request): Json<ForwardRequest>,
) -> Result<(StatusCode, Json<ForwardAnswer>), Problem> {
    let (chats, local_id) = request.parse()?;
    meter.count_commands(me.user, chats.len())?;
    let copies = services.messaging.forward(me.user, message, &chats, local_id).await?;
    let new = copies.iter().any(|copy| matches!(copy, Appended::New(_)));
    let mut items = Vec::with_capacity(copies.len());
    for copy in &copies {
        items.push(services.messaging.show_sent(me.user, copy).await?);
    }
    Ok((crate::routes::created_if(new), Json(ForwardAnswer { items })))
}
