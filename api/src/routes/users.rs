//! `/api/users`.

use crate::{
    ApiState,
    extract::{Authenticated, Json, Path},
    problem::Problem,
};
use axum::{Router, extract::State, routing::get};
use curlew_domain::{account::UserView, ids::UserId, services::Services};

pub fn routes() -> Router<ApiState> {
    Router::new().route("/{userId}", get(get_user))
}

/// 200: the public profile.
async fn get_user(
    _: Authenticated,
    State(services): State<Services>,
    Path(user): Path<UserId>,
) -> Result<Json<UserView>, Problem> {
    Ok(Json(services.accounts.find_user(user).await?))
}
