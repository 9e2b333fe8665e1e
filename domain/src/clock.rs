//! Time and randomness, as ports, so that tests own them.

use serde::{Serialize, Serializer};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use time::{
    OffsetDateTime,
    format_description::{FormatItem, well_known::Rfc3339},
    macros::format_description,
};
use utoipa::ToSchema;
use uuid::Uuid;

/// Milliseconds since 1970-01-01 UTC. On the wire RFC 3339 with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ToSchema)]
#[schema(value_type = String, format = DateTime)]
pub struct Timestamp(pub i64);

/// 9999-12-31T23:59:59.999Z.
const LAST_MS: i64 = 253_402_300_799_999;

const RFC3339_MILLIS: &[FormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

impl Timestamp {
    /// From RFC 3339, of any precision and offset; the years 1970 to 9999.
    pub fn parse(text: &str) -> Option<Self> {
        let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        let ms = i64::try_from(at.unix_timestamp_nanos().div_euclid(1_000_000)).ok()?;
        (0..=LAST_MS).contains(&ms).then_some(Self(ms))
    }

    /// This time and `by` more.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }

    /// This time and `by` less.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long it is from `self` to `later`; zero when `later` is earlier.
    pub fn until(self, later: Self) -> Duration {
        Duration::from_millis(u64::try_from(later.0.saturating_sub(self.0)).unwrap_or(0))
    }

    /// Whole seconds since 1970, as JWT wants them.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000)
            .ok()
            .and_then(|at| at.format(RFC3339_MILLIS).ok());
        f.write_str(text.as_deref().unwrap_or("9999-12-31T23:59:59.999Z"))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Wall-clock time.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// Randomness and new ids.
pub trait Entropy: Send + Sync {
    /// A new UUIDv7.
    fn uuid(&self) -> Uuid;
    /// Fills `buffer` with bytes fit for secrets.
    fn fill(&self, buffer: &mut [u8]);
}

/// The operating system's clock and random source.
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Clock for System {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

impl Entropy for System {
    fn uuid(&self) -> Uuid {
        Uuid::now_v7()
    }

    fn fill(&self, buffer: &mut [u8]) {
        rand::Rng::fill_bytes(&mut rand::rng(), buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_rfc_3339_with_milliseconds() {
        assert_eq!(Timestamp(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp(1_795_514_645_007).to_string(), "2026-11-24T10:04:05.007Z");
        assert_eq!(Timestamp(LAST_MS).to_string(), "9999-12-31T23:59:59.999Z");
    }

    #[test]
    fn timestamps_are_read_as_they_are_written() {
        for at in [Timestamp(0), Timestamp(1_795_514_645_007), Timestamp(LAST_MS)] {
            assert_eq!(Timestamp::parse(&at.to_string()), Some(at));
        }
        assert_eq!(Timestamp::parse("2026-11-24T11:04:05+01:00"), Some(Timestamp(1_795_514_645_000)));
        for bad in ["", "2026-11-24", "1969-12-31T23:59:59Z", "10000-01-01T00:00:00Z", "soon"] {
            assert_eq!(Timestamp::parse(bad), None, "{bad}");
        }
    }
}
