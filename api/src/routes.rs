//! The routes, one file per area.

mod auth;
mod chats;
mod contacts;
mod devices;
mod docs;
mod health;
mod messages;
mod notifications;
mod users;

use crate::{
    ApiState,
    exchange::{Containment, contain, observe, refuse_unknown_path},
    openapi::Routes,
    security::protect,
};
use axum::{Router, extract::DefaultBodyLimit, http::StatusCode, middleware, routing::get};

/// The whole surface: `/api`, `/docs`, `/healthz`, `/readyz`, `/metrics`. To be served with
/// `ConnectInfo<SocketAddr>`, by which `/metrics` knows who asks. It has a fallback; a router merged into it must have none.
pub fn router(state: ApiState) -> Router {
    let (routes, _) = documented_routes().split();
    let router = routes
        // The page, by the other name that people type.
        .route("/docs/", get(docs::show_docs))
        .fallback(refuse_unknown_path)
        .layer(DefaultBodyLimit::max(state.limits.body_bytes))
        .layer(middleware::from_fn_with_state(Containment::of(&state), contain))
        .layer(middleware::from_fn(observe))
        .layer(compression::layer());
    let router = match cors::layer(&state.cors) {
        Some(layer) => router.layer(layer),
        None => router,
    };
    router.layer(middleware::map_response(protect)).with_state(state)
}

/// Which answers are compressed.
mod compression {
    use axum::http::{
        Extensions, HeaderMap, StatusCode, Version,
        header::{CONTENT_LENGTH, CONTENT_TYPE},
    };

    use tower_http::{
        CompressionLevel,
        compression::{CompressionLayer, Predicate},
    };

    /// Bytes below which it gains nothing.
    const LEAST: u64 = 1024;

    /// An answer that holds a secret. Its length would tell of it whoever can make the rest of the answer longer (BREACH).
    #[derive(Clone, Copy)]
    pub struct Secret;

    /// At the least effort, which is nearly all of the gain.
    pub fn layer() -> CompressionLayer<impl Predicate> {
        CompressionLayer::new().quality(CompressionLevel::Fastest).compress_when(is_worth_it)
    }

    /// Whether an answer is text, long enough, and holds no secret. Media are packed already, and asked for in parts.
    fn is_worth_it(_: StatusCode, _: Version, headers: &HeaderMap, extensions: &Extensions) -> bool {
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        extensions.get::<Secret>().is_none()
            && (kind.starts_with("application/json") || kind.starts_with("text/"))
            && length.is_none_or(|length: u64| length >= LEAST)
    }
}

/// Browsers' same-origin policy, loosened.
mod cors {
    use crate::CorsOrigins;
    use axum::http::{
        HeaderName, Method,
        header::{AUTHORIZATION, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION, RETRY_AFTER},
    };
    use std::time::Duration;
    use tower_http::cors::{AllowOrigin, CorsLayer};

    /// How long a browser may remember what it was allowed.
    const MAX_AGE: Duration = Duration::from_hours(1);

    /// Without credentials: whoever calls presents a token.
    pub fn layer(origins: &CorsOrigins) -> Option<CorsLayer> {
        let origins = match origins {
            CorsOrigins::None => return None,
            CorsOrigins::Only(origins) => AllowOrigin::list(origins.iter().cloned()),
            CorsOrigins::Any => AllowOrigin::any(),
        };
        let exposed = ["x-request-id", "ratelimit", "ratelimit-policy"].map(HeaderName::from_static);
        let layer = CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
            .allow_headers([AUTHORIZATION, CONTENT_TYPE, IF_NONE_MATCH])
            .expose_headers(exposed.into_iter().chain([ETAG, LOCATION, RETRY_AFTER]).collect::<Vec<_>>())
            .max_age(MAX_AGE);
        Some(layer)
    }
}

/// Every route there is, with what describes it.
pub fn documented_routes() -> Routes {
    let api = Routes::of("service")
        .nest("/auth", auth::routes())
        .nest("/contacts", contacts::routes())
        .nest("/devices", devices::routes())
        .nest("/chats", chats::routes().merge(messages::routes()))
        .nest("/notifications", notifications::routes())
        .nest("/users", users::routes())
        .merge(docs::document());
    Routes::of("service").nest("/api", api).merge(health::routes()).merge(docs::page())
}

/// 201 for what this request made, 200 for what was there.
fn created_if(new: bool) -> StatusCode {
    if new { StatusCode::CREATED } else { StatusCode::OK }
}
