//! The routes, one file per area.

mod auth;
mod chats;
mod contacts;
mod health;
mod messages;
mod users;

use crate::{
    ApiState,
    exchange::{Containment, contain, observe, refuse_unknown_path},
};
use axum::{Router, extract::DefaultBodyLimit, http::StatusCode, middleware};

/// The whole surface: `/api`, `/healthz`, `/readyz`, `/metrics`. To be served with
/// `ConnectInfo<SocketAddr>`, by which `/metrics` knows who asks. It has a fallback; a router merged into it must have none.
pub fn router(state: ApiState) -> Router {
    let api = Router::new()
        .nest("/auth", auth::routes())
        .nest("/contacts", contacts::routes())
        .nest("/chats", chats::routes().merge(messages::routes()))
        .nest("/users", users::routes());
    Router::new()
        .nest("/api", api)
        .merge(health::routes())
        .fallback(refuse_unknown_path)
        .layer(DefaultBodyLimit::max(state.limits.body_bytes))
        .layer(middleware::from_fn_with_state(Containment::of(&state), contain))
        .layer(middleware::from_fn(observe))
        .with_state(state)
}

/// 201 for what this request made, 200 for what was there.
fn created_if(new: bool) -> StatusCode {
    if new { StatusCode::CREATED } else { StatusCode::OK }
}
