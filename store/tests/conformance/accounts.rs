//! Users, logins, devices.

use crate::{
    harness::{FIRST_PAGE, Fixture, code, new_user},
    on_both_engines,
};
use curlew_domain::{
    ErrorCode,
    account::{LoginKind, Username},
    clock::Timestamp,
    device::DeviceChoice,
    ids::UserId,
    page::{PageRequest, Position},
    ports::store::{Accounts, Devices, EndLogins, NewLogin, Refreshed},
};
use uuid::Uuid;

on_both_engines!(
    a_user_is_found_by_id_and_by_name,
    a_user_name_is_taken_once_also_in_a_race,
    users_are_listed_oldest_first_page_by_page,
    a_device_is_found_by_id_then_by_name_then_made,
    the_device_limit_counts_devices_with_a_live_login,
    a_refresh_token_is_repeatable_only_until_its_successor_is_used,
    an_old_refresh_token_ends_the_login,
    of_many_refreshes_with_one_token_all_get_the_same_successor,
    touching_a_login_slides_its_end_but_not_a_device_tokens,
    ended_logins_are_named_once,
    the_newest_device_token_is_found_by_device_name,
);

async fn a_user_is_found_by_id_and_by_name(f: Fixture) {
    let id = f.user("alice").await;
    let user = f.store.find_user(id).await.unwrap().unwrap();
    assert_eq!(
        (user.username.as_str(), user.display_name.as_str(), user.about.as_str()),
        ("alice", "ALICE", "")
    );
    assert_eq!((user.email.as_deref(), user.phone, user.deleted), (Some("alice@example.org"), None, false));
    let name = Username::parse("alice").unwrap();
    assert_eq!(f.store.find_user_by_name(&name).await.unwrap().unwrap().id, id);
    assert_eq!(f.store.find_credentials(&name).await.unwrap(), Some((id, "hash of alice".into())));
    let nobody = Username::parse("nobody").unwrap();
    assert!(f.store.find_user_by_name(&nobody).await.unwrap().is_none());
    assert!(f.store.find_credentials(&nobody).await.unwrap().is_none());
    assert!(f.store.find_user(Uuid::now_v7().into()).await.unwrap().is_none());
}

async fn a_user_name_is_taken_once_also_in_a_race(f: Fixture) {
    let stores = f.two_stores().await;
    let create = |n: usize| stores[n].create_user(new_user(UserId::from(Uuid::now_v7()), "alice", f.now()));
    let outcomes = tokio::join!(create(0), create(1), create(0), create(1));
    let outcomes = [outcomes.0, outcomes.1, outcomes.2, outcomes.3];
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for outcome in outcomes.into_iter().filter(Result::is_err) {
        assert_eq!(code(outcome), ErrorCode::UsernameTaken);
    }
}

async fn users_are_listed_oldest_first_page_by_page(f: Fixture) {
    let mut users = Vec::new();
    for n in 0..5 {
        users.push(f.user(&format!("user{n}")).await);
    }
    let mut found = Vec::new();
    let mut page = PageRequest { limit: 2, after: None };
    loop {
        let part = f.store.list_users(page).await.unwrap();
        assert!(part.items.len() <= 2);
        found.extend(part.items.iter().map(|user| user.id));
        match part.next_cursor {
            Some(cursor) => page.after = Some(Position::decode(&cursor).unwrap()),
            None => break,
        }
    }
    assert_eq!(found, users);
    assert!(f.store.list_users(FIRST_PAGE).await.unwrap().next_cursor.is_none());
}

async fn a_device_is_found_by_id_then_by_name_then_made(f: Fixture) {
    let [alice, bob] = [f.user("alice").await, f.user("bob").await];
    let (login, phone) = f.login(alice, "phone").await;
    assert_eq!((phone.user, phone.name.as_str(), phone.platform.as_str()), (alice, "phone", "test"));
    let stored = f.store.find_login(login).await.unwrap().unwrap();
    assert_eq!(
        (stored.user, stored.device, stored.kind, stored.refresh_count),
        (alice, phone.id, LoginKind::Password, 0)
    );
    assert!(stored.is_live(f.now()) && !stored.is_live(Timestamp(i64::MAX)));
    assert_eq!(f.store.find_device(phone.id).await.unwrap().unwrap().name, "phone");

    let (_, again) = f.login(alice, "phone").await;
    assert_eq!(again.id, phone.id);
    assert!(again.last_seen_at > phone.last_seen_at);
    let by_id = DeviceChoice { id: Some(phone.id), name: "other".into(), platform: "test".into() };
    let with = |user, device: &DeviceChoice| NewLogin { device: device.clone(), ..f.new_login(user, "") };
    assert_eq!(f.store.create_login(with(alice, &by_id)).await.unwrap().device.id, phone.id);

    let foreign = f.store.create_login(with(bob, &by_id)).await.unwrap().device;
    assert_ne!(foreign.id, phone.id, "another user's device is unknown");
    let unknown =
        DeviceChoice { id: Some(Uuid::now_v7().into()), name: "phone".into(), platform: "test".into() };
    let made = f.store.create_login(with(alice, &unknown)).await.unwrap().device;
    assert_ne!(made.id, phone.id, "an unknown id makes a device, whatever its name");
    assert_eq!(
        code(f.store.create_login(f.new_login(Uuid::now_v7().into(), "x")).await),
        ErrorCode::NotFound
    );
}

async fn the_device_limit_counts_devices_with_a_live_login(f: Fixture) {
    let alice = f.user("alice").await;
    let mut logins = Vec::new();
    for device in ["one", "two", "three"] {
        logins.push(f.login(alice, device).await.0);
    }
    let refused = f.store.create_login(f.new_login(alice, "four")).await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::DeviceLimit);
    assert!(refused.to_string().contains("two"), "{refused}");
    f.login(alice, "three").await;
    f.store.end_logins(EndLogins::One(logins[0]), f.now()).await.unwrap();
    f.login(alice, "four").await;
    let later = NewLogin { at: Timestamp(f.now().0 + 10_000_000), ..f.new_login(alice, "five") };
    f.store.create_login(later).await.expect("expired logins do not count");
}

async fn a_refresh_token_is_repeatable_only_until_its_successor_is_used(f: Fixture) {
    let alice = f.user("alice").await;
    let (login, _) = f.login(alice, "phone").await;
    let at = f.now();
    let end = Timestamp(at.0 + 5_000_000);
    let refresh =
        async |n, after| f.store.refresh_login(login, n, Timestamp(at.0 + after), 60, end).await.unwrap();
    assert_eq!(refresh(0, 0).await, Refreshed::Current(1));
    assert_eq!(f.store.find_login(login).await.unwrap().unwrap().expires_at, Some(end));
    assert_eq!(refresh(0, 60).await, Refreshed::Current(1), "its answer may have been lost");
    assert_eq!(refresh(1, 61).await, Refreshed::Current(2));
    assert_eq!(refresh(0, 62).await, Refreshed::Reused);
    assert_eq!(refresh(2, 63).await, Refreshed::Ended);
    assert!(f.store.find_login(login).await.unwrap().unwrap().ended);
    let nobody = f.store.refresh_login(Uuid::now_v7().into(), 0, at, 60, end).await.unwrap();
    assert_eq!(nobody, Refreshed::Ended);
}

async fn an_old_refresh_token_ends_the_login(f: Fixture) {
    let alice = f.user("alice").await;
    let (login, _) = f.login(alice, "phone").await;
    let at = f.now();
    let end = Timestamp(at.0 + 5_000_000);
    assert_eq!(f.store.refresh_login(login, 0, at, 60, end).await.unwrap(), Refreshed::Current(1));
    let late = Timestamp(at.0 + 61);
    assert_eq!(f.store.refresh_login(login, 0, late, 60, end).await.unwrap(), Refreshed::Reused);
    assert_eq!(f.store.refresh_login(login, 1, late, 60, end).await.unwrap(), Refreshed::Ended);
    let (expired, _) = f.login(alice, "phone").await;
    let never = Timestamp(i64::MAX - 1);
    assert_eq!(f.store.refresh_login(expired, 0, never, 60, never).await.unwrap(), Refreshed::Ended);
}

async fn of_many_refreshes_with_one_token_all_get_the_same_successor(f: Fixture) {
    let alice = f.user("alice").await;
    let (login, _) = f.login(alice, "phone").await;
    let at = f.now();
    let refresh = || f.store.refresh_login(login, 0, at, 60, Timestamp(at.0 + 5_000_000));
    let (a, b, c) = tokio::join!(refresh(), refresh(), refresh());
    for outcome in [a, b, c] {
        assert_eq!(outcome.unwrap(), Refreshed::Current(1));
    }
}

async fn touching_a_login_slides_its_end_but_not_a_device_tokens(f: Fixture) {
    let alice = f.user("alice").await;
    let (login, device) = f.login(alice, "phone").await;
    let token = NewLogin { kind: LoginKind::DeviceToken, expires_at: None, ..f.new_login(alice, "gadget") };
    let token_id = token.id;
    let gadget = f.store.create_login(token).await.unwrap().device;
    let (at, end) = (Timestamp(f.now().0 + 1000), Timestamp(9_000_000));
    f.store.touch_login(login, at, end).await.unwrap();
    f.store.touch_login(token_id, at, end).await.unwrap();
    assert_eq!(f.store.find_login(login).await.unwrap().unwrap().expires_at, Some(end));
    assert_eq!(f.store.find_login(token_id).await.unwrap().unwrap().expires_at, None);
    assert_eq!(f.store.find_device(device.id).await.unwrap().unwrap().last_seen_at, at);
    assert_eq!(f.store.find_device(gadget.id).await.unwrap().unwrap().last_seen_at, at);
    f.store.touch_login(login, f.now(), Timestamp(1)).await.unwrap();
    assert_eq!(f.store.find_login(login).await.unwrap().unwrap().expires_at, Some(end), "never shortened");
    let refreshed = f.store.refresh_login(token_id, 0, at, 60, end).await.unwrap();
    assert_eq!(refreshed, Refreshed::Current(1));
    assert_eq!(f.store.find_login(token_id).await.unwrap().unwrap().expires_at, None);
}

async fn ended_logins_are_named_once(f: Fixture) {
    let [alice, bob] = [f.user("alice").await, f.user("bob").await];
    let (first, _) = f.login(alice, "phone").await;
    let (second, _) = f.login(alice, "laptop").await;
    let (third, _) = f.login(bob, "phone").await;
    let token = NewLogin { kind: LoginKind::DeviceToken, expires_at: None, ..f.new_login(alice, "gadget") };
    let token_id = token.id;
    f.store.create_login(token).await.unwrap();
    let end = async |which| f.store.end_logins(which, f.now()).await.unwrap();
    assert_eq!(end(EndLogins::One(first)).await, [first]);
    assert_eq!(end(EndLogins::One(first)).await, []);
    assert_eq!(end(EndLogins::SignIns(alice)).await, [second]);
    assert_eq!(end(EndLogins::SignIns(alice)).await, []);
    for live in [third, token_id] {
        assert!(!f.store.find_login(live).await.unwrap().unwrap().ended);
    }
}

async fn the_newest_device_token_is_found_by_device_name(f: Fixture) {
    let alice = f.user("alice").await;
    assert!(f.store.find_device_token(alice, "gadget").await.unwrap().is_none());
    f.login(alice, "gadget").await;
    assert!(f.store.find_device_token(alice, "gadget").await.unwrap().is_none(), "a sign-in is no token");
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let token =
            NewLogin { kind: LoginKind::DeviceToken, expires_at: None, ..f.new_login(alice, "gadget") };
        tokens.push(token.id);
        f.store.create_login(token).await.unwrap();
    }
    let found = async || f.store.find_device_token(alice, "gadget").await.unwrap().map(|(login, _)| login);
    assert_eq!(found().await, Some(tokens[1]));
    f.store.end_logins(EndLogins::One(tokens[1]), f.now()).await.unwrap();
    assert_eq!(found().await, Some(tokens[0]));
}
