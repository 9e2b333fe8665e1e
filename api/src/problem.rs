//! Every answer from 400 on: `application/problem+json`, RFC 9457.

use axum::{
    Json,
    http::{
        HeaderValue, StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
    response::{IntoResponse, Response},
};
use curlew_domain::{Error, ErrorCode, FieldError, Refusal, device::DeviceView};
use serde::Serialize;
use std::borrow::Cow;
use utoipa::ToSchema;
use uuid::Uuid;

/// When to try again after a 429 or 503: seconds.
const RETRY_AFTER_SECS: HeaderValue = HeaderValue::from_static("1");

/// How a token is sent.
pub const ACCESS_TOKEN: &str = "send `Authorization: Bearer <access token>`";

/// A request that was not done.
///
/// As a response it is a bare status; the outermost layer, which knows the request id, logs the cause and writes it out.
#[derive(Clone, Debug)]
pub struct Problem {
    /// Why.
    pub code: ErrorCode,
    /// For people: what was wrong, and what to do. Of a 5xx it says nothing of the inside.
    pub detail: Cow<'static, str>,
    /// The fields concerned.
    pub errors: Vec<FieldError>,
    /// Of `device-limit`: the devices, one of which may be replaced.
    pub devices: Vec<DeviceView>,
    /// Of a 5xx, for the log only.
    pub cause: Option<String>,
}

/// The body: a problem as RFC 9457 describes it, with extensions.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
#[serde(rename_all = "camelCase")]
pub struct ProblemBody<'a> {
    /// A URN made of the code.
    #[serde(rename = "type")]
    #[schema(format = "uri")]
    kind: String,
    /// For people: what the code means.
    title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// Stable.
    code: ErrorCode,
    /// For people: what was wrong here, and what to do.
    detail: &'a str,
    /// The answer's `X-Request-Id`.
    request_id: Uuid,
    /// The fields concerned, if it was the request that was wrong.
    errors: &'a [FieldError],
    /// Of `device-limit` only: the devices that are logged in, one of which may be replaced.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    devices: &'a [DeviceView],
}

impl<'a> ProblemBody<'a> {
    /// Type, title and status follow from the code.
    pub fn new(code: ErrorCode, detail: &'a str, request_id: Uuid, errors: &'a [FieldError]) -> Self {
        let (status, title) = meaning(code);
        let kind = format!("urn:curlew:error:{}", code.as_str());
        Self { kind, title, status: status.as_u16(), code, detail, request_id, errors, devices: &[] }
    }
}

impl Problem {
    /// A problem without fields.
    pub fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), errors: Vec::new(), devices: Vec::new(), cause: None }
    }

    /// Nothing is there, or nothing of the caller's.
    pub fn not_found() -> Self {
        Self::new(ErrorCode::NotFound, "nothing is here, or nothing of yours")
    }

    /// No credentials, or ones that are no bearer token.
    pub fn unauthenticated() -> Self {
        Self::new(ErrorCode::Unauthenticated, ACCESS_TOKEN)
    }

    /// May pass. `cause` is logged, not sent.
    pub fn unavailable(cause: impl Into<String>) -> Self {
        let detail = "the server cannot do this right now; nothing is lost by trying again";
        Self { cause: Some(cause.into()), ..Self::new(ErrorCode::Unavailable, detail) }
    }

    /// A defect. `cause` is logged, not sent.
    pub fn internal(cause: impl Into<String>) -> Self {
        let detail = "the server failed; the request id tells its operator where to look";
        Self { cause: Some(cause.into()), ..Self::new(ErrorCode::Internal, detail) }
    }

    /// The problem that a bare error status stands for: one that axum made, not a route of ours.
    pub fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::METHOD_NOT_ALLOWED => {
                Self::new(ErrorCode::MethodNotAllowed, "this path has other methods; `Allow` lists them")
            }
            StatusCode::NOT_FOUND => Self::not_found(),
            StatusCode::PAYLOAD_TOO_LARGE => Self::new(ErrorCode::PayloadTooLarge, "the request is too long"),
            status if status.is_server_error() => Self::internal(format!("a bare {status}")),
            _ => Self::new(ErrorCode::InvalidRequest, "the request could not be read"),
        }
    }

    /// Its HTTP status.
    pub const fn status(&self) -> StatusCode {
        meaning(self.code).0
    }

    /// Writes it out for the request `request_id`.
    pub(crate) fn render(&self, request_id: Uuid) -> Response {
        let status = self.status();
        let mut body = ProblemBody::new(self.code, &self.detail, request_id, &self.errors);
        body.devices = &self.devices;
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, RETRY_AFTER_SECS);
            }
            _ => {}
        }
        response
    }
}

/// Status and title of each code.
pub const fn meaning(code: ErrorCode) -> (StatusCode, &'static str) {
    match code {
        ErrorCode::InvalidRequest => (StatusCode::BAD_REQUEST, "Invalid request"),
        ErrorCode::InvalidTopic => (StatusCode::BAD_REQUEST, "Not a topic to publish to"),
        ErrorCode::Unauthenticated => (StatusCode::UNAUTHORIZED, "Not signed in"),
        ErrorCode::InvalidCredentials => (StatusCode::UNAUTHORIZED, "Wrong user name or password"),
        ErrorCode::RegistrationClosed => (StatusCode::FORBIDDEN, "Registration is not open"),
        ErrorCode::Forbidden => (StatusCode::FORBIDDEN, "Not allowed"),
        ErrorCode::NotMember => (StatusCode::FORBIDDEN, "No longer a member"),
        ErrorCode::Blocked => (StatusCode::FORBIDDEN, "Blocked"),
        ErrorCode::UserDeleted => (StatusCode::FORBIDDEN, "The other is gone"),
        ErrorCode::MessageDeleted => (StatusCode::CONFLICT, "Message deleted"),
        ErrorCode::TooLate => (StatusCode::FORBIDDEN, "Too late"),
        ErrorCode::NotContact => (StatusCode::FORBIDDEN, "Not a contact"),
        ErrorCode::NotFound => (StatusCode::NOT_FOUND, "Not found"),
        ErrorCode::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"),
        ErrorCode::UsernameTaken => (StatusCode::CONFLICT, "User name taken"),
        ErrorCode::LocalIdConflict => (StatusCode::CONFLICT, "localId used with another content"),
        ErrorCode::DeviceLimit => (StatusCode::CONFLICT, "Too many devices"),
        ErrorCode::RetainedFull => (StatusCode::CONFLICT, "Too many retained messages"),
        ErrorCode::GroupFull => (StatusCode::CONFLICT, "Group full"),
        ErrorCode::PayloadTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "Body too long"),
        ErrorCode::UnsupportedMediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported media type"),
        ErrorCode::RequestTimeout => (StatusCode::REQUEST_TIMEOUT, "Request took too long to arrive"),
        ErrorCode::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "Too many requests"),
        ErrorCode::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "Temporarily unavailable"),
        ErrorCode::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "Internal error"),
    }
}

impl From<Refusal> for Problem {
    fn from(Refusal { code, detail, fields, devices }: Refusal) -> Self {
        Self { errors: fields, devices, ..Self::new(code, detail) }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(refusal) => refusal.into(),
            Error::Unavailable(cause) => Self::unavailable(cause),
            Error::Internal(cause) => Self::internal(cause),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_code_is_an_error_status_with_a_title_of_its_own() {
        let titles: HashSet<_> = ErrorCode::ALL
            .iter()
            .map(|code| {
                let (status, title) = meaning(*code);
                assert!(status.is_client_error() || status.is_server_error(), "{}", code.as_str());
                title
            })
            .collect();
        assert_eq!(titles.len(), ErrorCode::ALL.len());
    }

    #[test]
    fn a_server_error_keeps_its_cause_to_itself() {
        for error in [Error::Internal("SELECT secret".into()), Error::Unavailable("10.0.0.7 refused".into())]
        {
            let cause = match &error {
                Error::Internal(cause) | Error::Unavailable(cause) => cause.clone(),
                Error::Refused(_) => unreachable!(),
            };
            let problem = Problem::from(error);
            assert!(problem.status().is_server_error());
            assert!(!problem.detail.contains(&cause));
            assert_eq!(problem.cause, Some(cause));
        }
    }

    #[test]
    fn a_refusal_keeps_its_detail_and_fields() {
        let problem = Problem::from(Error::invalid("text", "empty", "must not be empty"));
        assert_eq!(problem.status(), StatusCode::BAD_REQUEST);
        assert_eq!(problem.errors, [FieldError::new("text", "empty", "must not be empty")]);
        assert_eq!(problem.detail, "text: must not be empty");
    }
}
