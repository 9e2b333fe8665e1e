//! What the routes are built on.

use crate::limits::{Limiter, RateLimits};
use axum::{extract::FromRef, http::HeaderValue};
use curlew_domain::services::Services;
use metrics_exporter_prometheus::PrometheusHandle;
use std::{sync::Arc, time::Duration};
use tokio_util::task::TaskTracker;

/// What the routes are built on.
#[derive(Clone)]
pub struct ApiState {
    /// What a surface may ask for.
    pub services: Services,
    /// Renders `/metrics`; without it that page is not found.
    pub metrics: Option<PrometheusHandle>,
    /// Whether `/metrics` answers others than loopback.
    pub metrics_public: bool,
    /// Bounds.
    pub limits: HttpLimits,
    /// How often a client may do it.
    pub limiter: Arc<Limiter>,
    /// Pages of other origins that may use the API from a browser.
    pub cors: CorsOrigins,
    /// Owns requests under way: a request that was taken up is carried through even when its client hangs up. At
    /// shutdown, after the listener is closed: `close`, then `wait`.
    pub tasks: TaskTracker,
}

impl ApiState {
    /// With the default bounds, without rate limits and metrics.
    pub fn new(services: Services) -> Self {
        Self {
            services,
            metrics: None,
            metrics_public: false,
            limits: HttpLimits::default(),
            limiter: Arc::new(Limiter::new(RateLimits::default(), Arc::default())),
            cors: CorsOrigins::None,
            tasks: TaskTracker::new(),
        }
    }
}

impl FromRef<ApiState> for Services {
    fn from_ref(state: &ApiState) -> Self {
        state.services.clone()
    }
}

/// Pages of which origins may use the API from a browser.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CorsOrigins {
    /// Of this server alone.
    #[default]
    None,
    /// Of these.
    Only(Vec<HeaderValue>),
    /// Of all.
    Any,
}

/// Bounds on requests.
#[derive(Clone, Copy, Debug)]
pub struct HttpLimits {
    /// Most bytes of a JSON body; a longer one is 413. Must have room for a text of the greatest length, escaped.
    pub body_bytes: usize,
    /// A body that has not arrived by then is 408.
    pub body_timeout: Duration,
    /// A request that is not done by then is answered 503; what it began is carried through.
    pub request_timeout: Duration,
    /// Most requests under way at once; a further one is 503.
    pub in_flight: usize,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            body_bytes: 64 * 1024,
            body_timeout: Duration::from_secs(15),
            request_timeout: Duration::from_secs(30),
            in_flight: 4096,
        }
    }
}
