//! `/api/users`.

use crate::{
    extract::{Authenticated, Json, Path},
    openapi::Routes,
    problem::Problem,
};
use axum::extract::State;
use curlew_domain::{account::UserView, ids::UserId, services::Services};
use utoipa_axum::routes;

pub fn routes() -> Routes {
    Routes::of("users").add(routes!(get_user))
}

/// Read the public profile of a user
#[utoipa::path(
    get,
    path = "/{userId}",
    responses((status = 200, description = "The profile.", body = UserView)),
)]
async fn get_user(
    _: Authenticated,
    State(services): State<Services>,
    Path(user): Path<UserId>,
) -> Result<Json<UserView>, Problem> {
    Ok(Json(services.accounts.find_user(user).await?))
}
