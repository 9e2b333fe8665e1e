//! SIGTERM and Ctrl-C: the first stops in order, the second at once.

use crate::failure::Failure;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Both signals; from [`Signals::listen`] on they no longer end the process by themselves.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes over both signals.
    pub fn listen() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(anyhow::Error::from);
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Cancels `shutdown` at the first signal; returns at the second.
    pub async fn second(mut self, shutdown: &CancellationToken) {
        self.next().await;
        tracing::info!("stopping; a second signal stops at once");
        shutdown.cancel();
        self.next().await;
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
