//! `/api/contacts`. A `contactId` in a path is the other user's id.

use crate::{
    extract::{Authenticated, Json, PageQuery, Path, Query},
    fields::Fields,
    limits::Meter,
    openapi::Routes,
    problem::Problem,
};
use axum::{extract::State, http::StatusCode};
use curlew_domain::{
    ErrorCode,
    account::{Principal, Username},
    contact::{ContactFilter, ContactView, FoundUser, SearchQuery},
    ids::UserId,
    page::Page,
    services::Services,
};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::routes;

pub fn routes() -> Routes {
    Routes::of("contacts")
        .add(routes!(list_contacts))
        .add(routes!(list_requests))
        .add(routes!(list_blocked))
        .add(routes!(search_users))
        .add(routes!(request_contact))
        .add(routes!(accept_contact))
        .add(routes!(reject_contact))
        .add(routes!(block_user))
        .add(routes!(unblock_user))
        .add(routes!(remove_contact))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({"username": "bob"}))]
struct RequestContactRequest {
    /// Either this or `username`.
    #[schema(value_type = Option<UserId>)]
    user_id: Option<String>,
    /// Either this or `userId`.
    #[schema(value_type = Option<Username>)]
    username: Option<String>,
}

/// Whom to ask.
#[derive(Debug, PartialEq, Eq)]
enum Peer {
    Id(UserId),
    Name(Username),
}

impl RequestContactRequest {
    fn parse(&self) -> Result<Peer, Problem> {
        let mut fields = Fields::default();
        let peer = match (&self.user_id, &self.username) {
            (Some(id), None) => fields.id("userId", id).map(Peer::Id),
            (None, Some(name)) => fields.keep(Username::parse(name)).map(Peer::Name),
            (None, None) => fields.required("userId", None),
            (Some(_), Some(_)) => {
                fields.refuse("username", "conflict", "give either userId or username, not both");
                None
            }
        };
        fields.finish(peer)
    }
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BlockUserRequest {
    #[schema(value_type = UserId)]
    user_id: Option<String>,
}

impl BlockUserRequest {
    fn parse(self) -> Result<UserId, Problem> {
        let mut fields = Fields::default();
        let user = fields.required("userId", self.user_id).and_then(|id| fields.id("userId", &id));
        fields.finish(user)
    }
}

/// `?q=`, `?limit=` and `?cursor=`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct SearchUsersQuery {
    /// How a user name or a display name begins, in any case.
    #[param(required, min_length = 1, max_length = 64, example = "bo")]
    q: Option<String>,
    /// Most items of the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `nextCursor` of the page before. Opaque.
    cursor: Option<String>,
}

/// Find people by the beginning of a name
///
/// By user name first, then those whose display name alone matches. Who has blocked me looks as before.
#[utoipa::path(
    get,
    path = "/search",
    params(SearchUsersQuery),
    responses((status = 200, description = "A page of people.", body = Page<FoundUser>)),
)]
async fn search_users(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Query(query): Query<SearchUsersQuery>,
) -> Result<Json<Page<FoundUser>>, Problem> {
    let mut fields = Fields::default();
    let q = fields.required("q", query.q).and_then(|text| fields.keep(SearchQuery::parse(&text)));
    let q = fields.finish(q)?;
    let page = services.contacts.search(me.user, q, query.limit, query.cursor.as_deref()).await?;
    Ok(Json(page))
}

/// Ask somebody to be a contact
///
/// By `userId` or by `username`. Two who ask each other are contacts.
#[utoipa::path(
    post,
    path = "/request",
    request_body = RequestContactRequest,
    responses(
        (status = 201, description = "The contact, changed by this request.", body = ContactView),
        (status = 200, description = "The contact, as it was before.", body = ContactView),
    ),
    extensions(("x-error-codes" = json!([ErrorCode::NotFound, ErrorCode::Blocked, ErrorCode::TooManyRequests]))),
)]
async fn request_contact(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    meter: Meter,
    Json(request): Json<RequestContactRequest>,
) -> Result<(StatusCode, Json<ContactView>), Problem> {
    let peer = request.parse()?;
    meter.count_contact_request(me.user)?;
    let (contact, changed) = match peer {
        Peer::Id(peer) => services.contacts.request(me.user, peer).await?,
        Peer::Name(name) => services.contacts.request_by_name(me.user, &name).await?,
    };
    Ok((super::created_if(changed), Json(contact)))
}

/// Accept a contact request
///
/// Again: changes nothing.
#[utoipa::path(
    patch,
    path = "/request/{contactId}/accept",
    responses((status = 200, description = "The contact.", body = ContactView)),
    extensions(("x-error-codes" = json!([ErrorCode::Blocked]))),
)]
async fn accept_contact(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Path(peer): Path<UserId>,
) -> Result<Json<ContactView>, Problem> {
    Ok(Json(services.contacts.accept(me.user, peer).await?))
}

/// Reject a contact request, or withdraw my own
#[utoipa::path(
    delete,
    path = "/request/{contactId}/reject",
    responses((status = 204, description = "There is no request any more.")),
)]
async fn reject_contact(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Path(peer): Path<UserId>,
) -> Result<StatusCode, Problem> {
    services.contacts.reject(me.user, peer).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// End the relation to a contact
#[utoipa::path(
    delete,
    path = "/{contactId}",
    responses((status = 204, description = "They are no contact any more.")),
)]
async fn remove_contact(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Path(peer): Path<UserId>,
) -> Result<StatusCode, Problem> {
    services.contacts.remove(me.user, peer).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Block a user
///
/// Requests end, a contact is kept for the time after the block. Again: changes nothing.
#[utoipa::path(
    post,
    path = "/block",
    request_body = BlockUserRequest,
    responses((status = 200, description = "The contact, blocked.", body = ContactView)),
    extensions(("x-error-codes" = json!([ErrorCode::NotFound]))),
)]
async fn block_user(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Json(request): Json<BlockUserRequest>,
) -> Result<Json<ContactView>, Problem> {
    Ok(Json(services.contacts.block(me.user, request.parse()?).await?))
}

/// Unblock a user
///
/// Again: changes nothing.
#[utoipa::path(
    patch,
    path = "/unblock/{contactId}",
    responses((status = 204, description = "They are not blocked.")),
)]
async fn unblock_user(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Path(peer): Path<UserId>,
) -> Result<StatusCode, Problem> {
    services.contacts.unblock(me.user, peer).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List my contacts
///
/// Newest first.
#[utoipa::path(
    get,
    path = "/",
    params(PageQuery),
    responses((status = 200, description = "A page of accepted contacts.", body = Page<ContactView>)),
)]
async fn list_contacts(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<ContactView>>, Problem> {
    list(&services, &me, ContactFilter::Contacts, &page).await
}

/// List contact requests
///
/// Either way, newest first.
#[utoipa::path(
    get,
    path = "/pending",
    params(PageQuery),
    responses((status = 200, description = "A page of requests.", body = Page<ContactView>)),
)]
async fn list_requests(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<ContactView>>, Problem> {
    list(&services, &me, ContactFilter::Pending, &page).await
}

/// List whom I have blocked
///
/// Newest first.
#[utoipa::path(
    get,
    path = "/blocked",
    params(PageQuery),
    responses((status = 200, description = "A page of blocked users.", body = Page<ContactView>)),
)]
async fn list_blocked(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<ContactView>>, Problem> {
    list(&services, &me, ContactFilter::Blocked, &page).await
}

async fn list(
    services: &Services,
    me: &Principal,
    filter: ContactFilter,
    page: &PageQuery,
) -> Result<Json<Page<ContactView>>, Problem> {
    Ok(Json(services.contacts.list(me.user, filter, page.parse()?).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_its_peer_once() {
        let parse = |id: Option<&str>, name: Option<&str>| {
            RequestContactRequest { user_id: id.map(Into::into), username: name.map(Into::into) }.parse()
        };
        let refused = |id, name| parse(id, name).unwrap_err().errors.remove(0);
        assert_eq!(parse(None, Some("bob")).unwrap(), Peer::Name(Username::parse("bob").unwrap()));
        assert!(matches!(parse(Some("0192f0c1-0000-7000-8000-000000000001"), None), Ok(Peer::Id(_))));
        assert_eq!(refused(None, None).code, "required");
        assert_eq!(refused(Some("bob"), None).field, "userId");
        assert_eq!(refused(None, Some("B")).field, "username");
        assert_eq!(refused(Some("x"), Some("bob")).code, "conflict");
    }
}
