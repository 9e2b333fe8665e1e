//! What an operator and a test may set.

use async_trait::async_trait;
use curlew_domain::clock::{Clock, Entropy, System};
use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

/// Which database.
#[derive(Clone)]
pub enum Engine {
    /// A file, made if it is absent. Its directory must be locked by this process.
    Sqlite(PathBuf),
    /// `postgres://user:password@host/database`.
    Postgres(String),
}

// The URL may hold a password.
impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            Self::Postgres(_) => f.write_str("Postgres(..)"),
        }
    }
}

/// Stands between a transaction and its end, for tests.
#[async_trait]
pub trait CommitGate: Send + Sync {
    /// Awaited right before COMMIT. An error rolls the transaction back and counts as a failure that may pass.
    async fn before_commit(&self) -> Result<(), String>;

    /// Awaited right after COMMIT. An error hides from the writer that it succeeded.
    async fn after_commit(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Called with the reason when the store cannot be trusted any more; expected not to return.
pub type OnFatal = Arc<dyn Fn(&str) + Send + Sync>;

/// How the store is opened.
#[derive(Clone)]
pub struct StoreConfig {
    /// Which database.
    pub engine: Engine,
    /// Commands that may wait in each lane of the writer; one more waits outside for room.
    pub queue: usize,
    /// How long a failure that may pass is retried, counted from the call.
    pub patience: Duration,
    /// After an fsync or write error on SQLite other than a full disk: what is on the disk is unknown. Default: exit code 70.
    pub on_fatal: OnFatal,
    /// For tests; default none.
    pub gate: Option<Arc<dyn CommitGate>>,
    /// Time of this process's start, and of its transactions.
    pub clock: Arc<dyn Clock>,
    /// Ids of rows in personal logs; the content key.
    pub entropy: Arc<dyn Entropy>,
}

impl StoreConfig {
    /// Defaults: 4,096 commands, 10 s, no gate, the system's clock and randomness.
    pub fn new(engine: Engine) -> Self {
        Self {
            engine,
            queue: 4096,
            patience: Duration::from_secs(10),
            on_fatal: Arc::new(|_| std::process::exit(70)),
            gate: None,
            clock: Arc::new(System),
            entropy: Arc::new(System),
        }
    }
}

impl fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreConfig")
            .field("engine", &self.engine)
            .field("queue", &self.queue)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}
