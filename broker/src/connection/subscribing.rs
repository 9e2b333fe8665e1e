//! Storing new filters, and sending the retained messages that they ask for (section 3.3.1.3).

use super::{Done, Edge};
use crate::{
    plain::{Item, Lane},
    session::{Due, Subscription},
    topic::MAX_TOPIC_BYTES,
};
use curlew_domain::{
    Result,
    ids::UserId,
    plain::{PlainMessage, Qos, Recipient, Retained},
    services::plain::Publication,
    session::{Cursors, Follow, SessionFence},
};
use std::{collections::HashMap, sync::Arc};

/// A SUBSCRIBE or UNSUBSCRIBE to be stored.
pub(super) struct Subscribing {
    pub fence: SessionFence,
    pub me: UserId,
    /// Whether the session outlives its connection.
    pub lasting: bool,
    pub lane: Arc<Lane>,
    pub filters: String,
    pub follow: (Follow, Follow),
    pub cursors: Cursors,
    pub own_lane: Option<Vec<Arc<Subscription>>>,
    pub retained: Vec<Arc<Subscription>>,
}

impl Subscribing {
    pub async fn run(self, edge: Arc<Edge>) -> Done {
        // From here on no retained message changes until they have been read: each is met either there or on its way.
        let _quiet = match self.retained.is_empty() {
            true => None,
            false => Some(self.lane.retaining.write().await),
        };
        let Self { fence, me, ref filters, ref follow, ref cursors, .. } = self;
        let sessions = &edge.services.sessions;
        match sessions.save_subscriptions(fence, me, filters.clone(), follow.clone(), cursors.clone()).await {
            Ok(Some(cursors)) => match self.send_retained(&edge).await {
                Ok(retained) => Done::SubscriptionsSaved(Ok(Some((cursors, retained)))),
                Err(error) => Done::SubscriptionsSaved(Err(error)),
            },
            Ok(None) => Done::SubscriptionsSaved(Ok(None)),
            Err(error) => Done::SubscriptionsSaved(Err(error)),
        }
    }

    /// Changes the lane; puts retained messages into the queue of a session that lasts, and answers the others.
    async fn send_retained(&self, edge: &Edge) -> Result<Vec<Due>> {
        if let Some(filters) = &self.own_lane {
            self.lane.set_filters(self.fence.session, filters.clone());
        }
        let plain = &edge.services.plain;
        let (mut live, mut queued) = (Vec::new(), Vec::new());
        let mut read: HashMap<String, Vec<Arc<PlainMessage>>> = HashMap::new();
        for subscription in &self.retained {
            let which = which(&subscription.granted.filter, self.me);
            let key = format!("{which:?}");
            if !read.contains_key(&key) {
                let messages = plain.list_retained(self.me, which).await?;
                read.insert(key.clone(), messages.into_iter().map(Arc::new).collect());
            }
            for message in read.get(&key).into_iter().flatten() {
                if !subscription.granted.matches(&message.topic) {
                    continue;
                }
                let qos = subscription.qos.min(message.qos);
                let recipient = Recipient {
                    session: self.fence.session,
                    qos,
                    // [MQTT-3.3.1-8]
                    retain: true,
                    subscription_ids: subscription.id.into_iter().collect(),
                };
                if self.lasting && qos > Qos::AtMostOnce {
                    // The copy in the queue is not to become the retained message anew.
                    let message = Arc::new(PlainMessage { retain: false, ..PlainMessage::clone(message) });
                    let publication = Publication {
                        message,
                        queue: vec![recipient],
                        live: Vec::new(),
                        received: None,
                        will: None,
                    };
                    queued.push(plain.publish(self.me, publication).await?);
                } else {
                    live.push(due(edge, Item::live(Arc::clone(message), recipient)));
                }
            }
        }
        for commit in queued {
            commit.await?;
        }
        Ok(live)
    }
}

/// With the instant after which it must not be sent any more.
pub(super) fn due(edge: &Edge, item: Item) -> Due {
    let expires = item.message.expires_at.map(|end| edge.instant_of(end));
    Due { item, expires }
}

/// Which retained messages a filter may match: those below its levels before the first wildcard.
fn which(filter: &str, me: UserId) -> Retained {
    let wild = filter.split('/').take_while(|level| !matches!(*level, "+" | "#"));
    let literal: usize = wild.map(|level| level.len() + 1).sum();
    if literal > filter.len() {
        return Retained::Of(filter.to_owned());
    }
    let prefix = crate::topic::own_prefix(me);
    debug_assert!(literal <= MAX_TOPIC_BYTES, "no filter is longer");
    // A filter that is wider than the lane matches within it.
    Retained::Below(if literal < prefix.len() { prefix } else { filter[..literal].to_owned() })
}
