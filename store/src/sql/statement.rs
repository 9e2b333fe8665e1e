//! SQL texts. One text for both engines, with the few spellings in which they differ written as words:
//!
//! | in `sql!` | SQLite | PostgreSQL |
//! |---|---|---|
//! | `rows(1: chat id, upto int)` | a table from the JSON in `$1` by `json_each` | by `jsonb_array_elements` |
//! | `(columns!())` | the literal that the macro gives | the same |
//! | `lock(m)` | nothing: there is one writer | `FOR NO KEY UPDATE OF m` |
//! | `hold(m)` | nothing | `FOR KEY SHARE OF m`: it may change, but not go |
//! | `take(m)` | nothing | `FOR UPDATE OF m`: it goes; whoever holds it comes first, or sees it gone |
//! | `lock_free(m)` | nothing | `FOR NO KEY UPDATE OF m SKIP LOCKED`: never waits, and finds no row that another has locked |
//! | `each(log l: "l.stream = r.chat")` | `CROSS JOIN log l ON (…)` | `CROSS JOIN LATERAL (… OFFSET 0) l`: looked up for each row before it |
//!
//! `rows` is used as a MATERIALIZED common table expression, so that each cell is parsed once, and joined with CROSS JOIN,
//! which SQLite takes as the order of the loops. PostgreSQL chooses the order by what it believes of the size of a table, and
//! may believe for a minute what was true when the table was empty: `each` leaves it no choice.

/// One statement, as each engine spells it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sql {
    pub sqlite: &'static str,
    pub postgres: &'static str,
}

macro_rules! sql {
    ($($part:tt)+) => {
        $crate::sql::statement::Sql {
            sqlite: $crate::sql::statement::sql_text!(sqlite [] $($part)+),
            postgres: $crate::sql::statement::sql_text!(postgres [] $($part)+),
        }
    };
}

macro_rules! sql_text {
    ($engine:ident [$($done:tt)*]) => { concat!($($done)*) };
    ($engine:ident [$($done:tt)*] rows($n:literal: $($cell:ident $kind:ident),+) $($rest:tt)*) => {
        $crate::sql::statement::sql_text!($engine [
            $($done)* "(SELECT ",
            $crate::sql::statement::sql_cells!($engine [] [0 1 2 3 4 5 6 7] $($cell $kind),+),
            " FROM ", $crate::sql::statement::sql_source!($engine $n), ")",
        ] $($rest)*)
    };
    (sqlite [$($done:tt)*] lock($table:ident) $($rest:tt)*) => {
        $crate::sql::statement::sql_text!(sqlite [$($done)*] $($rest)*)
    };
    (postgres [$($done:tt)*] lock($table:ident) $($rest:tt)*) => {
        $crate::sql::statement::sql_text!(postgres [$($done)* " FOR NO KEY UPDATE OF ", stringify!($table),] $($rest)*)
    };
    (sqlite [$($done:tt)*] hold($table:ident) $($rest:tt)*) => {
        $crate::sql::statement::sql_text!(sqlite [$($done)*] $($rest)*)
    };
    (postgres [$($done:tt)*] hold($table:ident) $($rest:tt)*) => {
        $crate::sql::statement::sql_text!(postgres [$($done)* " FOR KEY SHARE OF ", stringify!($table),] $($rest)*)
    };
    (sqlite [$($done:tt)*] take($table:ident) $($rest:tt)*) => {
        $crate::sql::statement::sql_text!(sqlite [$($done)*] $($rest)*)
    };
    (postgres [$($done:tt)*] take($table:ident) $($rest:tt)*) => {
        $crate::sql::statement::sql_text!(postgres [$($done)* " FOR UPDATE OF ", stringify!($table),] $($rest)*)
    };
    (sqlite [$($done:tt)*] lock_free($table:ident) $($rest:tt)*) => {
        $crate::sql::statement::sql_text!(sqlite [$($done)*] $($rest)*)
    };
    (postgres [$($done:tt)*] lock_free($table:ident) $($rest:tt)*) => {
        $crate::sql::statement::sql_text!(postgres [
            $($done)* " FOR NO KEY UPDATE OF ", stringify!($table), " SKIP LOCKED",
        ] $($rest)*)
    };
    (sqlite [$($done:tt)*] each($table:ident $name:ident: $($on:tt)+) $($rest:tt)*) => {
        $crate::sql::statement::sql_text!(sqlite [
            $($done)* " CROSS JOIN ", stringify!($table), " ", stringify!($name), " ON (",
        ] $($on)+ ")" $($rest)*)
    };
    (postgres [$($done:tt)*] each($table:ident $name:ident: $($on:tt)+) $($rest:tt)*) => {
        $crate::sql::statement::sql_text!(postgres [
            $($done)* " CROSS JOIN LATERAL (SELECT * FROM ", stringify!($table), " ", stringify!($name), " WHERE ",
        ] $($on)+ " OFFSET 0) " (stringify!($name)) $($rest)*)
    };
    ($engine:ident [$($done:tt)*] ($text:expr) $($rest:tt)*) => {
        $crate::sql::statement::sql_text!($engine [$($done)* $text,] $($rest)*)
    };
    ($engine:ident [$($done:tt)*] $text:literal $($rest:tt)*) => {
        $crate::sql::statement::sql_text!($engine [$($done)* $text,] $($rest)*)
    };
}

macro_rules! sql_source {
    (sqlite $n:literal) => {
        concat!("json_each($", $n, ")")
    };
    (postgres $n:literal) => {
        concat!("jsonb_array_elements($", $n, "::jsonb)")
    };
}

macro_rules! sql_cells {
    ($engine:ident [$($done:tt)*] [$n:literal $($more:literal)*] $cell:ident $kind:ident) => {
        concat!($($done)* $crate::sql::statement::sql_cell!($engine $kind $n), " AS ", stringify!($cell))
    };
    ($engine:ident [$($done:tt)*] [$n:literal $($more:literal)*] $cell:ident $kind:ident, $($rest:tt)+) => {
        $crate::sql::statement::sql_cells!($engine [
            $($done)* $crate::sql::statement::sql_cell!($engine $kind $n), " AS ", stringify!($cell), ", ",
        ] [$($more)*] $($rest)+)
    };
}

macro_rules! sql_cell {
    (sqlite id $n:literal) => {
        concat!("unhex(value->>", $n, ")")
    };
    (postgres id $n:literal) => {
        concat!("decode(value->>", $n, ", 'hex')")
    };
    ($engine:ident int $n:literal) => {
        concat!("CAST(value->>", $n, " AS BIGINT)")
    };
    ($engine:ident text $n:literal) => {
        concat!("value->>", $n)
    };
}

/// Declares the statements of a file, and `STATEMENTS` with all of them for the test that prepares each on both engines.
macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = [$($part:tt)+];)+) => {
        $($(#[$doc])* const $name: $crate::sql::statement::Sql = $crate::sql::statement::sql!($($part)+);)+
        /// Every statement of this file, by name.
        pub(crate) const STATEMENTS: &[(&str, $crate::sql::statement::Sql)] = &[$((stringify!($name), $name)),+];
    };
}

pub(crate) use {sql, sql_cell, sql_cells, sql_source, sql_text, statements};

#[cfg(test)]
mod tests {
    use super::Sql;

    const BOTH: Sql =
        sql!("WITH r AS MATERIALIZED " rows(1: chat id, upto int) " SELECT 1 FROM chats c" lock(c));

    #[test]
    fn one_text_is_spelt_for_each_engine() {
        assert_eq!(
            BOTH.sqlite,
            "WITH r AS MATERIALIZED (SELECT unhex(value->>0) AS chat, CAST(value->>1 AS BIGINT) AS upto FROM json_each($1)) SELECT 1 FROM chats c"
        );
        assert_eq!(
            BOTH.postgres,
            "WITH r AS MATERIALIZED (SELECT decode(value->>0, 'hex') AS chat, CAST(value->>1 AS BIGINT) AS upto FROM jsonb_array_elements($1::jsonb)) SELECT 1 FROM chats c FOR NO KEY UPDATE OF c"
        );
        let each =
            sql!("SELECT 1 FROM r" each(log l: "l.stream = r.chat AND " ("l.seq > 1")) " ORDER BY l.seq");
        assert_eq!(
            each.sqlite,
            "SELECT 1 FROM r CROSS JOIN log l ON (l.stream = r.chat AND l.seq > 1) ORDER BY l.seq"
        );
        assert_eq!(
            each.postgres,
            "SELECT 1 FROM r CROSS JOIN LATERAL (SELECT * FROM log l WHERE l.stream = r.chat AND l.seq > 1 OFFSET 0) l ORDER BY l.seq"
        );
    }
}
