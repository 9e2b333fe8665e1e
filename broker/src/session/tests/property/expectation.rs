//! What a device is to get, worked out from what it asked for and what is committed, without looking into the session.

use super::store::{CHATS, Store, chat, stream_of, streams_of};
use crate::{
    packet::{PacketId, Publish, Qos},
    session::tests::read_payload,
    topic,
};
use curlew_domain::{
    ids::{Seq, Stream, StreamId, UserId},
    session::{Cursors, Follow, OpenedSession},
};
use std::collections::{BTreeMap, BTreeSet};

/// The filters a device may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filter {
    Chat(usize),
    AnyChat,
    Events,
    Everything,
}

impl Filter {
    pub fn text(self, me: UserId) -> String {
        match self {
            Self::Chat(n) => topic::messages_topic(chat(n % CHATS)),
            Self::AnyChat => "chats/+/messages".into(),
            Self::Events => topic::events_topic(me),
            Self::Everything => "#".into(),
        }
    }

    fn matches(self, stream: Stream) -> bool {
        match (self, stream) {
            (Self::Chat(n), Stream::Chat(id)) => chat(n % CHATS) == id,
            (Self::AnyChat, Stream::Chat(_))
            | (Self::Events, Stream::Personal(_))
            | (Self::Everything, _) => true,
            _ => false,
        }
    }
}

/// Granted QoS and Subscription Identifier.
type Options = (Qos, Option<u32>);

#[derive(Clone, Debug, Default)]
struct Filters(BTreeMap<Filter, Options>);

impl Filters {
    fn matching(&self, stream: Stream) -> impl Iterator<Item = &Options> {
        self.0.iter().filter(move |(filter, _)| filter.matches(stream)).map(|(_, options)| options)
    }

    fn cover(&self, stream: Stream) -> bool {
        self.matching(stream).next().is_some()
    }
}

/// What one device is to get.
#[derive(Debug)]
pub struct Expectation {
    me: UserId,
    /// As committed, and as the connection has them.
    stored: Filters,
    live: Filters,
    /// Where each stream was entered; what was delivered and acknowledged since.
    entry: BTreeMap<StreamId, Seq>,
    delivered: BTreeMap<StreamId, BTreeSet<Seq>>,
    acknowledged: BTreeMap<StreamId, BTreeSet<Seq>>,
    /// What must come again with the same packet identifier.
    promised: BTreeMap<(StreamId, Seq), PacketId>,
    // Of this connection:
    window: usize,
    start: Cursors,
    /// Rows sent, in order, and whether they were acknowledged.
    sent: BTreeMap<StreamId, Vec<(Seq, bool)>>,
    pub in_flight: BTreeMap<PacketId, (StreamId, Seq)>,
}

impl Expectation {
    pub fn new(me: UserId) -> Self {
        Self {
            me,
            stored: Filters::default(),
            live: Filters::default(),
            entry: BTreeMap::new(),
            delivered: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            promised: BTreeMap::new(),
            window: 0,
            start: Cursors::new(),
            sent: BTreeMap::new(),
            in_flight: BTreeMap::new(),
        }
    }

    // ## What happens

    pub fn connected(&mut self, opened: &OpenedSession, window: usize) {
        if !opened.present {
            *self = Self::new(self.me);
        }
        self.live = self.stored.clone();
        self.window = window;
        self.start = opened.cursors.clone();
        let start = &self.start;
        self.promised.retain(|(stream, seq), _| start.get(stream).is_some_and(|cursor| seq > cursor));
    }

    /// The connection ended; `parked`: the process kept what was in flight.
    pub fn disconnected(&mut self, parked: bool) {
        let in_flight = std::mem::take(&mut self.in_flight);
        if parked {
            self.promised.extend(in_flight.into_iter().map(|(id, row)| (row, id)));
        } else {
            self.promised.clear();
        }
        self.sent.clear();
        self.start.clear();
    }

    pub fn subscribe(&mut self, filter: Filter, qos: Qos, id: Option<u32>) {
        self.live.0.insert(filter, (qos, id));
    }

    pub fn unsubscribe(&mut self, filter: Filter) {
        self.live.0.remove(&filter);
    }

    /// New filters were committed with this map.
    pub fn filters_stored(&mut self, store: &Store, (previous, follow): &(Follow, Follow), map: &Cursors) {
        for stream in streams_of(self.me) {
            let covered = |follow: &Follow| match stream {
                Stream::Chat(chat) => follow.covers(chat),
                Stream::Personal(_) => follow.personal,
            };
            assert_eq!(covered(previous), self.stored.cover(stream), "what was selected: {stream:?}");
            assert_eq!(covered(follow), self.live.cover(stream), "what is selected: {stream:?}");
            let entered = self.entry_of(store, stream);
            let id = stream.id();
            match (map.get(&id), entered) {
                (Some(cursor), Some(entered)) => {
                    assert!(*cursor >= entered, "{stream:?} moved back from {entered} to {cursor}");
                    self.entry.insert(id, entered);
                }
                (Some(cursor), None) => {
                    self.entry.insert(id, *cursor);
                    self.delivered.remove(&id);
                    self.acknowledged.remove(&id);
                }
                (None, _) => {
                    self.entry.remove(&id);
                    self.delivered.remove(&id);
                    self.acknowledged.remove(&id);
                }
            }
        }
        self.stored = self.live.clone();
        self.check_stored(store, map);
    }

    /// The session was told of it.
    pub fn filters_saved(&mut self, map: &Cursors) {
        self.start.retain(|id, _| map.contains_key(id));
        self.sent.retain(|id, _| map.contains_key(id));
        self.promised.retain(|(id, _), _| map.contains_key(id));
        for (id, cursor) in map {
            self.start.entry(*id).or_insert(*cursor);
        }
    }

    pub fn acknowledged(&mut self, id: PacketId) {
        let Some((stream, seq)) = self.in_flight.remove(&id) else { return };
        let Some(sent) = self.sent.get_mut(&stream) else { return };
        let Some(row) = sent.iter_mut().find(|(sent, _)| *sent == seq) else { return };
        row.1 = true;
        self.acknowledged.entry(stream).or_default().insert(seq);
    }

    /// An event was handed to the socket.
    pub fn published(&mut self, store: &Store, publish: &Publish) {
        let (id, seq) = read_payload(&publish.payload);
        let stream = stream_of(self.me, id);
        let topic = match stream {
            Stream::Chat(chat) => topic::messages_topic(chat),
            Stream::Personal(user) => topic::events_topic(user),
        };
        assert_eq!(publish.topic, topic);
        assert!(store.entitled(self.me, stream, seq), "not entitled to {stream:?} {seq}");

        let qos = self.live.matching(stream).map(|(qos, _)| *qos).max();
        assert_eq!(Some(publish.qos), qos, "{stream:?} {seq}");
        let ids: BTreeSet<u32> = self.live.matching(stream).filter_map(|(_, id)| *id).collect();
        assert_eq!(publish.properties.subscription_ids.len(), ids.len(), "each identifier once");
        assert_eq!(publish.properties.subscription_ids.iter().copied().collect::<BTreeSet<_>>(), ids);

        let start = self.start_of(store, stream).expect("the stream is followed");
        let last = self.sent.get(&id).and_then(|sent| sent.last()).map_or(start, |(seq, _)| *seq);
        assert!(seq > last, "{stream:?}: {seq} after {last}");
        let missed = (last + 1..seq).find(|seq| store.due(self.me, stream, *seq));
        assert_eq!(missed, None, "{stream:?}: left out between {last} and {seq}");

        let acknowledged = publish.qos == Qos::AtMostOnce;
        self.sent.entry(id).or_default().push((seq, acknowledged));
        self.delivered.entry(id).or_default().insert(seq);
        if acknowledged {
            self.acknowledged.entry(id).or_default().insert(seq);
            self.promised.remove(&(id, seq));
            assert!(!publish.dup && publish.packet_id.is_none());
            return;
        }
        let packet = publish.packet_id.expect("QoS 1 has a packet identifier");
        if let Some(promised) = self.promised.remove(&(id, seq)) {
            assert_eq!((packet, publish.dup), (promised, true), "sent again: {stream:?} {seq}");
        } else {
            assert!(!publish.dup, "sent the first time: {stream:?} {seq}");
            assert!(self.promised.values().all(|promised| *promised != packet), "{packet} is promised");
        }
        assert_eq!(self.in_flight.insert(packet, (id, seq)), None, "{packet} is in use");
        assert!(self.in_flight.len() <= self.window, "in flight beyond the window");
    }

    // ## What must be true

    /// Where the stream was entered; `None`: it is not followed.
    fn entry_of(&self, store: &Store, stream: Stream) -> Option<Seq> {
        let began = || self.stored.cover(stream).then(|| store.first_joined(self.me, stream)).flatten();
        self.entry.get(&stream.id()).copied().or_else(|| began().map(|joined| joined.saturating_sub(1)))
    }

    /// After which row this connection has it.
    fn start_of(&mut self, store: &Store, stream: Stream) -> Option<Seq> {
        let began = self.live.cover(stream).then(|| store.first_joined(self.me, stream)).flatten();
        let known = self.start.get(&stream.id()).copied();
        let start = known.or_else(|| began.map(|joined| joined.saturating_sub(1)))?;
        self.start.insert(stream.id(), start);
        Some(start)
    }

    /// The session's cursors are the ends of what was acknowledged without a gap.
    pub fn check_cursors(&mut self, store: &Store, cursors: &Cursors) {
        for (id, cursor) in cursors {
            let stream = stream_of(self.me, *id);
            let start = self.start_of(store, stream);
            let sent = self.sent.get(id).into_iter().flatten();
            let contiguous = sent.take_while(|(_, acknowledged)| *acknowledged).last();
            let expected = contiguous.map(|(seq, _)| *seq).or(start);
            assert_eq!(Some(*cursor), expected, "the cursor of {stream:?}");
        }
    }

    /// No stored cursor has passed a row that was not acknowledged.
    pub fn check_stored(&self, store: &Store, cursors: &Cursors) {
        for (id, cursor) in cursors {
            let stream = stream_of(self.me, *id);
            let Some(entry) = self.entry_of(store, stream) else {
                panic!("{stream:?} is in the map and not followed");
            };
            let acknowledged = self.acknowledged.get(id);
            let passed = (entry + 1..=*cursor).find(|seq| {
                store.due(self.me, stream, *seq) && !acknowledged.is_some_and(|rows| rows.contains(seq))
            });
            assert_eq!(passed, None, "the stored cursor {cursor} of {stream:?} skips a row");
        }
    }

    /// Everything was delivered and acknowledged.
    pub fn check_complete(&self, store: &Store) {
        for stream in streams_of(self.me) {
            let Some(entry) = self.entry_of(store, stream) else { continue };
            let delivered = self.delivered.get(&stream.id());
            let missed = (entry + 1..=store.log_end(stream)).find(|seq| {
                store.due(self.me, stream, *seq) && !delivered.is_some_and(|rows| rows.contains(seq))
            });
            assert_eq!(missed, None, "missed of {stream:?}, entered at {entry}");
        }
        assert!(self.in_flight.is_empty());
    }
}
