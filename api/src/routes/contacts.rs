//! `/api/contacts`. A `contactId` in a path is the other user's id.

use crate::{
    ApiState,
    extract::{Authenticated, Json, PageQuery, Path, Query},
    fields::Fields,
    problem::Problem,
};
use axum::{
    Router,
    extract::State,
    http::StatusCode,
    routing::{delete, get, patch, post},
};
use curlew_domain::{
    account::{Principal, Username},
    contact::{ContactFilter, ContactView},
    ids::UserId,
    page::Page,
    services::Services,
};
use serde::Deserialize;

pub fn routes() -> Router<ApiState> {
    Router::new()
        .route("/", get(list_contacts))
        .route("/pending", get(list_requests))
        .route("/blocked", get(list_blocked))
        .route("/request", post(request_contact))
        .route("/request/{contactId}/accept", patch(accept_contact))
        .route("/request/{contactId}/reject", delete(reject_contact))
        .route("/block", post(block_user))
        .route("/unblock/{contactId}", patch(unblock_user))
        .route("/{contactId}", delete(remove_contact))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RequestContactRequest {
    user_id: Option<String>,
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

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct BlockUserRequest {
    user_id: Option<String>,
}

impl BlockUserRequest {
    fn parse(self) -> Result<UserId, Problem> {
        let mut fields = Fields::default();
        let user = fields.required("userId", self.user_id).and_then(|id| fields.id("userId", &id));
        fields.finish(user)
    }
}

/// 201: the contact, changed by this request. 200: as it was before.
async fn request_contact(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Json(request): Json<RequestContactRequest>,
) -> Result<(StatusCode, Json<ContactView>), Problem> {
    let (contact, changed) = match request.parse()? {
        Peer::Id(peer) => services.contacts.request(me.user, peer).await?,
        Peer::Name(name) => services.contacts.request_by_name(me.user, &name).await?,
    };
    Ok((super::created_if(changed), Json(contact)))
}

/// 200: the contact.
async fn accept_contact(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Path(peer): Path<UserId>,
) -> Result<Json<ContactView>, Problem> {
    Ok(Json(services.contacts.accept(me.user, peer).await?))
}

/// 204. Also withdraws one's own request.
async fn reject_contact(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Path(peer): Path<UserId>,
) -> Result<StatusCode, Problem> {
    services.contacts.reject(me.user, peer).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// 204.
async fn remove_contact(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Path(peer): Path<UserId>,
) -> Result<StatusCode, Problem> {
    services.contacts.remove(me.user, peer).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// 200: the contact, blocked.
async fn block_user(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Json(request): Json<BlockUserRequest>,
) -> Result<Json<ContactView>, Problem> {
    Ok(Json(services.contacts.block(me.user, request.parse()?).await?))
}

/// 204. Again: changes nothing.
async fn unblock_user(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Path(peer): Path<UserId>,
) -> Result<StatusCode, Problem> {
    services.contacts.unblock(me.user, peer).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// 200: accepted contacts, newest first.
async fn list_contacts(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<ContactView>>, Problem> {
    list(&services, &me, ContactFilter::Contacts, &page).await
}

/// 200: requests, either way, newest first.
async fn list_requests(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<ContactView>>, Problem> {
    list(&services, &me, ContactFilter::Pending, &page).await
}

/// 200: whom I have blocked, newest first.
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
