//! Paging by key.

use crate::error::{Error, Result};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// Items of a list when none are asked for.
pub const DEFAULT_LIMIT: u32 = 50;
/// Most items of one page.
pub const MAX_LIMIT: u32 = 200;

/// Where a page begins: after the item with this sort key and id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Sort key, mostly a time in ms.
    pub key: i64,
    /// Breaks ties.
    pub id: Uuid,
}

/// Which page of a list.
#[derive(Clone, Copy, Debug)]
pub struct PageRequest {
    /// 1..=200.
    pub limit: u32,
    /// `None` = from the start.
    pub after: Option<Position>,
}

impl PageRequest {
    /// Checks `?limit=` and `?cursor=`.
    pub fn parse(limit: Option<u32>, cursor: Option<&str>) -> Result<Self> {
        Ok(Self { limit: parse_limit(limit)?, after: cursor.map(Position::decode).transpose()? })
    }
}

/// Checks `?limit=`: 1..=200, 50 when absent.
pub fn parse_limit(limit: Option<u32>) -> Result<u32> {
    match limit {
        None => Ok(DEFAULT_LIMIT),
        Some(limit @ 1..=MAX_LIMIT) => Ok(limit),
        Some(limit) => {
            Err(Error::invalid("limit", "out-of-range", format!("{limit} is not within 1..={MAX_LIMIT}")))
        }
    }
}

impl Position {
    /// The opaque form.
    pub fn encode(self) -> String {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.key.to_be_bytes());
        bytes[8..].copy_from_slice(self.id.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads the opaque form.
    pub fn decode(text: &str) -> Result<Self> {
        let invalid = || Error::invalid("cursor", "invalid", "not a cursor that this server handed out");
        let bytes: [u8; 24] =
            URL_SAFE_NO_PAD.decode(text).ok().and_then(|b| b.try_into().ok()).ok_or_else(invalid)?;
        let (key, id) = bytes.split_at(8);
        Ok(Self {
            key: i64::from_be_bytes(key.try_into().map_err(|_| invalid())?),
            id: Uuid::from_slice(id).map_err(|_| invalid())?,
        })
    }
}

/// One page of a list.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// At most `limit`.
    pub items: Vec<T>,
    /// Hand it back as `cursor`; `null` at the end.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// The same page with every item mapped.
    pub fn map<U>(self, f: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(f).collect(), next_cursor: self.next_cursor }
    }
}
