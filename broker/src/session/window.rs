//! The in-flight window: packet identifiers of what was sent at QoS 1 or 2 and not yet acknowledged to the end.
//!
//! Messages that wait in a session's queue have the upper half of the identifiers, each its own by its place in the queue, so
//! that it is the same after any crash; everything else has the lower half.

use crate::packet::{PacketId, Qos};
use curlew_domain::ids::{Seq, StreamId};
use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

/// Widest window, and most promises: together they leave identifiers free.
const MAX_WINDOW: usize = 16 * 1024;

/// The highest identifier of what does not wait in a queue.
const LOWER: u16 = 0x7FFF;

/// A row of a stream.
pub type Row = (StreamId, Seq);

/// What is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flight {
    /// A row, at QoS 1.
    Row(Row),
    /// A message of the plain lane.
    Plain {
        /// Its place in the session's queue, if it waits there.
        seq: Option<Seq>,
        /// 1 or 2.
        qos: Qos,
        /// QoS 2: PUBREC has come.
        released: bool,
    },
}

/// What was in flight when a connection ended, oldest first. Kept by the process for the session's return, so that the
/// same rows go out with the same packet identifiers and DUP `[MQTT-4.4.0-1]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unacknowledged(Vec<(PacketId, Row)>);

impl Unacknowledged {
    /// The rows, oldest first.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        self.0.iter().map(|(_, row)| *row)
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The in-flight window.
#[derive(Debug)]
pub struct Window {
    limit: usize,
    /// In flight, by order of sending.
    in_flight: BTreeMap<u64, (PacketId, Flight)>,
    by_packet: HashMap<PacketId, u64>,
    /// Identifiers promised to rows that are sent again.
    resend: HashMap<Row, PacketId>,
    last: u16,
    sent: u64,
    /// Since when the window has been full without an acknowledgement.
    full_since: Option<Instant>,
}

impl Window {
    /// A window of `limit` publications, the session's earlier ones promised their identifiers.
    pub fn new(limit: u16, earlier: &Unacknowledged) -> Self {
        Self {
            limit: usize::from(limit).clamp(1, MAX_WINDOW),
            in_flight: BTreeMap::new(),
            by_packet: HashMap::new(),
            resend: earlier.0.iter().map(|(id, row)| (*row, *id)).collect(),
            last: 0,
            sent: 0,
            full_since: None,
        }
    }

    /// Takes back what was promised to rows that will not be sent with an identifier: of streams that are not followed any
    /// more, or acknowledged by now. Else such promises would pile up until no identifier is free.
    pub fn keep_promises(&mut self, keep: impl Fn(Row) -> bool) {
        self.resend.retain(|row, _| keep(*row));
    }

    /// Whether another publication may be sent.
    pub fn has_room(&self) -> bool {
        self.in_flight.len() < self.limit
    }

    /// Takes a packet identifier for a row, and whether the row was sent with it before (DUP).
    pub fn take(&mut self, row: Row, now: Instant) -> (PacketId, bool) {
        let (id, dup) = match self.resend.remove(&row) {
            Some(id) => (id, true),
            None => (self.free_id(), false),
        };
        self.insert(id, Flight::Row(row), now);
        (id, dup)
    }

    /// Takes a packet identifier for a message of the plain lane; `None`: that of this place in the queue is still in use.
    pub fn take_plain(
        &mut self,
        seq: Option<Seq>,
        qos: Qos,
        released: bool,
        now: Instant,
    ) -> Option<PacketId> {
        let id = match seq {
            Some(seq) => queued_id(seq),
            None => self.free_id(),
        };
        if self.by_packet.contains_key(&id) {
            return None;
        }
        self.insert(id, Flight::Plain { seq, qos, released }, now);
        Some(id)
    }

    fn insert(&mut self, id: PacketId, flight: Flight, now: Instant) {
        self.sent += 1;
        self.in_flight.insert(self.sent, (id, flight));
        self.by_packet.insert(id, self.sent);
        if !self.has_room() {
            self.full_since = Some(now);
        }
    }

    /// Never one that is in flight or promised; there are far more identifiers than places in the window.
    fn free_id(&mut self) -> PacketId {
        loop {
            self.last = self.last % LOWER + 1;
            if let Some(id) = PacketId::new(self.last)
                && !self.by_packet.contains_key(&id)
                && !self.resend.values().any(|promised| *promised == id)
            {
                return id;
            }
        }
    }

    /// What is in flight under this identifier.
    pub fn find(&self, id: PacketId) -> Option<Flight> {
        let order = self.by_packet.get(&id)?;
        self.in_flight.get(order).map(|(_, flight)| *flight)
    }

    /// PUBREC has come for a message at QoS 2.
    pub fn release(&mut self, id: PacketId) {
        if let Some(order) = self.by_packet.get(&id)
            && let Some((_, Flight::Plain { released, .. })) = self.in_flight.get_mut(order)
        {
            *released = true;
            self.full_since = None;
        }
    }

    /// It is acknowledged to the end, and its identifier free.
    pub fn acknowledge(&mut self, id: PacketId) -> Option<Flight> {
        let order = self.by_packet.remove(&id)?;
        let (_, flight) = self.in_flight.remove(&order)?;
        self.full_since = None;
        Some(flight)
    }

    /// Since when the window has been full without an acknowledgement.
    pub fn full_since(&self) -> Option<Instant> {
        self.full_since
    }

    /// What is left when the connection ends.
    pub fn into_unacknowledged(self) -> Unacknowledged {
        // Promised ones that were not reached yet go after those in flight; their own order is that of their rows.
        let mut promised: Vec<_> = self.resend.into_iter().map(|(row, id)| (id, row)).collect();
        promised.sort_by_key(|(_, row)| *row);
        let row = |(id, flight)| match flight {
            Flight::Row(row) => Some((id, row)),
            Flight::Plain { .. } => None,
        };
        let in_flight = self.in_flight.into_values().filter_map(row);
        Unacknowledged(in_flight.chain(promised).take(MAX_WINDOW).collect())
    }
}

/// The identifier of a place in a session's queue.
fn queued_id(seq: Seq) -> PacketId {
    let low = u16::try_from(seq % (u64::from(LOWER) + 1)).unwrap_or(0);
    PacketId::new(low | (LOWER + 1)).unwrap_or(PacketId::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn row(seq: Seq) -> Row {
        (StreamId::from(Uuid::from_u128(1)), seq)
    }

    #[test]
    fn identifiers_wrap_and_never_meet_one_in_use() {
        let now = Instant::now();
        let mut window = Window::new(2, &Unacknowledged::default());
        let (first, dup) = window.take(row(1), now);
        assert_eq!((first.get(), dup), (1, false));
        for seq in 2..=70_000 {
            let (id, _) = window.take(row(seq), now);
            assert_ne!(id, first);
            assert_eq!(window.acknowledge(id), Some(Flight::Row(row(seq))));
        }
        assert_eq!(window.acknowledge(first), Some(Flight::Row(row(1))));
        assert_eq!(window.acknowledge(first), None);
    }

    #[test]
    fn a_row_that_was_in_flight_goes_out_again_with_its_identifier() {
        let now = Instant::now();
        let mut window = Window::new(4, &Unacknowledged::default());
        let ids: Vec<_> = (1..=3).map(|seq| window.take(row(seq), now).0).collect();
        window.acknowledge(ids[1]);
        let mut window = Window::new(4, &window.into_unacknowledged());
        assert_eq!(window.take(row(1), now), (ids[0], true));
        let (fresh, dup) = window.take(row(4), now);
        assert!(!dup && !ids.contains(&fresh) || fresh == ids[1]);
        assert_eq!(window.take(row(3), now), (ids[2], true));
    }
}
