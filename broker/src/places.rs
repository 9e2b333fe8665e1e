//! How many connections there may be, in all and from one address.

use curlew_domain::rate::counted_address;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Places for connections. A connection has one from accept to close, and so also while it only shakes hands.
pub struct Places {
    /// Counter of those that got none, by `reason`.
    refused: &'static str,
    all: Arc<Semaphore>,
    per_address: usize,
    /// Connections of each address that has any.
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// Why a connection was closed before anything was served over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There are as many as there may be.
    Full,
    /// As many as there may be from its address.
    Address,
    /// Its PROXY header is missing, malformed or late.
    Proxy,
    /// Its TLS handshake failed or is late.
    Tls,
}

impl Refusal {
    fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Address => "address",
            Self::Proxy => "proxy",
            Self::Tls => "tls",
        }
    }
}

impl Places {
    /// Places for so many `connections`, and so many `per_address` (0: as many as there are). The counter `refused` tells
    /// of those that got none.
    pub fn new(refused: &'static str, connections: usize, per_address: usize) -> Arc<Self> {
        let all = Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self { refused, all, per_address, taken: Mutex::default() })
    }

    /// A place for one more connection; `None`: it must be closed.
    pub fn take(self: &Arc<Self>) -> Option<Place> {
        let Ok(permit) = Arc::clone(&self.all).try_acquire_owned() else {
            self.count_refused(Refusal::Full);
            return None;
        };
        Some(Place { places: Arc::clone(self), _permit: permit, address: None })
    }

    /// Counts a connection that was closed unserved.
    pub fn count_refused(&self, refusal: Refusal) {
        metrics::counter!(self.refused, "reason" => refusal.as_str()).increment(1);
    }

    fn with_taken<T>(&self, work: impl FnOnce(&mut HashMap<IpAddr, usize>) -> T) -> T {
        work(&mut self.taken.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A place, free again when dropped.
pub struct Place {
    places: Arc<Places>,
    _permit: OwnedSemaphorePermit,
    /// The address it is counted for.
    address: Option<IpAddr>,
}

impl Place {
    /// Counts the connection for the address it comes from, once that is known; `false`: it has too many, and this one
    /// must be closed. Loopback is not counted: what runs on this machine is the operator's.
    pub fn count_for(&mut self, address: IpAddr) -> bool {
        let address = counted_address(address);
        if self.places.per_address == 0 || self.address.is_some() || address.is_loopback() {
            return true;
        }
        let most = self.places.per_address;
        let has_room = self.places.with_taken(|taken| {
            let count = taken.entry(address).or_default();
            let has_room = *count < most;
            *count += usize::from(has_room);
            has_room
        });
        if has_room {
            self.address = Some(address);
        } else {
            self.places.count_refused(Refusal::Address);
        }
        has_room
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        self.places.with_taken(|taken| {
            if let Some(count) = taken.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    taken.remove(&address);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(places: &Arc<Places>, address: &str) -> Option<Place> {
        let mut place = places.take()?;
        place.count_for(address.parse().unwrap()).then_some(place)
    }

    #[test]
    fn a_place_is_free_again_when_its_connection_ends() {
        let places = Places::new("refused", 2, 0);
        let first = places.take().unwrap();
        let second = places.take().unwrap();
        assert!(places.take().is_none());
        drop(first);
        assert!(places.take().is_some());
        drop(second);
    }

    #[test]
    fn one_address_has_so_many_and_others_have_theirs() {
        let places = Places::new("refused", 100, 2);
        let held: Vec<_> = (0..2).map(|_| from(&places, "192.0.2.1").unwrap()).collect();
        assert!(from(&places, "192.0.2.1").is_none());
        assert!(from(&places, "::ffff:192.0.2.1").is_none(), "the same address in the clothes of IPv6");
        let other = from(&places, "192.0.2.2");
        assert!(other.is_some());
        drop(held);
        assert!(from(&places, "192.0.2.1").is_some());
        drop(other);
        assert!(places.with_taken(|taken| taken.is_empty()), "addresses without connections are forgotten");
    }

    #[test]
    fn of_ipv6_the_network_counts() {
        let places = Places::new("refused", 100, 1);
        let held = from(&places, "2001:db8::1");
        assert!(held.is_some());
        assert!(from(&places, "2001:db8::ffff:2").is_none());
        assert!(from(&places, "2001:db8:0:1::1").is_some());
    }

    #[test]
    fn loopback_is_not_counted_and_zero_switches_the_limit_off() {
        let places = Places::new("refused", 100, 1);
        for address in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            let held: Vec<_> = (0..3).map(|_| from(&places, address)).collect();
            assert!(held.iter().all(Option::is_some), "{address}");
        }
        let places = Places::new("refused", 100, 0);
        let held: Vec<_> = (0..9).map(|_| from(&places, "192.0.2.1")).collect();
        assert!(held.iter().all(Option::is_some));
    }
}
