//! The REST surface: routes, extractors and the problem+json mapper, thin over [`curlew_domain::services::Services`].
//! No rule about who may do what lives here.
//!
//! A request passes `exchange` (request id, span, metrics, bounds), then the `routes`, whose handlers take what the
//! `extract`ors read; whatever fails becomes a [`problem::Problem`], which `exchange` writes out.

mod etag;
mod exchange;
mod extract;
mod fields;
pub mod limits;
mod openapi;
pub mod problem;
mod routes;
mod security;
mod state;

#[cfg(test)]
mod tests;

pub use limits::RateLimits;
pub use routes::router;
pub use security::protect;
pub use state::{ApiState, CorsOrigins, HttpLimits};
