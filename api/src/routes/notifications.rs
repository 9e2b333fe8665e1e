//! `/api/notifications`: badges.

use crate::{
    extract::{Authenticated, Json, PageQuery, Path, Query},
    openapi::Routes,
    problem::Problem,
};
use axum::{extract::State, http::StatusCode};
use curlew_domain::{
    ErrorCode,
    ids::ChatId,
    notification::{NotificationCounts, Notifications},
    services::Services,
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

pub fn routes() -> Routes {
    Routes::of("notifications")
        .add(routes!(list_notifications))
        .add(routes!(get_count))
        .add(routes!(get_all_counts))
        .add(routes!(clear_chat))
        .add(routes!(mark_contacts_viewed))
}

#[derive(Debug, Serialize, ToSchema)]
struct CountAnswer {
    /// Unread messages of all chats, and contact requests not yet viewed.
    total: u32,
}

/// List what waits to be noticed
///
/// Chats with a badge, latest activity first, and contact requests not yet viewed. A badge counts messages of others
/// after what was read and what was cleared.
#[utoipa::path(
    get,
    path = "/",
    params(PageQuery),
    responses((status = 200, description = "A page of chats, and the requests.", body = Notifications)),
)]
async fn list_notifications(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Notifications>, Problem> {
    Ok(Json(services.notifications.list(me.user, page.parse()?).await?))
}

/// Count what waits to be noticed
///
/// Unread messages of all chats with a badge, and contact requests not yet viewed.
#[utoipa::path(
    get,
    path = "/count",
    responses((status = 200, description = "How many.", body = CountAnswer)),
)]
async fn get_count(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
) -> Result<Json<CountAnswer>, Problem> {
    Ok(Json(CountAnswer { total: services.notifications.counts(me.user).await?.total }))
}

/// Count what waits to be noticed, chat by chat
#[utoipa::path(
    get,
    path = "/all-counts",
    responses((status = 200, description = "How many, and of which chats.", body = NotificationCounts)),
)]
async fn get_all_counts(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
) -> Result<Json<NotificationCounts>, Problem> {
    Ok(Json(services.notifications.counts(me.user).await?))
}

/// Clear the badge of a chat
///
/// Marks nothing READ. Again: changes nothing.
#[utoipa::path(
    post,
    path = "/clear/{chatId}",
    responses((status = 204, description = "The chat has no badge.")),
    extensions(("x-error-codes" = json!([ErrorCode::NotMember]))),
)]
async fn clear_chat(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Path(chat): Path<ChatId>,
) -> Result<StatusCode, Problem> {
    services.notifications.clear(me.user, chat).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Say that the incoming contact requests were viewed
///
/// Again: changes nothing.
#[utoipa::path(
    post,
    path = "/mark-contacts-viewed",
    responses((status = 204, description = "No request is new.")),
)]
async fn mark_contacts_viewed(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
) -> Result<StatusCode, Problem> {
    services.notifications.mark_contacts_viewed(me.user).await?;
    Ok(StatusCode::NO_CONTENT)
}
