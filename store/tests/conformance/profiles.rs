//! What users change about themselves.

use crate::{
    harness::{Fixture, code},
    on_both_engines,
};
use curlew_domain::{
    ErrorCode,
    account::{LoginKind, Privacy, PrivacyChange, ProfileChange, User, Username, Visibility},
    contact::RelationAction,
    ids::{LoginId, Stream, UserId},
    message::Entry,
    ports::store::{
        Accounts, Contacts, EndDeletedStay, Log, NewLogin, Profiles, UpdatePassword, UpdateProfile,
    },
};
use uuid::Uuid;

on_both_engines!(
    a_profile_is_changed_field_by_field,
    contacts_are_told_of_what_is_public,
    profiles_and_contacts_changed_at_once_lose_no_row,
    a_password_is_replaced_once_and_ends_the_other_sign_ins,
    a_login_with_the_old_password_does_not_survive_its_change,
    privacy_is_changed_field_by_field,
    nobody_departs_who_is_not_deleted,
);

async fn update(f: &Fixture, user: UserId, change: ProfileChange) -> User {
    f.store.update_profile(UpdateProfile { user, change, at: f.now() }).await.unwrap()
}

fn named(name: &str) -> ProfileChange {
    ProfileChange { display_name: Some(name.into()), ..ProfileChange::default() }
}

/// Who was told of whose profile since the last call, sorted.
fn told(f: &Fixture, of: UserId) -> Vec<UserId> {
    let mut readers: Vec<UserId> = f
        .relay
        .take()
        .iter()
        .filter(|row| row.entry == Entry::ProfileUpdated(of) && row.sender == of)
        .map(|row| match row.stream {
            Stream::Personal(user) => user,
            Stream::Chat(chat) => panic!("a row in chat {chat}"),
        })
        .collect();
    readers.sort_unstable();
    readers
}

async fn a_profile_is_changed_field_by_field(f: Fixture) {
    let alice = f.user("alice").await;
    let user = update(&f, alice, ProfileChange::default()).await;
    assert_eq!((user.display_name.as_str(), user.email.as_deref()), ("ALICE", Some("alice@example.org")));
    let change = ProfileChange {
        about: Some("birds".into()),
        email: Some(None),
        phone: Some(Some("+45123".into())),
        ..named("Ærø")
    };
    update(&f, alice, change).await;
    let user = f.store.find_user(alice).await.unwrap().unwrap();
    assert_eq!((user.display_name.as_str(), user.about.as_str()), ("Ærø", "birds"));
    assert_eq!((user.email, user.phone.as_deref()), (None, Some("+45123")));
    let nobody = UpdateProfile { user: Uuid::now_v7().into(), change: named("x"), at: f.now() };
    assert_eq!(code(f.store.update_profile(nobody).await), ErrorCode::Unauthenticated);
}

async fn contacts_are_told_of_what_is_public(f: Fixture) {
    let [alice, bob, carol, dave] = f.contacts(["alice", "bob", "carol", "dave"]).await;
    let erin = f.user("erin").await;
    f.store.relate(alice, erin, RelationAction::Request, f.now()).await.unwrap();
    f.store.relate(alice, carol, RelationAction::Block, f.now()).await.unwrap();
    f.store.relate(dave, alice, RelationAction::Block, f.now()).await.unwrap();
    f.relay.take();
    update(&f, alice, named("Alice")).await;
    let mut expected = [alice, bob];
    expected.sort_unstable();
    assert_eq!(told(&f, alice), expected);
    update(&f, alice, named("Alice")).await;
    let private = ProfileChange { email: Some(None), phone: Some(None), ..ProfileChange::default() };
    update(&f, alice, private).await;
    assert_eq!(told(&f, alice), []);
    let about = ProfileChange { about: Some("birds".into()), ..ProfileChange::default() };
    update(&f, alice, about.clone()).await;
    assert_eq!(told(&f, alice).len(), 2);
    let rows = f.read_all(bob, Stream::Personal(bob)).await;
    assert_eq!(rows.last().unwrap().entry, Entry::ProfileUpdated(alice));
    // With many contacts it is as many statements.
    for n in 0..100 {
        let user = f.user(&format!("user{n}")).await;
        f.befriend(alice, user).await;
    }
    f.relay.take();
    update(&f, alice, ProfileChange { about: Some(String::new()), ..about }).await;
    assert_eq!(told(&f, alice).len(), 102);
}

async fn profiles_and_contacts_changed_at_once_lose_no_row(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let carol = f.user("carol").await;
    f.store.relate(carol, alice, RelationAction::Request, f.now()).await.unwrap();
    let stores = f.two_stores().await;
    let change = |user, name| UpdateProfile { user, change: named(name), at: f.now() };
    let (one, two, three) = tokio::join!(
        stores[0].update_profile(change(alice, "A")),
        stores[1].update_profile(change(bob, "B")),
        stores[1].relate(alice, carol, RelationAction::Accept, f.now()),
    );
    one.unwrap();
    two.unwrap();
    three.unwrap();
    for user in [alice, bob] {
        let rows = f.read_all(user, Stream::Personal(user)).await;
        let seqs: Vec<_> = rows.iter().map(|row| row.seq).collect();
        assert_eq!(seqs, (1..=rows.len() as u64).collect::<Vec<_>>());
        let of = |peer| rows.iter().filter(|row| row.entry == Entry::ProfileUpdated(peer)).count();
        assert_eq!((of(alice), of(bob)), (1, 1));
    }
}

fn new_password(f: &Fixture, user: UserId, (old, new): (&str, &str), keep: LoginId) -> UpdatePassword {
    UpdatePassword { user, verified: old.into(), password_hash: new.into(), keep, at: f.now() }
}

async fn a_password_is_replaced_once_and_ends_the_other_sign_ins(f: Fixture) {
    let alice = f.user("alice").await;
    let (mine, _) = f.login(alice, "phone").await;
    let (same_device, _) = f.login(alice, "phone").await;
    let (other, _) = f.login(alice, "tablet").await;
    let token = NewLogin { kind: LoginKind::DeviceToken, expires_at: None, ..f.new_login(alice, "gadget") };
    let token_id = token.id;
    f.store.create_login(token).await.unwrap();
    f.relay.take();
    let update = async |old, new| f.store.update_password(new_password(&f, alice, (old, new), mine)).await;
    assert_eq!(code(update("hash of bob", "new").await), ErrorCode::InvalidCredentials);
    let mut ended = update("hash of alice", "new").await.unwrap();
    ended.sort_unstable();
    let mut expected = [same_device, other];
    expected.sort_unstable();
    assert_eq!(ended, expected);
    assert_eq!(f.relay.take().iter().filter(|row| row.entry == Entry::DevicesUpdated).count(), 1);
    for live in [mine, token_id] {
        assert!(!f.store.find_login(live).await.unwrap().unwrap().ended);
    }
    assert_eq!(f.store.find_password_hash(alice).await.unwrap().as_deref(), Some("new"));
    assert_eq!(code(update("hash of alice", "newer").await), ErrorCode::InvalidCredentials);
    assert_eq!(update("new", "new").await.unwrap(), []);
    assert!(f.relay.take().is_empty(), "no other device was there");
    assert_eq!(f.store.find_password_hash(Uuid::now_v7().into()).await.unwrap(), None);
}

async fn a_login_with_the_old_password_does_not_survive_its_change(f: Fixture) {
    let alice = f.user("alice").await;
    let (mine, _) = f.login(alice, "phone").await;
    let stores = f.two_stores().await;
    let mut old = "hash of alice".to_owned();
    for n in 0..8 {
        let new = format!("hash {n}");
        let login = NewLogin { verified: Some(old.clone()), ..f.new_login(alice, "tablet") };
        let id = login.id;
        let (made, changed) = tokio::join!(
            stores[1].create_login(login),
            stores[0].update_password(new_password(&f, alice, (&old, &new), mine)),
        );
        let ended = changed.unwrap();
        match made {
            Ok(_) => assert_eq!(ended, [id]),
            refused => assert_eq!(code(refused), ErrorCode::InvalidCredentials),
        }
        old = new;
    }
}

async fn privacy_is_changed_field_by_field(f: Fixture) {
    let alice = f.user("alice").await;
    assert_eq!(f.store.find_user(alice).await.unwrap().unwrap().privacy, Privacy::default());
    let change = PrivacyChange { last_seen: Some(Visibility::Contacts), ..PrivacyChange::default() };
    f.store.update_privacy(alice, change).await.unwrap();
    let change = PrivacyChange {
        picture: Some(Visibility::Nobody),
        read_receipts: Some(Visibility::Nobody),
        ..PrivacyChange::default()
    };
    let expected = Privacy {
        last_seen: Visibility::Contacts,
        picture: Visibility::Nobody,
        read_receipts: Visibility::Nobody,
    };
    assert_eq!(f.store.update_privacy(alice, change).await.unwrap(), expected);
    assert_eq!(f.store.find_user(alice).await.unwrap().unwrap().privacy, expected);
    let nobody = f.store.update_privacy(Uuid::now_v7().into(), change).await;
    assert_eq!(code(nobody), ErrorCode::Unauthenticated);
}

async fn nobody_departs_who_is_not_deleted(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chats = [f.private_chat(alice, bob).await, f.group(alice, &[bob]).await];
    for chat in chats {
        let end = EndDeletedStay { chat, user: bob, row: Uuid::now_v7().into(), at: f.now() };
        f.store.end_deleted_stay(end).await.unwrap();
        f.send(chat, bob, "still here").await;
    }
    assert!(f.store.list_departing(10).await.unwrap().is_empty());
    f.store.ping().await.unwrap();
    let name = Username::parse("alice").unwrap();
    assert!(f.store.find_user_by_name(&name).await.unwrap().is_some());
}
