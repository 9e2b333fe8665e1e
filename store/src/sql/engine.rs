//! The two engines: connecting, migrating, beginning transactions.

use super::transaction::Tx;
use crate::config::Engine;
use sqlx::{
    ConnectOptions, PgPool, SqlSafeStr, SqlitePool,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{str::FromStr, time::Duration};
use tracing::log::LevelFilter;

/// Lanes of the writer on PostgreSQL. SQLite has one.
const POSTGRES_LANES: u32 = 4;
const SQLITE_READERS: u32 = 4;
const POSTGRES_READERS: u32 = 8;
const BUSY: Duration = Duration::from_secs(5);
/// Shorter than any patience, so that one wait for a connection is not all of it.
const ACQUIRE: Duration = Duration::from_secs(2);

/// The store cannot be opened: one line for an operator.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the database {database}: {cause}")]
pub struct OpenError {
    database: String,
    cause: String,
}

/// Every statement is a look-up by key, mostly for at most a few hundred keys. The planner cannot know how many there are,
/// and as long as a table is small, or not analysed yet, it reads all of it for every batch instead: 10 to 20 ms with 10,000
/// chats.
const LOOK_UPS_ONLY: [(&str, &str); 5] = [
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("enable_material", "off"),
    ("jit", "off"),
];

/// An open database.
pub(crate) enum Db {
    Sqlite { writer: SqlitePool, readers: SqlitePool },
    Postgres { writers: PgPool, readers: PgPool },
}

impl Db {
    pub async fn open(engine: &Engine) -> Result<Self, OpenError> {
        match engine {
            Engine::Sqlite(path) => {
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .create_if_missing(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full)
                    .foreign_keys(true)
                    .busy_timeout(BUSY)
                    .disable_statement_logging();
                open_sqlite(options)
                    .await
                    .map_err(|cause| OpenError { database: path.display().to_string(), cause })
            }
            Engine::Postgres(url) => {
                let options = PgConnectOptions::from_str(url).map_err(|error| OpenError {
                    database: "at the given URL".into(),
                    cause: one_line(&error),
                })?;
                let database = format!(
                    "{} on {}:{}",
                    options.get_database().unwrap_or(options.get_username()),
                    options.get_host(),
                    options.get_port()
                );
                open_postgres(options).await.map_err(|cause| OpenError { database, cause })
            }
        }
    }

    pub fn lanes(&self) -> u32 {
        match self {
            Self::Sqlite { .. } => 1,
            Self::Postgres { .. } => POSTGRES_LANES,
        }
    }

    pub async fn begin_write(&self) -> Result<Tx, sqlx::Error> {
        match self {
            Self::Sqlite { writer, .. } => Tx::begin_sqlite(writer.acquire().await?, "BEGIN IMMEDIATE").await,
            Self::Postgres { writers, .. } => {
                Tx::begin_postgres(writers.acquire().await?, "BEGIN ISOLATION LEVEL READ COMMITTED").await
            }
        }
    }

    /// One snapshot for all statements.
    pub async fn begin_read(&self) -> Result<Tx, sqlx::Error> {
        match self {
            Self::Sqlite { readers, .. } => Tx::begin_sqlite(readers.acquire().await?, "BEGIN").await,
            Self::Postgres { readers, .. } => {
                Tx::begin_postgres(
                    readers.acquire().await?,
                    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
                )
                .await
            }
        }
    }

    /// For a read of one statement: saves two round trips.
    pub async fn begin_single(&self) -> Result<Tx, sqlx::Error> {
        match self {
            Self::Sqlite { readers, .. } => Ok(Tx::single_sqlite(readers.acquire().await?)),
            Self::Postgres { readers, .. } => Ok(Tx::single_postgres(readers.acquire().await?)),
        }
    }

    pub async fn close(&self) {
        match self {
            Self::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Self::Postgres { writers, readers } => {
                readers.close().await;
                writers.close().await;
            }
        }
    }
}

async fn open_sqlite(options: SqliteConnectOptions) -> Result<Db, String> {
    let pool = || {
        SqlitePoolOptions::new()
            .acquire_timeout(ACQUIRE)
            .acquire_slow_level(LevelFilter::Off)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
    };
    // A commit of 256 messages to as many chats changes about 1,000 pages. 16 MiB of WAL collect several of them before a
    // checkpoint stalls one (64 MiB: no faster, twice the p99); the cache keeps the indexes' pages in memory.
    let writing = options
        .clone()
        .pragma("wal_autocheckpoint", "4096")
        .pragma("cache_size", "-65536")
        .pragma("secure_delete", "on");
    let writer = pool().max_connections(1).connect_with(writing).await.map_err(|e| one_line(&e))?;
    migrate(SQLITE_MIGRATIONS).run(&writer).await.map_err(|e| migration_cause(&e))?;
    let readers = pool()
        .max_connections(SQLITE_READERS)
        .connect_with(options.pragma("query_only", "on"))
        .await
        .map_err(|e| one_line(&e))?;
    Ok(Db::Sqlite { writer, readers })
}

async fn open_postgres(options: PgConnectOptions) -> Result<Db, String> {
    let options = options
        .application_name("curlew")
        .options([("synchronous_commit", "on"), ("lock_timeout", "1s")])
        .options(LOOK_UPS_ONLY)
        .disable_statement_logging();
    // A dead connection shows in the first statement and is replaced by the retry; a ping per transaction would cost a round
    // trip each.
    let pool = || {
        PgPoolOptions::new()
            .acquire_timeout(ACQUIRE)
            .acquire_slow_level(LevelFilter::Off)
            .test_before_acquire(false)
    };
    let writers = pool()
        .max_connections(POSTGRES_LANES)
        .connect_with(options.clone())
        .await
        .map_err(|e| one_line(&e))?;
    migrate(POSTGRES_MIGRATIONS).run(&writers).await.map_err(|e| migration_cause(&e))?;
    let readers =
        pool().max_connections(POSTGRES_READERS).connect_with(options).await.map_err(|e| one_line(&e))?;
    Ok(Db::Postgres { writers, readers })
}

type MigrationFile = (i64, &'static str, &'static str);

const SQLITE_MIGRATIONS: &[MigrationFile] = &[
    (1, "foundation", include_str!("../../../migrations/sqlite/0001_foundation.sql")),
    (2, "plain_lane", include_str!("../../../migrations/sqlite/0002_plain_lane.sql")),
    (3, "rest_surface", include_str!("../../../migrations/sqlite/0003_rest_surface.sql")),
    (4, "alive", include_str!("../../../migrations/sqlite/0004_alive.sql")),
];
const POSTGRES_MIGRATIONS: &[MigrationFile] = &[
    (1, "foundation", include_str!("../../../migrations/postgres/0001_foundation.sql")),
    (2, "plain_lane", include_str!("../../../migrations/postgres/0002_plain_lane.sql")),
    (3, "rest_surface", include_str!("../../../migrations/postgres/0003_rest_surface.sql")),
    (4, "alive", include_str!("../../../migrations/postgres/0004_alive.sql")),
];

/// On PostgreSQL sqlx holds an advisory lock meanwhile; on SQLite the data directory's lock keeps others out.
fn migrate(files: &[MigrationFile]) -> Migrator {
    Migrator::with_migrations(
        files
            .iter()
            .map(|(version, name, text)| {
                Migration::new(*version, (*name).into(), MigrationType::Simple, text.into_sql_str(), false)
            })
            .collect(),
    )
}

fn migration_cause(error: &MigrateError) -> String {
    match error {
        MigrateError::VersionMissing(version) => {
            format!("it was made by a newer curlew (migration {version} is unknown to this one)")
        }
        other => one_line(other),
    }
}

/// An error and its causes without line ends.
pub(super) fn one_line(error: &(dyn std::error::Error + 'static)) -> String {
    // What PostgreSQL says, without the line of its own source.
    let database = error.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error);
    let text = database.map_or_else(|| error.to_string(), |error| error.message().to_owned());
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl OpenError {
    pub(super) fn because(database: &str, cause: String) -> Self {
        Self { database: database.to_owned(), cause }
    }

    pub(super) fn new(engine: &Engine, cause: String) -> Self {
        let database = match engine {
            Engine::Sqlite(path) => path.display().to_string(),
            Engine::Postgres(_) => "on PostgreSQL".into(),
        };
        Self { database, cause }
    }
}
