//! Rows: taken from commits or the log, sent inside the window. Live events, which nothing waits for.

use super::{MAX_OUT, Page, Session, asking::Asking, streams::Live, subscriptions::Grant, window::Flight};
use crate::{
    packet::{Out, Publish, PublishProperties, Qos},
    topic,
};
use bytes::Bytes;
use curlew_domain::{
    chat::StayEnd,
    ids::{ChatId, Seq, Stream, StreamId},
};
use std::{collections::HashMap, time::Instant};

/// Rows taken and not yet sent: more wait in the log.
pub(super) const MAX_READY: usize = 64;
/// Bytes of them.
const MAX_READY_BYTES: usize = 64 * 1024;

/// A row taken, to be sent when the window allows.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) stream: Stream,
    pub(super) seq: Seq,
    pub(super) payload: Bytes,
}

impl Session {
    /// The ends of all stays: at the beginning, and after rows may have been lost. Streams that are selected and unknown
    /// began after their SUBSCRIBE.
    pub fn handle_stays(&mut self, stays: &[StayEnd]) {
        self.listing.answered();
        if self.saving.is_some() {
            // The map is about to change; ask again then.
            return self.listing.want();
        }
        let follow = self.subscriptions.follow();
        for stay in stays.iter().filter(|stay| follow.covers(stay.chat)) {
            let stream = Stream::Chat(stay.chat);
            // Rows of a stream that was unknown were let go, also such as are newer than this list: one read settles it.
            let end = if self.streams.follows(stream.id()) { stay.end } else { Seq::MAX };
            self.streams.follow(stream, stay.first_joined.saturating_sub(1));
            self.streams.hint(stream.id(), end);
        }
        // Its end is not known: one read settles it.
        self.streams.hint(self.me.into(), Seq::MAX);
    }

    /// The user entered a chat.
    pub fn handle_joined(&mut self, chat: ChatId, joined_seq: Seq) {
        if let Some(saving) = &mut self.saving {
            saving.joined.entry(chat).or_insert(joined_seq);
        } else if !self.streams.follows(chat.into()) && self.subscriptions.follow().covers(chat) {
            if self.listing == Asking::Idle {
                self.streams.follow(Stream::Chat(chat), joined_seq.saturating_sub(1));
            } else {
                // An earlier stay may be among what was lost. A list of stays that is newer than this one tells.
                self.listing.want();
            }
        }
    }

    /// Rows of the personal log were committed up to `seq`; they are read, not passed on, since they are rendered for
    /// their reader.
    pub fn handle_hint(&mut self, stream: Stream, seq: Seq) {
        if let Some(saving) = &mut self.saving {
            saving.hint(stream.id(), seq);
        }
        self.streams.hint(stream.id(), seq);
    }

    /// A row of a chat's log was committed. `payload` is asked for only if it is taken.
    pub fn handle_row(&mut self, stream: Stream, seq: Seq, payload: impl FnOnce() -> Bytes) {
        if let Some(saving) = &mut self.saving {
            saving.hint(stream.id(), seq);
        }
        let room = self.ready.len() < MAX_READY && self.ready_bytes < MAX_READY_BYTES && !self.closed;
        if self.streams.live(stream.id(), seq, room) == Live::Take {
            self.push_ready(stream, seq, payload());
        }
    }

    /// A message was deleted for everyone. Rows from it on that wait to be sent are let go and read from the log again,
    /// which shows them as they are now: what is gone is not sent any more.
    pub fn handle_emptied(&mut self, stream: Stream, message_seq: Seq) {
        let is_stale = |row: &Ready| row.stream == stream && row.seq >= message_seq;
        let first = self.ready.iter().find(|row| is_stale(row)).map(|row| row.seq);
        self.ready.retain(|row| !is_stale(row));
        self.ready_bytes = self.ready.iter().map(|row| row.payload.len()).sum();
        self.streams.read_again(stream.id(), first);
    }

    /// Rows may have been lost on the way from the commits. A deletion may be among them, so nothing that waits is sent as it
    /// was: it is read again.
    pub fn handle_lag(&mut self) {
        let mut first: HashMap<StreamId, Seq> = HashMap::new();
        for row in self.ready.drain(..) {
            first.entry(row.stream.id()).or_insert(row.seq);
        }
        self.ready_bytes = 0;
        self.streams.read_all_again(&first);
        self.listing.want();
    }

    /// The pages of logs that [`Action::Read`](super::Action::Read) asked for.
    pub fn handle_pages(&mut self, pages: Vec<Page>) {
        self.reading = false;
        // A log for which there was no room has its turn before one that goes on.
        let (read, unread): (Vec<_>, Vec<_>) =
            pages.into_iter().partition(|page| page.end > page.after || !page.more);
        for page in unread.into_iter().chain(read) {
            if self.streams.read(page.stream.id(), page.after, page.end, page.more) {
                for (seq, payload) in page.rows {
                    self.push_ready(page.stream, seq, payload);
                }
            }
        }
    }

    fn push_ready(&mut self, stream: Stream, seq: Seq, payload: Bytes) {
        self.ready_bytes += payload.len();
        self.ready.push_back(Ready { stream, seq, payload });
    }

    /// Somebody types, or does not any more: sent at QoS 0 to those who subscribed, shed when anything waits already.
    pub fn handle_typing(&mut self, chat: ChatId, payload: impl FnOnce() -> Bytes) {
        if self.out.len() < MAX_OUT / 4
            && let Some(grant) = self.subscriptions.grant_typing(chat)
        {
            self.send_live(topic::typing_topic(chat), grant, payload);
        }
    }

    /// A `command-failed` event of this very session.
    pub fn handle_failure_event(&mut self, payload: impl FnOnce() -> Bytes) {
        if let Some(grant) = self.subscriptions.grant_errors() {
            self.send_live(topic::errors_topic(self.me), grant, payload);
        }
    }

    fn send_live(&mut self, topic: String, grant: Grant, payload: impl FnOnce() -> Bytes) {
        if self.out.len() < MAX_OUT && !self.closed {
            self.out.push_back(unnumbered(topic, grant.ids, false, payload()));
        }
    }

    /// The next packet to write. Ask only while the socket takes more: a row leaves here once.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Out> {
        if let Some(out) = self.out.pop_front() {
            return Some(out);
        }
        if self.closed {
            return None;
        }
        if let Some(out) = self.poll_state() {
            return Some(out);
        }
        // In turn, so that neither starves the other.
        if self.lane.takes_turn() {
            self.poll_plain(now).or_else(|| self.poll_row(now))
        } else {
            self.poll_row(now).or_else(|| self.poll_plain(now))
        }
    }

    fn poll_row(&mut self, now: Instant) -> Option<Out> {
        while let Some(row) = self.ready.front() {
            let (stream, id) = (row.stream, row.stream.id());
            let grant = self.subscriptions.grant_stream(stream);
            if grant.as_ref().is_some_and(|grant| grant.qos > Qos::AtMostOnce) && !self.window.has_room() {
                return None;
            }
            let Ready { seq, payload, .. } = self.ready.pop_front()?;
            self.ready_bytes -= payload.len();
            let Some(Grant { qos, ids, .. }) = grant else { continue };
            let (packet_id, dup) = if qos == Qos::AtMostOnce {
                let cursor = self.streams.sent(id, seq, true);
                self.cursor_moved(id, cursor, false, now);
                (None, false)
            } else {
                self.streams.sent(id, seq, false);
                let (packet_id, dup) = self.window.take((id, seq), now);
                (Some(packet_id), dup)
            };
            let topic = match stream {
                Stream::Chat(chat) => topic::messages_topic(chat),
                Stream::Personal(user) => topic::events_topic(user),
            };
            let properties = PublishProperties { subscription_ids: ids, ..PublishProperties::default() };
            let publish = Publish { topic, payload, qos, dup, retain: false, packet_id, properties };
            return Some(Out::Publish(Box::new(publish)));
        }
        None
    }

    /// A PUBLISH was larger than the client takes: it counts as delivered `[MQTT-3.1.2-25]`.
    pub fn not_transmitted(&mut self, publish: &Publish, now: Instant) {
        match publish.packet_id.and_then(|id| Some((id, self.window.find(id)?))) {
            Some((id, Flight::Plain { .. })) => self.finish_plain(id, now),
            Some((id, Flight::Row(_))) => {
                let acknowledged = self.handle_puback(id, now);
                debug_assert!(acknowledged.is_ok(), "a row is in flight under this identifier");
            }
            None => {}
        }
    }
}

/// A publication at QoS 0.
pub(super) fn unnumbered(topic: String, subscription_ids: Vec<u32>, retain: bool, payload: Bytes) -> Out {
    let properties = PublishProperties { subscription_ids, ..PublishProperties::default() };
    let qos = Qos::AtMostOnce;
    Out::Publish(Box::new(Publish { topic, payload, qos, dup: false, retain, packet_id: None, properties }))
}
