//! One MQTT session with a connection, as a pure state machine: no I/O, no clock. What happens is told by `handle_*` and
//! a few calls named after it, time passed in; what is to be done is asked by `poll_*`. So its tests need no socket and no
//! sleep.
//!
//! Two things flow through it. **Commands** come in as PUBLISH, go out as [`Action::Command`], and are acknowledged only
//! by [`Session::command_done`], in the order they came `[MQTT-4.6.0-2]`. **Rows** of the user's logs come in from commits
//! ([`Session::handle_row`]) or from reading the log ([`Session::handle_pages`]) and go out as PUBLISH, per stream in `seq`
//! order, inside the in-flight window; whatever does not fit waits in the log, not in memory. Beside them come messages of
//! the **plain lane** ([`Session::handle_plain`]), which share the window.

mod asking;
mod authentication;
mod commands;
mod cursors;
mod filters;
mod interface;
mod plain;
mod quota;
mod rows;
mod states;
mod streams;
mod subscriptions;
mod window;

#[cfg(test)]
mod tests;

pub use authentication::TOKEN_METHOD;
pub use interface::{Action, Command, Failure, Outcome, Page, Parked, Start};
pub use plain::Due;
pub use states::{StateFamily, StateQuery, StateTopic, ToldStates};
pub use subscriptions::{Grant, Subscription, Subscriptions};
pub use window::Unacknowledged;

use crate::{
    alias,
    format::Format,
    packet::{AckProperties, In, Out, PacketId, Reason, Version},
    rate::Rates,
};
use asking::Asking;
use authentication::Authentication;
use commands::Received;
use curlew_domain::{
    clock::Timestamp,
    ids::{Stream, StreamId, UserId},
    services::sessions::MAX_EXPIRY,
};
use filters::Saving;
use quota::Quota;
use rows::Ready;
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};
use streams::Streams;
use window::Window;

/// Commands of one connection that wait for their commit; then the connection reads no further. In 5, where it is announced
/// as Receive Maximum, those at QoS 1 and 2 are the client's own affair: one too many ends the connection.
pub const MAX_COMMANDS: u16 = 64;
/// Packets waiting to be encoded; then the connection reads no further, and live events are shed.
const MAX_OUT: usize = 128;
/// Logs that are read at once.
const MAX_LOGS: usize = 64;
/// A full window without an acknowledgement for so long ends the connection.
const STALL: Duration = Duration::from_mins(1);

/// Longest Session Expiry Interval.
pub const MAX_EXPIRY_SECS: u32 = MAX_EXPIRY.as_secs() as u32;

/// One MQTT session with a connection.
pub struct Session {
    me: UserId,
    version: Version,
    format: Format,
    keep_alive: Option<Duration>,
    last_packet: Instant,
    subscriptions: Subscriptions,
    streams: Streams,
    window: Window,
    states: states::States,
    lane: plain::Lane,
    ready: VecDeque<Ready>,
    ready_bytes: usize,
    out: VecDeque<Out>,
    actions: VecDeque<Action>,
    /// Commands that the client may not be blamed for: those at QoS 0, in 3.1.1 all.
    commands: u16,
    quota: Quota,
    aliases: alias::Inbound,
    rates: Arc<Rates>,
    /// Nothing is read before: the user publishes too fast.
    held_until: Option<Instant>,
    received: HashMap<PacketId, Received>,
    saving: Option<Saving>,
    /// For the ends of all stays, after rows may have been lost.
    listing: Asking,
    reading: bool,
    unflushed: u32,
    flush_due: Option<Instant>,
    flushing: bool,
    failures: VecDeque<Failure>,
    expiry_secs: u32,
    authentication: Authentication,
    /// The client's DISCONNECT.
    farewell: Option<Reason>,
    closed: bool,
}

/// A protocol violation or another reason to end the connection.
type Violation = (Reason, &'static str);

impl Session {
    /// A session at its CONNECT, of which the CONNACK is sent by the caller. Report the stays next.
    pub fn new(start: Start, now: Instant) -> Self {
        let mut streams = Streams::default();
        for (id, cursor) in start.cursors {
            streams.follow(stream_of(start.me, id), cursor);
        }
        // What was in flight goes first, in its order, before anything else is caught up `[MQTT-4.6.0-1]`.
        for (id, seq) in start.parked.unacknowledged.rows() {
            streams.hint(id, seq);
        }
        let mut window = Window::new(start.window, &start.parked.unacknowledged);
        window.keep_promises(|(id, seq)| streams.awaits(id, seq));
        let parked = start.parked.received.into_iter().map(|id| (id, Received::Recorded { stored: false }));
        let stored = start.received.into_iter().map(|id| (id, Received::Recorded { stored: true }));
        let received = parked.chain(stored);
        let subscriptions = Subscriptions::load(&start.filters, start.space);
        let mut states = states::States::default();
        if let Some(left_at) = start.left_at {
            states.resume(start.parked.told, left_at, &subscriptions.all());
        }
        // Who never had a filter in the plain lane has no queue to read.
        let queue = start.expiry_secs > 0 && (start.sent > 0 || !subscriptions.own_lane().is_empty());
        Self {
            me: start.me,
            version: start.version,
            format: start.format,
            keep_alive: (start.keep_alive > 0)
                .then(|| Duration::from_secs(start.keep_alive.into()).mul_f32(1.5)),
            last_packet: now,
            subscriptions,
            streams,
            window,
            states,
            lane: plain::Lane::new(start.sent, queue),
            ready: VecDeque::new(),
            ready_bytes: 0,
            out: VecDeque::new(),
            actions: VecDeque::new(),
            commands: 0,
            quota: Quota::default(),
            aliases: alias::Inbound::default(),
            rates: start.rates,
            held_until: None,
            received: received.collect(),
            saving: None,
            listing: Asking::Idle,
            reading: false,
            unflushed: 0,
            flush_due: None,
            flushing: false,
            failures: VecDeque::new(),
            expiry_secs: start.expiry_secs,
            authentication: if start.named_method { Authentication::Idle } else { Authentication::Unnamed },
            farewell: None,
            closed: false,
        }
    }

    /// Whether the connection should read from its socket. When not, the client waits: nothing is refused.
    pub fn wants_input(&self) -> bool {
        !self.closed && !self.is_held() && self.out.len() < MAX_OUT
    }

    /// Whether input waits for the server, so that the client's silence is not its own.
    fn is_held(&self) -> bool {
        self.saving.is_some()
            || self.authentication == Authentication::Running
            || self.commands >= MAX_COMMANDS
            || self.states.is_behind()
            || self.held_until.is_some()
    }

    /// A packet arrived.
    pub fn handle_packet(&mut self, packet: In, now: Instant) {
        if self.closed {
            return;
        }
        self.last_packet = now;
        let outcome = match packet {
            In::Publish(publish) => self.handle_publish(*publish, now),
            In::PubAck(id, _) => self.handle_puback(id, now),
            In::PubRec(id, reason) => self.handle_pubrec(id, reason, now),
            In::PubComp(id, _) => self.handle_pubcomp(id, now),
            In::PubRel(id, _) => {
                self.handle_pubrel(id);
                Ok(())
            }
            In::Subscribe { packet_id, filters, subscription_id } => {
                self.handle_subscribe(packet_id, &filters, subscription_id)
            }
            In::Unsubscribe { packet_id, filters } => {
                self.handle_unsubscribe(packet_id, &filters);
                Ok(())
            }
            In::PingReq => {
                self.out.push_back(Out::PingResp);
                Ok(())
            }
            In::Connect(_) => Err((Reason::ProtocolError, "a second CONNECT [MQTT-3.1.0-2]")),
            In::Auth { reason, method, data } => self.handle_auth(reason, &method, data.as_ref()),
            In::Disconnect { reason, session_expiry } => self.handle_disconnect(reason, session_expiry),
        };
        if let Err((reason, detail)) = outcome {
            self.close(reason, detail);
        }
    }

    fn handle_disconnect(&mut self, reason: Reason, session_expiry: Option<u32>) -> Result<(), Violation> {
        match session_expiry {
            Some(wish) if wish > 0 && self.expiry_secs == 0 => {
                return Err((
                    Reason::ProtocolError,
                    "a session that was to end with its connection cannot be kept",
                ));
            }
            Some(wish) => self.expiry_secs = wish.min(MAX_EXPIRY_SECS),
            None => {}
        }
        self.farewell = Some(reason);
        self.closed = true;
        self.actions.push_back(Action::Close(Reason::Success));
        Ok(())
    }

    /// Whether the client left in a way that takes its will back: by DISCONNECT with reason 0x00, in 3.1.1 by any
    /// `[MQTT-3.14.4-3]`. However else the connection ends, the will stands.
    pub fn will_taken_back(&self) -> bool {
        self.farewell == Some(Reason::Success)
    }

    /// Session Expiry Interval, seconds, as it is now.
    pub fn expiry_secs(&self) -> u32 {
        self.expiry_secs
    }

    /// Ends the connection: DISCONNECT with the reason (5), then [`Action::Close`].
    pub fn close(&mut self, reason: Reason, detail: &str) {
        if self.closed {
            return;
        }
        self.closed = true;
        let properties = AckProperties { reason_string: Some(detail.to_owned()), ..AckProperties::default() };
        self.out.push_back(Out::Disconnect(reason, properties));
        self.actions.push_back(Action::Close(reason));
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        if self.closed || self.saving.is_some() {
            return None;
        }
        if self.listing.poll() {
            return Some(Action::ListStays);
        }
        if let Some(action) = self.lane.poll_action().or_else(|| self.states.poll_action()) {
            return Some(action);
        }
        if !self.reading && self.ready.is_empty() {
            let behind = self.streams.take_behind(MAX_LOGS);
            self.reading = !behind.is_empty();
            return self.reading.then_some(Action::Read(behind));
        }
        None
    }

    /// When [`Self::handle_timeout`] wants to be called, if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let keep_alive = self.keep_alive.filter(|_| !self.closed).map(|after| self.last_packet + after);
        let stall = self.window.full_since().map(|since| since + STALL);
        let flush = self.flush_due.filter(|_| !self.flushing && self.saving.is_none());
        let held = self.held_until.filter(|_| !self.closed);
        [keep_alive, stall, flush, held, self.lane.settle_due()].into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.is_held() {
            self.held_until = self.held_until.filter(|until| *until > now);
            self.last_packet = now;
        } else if self.keep_alive.is_some_and(|after| now >= self.last_packet + after) {
            self.close(
                Reason::KeepAliveTimeout,
                "nothing was received for 1.5 times the keep-alive [MQTT-3.1.2-22]",
            );
        }
        if self.window.full_since().is_some_and(|since| now >= since + STALL) {
            self.close(Reason::QuotaExceeded, "a full in-flight window was not acknowledged for 60 s");
        }
        if self.flush_due.is_some_and(|due| now >= due) {
            self.flush();
        }
        self.lane.handle_timeout(now);
    }

    /// From when on the session must ask how things stand when it comes back. What was written after the client was last
    /// heard of may not have come.
    pub fn left_at(&self, now: Timestamp, instant: Instant) -> Timestamp {
        self.states.left_at(now.minus(instant.saturating_duration_since(self.last_packet)))
    }

    /// What the process keeps for the session's return.
    pub fn park(self, now: Timestamp) -> Parked {
        // Only of a client that took its leave it is known that it got what was written.
        let told =
            if self.farewell.is_some() { self.states.told.of_last(now) } else { ToldStates::default() };
        let recorded = |(id, state)| (state == Received::Recorded { stored: false }).then_some(id);
        Parked {
            unacknowledged: self.window.into_unacknowledged(),
            received: self.received.into_iter().filter_map(recorded).collect(),
            told,
        }
    }
}

fn stream_of(me: UserId, id: StreamId) -> Stream {
    if id == StreamId::from(me) { Stream::Personal(me) } else { Stream::Chat(id.uuid().into()) }
}
