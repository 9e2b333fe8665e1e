//! Whether people are there: who is connected here and active, what their contacts have been told, and when it is told.
//!
//! Up at once: who comes back within the grace was never gone. Down by a lost connection after the grace; by the client's
//! own word at once. One task tells everything, so that what is told about one user is in order; whoever changes in the
//! meantime is told of once.

#[cfg(test)]
mod tests;

use crate::{
    connection::Edge,
    delivery::{SharedEvent, StateEvent},
    session::{StateQuery, StateTopic},
};
use curlew_domain::{
    Result,
    clock::{Clock, Timestamp},
    ids::UserId,
    presence::{PresenceContact, PresenceState},
};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Users told of before it is looked again who is due.
const BATCH: usize = 64;
/// Contacts of so many users are read at once.
const READS: usize = 8;
/// Least time from what was told of somebody to their own word that they are away.
const INTERVAL: Duration = Duration::from_secs(1);
/// Pause before contacts that could not be read are read again.
const RETRY: Duration = Duration::from_secs(1);

/// What a client says of itself, on `users/{me}/presence`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Before somebody's eyes.
    Active,
    /// In the background.
    Away,
}

/// Somebody who is connected here, or was until a moment ago.
#[derive(Debug)]
struct Tracked {
    /// By the number of the connection.
    connections: HashMap<u64, Mode>,
    /// What contacts have been told, and since when.
    told: PresenceState,
    told_at: Timestamp,
    /// Not before then is it told that they are away.
    quiet_until: Instant,
    /// When they were last connected; while they are away, when they went.
    seen_at: Timestamp,
    /// When a lower state than the one told is to be told.
    due: Option<Instant>,
    /// Those with whom presence is shared, in order; `None`: not read yet.
    circle: Option<Vec<UserId>>,
}

impl Tracked {
    fn new(now: Timestamp, quiet_until: Instant) -> Self {
        Self {
            connections: HashMap::new(),
            told: PresenceState::Offline,
            told_at: now,
            quiet_until,
            seen_at: now,
            due: None,
            circle: None,
        }
    }

    fn is_active(&self) -> bool {
        self.connections.values().any(|mode| *mode == Mode::Active)
    }

    fn state(&self) -> PresenceState {
        if self.is_active() {
            PresenceState::Online
        } else if self.connections.is_empty() {
            PresenceState::Offline
        } else {
            PresenceState::Away
        }
    }

    /// What was told, as it is told again.
    fn shown(&self, now: Timestamp) -> (PresenceState, Option<Timestamp>) {
        (self.told, Some(if self.told == PresenceState::Online { now } else { self.seen_at }))
    }
}

#[derive(Debug, Default)]
struct State {
    users: HashMap<UserId, Tracked>,
    /// Grace that runs, by its end.
    graces: BTreeSet<(Instant, UserId)>,
    /// Whom something is to be told of, and those whose contacts must be read (again).
    queue: BTreeSet<UserId>,
    stale: HashSet<UserId>,
}

/// What is to be told: to whom, of whom, what.
type News = Vec<(UserId, UserId, PresenceState, Option<Timestamp>)>;

/// Who is there.
pub struct Presence {
    state: Mutex<State>,
    wake: Notify,
    grace: Duration,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presence")
            .field("state", &self.state)
            .field("grace", &self.grace)
            .finish_non_exhaustive()
    }
}

impl Presence {
    /// Nobody is. `grace`: how long a connection may be gone before its user is.
    pub fn new(grace: Duration, clock: Arc<dyn Clock>) -> Self {
        Self { state: Mutex::default(), wake: Notify::new(), grace, clock }
    }

    /// A connection of the user, active.
    pub fn join(&self, user: UserId, number: u64) {
        self.change(user, true, |tracked| {
            tracked.connections.insert(number, Mode::Active);
        });
    }

    /// What a connection says of itself; one that is gone says nothing.
    pub fn set(&self, user: UserId, number: u64, mode: Mode) {
        self.change(user, true, |tracked| {
            if let Some(known) = tracked.connections.get_mut(&number) {
                *known = mode;
            }
        });
    }

    /// A connection has ended.
    pub fn leave(&self, user: UserId, number: u64) {
        self.change(user, false, |tracked| {
            tracked.connections.remove(&number);
        });
    }

    /// With whom these share their presence may have changed.
    pub fn visibility_changed(&self, users: &[UserId]) {
        let mut state = self.lock();
        state.stale.extend(users);
        state.queue.extend(users);
        drop(state);
        self.wake.notify_one();
    }

    /// Whether a device of the user is connected here and active.
    pub fn is_active(&self, user: UserId) -> bool {
        self.lock().users.get(&user).is_some_and(Tracked::is_active)
    }

    fn change(&self, user: UserId, at_once: bool, change: impl FnOnce(&mut Tracked)) {
        let (now, at) = (Instant::now(), self.clock.now());
        let mut state = self.lock();
        let state = &mut *state;
        let tracked = state.users.entry(user).or_insert_with(|| Tracked::new(at, now));
        let was_there = !tracked.connections.is_empty();
        change(tracked);
        if was_there || !tracked.connections.is_empty() {
            tracked.seen_at = at.max(tracked.seen_at);
        }
        if let Some(due) = tracked.due.take() {
            state.graces.remove(&(due, user));
        }
        let target = tracked.state();
        if target == tracked.told && target != PresenceState::Offline {
            return;
        }
        let due = if rank(target) > rank(tracked.told) {
            now
        } else if at_once {
            tracked.quiet_until
        } else {
            now + self.grace
        };
        if due <= now {
            state.queue.insert(user);
        } else {
            tracked.due = Some(due);
            state.graces.insert((due, user));
        }
        self.wake.notify_one();
    }

    /// Tells what there is to tell, until `stop`; then keeps when those were last active who still were here.
    pub async fn run(&self, edge: &Edge, stop: CancellationToken) {
        let mut unsaved = Vec::new();
        loop {
            let (batch, next) = self.take_batch(Instant::now());
            let mut failed = false;
            let reads =
                stream::iter(batch).map(|user| async move { (user, self.read_contacts(edge, user).await) });
            // Read several at once, told one after the other.
            let mut reads = reads.buffered(READS);
            while let Some((user, contacts)) = reads.next().await {
                match contacts {
                    Ok(contacts) => self.tell(edge, user, contacts, &mut unsaved),
                    Err(error) => {
                        tracing::warn!(%error, "contacts are told later who is there");
                        self.lock().queue.insert(user);
                        failed = true;
                    }
                }
            }
            failed |= !save(edge, &mut unsaved).await;
            let pause = async {
                match next {
                    _ if failed => tokio::time::sleep(RETRY).await,
                    Some(at) => tokio::select! {
                        () = self.wake.notified() => {}
                        () = tokio::time::sleep_until(at.into()) => {}
                    },
                    None => self.wake.notified().await,
                }
            };
            tokio::select! {
                () = pause => {}
                () = stop.cancelled() => break,
            }
        }
        unsaved.extend(self.lock().users.iter().map(|(user, tracked)| (*user, tracked.seen_at)));
        save(edge, &mut unsaved).await;
    }

    /// Users of whom something is to be told, and when to look again.
    fn take_batch(&self, now: Instant) -> (Vec<UserId>, Option<Instant>) {
        let mut state = self.lock();
        while let Some((due, user)) = state.graces.first().copied()
            && due <= now
        {
            state.graces.pop_first();
            state.queue.insert(user);
            if let Some(tracked) = state.users.get_mut(&user) {
                tracked.due = None;
            }
        }
        let mut batch = Vec::new();
        while batch.len() < BATCH
            && let Some(user) = state.queue.pop_first()
        {
            batch.push(user);
        }
        let next = if state.queue.is_empty() { state.graces.first().map(|(due, _)| *due) } else { Some(now) };
        (batch, next)
    }

    /// With whom the user shares presence, if that must be read (again).
    async fn read_contacts(&self, edge: &Edge, user: UserId) -> Result<Option<Vec<PresenceContact>>> {
        // Before it is read, so that a change in the meantime has it read again.
        let read = {
            let mut state = self.lock();
            let unread = state.users.get(&user).is_some_and(|tracked| tracked.circle.is_none());
            state.stale.remove(&user) || unread
        };
        if !read {
            return Ok(None);
        }
        let contacts = edge.services.presence.list_contacts(user).await;
        if contacts.is_err() {
            self.lock().stale.insert(user);
        }
        contacts.map(Some)
    }

    fn tell(
        &self,
        edge: &Edge,
        user: UserId,
        contacts: Option<Vec<PresenceContact>>,
        unsaved: &mut Vec<(UserId, Timestamp)>,
    ) {
        let presence = &edge.services.presence;
        let mut news = News::new();
        {
            let mut state = self.lock();
            let now = self.clock.now();
            if let Some(contacts) = contacts {
                state.enter_circle(user, &contacts, now, &mut news);
            }
            state.tell_change(user, now, &mut news, unsaved);
        }
        let mut events: HashMap<(UserId, PresenceState), Arc<SharedEvent>> = HashMap::new();
        for (to, of, told, seen_at) in news {
            let event = events
                .entry((of, told))
                .or_insert_with(|| SharedEvent::new(presence.event(of, told, seen_at)));
            edge.registry.tell_state(to, StateTopic::Presence(of), event);
        }
    }

    /// A page of how things stand, for a viewer who subscribes (only those who are there), or comes back (whatever may have
    /// changed since).
    pub async fn list(
        &self,
        edge: &Edge,
        viewer: UserId,
        users: Option<&[UserId]>,
        query: &StateQuery,
        limit: usize,
    ) -> Result<(Vec<StateEvent>, Option<UserId>)> {
        let presence = &edge.services.presence;
        let after = query.after.map(UserId::from);
        let mut contacts = presence.list_contacts(viewer).await?;
        contacts.retain(|contact| {
            after.is_none_or(|after| contact.user > after)
                && users.is_none_or(|users| users.contains(&contact.user))
        });
        let next = contacts.get(limit).and_then(|_| contacts.get(limit - 1)).map(|last| last.user);
        contacts.truncate(limit);
        let now = self.clock.now();
        let state = self.lock();
        let shown = contacts.iter().filter_map(|contact| {
            let (told, seen_at) = state.shown(contact, query.since, self.grace, now)?;
            let event = SharedEvent::new(presence.event(contact.user, told, seen_at));
            Some((StateTopic::Presence(contact.user), event))
        });
        Ok((shown.collect(), next))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// How a contact is shown to somebody who subscribes (`since` is `None`), or comes back; `None`: not at all.
    fn shown(
        &self,
        contact: &PresenceContact,
        since: Option<Timestamp>,
        grace: Duration,
        now: Timestamp,
    ) -> Option<(PresenceState, Option<Timestamp>)> {
        // A state that ended so long before was told only then.
        let is_new =
            |at: Option<Timestamp>| since.is_some_and(|since| at.is_some_and(|at| at > since.minus(grace)));
        if !contact.visible {
            return is_new(Some(contact.changed_at)).then_some((PresenceState::Unknown, None));
        }
        let tracked = self.users.get(&contact.user).filter(|tracked| tracked.told != PresenceState::Offline);
        if let Some(tracked) = tracked {
            let is_news = is_new(Some(tracked.told_at)) || is_new(Some(contact.changed_at));
            return (since.is_none() || is_news).then(|| tracked.shown(now));
        }
        let last_seen_at = contact.last_seen_at?;
        let is_news = is_new(Some(last_seen_at)) || since.is_some_and(|since| contact.changed_at > since);
        is_news.then_some((PresenceState::Offline, Some(last_seen_at)))
    }

    /// Takes note of with whom a user shares presence; who enters is told and shown how things stand, who leaves that nothing
    /// is known any more.
    fn enter_circle(&mut self, user: UserId, contacts: &[PresenceContact], now: Timestamp, news: &mut News) {
        let circle: Vec<UserId> =
            contacts.iter().filter(|contact| contact.visible).map(|contact| contact.user).collect();
        let before = self.users.get_mut(&user).and_then(|tracked| tracked.circle.replace(circle.clone()));
        let first = before.is_none();
        let others = before.iter().flatten().copied().chain(contacts.iter().map(|contact| contact.user));
        for other in others.collect::<BTreeSet<_>>() {
            let shares = circle.binary_search(&other).is_ok();
            let of_other = self.users.get_mut(&other).and_then(|tracked| tracked.circle.as_mut());
            let place = of_other.as_ref().map(|circle| circle.binary_search(&user));
            let shared = before.as_ref().is_some_and(|circle| circle.binary_search(&other).is_ok())
                || place.is_some_and(|place| place.is_ok());
            if let (Some(circle), Some(place)) = (of_other, place) {
                match place {
                    Ok(place) if !shares => drop(circle.remove(place)),
                    Err(place) if shares => circle.insert(place, user),
                    _ => {}
                }
            }
            match (shared, shares) {
                (true, false) => {
                    news.push((other, user, PresenceState::Unknown, None));
                    news.push((user, other, PresenceState::Unknown, None));
                }
                // At the first reading nothing has changed.
                (false, true) if !first => {
                    for (to, of) in [(other, user), (user, other)] {
                        let tracked = self.users.get(&of).map(|tracked| tracked.shown(now));
                        let contact = contacts.iter().find(|contact| contact.user == of);
                        let last_seen = contact.and_then(|contact| contact.last_seen_at);
                        let (told, seen_at) = tracked.unwrap_or((PresenceState::Offline, last_seen));
                        news.push((to, of, told, seen_at));
                    }
                }
                _ => {}
            }
        }
    }

    /// Tells the circle of a user what has become of them.
    fn tell_change(
        &mut self,
        user: UserId,
        now: Timestamp,
        news: &mut News,
        unsaved: &mut Vec<(UserId, Timestamp)>,
    ) {
        let Some(tracked) = self.users.get_mut(&user) else { return };
        // Its end brings it here again.
        let target = if tracked.due.is_some() { tracked.told } else { tracked.state() };
        if target != tracked.told {
            if target == PresenceState::Away {
                unsaved.push((user, tracked.seen_at));
            }
            (tracked.told, tracked.told_at) = (target, now);
            tracked.quiet_until = Instant::now() + INTERVAL;
            let (told, seen_at) = tracked.shown(now);
            news.extend(tracked.circle.iter().flatten().map(|to| (*to, user, told, seen_at)));
        }
        if target == PresenceState::Offline && tracked.connections.is_empty() && tracked.due.is_none() {
            // Also of who came and went before anything was told.
            unsaved.push((user, tracked.seen_at));
            self.users.remove(&user);
        }
    }
}

fn rank(state: PresenceState) -> u8 {
    match state {
        PresenceState::Unknown | PresenceState::Offline => 0,
        PresenceState::Away => 1,
        PresenceState::Online => 2,
    }
}

/// Stores when users were last active; whether it could. What could not be stored is kept.
async fn save(edge: &Edge, unsaved: &mut Vec<(UserId, Timestamp)>) -> bool {
    if unsaved.is_empty() {
        return true;
    }
    match edge.services.presence.note_seen(unsaved.clone()).await {
        Ok(()) => {
            unsaved.clear();
            true
        }
        Err(error) => {
            tracing::warn!(%error, users = unsaved.len(), "when users were last active is stored later");
            false
        }
    }
}
