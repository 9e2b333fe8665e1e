//! How fast a user may publish. Nothing is refused: who is too fast is read later.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A burst is so many seconds' worth.
const BURST_SECONDS: u32 = 4;

/// Publications per second; 0: as fast as one likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Commands.
    pub messages_per_second: u32,
    /// Publications on the plain lane.
    pub plain_messages_per_second: u32,
}

/// Which limit a publication counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Commands: what is stored in logs, or asks for it.
    Commands,
    /// Ordinary MQTT beside them.
    Plain,
}

impl Lane {
    /// By the topic alone, also of one that will be refused: `users/{user}/x/…` and `chats/{chat}/x/…` are plain.
    pub fn of(topic: &str) -> Self {
        let mut levels = topic.splitn(4, '/');
        match (levels.next(), levels.next(), levels.next(), levels.next()) {
            (Some("users" | "chats"), Some(_), Some("x"), Some(_)) => Self::Plain,
            _ => Self::Commands,
        }
    }
}

/// What one user has published, over all connections of this node.
#[derive(Debug)]
pub struct Rates {
    commands: Mutex<Bucket>,
    plain: Mutex<Bucket>,
}

impl Rates {
    /// Nothing was published yet.
    pub fn new(limits: Limits) -> Self {
        let bucket = |per_second| Mutex::new(Bucket::new(per_second));
        Self { commands: bucket(limits.messages_per_second), plain: bucket(limits.plain_messages_per_second) }
    }

    /// Counts a publication that was read. Until the answer, if there is one, no more should be read.
    pub fn count(&self, lane: Lane, now: Instant) -> Option<Instant> {
        let bucket = match lane {
            Lane::Commands => &self.commands,
            Lane::Plain => &self.plain,
        };
        lock(bucket).count(now)
    }

    /// Whether what was published before no longer matters.
    pub fn is_rested(&self, now: Instant) -> bool {
        [&self.commands, &self.plain].into_iter().all(|bucket| lock(bucket).is_full(now))
    }
}

fn lock(bucket: &Mutex<Bucket>) -> MutexGuard<'_, Bucket> {
    bucket.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Rates {
    /// Without limits.
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

/// A token bucket, kept as the time at which it will be full again. What several connections read at the same moment may
/// overdraw it; then all of them wait until that is made good.
#[derive(Debug)]
struct Bucket {
    /// Time for one token; `None`: no limit.
    interval: Option<Duration>,
    full_at: Option<Instant>,
}

impl Bucket {
    fn new(per_second: u32) -> Self {
        Self { interval: Duration::from_secs(1).checked_div(per_second), full_at: None }
    }

    fn is_full(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|full_at| full_at <= now)
    }

    /// Takes a token; answers when the next one is there, if it is not yet.
    fn count(&mut self, now: Instant) -> Option<Instant> {
        let interval = self.interval?;
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now)) + interval;
        self.full_at = Some(full_at);
        // With one token in it, a bucket is full after the burst less that one.
        let next = full_at.checked_sub(Duration::from_secs(BURST_SECONDS.into()).saturating_sub(interval))?;
        (next > now).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Publications that are read within `time`, by a reader that waits as it is told.
    fn read(bucket: &mut Bucket, mut now: Instant, time: Duration) -> usize {
        let end = now + time;
        let mut count = 0;
        while now < end {
            count += 1;
            if let Some(next) = bucket.count(now) {
                now = next;
            } else if count > 1_000_000 {
                break;
            }
        }
        count
    }

    #[test]
    fn a_burst_passes_at_once_and_then_so_many_a_second() {
        let now = Instant::now();
        let mut bucket = Bucket::new(30);
        for _ in 0..119 {
            assert_eq!(bucket.count(now), None);
        }
        let next = bucket.count(now).unwrap() - now;
        assert!((33..=34).contains(&next.as_millis()), "{next:?}");
        let later = read(&mut bucket, now + next, Duration::from_secs(100));
        assert!((2_999..=3_001).contains(&later), "{later}");
    }

    #[test]
    fn a_pause_fills_the_bucket_and_no_more_than_that() {
        let now = Instant::now();
        let mut bucket = Bucket::new(10);
        read(&mut bucket, now, Duration::from_secs(1));
        let later = now + Duration::from_hours(1);
        let burst = (0..1_000).take_while(|_| bucket.count(later).is_none()).count();
        assert_eq!(burst, 39, "the fortieth is the last, after which one waits");
    }

    #[test]
    fn what_is_overdrawn_is_waited_for() {
        let now = Instant::now();
        let mut bucket = Bucket::new(10);
        let waits: Vec<_> = (0..60).filter_map(|_| bucket.count(now)).collect();
        assert_eq!(waits.len(), 21);
        assert_eq!(*waits.last().unwrap() - now, Duration::from_millis(2_100));
    }

    #[test]
    fn a_limit_of_0_is_none() {
        let mut bucket = Bucket::new(0);
        let now = Instant::now();
        assert!((0..10_000).all(|_| bucket.count(now).is_none()));
    }

    #[test]
    fn the_lanes_are_counted_apart() {
        let now = Instant::now();
        let rates = Rates::new(Limits { messages_per_second: 1, plain_messages_per_second: 100 });
        let waits: Vec<_> = (0..4).map(|_| rates.count(Lane::Commands, now).is_some()).collect();
        assert_eq!(waits, [false, false, false, true]);
        assert_eq!(rates.count(Lane::Plain, now), None);
        let second = Duration::from_secs(1);
        assert!(!rates.is_rested(now + 3 * second) && rates.is_rested(now + 4 * second));
    }

    #[test]
    fn the_topic_tells_the_lane() {
        for topic in ["users/1/x/a", "users/1/x/a/b", "chats/1/x/2/a", "users/1/x/"] {
            assert_eq!(Lane::of(topic), Lane::Plain, "{topic}");
        }
        for topic in ["chats/1/send", "users/1/x", "users/1/presence", "x/1/x/a", "", "users/x/a/b"] {
            assert_eq!(Lane::of(topic), Lane::Commands, "{topic}");
        }
    }
}
