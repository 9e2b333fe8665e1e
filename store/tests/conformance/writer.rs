//! The group-commit writer when commits are held back, fail, or are not heard of.

use crate::{
    harness::{Fate, Fixture, code, new_user, seqs},
    on_both_engines,
    sessions::connect,
};
use curlew_domain::{
    Error, ErrorCode,
    ids::{Stream, UserId},
    ports::store::{Accounts, AppendMessage, Chats, Commit, Log, Refreshed, Sessions},
    receipt::Raise,
    rules::MembershipChange,
    session::OpenSession,
};
use curlew_store::Engine;
use sqlx::{Connection, Executor, PgConnection, SqliteConnection};
use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};
use tokio::task::JoinSet;
use uuid::Uuid;

on_both_engines!(
    a_held_commit_holds_back_the_answer,
    a_failed_commit_is_tried_again,
    after_the_patience_nothing_is_acknowledged_or_stored,
    a_poisoned_command_fails_alone_in_a_batch_of_256,
    a_commit_nobody_heard_of_has_one_effect,
    a_full_queue_makes_the_caller_wait,
    a_message_does_not_wait_for_thousands_of_sessions,
    closing_commits_what_is_queued,
    a_lock_from_outside_is_waited_for_and_then_given_up,
    lost_connections_are_replaced,
);

const SHORT: Duration = Duration::from_millis(400);

async fn is_pending<T>(commit: &mut Commit<T>) -> bool {
    poll_fn(|context| Poll::Ready(Pin::new(&mut *commit).poll(context).is_pending())).await
}

async fn a_held_commit_holds_back_the_answer(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    f.relay.take();
    let mut commit = f.stuck(Fate::Hold, f.message(chat, alice, "hello")).await;
    assert!(is_pending(&mut commit).await);
    assert!(f.relay.take().is_empty() && f.read_all(bob, Stream::Chat(chat)).await.is_empty());
    f.gate.set(Fate::Pass);
    assert_eq!(commit.await.unwrap().row().seq, 1);
    assert_eq!(f.relay.take().len(), 1);
}

async fn a_failed_commit_is_tried_again(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    f.relay.take();
    f.gate.set(Fate::Fail);
    let came = f.gate.came();
    let mut commit = f.store.append_message(f.message_with(chat, alice, "hello", "l1")).await.unwrap();
    f.gate.reached_by(came + 3).await;
    assert!(is_pending(&mut commit).await);
    f.gate.set(Fate::Pass);
    assert_eq!(commit.await.unwrap().row().seq, 1);
    assert_eq!(f.relay.take().len(), 1);
    assert_eq!(f.read_all(bob, Stream::Chat(chat)).await.len(), 1);
}

async fn after_the_patience_nothing_is_acknowledged_or_stored(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    let f = f.reopen(|config| config.patience = SHORT).await;
    for fate in [Fate::Fail, Fate::Hold] {
        f.gate.set(fate);
        assert_eq!(code(f.append(f.message(chat, alice, "lost")).await), ErrorCode::Unavailable);
        assert_eq!(
            code(f.store.create_user(new_user(Uuid::now_v7().into(), "carol", f.now())).await),
            ErrorCode::Unavailable
        );
        f.gate.set(Fate::Pass);
    }
    assert!(f.relay.take().is_empty());
    assert_eq!(f.send(chat, bob, "again").await.seq, 1);
    f.user("carol").await;
}

async fn a_poisoned_command_fails_alone_in_a_batch_of_256(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    let stored = f.send(chat, alice, "first").await;
    f.relay.take();
    // An id that exists already breaks the statement that stores the whole batch.
    let poison = AppendMessage { id: stored.id, ..f.message(chat, alice, "poison") };
    let mut messages: Vec<_> = (0..255).map(|n| f.message(chat, bob, &n.to_string())).collect();
    messages.insert(100, poison);
    let outcomes = f.one_batch(messages).await;
    let mut expected = 2;
    for (n, outcome) in outcomes.into_iter().enumerate() {
        if n == 100 {
            assert!(matches!(outcome, Err(Error::Internal(_))), "{outcome:?}");
        } else {
            assert_eq!(outcome.unwrap().row().seq, expected);
            expected += 1;
        }
    }
    let relayed: Vec<_> = f.relay.take().iter().map(|row| row.seq).collect();
    assert_eq!(relayed, (2..=256).collect::<Vec<u64>>());
    assert_eq!(seqs(&f.read_all(bob, Stream::Chat(chat)).await), (1..=256).collect::<Vec<u64>>());
}

async fn a_commit_nobody_heard_of_has_one_effect(f: Fixture) {
    let [alice, bob, carol] = f.contacts(["alice", "bob", "carol"]).await;
    let chat = f.group(alice, &[bob]).await;
    let (login, device) = f.login(alice, "phone").await;
    f.relay.take();

    f.gate.set(Fate::Hide);
    assert_eq!(f.send(chat, alice, "hello").await.seq, 2);
    f.gate.set(Fate::Hide);
    assert_eq!(f.change(chat, alice, MembershipChange::Add(vec![carol])).await.unwrap().unwrap().seq, 3);
    assert_eq!(f.relay.take().len(), 3);
    assert_eq!(seqs(&f.read_all(alice, Stream::Chat(chat)).await), [1, 2, 3]);

    f.gate.set(Fate::Hide);
    f.user("dave").await;
    f.gate.set(Fate::Hide);
    let refreshed = f.store.refresh_login(login, 0, f.now(), 0, f.now()).await.unwrap();
    assert_eq!(refreshed, Refreshed::Current(1));
    f.gate.set(Fate::Hide);
    let open = OpenSession {
        new_id: Uuid::now_v7().into(),
        user: alice,
        device: device.id,
        client_id: "c".into(),
        mount: String::new(),
        clean_start: false,
        expiry_secs: 100,
        max_per_device: 8,
        will: None,
        at: f.now(),
    };
    let opened = f.store.open_session(open).await.unwrap();
    assert_eq!((opened.present, opened.fence.generation), (false, 1));
    f.gate.set(Fate::Hide);
    let raise = Raise { chat, user: bob, delivered: Some(2), read: None };
    let raised = f.store.raise_watermarks(vec![raise], f.now()).await.remove(0).unwrap();
    assert_eq!((raised.delivered, raised.delivered_of.len()), ((1, 2), 1));
}

async fn a_full_queue_makes_the_caller_wait(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    let f = f.reopen(|config| (config.queue, config.patience) = (4, Duration::from_secs(2))).await;
    // No patience of the writer's ends while it lingers: nothing makes room before the last one has waited for it.
    let first = f.stuck(Fate::Linger, f.message(chat, alice, "first")).await;
    let mut queued = Vec::new();
    for n in 0..4 {
        queued.push(f.store.append_message(f.message(chat, alice, &n.to_string())).await.unwrap());
    }
    assert_eq!(code(f.store.append_message(f.message(chat, alice, "no room")).await), ErrorCode::Unavailable);
    f.gate.set(Fate::Pass);
    assert_eq!(first.await.unwrap().row().seq, 1);
    for commit in queued {
        assert_eq!(code(commit.await), ErrorCode::Unavailable);
    }
    assert_eq!(f.send(chat, bob, "room").await.seq, 2);
}

async fn a_message_does_not_wait_for_thousands_of_sessions(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    let owner = (alice, f.login(alice, "phone").await.1.id);
    let first = f.stuck(Fate::Hold, f.message(chat, alice, "first")).await;
    let mut opening = JoinSet::new();
    for n in 0..1000 {
        let (store, open) = (f.store.clone(), connect(&f, owner, &n.to_string()));
        opening
            .spawn(async move { store.open_session(OpenSession { expiry_secs: 0, ..open }).await.unwrap() });
    }
    // They queue. On PostgreSQL they may have another lane than the message.
    tokio::time::sleep(SHORT).await;
    let message = f.store.append_message(f.message(chat, alice, "in a hurry")).await.unwrap();
    f.gate.set(Fate::Pass);
    first.await.unwrap();
    message.await.unwrap();
    let mut opened = 0;
    while opening.try_join_next().is_some() {
        opened += 1;
    }
    let lanes = matches!(f.config.engine, Engine::Postgres(_));
    assert!(lanes || opened < 100, "{opened} sessions were opened before it");
    while opening.join_next().await.is_some() {
        opened += 1;
    }
    assert_eq!(opened, 1000, "and then all the others");
}

async fn closing_commits_what_is_queued(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    f.gate.set(Fate::Hold);
    let mut commits = Vec::new();
    for n in 0..20 {
        commits.push(f.store.append_message(f.message(chat, alice, &n.to_string())).await.unwrap());
    }
    let closing = tokio::spawn({
        let store = f.store.clone();
        async move { store.close().await }
    });
    f.gate.set(Fate::Pass);
    closing.await.unwrap();
    for commit in commits {
        commit.await.unwrap();
    }
    assert_eq!(code(f.append(f.message(chat, alice, "too late")).await), ErrorCode::Unavailable);
    assert!(f.store.ping().await.is_err());
    let f = f.restart().await;
    assert_eq!(f.read_all(bob, Stream::Chat(chat)).await.len(), 20);
}

/// Somebody else's connection to the database.
enum Outsider {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Outsider {
    async fn connect(f: &Fixture) -> Self {
        match &f.config.engine {
            Engine::Sqlite(path) => Self::Sqlite(
                SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap(),
            ),
            Engine::Postgres(url) => Self::Postgres(PgConnection::connect(url).await.unwrap()),
        }
    }

    async fn run(&mut self, sqlite: &'static str, postgres: &'static str) {
        match self {
            Self::Sqlite(connection) => drop(connection.execute(sqlite).await.unwrap()),
            Self::Postgres(connection) => drop(connection.execute(postgres).await.unwrap()),
        }
    }
}

async fn a_lock_from_outside_is_waited_for_and_then_given_up(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    let f = f.reopen(|config| config.patience = SHORT).await;
    let mut outsider = Outsider::connect(&f).await;
    outsider.run("BEGIN IMMEDIATE", "BEGIN; SELECT * FROM chats FOR UPDATE").await;
    assert_eq!(code(f.append(f.message(chat, alice, "locked out")).await), ErrorCode::Unavailable);
    outsider.run("ROLLBACK", "ROLLBACK").await;
    let f = f.reopen(|config| config.patience = Duration::from_secs(10)).await;
    outsider.run("BEGIN IMMEDIATE", "BEGIN; SELECT * FROM chats FOR UPDATE").await;
    let mut commit = f.store.append_message(f.message(chat, alice, "waits")).await.unwrap();
    assert!(is_pending(&mut commit).await);
    outsider.run("ROLLBACK", "ROLLBACK").await;
    assert_eq!(commit.await.unwrap().row().seq, 1);
}

async fn lost_connections_are_replaced(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    let mut outsider = Outsider::connect(&f).await;
    for n in 1..=5 {
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid()";
        outsider.run("SELECT 1", cut).await;
        assert_eq!(f.send(chat, alice, "still there").await.seq, n);
        let reads = (0..10).map(|_| f.store.list_stays(bob));
        for read in reads {
            assert_eq!(read.await.unwrap()[0].end, n);
        }
        let user: UserId = alice;
        assert!(f.store.find_user(user).await.unwrap().is_some());
    }
}
