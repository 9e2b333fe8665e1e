//! SUBSCRIBE and UNSUBSCRIBE: stored before they are acknowledged.

use super::{Action, Session, Subscription, Violation, stream_of, subscriptions::Added};
use crate::packet::{AckProperties, Out, PacketId, Qos, Reason, RetainHandling, SubscribeFilter};
use curlew_domain::{
    ids::{ChatId, Seq, StreamId},
    session::{Cursors, Follow},
};
use std::{collections::BTreeMap, sync::Arc};

/// A SUBSCRIBE or UNSUBSCRIBE that is being stored.
#[derive(Debug)]
pub(super) struct Saving {
    pub(super) acknowledgement: Out,
    /// Joined meanwhile, for the first time.
    pub(super) joined: BTreeMap<ChatId, Seq>,
    /// The last rows seen meanwhile.
    pub(super) hints: BTreeMap<StreamId, Seq>,
    /// Subscriptions that are to be told how things stand.
    pub(super) states: Vec<Arc<Subscription>>,
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
        let mut plain = false;
        let (mut retained, mut states) = (Vec::new(), Vec::new());
        for filter in filters {
            let added = self.subscriptions.add(filter, subscription_id);
            reasons.push(match added.map_err(|why| (Reason::TopicFilterInvalid, why))? {
                Added::NotGranted => Reason::TopicFilterInvalid,
                Added::Full => Reason::QuotaExceeded,
                Added::Granted { subscription, fresh } => {
                    plain |= subscription.granted.covers.own;
                    let granted = match subscription.qos {
                        Qos::AtMostOnce => Reason::Success,
                        Qos::AtLeastOnce => Reason::GrantedQos1,
                        Qos::ExactlyOnce => Reason::GrantedQos2,
                    };
                    if wants_retained(&subscription, filter.retain_handling, fresh) {
                        let covers = &subscription.granted.covers;
                        if covers.receipts.is_some() || covers.presence.is_some() {
                            states.push(Arc::clone(&subscription));
                        }
                        if covers.own {
                            retained.push(subscription);
                        }
                    }
                    granted
                }
            });
        }
        let acknowledgement = Out::SubAck(packet_id, reasons, AckProperties::default());
        self.save_subscriptions(before, acknowledgement, plain, (retained, states));
        Ok(())
    }

    pub(super) fn handle_unsubscribe(&mut self, packet_id: PacketId, filters: &[String]) {
        let before = self.subscriptions.follow();
        let remove = |filter: &String| {
            if self.subscriptions.remove(filter) { Reason::Success } else { Reason::NoSubscriptionExisted }
        };
        let reasons = filters.iter().map(remove).collect();
        self.save_subscriptions(before, Out::UnsubAck(packet_id, reasons), true, Default::default());
    }

    fn save_subscriptions(
        &mut self,
        before: Follow,
        acknowledgement: Out,
        plain: bool,
        (retained, states): (Vec<Arc<Subscription>>, Vec<Arc<Subscription>>),
    ) {
        self.saving =
            Some(Saving { acknowledgement, joined: BTreeMap::new(), hints: BTreeMap::new(), states });
        self.unflushed = 0;
        self.flush_due = None;
        self.actions.push_back(Action::SaveSubscriptions {
            filters: self.subscriptions.store(),
            follow: (before, self.subscriptions.follow()),
            cursors: self.streams.cursors(),
            own_lane: plain.then(|| self.subscriptions.own_lane()),
            retained,
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
        self.wish_states(&saving.states);
    }
}

/// Retain Handling (section 3.8.3.1); a shared subscription gets none (section 4.8.2).
fn wants_retained(subscription: &Subscription, handling: RetainHandling, fresh: bool) -> bool {
    let wanted = match handling {
        RetainHandling::Send => true,
        RetainHandling::SendIfNew => fresh,
        RetainHandling::DoNotSend => false,
    };
    wanted && subscription.granted.share.is_none()
}
