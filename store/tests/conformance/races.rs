//! Commands that meet each other, on PostgreSQL out of two processes' stores. Each race is run with many contenders; what
//! is checked holds whoever wins.

use crate::{
    harness::{Fixture, LIMITS, code, hash, seqs},
    on_both_engines,
};
use curlew_domain::{
    ErrorCode,
    contact::RelationAction,
    ids::{ChatId, Stream, UserId},
    message::{Entry, LogRow},
    ports::store::{ChangeMembers, Chats, Contacts, Log, NewPrivateChat},
    receipt::Raise,
    rules::{MembershipChange, MembershipLimits},
};
use std::{collections::HashMap, sync::Arc};
use tokio::task::JoinSet;
use uuid::Uuid;

on_both_engines!(
    two_creators_of_one_private_chat_get_one_chat,
    a_removed_member_has_sent_nothing_above_the_end_of_the_stay,
    nothing_is_sent_after_a_block_has_been_answered,
    two_who_add_the_same_user_begin_one_stay,
    a_group_is_never_more_than_full,
    devices_are_never_more_than_allowed,
    everything_at_once_leaves_every_log_whole,
);

async fn gather<T: Send + 'static>(
    tasks: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    tasks.into_iter().collect::<JoinSet<T>>().join_all().await
}

async fn two_creators_of_one_private_chat_get_one_chat(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let stores = f.two_stores().await;
    let create = |n: usize, creator, peer| {
        let chat = NewPrivateChat { id: Uuid::now_v7().into(), creator, peer, limits: LIMITS, at: f.now() };
        let store = stores[n / 2 % 2].clone();
        async move { store.create_private_chat(chat).await.unwrap() }
    };
    let contenders = (0..16).map(|n| if n % 2 == 0 { create(n, alice, bob) } else { create(n, bob, alice) });
    let outcomes = gather(contenders).await;
    assert!(outcomes.iter().all(|(chat, _)| *chat == outcomes[0].0), "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|(_, made)| *made).count(), 1);
    for user in [alice, bob] {
        let entered = |row: &&LogRow| matches!(row.entry, Entry::NewChat { .. });
        assert_eq!(f.read_all(user, Stream::Personal(user)).await.iter().filter(entered).count(), 1);
    }
}

async fn a_removed_member_has_sent_nothing_above_the_end_of_the_stay(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let stores = f.two_stores().await;
    for _ in 0..5 {
        let chat = f.group(alice, &[bob]).await;
        let mut sends = JoinSet::new();
        for n in 0..60 {
            let (store, message) = (stores[n % 2].clone(), f.message(chat, bob, &n.to_string()));
            sends.spawn(async move { store.append_message(message).await.unwrap().await });
        }
        let removed = f.change(chat, alice, MembershipChange::Remove(bob)).await.unwrap().unwrap();
        let mut sent = 0;
        while let Some(outcome) = sends.join_next().await {
            match outcome.unwrap() {
                Ok(appended) => {
                    assert!(appended.row().seq < removed.seq);
                    sent += 1;
                }
                Err(error) => assert_eq!(error.code(), ErrorCode::NotMember),
            }
        }
        let rows = f.read_all(alice, Stream::Chat(chat)).await;
        assert_eq!(seqs(&rows), (1..=sent + 2).collect::<Vec<u64>>());
        assert_eq!(code(f.append(f.message(chat, bob, "late")).await), ErrorCode::NotMember);
    }
}

async fn nothing_is_sent_after_a_block_has_been_answered(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    let stores = f.two_stores().await;
    for _ in 0..5 {
        let mut sends = JoinSet::new();
        for n in 0..40 {
            let (store, message) = (stores[n % 2].clone(), f.message(chat, alice, &n.to_string()));
            sends.spawn(async move { store.append_message(message).await.unwrap().await });
        }
        f.store.relate(bob, alice, RelationAction::Block, f.now()).await.unwrap();
        let end = f.store.find_chat(bob, chat).await.unwrap().unwrap().last_seq;
        for outcome in sends.join_all().await {
            match outcome {
                Ok(appended) => assert!(appended.row().seq <= end, "stored after the block was answered"),
                Err(error) => assert_eq!(error.code(), ErrorCode::Blocked),
            }
        }
        f.store.relate(bob, alice, RelationAction::Unblock, f.now()).await.unwrap();
    }
}

async fn two_who_add_the_same_user_begin_one_stay(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.group(alice, &[]).await;
    let stores = f.two_stores().await;
    let add = |n: usize| {
        let change = MembershipChange::Add(vec![bob]);
        let change = ChangeMembers {
            chat,
            actor: alice,
            change,
            row: Uuid::now_v7().into(),
            limits: LIMITS,
            at: f.now(),
        };
        let store = stores[n % 2].clone();
        async move { store.change_members(change).await.unwrap() }
    };
    let outcomes = gather((0..8).map(add)).await;
    assert_eq!(outcomes.iter().flatten().count(), 1);
    assert_eq!(f.store.find_chat(bob, chat).await.unwrap().unwrap().member_count, Some(2));
}

async fn a_group_is_never_more_than_full(f: Fixture) {
    let [alice, others @ ..] = f.contacts(["alice", "bob", "carol", "dave", "erin"]).await;
    let chat = f.group(alice, &[]).await;
    let limits = MembershipLimits { group_members: 3, ..LIMITS };
    let stores = f.two_stores().await;
    let add = |(n, user): (usize, UserId)| {
        let change = MembershipChange::Add(vec![user]);
        let change =
            ChangeMembers { chat, actor: alice, change, row: Uuid::now_v7().into(), limits, at: f.now() };
        let store = stores[n % 2].clone();
        async move { store.change_members(change).await.map_err(|error| error.code()) }
    };
    let outcomes = gather(others.into_iter().enumerate().map(add).collect::<Vec<_>>()).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 2);
    assert!(
        outcomes
            .iter()
            .filter_map(|outcome| outcome.as_ref().err())
            .all(|code| *code == ErrorCode::GroupFull)
    );
}

async fn devices_are_never_more_than_allowed(f: Fixture) {
    use curlew_domain::ports::store::Accounts;
    let alice = f.user("alice").await;
    let stores = f.two_stores().await;
    let login = |n: usize| {
        let (store, login) = (stores[n % 2].clone(), f.new_login(alice, &format!("device{n}")));
        async move { store.create_login(login).await.map_err(|error| error.code()) }
    };
    let outcomes = gather((0..8).map(login)).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3);
    assert!(
        outcomes
            .iter()
            .filter_map(|outcome| outcome.as_ref().err())
            .all(|code| *code == ErrorCode::DeviceLimit)
    );
    let same = gather((0..4).map(|_| login(100))).await;
    assert!(same.iter().all(|outcome| matches!(outcome, Err(ErrorCode::DeviceLimit))));
}

/// Ten people, twelve chats, every kind of command, on all lanes at once: nothing is lost to a deadlock, and the relay
/// gets each log in order.
async fn everything_at_once_leaves_every_log_whole(f: Fixture) {
    let mut users = Vec::new();
    for n in 0..10 {
        let user = f.user(&format!("user{n}")).await;
        for other in &users {
            f.befriend(*other, user).await;
        }
        users.push(user);
    }
    let mut chats = Vec::new();
    for n in 0..6 {
        chats.push(f.private_chat(users[n], users[n + 1]).await);
        chats.push(f.group(users[0], &users[1..n + 3]).await);
    }
    f.relay.take();
    let f = Arc::new(f);
    let tasks =
        (0..10).map(|who| one_person_does_everything(Arc::clone(&f), who, users.clone(), chats.clone()));
    gather(tasks.collect::<Vec<_>>()).await;
    let mut logs: HashMap<Stream, Vec<u64>> = HashMap::new();
    for row in f.relay.take() {
        logs.entry(row.stream).or_default().push(row.seq);
    }
    assert!(logs.len() > 12);
    for (stream, seqs) in logs {
        assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1), "{stream:?}: {seqs:?}");
    }
}

async fn one_person_does_everything(f: Arc<Fixture>, who: usize, users: Vec<UserId>, chats: Vec<ChatId>) {
    let me = users[who];
    for round in 0..25 {
        let chat = chats[(who * 7 + round) % chats.len()];
        let peer = users[(who + 1 + round % 9) % users.len()];
        let message = f.message_with(chat, me, "x", &format!("{round}"));
        assert_eq!(message.content_hash, hash("x"));
        let sending = f.store.append_message(message).await.unwrap();
        let refused = |error: curlew_domain::Error| {
            assert!(matches!(error, curlew_domain::Error::Refused(_)), "{error}");
        };
        match round % 5 {
            0 => drop(f.change(chat, users[0], MembershipChange::Remove(peer)).await.map_err(refused)),
            1 => drop(f.change(chat, users[0], MembershipChange::Add(vec![peer])).await.map_err(refused)),
            2 => drop(f.store.relate(me, peer, RelationAction::Block, f.now()).await.map_err(refused)),
            3 => drop(f.store.relate(me, peer, RelationAction::Unblock, f.now()).await.map_err(refused)),
            _ => drop(f.login(me, &format!("device{}", round % 3)).await),
        }
        let raises = chats.iter().rev().map(|chat| Raise {
            chat: *chat,
            user: me,
            delivered: Some(u64::MAX),
            read: None,
        });
        for outcome in f.store.raise_watermarks(raises.collect(), f.now()).await {
            drop(outcome.map_err(refused));
        }
        drop(sending.await.map_err(refused));
    }
}
