//! The routes over a store that is away: what they refuse, and how.

mod failing_store;
mod harness;

use crate::{ApiState, HttpLimits, router};
use axum::{
    body::{Body, to_bytes},
    http::{
        Request, StatusCode,
        header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
};
use curlew_domain::{
    secret::Secret,
    services::credentials::{Credentials, OpaqueUse},
};
use failing_store::known_login;
use harness::{answer, api, bearer, secret, signed_in, state, strange};
use metrics_exporter_prometheus::PrometheusBuilder;
use tower::ServiceExt;
use uuid::Uuid;

const ID: &str = "0192f0c1-0000-7000-8000-000000000001";

/// Routes that need a sign-in; `{}` is an id.
const SIGNED_IN: &[(&str, &str)] = &[
    ("POST", "/api/auth/logout"),
    ("GET", "/api/auth/profile"),
    ("PUT", "/api/auth/update-profile"),
    ("PUT", "/api/auth/password"),
    ("GET", "/api/auth/privacy"),
    ("PUT", "/api/auth/privacy"),
    ("DELETE", "/api/auth/delete-profile"),
    ("GET", "/api/devices"),
    ("PATCH", "/api/devices/{}"),
    ("DELETE", "/api/devices/{}"),
    ("POST", "/api/contacts/request"),
    ("PATCH", "/api/contacts/request/{}/accept"),
    ("DELETE", "/api/contacts/request/{}/reject"),
    ("POST", "/api/contacts/block"),
    ("PATCH", "/api/contacts/unblock/{}"),
    ("DELETE", "/api/contacts/{}"),
    ("GET", "/api/contacts"),
    ("GET", "/api/contacts/pending"),
    ("GET", "/api/contacts/blocked"),
    ("GET", "/api/contacts/search?q=x"),
    ("GET", "/api/notifications"),
    ("GET", "/api/notifications/count"),
    ("GET", "/api/notifications/all-counts"),
    ("POST", "/api/notifications/clear/{}"),
    ("POST", "/api/notifications/mark-contacts-viewed"),
    ("POST", "/api/chats"),
    ("GET", "/api/chats"),
    ("GET", "/api/chats/{}"),
    ("GET", "/api/chats/{}/members"),
    ("POST", "/api/chats/{}/members"),
    ("DELETE", "/api/chats/{}/members/{}"),
    ("POST", "/api/chats/{}/leave"),
    ("POST", "/api/chats/{}/messages"),
    ("GET", "/api/chats/{}/messages"),
    ("GET", "/api/chats/{}/events"),
    ("POST", "/api/chats/{}/messages/delivered"),
    ("POST", "/api/chats/{}/messages/read"),
    ("PATCH", "/api/chats/{}"),
    ("PATCH", "/api/chats/{}/members/{}"),
    ("PATCH", "/api/chats/{}/settings"),
    ("PATCH", "/api/chats/messages/{}"),
    ("DELETE", "/api/chats/messages/{}"),
    ("PATCH", "/api/chats/messages/{}/status"),
    ("POST", "/api/chats/messages/{}/reactions"),
    ("GET", "/api/chats/messages/{}/replies"),
    ("GET", "/api/chats/messages/{}/info"),
    ("POST", "/api/chats/messages/{}/forward"),
    ("GET", "/api/users/{}"),
];

#[tokio::test]
async fn strangers_are_refused_on_every_route() {
    let api = api().await;
    for (method, path) in SIGNED_IN {
        // Malformed ids and bodies change nothing: who asks comes first.
        for id in [ID, "7"] {
            let answer = strange(&api, method, &path.replace("{}", id)).await;
            assert_eq!(
                (answer.status, answer.code()),
                (StatusCode::UNAUTHORIZED, "unauthenticated"),
                "{method} {path}"
            );
            assert_eq!(answer.headers[WWW_AUTHENTICATE], "Bearer");
        }
    }
}

#[tokio::test]
async fn what_is_no_token_of_ours_is_refused() {
    let api = api().await;
    let forged =
        Credentials::new(&Secret::new(vec![4; 32])).make_opaque(OpaqueUse::DeviceToken, known_login());
    let unknown = Credentials::new(&secret()).make_opaque(OpaqueUse::DeviceToken, Uuid::from_u128(8).into());
    let mqtt_only = Credentials::new(&secret()).make_opaque(OpaqueUse::Mqtt, known_login());
    let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiIwIiwiZXhwIjo5OTk5OTk5OTk5fQ.";
    for token in ["x", none, forged.expose(), unknown.expose(), mqtt_only.expose(), "\u{e9}"] {
        let request = Request::get("/api/auth/profile").header(AUTHORIZATION, format!("Bearer {token}"));
        let answer = answer(&api, request.body(Body::empty()).unwrap()).await;
        assert_eq!((answer.status, answer.code()), (StatusCode::UNAUTHORIZED, "unauthenticated"), "{token}");
    }
}

#[tokio::test]
async fn a_malformed_id_in_a_path_names_nothing() {
    let api = api().await;
    for (method, path) in SIGNED_IN.iter().filter(|(_, path)| path.contains("{}")) {
        for id in ["7", "%FF", "%00", "nobody"] {
            let answer = signed_in(&api, method, &path.replace("{}", id), "{}").await;
            assert_eq!(
                (answer.status, answer.code()),
                (StatusCode::NOT_FOUND, "not-found"),
                "{method} {path} {id}"
            );
        }
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let api = api().await;
    for path in ["/", "/api", "/api/", "/nothing", "/api/chats/", "/api/chats/x/y", "/mqtt"] {
        let answer = strange(&api, "GET", path).await;
        assert_eq!((answer.status, answer.code()), (StatusCode::NOT_FOUND, "not-found"), "{path}");
    }
    for (method, path, allowed) in [
        ("DELETE", "/api/chats", "GET,HEAD,POST"),
        ("MAKE-UP", "/api/auth/login", "POST"),
        ("PUT", "/healthz", "GET,HEAD"),
    ] {
        let answer = strange(&api, method, path).await;
        assert_eq!((answer.status, answer.code()), (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed"));
        let mut methods: Vec<_> = answer.headers[ALLOW].to_str().unwrap().split(',').collect();
        methods.sort_unstable();
        assert_eq!(methods.join(","), allowed);
    }
}

#[tokio::test]
async fn a_store_that_is_away_is_503_without_its_reasons() {
    let api = api().await;
    let bodies = [
        ("/api/chats", r#"{"type":"group","name":"us","memberIds":[]}"#.to_owned()),
        ("/api/chats/{}/members", format!(r#"{{"userIds":["{ID}"]}}"#)),
        ("/api/chats/{}/messages", r#"{"type":"TEXT","text":"hello"}"#.to_owned()),
        ("/api/chats/{}", "{}".to_owned()),
        ("/api/chats/{}/members/{}", r#"{"role":"admin"}"#.to_owned()),
        ("/api/chats/{}/settings", "{}".to_owned()),
        ("/api/chats/messages/{}", r#"{"text":"x"}"#.to_owned()),
        ("/api/chats/messages/{}/status", r#"{"status":"READ"}"#.to_owned()),
        ("/api/chats/messages/{}/reactions", r#"{"emoji":null}"#.to_owned()),
        ("/api/chats/messages/{}/forward", format!(r#"{{"chatIds":["{ID}"]}}"#)),
        ("/api/auth/update-profile", "{}".to_owned()),
        (
            "/api/auth/password",
            r#"{"currentPassword":"correct horse","newPassword":"correct horse"}"#.to_owned(),
        ),
        ("/api/auth/privacy", "{}".to_owned()),
        ("/api/auth/delete-profile", r#"{"password":"correct horse"}"#.to_owned()),
        ("/api/devices/{}", r#"{"name":"phone"}"#.to_owned()),
        ("/api/contacts/request", format!(r#"{{"userId":"{ID}"}}"#)),
        ("/api/contacts/block", format!(r#"{{"userId":"{ID}"}}"#)),
    ];
    let panics = "/api/chats/{}/events";
    for (method, path) in SIGNED_IN.iter().filter(|(_, path)| *path != panics) {
        let body = bodies.iter().find(|(of, _)| of == path && *method != "GET").map_or("", |(_, body)| body);
        let answer = signed_in(&api, method, &path.replace("{}", ID), body).await;
        assert_eq!(
            (answer.status, answer.code()),
            (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            "{method} {path}"
        );
        assert_eq!(answer.headers[RETRY_AFTER], "1");
    }
    let ready = strange(&api, "GET", "/readyz").await;
    assert_eq!((ready.status, ready.code()), (StatusCode::SERVICE_UNAVAILABLE, "unavailable"));
    assert_eq!(strange(&api, "GET", "/healthz").await.status, StatusCode::OK);
    let registration = r#"{"username":"bob","password":"correct horse","displayName":"Bob"}"#;
    for (path, body) in [("register", registration), ("login", r#"{"login":"bob","password":"x"}"#)] {
        let answer = signed_in(&api, "POST", &format!("/api/auth/{path}"), body).await;
        assert_eq!(
            (answer.status, answer.code()),
            (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_panic_is_a_500_without_its_reasons() {
    let answer = signed_in(&api().await, "GET", &format!("/api/chats/{ID}/events"), "").await;
    assert_eq!((answer.status, answer.code()), (StatusCode::INTERNAL_SERVER_ERROR, "internal"));
}

#[tokio::test]
async fn bodies_are_json_of_bounded_length_with_known_fields() {
    let api = api().await;
    let messages = format!("/api/chats/{ID}/messages");
    let send = async |body: &str| signed_in(&api, "POST", &messages, body).await;
    assert_eq!(send("").await.field(), ("", "malformed-json"));
    assert_eq!(send("[]").await.field(), ("", "wrong-type"));
    assert_eq!(send(r#"{"type":"TEXT","text":"x","txt":1}"#).await.field(), ("txt", "unknown-field"));
    assert_eq!(send(r#"{"text":"x"}"#).await.field(), ("type", "required"));
    assert_eq!(send(r#"{"type":"IMAGE"}"#).await.field(), ("type", "unknown-value"));
    assert_eq!(send(r#"{"type":"TEXT","text":7}"#).await.field(), ("text", "wrong-type"));
    assert_eq!(send(r#"{"type":"TEXT"}"#).await.field(), ("text", "empty"));
    let long = send(&format!(r#"{{"type":"TEXT","text":"{}"}}"#, "x".repeat(16 * 1024 + 1))).await;
    assert_eq!(long.field(), ("text", "too-long"));
    let long = send(&format!(r#"{{"type":"TEXT","text":"{}"}}"#, "x".repeat(64 * 1024))).await;
    assert_eq!((long.status, long.code()), (StatusCode::PAYLOAD_TOO_LARGE, "payload-too-large"));

    let form =
        Request::post(&messages).header(AUTHORIZATION, bearer()).body(Body::from("text=hello")).unwrap();
    let form = answer(&api, form).await;
    assert_eq!((form.status, form.code()), (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type"));
}

#[tokio::test]
async fn a_body_may_be_absent_where_all_of_it_is_optional() {
    let api = api().await;
    for path in ["/api/auth/logout", &format!("/api/chats/{ID}/messages/read")] {
        let bare = Request::post(path).header(AUTHORIZATION, bearer()).body(Body::empty()).unwrap();
        assert_eq!(answer(&api, bare).await.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert_eq!(
            signed_in(&api, "POST", path, "{}").await.status,
            StatusCode::SERVICE_UNAVAILABLE,
            "{path}"
        );
        assert_eq!(
            signed_in(&api, "POST", path, r#"{"all":1}"#).await.field(),
            ("all", "unknown-field"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn unknown_query_parameters_are_named() {
    let api = api().await;
    for path in [
        "/api/chats",
        "/api/contacts",
        &format!("/api/chats/{ID}/messages"),
        &format!("/api/chats/{ID}/events"),
    ] {
        let answer = signed_in(&api, "GET", &format!("{path}?before=3"), "").await;
        assert_eq!(answer.field(), ("before", "unknown-field"), "{path}");
        let answer = signed_in(&api, "GET", &format!("{path}?limit=201"), "").await;
        assert_eq!(answer.field(), ("limit", "out-of-range"), "{path}");
    }
}

#[tokio::test]
async fn metrics_are_not_there_for_strangers() {
    let answer = strange(&api().await, "GET", "/metrics").await;
    assert_eq!((answer.status, answer.code()), (StatusCode::NOT_FOUND, "not-found"));
}

#[tokio::test]
async fn requests_are_counted_by_route_and_status_and_by_nothing_a_caller_makes_up() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let api = router(ApiState { metrics: Some(recorder.handle()), metrics_public: true, ..state().await });
    strange(&api, "GET", &format!("/api/chats/{ID}?x=1")).await;
    strange(&api, "MAKE-UP", "/nothing").await;

    let request = Request::get("/metrics").body(Body::empty()).unwrap();
    let page = api.oneshot(request).await.unwrap().into_body();
    let page = String::from_utf8(to_bytes(page, usize::MAX).await.unwrap().to_vec()).unwrap();
    let counted: Vec<_> =
        page.lines().filter(|line| line.starts_with("curlew_http_requests_total{")).collect();
    assert_eq!(counted.len(), 2, "{page}");
    for line in [
        r#"curlew_http_requests_total{route="GET /api/chats/{chatId}",status="401"} 1"#,
        r#"curlew_http_requests_total{route="OTHER none",status="404"} 1"#,
    ] {
        assert!(counted.contains(&line), "{page}");
    }
}

#[tokio::test]
async fn requests_beyond_the_bound_are_turned_away() {
    let limits = HttpLimits { in_flight: 0, ..HttpLimits::default() };
    let api = router(ApiState { limits, ..state().await });
    let answer = strange(&api, "GET", "/healthz").await;
    assert_eq!((answer.status, answer.code()), (StatusCode::SERVICE_UNAVAILABLE, "unavailable"));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_arrive_is_408() {
    let endless = futures_util::stream::pending::<Result<axum::body::Bytes, std::io::Error>>();
    let request = Request::post("/api/auth/login").header(CONTENT_TYPE, "application/json");
    let request = request.body(Body::from_stream(endless)).unwrap();
    let answer = answer(&api().await, request).await;
    assert_eq!((answer.status, answer.code()), (StatusCode::REQUEST_TIMEOUT, "request-timeout"));
}
