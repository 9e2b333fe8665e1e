//! Passwords: hashing and verifying them.

use crate::{
    account::Password,
    error::{Error, Result},
};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// How many bcrypt computations may wait; more are turned away.
const BCRYPT_QUEUE: usize = 64;

/// bcrypt off the runtime's threads, as many at once as there are cores, and a bounded number waiting.
pub struct Bcrypt {
    cost: u32,
    running: Arc<Semaphore>,
    waiting: Semaphore,
    /// Verified against when there is no such user, so that both cases take the same time.
    decoy: String,
}

impl Bcrypt {
    /// Computes with this cost, 4..=16.
    pub fn new(cost: u32) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let decoy = bcrypt::non_truncating_hash("no such user", cost).unwrap_or_default();
        Self { cost, running: Arc::new(Semaphore::new(cores)), waiting: Semaphore::new(BCRYPT_QUEUE), decoy }
    }

    /// The hash of a password.
    pub async fn hash(&self, password: Password) -> Result<String> {
        let cost = self.cost;
        self.run(move || bcrypt::non_truncating_hash(password.expose(), cost)).await
    }

    /// Whether this is the password behind the hash. Takes the same time when there is none.
    pub async fn verify(&self, password: String, hash: Option<String>) -> Result<bool> {
        // Longer ones never were accepted; bcrypt would compare a part of them.
        let possible = hash.is_some() && password.len() <= 71;
        let hash = hash.unwrap_or_else(|| self.decoy.clone());
        Ok(self.run(move || bcrypt::verify(password, &hash)).await? && possible)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> bcrypt::BcryptResult<T> + Send + 'static,
    ) -> Result<T> {
        let busy = || Error::Unavailable("too many sign-ins at once".into());
        let _place = self.waiting.try_acquire().map_err(|_| busy())?;
        let permit = Arc::clone(&self.running).acquire_owned().await.map_err(|_| busy())?;
        let task = tokio::task::spawn_blocking(move || {
            // Held until the work is done, even when the caller has gone.
            let _permit = permit;
            work()
        });
        match task.await {
            Ok(outcome) => outcome.map_err(|error| Error::Internal(format!("bcrypt: {error}"))),
            Err(error) => Err(Error::Internal(format!("bcrypt task: {error}"))),
        }
    }
}
