//! Who gets what in the lane of one user.

#[cfg(test)]
mod tests;

use super::waiting::{Item, Waiting};
use crate::{
    session::{Grant, Subscription, Subscriptions},
    topic::{Share, Space, Trie},
};
use curlew_domain::{
    Result,
    ids::{SessionId, UserId},
    plain::{LastingSession, PlainDelivery, PlainMessage, Qos, Recipient},
    services::Plain,
};
use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::{OnceCell, RwLock};

/// The connection of a session, as its lane sees it.
pub trait Member: Send + Sync {
    /// Tells connections of one session apart.
    fn number(&self) -> u64;
    /// Where messages for it wait.
    fn waiting(&self) -> &Waiting;
    /// There is something in it.
    fn wake(&self);
}

/// One filter of one session.
struct Subscriber {
    session: SessionId,
    subscription: Arc<Subscription>,
}

struct Session {
    /// Whether it outlives its connection.
    lasting: bool,
    /// `None`: it is away.
    connection: Option<Arc<dyn Member>>,
    filters: Vec<Arc<Subscription>>,
}

#[derive(Default)]
struct State {
    sessions: HashMap<SessionId, Session>,
    filters: Trie<Subscriber>,
    /// How many messages each shared subscription has had.
    turns: HashMap<Share, usize>,
}

/// The sessions of one user and their filters. It lives as long as somebody of the user is connected to this node, or a will
/// is published.
pub struct Lane {
    user: UserId,
    state: Mutex<State>,
    /// Whether the sessions that are away are known.
    loaded: OnceCell<()>,
    /// Held by who changes a retained message, from asking who gets it until it is committed; exclusively by who
    /// subscribes, from the change of the filters until retained messages are read. So none is missed between the two.
    pub(crate) retaining: Arc<RwLock<()>>,
}

/// Who gets a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// Sessions that last, at QoS 1 or 2.
    pub queue: Vec<Recipient>,
    /// Others, which are connected.
    pub live: Vec<Recipient>,
}

impl std::fmt::Debug for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Lane {
    /// Of a user nobody of whom is known yet.
    pub fn new(user: UserId) -> Self {
        Self { user, state: Mutex::default(), loaded: OnceCell::new(), retaining: Arc::default() }
    }

    /// Whose.
    pub fn user(&self) -> UserId {
        self.user
    }

    /// Makes sure that sessions which are away are known, too.
    pub async fn load(&self, plain: &Plain) -> Result<()> {
        let load = async || {
            for LastingSession { session, mount, filters } in plain.list_lasting_sessions(self.user).await? {
                let Ok(space) = Space::mounted(self.user, &mount) else { continue };
                let filters = Subscriptions::load(&filters, space).own_lane();
                let mut state = self.lock();
                // What a connection here said is newer.
                if let Entry::Vacant(unknown) = state.sessions.entry(session) {
                    unknown.insert(Session { lasting: true, connection: None, filters: Vec::new() });
                    state.set_filters(session, filters);
                }
            }
            Ok(())
        };
        self.loaded.get_or_try_init(load).await.copied()
    }

    /// A session is connected. Whatever is routed to it from now on reaches the connection or waits in the session's queue.
    pub fn enter(
        &self,
        session: SessionId,
        lasting: bool,
        connection: Arc<dyn Member>,
        filters: Vec<Arc<Subscription>>,
    ) {
        let mut state = self.lock();
        state.set_filters(session, Vec::new());
        state
            .sessions
            .insert(session, Session { lasting, connection: Some(connection), filters: Vec::new() });
        state.set_filters(session, filters);
    }

    /// The filters of a session are others now.
    pub fn set_filters(&self, session: SessionId, filters: Vec<Arc<Subscription>>) {
        self.lock().set_filters(session, filters);
    }

    /// A connection has ended; `lasting`: its session has not.
    pub fn leave(&self, session: SessionId, number: u64, lasting: bool) {
        let mut state = self.lock();
        let Some(known) = state.sessions.get_mut(&session) else { return };
        if known.connection.as_ref().is_none_or(|connection| connection.number() != number) {
            return;
        }
        if lasting {
            known.connection = None;
        } else {
            state.forget(session);
        }
    }

    /// Who gets a message that `publisher` publishes, and at which QoS: the highest of its filters that match
    /// `[MQTT-3.3.4-2]`, but no higher than published `[MQTT-3.8.4-8]`.
    pub fn route(&self, message: &PlainMessage, publisher: Option<SessionId>) -> Routes {
        let mut state = self.lock();
        let mut matching: BTreeMap<SessionId, Vec<Arc<Subscription>>> = BTreeMap::new();
        let mut shared: HashMap<Share, Vec<(SessionId, Arc<Subscription>)>> = HashMap::new();
        for Subscriber { session, subscription } in state.filters.matching(&message.topic) {
            if subscription.granted.spares(&message.topic) {
                continue;
            }
            match &subscription.granted.share {
                Some(share) => {
                    shared.entry(share.clone()).or_default().push((*session, Arc::clone(subscription)));
                }
                // [MQTT-3.8.3-3]
                None if subscription.no_local && publisher == Some(*session) => {}
                None => matching.entry(*session).or_default().push(Arc::clone(subscription)),
            }
        }
        let mut routes = Routes::default();
        for (session, subscriptions) in &matching {
            let grant = Grant::of(subscriptions.iter().map(Arc::as_ref));
            state.add_route(&mut routes, message, *session, grant);
        }
        for (share, members) in shared {
            if let Some((session, subscription)) = state.take_turn(share, members, message.qos) {
                state.add_route(&mut routes, message, session, Grant::of([&*subscription]));
            }
        }
        routes
    }

    /// Brings a committed publication to the connections.
    pub fn deliver(&self, delivery: &PlainDelivery) {
        let mut state = self.lock();
        for (recipient, seq) in &delivery.queued {
            let item = Item::live(Arc::clone(&delivery.message), recipient.clone());
            state.hand_over(Item { seq: Some(*seq), ..item });
        }
        for recipient in &delivery.live {
            state.hand_over(Item::live(Arc::clone(&delivery.message), recipient.clone()));
        }
        for session in &delivery.gone {
            if state.sessions.get(session).is_some_and(|known| known.connection.is_none()) {
                state.forget(*session);
            }
        }
    }

    /// Passes on a message of which nothing is kept.
    pub fn pass_on(&self, message: &Arc<PlainMessage>, to: Vec<Recipient>) {
        let state = self.lock();
        for recipient in to {
            state.hand_over(Item::live(Arc::clone(message), recipient));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn set_filters(&mut self, session: SessionId, filters: Vec<Arc<Subscription>>) {
        let Some(known) = self.sessions.get_mut(&session) else { return };
        for old in std::mem::take(&mut known.filters) {
            self.filters.remove(&old.granted.filter, |subscriber| {
                subscriber.session == session && Arc::ptr_eq(&subscriber.subscription, &old)
            });
            if let Some(share) = &old.granted.share {
                self.turns.remove(share);
            }
        }
        for subscription in &filters {
            let subscriber = Subscriber { session, subscription: Arc::clone(subscription) };
            self.filters.insert(&subscription.granted.filter, subscriber);
        }
        known.filters = filters;
    }

    fn forget(&mut self, session: SessionId) {
        self.set_filters(session, Vec::new());
        self.sessions.remove(&session);
    }

    fn add_route(
        &self,
        routes: &mut Routes,
        message: &PlainMessage,
        session: SessionId,
        grant: Option<Grant>,
    ) {
        let (Some(Grant { qos, ids, retain_as_published }), Some(known)) =
            (grant, self.sessions.get(&session))
        else {
            return;
        };
        let qos = qos.min(message.qos);
        let retain = message.retain && retain_as_published;
        let recipient = Recipient { session, qos, retain, subscription_ids: ids };
        if known.lasting && qos > Qos::AtMostOnce {
            routes.queue.push(recipient);
        } else if known.connection.is_some() {
            routes.live.push(recipient);
        }
    }

    /// Whose turn it is in a shared subscription: those that are connected one after the other; when there are none, those
    /// for whom it can wait.
    fn take_turn(
        &mut self,
        share: Share,
        mut members: Vec<(SessionId, Arc<Subscription>)>,
        qos: Qos,
    ) -> Option<(SessionId, Arc<Subscription>)> {
        let is = |session, is: fn(&Session) -> bool| self.sessions.get(&session).is_some_and(is);
        if members.iter().any(|(session, _)| is(*session, |known| known.connection.is_some())) {
            members.retain(|(session, _)| is(*session, |known| known.connection.is_some()));
        } else {
            members.retain(|(session, subscription)| {
                is(*session, |known| known.lasting) && subscription.qos.min(qos) > Qos::AtMostOnce
            });
        }
        members.sort_unstable_by_key(|(session, _)| *session);
        let turn = self.turns.entry(share).or_default();
        *turn = turn.wrapping_add(1);
        let next = turn.checked_rem(members.len())?;
        Some(members.swap_remove(next))
    }

    fn hand_over(&self, item: Item) {
        let connection =
            self.sessions.get(&item.recipient.session).and_then(|known| known.connection.as_ref());
        if let Some(connection) = connection {
            connection.waiting().push(item);
            connection.wake();
        }
    }
}
