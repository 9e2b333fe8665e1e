//! A store per test, a relay that remembers, and short ways to say what tests say often.

use async_trait::async_trait;
use curlew_domain::{
    ErrorCode,
    account::{LoginKind, Username},
    chat::HistoryVisible,
    clock::Timestamp,
    contact::RelationAction,
    device::{Device, DeviceChoice},
    event::Event,
    ids::{ChatId, DeviceId, LoginId, RowId, Seq, SessionId, Stream, UserId},
    message::{LocalId, LogRow, Target},
    page::PageRequest,
    plain::PlainDelivery,
    ports::{
        relay::{Committed, Relay},
        store::{
            Accounts, AppendMessage, Appended, ChangeMembers, ChangeMessage, Chats, Commit, Contacts, Log,
            LogPage, NewGroup, NewLogin, NewPrivateChat, NewUser,
        },
    },
    rules::{MembershipChange, MembershipLimits, MessageChange},
};
use curlew_store::{CommitGate, Engine, SqlStore, StoreConfig};
use curlew_tests::postgres::PostgresServer;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};
use tempfile::TempDir;
use tokio::sync::watch;
use uuid::Uuid;

pub const LIMITS: MembershipLimits = MembershipLimits { group_members: 1024, require_contact: true };
pub const OPEN: MembershipLimits = MembershipLimits { group_members: 1024, require_contact: false };
/// What is waited for has long happened by then.
const PATIENCE: Duration = Duration::from_secs(20);
pub const FIRST_PAGE: PageRequest = PageRequest { limit: 50, after: None };

/// Remembers what every commit held, and what was said.
#[derive(Default)]
pub struct Recorder {
    committed: Mutex<Vec<Committed>>,
    /// Who was told something, and how often it was said that receipts are uncertain.
    told: watch::Sender<Vec<UserId>>,
    uncertain: watch::Sender<usize>,
}

impl Recorder {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The rows that came since the last call.
    pub fn take(&self) -> Vec<Arc<LogRow>> {
        let row = |committed| match committed {
            Committed::Row(row) => Some(row),
            _ => None,
        };
        self.take_all().into_iter().filter_map(row).collect()
    }

    /// The publications that came since the last call.
    pub fn take_plain(&self) -> Vec<Arc<PlainDelivery>> {
        let delivery = |committed| match committed {
            Committed::Plain(delivery) => Some(delivery),
            _ => None,
        };
        self.take_all().into_iter().filter_map(delivery).collect()
    }

    /// The logins that ended since the last call.
    pub fn take_ended(&self) -> Vec<LoginId> {
        let ended = |committed| match committed {
            Committed::LoginsEnded(logins) => logins,
            _ => Vec::new(),
        };
        self.take_all().into_iter().flat_map(ended).collect()
    }

    /// Whose visibility changed since the last call.
    pub fn take_visibility(&self) -> Vec<UserId> {
        let changed = |committed| match committed {
            Committed::VisibilityChanged(users) => users,
            _ => Vec::new(),
        };
        self.take_all().into_iter().flat_map(changed).collect()
    }

    /// Returns when the user has been told something since the start.
    pub async fn told(&self, user: UserId) {
        let mut told = self.told.subscribe();
        let heard = tokio::time::timeout(PATIENCE, told.wait_for(|told| told.contains(&user))).await;
        heard.expect("the user is told").unwrap();
    }

    /// Returns when it has been said so often that receipts are uncertain.
    pub async fn uncertain(&self, times: usize) {
        let mut uncertain = self.uncertain.subscribe();
        let heard = tokio::time::timeout(PATIENCE, uncertain.wait_for(|said| *said >= times)).await;
        heard.expect("receipts become uncertain").unwrap();
    }

    fn take_all(&self) -> Vec<Committed> {
        std::mem::take(&mut self.committed.lock().unwrap())
    }
}

#[async_trait]
impl Relay for Recorder {
    fn committed(&self, committed: Vec<Committed>) {
        self.committed.lock().unwrap().extend(committed);
    }

    fn notify(&self, to: UserId, _event: Arc<Event>, _except: Option<SessionId>) {
        self.told.send_modify(|told| told.push(to));
    }

    fn receipts_uncertain(&self, _since: Timestamp) {
        self.uncertain.send_modify(|times| *times += 1);
    }

    async fn end_logins(&self, _logins: &[LoginId]) {}

    async fn online_devices(&self, _user: UserId) -> Vec<DeviceId> {
        Vec::new()
    }
}

/// What happens to commits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    Pass,
    /// Wait before COMMIT.
    Hold,
    /// Fail before COMMIT.
    Fail,
    /// Commit, and hide it.
    Hide,
    /// Commit, and wait before anybody hears of it.
    Linger,
}

/// A gate that a test turns.
pub struct Gate {
    fate: watch::Sender<Fate>,
    waiting: watch::Sender<usize>,
}

impl Gate {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { fate: watch::Sender::new(Fate::Pass), waiting: watch::Sender::new(0) })
    }

    pub fn set(&self, fate: Fate) {
        self.fate.send_replace(fate);
    }

    /// Returns when `n` transactions have come to the gate since the start.
    pub async fn reached_by(&self, n: usize) {
        let mut waiting = self.waiting.subscribe();
        let came = tokio::time::timeout(PATIENCE, waiting.wait_for(|came| *came >= n)).await;
        came.expect("so many transactions come to the gate").unwrap();
    }

    pub fn came(&self) -> usize {
        *self.waiting.borrow()
    }
}

#[async_trait]
impl CommitGate for Gate {
    async fn before_commit(&self) -> Result<(), String> {
        self.waiting.send_modify(|n| *n += 1);
        let fate = *self.fate.subscribe().wait_for(|fate| *fate != Fate::Hold).await.unwrap();
        if fate == Fate::Fail { Err("the gate is shut".into()) } else { Ok(()) }
    }

    async fn after_commit(&self) -> Result<(), String> {
        let hides = |fate: &mut Fate| {
            let hides = *fate == Fate::Hide;
            if hides {
                *fate = Fate::Pass;
            }
            hides
        };
        if self.fate.send_if_modified(hides) {
            return Err("the acknowledgement was lost".into());
        }
        self.fate.subscribe().wait_for(|fate| *fate != Fate::Linger).await.unwrap();
        Ok(())
    }
}

/// An open store and what belongs to it.
pub struct Fixture {
    pub store: Arc<SqlStore>,
    pub relay: Arc<Recorder>,
    pub gate: Arc<Gate>,
    pub config: StoreConfig,
    clock: AtomicI64,
    dir: Option<TempDir>,
}

impl Fixture {
    pub async fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::Sqlite(dir.path().join("curlew.db"));
        Self::open(Self::config(engine), Some(dir)).await
    }

    pub async fn postgres(test: &'static str) -> Option<Self> {
        let make = move || PostgresServer::shared(test).map(|server| server.create_database().unwrap());
        let url = tokio::task::spawn_blocking(make).await.unwrap()?;
        Some(Self::open(Self::config(Engine::Postgres(url)), None).await)
    }

    fn config(engine: Engine) -> StoreConfig {
        let gate: Arc<dyn CommitGate> = Gate::new();
        StoreConfig { gate: Some(gate), ..StoreConfig::new(engine) }
    }

    async fn open(config: StoreConfig, dir: Option<TempDir>) -> Self {
        let gate = Gate::new();
        let config = StoreConfig { gate: Some(gate.clone()), ..config };
        let relay = Recorder::new();
        let store = Arc::new(SqlStore::open(config.clone(), relay.clone()).await.unwrap());
        Self { store, relay, gate, config, clock: AtomicI64::new(1_000_000), dir }
    }

    /// Closes the store and opens it again.
    pub async fn restart(self) -> Self {
        self.store.close().await;
        let clock = self.clock.load(Ordering::Relaxed);
        let fixture = Self::open(self.config, self.dir).await;
        fixture.clock.store(clock, Ordering::Relaxed);
        fixture
    }

    /// The store, and on PostgreSQL a second one on the same database, as another process has it.
    pub async fn two_stores(&self) -> [Arc<SqlStore>; 2] {
        let other = match self.config.engine {
            Engine::Sqlite(_) => Arc::clone(&self.store),
            Engine::Postgres(_) => {
                Arc::new(SqlStore::open(self.config.clone(), Recorder::new()).await.unwrap())
            }
        };
        [Arc::clone(&self.store), other]
    }

    /// The same database with another configuration.
    pub async fn reopen(self, change: impl FnOnce(&mut StoreConfig)) -> Self {
        let mut fixture = self;
        change(&mut fixture.config);
        fixture.restart().await
    }

    /// Later than every time before.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.clock.fetch_add(1, Ordering::Relaxed))
    }

    pub async fn user(&self, name: &str) -> UserId {
        let id = UserId::from(Uuid::now_v7());
        self.store.create_user(new_user(id, name, self.now())).await.unwrap();
        id
    }

    pub async fn contacts<const N: usize>(&self, names: [&str; N]) -> [UserId; N] {
        let mut users = Vec::new();
        for name in names {
            let user = self.user(name).await;
            for other in &users {
                self.befriend(*other, user).await;
            }
            users.push(user);
        }
        self.relay.take();
        users.try_into().unwrap()
    }

    pub async fn befriend(&self, a: UserId, b: UserId) {
        self.store.relate(a, b, RelationAction::Request, self.now()).await.unwrap();
        self.store.relate(b, a, RelationAction::Accept, self.now()).await.unwrap();
    }

    pub async fn private_chat(&self, creator: UserId, peer: UserId) -> ChatId {
        let chat =
            NewPrivateChat { id: Uuid::now_v7().into(), creator, peer, limits: LIMITS, at: self.now() };
        self.store.create_private_chat(chat).await.unwrap().0
    }

    pub async fn group(&self, creator: UserId, members: &[UserId]) -> ChatId {
        self.store.create_group(self.new_group(creator, members)).await.unwrap().0
    }

    pub fn new_group(&self, creator: UserId, members: &[UserId]) -> NewGroup {
        NewGroup {
            id: Uuid::now_v7().into(),
            row: Uuid::now_v7().into(),
            creator,
            name: "birds".into(),
            members: members.to_vec(),
            history_visible: HistoryVisible::Joined,
            local_id: None,
            limits: LIMITS,
            at: self.now(),
        }
    }

    pub async fn change(
        &self,
        chat: ChatId,
        actor: UserId,
        change: MembershipChange,
    ) -> curlew_domain::Result<Option<LogRow>> {
        let change =
            ChangeMembers { chat, actor, change, row: Uuid::now_v7().into(), limits: LIMITS, at: self.now() };
        self.store.change_members(change).await
    }

    pub fn message(&self, chat: ChatId, sender: UserId, text: &str) -> AppendMessage {
        AppendMessage {
            chat,
            sender,
            id: RowId::from(Uuid::now_v7()),
            local_id: None,
            content_hash: hash(text),
            text: text.into(),
            reply_to: None,
            mentions: Vec::new(),
            forwarded_from: None,
            at: self.now(),
        }
    }

    pub fn message_with(&self, chat: ChatId, sender: UserId, text: &str, local_id: &str) -> AppendMessage {
        AppendMessage {
            local_id: Some(LocalId::parse(local_id).unwrap()),
            ..self.message(chat, sender, text)
        }
    }

    pub async fn append(&self, message: AppendMessage) -> curlew_domain::Result<Appended> {
        self.store.append_message(message).await?.await
    }

    pub async fn send(&self, chat: ChatId, sender: UserId, text: &str) -> LogRow {
        self.append(self.message(chat, sender, text)).await.unwrap().row().clone()
    }

    /// Appends messages in one transaction: holds a commit back until they are all in the queue behind it.
    /// A message that stands at the gate, and all of its lane behind it.
    pub async fn stuck(&self, fate: Fate, message: AppendMessage) -> Commit<Appended> {
        self.gate.set(fate);
        let before = self.gate.came();
        let stuck = self.store.append_message(message).await.unwrap();
        self.gate.reached_by(before + 1).await;
        stuck
    }

    pub async fn one_batch(
        &self,
        messages: impl IntoIterator<Item = AppendMessage>,
    ) -> Vec<curlew_domain::Result<Appended>> {
        let mut messages = messages.into_iter().peekable();
        let chat = messages.peek().expect("at least one message").chat;
        // Refused, and in the lane of the chat: it holds the lane and leaves nothing behind.
        let plug = self.stuck(Fate::Hold, self.message(chat, Uuid::now_v7().into(), "plug")).await;
        let mut commits = Vec::new();
        for message in messages {
            commits.push(self.store.append_message(message).await.unwrap());
        }
        self.gate.set(Fate::Pass);
        assert_eq!(code(plug.await), ErrorCode::NotFound);
        let mut outcomes = Vec::new();
        for commit in commits {
            outcomes.push(commit.await);
        }
        outcomes
    }

    /// Changes a message as `actor`; nobody's time is over.
    pub async fn alter(
        &self,
        chat: ChatId,
        actor: UserId,
        message: RowId,
        change: MessageChange,
    ) -> curlew_domain::Result<Target> {
        let (row, at) = (Uuid::now_v7().into(), self.now());
        let change = ChangeMessage { chat, message, actor, change, delete_window: None, row, at };
        self.store.change_message(change).await?.await
    }

    pub async fn hide(&self, chat: ChatId, user: UserId, message: RowId) -> curlew_domain::Result<Target> {
        self.store.hide_message(user, chat, message, self.now()).await?.await
    }

    pub async fn read_log(&self, user: UserId, stream: Stream, after: Seq, limit: u32) -> Option<LogPage> {
        let pages = self.store.read_logs(user, &[(stream, after)], limit).await.unwrap();
        <[_; 1]>::try_from(pages).unwrap().into_iter().next().unwrap()
    }

    pub async fn read_all(&self, user: UserId, stream: Stream) -> Vec<LogRow> {
        self.read_log(user, stream, 0, 10_000).await.unwrap().rows
    }

    pub async fn login(&self, user: UserId, device: &str) -> (LoginId, Device) {
        let login = self.new_login(user, device);
        let id = login.id;
        (id, self.store.create_login(login).await.unwrap().device)
    }

    pub fn new_login(&self, user: UserId, device: &str) -> NewLogin {
        let at = self.now();
        NewLogin {
            id: Uuid::now_v7().into(),
            user,
            kind: LoginKind::Password,
            verified: None,
            replace: None,
            device: DeviceChoice { id: None, name: device.into(), platform: "test".into() },
            new_device: Uuid::now_v7().into(),
            expires_at: Some(at.plus(Duration::from_secs(1000))),
            device_limit: 3,
            at,
        }
    }
}

pub fn new_user(id: UserId, name: &str, at: Timestamp) -> NewUser {
    NewUser {
        id,
        username: Username::parse(name).unwrap(),
        password_hash: format!("hash of {name}"),
        display_name: name.to_uppercase(),
        email: Some(format!("{name}@example.org")),
        phone: None,
        at,
    }
}

pub fn hash(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    for (n, byte) in text.bytes().enumerate() {
        hash[n % 32] ^= byte.rotate_left((n / 32) as u32);
    }
    hash
}

pub fn code<T>(outcome: curlew_domain::Result<T>) -> ErrorCode {
    outcome.err().expect("it is refused").code()
}

pub fn seqs(rows: &[LogRow]) -> Vec<u64> {
    rows.iter().map(|row| row.seq).collect()
}
