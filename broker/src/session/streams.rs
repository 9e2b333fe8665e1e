//! Where a session stands in each of its streams.

use curlew_domain::{
    ids::{Seq, Stream, StreamId},
    session::Cursors,
};
use std::collections::{BTreeMap, HashMap, VecDeque};

/// One stream. `acked <= sent <= taken <= known_end` except that `known_end` is a hint and may lag.
#[derive(Debug)]
struct State {
    stream: Stream,
    /// The cursor: every row up to here that was sent has been acknowledged.
    acked: Seq,
    /// Every row up to here has been taken: queued, sent, or known not to be the user's.
    taken: Seq,
    /// The highest row known to exist.
    known_end: Seq,
    /// The last row sent.
    sent: Seq,
    /// Rows sent and not acknowledged, in order, each with the row sent before it. No more than the window holds.
    unacknowledged: VecDeque<(Seq, Seq)>,
    /// Whether it is in the queue of those to be read from the log, or being read.
    queued: bool,
    /// Whether a hint came since the stream was handed out for reading.
    hinted: bool,
    /// Whether the page that is being read may show what is gone since.
    stale: bool,
}

/// What to do with a row that comes straight from a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Live {
    /// It is the next one: it has been taken, send it.
    Take,
    /// Not now: it was taken before, or the stream is behind and will meet it in the log.
    Skip,
    /// The session does not follow this stream.
    Unknown,
}

/// All streams of a session.
#[derive(Debug, Default)]
pub struct Streams {
    states: BTreeMap<StreamId, State>,
    /// Streams that have rows in the log which were not taken, each once: read some at a time, in turn.
    behind: VecDeque<StreamId>,
}

impl Streams {
    /// Begins to follow a stream after `cursor`. One that is followed already does not move.
    pub fn follow(&mut self, stream: Stream, cursor: Seq) {
        self.states.entry(stream.id()).or_insert_with(|| State {
            stream,
            acked: cursor,
            taken: cursor,
            known_end: cursor,
            sent: cursor,
            unacknowledged: VecDeque::new(),
            queued: false,
            hinted: false,
            stale: false,
        });
    }

    /// Keeps the streams for which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(StreamId) -> bool) {
        self.states.retain(|id, _| keep(*id));
        self.behind.retain(|id| self.states.contains_key(id));
    }

    /// Whether the stream is followed.
    pub fn follows(&self, stream: StreamId) -> bool {
        self.states.contains_key(&stream)
    }

    /// Whether the row is still to be sent.
    pub fn awaits(&self, stream: StreamId, seq: Seq) -> bool {
        self.states.get(&stream).is_some_and(|state| seq > state.sent)
    }

    /// A row with this `seq` exists; queues the stream for reading when it was not taken.
    pub fn hint(&mut self, stream: StreamId, seq: Seq) {
        let Some(state) = self.states.get_mut(&stream) else { return };
        state.known_end = state.known_end.max(seq);
        state.hinted = true;
        if state.known_end > state.taken && !state.queued {
            state.queued = true;
            self.behind.push_back(stream);
        }
    }

    /// A row comes from a commit. `room`: whether it could be queued.
    pub fn live(&mut self, stream: StreamId, seq: Seq, room: bool) -> Live {
        let Some(state) = self.states.get_mut(&stream) else { return Live::Unknown };
        if seq == state.taken + 1 && !state.queued && room {
            state.taken = seq;
            state.known_end = state.known_end.max(seq);
            return Live::Take;
        }
        self.hint(stream, seq);
        Live::Skip
    }

    /// Rows show what is gone since: those from `first` on, which were taken and are let go, and those of a page that is being
    /// read. They are read again.
    pub fn read_again(&mut self, stream: StreamId, first: Option<Seq>) {
        let Some(state) = self.states.get_mut(&stream) else { return };
        state.stale = state.queued;
        if let Some(first) = first {
            let end = state.taken;
            state.taken = first.saturating_sub(1);
            self.hint(stream, end);
        }
    }

    /// [`Self::read_again`] for every stream; `first`: the first row of each that was taken and is let go.
    pub fn read_all_again(&mut self, first: &HashMap<StreamId, Seq>) {
        let streams: Vec<StreamId> = self.states.keys().copied().collect();
        for stream in streams {
            self.read_again(stream, first.get(&stream).copied());
        }
    }

    /// The next streams to read from the log, and after which row of each. They are not offered again before [`Self::read`].
    pub fn take_behind(&mut self, most: usize) -> Vec<(Stream, Seq)> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(id) = self.behind.pop_front()
        {
            if let Some(state) = self.states.get_mut(&id) {
                state.hinted = false;
                state.stale = false;
                taken.push((state.stream, state.taken));
            }
        }
        taken
    }

    /// A page of the log was read: everything the user may have up to `end` has been taken. `more`: there is more, also of a
    /// log for which there was no room. The last page settles every hint that is older than the read: rows beyond it are not
    /// the user's. `false`: the page was asked for by an earlier subscription and must be dropped.
    pub fn read(&mut self, stream: StreamId, after: Seq, end: Seq, more: bool) -> bool {
        let Some(state) = self.states.get_mut(&stream).filter(|state| state.taken == after) else {
            return false;
        };
        if std::mem::take(&mut state.stale) {
            if !self.behind.contains(&stream) {
                self.behind.push_back(stream);
            }
            return false;
        }
        state.taken = state.taken.max(end);
        if !more && !state.hinted {
            state.known_end = state.taken;
        }
        state.queued = more || state.known_end > state.taken;
        if state.queued && !self.behind.contains(&stream) {
            self.behind.push_back(stream);
        }
        true
    }

    /// A row was written to the socket. At QoS 0 it counts as acknowledged; answers the cursor if that moved it.
    pub fn sent(&mut self, stream: StreamId, seq: Seq, acknowledged: bool) -> Option<Seq> {
        let state = self.states.get_mut(&stream)?;
        if !acknowledged {
            state.unacknowledged.push_back((state.sent, seq));
        }
        state.sent = seq;
        state.advance()
    }

    /// A row was acknowledged; answers the cursor if that moved it.
    pub fn acknowledge(&mut self, stream: StreamId, seq: Seq) -> Option<Seq> {
        let state = self.states.get_mut(&stream)?;
        let place = state.unacknowledged.iter().position(|(_, sent)| *sent == seq)?;
        state.unacknowledged.remove(place);
        state.advance()
    }

    /// The cursor map, as to be stored.
    pub fn cursors(&self) -> Cursors {
        self.states.iter().map(|(id, state)| (*id, state.acked)).collect()
    }
}

impl State {
    fn advance(&mut self) -> Option<Seq> {
        let before = self.acked;
        self.acked = self.unacknowledged.front().map_or(self.sent, |(previous, _)| *previous);
        (self.acked > before).then_some(self.acked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use curlew_domain::ids::ChatId;
    use uuid::Uuid;

    fn stream(n: u128) -> Stream {
        Stream::Chat(ChatId::from(Uuid::from_u128(n)))
    }

    #[test]
    fn a_gap_sends_the_stream_to_the_log() {
        let (mut streams, one) = (Streams::default(), stream(1));
        streams.follow(one, 4);
        assert_eq!(streams.live(one.id(), 5, true), Live::Take);
        assert_eq!(streams.live(one.id(), 7, true), Live::Skip);
        assert_eq!(streams.take_behind(1), [(one, 5)]);
        // While it is read nothing is taken from commits, and it is not read twice.
        assert_eq!(streams.live(one.id(), 8, true), Live::Skip);
        assert_eq!(streams.take_behind(1), []);
        streams.read(one.id(), 5, 7, false);
        assert_eq!(streams.take_behind(1), [(one, 7)]);
        streams.read(one.id(), 7, 8, false);
        assert_eq!(streams.take_behind(1), []);
        assert_eq!(streams.live(one.id(), 9, true), Live::Take);
        assert_eq!(streams.live(one.id(), 9, true), Live::Skip);
    }

    #[test]
    fn the_cursor_is_the_end_of_what_was_acknowledged_without_a_gap() {
        let (mut streams, one) = (Streams::default(), stream(1));
        streams.follow(one, 0);
        for seq in 1..=3 {
            streams.live(one.id(), seq, true);
            assert_eq!(streams.sent(one.id(), seq, false), None);
        }
        assert_eq!(streams.acknowledge(one.id(), 2), None);
        assert_eq!(streams.acknowledge(one.id(), 2), None);
        assert_eq!(streams.acknowledge(one.id(), 1), Some(2));
        assert_eq!(streams.cursors()[&one.id()], 2);
        assert_eq!(streams.acknowledge(one.id(), 3), Some(3));
    }

    #[test]
    fn a_hint_about_a_row_that_is_not_the_users_is_settled_by_reading() {
        let (mut streams, one) = (Streams::default(), stream(1));
        streams.follow(one, 5);
        streams.hint(one.id(), 9);
        assert_eq!(streams.take_behind(1), [(one, 5)]);
        streams.hint(one.id(), 10);
        streams.read(one.id(), 5, 5, false);
        assert_eq!(streams.take_behind(1), [(one, 5)]);
        streams.read(one.id(), 5, 5, false);
        assert_eq!(streams.take_behind(1), []);
    }

    #[test]
    fn what_was_taken_and_is_gone_is_read_again() {
        let (mut streams, one) = (Streams::default(), stream(1));
        streams.follow(one, 0);
        for seq in 1..=3 {
            assert_eq!(streams.live(one.id(), seq, true), Live::Take);
        }
        streams.sent(one.id(), 1, false);
        streams.read_again(one.id(), Some(2));
        assert_eq!(streams.take_behind(1), [(one, 1)]);
        // A page that is under way may have been read before.
        streams.read_again(one.id(), None);
        assert!(!streams.read(one.id(), 1, 3, false));
        assert_eq!(streams.take_behind(1), [(one, 1)]);
        assert!(streams.read(one.id(), 1, 3, false));
        assert_eq!(streams.take_behind(1), []);
        assert_eq!(streams.live(one.id(), 4, true), Live::Take);
    }

    #[test]
    fn streams_that_are_behind_take_turns() {
        let mut streams = Streams::default();
        for n in 1..=2 {
            streams.follow(stream(n), 0);
            streams.hint(stream(n).id(), 9);
        }
        assert_eq!(streams.take_behind(1), [(stream(1), 0)]);
        streams.read(stream(1).id(), 0, 3, true);
        assert_eq!(streams.take_behind(1), [(stream(2), 0)]);
        assert_eq!(streams.take_behind(1), [(stream(1), 3)]);
    }
}
