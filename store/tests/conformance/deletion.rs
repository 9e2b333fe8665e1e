//! The end of an account.

use crate::{
    harness::{FIRST_PAGE, Fixture, LIMITS, code, new_user},
    on_both_engines,
    sessions::open,
};
use curlew_domain::{
    ErrorCode, Result,
    account::{Privacy, PrivacyChange, Username, Visibility},
    chat::Role,
    clock::Timestamp,
    contact::{ContactFilter, RelationAction},
    ids::{LoginId, Stream, UserId},
    message::{ContactEvent, Entry, LogRow, MembersChanged},
    ports::store::{
        Accounts, Chats, Contacts, DeleteUser, Devices, EndDeletedStay, NewPrivateChat, Plain, Profiles,
    },
    rules::MembershipChange,
};
use std::{collections::BTreeMap, time::Duration};
use uuid::Uuid;

on_both_engines!(
    what_is_the_users_alone_goes,
    the_name_is_reserved_for_a_while,
    a_name_is_not_taken_while_it_is_given_up,
    relations_end_and_the_others_are_told,
    private_chats_stay_with_the_other_and_take_no_message,
    groups_are_left_and_handed_over,
    a_deletion_that_was_cut_off_is_finished,
    only_the_password_deletes,
);

const MONTH: Duration = Duration::from_hours(30 * 24);

fn deletion(f: &Fixture, user: UserId, hash: &str) -> DeleteUser {
    let at = f.now();
    let alias = Username::stored(format!("deleted.{}", user.uuid().simple()));
    DeleteUser { user, verified: hash.into(), alias, reserved_until: at.plus(MONTH), at }
}

async fn delete(f: &Fixture, user: UserId, name: &str) -> Result<Vec<LoginId>> {
    f.store.delete_user(deletion(f, user, &format!("hash of {name}"))).await
}

/// As the service does, chat by chat.
async fn depart(f: &Fixture, user: UserId) {
    for stay in f.store.list_stays(user).await.unwrap() {
        let end = EndDeletedStay { chat: stay.chat, user, row: Uuid::now_v7().into(), at: f.now() };
        f.store.end_deleted_stay(end).await.unwrap();
    }
    f.store.forget_departing(user).await.unwrap();
}

async fn last(f: &Fixture, user: UserId, stream: Stream) -> LogRow {
    f.read_all(user, stream).await.pop().expect("a row")
}

async fn what_is_the_users_alone_goes(f: Fixture) {
    let alice = f.user("alice").await;
    let (phone, device) = f.login(alice, "phone").await;
    let (tablet, _) = f.login(alice, "tablet").await;
    open(&f, (alice, device.id), "app").await;
    let change = PrivacyChange { last_seen: Some(Visibility::Nobody), ..PrivacyChange::default() };
    f.store.update_privacy(alice, change).await.unwrap();
    let mut ended = delete(&f, alice, "alice").await.unwrap();
    ended.sort_unstable();
    let mut expected = [phone, tablet];
    expected.sort_unstable();
    assert_eq!(ended, expected);
    let user = f.store.find_user(alice).await.unwrap().unwrap();
    assert!(user.deleted && user.username.as_str().starts_with("deleted."), "{user:?}");
    assert_eq!((user.display_name.as_str(), user.about.as_str()), ("Deleted user", ""));
    assert_eq!((user.email, user.phone, user.privacy), (None, None, Privacy::default()));
    assert!(f.store.find_login(phone).await.unwrap().unwrap().user_deleted);
    assert!(f.store.list_devices(alice, f.now()).await.unwrap().is_empty());
    assert!(f.store.list_lasting_sessions(alice, f.now()).await.unwrap().is_empty());
    assert_eq!(f.store.find_password_hash(alice).await.unwrap(), None);
    assert_eq!(code(f.store.create_login(f.new_login(alice, "phone")).await), ErrorCode::NotFound);
    assert_eq!(code(delete(&f, alice, "alice").await), ErrorCode::InvalidCredentials, "once");
}

async fn the_name_is_reserved_for_a_while(f: Fixture) {
    let alice = f.user("alice").await;
    delete(&f, alice, "alice").await.unwrap();
    let make = async |at| f.store.create_user(new_user(Uuid::now_v7().into(), "alice", at)).await;
    assert_eq!(code(make(f.now()).await), ErrorCode::UsernameTaken);
    let over = f.now().plus(MONTH);
    assert_eq!(code(make(Timestamp(over.0 - 10_000)).await), ErrorCode::UsernameTaken);
    make(over).await.expect("the time is over");
    assert_eq!(code(make(over).await), ErrorCode::UsernameTaken);
}

async fn a_name_is_not_taken_while_it_is_given_up(f: Fixture) {
    let stores = f.two_stores().await;
    for n in 0..8 {
        let name = format!("user{n}");
        let user = f.user(&name).await;
        let (deleted, made) = tokio::join!(
            stores[0].delete_user(deletion(&f, user, &format!("hash of {name}"))),
            stores[1].create_user(new_user(Uuid::now_v7().into(), &name, f.now())),
        );
        deleted.unwrap();
        assert_eq!(code(made), ErrorCode::UsernameTaken);
    }
}

async fn relations_end_and_the_others_are_told(f: Fixture) {
    let [alice, bob, carol] = f.contacts(["alice", "bob", "carol"]).await;
    let [asked, asking, blocked] = [f.user("asked").await, f.user("asking").await, f.user("blocked").await];
    let relate = async |actor, peer, action| f.store.relate(actor, peer, action, f.now()).await.unwrap();
    relate(alice, asked, RelationAction::Request).await;
    relate(asking, alice, RelationAction::Request).await;
    relate(blocked, alice, RelationAction::Block).await;
    relate(carol, alice, RelationAction::Block).await;
    f.relay.take();
    delete(&f, alice, "alice").await.unwrap();
    let mut told: Vec<_> = f.relay.take().iter().map(|row| (row.stream, row.entry.clone())).collect();
    told.sort_by_key(|(stream, _)| stream.id());
    let event = |user, event| (Stream::Personal(user), Entry::Contact { event, peer: alice });
    let mut expected = vec![
        event(bob, ContactEvent::ContactRemoved),
        event(carol, ContactEvent::ContactRemoved),
        event(asked, ContactEvent::ContactRequestRejected),
        event(asking, ContactEvent::ContactRequestRejected),
    ];
    expected.sort_by_key(|(stream, _)| stream.id());
    assert_eq!(told, expected);
    for user in [bob, carol, asked, asking, blocked] {
        for filter in [ContactFilter::Contacts, ContactFilter::Pending, ContactFilter::Blocked] {
            let page = f.store.list_contacts(user, filter, FIRST_PAGE).await.unwrap();
            assert!(page.items.iter().all(|contact| contact.user.id != alice));
        }
        let again = f.store.relate(user, alice, RelationAction::Request, f.now()).await;
        assert_eq!(code(again), ErrorCode::NotFound);
    }
}

async fn private_chats_stay_with_the_other_and_take_no_message(f: Fixture) {
    let [alice, bob, carol] = f.contacts(["alice", "bob", "carol"]).await;
    let chat = f.private_chat(alice, bob).await;
    let known = f.message_with(chat, bob, "hello", "1");
    let first = f.append(known.clone()).await.unwrap().row().clone();
    f.send(chat, alice, "and good-bye").await;
    delete(&f, alice, "alice").await.unwrap();
    let refused = f.append(f.message(chat, bob, "too late")).await;
    assert_eq!(code(refused), ErrorCode::UserDeleted, "at once");
    depart(&f, alice).await;
    assert_eq!(code(f.append(f.message(chat, bob, "too late")).await), ErrorCode::UserDeleted);
    assert_eq!(f.append(known).await.unwrap().row().id, first.id, "a retry is answered for ever");
    assert_eq!(code(f.append(f.message(chat, alice, "ghost")).await), ErrorCode::NotMember);
    let seen = f.store.find_chat(bob, chat).await.unwrap().unwrap();
    let peer = seen.peer.unwrap();
    assert!(peer.deleted && seen.role.is_some());
    assert_eq!((peer.display_name.as_str(), seen.last_seq), ("Deleted user", 2));
    assert_eq!(f.read_all(bob, Stream::Chat(chat)).await.len(), 2, "no row was made of it");
    let stay = f.store.list_stays(alice).await.unwrap().remove(0);
    assert_eq!((stay.left, stay.end), (Some(2), 2));
    let open = |creator| NewPrivateChat {
        id: Uuid::now_v7().into(),
        creator,
        peer: alice,
        limits: LIMITS,
        at: f.now(),
    };
    assert_eq!(code(f.store.create_private_chat(open(carol)).await), ErrorCode::NotFound);
    let group = f.group(bob, &[carol]).await;
    let added = f.change(group, bob, MembershipChange::Add(vec![alice])).await;
    assert_eq!(code(added), ErrorCode::NotFound);
}

async fn groups_are_left_and_handed_over(f: Fixture) {
    let [alice, bob, carol] = f.contacts(["alice", "bob", "carol"]).await;
    let chat = f.group(alice, &[bob]).await;
    f.change(chat, alice, MembershipChange::Add(vec![carol])).await.unwrap();
    let alone = f.group(alice, &[]).await;
    delete(&f, alice, "alice").await.unwrap();
    f.relay.take();
    depart(&f, alice).await;
    depart(&f, alice).await;
    let row = last(&f, bob, Stream::Chat(chat)).await;
    let roles = BTreeMap::from([(bob, Role::Owner)]);
    let change = MembersChanged { added: vec![], removed: vec![alice], roles };
    assert_eq!((row.seq, row.sender, row.entry), (3, alice, Entry::MembersChanged(change)));
    let rows = f.relay.take();
    let of = |stream| rows.iter().filter(|row| row.stream == stream).count();
    assert_eq!((of(Stream::Chat(chat)), of(Stream::Chat(alone))), (1, 1), "once");
    let seen = f.store.find_chat(bob, chat).await.unwrap().unwrap();
    assert_eq!((seen.role, seen.member_count), (Some(Role::Owner), Some(2)));
    f.send(chat, carol, "4").await;
    assert!(f.store.list_stays(alice).await.unwrap().iter().all(|stay| stay.left.is_some()));
}

async fn a_deletion_that_was_cut_off_is_finished(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let group = f.group(alice, &[bob]).await;
    f.private_chat(alice, bob).await;
    delete(&f, alice, "alice").await.unwrap();
    f.store.forget_departing(alice).await.unwrap();
    let f = f.restart().await;
    assert_eq!(f.store.list_departing(10).await.unwrap(), [alice], "her stays last");
    depart(&f, alice).await;
    assert_eq!(f.store.list_departing(10).await.unwrap(), []);
    assert!(matches!(last(&f, bob, Stream::Chat(group)).await.entry, Entry::MembersChanged(_)));
}

async fn only_the_password_deletes(f: Fixture) {
    let alice = f.user("alice").await;
    assert_eq!(code(delete(&f, alice, "bob").await), ErrorCode::InvalidCredentials);
    assert!(!f.store.find_user(alice).await.unwrap().unwrap().deleted);
    let nobody = deletion(&f, Uuid::now_v7().into(), "");
    assert_eq!(code(f.store.delete_user(nobody).await), ErrorCode::InvalidCredentials);
}
