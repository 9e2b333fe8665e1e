//! One server per PostgreSQL database: nodes do not hear of each other's commits yet, so a second one would deliver late or
//! never, and without a word.

use super::engine::{OpenError, one_line};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use std::{str::FromStr, time::Duration};
use tokio::time::{Instant, sleep};

/// Two 32-bit halves of an advisory lock: "curl" "ew" and this use.
const LOCK: i64 = 0x6375_726c_6577_0001;
/// A server that was killed lets go as soon as its connection breaks.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_AGAIN_EVERY: Duration = Duration::from_millis(200);

/// Held for as long as this process serves the database.
pub struct DatabaseClaim {
    _connection: PgConnection,
}

impl DatabaseClaim {
    /// Claims the PostgreSQL database at `url`; waits a little for a server that is just ending.
    pub async fn take(url: &str) -> Result<Self, OpenError> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|error| OpenError::because("at the given URL", one_line(&error)))?
            .application_name("curlew");
        let place = format!("on {}:{}", options.get_host(), options.get_port());
        let failed = |error: sqlx::Error| OpenError::because(&place, one_line(&error));
        let mut connection = PgConnection::connect_with(&options).await.map_err(failed)?;
        let give_up = Instant::now() + PATIENCE;
        loop {
            let claimed: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
                .bind(LOCK)
                .fetch_one(&mut connection)
                .await
                .map_err(failed)?;
            if claimed {
                return Ok(Self { _connection: connection });
            }
            if Instant::now() >= give_up {
                let cause = "another curlew server works on it, and this version runs one node per database";
                return Err(OpenError::because(&place, cause.into()));
            }
            sleep(LOOK_AGAIN_EVERY).await;
        }
    }
}
