//! Everything outside the process. So far: the SQL store, on SQLite and PostgreSQL, behind the ports of
//! `curlew_domain::ports::store`.
//!
//! Read in this order: [`config`] (what an operator and a test may set), `sql` (the store and how it is opened),
//! `sql/writer` (how commands become durable), then one file per concept.

pub mod config;
mod sql;
mod trouble;

pub use config::{CommitGate, Engine, StoreConfig};
pub use sql::{DatabaseClaim, OpenError, SqlStore};
