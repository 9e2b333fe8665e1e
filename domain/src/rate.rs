//! How often something may be done: a quota, and for each who does it a bucket of tokens.

mod users;

pub use users::{Counted, Lane, Rates, RatesByUser, UserLimits};

use std::{
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

/// So many tokens at once, refilled evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Time for one token; `None`: no limit.
    interval: Option<Duration>,
    /// Most tokens in a bucket.
    tokens: u32,
}

impl Quota {
    /// `count` in each `window`, `tokens` of them at once. A `count` of 0 is no limit.
    pub fn new(count: u32, window: Duration, tokens: u32) -> Self {
        Self { interval: window.checked_div(count), tokens: tokens.max(1) }
    }

    /// `count` in each `window`, all of them at once if need be. 0 is no limit.
    pub fn per(window: Duration, count: u32) -> Self {
        Self::new(count, window, count)
    }

    /// Whether there is a limit.
    pub fn is_limited(&self) -> bool {
        self.interval.is_some()
    }

    /// Most tokens in a bucket.
    pub fn tokens(&self) -> u32 {
        self.tokens
    }

    /// Time in which an empty bucket fills.
    pub fn window(&self) -> Duration {
        self.interval.unwrap_or_default() * self.tokens
    }
}

/// The tokens of one who does it, kept as the time at which the bucket will be full again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    full_at: Option<Instant>,
}

impl Bucket {
    /// Whether what was done before no longer matters.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|full_at| full_at <= now)
    }

    /// When it is full again; `now` if it is.
    pub fn full_at(&self, now: Instant) -> Instant {
        self.full_at.map_or(now, |full_at| full_at.max(now))
    }

    /// Tokens in it.
    pub fn tokens(&self, quota: Quota, now: Instant) -> u32 {
        let Some(interval) = quota.interval.filter(|interval| !interval.is_zero()) else {
            return quota.tokens;
        };
        let missing = (self.full_at(now) - now).as_nanos().div_ceil(interval.as_nanos());
        quota.tokens.saturating_sub(u32::try_from(missing).unwrap_or(u32::MAX))
    }

    /// How long it takes until there are `count` tokens, of which a full bucket has enough.
    pub fn lacks(&self, quota: Quota, count: u32, now: Instant) -> Duration {
        let Some(interval) = quota.interval else { return Duration::ZERO };
        // With so many tokens in it, a bucket is full after its window less them.
        let rest = quota.window().saturating_sub(interval * count);
        (self.full_at(now) - now).saturating_sub(rest)
    }

    /// Takes a token if there is one, else answers when there will be.
    pub fn try_take(&mut self, quota: Quota, now: Instant) -> Result<(), Instant> {
        self.try_take_many(quota, 1, now)
    }

    /// Takes `count` tokens or, if there are fewer, none, and answers when there will be enough. More than a full bucket has
    /// are all of them.
    pub fn try_take_many(&mut self, quota: Quota, count: u32, now: Instant) -> Result<(), Instant> {
        let Some(interval) = quota.interval else { return Ok(()) };
        let count = count.min(quota.tokens);
        let lacks = self.lacks(quota, count, now);
        if !lacks.is_zero() {
            return Err(now + lacks);
        }
        self.full_at = Some(self.full_at(now) + interval * count);
        Ok(())
    }

    /// Takes a token even if there is none: what several take at the same moment may overdraw it, and then all of them wait
    /// until that is made good. Answers when the next one is there, if it is not yet.
    pub fn overdraw(&mut self, quota: Quota, now: Instant) -> Option<Instant> {
        let interval = quota.interval?;
        self.full_at = Some(self.full_at(now) + interval);
        let lacks = self.lacks(quota, 1, now);
        (!lacks.is_zero()).then(|| now + lacks)
    }
}

/// What counts as one address: of IPv6 the network (/64), whose addresses one host may take at will.
pub fn counted_address(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) if !six.is_loopback() => Ipv6Addr::from_bits(six.to_bits() >> 64 << 64).into(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn a_token_is_taken_if_there_is_one() {
        let (now, quota) = (Instant::now(), Quota::per(MINUTE, 5));
        let mut bucket = Bucket::default();
        for left in (0..5).rev() {
            assert_eq!(bucket.try_take(quota, now), Ok(()));
            assert_eq!(bucket.tokens(quota, now), left);
        }
        let next = now + MINUTE / 5;
        assert_eq!(bucket.try_take(quota, now), Err(next));
        assert_eq!(bucket.try_take(quota, now + MINUTE / 6), Err(next));
        assert_eq!(bucket.try_take(quota, next), Ok(()));
        assert!(!bucket.is_full(now + MINUTE) && bucket.is_full(next + MINUTE));
        assert_eq!(bucket.tokens(quota, next + MINUTE), 5);
    }

    #[test]
    fn many_tokens_are_taken_at_once_or_none() {
        let (now, quota) = (Instant::now(), Quota::per(MINUTE, 6));
        let mut bucket = Bucket::default();
        assert_eq!(bucket.try_take_many(quota, 4, now), Ok(()));
        assert_eq!(bucket.try_take_many(quota, 3, now), Err(now + MINUTE / 6));
        assert_eq!(bucket.tokens(quota, now), 2);
        assert_eq!(bucket.try_take_many(quota, 2, now), Ok(()));
        assert_eq!(bucket.try_take_many(quota, 1000, now), Err(now + MINUTE));
        assert_eq!(bucket.try_take_many(quota, 1000, now + MINUTE), Ok(()));
        assert_eq!(bucket.tokens(quota, now + MINUTE), 0);
    }

    #[test]
    fn of_ipv6_the_network_counts() {
        let counted = |text: &str| counted_address(text.parse().unwrap()).to_string();
        assert_eq!(counted("192.0.2.7"), "192.0.2.7");
        assert_eq!(counted("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(counted("2001:db8::ffff:2"), "2001:db8::");
        assert_eq!(counted("2001:db8:0:1::1"), "2001:db8:0:1::");
        assert_eq!(counted("::1"), "::1");
    }

    #[test]
    fn a_limit_of_0_is_none() {
        let (now, quota) = (Instant::now(), Quota::per(MINUTE, 0));
        let mut bucket = Bucket::default();
        assert!((0..10_000).all(|_| bucket.try_take(quota, now).is_ok()));
        assert!(bucket.is_full(now) && !quota.is_limited());
    }
}
