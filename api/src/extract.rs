//! Extractors: what a handler takes from a request, with the problem for each way it can be wrong.
//!
//! A handler names [`Authenticated`] first and the body last, so that strangers learn nothing but 401.

mod authenticated;
mod json;
mod path;
mod query;
mod serde_error;

pub use authenticated::Authenticated;
pub use json::{Json, JsonOrEmpty, Object, nullable};
pub use path::Path;
pub use query::{PageQuery, Query};
