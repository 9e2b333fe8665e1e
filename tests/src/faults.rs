//! Breaking what the server stands on, from outside.

use crate::server::{Engine, TestServer};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, SqliteConnection,
    postgres::PgConnectOptions, sqlite::SqliteConnectOptions,
};
use std::{str::FromStr, time::Duration};

/// The server can commit nothing while this is held. Reading goes on.
pub enum HeldCommits {
    /// The one write lock is taken.
    Sqlite(SqliteConnection),
    /// The tables that every transaction writes to are locked.
    Postgres(PgConnection),
}

impl TestServer {
    /// Holds back every commit until [`HeldCommits::release`].
    pub async fn db_hold_commits(&self) -> HeldCommits {
        match self.engine() {
            Engine::Sqlite => {
                let mut connection = self.db_sqlite().await;
                connection.execute("BEGIN IMMEDIATE").await.expect("the write lock can be taken");
                HeldCommits::Sqlite(connection)
            }
            Engine::Postgres => {
                let mut connection = self.db_postgres().await;
                connection.execute("BEGIN").await.expect("a transaction can be begun");
                // Against every writer and no reader; every transaction of the writer writes to `lanes`.
                connection
                    .execute("LOCK TABLE log, lanes IN EXCLUSIVE MODE")
                    .await
                    .expect("tables can be locked");
                HeldCommits::Postgres(connection)
            }
        }
    }

    /// Puts everything that says when a device was seen so far into the past.
    pub async fn db_age_device(&self, device: &str, by: Duration) {
        let (by, device) = (by.as_millis(), device.replace('-', ""));
        let (x, id) = match self.engine() {
            Engine::Sqlite => ("", format!("x'{device}'")),
            Engine::Postgres => ("::bytea", format!("'\\x{device}'")),
        };
        let text = format!(
            "UPDATE devices SET last_seen_at = last_seen_at - {by} WHERE id = {id}{x};
            UPDATE sessions SET disconnected_at = disconnected_at - {by} WHERE device_id = {id}{x};"
        );
        match self.engine() {
            Engine::Sqlite => {
                let mut connection = self.db_sqlite().await;
                connection.execute(AssertSqlSafe(text)).await.expect("rows can be changed");
                connection.close().await.expect("a connection can be closed");
            }
            Engine::Postgres => {
                let mut connection = self.db_postgres().await;
                sqlx::raw_sql(AssertSqlSafe(text))
                    .execute(&mut connection)
                    .await
                    .expect("rows can be changed");
            }
        }
    }

    async fn db_sqlite(&self) -> SqliteConnection {
        SqliteConnectOptions::new()
            .filename(self.data_dir().join("curlew.db"))
            .busy_timeout(Duration::from_secs(10))
            .connect()
            .await
            .expect("the database can be opened beside the server")
    }

    async fn db_postgres(&self) -> PgConnection {
        let url = self.database_url().expect("on PostgreSQL there is a URL");
        let options = PgConnectOptions::from_str(url).expect("the URL is one");
        options.connect().await.expect("the database can be reached")
    }

    /// Takes the database away for good (PostgreSQL).
    pub async fn db_drop(&self) {
        let url = self.database_url().expect("on PostgreSQL there is a URL");
        let options = PgConnectOptions::from_str(url).expect("the URL is one");
        let drop = format!(
            "DROP DATABASE {} WITH (FORCE)",
            options.get_database().expect("the URL names a database")
        );
        let mut connection = options.database("postgres").connect().await.expect("the server can be reached");
        connection.execute(AssertSqlSafe(drop)).await.expect("a database can be dropped");
    }
}

impl HeldCommits {
    /// Lets commits through again.
    pub async fn release(self) {
        let closed = match self {
            Self::Sqlite(mut connection) => {
                connection.execute("ROLLBACK").await.expect("a transaction can be ended");
                connection.close().await
            }
            Self::Postgres(mut connection) => {
                connection.execute("ROLLBACK").await.expect("a transaction can be ended");
                connection.close().await
            }
        };
        closed.expect("a connection can be closed");
    }
}
