//! The documentation: `/api/openapi.json` for machines, `/docs` for people.

use crate::openapi::{DOCUMENT, PAGE, Routes};
use axum::{
    Json,
    http::header::{
        CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
    response::IntoResponse,
};
use serde_json::Value;
use utoipa_axum::routes;

/// The page has its style in it, and nothing else: no script, no picture, nothing from elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'self' 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Below `/api`.
pub fn document() -> Routes {
    Routes::of("service").add(routes!(get_openapi))
}

/// At the root.
pub fn page() -> Routes {
    Routes::of("service").add(routes!(show_docs))
}

/// Read this documentation as an OpenAPI document
#[utoipa::path(
    get,
    path = "/openapi.json",
    security(()),
    responses((
        status = 200,
        description = "The document, OpenAPI 3.1.",
        body = serde_json::Map<String, Value>,
        example = json!({ "openapi": "3.1.0", "info": { "title": "Curlew" }, "paths": {} }),
    )),
)]
async fn get_openapi() -> Json<&'static Value> {
    Json(&DOCUMENT)
}

/// Read this documentation as a page
#[utoipa::path(
    get,
    path = "/docs",
    security(()),
    responses((status = 200, description = "The page. It needs no script and fetches nothing.", body = String, content_type = "text/html")),
)]
pub async fn show_docs() -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    (headers, PAGE.as_str())
}
