//! Answers that a client need not fetch again while they are the same: `ETag` and `If-None-Match` (RFC 9110, sections 8.8.3
//! and 13.1.2).

use crate::problem::Problem;
use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{
        HeaderMap, HeaderValue, Method, StatusCode,
        header::{CACHE_CONTROL, ETAG, IF_NONE_MATCH},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// Bytes of the body's hash that make its tag.
const TAG_BYTES: usize = 16;

/// Gives what was read its tag, made of its body; answers 304 to who has it already.
pub async fn tag(request: Request, next: Next) -> Response {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return next.run(request).await;
    }
    let known = request.headers().clone();
    let response = next.run(request).await;
    if response.status() != StatusCode::OK {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let body = match to_bytes(body, usize::MAX).await {
        Ok(body) => body,
        Err(error) => {
            return Problem::internal(format!("a body made here broke off: {error}")).into_response();
        }
    };
    let tag = tag_of(&body);
    // To be kept, but asked for each time.
    parts.headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    if let Ok(tag) = HeaderValue::try_from(&tag) {
        parts.headers.insert(ETAG, tag);
    }
    if matches(&known, &tag) {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        for name in [CACHE_CONTROL, ETAG] {
            if let Some(value) = parts.headers.remove(&name) {
                response.headers_mut().insert(name, value);
            }
        }
        return response;
    }
    Response::from_parts(parts, Body::from(body))
}

/// A weak one: compressed or not, it is the same answer.
fn tag_of(body: &[u8]) -> String {
    let mut tag = String::from("W/\"");
    for byte in &Sha256::digest(body)[..TAG_BYTES] {
        write!(tag, "{byte:02x}").expect("writing to a String cannot fail");
    }
    tag.push('"');
    tag
}

fn matches(headers: &HeaderMap, tag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let listed = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    listed.flat_map(|list| list.split(',')).any(|of| of.trim() == "*" || opaque(of) == opaque(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_compared_weakly_and_in_lists() {
        let tag = tag_of(b"body");
        let said = |text: String| {
            let headers = HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::try_from(text).unwrap())]);
            matches(&headers, &tag)
        };
        let strong = tag.trim_start_matches("W/").to_owned();
        for good in [tag.clone(), strong, "*".into(), format!("\"x\", {tag}")] {
            assert!(said(good.clone()), "{good}");
        }
        for bad in ["", "\"\"", "W/", "x"] {
            assert!(!said(bad.into()), "{bad}");
        }
        assert_ne!(tag, tag_of(b"other"));
    }
}
