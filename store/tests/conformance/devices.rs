//! Devices with a live login, and who is told when they change.

use crate::{
    harness::{Fixture, code},
    on_both_engines,
    sessions::{Stopped, connect, open},
};
use curlew_domain::{
    ErrorCode, Result,
    account::LoginKind,
    clock::Timestamp,
    device::DeviceChoice,
    ids::{DeviceId, LoginId, Stream, UserId},
    message::Entry,
    plain::{NewWill, PlainMessage, PlainProperties, Qos, Settle},
    ports::store::{Accounts, Devices, EndLogins, MadeLogin, NewLogin, Plain, Sessions},
    session::{CloseSession, Cursors, SessionFence},
};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

on_both_engines!(
    a_login_on_another_device_tells_the_others,
    the_end_of_a_devices_last_login_tells_the_others,
    a_reused_refresh_token_tells_the_others,
    a_device_is_renamed_by_its_owner,
    a_removed_device_is_gone_with_its_logins_and_sessions,
    a_session_is_not_opened_for_a_removed_device,
    removing_and_connecting_at_once_leaves_no_session,
    a_login_replaces_a_device,
    a_full_list_is_told_and_one_of_it_replaced,
    a_login_with_a_password_that_was_changed_is_refused,
    a_removal_said_again_is_done,
    the_commit_tells_which_logins_ended,
    a_device_that_nobody_sees_is_retired,
    a_device_is_seen_while_it_is_connected,
    a_device_is_seen_whenever_it_shows_itself,
    a_device_token_outlives_its_devices_retirement,
    unseen_devices_are_listed_in_parts,
    retiring_and_connecting_at_once_leaves_a_clean_session,
);

/// Rows that told the user of their devices since the last call.
fn told(f: &Fixture, user: UserId) -> usize {
    let rows = f.relay.take();
    let of_user = rows.iter().filter(|row| row.stream == Stream::Personal(user));
    of_user.filter(|row| row.entry == Entry::DevicesUpdated).count()
}

async fn live(f: &Fixture, user: UserId) -> Vec<DeviceId> {
    let devices = f.store.list_devices(user, f.now()).await.unwrap();
    devices.into_iter().map(|device| device.id).collect()
}

async fn token(f: &Fixture, user: UserId, device: &str) -> LoginId {
    let token = NewLogin { kind: LoginKind::DeviceToken, expires_at: None, ..f.new_login(user, device) };
    let id = token.id;
    f.store.create_login(token).await.unwrap();
    id
}

/// Due in 50 s, or with the end of its session.
fn will(user: UserId) -> NewWill {
    let message = PlainMessage {
        topic: format!("users/{user}/x/gone"),
        payload: "last".into(),
        qos: Qos::AtLeastOnce,
        retain: false,
        properties: PlainProperties::default(),
        expires_at: None,
    };
    NewWill { id: Uuid::now_v7(), message, expiry_secs: None, delay_secs: 50 }
}

async fn replacing(f: &Fixture, user: UserId, name: &str, replace: DeviceId) -> Result<MadeLogin> {
    f.store.create_login(NewLogin { replace: Some(replace), ..f.new_login(user, name) }).await
}

async fn a_login_on_another_device_tells_the_others(f: Fixture) {
    let alice = f.user("alice").await;
    f.login(alice, "phone").await;
    assert_eq!(told(&f, alice), 0, "nobody is there to be told of the very first");
    f.login(alice, "phone").await;
    assert_eq!(told(&f, alice), 0);
    f.login(alice, "tablet").await;
    assert_eq!(told(&f, alice), 1);
    token(&f, alice, "tablet").await;
    assert_eq!(told(&f, alice), 0);
    token(&f, alice, "gadget").await;
    assert_eq!(told(&f, alice), 1);
}

async fn the_end_of_a_devices_last_login_tells_the_others(f: Fixture) {
    let alice = f.user("alice").await;
    let (first, phone) = f.login(alice, "phone").await;
    let (second, _) = f.login(alice, "phone").await;
    let gadget = token(&f, alice, "gadget").await;
    told(&f, alice);
    let end = async |which| f.store.end_logins(which, f.now()).await.unwrap();
    end(EndLogins::One(first)).await;
    assert_eq!(told(&f, alice), 0, "the device has another");
    end(EndLogins::SignIns(alice)).await;
    assert_eq!(told(&f, alice), 1);
    end(EndLogins::SignIns(alice)).await;
    end(EndLogins::One(second)).await;
    end(EndLogins::One(Uuid::now_v7().into())).await;
    assert_eq!(told(&f, alice), 0);
    end(EndLogins::One(gadget)).await;
    assert_eq!((told(&f, alice), live(&f, alice).await), (1, vec![]));
    assert_eq!(f.login(alice, "phone").await.1.id, phone.id);
    assert_eq!(told(&f, alice), 1, "it was there before, so it is not the first");
}

async fn a_reused_refresh_token_tells_the_others(f: Fixture) {
    let alice = f.user("alice").await;
    let (login, _) = f.login(alice, "phone").await;
    let (at, end) = (f.now(), f.now().plus(std::time::Duration::from_secs(1000)));
    for n in [0, 1, 0] {
        f.store.refresh_login(login, n, at, 0, end).await.unwrap();
    }
    assert_eq!((told(&f, alice), live(&f, alice).await), (1, vec![]));
}

async fn a_device_is_renamed_by_its_owner(f: Fixture) {
    let [alice, bob] = [f.user("alice").await, f.user("bob").await];
    let (login, phone) = f.login(alice, "phone").await;
    let rename = async |user, device, name: &str| {
        f.store.rename_device(user, device, name.into(), f.now()).await.unwrap().map(|device| device.name)
    };
    assert_eq!(rename(bob, phone.id, "mine").await, None);
    assert_eq!(rename(alice, Uuid::now_v7().into(), "mine").await, None);
    assert_eq!(told(&f, alice), 0);
    assert_eq!(rename(alice, phone.id, "telephone").await.as_deref(), Some("telephone"));
    assert_eq!(rename(alice, phone.id, "telephone").await.as_deref(), Some("telephone"));
    assert_eq!(told(&f, alice), 1, "once");
    assert_eq!(f.store.find_device(phone.id).await.unwrap().unwrap().name, "telephone");
    f.store.end_logins(EndLogins::One(login), f.now()).await.unwrap();
    told(&f, alice);
    rename(alice, phone.id, "old one").await;
    assert_eq!(told(&f, alice), 0, "it is not in the list");
}

async fn a_removed_device_is_gone_with_its_logins_and_sessions(f: Fixture) {
    let [alice, bob] = [f.user("alice").await, f.user("bob").await];
    let (first, phone) = f.login(alice, "phone").await;
    let (second, _) = f.login(alice, "phone").await;
    let token = token(&f, alice, "phone").await;
    let (other, tablet) = f.login(alice, "tablet").await;
    let will = will(alice);
    let mut with_will = connect(&f, (alice, phone.id), "app");
    with_will.will = Some(will.clone());
    f.store.open_session(with_will).await.unwrap();
    open(&f, (alice, tablet.id), "app").await;
    told(&f, alice);
    let remove = async |user, device| f.store.remove_device(user, device, f.now()).await.unwrap();
    assert_eq!(remove(bob, phone.id).await, None);
    let mut ended = remove(alice, phone.id).await.unwrap();
    ended.sort_unstable();
    let mut expected = vec![first, second, token];
    expected.sort_unstable();
    assert_eq!(ended, expected);
    assert_eq!((told(&f, alice), live(&f, alice).await), (1, vec![tablet.id]));
    assert_eq!(remove(alice, phone.id).await, Some(Vec::new()), "again: it is done");
    assert!(f.store.rename_device(alice, phone.id, "back".into(), f.now()).await.unwrap().is_none());
    assert_eq!(told(&f, alice), 0);
    assert!(f.store.find_login(other).await.unwrap().is_some_and(|login| !login.ended));
    assert_eq!(f.store.list_lasting_sessions(alice, f.now()).await.unwrap().len(), 1, "the tablet's");
    let due = f.store.list_due_wills(f.now(), 10).await.unwrap();
    assert_eq!(due.iter().map(|due| due.id).collect::<Vec<_>>(), [will.id], "its session has ended");
    // Neither its name nor its id finds it.
    let (_, again) = f.login(alice, "phone").await;
    assert_ne!(again.id, phone.id);
    let device = DeviceChoice { id: Some(phone.id), name: "phone".into(), platform: "test".into() };
    let by_id = NewLogin { device, ..f.new_login(alice, "") };
    assert_ne!(f.store.create_login(by_id).await.unwrap().device.id, phone.id);
}

async fn a_session_is_not_opened_for_a_removed_device(f: Fixture) {
    let alice = f.user("alice").await;
    let (_, phone) = f.login(alice, "phone").await;
    f.store.remove_device(alice, phone.id, f.now()).await.unwrap().unwrap();
    let opened = f.store.open_session(connect(&f, (alice, phone.id), "app")).await;
    assert_eq!(code(opened), ErrorCode::Unauthenticated);
}

async fn removing_and_connecting_at_once_leaves_no_session(f: Fixture) {
    let alice = f.user("alice").await;
    let stores = f.two_stores().await;
    for n in 0..8 {
        let (_, phone) = f.login(alice, &format!("phone {n}")).await;
        let opening = stores[1].open_session(connect(&f, (alice, phone.id), "app"));
        let removing = stores[0].remove_device(alice, phone.id, f.now());
        let (opened, removed) = tokio::join!(opening, removing);
        assert!(removed.unwrap().is_some());
        assert!(opened.is_ok() || code(opened) == ErrorCode::Unauthenticated);
        assert!(f.store.list_lasting_sessions(alice, f.now()).await.unwrap().is_empty());
    }
}

async fn a_login_replaces_a_device(f: Fixture) {
    let [alice, bob] = [f.user("alice").await, f.user("bob").await];
    let (login, phone) = f.login(alice, "phone").await;
    let (_, foreign) = f.login(bob, "phone").await;
    told(&f, alice);
    for unknown in [foreign.id, Uuid::now_v7().into()] {
        assert_eq!(code(replacing(&f, alice, "new", unknown).await), ErrorCode::NotFound);
    }
    assert_eq!(live(&f, alice).await, [phone.id], "nothing was made");
    let made = replacing(&f, alice, "phone", phone.id).await.unwrap();
    assert_eq!(made.ended, [login]);
    assert_ne!(made.device.id, phone.id, "another of that name");
    assert_eq!((told(&f, alice), live(&f, alice).await), (1, vec![made.device.id]));
    let again = replacing(&f, alice, "phone", phone.id).await.unwrap();
    assert_eq!((again.device.id, again.ended), (made.device.id, vec![]), "again: it is done");
}

async fn a_full_list_is_told_and_one_of_it_replaced(f: Fixture) {
    let alice = f.user("alice").await;
    let mut devices = Vec::new();
    for name in ["one", "two", "three"] {
        devices.push(f.login(alice, name).await.1.id);
    }
    let refused = f.store.create_login(f.new_login(alice, "four")).await.unwrap_err();
    let curlew_domain::Error::Refused(refusal) = refused else { panic!("{refused:?}") };
    assert_eq!(refusal.code, ErrorCode::DeviceLimit);
    let offered: Vec<_> = refusal.devices.iter().rev().map(|device| device.id).collect();
    assert_eq!(offered, devices);
    let four = replacing(&f, alice, "four", devices[1]).await.unwrap().device;
    assert_eq!(live(&f, alice).await, [four.id, devices[2], devices[0]]);
    // Nothing is removed by a login that is refused: the list is as long as it was.
    let gone = f.store.remove_device(alice, four.id, f.now()).await.unwrap();
    assert_eq!(gone.unwrap().len(), 1);
    f.login(alice, "five").await;
    let dormant = f.login(alice, "one").await;
    f.store.end_logins(EndLogins::SignIns(alice), f.now()).await.unwrap();
    for name in ["six", "seven", "eight"] {
        f.login(alice, name).await;
    }
    let before = live(&f, alice).await;
    assert_eq!(code(replacing(&f, alice, "nine", dormant.1.id).await), ErrorCode::DeviceLimit);
    assert_eq!(live(&f, alice).await, before);
    assert!(f.store.remove_device(alice, dormant.1.id, f.now()).await.unwrap().is_some(), "still there");
}

async fn a_login_with_a_password_that_was_changed_is_refused(f: Fixture) {
    let alice = f.user("alice").await;
    let with = |hash: &str| NewLogin { verified: Some(hash.into()), ..f.new_login(alice, "phone") };
    assert_eq!(code(f.store.create_login(with("hash of bob")).await), ErrorCode::InvalidCredentials);
    assert!(live(&f, alice).await.is_empty());
    f.store.create_login(with("hash of alice")).await.unwrap();
}

async fn a_removal_said_again_is_done(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let (_, phone) = f.login(alice, "phone").await;
    f.login(alice, "laptop").await;
    f.store.remove_device(alice, phone.id, f.now()).await.unwrap().expect("it is hers");
    told(&f, alice);
    assert_eq!(f.store.remove_device(alice, phone.id, f.now()).await.unwrap(), Some(Vec::new()));
    assert_eq!(f.store.remove_device(bob, phone.id, f.now()).await.unwrap(), None);
    assert_eq!(told(&f, alice), 0);
    // A login whose answer was lost finds its device replaced already.
    let first = replacing(&f, alice, "tablet", live(&f, alice).await[0]).await.unwrap();
    let again = replacing(&f, alice, "tablet", phone.id).await.unwrap();
    assert_eq!(again.device.id, first.device.id);
    assert_eq!(code(replacing(&f, bob, "tablet", phone.id).await), ErrorCode::NotFound);
}

async fn the_commit_tells_which_logins_ended(f: Fixture) {
    let alice = f.user("alice").await;
    f.relay.take();
    let (phone, device) = f.login(alice, "phone").await;
    assert_eq!(f.relay.take_ended(), []);
    f.store.end_logins(EndLogins::One(phone), f.now()).await.unwrap();
    assert_eq!(f.relay.take_ended(), [phone]);
    f.store.end_logins(EndLogins::One(phone), f.now()).await.unwrap();
    assert_eq!(f.relay.take_ended(), []);
    let token = token(&f, alice, "phone").await;
    f.store.remove_device(alice, device.id, f.now()).await.unwrap();
    assert_eq!(f.relay.take_ended(), [token]);
    let (phone, device) = f.login(alice, "phone").await;
    replacing(&f, alice, "laptop", device.id).await.unwrap();
    assert_eq!(f.relay.take_ended(), [phone]);
    let (tablet, _) = f.login(alice, "tablet").await;
    f.relay.take();
    let grace = 0;
    f.store.refresh_login(tablet, 7, f.now(), grace, f.now()).await.unwrap();
    assert_eq!(f.relay.take_ended(), [tablet]);
}

/// Ends a connection; answers when.
async fn close(f: &Fixture, fence: SessionFence, expiry_secs: u32) -> Timestamp {
    let (cursors, settle, at) = (Cursors::new(), Settle::default(), f.now());
    let close = CloseSession {
        fence,
        cursors: Some(cursors),
        expiry_secs,
        settle,
        left_at: Timestamp(0),
        discard_will: false,
        at,
    };
    assert!(f.store.close_session(close).await.unwrap());
    at
}

async fn last_seen(f: &Fixture, device: DeviceId) -> Timestamp {
    f.store.find_device(device).await.unwrap().unwrap().last_seen_at
}

async fn unseen(f: &Fixture, seen: Timestamp) -> Vec<DeviceId> {
    let unseen = f.store.list_unseen_devices(seen, None, 100).await.unwrap();
    unseen.into_iter().map(|(_, device)| device).collect()
}

async fn retire(f: &Fixture, user: UserId, device: DeviceId, seen: Timestamp) -> Option<Vec<LoginId>> {
    f.store.retire_device(user, device, seen, f.now()).await.unwrap()
}

async fn a_device_that_nobody_sees_is_retired(f: Fixture) {
    let [alice, bob] = [f.user("alice").await, f.user("bob").await];
    let (first, phone) = f.login(alice, "phone").await;
    let (second, _) = f.login(alice, "phone").await;
    let (other, tablet) = f.login(alice, "tablet").await;
    f.login(bob, "phone").await;
    let will = will(alice);
    let mut connecting = connect(&f, (alice, phone.id), "app");
    connecting.will = Some(will.clone());
    let fence = f.store.open_session(connecting).await.unwrap().fence;
    let seen = close(&f, fence, 100).await;
    open(&f, (alice, tablet.id), "app").await;
    told(&f, alice);
    assert!(!unseen(&f, Timestamp(seen.0 - 1)).await.contains(&phone.id), "seen later than that");
    assert_eq!(retire(&f, alice, phone.id, Timestamp(seen.0 - 1)).await, None);
    let listed = f.store.list_unseen_devices(seen, None, 100).await.unwrap();
    assert!(listed.contains(&(alice, phone.id)) && !listed.contains(&(alice, tablet.id)), "{listed:?}");
    assert_eq!(retire(&f, bob, phone.id, seen).await, None, "it is not his");
    assert_eq!((told(&f, alice), live(&f, alice).await.len()), (0, 2));

    let mut ended = retire(&f, alice, phone.id, seen).await.unwrap();
    ended.sort_unstable();
    assert_eq!(ended, [first, second]);
    assert_eq!((told(&f, alice), live(&f, alice).await), (1, vec![tablet.id]));
    let login = async |id| f.store.find_login(id).await.unwrap().unwrap();
    assert!(login(first).await.ended && login(second).await.ended && !login(other).await.ended);
    assert_eq!(f.store.list_lasting_sessions(alice, f.now()).await.unwrap().len(), 1, "the tablet's");
    let due = f.store.list_due_wills(f.now(), 10).await.unwrap();
    assert_eq!(due.iter().map(|due| due.id).collect::<Vec<_>>(), [will.id], "its session has ended");

    assert_eq!(retire(&f, alice, phone.id, f.now()).await, None, "again: it is done");
    assert!(!unseen(&f, f.now()).await.contains(&phone.id));
    assert_eq!(told(&f, alice), 0);
    // It is the same device that comes back.
    assert_eq!(f.login(alice, "phone").await.1.id, phone.id);
    let device = DeviceChoice { id: Some(phone.id), name: String::new(), platform: "test".into() };
    let by_id = NewLogin { device, ..f.new_login(alice, "") };
    assert_eq!(f.store.create_login(by_id).await.unwrap().device.id, phone.id);
    assert!(!open(&f, (alice, phone.id), "app").await.present, "it starts clean");
    assert_eq!((told(&f, alice), live(&f, alice).await.len()), (1, 2));
    // One whose sign-in has run out is in no list, so nobody is told.
    let (_, laptop) = f.login(alice, "laptop").await;
    told(&f, alice);
    let late = f.now().plus(Duration::from_secs(2000));
    assert!(f.store.retire_device(alice, laptop.id, f.now(), late).await.unwrap().is_some());
    assert_eq!(told(&f, alice), 0);
    f.store.remove_device(alice, laptop.id, late).await.unwrap();
    assert_eq!(retire(&f, alice, laptop.id, late).await, None, "a removed one is gone");
}

async fn a_device_is_seen_while_it_is_connected(f: Fixture) {
    let alice = f.user("alice").await;
    let (_, phone) = f.login(alice, "phone").await;
    let owner = (alice, phone.id);
    let first = open(&f, owner, "first").await.fence;
    let second = f.store.open_session(connect(&f, owner, "second")).await.unwrap().fence;
    close(&f, second, 100).await;
    let far = Timestamp(f.now().0 + 1_000_000_000);
    assert_eq!((unseen(&f, far).await, retire(&f, alice, phone.id, far).await), (vec![], None));
    // The process dies without a word; the next one begins at `started`.
    let started = Timestamp(far.0 + 10);
    let f = f.reopen(|config| config.clock = Arc::new(Stopped(started))).await;
    let just_before = Timestamp(started.0 - 1);
    assert_eq!(
        (unseen(&f, just_before).await, retire(&f, alice, phone.id, just_before).await),
        (vec![], None)
    );
    assert_eq!(unseen(&f, started).await, [phone.id]);
    assert!(retire(&f, alice, phone.id, started).await.is_some());
    assert!(!f.store.save_cursors(first, Cursors::new()).await.unwrap());
}

async fn a_device_is_seen_whenever_it_shows_itself(f: Fixture) {
    let alice = f.user("alice").await;
    let (login, phone) = f.login(alice, "phone").await;
    let owner = (alice, phone.id);
    for expiry_secs in [100, 0] {
        let fence = open(&f, owner, "app").await.fence;
        let at = close(&f, fence, expiry_secs).await;
        assert_eq!(
            last_seen(&f, phone.id).await,
            at,
            "the end of a connection that expires in {expiry_secs} s"
        );
    }
    // A connection that was taken over says nothing.
    let old = open(&f, owner, "app").await.fence;
    open(&f, owner, "app").await;
    let seen = last_seen(&f, phone.id).await;
    let superseded = CloseSession {
        fence: old,
        cursors: Some(Cursors::new()),
        expiry_secs: 0,
        settle: Settle::default(),
        left_at: Timestamp(0),
        discard_will: true,
        at: f.now(),
    };
    assert!(!f.store.close_session(superseded.clone()).await.unwrap());
    assert_eq!(last_seen(&f, phone.id).await, seen);
    // Nor does a clock that went back.
    let fence = open(&f, owner, "app").await.fence;
    let seen = last_seen(&f, phone.id).await;
    f.store.close_session(CloseSession { fence, at: Timestamp(1), ..superseded }).await.unwrap();
    assert_eq!(last_seen(&f, phone.id).await, seen);
    let end = f.now().plus(Duration::from_secs(1000));
    let at = f.now();
    f.store.refresh_login(login, 0, at, 0, end).await.unwrap();
    assert_eq!(last_seen(&f, phone.id).await, at, "a refresh, which is all that REST shows");
    assert_eq!(retire(&f, alice, phone.id, Timestamp(at.0 - 1)).await, None);
    assert_eq!(retire(&f, alice, phone.id, at).await, Some(vec![login]));
}

async fn a_device_token_outlives_its_devices_retirement(f: Fixture) {
    let alice = f.user("alice").await;
    let (login, gadget) = f.login(alice, "gadget").await;
    let token = token(&f, alice, "gadget").await;
    let fence = open(&f, (alice, gadget.id), "app").await.fence;
    close(&f, fence, 100).await;
    told(&f, alice);
    assert_eq!(retire(&f, alice, gadget.id, f.now()).await, Some(vec![login]));
    assert_eq!((told(&f, alice), live(&f, alice).await), (0, vec![gadget.id]), "the list is what it was");
    assert!(!f.store.find_login(token).await.unwrap().unwrap().ended);
    assert_eq!(unseen(&f, f.now()).await, [], "there is nothing left to take");
    let back = open(&f, (alice, gadget.id), "app").await;
    assert!(!back.present);
    close(&f, back.fence, 100).await;
    assert_eq!(retire(&f, alice, gadget.id, f.now()).await, Some(vec![]), "its session goes again");
}

async fn unseen_devices_are_listed_in_parts(f: Fixture) {
    let mut owners = Vec::new();
    for name in ["alice", "bob", "carol"] {
        let user = f.user(name).await;
        owners.push((user, f.login(user, "phone").await.1.id));
    }
    owners.sort_unstable_by_key(|(_, device)| *device);
    let at = f.now();
    let list = async |after, limit| f.store.list_unseen_devices(at, after, limit).await.unwrap();
    assert_eq!(list(None, 2).await, owners[..2]);
    assert_eq!(list(Some(owners[1].1), 2).await, owners[2..]);
    assert_eq!(list(Some(owners[2].1), 2).await, []);
}

async fn retiring_and_connecting_at_once_leaves_a_clean_session(f: Fixture) {
    let alice = f.user("alice").await;
    let stores = f.two_stores().await;
    for n in 0..8 {
        let (_, phone) = f.login(alice, "phone").await;
        let owner = (alice, phone.id);
        let fence = open(&f, owner, "app").await.fence;
        close(&f, fence, 100).await;
        let (seen, client) = (f.now(), if n % 2 == 0 { "app" } else { "other" });
        let opening = stores[0].open_session(connect(&f, owner, client));
        let retiring = stores[0].retire_device(alice, phone.id, seen, f.now());
        let (opened, retired) = tokio::join!(opening, retiring);
        // Whichever came first: the connection has its session, and what it found there is what it was told.
        let opened = opened.unwrap();
        assert!(f.store.save_cursors(opened.fence, Cursors::new()).await.unwrap());
        assert_eq!(opened.present, retired.unwrap().is_none() && client == "app");
        close(&f, opened.fence, 0).await;
        f.store.retire_device(alice, phone.id, f.now(), f.now()).await.unwrap();
    }
}
