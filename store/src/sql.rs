//! The SQL store, the same on SQLite and PostgreSQL.

mod accounts;
mod chats;
mod claim;
mod contacts;
mod deletion;
mod devices;
mod engine;
mod log;
mod logins;
mod messages;
mod notifications;
mod plain;
mod profiles;
mod receipts;
mod sessions;
mod settings;
mod statement;
mod stays;
mod transaction;
mod users;
mod value;
mod writer;

use crate::{StoreConfig, trouble::Trouble};
pub use claim::DatabaseClaim;
use curlew_domain::{Error, ports::relay::Relay};
use engine::Db;
pub use engine::OpenError;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use writer::{Process, Writer};

/// Longest pause between two tries of a read.
const READ_PAUSE: Duration = Duration::from_millis(250);

/// The store: implements every port of `curlew_domain::ports::store`.
///
/// Writes are durable when they return. Reads see everything that was committed before they were called. Dropping it
/// without [`close`](Self::close) loses no acknowledged write, but commands in the queue may be lost.
pub struct SqlStore {
    db: Arc<Db>,
    writer: Writer,
    process: Arc<Process>,
    content_key: [u8; 32],
    patience: Duration,
}

impl SqlStore {
    /// Connects, migrates, starts the writer. `relay` gets the rows of every commit.
    pub async fn open(config: StoreConfig, relay: Arc<dyn Relay>) -> Result<Self, OpenError> {
        let db = Arc::new(Db::open(&config.engine).await?);
        let content_key = settings::prepare(&db, config.entropy.as_ref())
            .await
            .map_err(|error| OpenError::new(&config.engine, error))?;
        let process = Arc::new(Process {
            id: config.entropy.uuid(),
            started_at: config.clock.now(),
            clock: Arc::clone(&config.clock),
            entropy: Arc::clone(&config.entropy),
        });
        let writer = Writer::start(&db, &config, &process, &relay);
        Ok(Self { db, writer, process, content_key, patience: config.patience })
    }

    /// Refuses further commands, commits those in the queue, answers their callers, closes all connections.
    pub async fn close(&self) {
        self.writer.close().await;
        self.db.close().await;
    }

    /// For tests: every statement of this crate by name, as this engine spells it.
    #[doc(hidden)]
    pub fn db_statements(&self) -> Vec<(&'static str, &'static str)> {
        let files = [
            chats::STATEMENTS,
            chats::change::STATEMENTS,
            chats::create::STATEMENTS,
            chats::departure::STATEMENTS,
            chats::lock::STATEMENTS,
            chats::members::STATEMENTS,
            chats::update::STATEMENTS,
            chats::view::STATEMENTS,
            contacts::STATEMENTS,
            contacts::search::STATEMENTS,
            deletion::STATEMENTS,
            devices::STATEMENTS,
            log::STATEMENTS,
            logins::STATEMENTS,
            messages::STATEMENTS,
            messages::append::STATEMENTS,
            messages::change::STATEMENTS,
            messages::dress::STATEMENTS,
            messages::quote::STATEMENTS,
            notifications::STATEMENTS,
            profiles::STATEMENTS,
            receipts::STATEMENTS,
            sessions::STATEMENTS,
            settings::STATEMENTS,
            stays::STATEMENTS,
            users::STATEMENTS,
            writer::STATEMENTS,
        ];
        let all = files.into_iter().flatten().copied().chain(log::inserts()).chain(plain::statements());
        all.map(|(name, sql)| match *self.db {
            Db::Sqlite { .. } => (name, sql.sqlite),
            Db::Postgres { .. } => (name, sql.postgres),
        })
        .collect()
    }
}

/// How long a read that met a passing failure goes on trying.
struct Patience {
    deadline: Instant,
    pause: Duration,
}

impl Patience {
    fn new(of: Duration) -> Self {
        Self { deadline: Instant::now() + of, pause: Duration::from_millis(5) }
    }

    /// Returns when it is time to try again, or with what the caller is told.
    async fn endure(&mut self, error: &sqlx::Error) -> Result<(), Error> {
        let closed = matches!(error, sqlx::Error::PoolClosed);
        if closed || Trouble::of(error) != Trouble::Passing || Instant::now() + self.pause >= self.deadline {
            return Err(Trouble::into_error(error));
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(READ_PAUSE);
        Ok(())
    }
}

/// Runs `$body` in one snapshot `$tx`, again while failures may pass. `single`: the body is one statement.
macro_rules! read {
    ($store:expr, |$tx:ident| $body:expr) => {
        $crate::sql::read!($store, begin_read, |$tx| $body)
    };
    ($store:expr, single |$tx:ident| $body:expr) => {
        $crate::sql::read!($store, begin_single, |$tx| $body)
    };
    ($store:expr, $begin:ident, |$tx:ident| $body:expr) => {{
        let mut patience = $crate::sql::Patience::new($store.patience);
        loop {
            let attempt = async {
                let mut transaction = $store.db.$begin().await?;
                let answer = {
                    let $tx = &mut transaction;
                    $body
                };
                transaction.commit().await?;
                Ok::<_, sqlx::Error>(answer)
            };
            match tokio::time::timeout_at(patience.deadline, attempt).await {
                Ok(Ok(answer)) => break Ok(answer),
                Ok(Err(error)) => {
                    if let Err(error) = patience.endure(&error).await {
                        break Err(error);
                    }
                }
                Err(_) => {
                    break Err(curlew_domain::Error::Unavailable(
                        "the database did not answer in time".into(),
                    ));
                }
            }
        }
    }};
}
pub(crate) use read;
