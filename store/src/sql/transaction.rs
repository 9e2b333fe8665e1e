//! One transaction on either engine.

use super::{
    statement::Sql,
    value::{Arg, Row, for_postgres, for_sqlite},
};
use sqlx::{Executor, Postgres, Sqlite, pool::PoolConnection};

/// An open transaction. Dropped without an end, it takes its connection with it: a connection in an unknown state
/// never returns to the pool.
pub(crate) struct Tx {
    connection: Connection,
    open: bool,
}

enum Connection {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
}

impl Tx {
    pub async fn begin_sqlite(
        connection: PoolConnection<Sqlite>,
        begin: &'static str,
    ) -> Result<Self, sqlx::Error> {
        let mut tx = Self { connection: Connection::Sqlite(connection), open: true };
        tx.run(begin).await?;
        Ok(tx)
    }

    pub async fn begin_postgres(
        connection: PoolConnection<Postgres>,
        begin: &'static str,
    ) -> Result<Self, sqlx::Error> {
        let mut tx = Self { connection: Connection::Postgres(connection), open: true };
        tx.run(begin).await?;
        Ok(tx)
    }

    /// For a single statement, which is its own transaction.
    pub fn single_sqlite(connection: PoolConnection<Sqlite>) -> Self {
        Self { connection: Connection::Sqlite(connection), open: false }
    }

    /// For a single statement, which is its own transaction.
    pub fn single_postgres(connection: PoolConnection<Postgres>) -> Self {
        Self { connection: Connection::Postgres(connection), open: false }
    }

    pub fn is_postgres(&self) -> bool {
        matches!(self.connection, Connection::Postgres(_))
    }

    /// Makes everything done so far durable.
    pub async fn commit(mut self) -> Result<(), sqlx::Error> {
        if self.open {
            self.run("COMMIT").await?;
            self.open = false;
        }
        Ok(())
    }

    /// Takes everything back.
    pub async fn rollback(mut self) {
        self.open = self.run("ROLLBACK").await.is_err();
    }

    /// Runs a statement that answers nothing; says how many rows it changed.
    pub async fn execute(&mut self, sql: &Sql, args: Vec<Arg>) -> Result<u64, sqlx::Error> {
        metrics::counter!("curlew_sql_statements_total").increment(1);
        match &mut self.connection {
            Connection::Sqlite(connection) => {
                let query = sqlx::query_with(sql.sqlite, for_sqlite(args).map_err(sqlx::Error::Encode)?);
                Ok(connection.execute(query).await?.rows_affected())
            }
            Connection::Postgres(connection) => {
                let query = sqlx::query_with(sql.postgres, for_postgres(args).map_err(sqlx::Error::Encode)?);
                Ok(connection.execute(query).await?.rows_affected())
            }
        }
    }

    /// All rows.
    pub async fn fetch(&mut self, sql: &Sql, args: Vec<Arg>) -> Result<Vec<Row>, sqlx::Error> {
        metrics::counter!("curlew_sql_statements_total").increment(1);
        match &mut self.connection {
            Connection::Sqlite(connection) => {
                let query = sqlx::query_with(sql.sqlite, for_sqlite(args).map_err(sqlx::Error::Encode)?);
                Ok(connection.fetch_all(query).await?.into_iter().map(Row::Sqlite).collect())
            }
            Connection::Postgres(connection) => {
                let query = sqlx::query_with(sql.postgres, for_postgres(args).map_err(sqlx::Error::Encode)?);
                Ok(connection.fetch_all(query).await?.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// The only row, if there is one.
    pub async fn find(&mut self, sql: &Sql, args: Vec<Arg>) -> Result<Option<Row>, sqlx::Error> {
        Ok(self.fetch(sql, args).await?.into_iter().next())
    }

    async fn run(&mut self, text: &'static str) -> Result<(), sqlx::Error> {
        let sql = Sql { sqlite: text, postgres: text };
        self.execute(&sql, Vec::new()).await.map(drop)
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        match &mut self.connection {
            Connection::Sqlite(connection) => connection.close_on_drop(),
            Connection::Postgres(connection) => connection.close_on_drop(),
        }
    }
}
