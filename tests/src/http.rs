//! REST, as a client with a bearer token uses it.

use crate::{server::Endpoints, wait::within};
pub use reqwest::Method;
use reqwest::{
    Client,
    header::{HeaderMap, HeaderName},
};
use serde_json::Value;
use std::sync::Arc;

/// A client of the REST interface.
#[derive(Clone, Debug)]
pub struct Http {
    endpoints: Arc<Endpoints>,
    client: Client,
    token: Option<String>,
    /// `If-None-Match`.
    known: Option<String>,
}

impl Http {
    /// A client that presents `token`, if there is one.
    pub fn new(endpoints: Arc<Endpoints>, token: Option<String>) -> Self {
        Self { endpoints, client: Client::new(), token, known: None }
    }

    /// The same client with another token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The same client, which has the answer with this `ETag`.
    #[must_use]
    pub fn that_knows(&self, etag: &str) -> Self {
        Self { known: Some(etag.to_owned()), ..self.clone() }
    }

    /// The same client, which sends these header fields, too, and no others of this kind.
    #[must_use]
    pub fn with_headers(&self, fields: &[(&str, &str)]) -> Self {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::try_from(*name).expect("a name");
            headers.append(name, value.parse().expect("a value"));
        }
        let client = Client::builder().default_headers(headers).build().expect("a client");
        Self { client, ..self.clone() }
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path, None).await
    }

    /// POST with a JSON body.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.request(Method::POST, path, Some(body)).await
    }

    /// POST without a body.
    pub async fn post_nothing(&self, path: &str) -> Answer {
        self.request(Method::POST, path, None).await
    }

    /// PATCH without a body.
    pub async fn patch_nothing(&self, path: &str) -> Answer {
        self.request(Method::PATCH, path, None).await
    }

    /// PATCH with a JSON body.
    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.request(Method::PATCH, path, Some(body)).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Answer {
        self.request(Method::DELETE, path, None).await
    }

    /// PUT.
    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.request(Method::PUT, path, Some(body)).await
    }

    /// DELETE with a body.
    pub async fn delete_with(&self, path: &str, body: Value) -> Answer {
        self.request(Method::DELETE, path, Some(body)).await
    }

    /// A request that must be answered.
    pub async fn request(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        let what = format!("{method} {path}");
        let body = body.map(|body| ("application/json", body.to_string().into_bytes()));
        let answer = within(format!("the answer to {what}"), self.try_request(method, path, body)).await;
        answer.unwrap_or_else(|error| panic!("{what}: {error:?}"))
    }

    /// A body as it is, of whatever type.
    pub async fn send_raw(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: impl Into<Vec<u8>>,
    ) -> Answer {
        let what = format!("{method} {path}");
        let body = body.into();
        let mut failed = None;
        // A server that refuses a body may answer and close before it was sent: then the answer can be lost.
        for _ in 0..3 {
            let sent = self.try_request(method.clone(), path, Some((content_type, body.clone())));
            match within(format!("the answer to {what}"), sent).await {
                Ok(answer) => return answer,
                Err(error) => failed = Some(error),
            }
        }
        panic!("{what}: {failed:?}")
    }

    /// A request whose connection may break.
    pub async fn try_request(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> reqwest::Result<Answer> {
        let what = format!("{method} {path}");
        // Everything that is not at the root is below `/api`.
        let base =
            if ["/docs", "/docs/", "/healthz", "/readyz", "/metrics"].contains(&path) { "" } else { "/api" };
        let mut request =
            self.client.request(method, format!("http://{}{base}{path}", self.endpoints.http()));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(etag) = &self.known {
            request = request.header("If-None-Match", etag);
        }
        if let Some((content_type, body)) = body {
            request = request.header("Content-Type", content_type).body(body);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer { what, status, headers, text: response.text().await? })
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    what: String,
    /// HTTP status.
    pub status: u16,
    /// Header fields.
    pub headers: HeaderMap,
    /// Body.
    pub text: String,
}

impl Answer {
    /// The body of an answer with this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.what, self.text);
        self.json()
    }

    /// The body, null when there is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        if self.text.is_empty() {
            return Value::Null;
        }
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{}: {error}: {}", self.what, self.text))
    }

    /// The body, null when it is none of JSON.
    pub fn json_or_null(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// A header field, empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body of a refusal, which must be a problem in the full form of the contract.
    #[track_caller]
    pub fn expect_problem(self, status: u16, code: &str) -> Value {
        let what = format!("{}: {} {}", self.what, self.status, self.text);
        assert_eq!(self.header("content-type"), "application/problem+json", "{what}");
        let request_id = self.header("x-request-id").to_owned();
        let body = self.json();
        assert_eq!((self.status, body["code"].as_str()), (status, Some(code)), "{what}");
        assert_eq!(body["status"], status, "{what}");
        assert_eq!(body["requestId"], request_id.as_str(), "{what}");
        for field in ["type", "title", "detail"] {
            assert!(body[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {what}");
        }
        assert!(body["errors"].is_array(), "{what}");
        let mut fields: Vec<_> = body.as_object().expect("an object").keys().map(String::as_str).collect();
        fields.sort_unstable();
        // The one code with a member of its own.
        fields.retain(|field| code != "device-limit" || *field != "devices");
        assert_eq!(fields, ["code", "detail", "errors", "requestId", "status", "title", "type"], "{what}");
        body
    }

    /// The (field, code) pairs of an invalid request.
    #[track_caller]
    pub fn expect_invalid(self) -> Vec<(String, String)> {
        let what = self.what.clone();
        let body = self.expect_problem(400, "invalid-request");
        let errors = body["errors"].as_array().cloned().unwrap_or_default();
        assert!(!errors.is_empty(), "{what} names no field: {body}");
        let text = |value: &Value| value.as_str().map_or_else(|| panic!("{what}: {body}"), str::to_owned);
        errors
            .iter()
            .map(|error| {
                assert!(!text(&error["detail"]).is_empty(), "{what}: {body}");
                (text(&error["field"]), text(&error["code"]))
            })
            .collect()
    }
}
