//! Administrative requests: what can be asked, and how it reaches whoever works in the data directory.
//!
//! A command takes the lock and works on the store directly, or, when a server has it, talks to the server over a Unix
//! socket. So live sessions and caches always follow, and both ways run the same [`AdminHandler`].

mod client;
mod message;
mod server;
mod socket;
#[cfg(test)]
mod tests;
mod wire;

pub use message::{
    AdminError, AdminReply, AdminRequest, DemoActor, DemoChat, DeviceToken, Endpoints, UserCreated,
    UserEntry, UserPage,
};
pub use server::serve_admin;
pub use socket::AdminListener;

use client::{ConnectError, connect};

use crate::{
    data_dir::{DataDir, LockedDataDir, Locking, Role},
    failure::Failure,
};
use std::{future::Future, path::Path, time::Duration};
use tokio::time::{Instant, sleep};

/// Does what administrative requests ask for, with the services of this process.
pub trait AdminHandler: Send + Sync + 'static {
    /// Carries out `request`. What it did is durable when this returns.
    fn handle(&self, request: AdminRequest) -> impl Future<Output = Result<AdminReply, AdminError>> + Send;
}

/// How long a command waits for somebody who has the lock but does not listen: a server that is starting or stopping, or
/// another command.
const WAIT_FOR_HOLDER: Duration = Duration::from_secs(10);
const LOOK_AGAIN_EVERY: Duration = Duration::from_millis(50);

/// Carries out `request` in the data directory at `path`: by `directly` under the lock when nobody has it, else by the
/// server that has it.
///
/// # Errors
/// What `directly` or the server answered; [`Failure::Unavailable`] when the holder of the lock cannot be talked to.
pub async fn with_admin<F, Fut>(
    path: &Path,
    request: AdminRequest,
    directly: F,
) -> Result<AdminReply, Failure>
where
    F: FnOnce(LockedDataDir, AdminRequest) -> Fut,
    Fut: Future<Output = Result<AdminReply, Failure>>,
{
    with_admin_within(WAIT_FOR_HOLDER, path, request, directly).await
}

async fn with_admin_within<F, Fut>(
    patience: Duration,
    path: &Path,
    request: AdminRequest,
    directly: F,
) -> Result<AdminReply, Failure>
where
    F: FnOnce(LockedDataDir, AdminRequest) -> Fut,
    Fut: Future<Output = Result<AdminReply, Failure>>,
{
    let dir = DataDir::prepare(path)?;
    let give_up = Instant::now() + patience;
    loop {
        let holder = match dir.try_lock(Role::Command)? {
            Locking::Acquired(locked) => return directly(locked, request).await,
            Locking::Held(holder) => holder,
        };
        match connect(dir.path()).await {
            Ok(client) => return client.call(&request).await,
            Err(ConnectError::NobodyListens) if Instant::now() < give_up => sleep(LOOK_AGAIN_EVERY).await,
            Err(ConnectError::NobodyListens) => return Err(dir.in_use(holder).into()),
            Err(ConnectError::Failed(error)) => {
                return Err(Failure::unavailable(format!(
                    "cannot reach the admin socket of {holder}: {error}"
                )));
            }
        }
    }
}
