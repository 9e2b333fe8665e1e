//! How often a client may do what costs most or is worth trying often: the policies, and what has been used of each.

use crate::{ApiState, problem::Problem};
use axum::{
    extract::{ConnectInfo, FromRequestParts},
    http::{HeaderMap, HeaderName, HeaderValue, header::RETRY_AFTER, request::Parts},
};
use curlew_domain::{
    ErrorCode,
    ids::UserId,
    rate::{Bucket, Counted, Lane, Quota, RatesByUser, counted_address},
};
use std::{
    cmp::Reverse,
    collections::HashMap,
    convert::Infallible,
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

// https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// Most buckets that are remembered; beyond it those go that are the fullest, which say the least.
const MAX_BUCKETS: usize = 100_000;
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// How often a client may do it; 0: as often as it likes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Sign-ins to one account from one address, per minute.
    pub login_per_minute: u32,
    /// Sign-ins to one account, per hour.
    pub login_per_account_per_hour: u32,
    /// Sign-ins from one address, per minute.
    pub login_per_address_per_minute: u32,
    /// Registrations from one address, per hour.
    pub registration_per_address_per_hour: u32,
    /// Contact requests of one user, per day.
    pub contact_requests_per_day: u32,
}

/// What is counted, for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Login(u64, IpAddr),
    Account(u64),
    Address(IpAddr),
    Registration(IpAddr),
    ContactRequest(UserId),
}

/// A policy as it applies to a request.
#[derive(Clone, Copy)]
struct Applied {
    name: &'static str,
    quota: Quota,
    key: Key,
}

/// All policies, and what has been used of each.
pub struct Limiter {
    limits: RateLimits,
    buckets: Mutex<HashMap<Key, Bucket>>,
    users: Arc<RatesByUser>,
}

impl Limiter {
    /// Nothing was used yet. `users` counts commands, here and wherever else it is shared.
    pub fn new(limits: RateLimits, users: Arc<RatesByUser>) -> Self {
        Self { limits, buckets: Mutex::default(), users }
    }

    fn buckets(&self) -> MutexGuard<'_, HashMap<Key, Bucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a token of each policy, or of none.
    fn take(&self, applied: &[Applied], now: Instant) -> Verdict {
        let limited = || applied.iter().filter(|applied| applied.quota.is_limited());
        let mut buckets = self.buckets();
        let mut verdict = Verdict::default();
        let mut taken = Vec::new();
        for Applied { name, quota, key } in limited().copied() {
            let mut bucket = buckets.get(&key).copied().unwrap_or_default();
            let refused = bucket.try_take(quota, now).err();
            verdict.retry = verdict.retry.max(refused.map(|next| next - now));
            verdict.add_policy(name, quota);
            // How often others try an account is told to nobody, until it is the reason.
            if refused.is_some() || !matches!(key, Key::Account(_)) {
                verdict.add_state(name, quota, bucket, now);
            }
            taken.push((key, bucket));
        }
        if verdict.retry.is_none() {
            buckets.extend(taken);
            forget(&mut buckets, now, MAX_BUCKETS);
        }
        verdict
    }
}

/// Keeps at most so many buckets, the emptiest.
fn forget(buckets: &mut HashMap<Key, Bucket>, now: Instant, most: usize) {
    if buckets.len() <= most {
        return;
    }
    buckets.retain(|_, bucket| !bucket.is_full(now));
    if buckets.len() > most / 2 {
        // Half of them, so that this is rare.
        let mut ends: Vec<Instant> = buckets.values().map(|bucket| bucket.full_at(now)).collect();
        let (_, median, _) = ends.select_nth_unstable(buckets.len() - most / 2);
        let median = *median;
        buckets.retain(|_, bucket| bucket.full_at(now) >= median);
    }
}

/// What became of a request, for the client to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Verdict {
    policies: Vec<String>,
    /// Of the policy that has least left: its name, tokens, and how long until there is one more.
    tightest: Option<(&'static str, u32, Duration)>,
    /// Refused: when to try again.
    retry: Option<Duration>,
}

impl Verdict {
    fn add_policy(&mut self, name: &'static str, quota: Quota) {
        self.policies.push(format!("\"{name}\";q={};w={}", quota.tokens(), seconds(quota.window())));
    }

    fn add_state(&mut self, name: &'static str, quota: Quota, bucket: Bucket, now: Instant) {
        let left = bucket.tokens(quota, now);
        let more = left.saturating_add(1).min(quota.tokens());
        let state = (name, left, bucket.lacks(quota, more, now));
        // Of two that are empty, the one that is waited for.
        if self.tightest.is_none_or(|(_, least, next)| (left, Reverse(state.2)) < (least, Reverse(next))) {
            self.tightest = Some(state);
        }
    }

    fn write(&self, headers: &mut HeaderMap) {
        let mut put = |name, text: String| {
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(name, value);
            }
        };
        if !self.policies.is_empty() {
            put(POLICY, self.policies.join(", "));
        }
        if let Some((name, left, next)) = self.tightest {
            put(STATE, format!("\"{name}\";r={left};t={}", seconds(next)));
        }
        if let Some(retry) = self.retry {
            put(RETRY_AFTER, seconds(retry).max(1).to_string());
        }
    }
}

/// Rounded up.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// Where a request's verdict is left for its answer: put into the request's extensions by the outermost layer.
#[derive(Clone, Debug, Default)]
pub struct Noted(Arc<Mutex<Option<Verdict>>>);

impl Noted {
    /// Writes what was noted, if anything was, into an answer.
    pub fn write(&self, headers: &mut HeaderMap) {
        if let Some(verdict) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            verdict.write(headers);
        }
    }
}

/// What a request is counted with; an extractor.
pub struct Meter {
    limiter: Arc<Limiter>,
    address: IpAddr,
    noted: Noted,
}

impl FromRequestParts<ApiState> for Meter {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let address = peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |ConnectInfo(peer)| peer.ip());
        Ok(Self {
            limiter: Arc::clone(&state.limiter),
            address: counted_address(address),
            noted: parts.extensions.get::<Noted>().cloned().unwrap_or_default(),
        })
    }
}

impl Meter {
    /// Counts a sign-in, whatever comes of it. `account` is what the client calls it; whether there is one plays no part.
    pub fn count_login(&self, account: &str) -> Result<(), Problem> {
        let RateLimits { login_per_minute, login_per_account_per_hour, .. } = self.limiter.limits;
        let per_address = self.limiter.limits.login_per_address_per_minute;
        let account = hash_of(&account.to_lowercase());
        self.count(&[
            ("login", Quota::per(MINUTE, login_per_minute), Key::Login(account, self.address)),
            ("login-account", Quota::per(HOUR, login_per_account_per_hour), Key::Account(account)),
            ("login-address", Quota::per(MINUTE, per_address), Key::Address(self.address)),
        ])
    }

    /// Counts a registration.
    pub fn count_registration(&self) -> Result<(), Problem> {
        let quota = Quota::per(HOUR, self.limiter.limits.registration_per_address_per_hour);
        self.count(&[("registration", quota, Key::Registration(self.address))])
    }

    /// Counts a contact request.
    pub fn count_contact_request(&self, user: UserId) -> Result<(), Problem> {
        let quota = Quota::per(DAY, self.limiter.limits.contact_requests_per_day);
        self.count(&[("contact-requests", quota, Key::ContactRequest(user))])
    }

    /// Counts so many commands of those that MQTT has, too, all of them or none; over both there is one quota.
    pub fn count_commands(&self, user: UserId, commands: usize) -> Result<(), Problem> {
        let now = Instant::now();
        let commands = u32::try_from(commands).unwrap_or(u32::MAX);
        let Counted { quota, bucket, refused } =
            self.limiter.users.of(user, now).try_count(Lane::Commands, commands, now);
        let mut verdict = Verdict::default();
        if quota.is_limited() {
            verdict.add_policy("messages", quota);
            verdict.add_state("messages", quota, bucket, now);
        }
        verdict.retry = refused.map(|next| next - now);
        self.note(verdict)
    }

    fn count(&self, policies: &[(&'static str, Quota, Key)]) -> Result<(), Problem> {
        let applied: Vec<Applied> =
            policies.iter().map(|(name, quota, key)| Applied { name, quota: *quota, key: *key }).collect();
        self.note(self.limiter.take(&applied, Instant::now()))
    }

    fn note(&self, verdict: Verdict) -> Result<(), Problem> {
        let refused = verdict.retry;
        *self.noted.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(verdict);
        match refused {
            None => Ok(()),
            Some(retry) => {
                let detail = format!("too often; try again in {} s", seconds(retry).max(1));
                Err(Problem::new(ErrorCode::TooManyRequests, detail))
            }
        }
    }
}

fn hash_of(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use curlew_domain::rate::UserLimits;
    use uuid::Uuid;

    const ME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn meter(limits: RateLimits, limiter: Option<&Meter>, address: &str) -> Meter {
        let limiter = limiter.map_or_else(
            || Arc::new(Limiter::new(limits, Arc::default())),
            |meter| Arc::clone(&meter.limiter),
        );
        Meter { limiter, address: counted_address(address.parse().unwrap()), noted: Noted::default() }
    }

    fn headers(meter: &Meter) -> HeaderMap {
        let mut headers = HeaderMap::new();
        meter.noted.write(&mut headers);
        headers
    }

    #[test]
    fn an_account_is_tried_so_often_from_one_address() {
        let limits = RateLimits { login_per_minute: 2, ..RateLimits::default() };
        let here = meter(limits, None, "192.0.2.1");
        assert!(here.count_login("bob").is_ok() && here.count_login("BOB").is_ok());
        assert_eq!(headers(&here)[&POLICY], "\"login\";q=2;w=60");
        let refused = here.count_login("bob").unwrap_err();
        assert_eq!(refused.code, ErrorCode::TooManyRequests);
        let headers = headers(&here);
        assert_eq!(headers[RETRY_AFTER], "30");
        assert_eq!(headers[&STATE], "\"login\";r=0;t=30");
        assert!(here.count_login("alice").is_ok(), "another account");
        assert!(meter(limits, Some(&here), "192.0.2.2").count_login("bob").is_ok(), "another address");
    }

    #[test]
    fn a_refusal_uses_nothing_up() {
        let limits =
            RateLimits { login_per_minute: 1, login_per_account_per_hour: 3, ..RateLimits::default() };
        let here = meter(limits, None, "192.0.2.1");
        assert!(here.count_login("bob").is_ok());
        for _ in 0..10 {
            assert!(here.count_login("bob").is_err());
        }
        let there = meter(limits, Some(&here), "192.0.2.2");
        assert!(there.count_login("bob").is_ok());
        assert_eq!(headers(&there)[&STATE], "\"login\";r=0;t=60");
    }

    #[test]
    fn the_attempts_of_others_are_told_once_they_are_the_reason() {
        let limits =
            RateLimits { login_per_minute: 9, login_per_account_per_hour: 2, ..RateLimits::default() };
        let elsewhere = meter(limits, None, "192.0.2.1");
        assert!(elsewhere.count_login("bob").is_ok());
        let here = meter(limits, Some(&elsewhere), "192.0.2.2");
        assert!(here.count_login("bob").is_ok());
        let told = headers(&here);
        assert_eq!(told[&POLICY], "\"login\";q=9;w=60, \"login-account\";q=2;w=3600");
        assert_eq!(told[&STATE], "\"login\";r=8;t=7");
        assert!(here.count_login("bob").is_err());
        let told = headers(&here);
        assert_eq!(
            (&told[&STATE], &told[RETRY_AFTER]),
            (&"\"login-account\";r=0;t=1800".parse().unwrap(), &"1800".parse().unwrap())
        );
    }

    #[test]
    fn of_two_limits_that_refuse_the_one_that_is_waited_for_is_told() {
        let limits = RateLimits {
            login_per_minute: 1,
            login_per_account_per_hour: 1,
            login_per_address_per_minute: 1,
            ..RateLimits::default()
        };
        let here = meter(limits, None, "192.0.2.1");
        assert!(here.count_login("bob").is_ok() && here.count_login("bob").is_err());
        assert_eq!(headers(&here)[&STATE], "\"login-account\";r=0;t=3600");
    }

    #[test]
    fn commands_are_counted_together_with_those_of_other_surfaces() {
        let limits = UserLimits { messages_per_second: 1, plain_messages_per_second: 1 };
        let (users, me) = (RatesByUser::new(limits), Uuid::from_u128(7).into());
        let limiter = Arc::new(Limiter::new(RateLimits::default(), Arc::clone(&users)));
        let here = Meter { limiter, address: ME, noted: Noted::default() };
        users.of(me, Instant::now()).count(Lane::Commands, Instant::now());
        assert!(here.count_commands(me, 2).is_ok());
        assert!(headers(&here)[&STATE].to_str().unwrap().starts_with("\"messages\";r=1;"));
        assert!(here.count_commands(me, 3).is_err(), "all of them or none");
        assert_eq!(headers(&here)[RETRY_AFTER], "2");
        assert!(here.count_commands(me, 1).is_ok());
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one() {
        let limits = RateLimits { registration_per_address_per_hour: 1, ..RateLimits::default() };
        let here = meter(limits, None, "2001:db8:1:2::1");
        assert!(here.count_registration().is_ok());
        assert!(meter(limits, Some(&here), "2001:db8:1:2:ffff::9").count_registration().is_err());
        assert!(meter(limits, Some(&here), "2001:db8:1:3::1").count_registration().is_ok());
        let mapped = meter(limits, Some(&here), "::ffff:192.0.2.1");
        assert!(mapped.count_registration().is_ok());
        assert!(meter(limits, Some(&here), "192.0.2.1").count_registration().is_err());
    }

    #[test]
    fn without_limits_nothing_is_said() {
        let here = meter(RateLimits::default(), None, "192.0.2.1");
        for _ in 0..1000 {
            assert!(here.count_login("bob").is_ok());
        }
        assert!(headers(&here).is_empty() && here.limiter.buckets().is_empty());
    }

    #[test]
    fn the_emptiest_buckets_are_remembered() {
        let (now, quota) = (Instant::now(), Quota::per(HOUR, 100));
        let mut buckets = HashMap::new();
        for n in 0..10u64 {
            let mut bucket = Bucket::default();
            for _ in 0..=n {
                bucket.try_take(quota, now).unwrap();
            }
            buckets.insert(Key::Login(n, ME), bucket);
        }
        forget(&mut buckets, now, 9);
        assert!(buckets.len() <= 5 && buckets.contains_key(&Key::Login(9, ME)), "{buckets:?}");
        forget(&mut buckets, now + HOUR, 1);
        assert!(buckets.is_empty());
    }
}
