//! The server's side of the socket.

use super::{
    AdminError, AdminHandler, AdminListener, AdminReply, AdminRequest,
    wire::{read_message, write_message},
};
use curlew_domain::ErrorCode;
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::BufReader,
    net::UnixStream,
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long a request may take to arrive, and a reply to be taken.
const LINE_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests at work; more wait in the socket's backlog.
const MAX_CONNECTIONS: usize = 16;
/// After a failing accept (no file descriptors left, as a rule).
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Answers requests, one a connection, until `shutdown`. Then finishes those that are at work and removes the socket.
pub async fn serve_admin<H: AdminHandler>(
    listener: AdminListener,
    handler: Arc<H>,
    shutdown: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let tasks = TaskTracker::new();
    let accept = async {
        loop {
            let place = Arc::clone(&places).acquire_owned().await.expect("never closed");
            match listener.listener.accept().await {
                Ok((stream, _)) => {
                    let (handler, shutdown) = (Arc::clone(&handler), shutdown.clone());
                    tasks.spawn(async move {
                        if let Err(error) = answer(stream, handler.as_ref(), &shutdown).await {
                            tracing::debug!(%error, "an admin connection failed");
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an admin connection");
                    sleep(ACCEPT_AGAIN_AFTER).await;
                }
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = accept => {}
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

/// One request and its reply. A request that was read is carried out and answered whatever happens; one that is still
/// on its way at `shutdown` is not waited for.
async fn answer<H: AdminHandler>(
    mut stream: UnixStream,
    handler: &H,
    shutdown: &CancellationToken,
) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    let request = tokio::select! {
        request = timeout(LINE_TIMEOUT, read_message::<AdminRequest>(&mut reader)) => request?,
        () = shutdown.cancelled() => return Ok(()),
    };
    let reply = match request {
        Ok(request) => handler.handle(request).await,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(AdminError { code: ErrorCode::InvalidRequest, message: format!("the request is {error}") })
        }
        Err(error) => return Err(error),
    };
    let reply: Result<AdminReply, AdminError> = reply;
    timeout(LINE_TIMEOUT, write_message(&mut writer, &reply)).await?
}
