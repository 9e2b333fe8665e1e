//! JSON bodies.

use super::serde_error::field_error;
use crate::{ApiState, problem::Problem};
use axum::{
    body::Bytes,
    extract::{
        FromRequest, Request,
        rejection::{BytesRejection, FailedToBufferBody},
    },
    http::{HeaderMap, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use curlew_domain::{ErrorCode, FieldError, Refusal};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::error::Category;
use std::{fmt, marker::PhantomData};
use tokio::time::timeout;

/// A JSON object in a body: as an extractor a `T` that denies unknown fields, as an answer any `T`.
pub struct Json<T>(pub T);

/// As [`Json`], but no body at all means the default.
pub struct JsonOrEmpty<T>(pub T);

impl<T: DeserializeOwned> FromRequest<ApiState> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Problem> {
        require_json(request.headers())?;
        parse(&read_body(request, state).await?).map(Self)
    }
}

impl<T: DeserializeOwned + Default> FromRequest<ApiState> for JsonOrEmpty<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &ApiState) -> Result<Self, Problem> {
        let json = require_json(request.headers());
        let body = read_body(request, state).await?;
        if body.is_empty() {
            return Ok(Self(T::default()));
        }
        json?;
        parse(&body).map(Self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")) {
        return Ok(());
    }
    Err(Problem::new(ErrorCode::UnsupportedMediaType, "send the body with `Content-Type: application/json`"))
}

async fn read_body(request: Request, state: &ApiState) -> Result<Bytes, Problem> {
    let limits = state.limits;
    match timeout(limits.body_timeout, Bytes::from_request(request, state)).await {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)))) => {
            let detail = format!("the body is longer than {} bytes", limits.body_bytes);
            Err(Problem::new(ErrorCode::PayloadTooLarge, detail))
        }
        Ok(Err(_)) => Err(Problem::new(ErrorCode::InvalidRequest, "the body broke off")),
        Err(_) => {
            let detail = format!("the body did not arrive within {:?}", limits.body_timeout);
            Err(Problem::new(ErrorCode::RequestTimeout, detail))
        }
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut text = serde_json::Deserializer::from_slice(body);
    let parsed = serde_path_to_error::deserialize(&mut text)
        .map_err(|error| json_error(body, &error.path().to_string(), error.inner()))
        .and_then(|Object(value)| text.end().map(|()| value).map_err(|error| json_error(body, ".", &error)));
    parsed.map_err(|error| Refusal::invalid(vec![error]).into())
}

fn json_error(body: &[u8], path: &str, error: &serde_json::Error) -> FieldError {
    // serde_json calls some wrong values, such as a number for an enum's name, an error of syntax.
    if error.classify() == Category::Data || is_json(body) {
        return field_error(path, &error.to_string());
    }
    FieldError::new("", "malformed-json", format!("the body is not JSON: {error}"))
}

fn is_json(body: &[u8]) -> bool {
    std::str::from_utf8(body).is_ok_and(|body| serde_json::from_str::<IgnoredAny>(body).is_ok())
}

/// A `T` written as a JSON object. (What serde derives would take an array of the values in order, too.)
#[derive(Clone, Copy, Debug, Default)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

/// For a field that may be absent, `null` or a value: `#[serde(default, deserialize_with = "nullable")]`. Absent is `None`,
/// `null` is `Some(None)`.
pub fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Probe {
        #[expect(dead_code, reason = "only read")]
        user_id: String,
        #[expect(dead_code, reason = "only read")]
        device: Option<Object<Inner>>,
        #[expect(dead_code, reason = "only read")]
        #[serde(default)]
        list: Vec<String>,
        #[expect(dead_code, reason = "only read")]
        status: Option<curlew_domain::receipt::Status>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[expect(dead_code, reason = "only read")]
        name: String,
    }

    #[track_caller]
    fn refused(body: &str) -> (String, &'static str) {
        let problem = parse::<Probe>(body.as_bytes()).unwrap_err();
        assert_eq!(problem.code, ErrorCode::InvalidRequest);
        let [error] = problem.errors.try_into().unwrap();
        (error.field.into_owned(), error.code)
    }

    #[test]
    fn what_is_wrong_with_a_body_is_named_by_its_path() {
        assert!(parse::<Probe>(br#" {"userId":"x","device":{"name":"n"},"list":["a"]} "#).is_ok());
        assert_eq!(refused(r#"{"userId":"x","nick":1}"#), ("nick".into(), "unknown-field"));
        assert_eq!(refused(r#"{"userId":"x","device":{"nick":1}}"#), ("device.nick".into(), "unknown-field"));
        assert_eq!(refused("{}"), ("userId".into(), "required"));
        assert_eq!(refused(r#"{"userId":"x","device":{}}"#), ("device.name".into(), "required"));
        assert_eq!(refused(r#"{"userId":1}"#), ("userId".into(), "wrong-type"));
        assert_eq!(refused(r#"{"userId":"x","status":"GONE"}"#), ("status".into(), "unknown-value"));
        assert_eq!(refused(r#"{"userId":"x","status":5}"#), ("status".into(), "wrong-type"));
        assert_eq!(refused(r#"{"userId":"\ud800"}"#), ("userId".into(), "invalid"));
        assert_eq!(refused(r#"{"userId":"x","list":["a",2]}"#), ("list[1]".into(), "wrong-type"));
        assert_eq!(refused(r#"{"userId":"x","userId":"y"}"#), ("userId".into(), "duplicate-field"));
    }

    #[test]
    fn a_body_is_one_json_object() {
        for bad in ["", "{", "{\"userId\":\"x\"} x", "{'userId':1}", "\u{feff}{}", &"[".repeat(1000)] {
            let (field, code) = refused(bad);
            assert_eq!(field, "", "{bad}");
            assert!(["malformed-json", "wrong-type"].contains(&code), "{bad}: {code}");
        }
        for other in ["[\"x\"]", "null", "3", "\"x\""] {
            assert_eq!(refused(other), (String::new(), "wrong-type"), "{other}");
        }
        assert_eq!(refused(r#"{"userId":"x","device":["n"]}"#), ("device".into(), "wrong-type"));
    }

    #[test]
    fn invalid_utf_8_is_malformed() {
        assert_eq!(parse::<Probe>(b"{\"userId\":\"\xff\"}").unwrap_err().errors[0].code, "malformed-json");
    }

    #[test]
    fn the_body_is_said_to_be_json() {
        let said = |text| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(text))]);
            require_json(&headers).is_ok()
        };
        for good in ["application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json"] {
            assert!(said(good), "{good}");
        }
        for bad in ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"] {
            assert!(!said(bad), "{bad}");
        }
        assert!(require_json(&HeaderMap::new()).is_err());
    }
}
