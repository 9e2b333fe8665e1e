//! The plain lane: what comes for the session, sent inside the window next to the rows, and the exchanges at QoS 1 and 2.
//!
//! What waits in the session's queue in the store comes from commits, or from reading the queue once it was missed; it leaves
//! the queue when it is acknowledged to the end. PUBREL goes out only when it is stored that PUBREC has come, and PUBCOMP only
//! when it is stored that PUBREL has: so after any crash neither side takes a message for another.

use super::{Action, Session, Subscription, Violation, asking::Asking, window::Flight};
use crate::{
    packet::{Out, PacketId, Publish, PublishProperties, Qos, Reason},
    plain::Item,
};
use curlew_domain::{
    ids::{Seq, SessionId},
    plain::{PlainMessage, PlainProperties, Recipient, Settle},
};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

/// Messages taken and not yet sent; more wait outside.
const MAX_READY: usize = 64;
/// Bytes of them.
const MAX_READY_BYTES: usize = 256 * 1024;
/// Acknowledgements after which they are stored …
pub(super) const SETTLE_AFTER: usize = 64;
/// … and the longest it waits.
pub(super) const SETTLE_INTERVAL: Duration = Duration::from_secs(1);

/// A message on its way to the session, and when it must not be sent any more.
#[derive(Clone, Debug)]
pub struct Due {
    /// What and how.
    pub item: Item,
    /// End of its Message Expiry Interval.
    pub expires: Option<Instant>,
}

/// Where the session stands in its queue, and what it has not stored yet.
#[derive(Debug, Default)]
pub(super) struct Lane {
    ready: VecDeque<Due>,
    bytes: usize,
    /// Everything in the queue up to here has been taken.
    taken: Seq,
    /// For the queue, of which something was not taken.
    asking: Asking,
    /// Whether it had its turn last.
    had_turn: bool,
    /// Up to here everything was sent by an earlier connection, or may have been.
    sent_before: Seq,
    settle: Settle,
    settle_due: Option<Instant>,
    settle_wanted: bool,
    settling: bool,
    /// To be sent once what has been collected is stored.
    after: Vec<Out>,
    /// To be sent once what is being stored is stored.
    after_this: Vec<Out>,
}

impl Lane {
    /// Of a session that had sent its queue up to `sent`; `queue`: there may be something in it.
    pub(super) fn new(sent: Seq, queue: bool) -> Self {
        let asking = if queue { Asking::Wanted } else { Asking::Idle };
        Self { sent_before: sent, asking, ..Self::default() }
    }

    fn push(&mut self, due: Due) {
        self.bytes += due.item.message.size();
        self.ready.push_back(due);
    }

    fn pop(&mut self) -> Option<Due> {
        let due = self.ready.pop_front()?;
        self.bytes -= due.item.message.size();
        Some(due)
    }

    /// Whether it is the lane's turn to send, before the rows.
    pub(super) fn takes_turn(&mut self) -> bool {
        self.had_turn = !self.had_turn;
        self.had_turn
    }

    fn done(&mut self, seq: Option<Seq>, now: Instant) {
        let Some(seq) = seq else { return };
        self.settle.done.push(seq);
        self.settle_due.get_or_insert(now + SETTLE_INTERVAL);
        self.settle_wanted |= self.settle.done.len() >= SETTLE_AFTER;
    }

    /// To be sent once everything collected so far is stored.
    fn send_after(&mut self, out: Out) {
        self.after.push(out);
        self.settle_wanted = true;
    }

    pub(super) fn settle_due(&self) -> Option<Instant> {
        self.settle_due.filter(|_| !self.settling)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.settle_wanted |= self.settle_due().is_some_and(|due| now >= due);
    }

    fn take_settle(&mut self) -> Settle {
        self.settle_due = None;
        self.settle_wanted = false;
        let empty = Settle { sent: self.settle.sent, ..Settle::default() };
        std::mem::replace(&mut self.settle, empty)
    }

    pub(super) fn poll_action(&mut self) -> Option<Action> {
        if self.settle_wanted && !self.settling {
            self.settling = true;
            self.after_this = std::mem::take(&mut self.after);
            return Some(Action::Settle(self.take_settle()));
        }
        let asks = self.ready.is_empty() && self.asking.poll();
        asks.then_some(Action::ReadQueue { after: self.taken })
    }
}

impl Session {
    /// The filters in the user's own lane.
    pub fn own_lane(&self) -> Vec<Arc<Subscription>> {
        self.subscriptions.own_lane()
    }

    /// Whether [`Self::handle_plain`] may be called. When not, messages wait outside.
    pub fn wants_plain(&self) -> bool {
        !self.closed && self.lane.ready.len() < MAX_READY && self.lane.bytes < MAX_READY_BYTES
    }

    /// A message of the plain lane.
    pub fn handle_plain(&mut self, due: Due) {
        match due.item.seq {
            Some(seq) if seq <= self.lane.taken => {}
            Some(seq) if self.lane.asking != Asking::Idle || seq > self.lane.taken + 1 => {
                self.lane.asking.want();
            }
            Some(seq) => {
                self.lane.taken = seq;
                self.lane.push(due);
            }
            None => self.lane.push(due),
        }
    }

    /// A message of a chat's plain lane: sent to those who subscribed, shed when messages are waiting already. `own`: this
    /// session published it.
    pub fn handle_signal(
        &mut self,
        message: &Arc<PlainMessage>,
        own: bool,
        session: SessionId,
        expires: Option<Instant>,
    ) {
        if !self.wants_plain() {
            return;
        }
        if let Some(grant) = self.subscriptions.grant_signal(&message.topic, own) {
            let recipient = Recipient {
                session,
                qos: grant.qos.min(message.qos),
                retain: message.retain && grant.retain_as_published,
                subscription_ids: grant.ids,
            };
            self.lane.push(Due { item: Item::live(Arc::clone(message), recipient), expires });
        }
    }

    /// The part of the queue that [`Action::ReadQueue`] asked for. `more`: it goes on.
    pub fn handle_queue(&mut self, page: Vec<Due>, more: bool) {
        self.lane.asking.answered();
        if more {
            self.lane.asking.want();
        }
        for due in page {
            if let Some(seq) = due.item.seq.filter(|seq| *seq > self.lane.taken) {
                self.lane.taken = seq;
                self.lane.push(due);
            }
        }
        if self.lane.asking == Asking::Idle {
            self.lane.taken = self.lane.taken.max(self.lane.sent_before);
        }
    }

    /// What [`Action::Settle`] asked for is stored; what waited for it goes out.
    pub fn settled(&mut self) {
        self.lane.settling = false;
        let after = std::mem::take(&mut self.lane.after_this);
        for out in &after {
            if let Out::PubComp(id, _) = out {
                self.received.remove(id);
                self.quota.give_exactly_once(*id);
            }
        }
        if !self.closed {
            self.out.extend(after);
        }
    }

    /// What is to be stored when the connection ends.
    pub fn take_settle(&mut self) -> Settle {
        self.lane.take_settle()
    }

    /// The next message, or PUBREL, if the window allows.
    pub(super) fn poll_plain(&mut self, now: Instant) -> Option<Out> {
        while let Some(Due { item, expires }) = self.lane.ready.front() {
            let (seq, qos) = (item.seq, item.recipient.qos);
            if item.released {
                let id = self.window.take_plain(seq, qos, true, now)?;
                self.lane.pop();
                return Some(Out::PubRel(id, Reason::Success));
            }
            let dup = qos > Qos::AtMostOnce && seq.is_some_and(|seq| seq <= self.lane.sent_before);
            let expired = expires.is_some_and(|end| end <= now) && !dup;
            let Some(topic) = self.subscriptions.space().show(&item.message.topic).filter(|_| !expired)
            else {
                self.lane.pop();
                self.lane.done(seq, now);
                continue;
            };
            let packet_id = if qos == Qos::AtMostOnce {
                None
            } else if self.window.has_room() {
                Some(self.window.take_plain(seq, qos, false, now)?)
            } else {
                return None;
            };
            let publish = Publish {
                topic: topic.to_owned(),
                payload: item.message.payload.clone(),
                qos,
                dup,
                retain: item.recipient.retain,
                packet_id,
                properties: self.plain_properties(item, *expires, now),
            };
            self.lane.pop();
            self.lane.settle.sent = self.lane.settle.sent.max(seq.unwrap_or(0));
            return Some(Out::Publish(Box::new(publish)));
        }
        None
    }

    fn plain_properties(&self, item: &Item, expires: Option<Instant>, now: Instant) -> PublishProperties {
        let PlainProperties {
            payload_is_utf8,
            content_type,
            response_topic,
            correlation_data,
            user_properties,
        } = &item.message.properties;
        let shown = |topic: &String| self.subscriptions.space().show(topic).map(str::to_owned);
        PublishProperties {
            payload_is_utf8: *payload_is_utf8,
            // [MQTT-3.3.2-6]; a second that has begun counts.
            message_expiry: expires.map(|end| {
                let left = end.saturating_duration_since(now);
                u32::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
            }),
            topic_alias: None,
            response_topic: response_topic.as_ref().and_then(shown),
            correlation_data: correlation_data.clone(),
            user_properties: user_properties.clone(),
            subscription_ids: item.recipient.subscription_ids.clone(),
            content_type: content_type.clone(),
        }
    }

    /// A message is acknowledged to the end.
    pub(super) fn finish_plain(&mut self, id: PacketId, now: Instant) {
        if let Some(Flight::Plain { seq, .. }) = self.window.acknowledge(id) {
            self.lane.done(seq, now);
        }
    }

    pub(super) fn handle_pubrec(
        &mut self,
        id: PacketId,
        reason: Reason,
        now: Instant,
    ) -> Result<(), Violation> {
        match self.window.find(id) {
            None => self.out.push_back(Out::PubRel(id, Reason::PacketIdentifierNotFound)),
            Some(Flight::Plain { qos: Qos::ExactlyOnce, .. }) if reason.is_error() => {
                self.finish_plain(id, now);
            }
            Some(Flight::Plain { seq, qos: Qos::ExactlyOnce, released }) => {
                let release = Out::PubRel(id, Reason::Success);
                self.window.release(id);
                match seq {
                    Some(seq) if !released => {
                        self.lane.settle.released.push(seq);
                        self.lane.send_after(release);
                    }
                    // Again; if the first is still to be stored, PUBREL comes when it is.
                    Some(_) if self.lane.releases(id) => {}
                    _ => self.out.push_back(release),
                }
            }
            Some(_) => return Err((Reason::ProtocolError, "PUBREC for what was not sent at QoS 2")),
        }
        Ok(())
    }

    pub(super) fn handle_pubcomp(&mut self, id: PacketId, now: Instant) -> Result<(), Violation> {
        match self.window.find(id) {
            // The exchange is over already.
            None => Ok(()),
            Some(Flight::Plain { qos: Qos::ExactlyOnce, released: true, .. }) => {
                self.finish_plain(id, now);
                Ok(())
            }
            Some(_) => Err((Reason::ProtocolError, "PUBCOMP without a PUBREL")),
        }
    }

    /// PUBREL has come for a publication whose packet identifier is stored: it is free once that is undone.
    pub(super) fn forget_received(&mut self, id: PacketId) {
        self.lane.settle.forgotten.push(id.get());
        self.lane.send_after(Out::PubComp(id, Reason::Success));
    }
}

impl Lane {
    fn releases(&self, id: PacketId) -> bool {
        let is = |out: &Out| matches!(out, Out::PubRel(other, _) if *other == id);
        self.after.iter().chain(&self.after_this).any(is)
    }
}
