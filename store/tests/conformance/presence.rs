//! With whom presence is shared, and when somebody was last active.

use crate::{
    harness::Fixture,
    on_both_engines,
    sessions::{connect, open},
};
use curlew_domain::{
    account::{PrivacyChange, Visibility},
    clock::Timestamp,
    contact::RelationAction,
    ids::UserId,
    ports::store::{Contacts, DeleteUser, Profiles, Sessions},
    presence::PresenceContact,
    session::OpenSession,
};

on_both_engines!(
    contacts_share_presence_unless_one_hides_or_blocks,
    whoever_changes_that_is_told_of,
    what_is_later_stays,
    a_crash_leaves_when_its_users_were_last_there,
    a_session_that_comes_back_knows_when_it_was_left,
);

async fn shared(f: &Fixture, user: UserId) -> Vec<(UserId, bool)> {
    let contacts = f.store.list_presence_contacts(user).await.unwrap();
    contacts.into_iter().map(|PresenceContact { user, visible, .. }| (user, visible)).collect()
}

async fn seen(f: &Fixture, viewer: UserId, of: UserId) -> Option<Timestamp> {
    let contacts = f.store.list_presence_contacts(viewer).await.unwrap();
    contacts.into_iter().find(|contact| contact.user == of).unwrap().last_seen_at
}

async fn show_last_seen(f: &Fixture, user: UserId, to: Visibility) {
    let change = PrivacyChange { last_seen: Some(to), ..PrivacyChange::default() };
    f.store.update_privacy(user, change).await.unwrap();
}

async fn contacts_share_presence_unless_one_hides_or_blocks(f: Fixture) {
    let [alice, bob, carol] = f.contacts(["alice", "bob", "carol"]).await;
    let dave = f.user("dave").await;
    f.store.relate(dave, alice, RelationAction::Request, f.now()).await.unwrap();
    let mut both = vec![(bob, true), (carol, true)];
    both.sort_unstable();
    assert_eq!(shared(&f, alice).await, both, "contacts only, by id");
    assert_eq!(shared(&f, dave).await, []);
    let pair = async || {
        let of = async |viewer: UserId, other| shared(&f, viewer).await.contains(&(other, true));
        (of(alice, bob).await, of(bob, alice).await)
    };
    for (blocker, blocked) in [(alice, bob), (bob, alice)] {
        f.store.relate(blocker, blocked, RelationAction::Block, f.now()).await.unwrap();
        assert_eq!(pair().await, (false, false));
        f.store.relate(blocker, blocked, RelationAction::Unblock, f.now()).await.unwrap();
        assert_eq!(pair().await, (true, true));
    }
    for hiding in [alice, bob] {
        show_last_seen(&f, hiding, Visibility::Nobody).await;
        assert_eq!(pair().await, (false, false));
        show_last_seen(&f, hiding, Visibility::Contacts).await;
        assert_eq!(pair().await, (true, true));
    }
    f.store.relate(bob, alice, RelationAction::Remove, f.now()).await.unwrap();
    let mut left = vec![(bob, false), (carol, true)];
    left.sort_unstable();
    assert_eq!(shared(&f, alice).await, left, "who was one is remembered, and shares nothing");
}

async fn whoever_changes_that_is_told_of(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    f.relay.take_visibility();
    f.store.relate(alice, bob, RelationAction::Block, f.now()).await.unwrap();
    assert_eq!(f.relay.take_visibility(), [alice, bob]);
    f.store.relate(alice, bob, RelationAction::Block, f.now()).await.unwrap();
    assert_eq!(f.relay.take_visibility(), []);
    show_last_seen(&f, alice, Visibility::Nobody).await;
    assert_eq!(f.relay.take_visibility(), [alice]);
    show_last_seen(&f, alice, Visibility::Nobody).await;
    assert_eq!(f.relay.take_visibility(), []);
    let delete = DeleteUser {
        user: alice,
        verified: f.store.find_password_hash(alice).await.unwrap().unwrap(),
        alias: curlew_domain::account::Username::stored("deleted.1".into()),
        reserved_until: f.now(),
        at: f.now(),
    };
    f.store.delete_user(delete).await.unwrap();
    assert_eq!(f.relay.take_visibility(), [bob]);
}

async fn what_is_later_stays(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    assert_eq!(seen(&f, alice, bob).await, None);
    f.store.note_seen(vec![(bob, Timestamp(5)), (alice, Timestamp(9)), (bob, Timestamp(3))]).await.unwrap();
    assert_eq!(seen(&f, alice, bob).await, Some(Timestamp(5)));
    f.store.note_seen(vec![(bob, Timestamp(4))]).await.unwrap();
    assert_eq!(seen(&f, alice, bob).await, Some(Timestamp(5)));
    f.store.note_seen(Vec::new()).await.unwrap();
}

async fn a_crash_leaves_when_its_users_were_last_there(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let [of_alice, of_bob] = [f.login(alice, "phone").await.1.id, f.login(bob, "lamp").await.1.id];
    open(&f, (alice, of_alice), "c").await;
    f.store.open_session(OpenSession { mount: "x".into(), ..connect(&f, (bob, of_bob), "c") }).await.unwrap();
    let f = f.restart().await;
    f.store.prune_sessions(f.now()).await.unwrap();
    let crashed = seen(&f, bob, alice).await;
    assert!(crashed.is_some_and(|at| at.0 > 0));
    assert_eq!(seen(&f, alice, bob).await, None, "a mounted device is not its user");
    let f = f.restart().await;
    f.store.prune_sessions(f.now()).await.unwrap();
    assert_eq!(seen(&f, bob, alice).await, crashed, "told once");
}

async fn a_session_that_comes_back_knows_when_it_was_left(f: Fixture) {
    let user = f.user("alice").await;
    let owner = (user, f.login(user, "phone").await.1.id);
    assert_eq!(open(&f, owner, "c").await.left_at, None);
    let began = f.now();
    let again = open(&f, owner, "c").await;
    assert!(again.present && again.left_at.is_some_and(|at| at <= began));
    let f = f.restart().await;
    f.store.prune_sessions(f.now()).await.unwrap();
    let back = open(&f, owner, "c").await;
    assert!(back.left_at > again.left_at, "when its process was last known to live: {back:?}");
    let clean = OpenSession { clean_start: true, ..connect(&f, owner, "c") };
    assert_eq!(f.store.open_session(clean).await.unwrap().left_at, None);
}
