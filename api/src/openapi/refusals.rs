//! The answers from 400 on.

use super::{example, headers};
use crate::problem::{ProblemBody, meaning};
use axum::http::StatusCode;
use curlew_domain::{ErrorCode, FieldError};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Every code with which an operation can refuse: its `own`, and those that follow from what it takes. How often it may be
/// done is its own matter.
pub fn codes_of(operation: &Value, own: Vec<ErrorCode>) -> Vec<ErrorCode> {
    use ErrorCode as E;
    let takes = |place: &str| {
        operation["parameters"].as_array().is_some_and(|all| all.iter().any(|one| one["in"] == place))
    };
    let secured = operation["security"].as_array().is_some_and(|all| !all.is_empty());
    let has_body = operation.get("requestBody").is_some();
    let mut codes = own;
    let mut add = |when: bool, more: &[ErrorCode]| {
        codes.extend(more.iter().filter(|_| when));
    };
    add(takes("query") || has_body, &[E::InvalidRequest]);
    add(secured, &[E::Unauthenticated]);
    add(takes("path"), &[E::NotFound]);
    add(has_body, &[E::RequestTimeout, E::PayloadTooLarge, E::UnsupportedMediaType]);
    add(true, &[E::Internal, E::Unavailable]);
    ErrorCode::ALL.iter().copied().filter(|code| codes.contains(code)).collect()
}

/// Answers that refuse; operations share those with the same codes.
#[derive(Default)]
pub struct Refusals(Map<String, Value>);

impl Refusals {
    /// Adds to an operation its answer for each status of these codes.
    pub fn add_to(&mut self, operation: &mut Value, codes: &[ErrorCode]) {
        let mut by_status = BTreeMap::<StatusCode, Vec<ErrorCode>>::new();
        for code in codes {
            by_status.entry(meaning(*code).0).or_default().push(*code);
        }
        let counted = codes.contains(&ErrorCode::TooManyRequests);
        for (status, codes) in by_status {
            let names: Vec<_> = codes.iter().map(|code| code.as_str()).collect();
            let mark = if counted { ".counted" } else { "" };
            let name = format!("{}.{}{mark}", status.as_u16(), names.join("."));
            operation["responses"][status.as_str()] =
                json!({ "$ref": format!("#/components/responses/{name}") });
            self.0.entry(name).or_insert_with(|| response(status, &codes, counted));
        }
    }

    /// Those that were added.
    pub fn into_components(self) -> Value {
        self.0.into()
    }
}

fn response(status: StatusCode, codes: &[ErrorCode], counted: bool) -> Value {
    let description: Vec<_> =
        codes.iter().map(|code| format!("`{}`: {}", code.as_str(), code.meaning())).collect();
    let examples: Map<_, _> = codes.iter().map(|code| (code.as_str().to_owned(), example(*code))).collect();
    let names: Vec<_> = codes.iter().map(|code| code.as_str()).collect();
    let mut response = json!({
        "description": description.join("  \n"),
        "content": { "application/problem+json": {
            "schema": {
                "allOf": [
                    { "$ref": "#/components/schemas/Problem" },
                    { "type": "object", "properties": { "status": { "const": status.as_u16() }, "code": { "enum": names } } },
                ],
            },
            "examples": examples,
        } },
    });
    headers::add(&mut response, &["X-Request-Id"]);
    headers::add(&mut response, if counted { headers::OF_COUNTED } else { &[] });
    headers::add(
        &mut response,
        match status {
            StatusCode::UNAUTHORIZED => &["WWW-Authenticate"],
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => &["Retry-After"],
            _ => &[],
        },
    );
    response
}

fn example(code: ErrorCode) -> Value {
    let errors = match code {
        ErrorCode::InvalidRequest => {
            vec![FieldError::new("text", "too-long", "is 20000 bytes long, at most 16384 are allowed")]
        }
        _ => Vec::new(),
    };
    let detail = code.meaning();
    let request_id = example::ID.parse::<Uuid>().expect("the example is a UUID");
    let body = ProblemBody::new(code, &detail, request_id, &errors);
    json!({ "summary": meaning(code).1, "value": body })
}
