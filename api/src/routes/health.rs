//! For operators and their machines: `/healthz`, `/readyz`, `/metrics`.

use crate::{ApiState, extract::Json, openapi::Routes, problem::Problem};
use axum::{
    extract::{ConnectInfo, Request, State},
    http::header::{CONTENT_TYPE, FORWARDED},
    response::IntoResponse,
};
use curlew_domain::{ErrorCode, services::Services};
use serde::Serialize;
use std::{net::SocketAddr, time::Duration};
use tokio::time::timeout;
use utoipa::ToSchema;
use utoipa_axum::routes;

/// A database that takes longer is not ready.
const READY_WITHIN: Duration = Duration::from_secs(2);

pub fn routes() -> Routes {
    Routes::of("service").add(routes!(show_health)).add(routes!(show_readiness)).add(routes!(show_metrics))
}

#[derive(Serialize, ToSchema)]
struct Health {
    status: &'static str,
}

/// Ask whether the process answers
#[utoipa::path(
    get,
    path = "/healthz",
    security(()),
    responses((status = 200, description = "It does.", body = Health)),
)]
async fn show_health() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Ask whether the database answers
#[utoipa::path(
    get,
    path = "/readyz",
    security(()),
    responses((status = 200, description = "It does.", body = Health)),
)]
async fn show_readiness(State(services): State<Services>) -> Result<Json<Health>, Problem> {
    match timeout(READY_WITHIN, services.messaging.ping()).await {
        Ok(outcome) => outcome?,
        Err(_) => {
            return Err(Problem::unavailable(format!("the database did not answer within {READY_WITHIN:?}")));
        }
    }
    Ok(Json(Health { status: "ready" }))
}

/// Read metrics
///
/// In the text format of Prometheus. Others than loopback find nothing here unless the operator wishes it.
#[utoipa::path(
    get,
    path = "/metrics",
    security(()),
    responses((status = 200, description = "The metrics.", body = String, content_type = "text/plain")),
    extensions(("x-error-codes" = json!([ErrorCode::NotFound]))),
)]
async fn show_metrics(State(state): State<ApiState>, request: Request) -> Result<impl IntoResponse, Problem> {
    match state.metrics {
        Some(metrics) if state.metrics_public || is_local(&request) => {
            Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], metrics.render()))
        }
        _ => Err(Problem::not_found()),
    }
}

/// Whether the request comes from this machine, and not through a proxy that runs on it.
fn is_local(request: &Request) -> bool {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let proxied =
        request.headers().contains_key(FORWARDED) || request.headers().contains_key("x-forwarded-for");
    !proxied && peer.is_some_and(|ConnectInfo(peer)| peer.ip().to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    #[test]
    fn only_this_machine_is_local() {
        let local = |peer: &str, header: Option<&'static str>| {
            let mut request = Request::new(Body::empty());
            request.extensions_mut().insert(ConnectInfo(peer.parse::<SocketAddr>().unwrap()));
            if let Some(header) = header {
                request.headers_mut().insert(header, "203.0.113.9".parse().unwrap());
            }
            is_local(&request)
        };
        assert!(local("127.0.0.1:5000", None));
        assert!(local("[::1]:5000", None));
        assert!(local("[::ffff:127.0.0.1]:5000", None));
        assert!(!local("192.0.2.1:5000", None));
        assert!(!local("127.0.0.1:5000", Some("x-forwarded-for")));
        assert!(!is_local(&Request::new(Body::empty())));
    }
}
