//! Waiting for conditions, never for time to pass.

use std::{
    fmt::Display,
    future::Future,
    time::{Duration, Instant},
};

/// How long anything that must happen may take. Long, because a loaded machine is slow; nothing waits for it in vain but
/// a test that fails.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// Pause between two looks at a condition that cannot be awaited.
pub const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The outcome of `work`, which must come.
pub async fn within<T>(what: impl Display, work: impl Future<Output = T>) -> T {
    let outcome = tokio::time::timeout(DEADLINE, work).await;
    outcome.unwrap_or_else(|_| panic!("waited {DEADLINE:?} in vain for {what}"))
}

/// Looks until `probe` answers something.
pub async fn eventually<T>(what: impl Display, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(Instant::now() < give_up, "waited {DEADLINE:?} in vain for {what}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
