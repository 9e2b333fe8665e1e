//! SUBSCRIBE and UNSUBSCRIBE: stored before they are acknowledged.

use super::{Action, Session, Violation, stream_of};
use crate::packet::{AckProperties, Out, PacketId, Qos, Reason, SubscribeFilter};
use curlew_domain::{
    ids::{ChatId, Seq, StreamId},
    session::{Cursors, Follow},
};
use std::collections::BTreeMap;

/// A SUBSCRIBE or UNSUBSCRIBE that is being stored.
#[derive(Debug)]
pub(super) struct Saving {
    pub(super) acknowledgement: Out,
    /// Joined meanwhile, for the first time.
    pub(super) joined: BTreeMap<ChatId, Seq>,
    /// The last rows seen meanwhile.
    pub(super) hints: BTreeMap<StreamId, Seq>,
}

impl Saving {
    pub(super) fn hint(&mut self, stream: StreamId, seq: Seq) {
        let last = self.hints.entry(stream).or_default();
        *last = seq.max(*last);
    }
}

impl Session {
    pub(super) fn handle_subscribe(
        &mut self,
        packet_id: PacketId,
        filters: &[SubscribeFilter],
        subscription_id: Option<u32>,
    ) -> Result<(), Violation> {
        let before = self.subscriptions.follow();
        let mut reasons = Vec::with_capacity(filters.len());
        for filter in filters {
            let granted = self.subscriptions.add(filter, subscription_id, self.me);
            reasons.push(match granted.map_err(|why| (Reason::TopicFilterInvalid, why))? {
                Some(Qos::AtMostOnce) => Reason::Success,
                Some(Qos::AtLeastOnce) => Reason::GrantedQos1,
                Some(Qos::ExactlyOnce) => Reason::GrantedQos2,
                None => Reason::TopicFilterInvalid,
            });
        }
        self.save_subscriptions(before, Out::SubAck(packet_id, reasons, AckProperties::default()));
        Ok(())
    }

    pub(super) fn handle_unsubscribe(&mut self, packet_id: PacketId, filters: &[String]) {
        let before = self.subscriptions.follow();
        let remove = |filter: &String| {
            if self.subscriptions.remove(filter) { Reason::Success } else { Reason::NoSubscriptionExisted }
        };
        let reasons = filters.iter().map(remove).collect();
        self.save_subscriptions(before, Out::UnsubAck(packet_id, reasons));
    }

    fn save_subscriptions(&mut self, before: Follow, acknowledgement: Out) {
        self.saving = Some(Saving { acknowledgement, joined: BTreeMap::new(), hints: BTreeMap::new() });
        self.unflushed = 0;
        self.flush_due = None;
        self.actions.push_back(Action::SaveSubscriptions {
            filters: self.subscriptions.store(),
            follow: (before, self.subscriptions.follow()),
            cursors: self.streams.cursors(),
        });
    }

    /// Filters and cursor map were stored; this is the map. The acknowledgement goes out.
    pub fn subscriptions_saved(&mut self, cursors: &Cursors) {
        let Some(saving) = self.saving.take() else { return };
        self.streams.retain(|id| cursors.contains_key(&id));
        let streams = &self.streams;
        self.ready.retain(|row| streams.follows(row.stream.id()));
        self.ready_bytes = self.ready.iter().map(|row| row.payload.len()).sum();
        for (id, cursor) in cursors {
            self.streams.follow(stream_of(self.me, *id), *cursor);
        }
        let streams = &self.streams;
        self.window.keep_promises(|(id, seq)| streams.awaits(id, seq));
        for (chat, joined_seq) in saving.joined {
            self.handle_joined(chat, joined_seq);
        }
        for (stream, seq) in saving.hints {
            self.streams.hint(stream, seq);
        }
        self.out.push_back(saving.acknowledgement);
    }
}
