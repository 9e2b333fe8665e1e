//! What a database error means for the command that met it.

use curlew_domain::{Error, Refusal};

/// Why a command did not come to its end.
#[derive(Debug)]
pub(crate) enum Failed {
    /// By a rule, before it wrote anything.
    Refused(Refusal),
    /// By the database.
    Sql(sqlx::Error),
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

/// The same failure for one more of those whom it concerns.
pub(crate) fn repeated(error: &Error) -> Error {
    match error {
        Error::Unavailable(text) => Error::Unavailable(text.clone()),
        other => Error::Internal(other.to_string()),
    }
}

/// What is to be done about a database error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It may pass: try again.
    Passing,
    /// What is on the disk is unknown: stop.
    Fatal,
    /// The same statement will fail again.
    Lasting,
}

impl Trouble {
    /// Judges an error.
    pub fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Passing,
            sqlx::Error::Database(error) => {
                let code = error.code().unwrap_or_default();
                if error.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() {
                    Self::of_sqlite(code.parse().unwrap_or(0))
                } else {
                    Self::of_postgres(&code)
                }
            }
            _ => Self::Lasting,
        }
    }

    // https://www.sqlite.org/rescode.html; the low byte is the primary code.
    fn of_sqlite(code: u32) -> Self {
        const IOERR_NOMEM: u32 = 3082;
        // Growing the -shm file on a full disk is reported as an I/O error.
        const IOERR_SHMSIZE: u32 = 4874;
        if [IOERR_NOMEM, IOERR_SHMSIZE].contains(&code) {
            return Self::Passing;
        }
        match code & 0xff {
            // BUSY, LOCKED, NOMEM, READONLY, FULL, CANTOPEN, PROTOCOL
            5 | 6 | 7 | 8 | 13 | 14 | 15 => Self::Passing,
            // IOERR, CORRUPT, NOTADB
            10 | 11 | 26 => Self::Fatal,
            _ => Self::Lasting,
        }
    }

    // https://www.postgresql.org/docs/current/errcodes-appendix.html
    fn of_postgres(code: &str) -> Self {
        // serialization_failure, deadlock_detected, lock_not_available, query_canceled, read_only_sql_transaction (a standby
        // during fail-over), idle_in_transaction_session_timeout, io_error
        const SINGLE: [&str; 7] = ["40001", "40P01", "55P03", "57014", "25006", "25P03", "58030"];
        // Connecting, signing in and the database's name (the server is away, or being restored), its resources, its shutdown.
        let class = ["08", "28", "3D", "53", "57P"].iter().any(|class| code.starts_with(class));
        if class || SINGLE.contains(&code) { Self::Passing } else { Self::Lasting }
    }

    /// What a reader is told after its retries.
    pub fn into_error(error: &sqlx::Error) -> Error {
        match Self::of(error) {
            Self::Passing => Error::Unavailable(error.to_string()),
            Self::Fatal | Self::Lasting => Error::Internal(error.to_string()),
        }
    }
}

/// A value in the database that this version does not know.
pub(crate) fn unreadable(what: &str, value: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("{what} {value:?} is unknown").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_may_pass_and_a_failed_fsync_may_not() {
        assert_eq!(Trouble::of_sqlite(13), Trouble::Passing);
        assert_eq!(Trouble::of_sqlite(517), Trouble::Passing, "SQLITE_BUSY_SNAPSHOT");
        assert_eq!(Trouble::of_sqlite(1034), Trouble::Fatal, "SQLITE_IOERR_FSYNC");
        assert_eq!(Trouble::of_sqlite(2067), Trouble::Lasting, "SQLITE_CONSTRAINT_UNIQUE");
    }

    #[test]
    fn deadlocks_and_shutdowns_pass_and_bad_text_does_not() {
        for code in ["40P01", "40001", "55P03", "57P01", "53100", "08006", "28P01", "3D000"] {
            assert_eq!(Trouble::of_postgres(code), Trouble::Passing, "{code}");
        }
        assert_eq!(Trouble::of_postgres("22021"), Trouble::Lasting);
        assert_eq!(Trouble::of_postgres("23505"), Trouble::Lasting);
    }
}
