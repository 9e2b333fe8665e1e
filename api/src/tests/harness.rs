//! The router over [`FailingStore`], a caller, and what every problem has in common.

use super::failing_store::{CAUSE, FailingStore, NoConnections, known_login};
use crate::{ApiState, router};
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{
        HeaderMap, Request, StatusCode,
        header::{AUTHORIZATION, CONTENT_TYPE},
    },
};
use curlew_domain::{
    secret::Secret,
    services::{
        AccountsConfig, Base, Endpoints, Limits, RegistrationMode, Services,
        credentials::{Credentials, OpaqueUse},
    },
};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tower::ServiceExt;

pub fn secret() -> Secret<Vec<u8>> {
    Secret::new(vec![3; 32])
}

pub async fn state() -> ApiState {
    let accounts = AccountsConfig {
        secret: secret(),
        access_token_ttl: Duration::from_mins(15),
        bcrypt_cost: 4,
        registration: RegistrationMode::Open,
        device_limit: 10,
        endpoints: Endpoints { tcp: String::new(), tls: None, ws: String::new() },
    };
    let base = Base::new(Arc::new(FailingStore), Arc::new(NoConnections));
    ApiState::new(Services::new(base, accounts, Limits::default()).await.unwrap())
}

pub async fn api() -> Router {
    router(state().await)
}

pub fn bearer() -> String {
    let token = Credentials::new(&secret()).make_opaque(OpaqueUse::DeviceToken, known_login());
    format!("Bearer {}", token.expose())
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    /// Checks what every problem has in common, and answers its code.
    #[track_caller]
    pub fn code(&self) -> &str {
        let Self { status, headers, body } = self;
        assert_eq!(headers[CONTENT_TYPE], "application/problem+json", "{body}");
        assert_eq!(body["status"], status.as_u16(), "{body}");
        assert_eq!(body["requestId"], headers["x-request-id"].to_str().unwrap(), "{body}");
        assert!(
            body["title"].is_string() && body["detail"].is_string() && body["errors"].is_array(),
            "{body}"
        );
        assert!(!body.to_string().contains(CAUSE), "{body}");
        let code = body["code"].as_str().unwrap();
        assert_eq!(body["type"], format!("urn:curlew:error:{code}"));
        code
    }

    /// Field and code of its first field error.
    #[track_caller]
    pub fn field(&self) -> (&str, &str) {
        assert_eq!((self.status, self.code()), (StatusCode::BAD_REQUEST, "invalid-request"));
        let error = &self.body["errors"][0];
        (error["field"].as_str().unwrap(), error["code"].as_str().unwrap())
    }
}

pub async fn answer(api: &Router, request: Request<Body>) -> Answer {
    let response = api.clone().oneshot(request).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    Answer { status, headers, body: serde_json::from_slice(&body).unwrap_or_default() }
}

pub async fn strange(api: &Router, method: &str, path: &str) -> Answer {
    answer(api, Request::builder().method(method).uri(path).body(Body::empty()).unwrap()).await
}

pub async fn signed_in(api: &Router, method: &str, path: &str, body: &str) -> Answer {
    let request = Request::builder().method(method).uri(path).header(AUTHORIZATION, bearer());
    let request = request.header(CONTENT_TYPE, "application/json");
    answer(api, request.body(Body::from(body.to_owned())).unwrap()).await
}
