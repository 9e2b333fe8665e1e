//! How fast a user may send, over all connections and requests to this node.

use super::{Bucket, Quota};
use crate::ids::UserId;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A burst is so many seconds' worth.
const BURST_SECONDS: u32 = 4;
/// Users who are kept without asking whether that still matters.
const FEW: usize = 1024;

/// Sends per second; 0: as fast as one likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserLimits {
    /// Commands.
    pub messages_per_second: u32,
    /// Publications on the plain lane.
    pub plain_messages_per_second: u32,
}

/// Which limit something counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Commands: what is stored in logs, or asks for it.
    Commands,
    /// Ordinary MQTT beside them.
    Plain,
}

/// What one user has sent.
#[derive(Debug)]
pub struct Rates {
    commands: Used,
    plain: Used,
}

#[derive(Debug)]
struct Used {
    quota: Quota,
    bucket: Mutex<Bucket>,
}

/// What became of a request that was to be counted.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    /// Against what.
    pub quota: Quota,
    /// As it is now.
    pub bucket: Bucket,
    /// It was not counted, and is to be refused: when to try again.
    pub refused: Option<Instant>,
}

impl Rates {
    /// Nothing was sent yet.
    pub fn new(limits: UserLimits) -> Self {
        let unused = |per_second: u32| {
            let burst = per_second.saturating_mul(BURST_SECONDS);
            let quota = Quota::new(per_second, Duration::from_secs(1), burst);
            Used { quota, bucket: Mutex::default() }
        };
        Self { commands: unused(limits.messages_per_second), plain: unused(limits.plain_messages_per_second) }
    }

    /// Counts a publication that was read. Until the answer, if there is one, no more should be read. What several
    /// connections read at the same moment may overdraw the quota; then all of them wait until that is made good.
    pub fn count(&self, lane: Lane, now: Instant) -> Option<Instant> {
        let Used { quota, bucket } = self.lane(lane);
        lock(bucket).overdraw(*quota, now)
    }

    /// Counts a request that asks for so many commands, all of them or, if there is not enough left, none.
    pub fn try_count(&self, lane: Lane, commands: u32, now: Instant) -> Counted {
        let Used { quota, bucket } = self.lane(lane);
        let mut bucket = lock(bucket);
        let refused = bucket.try_take_many(*quota, commands, now).err();
        Counted { quota: *quota, bucket: *bucket, refused }
    }

    /// Whether what was sent before no longer matters.
    pub fn is_rested(&self, now: Instant) -> bool {
        [&self.commands, &self.plain].into_iter().all(|used| lock(&used.bucket).is_full(now))
    }

    fn lane(&self, lane: Lane) -> &Used {
        match lane {
            Lane::Commands => &self.commands,
            Lane::Plain => &self.plain,
        }
    }
}

impl Default for Rates {
    /// Without limits.
    fn default() -> Self {
        Self::new(UserLimits::default())
    }
}

/// The [`Rates`] of every user who is connected or has lately sent. What a user sends through one surface counts on all.
///
/// Others are forgotten, in time that is constant on average: at most as many of them are kept as of those.
#[derive(Debug, Default)]
pub struct RatesByUser {
    limits: UserLimits,
    users: Mutex<Users>,
}

#[derive(Debug, Default)]
struct Users {
    rates: HashMap<UserId, Arc<Rates>>,
    /// With more than so many it is time to look who can be forgotten.
    look_at: usize,
}

impl RatesByUser {
    /// Nobody has sent anything.
    pub fn new(limits: UserLimits) -> Arc<Self> {
        Arc::new(Self { limits, users: Mutex::default() })
    }

    /// Those of `user`. As long as somebody holds them they are the same for all.
    pub fn of(&self, user: UserId, now: Instant) -> Arc<Rates> {
        let mut users = lock(&self.users);
        if let Some(rates) = users.rates.get(&user) {
            return Arc::clone(rates);
        }
        if users.rates.len() >= users.look_at.max(FEW) {
            users.rates.retain(|_, rates| Arc::strong_count(rates) > 1 || !rates.is_rested(now));
            users.look_at = users.rates.len() * 2;
        }
        let rates = Arc::new(Rates::new(self.limits));
        users.rates.insert(user, Arc::clone(&rates));
        rates
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const SECOND: Duration = Duration::from_secs(1);

    fn rates(messages_per_second: u32) -> Rates {
        Rates::new(UserLimits { messages_per_second, plain_messages_per_second: 100 })
    }

    /// Publications that are read within `time`, by a reader that waits as it is told.
    fn read(rates: &Rates, mut now: Instant, time: Duration) -> usize {
        let end = now + time;
        let mut count = 0;
        while now < end && count < 1_000_000 {
            count += 1;
            if let Some(next) = rates.count(Lane::Commands, now) {
                now = next;
            }
        }
        count
    }

    #[test]
    fn a_burst_passes_at_once_and_then_so_many_a_second() {
        let (rates, now) = (rates(30), Instant::now());
        for _ in 0..119 {
            assert_eq!(rates.count(Lane::Commands, now), None);
        }
        let next = rates.count(Lane::Commands, now).unwrap() - now;
        assert!((33..=34).contains(&next.as_millis()), "{next:?}");
        let later = read(&rates, now + next, 100 * SECOND);
        assert!((2_999..=3_001).contains(&later), "{later}");
    }

    #[test]
    fn a_pause_fills_the_bucket_and_no_more_than_that() {
        let (rates, now) = (rates(10), Instant::now());
        read(&rates, now, SECOND);
        let later = now + Duration::from_hours(1);
        let burst = (0..1_000).take_while(|_| rates.count(Lane::Commands, later).is_none()).count();
        assert_eq!(burst, 39, "the fortieth is the last, after which one waits");
    }

    #[test]
    fn what_is_overdrawn_is_waited_for() {
        let (rates, now) = (rates(10), Instant::now());
        let waits: Vec<_> = (0..60).filter_map(|_| rates.count(Lane::Commands, now)).collect();
        assert_eq!(waits.len(), 21);
        assert_eq!(*waits.last().unwrap() - now, Duration::from_millis(2_100));
    }

    #[test]
    fn a_request_beyond_the_burst_is_refused_and_not_counted() {
        let (rates, now) = (rates(30), Instant::now());
        let try_one = |now| rates.try_count(Lane::Commands, 1, now).refused;
        assert_eq!((0..1_000).filter(|_| try_one(now).is_none()).count(), 120);
        let next = try_one(now).unwrap();
        assert_eq!((next - now).as_millis(), 33);
        assert_eq!(try_one(next), None);
        // What one surface has used up, another waits for.
        assert!(rates.count(Lane::Commands, next).is_some());
    }

    #[test]
    fn a_limit_of_0_is_none() {
        let (rates, now) = (Rates::default(), Instant::now());
        assert!((0..10_000).all(|_| rates.count(Lane::Commands, now).is_none()));
        assert!((0..10_000).all(|_| rates.try_count(Lane::Plain, 1, now).refused.is_none()));
    }

    #[test]
    fn the_lanes_are_counted_apart() {
        let (rates, now) = (rates(1), Instant::now());
        let waits: Vec<_> = (0..4).map(|_| rates.count(Lane::Commands, now).is_some()).collect();
        assert_eq!(waits, [false, false, false, true]);
        assert_eq!(rates.count(Lane::Plain, now), None);
        assert!(!rates.is_rested(now + 3 * SECOND) && rates.is_rested(now + 4 * SECOND));
    }

    #[test]
    fn a_user_is_kept_while_connected_or_not_rested_and_no_longer() {
        let limits = UserLimits { messages_per_second: 1, plain_messages_per_second: 1 };
        let (users, now) = (RatesByUser::new(limits), Instant::now());
        let user = |n: usize| UserId::from(Uuid::from_u128(n as u128));
        let connected = users.of(user(1), now);
        let sent = users.of(user(2), now);
        sent.count(Lane::Commands, now);
        drop(sent);
        (3..10 * FEW).for_each(|n| drop(users.of(user(n), now)));
        let kept = lock(&users.users).rates.len();
        assert!(kept <= FEW + 1, "{kept}");
        assert!(Arc::ptr_eq(&connected, &users.of(user(1), now)));
        let counted = users.of(user(2), now).try_count(Lane::Commands, 1, now);
        assert_eq!(counted.bucket.tokens(counted.quota, now), 2);

        let later = now + 4 * SECOND;
        (10 * FEW..20 * FEW).for_each(|n| drop(users.of(user(n), later)));
        assert!(!lock(&users.users).rates.contains_key(&user(2)));
    }
}
