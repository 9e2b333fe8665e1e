//! MQTT sessions as rows.

use crate::{harness::Fixture, on_both_engines};
use curlew_domain::{
    clock::Timestamp,
    ids::{ChatId, DeviceId, UserId},
    plain::Settle,
    ports::store::Sessions,
    rules::MembershipChange,
    session::{
        CloseSession, Cursors, Follow, FollowChats, OpenSession, OpenedSession, SaveSubscriptions,
        SessionFence,
    },
};
use uuid::Uuid;

on_both_engines!(
    a_session_outlives_its_connection_and_the_process,
    clean_start_forgets_filters_and_cursors,
    a_session_belongs_to_device_client_identifier_and_mount,
    an_expired_session_is_absent,
    a_superseded_connection_writes_nothing,
    an_expiry_of_zero_forgets_the_session_at_its_close,
    streams_enter_the_map_where_they_should,
    adding_filters_moves_no_stream,
    the_ninth_session_discards_the_one_longest_disconnected,
    pruning_forgets_what_has_expired,
);

pub async fn device(f: &Fixture) -> (UserId, DeviceId) {
    let user = f.user("owner").await;
    (user, f.login(user, "phone").await.1.id)
}

pub fn connect(f: &Fixture, (user, device): (UserId, DeviceId), client: &str) -> OpenSession {
    OpenSession {
        new_id: Uuid::now_v7().into(),
        user,
        device,
        client_id: client.into(),
        mount: String::new(),
        clean_start: false,
        expiry_secs: 100,
        max_per_device: 8,
        will: None,
        at: f.now(),
    }
}

pub async fn open(f: &Fixture, owner: (UserId, DeviceId), client: &str) -> OpenedSession {
    f.store.open_session(connect(f, owner, client)).await.unwrap()
}

async fn close(f: &Fixture, fence: SessionFence, cursors: Cursors, expiry_secs: u32) -> bool {
    f.store
        .close_session(CloseSession {
            fence,
            cursors: Some(cursors),
            expiry_secs,
            settle: Settle::default(),
            left_at: Timestamp(0),
            discard_will: true,
            at: f.now(),
        })
        .await
        .unwrap()
}

fn all() -> Follow {
    Follow { personal: true, chats: FollowChats::All }
}

fn only(chats: &[ChatId]) -> Follow {
    Follow { personal: false, chats: FollowChats::Only(chats.to_vec()) }
}

async fn subscribe(
    f: &Fixture,
    fence: SessionFence,
    user: UserId,
    previous: Follow,
    follow: Follow,
    cursors: &Cursors,
) -> Cursors {
    let save = SaveSubscriptions {
        fence,
        user,
        filters: "[\"#\"]".into(),
        previous,
        follow,
        cursors: cursors.clone(),
    };
    f.store.save_subscriptions(save).await.unwrap().unwrap()
}

async fn a_session_outlives_its_connection_and_the_process(f: Fixture) {
    let owner = device(&f).await;
    let first = open(&f, owner, "c").await;
    assert!(!first.present && first.filters.is_empty() && first.cursors.is_empty());
    let cursors = subscribe(&f, first.fence, owner.0, Follow::default(), all(), &Cursors::new()).await;
    assert_eq!(cursors, Cursors::from([(owner.0.into(), 0)]));
    let moved = Cursors::from([(owner.0.into(), u64::MAX / 2), (ChatId::from(Uuid::now_v7()).into(), 7)]);
    assert!(close(&f, first.fence, moved.clone(), 100).await);
    let f = f.restart().await;
    let second = open(&f, owner, "c").await;
    assert_eq!((second.present, second.filters.as_str()), (true, "[\"#\"]"));
    assert_eq!(second.cursors, moved);
    assert_eq!(second.fence.session, first.fence.session);
    assert!(second.fence.generation > first.fence.generation);
}

async fn clean_start_forgets_filters_and_cursors(f: Fixture) {
    let owner = device(&f).await;
    let first = open(&f, owner, "c").await;
    subscribe(&f, first.fence, owner.0, Follow::default(), all(), &Cursors::new()).await;
    let clean = OpenSession { clean_start: true, ..connect(&f, owner, "c") };
    let second = f.store.open_session(clean).await.unwrap();
    assert!(!second.present && second.filters.is_empty() && second.cursors.is_empty());
    let third = open(&f, owner, "c").await;
    assert!(third.present && third.filters.is_empty() && third.cursors.is_empty());
}

async fn a_session_belongs_to_device_client_identifier_and_mount(f: Fixture) {
    let owner = device(&f).await;
    let other = (owner.0, f.login(owner.0, "laptop").await.1.id);
    open(&f, owner, "c").await;
    assert!(!open(&f, owner, "C").await.present);
    assert!(!open(&f, other, "c").await.present);
    let mounted = OpenSession { mount: "m".into(), ..connect(&f, owner, "c") };
    assert!(!f.store.open_session(mounted).await.unwrap().present);
    assert!(open(&f, owner, "c").await.present);
}

async fn an_expired_session_is_absent(f: Fixture) {
    let owner = device(&f).await;
    let first = open(&f, owner, "c").await;
    subscribe(&f, first.fence, owner.0, Follow::default(), all(), &Cursors::new()).await;
    let much_later = OpenSession { at: Timestamp(f.now().0 + 500_000), ..connect(&f, owner, "c") };
    let taken_over = f.store.open_session(much_later).await.unwrap();
    assert!(taken_over.present, "a connected session does not expire");
    let closed = f.now();
    let close = CloseSession {
        fence: taken_over.fence,
        cursors: Some(Cursors::new()),
        expiry_secs: 100,
        settle: Settle::default(),
        left_at: Timestamp(0),
        discard_will: true,
        at: closed,
    };
    assert!(f.store.close_session(close).await.unwrap());
    let just = OpenSession { at: Timestamp(closed.0 + 100_000), ..connect(&f, owner, "c") };
    let again = f.store.open_session(just).await.unwrap();
    assert!(!again.present && again.filters.is_empty() && again.cursors.is_empty());
}

async fn a_superseded_connection_writes_nothing(f: Fixture) {
    let owner = device(&f).await;
    let first = open(&f, owner, "c").await;
    let second = open(&f, owner, "c").await;
    assert_eq!(second.fence.session, first.fence.session);
    let cursors = Cursors::from([(owner.0.into(), 5)]);
    assert!(!f.store.save_cursors(first.fence, cursors.clone()).await.unwrap());
    let save = SaveSubscriptions {
        fence: first.fence,
        user: owner.0,
        filters: "x".into(),
        previous: Follow::default(),
        follow: all(),
        cursors: cursors.clone(),
    };
    assert!(f.store.save_subscriptions(save).await.unwrap().is_none());
    assert!(!close(&f, first.fence, cursors.clone(), 0).await);
    assert!(!close(&f, first.fence, cursors.clone(), 100).await);
    assert!(f.store.save_cursors(second.fence, cursors.clone()).await.unwrap());
    let third = open(&f, owner, "c").await;
    assert_eq!((third.present, third.filters.as_str(), third.cursors), (true, "", cursors));
}

async fn an_expiry_of_zero_forgets_the_session_at_its_close(f: Fixture) {
    let owner = device(&f).await;
    let first = open(&f, owner, "c").await;
    assert!(close(&f, first.fence, Cursors::new(), 0).await);
    assert!(!close(&f, first.fence, Cursors::new(), 0).await);
    let second = open(&f, owner, "c").await;
    assert!(!second.present);
}

async fn streams_enter_the_map_where_they_should(f: Fixture) {
    let [alice, bob, carol] = f.contacts(["alice", "bob", "carol"]).await;
    let owner = (bob, f.login(bob, "phone").await.1.id);
    let old = f.private_chat(alice, bob).await;
    f.send(old, alice, "1").await;
    let left = f.group(alice, &[bob]).await;
    f.change(left, bob, MembershipChange::Leave).await.unwrap();
    f.send(left, alice, "3").await;
    let fence = open(&f, owner, "c").await.fence;
    let cursors = subscribe(&f, fence, bob, Follow::default(), all(), &Cursors::new()).await;
    let personal_end = f.read_all(bob, curlew_domain::ids::Stream::Personal(bob)).await.len() as u64;
    let expected = Cursors::from([(bob.into(), personal_end), (old.into(), 1), (left.into(), 2)]);
    assert_eq!(
        cursors, expected,
        "what was there enters at its present end, what was left at the end of the stay"
    );

    f.send(old, alice, "2").await;
    let group = f.group(carol, &[bob]).await;
    f.send(group, carol, "2").await;
    let private = f.private_chat(bob, carol).await;
    f.send(private, carol, "1").await;
    let mut acknowledged = expected;
    acknowledged.insert(old.into(), 2);
    let again = subscribe(&f, fence, bob, all(), all(), &acknowledged).await;
    let mut expected = acknowledged.clone();
    expected.insert(group.into(), 0);
    expected.insert(private.into(), 0);
    assert_eq!(again, expected, "what began after the SUBSCRIBE enters before its first row");

    let narrowed = subscribe(&f, fence, bob, all(), only(&[old, group]), &again).await;
    assert_eq!(narrowed, Cursors::from([(old.into(), 2), (group.into(), 0)]));
    let widened = subscribe(&f, fence, bob, only(&[old, group]), all(), &narrowed).await;
    assert_eq!(widened[&private.into()], 1, "newly selected: its present end");
    assert_eq!((widened[&old.into()], widened[&group.into()]), (2, 0), "still selected: unmoved");
}

async fn adding_filters_moves_no_stream(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let owner = (bob, f.login(bob, "phone").await.1.id);
    let chat = f.private_chat(alice, bob).await;
    let fence = open(&f, owner, "c").await.fence;
    let cursors = subscribe(&f, fence, bob, Follow::default(), only(&[chat]), &Cursors::new()).await;
    assert_eq!(cursors, Cursors::from([(chat.into(), 0)]));
    f.send(chat, alice, "1").await;
    for follow in [only(&[chat]), all(), only(&[chat, Uuid::now_v7().into()])] {
        let again = subscribe(&f, fence, bob, only(&[chat]), follow, &cursors).await;
        assert_eq!(again[&chat.into()], 0);
    }
    let none = subscribe(&f, fence, bob, only(&[chat]), Follow::default(), &cursors).await;
    assert!(none.is_empty());
}

async fn the_ninth_session_discards_the_one_longest_disconnected(f: Fixture) {
    let owner = device(&f).await;
    let mut opened = Vec::new();
    for n in 0..8 {
        opened.push(open(&f, owner, &format!("c{n}")).await);
    }
    for n in [3, 1, 5] {
        close(&f, opened[n].fence, Cursors::new(), 100).await;
    }
    let short = OpenSession { expiry_secs: 0, ..connect(&f, owner, "short") };
    f.store.open_session(short).await.unwrap();
    open(&f, owner, "ninth").await;
    let saved = async |n: usize| f.store.save_cursors(opened[n].fence, Cursors::new()).await.unwrap();
    for n in [0, 1, 2, 4, 5, 6, 7] {
        assert!(saved(n).await, "{n} is kept");
    }
    assert!(!saved(3).await, "the longest disconnected is gone");
    assert!(!open(&f, owner, "c3").await.present);
    assert!(!saved(1).await, "then the next");
}

async fn pruning_forgets_what_has_expired(f: Fixture) {
    let owner = device(&f).await;
    let (closed, connected) = (open(&f, owner, "closed").await, open(&f, owner, "connected").await);
    close(&f, closed.fence, Cursors::new(), 100).await;
    let at = f.now();
    assert_eq!(f.store.prune_sessions(at).await.unwrap(), 0);
    assert_eq!(f.store.prune_sessions(Timestamp(at.0 + 200_000)).await.unwrap(), 1, "not the connected one");
    // The process dies without a word; the next one begins at `started`.
    let started = Timestamp(at.0 + 10_000_000);
    let f = f.reopen(|config| config.clock = std::sync::Arc::new(Stopped(started))).await;
    assert_eq!(f.store.prune_sessions(Timestamp(started.0 + 99_999)).await.unwrap(), 0);
    assert_eq!(f.store.prune_sessions(Timestamp(started.0 + 100_000)).await.unwrap(), 1);
    assert!(!f.store.save_cursors(connected.fence, Cursors::new()).await.unwrap());
}

/// A clock for the next process.
pub struct Stopped(pub Timestamp);

impl curlew_domain::clock::Clock for Stopped {
    fn now(&self) -> Timestamp {
        self.0
    }
}
