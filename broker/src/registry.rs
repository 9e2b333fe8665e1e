//! Who is connected here, who is in which chat, and bringing them what was committed.
//!
//! The registry holds no rows: a connection whose inbox is full misses them, learns that it lags, and reads the log. Who
//! gets a chat's rows follows from the rows themselves: a `new-chat` row of a personal log lets its owner in, and the
//! `members-changed` row that ends a stay is the last one its member gets. Facts about one stay are ordered by the chat's
//! `seq`, so it does not matter whether they come from a commit or from reading the store.

#[cfg(test)]
mod tests;

use crate::{
    delivery::{Delivery, Ending, SharedEvent, SharedRow},
    plain::{Item, Lane, Member, Waiting},
    presence::Presence,
    session::{Parked, StateTopic, Subscription},
};
use async_trait::async_trait;
use curlew_domain::{
    chat::StayEnd,
    clock::{System, Timestamp},
    event::Event,
    ids::{ChatId, DeviceId, LoginId, Seq, SessionId, Stream, UserId},
    message::{Entry, LogRow},
    plain::PlainMessage,
    ports::relay::{Committed, Relay},
    session::SessionFence,
};
use futures_util::future::join_all;
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// No state event was lost.
const NONE_LOST: i64 = i64::MAX;
/// Deliveries that wait for one connection; more make it lag.
const INBOX: usize = 256;
/// Sessions without a connection whose in-flight state is kept; the oldest goes.
const MAX_PARKED: usize = 10_000;
/// How long an ending connection is waited for. It writes at most one DISCONNECT, itself bounded.
const END_WAIT: Duration = Duration::from_secs(2);

/// What names a session before its row is read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// Device.
    pub device: DeviceId,
    /// Client identifier.
    pub client_id: String,
    /// Mount, empty for none.
    pub mount: String,
}

/// The registry's end of a connection.
#[derive(Debug)]
struct Handle {
    number: u64,
    user: UserId,
    /// Replaced by re-authentication.
    login: Mutex<LoginId>,
    fence: SessionFence,
    key: SessionKey,
    inbox: mpsc::Sender<Delivery>,
    lagging: AtomicBool,
    /// Since when state events were lost; [`NONE_LOST`]: none were.
    states_lost: AtomicI64,
    /// Messages of the plain lane.
    waiting: Waiting,
    /// Whether the session outlives the connection.
    lasting: AtomicBool,
    end: watch::Sender<Option<Ending>>,
    silent: CancellationToken,
    ended: CancellationToken,
}

/// The connection's end. Dropping it, after the session was stored, ends the registration.
#[derive(Debug)]
pub struct Registration {
    registry: Arc<Registry>,
    handle: Arc<Handle>,
    /// The plain lane of the user.
    pub lane: Arc<Lane>,
    /// Deliveries.
    pub inbox: mpsc::Receiver<Delivery>,
    /// Turns `Some` when the connection must end.
    pub end: watch::Receiver<Option<Ending>>,
}

impl Registration {
    /// Enters the plain lane, with the filters that the session has there.
    pub fn enter_lane(&self, lasting: bool, filters: Vec<Arc<Subscription>>) {
        self.set_lasting(lasting);
        let member: Arc<dyn Member> = Arc::clone(&self.handle) as _;
        self.lane.enter(self.handle.fence.session, lasting, member, filters);
    }

    /// Leaves the plain lane; `lasting`: the session will outlive the connection. Nothing more waits for it here.
    pub fn leave_lane(&self, lasting: bool) {
        self.set_lasting(lasting);
        self.lane.leave(self.handle.fence.session, self.handle.number, lasting);
    }

    fn set_lasting(&self, lasting: bool) {
        self.handle.lasting.store(lasting, Ordering::Release);
    }

    /// The next message of the plain lane.
    pub fn next_plain(&self) -> Option<Item> {
        self.handle.waiting.pop()
    }

    /// Nothing more will be written to the socket.
    pub fn writing_stopped(&self) {
        self.handle.silent.cancel();
    }

    /// By which login the connection lives.
    pub fn held_login(&self) -> HeldLogin {
        HeldLogin(Arc::clone(&self.handle))
    }

    /// Whether deliveries were lost since the last call.
    pub fn take_lag(&self) -> bool {
        self.handle.lagging.swap(false, Ordering::AcqRel)
    }

    /// Since when state events were lost that were not taken note of.
    pub fn take_states_lost(&self) -> Option<Timestamp> {
        if self.handle.states_lost.load(Ordering::Acquire) == NONE_LOST {
            return None;
        }
        let at = self.handle.states_lost.swap(NONE_LOST, Ordering::AcqRel);
        (at != NONE_LOST).then_some(Timestamp(at))
    }

    /// Names the connection.
    pub fn number(&self) -> u64 {
        self.handle.number
    }

    /// Keeps the in-flight state of the session for its return; not that of a connection which another one has replaced.
    pub fn park(&self, parked: Parked) {
        if parked.unacknowledged.is_empty() && parked.received.is_empty() && parked.told.is_empty() {
            return;
        }
        let session = self.handle.fence.session;
        let mut state = self.registry.lock();
        if !state.holds(&self.handle) {
            return;
        }
        if state.parked.insert(session, parked).is_none() {
            state.parked_order.push_back(session);
        }
        if state.parked_order.len() > MAX_PARKED
            && let Some(oldest) = state.parked_order.pop_front()
        {
            state.parked.remove(&oldest);
        }
    }

    /// Takes it back.
    pub fn unpark(&self) -> Parked {
        let session = self.handle.fence.session;
        let mut state = self.registry.lock();
        if !state.holds(&self.handle) {
            return Parked::default();
        }
        let parked = state.parked.remove(&session);
        if parked.is_some() {
            state.parked_order.retain(|id| *id != session);
        }
        parked.unwrap_or_default()
    }
}

/// The login by which a connection lives: whose end ends it.
#[derive(Debug)]
pub struct HeldLogin(Arc<Handle>);

impl HeldLogin {
    /// From now on it is this one, and no other. A logout that was answered before found nothing to end: ask then whether
    /// it is live.
    pub fn replace(&self, login: LoginId) {
        *self.0.login() = login;
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.leave_lane(self.handle.lasting.load(Ordering::Acquire));
        self.registry.remove(&self.handle);
        self.handle.silent.cancel();
        self.handle.ended.cancel();
    }
}

/// The newest fact about a user in a chat.
#[derive(Clone, Copy, Debug)]
struct Stay {
    /// `joined_seq` or `left_seq`: where in the chat's log it stands.
    seq: Seq,
    active: bool,
}

#[derive(Debug)]
struct Online {
    lane: Arc<Lane>,
    handles: Vec<Arc<Handle>>,
    stays: HashMap<ChatId, Stay>,
    /// Whether the stays were read from the store.
    loaded: bool,
}

#[derive(Debug, Default)]
struct State {
    users: HashMap<UserId, Online>,
    /// Members of a chat who are online here, and where they joined: earlier rows are not theirs, though they may still be
    /// on their way from a commit when the stay is already known from the store.
    chats: HashMap<ChatId, HashMap<UserId, Seq>>,
    keys: HashMap<SessionKey, Arc<Handle>>,
    parked: HashMap<SessionId, Parked>,
    parked_order: VecDeque<SessionId>,
}

/// Who is connected here.
#[derive(Debug)]
pub struct Registry {
    /// Who of them is there.
    pub presence: Presence,
    state: Mutex<State>,
    numbers: AtomicU64,
    stopping: AtomicBool,
}

impl Registry {
    /// Nobody is connected. `presence_grace`: how long a connection may be gone before its user is.
    pub fn new(presence_grace: Duration) -> Arc<Self> {
        Arc::new(Self {
            presence: Presence::new(presence_grace, Arc::new(System)),
            state: Mutex::default(),
            numbers: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        })
    }

    /// Ends the connection that holds this session now, and waits until it has stored its state.
    pub async fn claim(&self, key: &SessionKey) {
        let handle = self.lock().keys.get(key).cloned();
        if let Some(handle) = handle {
            handle.end.send_replace(Some(Ending::TakenOver));
            wait(&handle.ended).await;
        }
    }

    /// Enters a connection; from now on it is told what happens. Of two of the same session that raced, the one with the
    /// later generation stays.
    pub fn register(
        self: &Arc<Self>,
        user: UserId,
        login: LoginId,
        fence: SessionFence,
        key: SessionKey,
    ) -> Registration {
        let (inbox, receiver) = mpsc::channel(INBOX);
        let (end, end_receiver) = watch::channel(None);
        let handle = Arc::new(Handle {
            number: self.numbers.fetch_add(1, Ordering::Relaxed),
            user,
            login: Mutex::new(login),
            fence,
            key,
            inbox,
            lagging: AtomicBool::new(false),
            states_lost: AtomicI64::new(NONE_LOST),
            waiting: Waiting::default(),
            lasting: AtomicBool::new(false),
            end,
            silent: CancellationToken::new(),
            ended: CancellationToken::new(),
        });
        let mut state = self.lock();
        let online = state.users.entry(user).or_insert_with(|| Online::new(user));
        let registration = Registration {
            registry: Arc::clone(self),
            handle: Arc::clone(&handle),
            lane: Arc::clone(&online.lane),
            inbox: receiver,
            end: end_receiver,
        };
        online.handles.push(Arc::clone(&handle));
        let other = state.keys.get(&handle.key).map(|other| &other.fence);
        if other.is_some_and(|other| other.session == fence.session && other.generation > fence.generation) {
            handle.end.send_replace(Some(Ending::TakenOver));
        } else if let Some(earlier) = state.keys.insert(handle.key.clone(), Arc::clone(&handle)) {
            earlier.end.send_replace(Some(Ending::TakenOver));
        }
        if self.stopping.load(Ordering::Acquire) {
            handle.end.send_replace(Some(Ending::ShuttingDown));
        }
        // A device that is mounted sees no chats, and says nothing of its user.
        if handle.key.mount.is_empty() {
            self.presence.join(user, handle.number);
        }
        metrics::gauge!("curlew_mqtt_connections").increment(1.0);
        registration
    }

    /// The plain lane of a user; one of its own when nobody of the user is connected here.
    pub fn lane(&self, user: UserId) -> Arc<Lane> {
        let state = self.lock();
        let known = state.users.get(&user).map(|online| Arc::clone(&online.lane));
        known.unwrap_or_else(|| Arc::new(Lane::new(user)))
    }

    /// Brings a message to those members of a chat who are connected here. May be shed.
    pub fn signal(&self, chat: ChatId, message: &Arc<PlainMessage>, from: SessionId) {
        let state = self.lock();
        for user in state.chats.get(&chat).into_iter().flat_map(HashMap::keys) {
            for handle in state.handles(*user) {
                let _ = handle.inbox.try_send(Delivery::Signal(Arc::clone(message), from));
            }
        }
    }

    /// Brings a state event to a user's connections. One that has no room for it is told how things stand later; presence
    /// leaves room for what matters more.
    pub fn tell_state(&self, to: UserId, topic: StateTopic, event: &Arc<SharedEvent>) {
        let state = self.lock();
        for handle in state.handles(to) {
            handle.tell_state(topic, event);
        }
    }

    /// Brings it to the members of a chat who are connected here, but the one who types. Shed first.
    pub fn tell_typing(&self, chat: ChatId, typer: UserId, event: &Arc<SharedEvent>) {
        let state = self.lock();
        let members = state.chats.get(&chat).into_iter().flat_map(HashMap::keys);
        for user in members.filter(|user| **user != typer) {
            for handle in state.handles(*user) {
                if handle.inbox.capacity() >= INBOX / 2 {
                    let _ = handle.inbox.try_send(Delivery::Typing(chat, Arc::clone(event)));
                }
            }
        }
    }

    /// Whether the user's stays must be read from the store before anything can be missed no more.
    pub fn needs_stays(&self, user: UserId) -> bool {
        self.lock().users.get(&user).is_none_or(|online| !online.loaded)
    }

    /// Enters stays read from the store. Facts already known from a later row stay. The store may be ahead of what comes
    /// from the commits: the user's connections are told to read up to the end of a stay which they saw going on.
    pub fn learn_stays(&self, user: UserId, stays: &[StayEnd]) {
        let mut state = self.lock();
        for stay in stays {
            let fact = match stay.left {
                Some(left) => Stay { seq: left, active: false },
                None => Stay { seq: stay.last_joined, active: true },
            };
            let known = state.users.get(&user).and_then(|online| online.stays.get(&stay.chat)).copied();
            if state.learn(user, stay.chat, fact) && !fact.active && known.is_some_and(|known| known.active) {
                state.tell(user, &Delivery::Hint(Stream::Chat(stay.chat), fact.seq));
            }
        }
        if let Some(online) = state.users.get_mut(&user) {
            online.loaded = true;
        }
    }

    /// Ends every connection, and those that come yet.
    pub fn shut_down(&self) {
        self.stopping.store(true, Ordering::Release);
        for online in self.lock().users.values() {
            for handle in &online.handles {
                handle.end.send_replace(Some(Ending::ShuttingDown));
            }
        }
    }

    fn remove(&self, handle: &Handle) {
        let user = handle.user;
        let mut state = self.lock();
        let Some(online) = state.users.get_mut(&user) else { return };
        let Some(place) = online.handles.iter().position(|other| other.number == handle.number) else {
            return;
        };
        online.handles.swap_remove(place);
        if handle.key.mount.is_empty() {
            self.presence.leave(user, handle.number);
        }
        metrics::gauge!("curlew_mqtt_connections").decrement(1.0);
        if state.holds(handle) {
            state.keys.remove(&handle.key);
        }
        if state.users.get(&user).is_some_and(|online| online.handles.is_empty()) {
            let Some(Online { stays, .. }) = state.users.remove(&user) else { return };
            for chat in stays.into_keys() {
                state.leave(user, chat);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The user's connections.
    fn handles(&self, user: UserId) -> impl Iterator<Item = &Arc<Handle>> {
        self.users.get(&user).into_iter().flat_map(|online| &online.handles)
    }

    /// Whether the connection is the one that has its session now.
    fn holds(&self, handle: &Handle) -> bool {
        self.keys.get(&handle.key).is_some_and(|holder| holder.number == handle.number)
    }

    /// Applies a fact about a stay, unless a later one is known: `false`.
    fn learn(&mut self, user: UserId, chat: ChatId, fact: Stay) -> bool {
        let Some(online) = self.users.get_mut(&user) else { return false };
        if online.stays.get(&chat).is_some_and(|known| known.seq > fact.seq) {
            return false;
        }
        online.stays.insert(chat, fact);
        if fact.active {
            self.chats.entry(chat).or_default().insert(user, fact.seq);
        } else {
            self.leave(user, chat);
        }
        true
    }

    fn leave(&mut self, user: UserId, chat: ChatId) {
        if let Some(members) = self.chats.get_mut(&chat) {
            members.remove(&user);
            if members.is_empty() {
                self.chats.remove(&chat);
            }
        }
    }

    fn apply(&mut self, row: &Arc<LogRow>) {
        match row.stream {
            Stream::Personal(user) => {
                if let Entry::NewChat { chat, joined_seq } = row.entry {
                    let is_news = self.learn(user, chat, Stay { seq: joined_seq, active: true });
                    self.tell(user, &Delivery::Joined(chat, joined_seq));
                    // The store was read after the stay had ended: its rows come to nobody, so they must be read.
                    let known = self.users.get(&user).and_then(|online| online.stays.get(&chat));
                    if let Some(later) = known.filter(|_| !is_news) {
                        self.tell(user, &Delivery::Hint(Stream::Chat(chat), later.seq));
                    }
                }
                if let Entry::MessageHidden { chat, .. } = row.entry {
                    self.tell(user, &Delivery::Stale(Stream::Chat(chat)));
                }
                self.tell(user, &Delivery::Hint(row.stream, row.seq));
            }
            Stream::Chat(chat) => {
                if let Some(members) = self.chats.get(&chat) {
                    // Whether somebody may have the message that was edited, or has hidden it, the log tells when it is read.
                    let delivery = match &row.entry {
                        Entry::MessageEdited { .. } => Delivery::Hint(row.stream, row.seq),
                        _ => Delivery::Row(Arc::new(SharedRow::new(Arc::clone(row)))),
                    };
                    for (user, _) in members.iter().filter(|(_, joined_seq)| **joined_seq <= row.seq) {
                        self.tell(*user, &delivery);
                    }
                }
                if let Entry::MembersChanged(change) = &row.entry {
                    for user in &change.removed {
                        self.learn(*user, chat, Stay { seq: row.seq, active: false });
                    }
                }
            }
        }
    }

    /// Tells the connections of these logins to end; answers them.
    fn end_logins(&self, logins: &[LoginId]) -> Vec<Arc<Handle>> {
        let handles = self.users.values().flat_map(|online| &online.handles);
        let concerned: Vec<_> = handles.filter(|handle| logins.contains(&handle.login())).cloned().collect();
        for handle in &concerned {
            handle.end.send_replace(Some(Ending::LoginEnded));
        }
        concerned
    }

    fn tell(&self, user: UserId, delivery: &Delivery) {
        for handle in self.handles(user) {
            handle.tell(delivery.clone());
        }
    }
}

impl Online {
    fn new(user: UserId) -> Self {
        let lane = Arc::new(Lane::new(user));
        Self { lane, handles: Vec::new(), stays: HashMap::new(), loaded: false }
    }
}

impl Member for Handle {
    fn number(&self) -> u64 {
        self.number
    }

    fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    fn wake(&self) {
        // A full inbox wakes the connection as well.
        let _ = self.inbox.try_send(Delivery::Plain);
    }
}

impl Handle {
    fn login(&self) -> MutexGuard<'_, LoginId> {
        self.login.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_state(&self, topic: StateTopic, event: &Arc<SharedEvent>) {
        let reserve = match topic {
            StateTopic::Receipts(_) => 0,
            StateTopic::Presence(_) => INBOX / 4,
        };
        let has_room = self.inbox.capacity() > reserve;
        if !has_room || self.inbox.try_send(Delivery::State(topic, Arc::clone(event))).is_err() {
            self.lose_states(event.event.at);
        }
    }

    /// State events are lost from this time on.
    fn lose_states(&self, since: Timestamp) {
        self.states_lost.fetch_min(since.0, Ordering::AcqRel);
        // A full inbox wakes the connection as well.
        let _ = self.inbox.try_send(Delivery::Plain);
    }

    fn tell(&self, delivery: Delivery) {
        if self.inbox.try_send(delivery).is_err() {
            self.lagging.store(true, Ordering::Release);
        }
    }
}

async fn wait(token: &CancellationToken) {
    if tokio::time::timeout(END_WAIT, token.cancelled()).await.is_err() {
        tracing::warn!("a connection that must end is slow to store its session");
    }
}

#[async_trait]
impl Relay for Registry {
    fn committed(&self, committed: Vec<Committed>) {
        let mut state = self.lock();
        for committed in &committed {
            match committed {
                Committed::Row(row) => state.apply(row),
                Committed::Plain(delivery) => {
                    if let Some(online) = state.users.get(&delivery.user) {
                        online.lane.deliver(delivery);
                    }
                }
                Committed::LoginsEnded(logins) => drop(state.end_logins(logins)),
                Committed::VisibilityChanged(users) => self.presence.visibility_changed(users),
            }
        }
    }

    fn notify(&self, to: UserId, event: Arc<Event>, except: Option<SessionId>) {
        let Some(chat) = event.chat_id else { return };
        let state = self.lock();
        let shared = SharedEvent::new(event);
        for handle in state.handles(to).filter(|handle| Some(handle.fence.session) != except) {
            handle.tell_state(StateTopic::Receipts(chat), &shared);
        }
    }

    fn receipts_uncertain(&self, since: Timestamp) {
        for handle in self.lock().users.values().flat_map(|online| &online.handles) {
            handle.lose_states(since);
        }
    }

    async fn end_logins(&self, logins: &[LoginId]) {
        let concerned = self.lock().end_logins(logins);
        join_all(concerned.iter().map(|handle| wait(&handle.silent))).await;
    }

    async fn online_devices(&self, user: UserId) -> Vec<DeviceId> {
        let state = self.lock();
        state.handles(user).map(|handle| handle.key.device).collect()
    }
}
