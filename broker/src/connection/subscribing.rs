//! Storing new filters, and sending the retained messages that they ask for (section 3.3.1.3).

use super::{Done, Edge};
use crate::{
    plain::{Item, Lane},
    session::{Due, Subscription},
    topic::own_prefix,
};
use curlew_domain::{
    Result,
    ids::UserId,
    plain::{PlainMessage, Qos, Recipient, Retained},
    services::plain::Publication,
    session::{Cursors, Follow, SessionFence},
};
use std::sync::Arc;

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
        let _quiet = if self.retained.is_empty() { None } else { Some(self.lane.retaining.write().await) };
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
        for subscription in &self.retained {
            let mut messages = Vec::new();
            for which in which(&subscription.granted.filter, self.me) {
                messages.extend(plain.list_retained(self.me, which).await?.into_iter().map(Arc::new));
            }
            for message in &messages {
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

/// Which retained messages a filter may match: those below its levels before the first wildcard, and before `#` the level
/// itself (section 4.7.1.2).
fn which(filter: &str, me: UserId) -> Vec<Retained> {
    let is_wild = |level: &&str| matches!(*level, "+" | "#");
    let literal: usize =
        filter.split('/').take_while(|level| !is_wild(level)).map(|level| level.len() + 1).sum();
    if literal > filter.len() {
        return vec![Retained::Of(filter.to_owned())];
    }
    // A filter that is wider than the lane matches within it.
    let prefix = own_prefix(me);
    if literal <= prefix.len() {
        return vec![Retained::Below(prefix)];
    }
    let (below, rest) = filter.split_at(literal);
    let mut which = vec![Retained::Below(below.to_owned())];
    if rest == "#" {
        which.insert(0, Retained::Of(below[..literal - 1].to_owned()));
    }
    which
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_read_than_a_filter_may_match() {
        let me: UserId = "01890a5d-ac96-774b-bcce-b302099a0001".parse().unwrap();
        let own = own_prefix(me);
        let (of, below) = (
            |topic: &str| Retained::Of(format!("{own}{topic}")),
            |topic: &str| Retained::Below(format!("{own}{topic}")),
        );
        for (filter, expected) in [
            ("a/b", vec![of("a/b")]),
            ("a/", vec![of("a/")]),
            ("a/#", vec![of("a"), below("a/")]),
            ("a/+", vec![below("a/")]),
            ("a/+/#", vec![below("a/")]),
            ("/#", vec![of(""), below("/")]),
            ("+", vec![below("")]),
            ("#", vec![below("")]),
        ] {
            assert_eq!(which(&format!("{own}{filter}"), me), expected, "{filter}");
        }
        for filter in ["#", "users/#", "users/+/x/a", "+/+/x/#"] {
            assert_eq!(which(filter, me), [below("")], "{filter}");
        }
    }
}
