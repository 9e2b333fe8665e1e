//! How many messages a second the store alone makes durable, and how long a send waits.
//!
//! `cargo run --release -p curlew-store --example append -- [sqlite|FILE|postgres://…] [chats] [messages] [senders] [in flight] [users]`
//!
//! With a file, or PostgreSQL, what was stored stays: a full database to measure a server on. There are as many users as are
//! asked for, or as the chats need. Senders keep so many messages in flight each, to chats drawn at random; every message has a `localId` of its own.

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use curlew_domain::{
    account::Username,
    clock::{Clock, System, Timestamp},
    event::Event,
    ids::{ChatId, DeviceId, LoginId, SessionId, UserId},
    message::LocalId,
    ports::{
        relay::{Committed, Relay},
        store::{Accounts, AppendMessage, Appended, Chats, Commit, Log, NewPrivateChat, NewUser},
    },
    rules::MembershipLimits,
};
use curlew_store::{Engine, SqlStore, StoreConfig};
use std::{
    collections::VecDeque,
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;
use uuid::Uuid;

struct Nobody;

#[async_trait]
impl Relay for Nobody {
    fn committed(&self, _: Vec<Committed>) {}
    fn notify(&self, _to: UserId, _event: Arc<Event>, _except: Option<SessionId>) {}
    fn receipts_uncertain(&self, _: Timestamp) {}
    async fn end_logins(&self, _logins: &[LoginId]) {}

    async fn online_devices(&self, _user: UserId) -> Vec<DeviceId> {
        Vec::new()
    }
}

struct Load {
    store: SqlStore,
    chats: Vec<(ChatId, UserId)>,
    next: AtomicUsize,
    messages: usize,
    in_flight: usize,
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let database = args.next().unwrap_or_else(|| "sqlite".into());
    let mut number = |default: usize| args.next().map_or(Ok(default), |text| text.parse());
    let (chats, messages) = (number(10_000)?, number(300_000)?);
    let (senders, in_flight, users) = (number(64)?, number(16)?, number(0)?);
    let dir = tempfile::tempdir()?;
    let engine = match database.as_str() {
        "sqlite" => Engine::Sqlite(dir.path().join("curlew.db")),
        url if url.contains("://") => Engine::Postgres(url.into()),
        file => Engine::Sqlite(file.into()),
    };
    let store = SqlStore::open(StoreConfig::new(engine), Arc::new(Nobody)).await?;
    let chats = make_chats(&store, chats, users).await?;
    let load = Arc::new(Load { store, chats, next: AtomicUsize::new(0), messages, in_flight });

    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..senders {
        tasks.spawn(send(Arc::clone(&load)));
    }
    let mut waits = Vec::with_capacity(messages);
    for sender in tasks.join_all().await {
        waits.extend(sender?);
    }
    let elapsed = started.elapsed();
    waits.sort_unstable();
    ensure!(waits.len() == messages, "every message is answered");
    let at = |per_mille: usize| waits[(waits.len() - 1) * per_mille / 1000].as_secs_f64() * 1000.0;
    writeln!(
        std::io::stdout(),
        "{messages} messages, {} chats, {senders} senders x {in_flight} in flight: {:.0}/s, p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        load.chats.len(),
        f64::from(u32::try_from(messages)?) / elapsed.as_secs_f64(),
        at(500),
        at(990),
        at(1000),
    )?;
    load.store.close().await;
    Ok(())
}

/// Private chats between the first of the users, of whom there are at least so many.
async fn make_chats(store: &SqlStore, wanted: usize, at_least: usize) -> Result<Vec<(ChatId, UserId)>> {
    let needed = (2..=wanted + 1).find(|users| users * (users - 1) / 2 >= wanted).unwrap_or(2);
    let mut users: Vec<UserId> = Vec::new();
    for some in (0..needed.max(at_least)).collect::<Vec<_>>().chunks(256) {
        let made = some.iter().map(|n| make_user(store, *n));
        for made in futures(made).await {
            users.push(made?);
        }
    }
    users.truncate(needed);
    let pairs =
        users.iter().enumerate().flat_map(|(n, a)| users[..n].iter().map(move |b| (*a, *b))).take(wanted);
    let pairs: Vec<_> = pairs.collect();
    let limits = MembershipLimits { group_members: 2, require_contact: false };
    let mut chats = Vec::with_capacity(wanted);
    for some in pairs.chunks(256) {
        let made = some.iter().map(|(creator, peer)| {
            let id = Uuid::now_v7().into();
            store.create_private_chat(NewPrivateChat {
                id,
                creator: *creator,
                peer: *peer,
                limits,
                at: System.now(),
            })
        });
        for (made, (creator, _)) in futures(made).await.into_iter().zip(some) {
            chats.push((made?.0, *creator));
        }
    }
    Ok(chats)
}

async fn make_user(store: &SqlStore, n: usize) -> Result<UserId> {
    let id = UserId::from(Uuid::now_v7());
    let name = format!("user{n}");
    let user = NewUser {
        id,
        username: Username::parse(&name).ok().context("a legal name")?,
        password_hash: String::new(),
        display_name: name,
        email: None,
        phone: None,
        at: System.now(),
    };
    store.create_user(user).await?;
    Ok(id)
}

/// All at once, answers in order.
async fn futures<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = all.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut ready = true;
        for (future, output) in &mut all {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(done) => *output = Some(done),
                    std::task::Poll::Pending => ready = false,
                }
            }
        }
        if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    all.into_iter().filter_map(|(_, output)| output).collect()
}

async fn send(load: Arc<Load>) -> Result<Vec<Duration>> {
    let mut waits = Vec::new();
    let mut window: VecDeque<(Instant, Commit<Appended>)> = VecDeque::with_capacity(load.in_flight);
    loop {
        let n = load.next.fetch_add(1, Ordering::Relaxed);
        if n >= load.messages || window.len() == load.in_flight {
            while let Some((since, commit)) = window.pop_front() {
                commit.await?;
                waits.push(since.elapsed());
                if n < load.messages {
                    break;
                }
            }
        }
        if n >= load.messages {
            return Ok(waits);
        }
        // Fibonacci hashing: every chat is as likely as any other.
        let (chat, sender) = load.chats[(n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16) % load.chats.len()];
        let id = Uuid::now_v7();
        let message = AppendMessage {
            chat,
            sender,
            id: id.into(),
            local_id: LocalId::parse(&id.to_string()).ok(),
            content_hash: [7; 32],
            text: "A text of the length that people send each other most of the time, give or take.".into(),
            reply_to: None,
            mentions: Vec::new(),
            forwarded_from: None,
            at: System.now(),
        };
        window.push_back((Instant::now(), load.store.append_message(message).await?));
    }
}
