//! The texts themselves: each is valid on both engines, and none of them reads a whole table.

use crate::{harness::Fixture, on_both_engines};
use curlew_store::Engine;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row, SqlSafeStr, SqliteConnection};

on_both_engines!(every_statement_is_valid, no_statement_reads_a_whole_table);

/// Run now and then, and look at every session, will or device.
const MAY_SCAN: [&str; 4] = ["LIST_UNSEEN", "LOSE_SESSIONS", "ORPHAN_WILLS", "PRUNE_SESSIONS"];

async fn every_statement_is_valid(f: Fixture) {
    let statements = f.store.db_statements();
    assert!(statements.len() > 60, "{} statements", statements.len());
    for (name, text) in statements {
        let text = text.into_sql_str();
        let prepared = match &f.config.engine {
            Engine::Sqlite(_) => sqlite(&f).await.prepare(text).await.map(drop),
            Engine::Postgres(_) => postgres(&f).await.prepare(text).await.map(drop),
        };
        prepared.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

async fn no_statement_reads_a_whole_table(f: Fixture) {
    for (name, text) in f.store.db_statements().into_iter().filter(|(name, _)| !MAY_SCAN.contains(name)) {
        let (plan, bad): (Vec<String>, fn(&str) -> bool) = match &f.config.engine {
            Engine::Sqlite(_) => (explain_sqlite(&f, text).await, is_scan),
            Engine::Postgres(_) => (explain_postgres(&f, text).await, |line| line.contains("Seq Scan on")),
        };
        assert!(!plan.iter().any(|line| bad(line)), "{name}: {plan:#?}");
    }
}

/// A table without an index, or one that is built for the occasion. `r` is the table of keys in the first argument.
fn is_scan(line: &str) -> bool {
    let scan = line.starts_with("SCAN ") && !line.contains("INDEX") && !line.ends_with("VALUES CLAUSE");
    let of_keys = ["SCAN r", "SCAN json_each", "SCAN unread", "SCAN CONSTANT ROW"]
        .iter()
        .any(|keys| line.starts_with(keys));
    (scan && !of_keys) || line.contains("AUTOMATIC")
}

async fn explain_sqlite(f: &Fixture, text: &str) -> Vec<String> {
    let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}"));
    let rows = sqlx::query(explain).fetch_all(&mut sqlite(f).await).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>(3)).collect()
}

/// As the store's connections plan it, whatever the arguments and the sizes of the tables.
async fn explain_postgres(f: &Fixture, text: &str) -> Vec<String> {
    let mut connection = postgres(f).await;
    let settings = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
        SET plan_cache_mode = force_generic_plan";
    connection.execute(settings).await.unwrap();
    let arguments = (1..=20).rev().find(|n| text.contains(&format!("${n}"))).unwrap_or(0);
    let nulls =
        if arguments == 0 { String::new() } else { format!("({})", vec!["NULL"; arguments].join(", ")) };
    let prepare = format!("PREPARE statement AS {text}");
    sqlx::raw_sql(AssertSqlSafe(prepare)).execute(&mut connection).await.unwrap();
    let explain = sqlx::raw_sql(AssertSqlSafe(format!("EXPLAIN EXECUTE statement{nulls}")));
    let rows = explain.fetch_all(&mut connection).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>(0)).collect()
}

async fn sqlite(f: &Fixture) -> SqliteConnection {
    let Engine::Sqlite(path) = &f.config.engine else { panic!("not on SQLite") };
    SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap()
}

async fn postgres(f: &Fixture) -> PgConnection {
    let Engine::Postgres(url) = &f.config.engine else { panic!("not on PostgreSQL") };
    PgConnection::connect(url).await.unwrap()
}
