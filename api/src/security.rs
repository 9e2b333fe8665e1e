//! What browsers are told about every answer.

use axum::{
    http::{HeaderValue, header::X_CONTENT_TYPE_OPTIONS},
    response::Response,
};

/// For every answer, of whatever router: it is what its type says. A page says more (see `routes::docs`).
pub async fn protect(mut response: Response) -> Response {
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
