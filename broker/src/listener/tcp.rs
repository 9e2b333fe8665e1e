//! MQTT over TCP.

use super::gate::{self, Gate};
use crate::connection::{Edge, serve};
use std::{net::SocketAddr, sync::Arc};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, Span};

/// Accepts connections until `stop`, each in a task of `tasks`. One for which there is no place is closed at once.
pub async fn run(
    listener: TcpListener,
    gate: Arc<Gate>,
    edge: Arc<Edge>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let serve = move |socket, address| serve(socket, Arc::clone(&edge)).instrument(span("tcp", address));
    gate::run(listener, gate, tasks, stop, serve).await;
}

/// Of one connection; `peer` is where it really comes from.
pub(super) fn span(over: &'static str, peer: SocketAddr) -> Span {
    tracing::info_span!("mqtt", over, %peer, user = tracing::field::Empty, client_id = tracing::field::Empty)
}
