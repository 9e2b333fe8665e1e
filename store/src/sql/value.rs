//! What goes into a statement and what comes out, the same on both engines: integers are `i64`, ids 16 bytes.

use crate::trouble::unreadable;
use curlew_domain::{
    clock::Timestamp,
    ids::{ChatId, DeviceId, LoginId, RowId, Seq, SessionId, StreamId, UserId},
};
use sqlx::{
    Arguments, Row as _,
    error::BoxDynError,
    postgres::{PgArguments, PgRow},
    sqlite::{SqliteArguments, SqliteRow},
};
use std::fmt::Write;
use uuid::Uuid;

/// One argument. Every `$n` of a text always gets the same variant: PostgreSQL's statement cache is keyed by text alone.
#[derive(Clone, Debug)]
pub(crate) enum Arg {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
    /// PostgreSQL only.
    Ints(Vec<i64>),
    /// PostgreSQL only.
    MaybeInts(Vec<Option<i64>>),
    /// PostgreSQL only.
    Texts(Vec<Option<String>>),
    /// PostgreSQL only.
    Blobs(Vec<Option<Vec<u8>>>),
}

/// The arguments of a statement: `args![user, at, name]`.
macro_rules! args {
    ($($value:expr),* $(,)?) => { vec![$($crate::sql::value::Arg::from($value)),*] };
}
pub(crate) use args;

macro_rules! arg {
    ($($from:ty => |$value:ident| $arg:expr;)+) => {$(
        impl From<$from> for Arg {
            fn from($value: $from) -> Self {
                $arg
            }
        }
    )+};
}

arg! {
    i64 => |n| Self::Int(Some(n));
    Option<i64> => |n| Self::Int(n);
    u32 => |n| Self::Int(Some(n.into()));
    // Positions beyond what a log can reach mean "the end" everywhere.
    Seq => |n| Self::Int(Some(i64::try_from(n).unwrap_or(i64::MAX)));
    Option<Seq> => |n| Self::Int(n.map(|n| i64::try_from(n).unwrap_or(i64::MAX)));
    bool => |b| Self::Int(Some(b.into()));
    Timestamp => |at| Self::Int(Some(at.0));
    Option<Timestamp> => |at| Self::Int(at.map(|at| at.0));
    &str => |text| Self::Text(Some(text.to_owned()));
    String => |text| Self::Text(Some(text));
    Option<&str> => |text| Self::Text(text.map(str::to_owned));
    Option<String> => |text| Self::Text(text);
    Vec<u8> => |bytes| Self::Bytes(Some(bytes));
    Uuid => |id| Self::Bytes(Some(id.as_bytes().to_vec()));
    Option<Uuid> => |id| Self::Bytes(id.map(|id| id.as_bytes().to_vec()));
    UserId => |id| id.uuid().into();
    LoginId => |id| id.uuid().into();
    DeviceId => |id| id.uuid().into();
    SessionId => |id| id.uuid().into();
    ChatId => |id| id.uuid().into();
    RowId => |id| id.uuid().into();
    StreamId => |id| id.uuid().into();
    Table => |table| Self::Text(Some(table.finish()));
}

pub(crate) fn for_sqlite(args: Vec<Arg>) -> Result<SqliteArguments, BoxDynError> {
    let mut out = SqliteArguments::default();
    out.reserve(args.len(), 0);
    for arg in args {
        match arg {
            Arg::Int(value) => Arguments::add(&mut out, value)?,
            Arg::Text(value) => Arguments::add(&mut out, value)?,
            Arg::Bytes(value) => Arguments::add(&mut out, value)?,
            Arg::Ints(_) | Arg::MaybeInts(_) | Arg::Texts(_) | Arg::Blobs(_) => {
                return Err("SQLite has no arrays".into());
            }
        }
    }
    Ok(out)
}

pub(crate) fn for_postgres(args: Vec<Arg>) -> Result<PgArguments, BoxDynError> {
    let mut out = PgArguments::default();
    for arg in args {
        match arg {
            Arg::Int(value) => out.add(value)?,
            Arg::Text(value) => out.add(value)?,
            Arg::Bytes(value) => out.add(value)?,
            Arg::Ints(values) => out.add(values)?,
            Arg::MaybeInts(values) => out.add(values)?,
            Arg::Texts(values) => out.add(values)?,
            Arg::Blobs(values) => out.add(values)?,
        }
    }
    Ok(out)
}

/// Builds the JSON behind `rows(..)` of a statement.
#[derive(Debug)]
pub(crate) struct Table(String);

impl Table {
    /// One row per item, its cells written by `row`.
    pub fn of<T>(items: impl IntoIterator<Item = T>, mut row: impl FnMut(&mut Cells<'_>, T)) -> Self {
        let mut json = String::from("[");
        for item in items {
            json.push_str(if json.len() == 1 { "[" } else { ",[" });
            let mut cells = Cells { json: &mut json, first: true };
            row(&mut cells, item);
            json.push(']');
        }
        Self(json)
    }

    /// One column of ids.
    pub fn of_ids<T: Into<Uuid>>(ids: impl IntoIterator<Item = T>) -> Self {
        Self::of(ids, |row, id| {
            row.id(id.into());
        })
    }

    fn finish(mut self) -> String {
        self.0.push(']');
        self.0
    }
}

/// The cells of one row of a [`Table`].
pub(crate) struct Cells<'a> {
    json: &'a mut String,
    first: bool,
}

impl Cells<'_> {
    fn separate(&mut self) {
        if !std::mem::take(&mut self.first) {
            self.json.push(',');
        }
    }

    pub fn id(&mut self, id: Uuid) -> &mut Self {
        self.separate();
        write!(self.json, "\"{}\"", id.simple()).expect("writing to a String cannot fail");
        self
    }

    pub fn int(&mut self, n: i64) -> &mut Self {
        self.separate();
        write!(self.json, "{n}").expect("writing to a String cannot fail");
        self
    }

    pub fn seq(&mut self, n: Seq) -> &mut Self {
        self.int(i64::try_from(n).unwrap_or(i64::MAX))
    }

    pub fn text(&mut self, text: &str) -> &mut Self {
        self.separate();
        self.json.push_str(&serde_json::to_string(text).expect("a string has a JSON form"));
        self
    }
}

/// One row of an answer; columns by position.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

macro_rules! column {
    ($($name:ident, $optional:ident: $type:ty;)+) => {$(
        pub fn $name(&self, column: usize) -> Result<$type, sqlx::Error> {
            match self {
                Self::Sqlite(row) => row.try_get(column),
                Self::Postgres(row) => row.try_get(column),
            }
        }

        pub fn $optional(&self, column: usize) -> Result<Option<$type>, sqlx::Error> {
            match self {
                Self::Sqlite(row) => row.try_get(column),
                Self::Postgres(row) => row.try_get(column),
            }
        }
    )+};
}

impl Row {
    column! {
        int, int_or_null: i64;
        text, text_or_null: String;
        bytes, bytes_or_null: Vec<u8>;
    }

    pub fn flag(&self, column: usize) -> Result<bool, sqlx::Error> {
        Ok(self.int(column)? != 0)
    }

    pub fn seq(&self, column: usize) -> Result<Seq, sqlx::Error> {
        Ok(as_seq(self.int(column)?))
    }

    pub fn seq_or_null(&self, column: usize) -> Result<Option<Seq>, sqlx::Error> {
        Ok(self.int_or_null(column)?.map(as_seq))
    }

    pub fn count(&self, column: usize) -> Result<u32, sqlx::Error> {
        Ok(u32::try_from(self.int(column)?).unwrap_or(u32::MAX))
    }

    pub fn at(&self, column: usize) -> Result<Timestamp, sqlx::Error> {
        self.int(column).map(Timestamp)
    }

    pub fn at_or_null(&self, column: usize) -> Result<Option<Timestamp>, sqlx::Error> {
        Ok(self.int_or_null(column)?.map(Timestamp))
    }

    pub fn id<T: From<Uuid>>(&self, column: usize) -> Result<T, sqlx::Error> {
        as_id(&self.bytes(column)?)
    }

    pub fn id_or_null<T: From<Uuid>>(&self, column: usize) -> Result<Option<T>, sqlx::Error> {
        self.bytes_or_null(column)?.map(|bytes| as_id(&bytes)).transpose()
    }

    /// A state, stored under the name that the domain gives it.
    pub fn named<T>(&self, column: usize, parse: impl Fn(&str) -> Option<T>) -> Result<T, sqlx::Error> {
        let text = self.text(column)?;
        parse(&text).ok_or_else(|| unreadable("name", &text))
    }

    pub fn named_or_null<T>(
        &self,
        column: usize,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, sqlx::Error> {
        let Some(text) = self.text_or_null(column)? else { return Ok(None) };
        parse(&text).map(Some).ok_or_else(|| unreadable("name", &text))
    }
}

fn as_seq(n: i64) -> Seq {
    Seq::try_from(n).unwrap_or(0)
}

fn as_id<T: From<Uuid>>(bytes: &[u8]) -> Result<T, sqlx::Error> {
    Uuid::from_slice(bytes).map(T::from).map_err(|error| sqlx::Error::Decode(error.into()))
}
