//! Around every request: its id, span and metrics, its bounds, and the writing out of what went wrong.

use crate::{ApiState, limits::Noted, problem::Problem};
use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header::CACHE_CONTROL},
    middleware::Next,
    response::{IntoResponse, Response},
};
use curlew_domain::ErrorCode;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span, field::Empty};
use uuid::Uuid;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Route label of what matched none, so that callers cannot make new ones.
const NO_ROUTE: &str = "none";

/// Gives the request its id, span and metrics; logs and writes out its problem. Around it are only layers that mark
/// and pack answers.
pub async fn observe(mut request: Request, next: Next) -> Response {
    let noted = Noted::default();
    request.extensions_mut().insert(noted.clone());
    let begun = Instant::now();
    let id = Uuid::now_v7();
    let path = request.extensions().get::<MatchedPath>().cloned();
    let path = path.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    let route = format!("{} {path}", method_name(request.method()));
    let span =
        tracing::info_span!("request", method = %request.method(), path, request_id = %id, user = Empty);

    let response = next.run(request).instrument(span.clone()).await;
    let mut response = span.in_scope(|| settle(response, id));

    let headers = response.headers_mut();
    noted.write(headers);
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        headers.insert(REQUEST_ID, id);
    }
    let elapsed = begun.elapsed();
    let status = response.status().as_u16();
    span.in_scope(|| tracing::debug!(status, elapsed_us = elapsed.as_micros(), "answered"));
    metrics::counter!("curlew_http_requests_total", "route" => route.clone(), "status" => status.to_string())
        .increment(1);
    metrics::histogram!("curlew_http_request_seconds", "route" => route).record(elapsed.as_secs_f64());
    response
}

/// Turns a problem, ours or one that axum made, into its body; its cause is logged here and nowhere else.
fn settle(mut response: Response, id: Uuid) -> Response {
    let status = response.status();
    let problem = response.extensions_mut().remove::<Problem>();
    let failed = status.is_client_error() || status.is_server_error();
    if let Some(problem) = problem.or_else(|| failed.then(|| Problem::of_status(status))) {
        match (problem.status(), &problem.cause) {
            (StatusCode::SERVICE_UNAVAILABLE, Some(cause)) => tracing::warn!(%cause, "request not served"),
            (_, Some(cause)) => tracing::error!(%cause, "request failed"),
            (_, None) => {}
        }
        response = problem.render(id);
    }
    // Answers are personal, and out of date with the next message, unless a route says otherwise.
    response.headers_mut().entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// A method as a label; whatever a client makes up is `OTHER`.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

/// What [`contain`] needs.
#[derive(Clone)]
pub struct Containment {
    places: Arc<Semaphore>,
    timeout: Duration,
    tasks: TaskTracker,
}

impl Containment {
    pub fn of(state: &ApiState) -> Self {
        Self {
            places: Arc::new(Semaphore::new(state.limits.in_flight)),
            timeout: state.limits.request_timeout,
            tasks: state.tasks.clone(),
        }
    }
}

/// Runs the request as a task of its own, one of a bounded number. So a client that hangs up does not stop a write between
/// its commit and its effects (a logout that has ended the login but not yet the connections), and a panic becomes a 500.
pub async fn contain(State(containment): State<Containment>, request: Request, next: Next) -> Response {
    let Containment { places, timeout: patience, tasks } = containment;
    let Ok(place) = places.try_acquire_owned() else {
        return Problem::unavailable("too many requests are under way").into_response();
    };
    let work = async move {
        let _place = place;
        next.run(request).await
    };
    match timeout(patience, tasks.spawn(work.instrument(Span::current()))).await {
        Ok(Ok(response)) => response,
        Ok(Err(ended)) if ended.is_panic() => Problem::internal("a handler panicked").into_response(),
        Ok(Err(_)) => Problem::unavailable("the server is stopping").into_response(),
        Err(_) => Problem::unavailable(format!("not done within {patience:?}")).into_response(),
    }
}

/// What no route matches.
pub async fn refuse_unknown_path() -> Problem {
    Problem::new(ErrorCode::NotFound, "there is no such path")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, body::Body, middleware, routing::post};
    use tokio::sync::Notify;
    use tower::ServiceExt;

    fn bounded(timeout: Duration) -> Containment {
        Containment { places: Arc::new(Semaphore::new(1)), timeout, tasks: TaskTracker::new() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_takes_too_long_is_503() {
        let app = Router::new()
            .route("/", post(std::future::pending::<()>))
            .layer(middleware::from_fn_with_state(bounded(Duration::from_secs(30)), contain));
        let response = app.oneshot(Request::post("/").body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[tokio::test]
    async fn a_request_is_carried_through_when_its_client_hangs_up() {
        let [begun, go, done] = [(); 3].map(|()| Arc::new(Notify::new()));
        let handler = {
            let [begun, go, done] = [&begun, &go, &done].map(Arc::clone);
            async move || {
                begun.notify_one();
                go.notified().await;
                done.notify_one();
            }
        };
        let containment = bounded(Duration::MAX);
        let app = Router::new()
            .route("/", post(handler))
            .layer(middleware::from_fn_with_state(containment.clone(), contain));
        let request = Request::post("/").body(Body::empty()).unwrap();
        tokio::select! {
            _ = app.oneshot(request) => panic!("answered before it was done"),
            () = begun.notified() => {}
        }
        assert_eq!(containment.tasks.len(), 1);
        go.notify_one();
        done.notified().await;
    }
}
