use super::*;
use curlew_domain::clock::System;
use uuid::Uuid;

const NOW: Timestamp = Timestamp(1_000);
const GRACE: Duration = Duration::from_secs(10);

fn user(n: u128) -> UserId {
    Uuid::from_u128(n).into()
}

fn nobody() -> Presence {
    Presence::new(GRACE, Arc::new(System))
}

fn contact(n: u128, visible: bool) -> PresenceContact {
    PresenceContact { user: user(n), visible, changed_at: NOW, last_seen_at: None }
}

/// What is to be told of a user now.
fn told(presence: &Presence, n: u128) -> Vec<(UserId, PresenceState)> {
    let (batch, _) = presence.take_batch(Instant::now());
    assert!(batch.is_empty() || batch == [user(n)]);
    let (mut news, mut unsaved) = (News::new(), Vec::new());
    if !batch.is_empty() {
        presence.lock().tell_change(user(n), NOW, &mut news, &mut unsaved);
    }
    news.into_iter().map(|(to, of, state, _)| (if of == user(n) { to } else { of }, state)).collect()
}

/// The user and who share their presence with them; nothing is told of it.
fn enter(presence: &Presence, n: u128, contacts: &[PresenceContact]) -> Vec<(UserId, UserId, PresenceState)> {
    let mut news = News::new();
    presence.lock().enter_circle(user(n), contacts, NOW, &mut news);
    news.into_iter().map(|(to, of, state, _)| (to, of, state)).collect()
}

/// The grace of everybody has passed.
fn pass(presence: &Presence) {
    let mut state = presence.lock();
    let graces = std::mem::take(&mut state.graces);
    for (_, user) in graces {
        state.graces.insert((Instant::now(), user));
    }
}

#[test]
fn the_first_connection_is_told_at_once_and_the_end_of_the_last_after_the_grace() {
    let presence = nobody();
    presence.join(user(1), 10);
    enter(&presence, 1, &[contact(2, true)]);
    assert_eq!(told(&presence, 1), [(user(2), PresenceState::Online)]);
    presence.join(user(1), 11);
    presence.leave(user(1), 10);
    assert_eq!(told(&presence, 1), []);
    presence.leave(user(1), 11);
    assert_eq!(told(&presence, 1), [], "they may come back");
    presence.join(user(1), 12);
    pass(&presence);
    assert_eq!(told(&presence, 1), [], "they came back");
    presence.leave(user(1), 12);
    pass(&presence);
    assert_eq!(told(&presence, 1), [(user(2), PresenceState::Offline)]);
    assert!(presence.lock().users.is_empty(), "who is gone is forgotten");
}

#[test]
fn away_is_who_is_in_the_background_on_every_device() {
    let presence = nobody();
    presence.join(user(1), 10);
    presence.join(user(1), 11);
    enter(&presence, 1, &[contact(2, true)]);
    told(&presence, 1);
    presence.set(user(1), 10, Mode::Away);
    assert_eq!(told(&presence, 1), []);
    presence.set(user(1), 11, Mode::Away);
    assert_eq!(told(&presence, 1), [], "not within a second of the last word");
    presence.lock().users.get_mut(&user(1)).unwrap().quiet_until = Instant::now();
    presence.set(user(1), 11, Mode::Away);
    assert_eq!(told(&presence, 1), [(user(2), PresenceState::Away)], "the client's own word");
    presence.set(user(1), 10, Mode::Active);
    assert_eq!(told(&presence, 1), [(user(2), PresenceState::Online)]);
    presence.leave(user(1), 10);
    assert_eq!(told(&presence, 1), []);
    pass(&presence);
    assert_eq!(told(&presence, 1), [(user(2), PresenceState::Away)]);
    presence.set(user(1), 99, Mode::Active);
    assert_eq!(told(&presence, 1), [], "a connection that is gone");
}

#[test]
fn who_flaps_is_told_of_once() {
    let presence = nobody();
    presence.join(user(1), 10);
    enter(&presence, 1, &[contact(2, true)]);
    assert_eq!(told(&presence, 1).len(), 1);
    for number in 11..100 {
        presence.leave(user(1), number - 1);
        presence.join(user(1), number);
        assert_eq!(told(&presence, 1), []);
    }
    assert!(presence.lock().graces.is_empty());
}

#[test]
fn what_ends_is_unknown_on_both_sides_and_what_begins_is_shown() {
    let presence = nobody();
    presence.join(user(1), 10);
    presence.join(user(2), 20);
    enter(&presence, 1, &[contact(2, true)]);
    enter(&presence, 2, &[contact(1, true)]);
    for n in [1, 2] {
        presence.lock().tell_change(user(n), NOW, &mut News::new(), &mut Vec::new());
    }
    let mut ended = enter(&presence, 1, &[contact(2, false)]);
    ended.sort_unstable_by_key(|(to, ..)| *to);
    let unknown = PresenceState::Unknown;
    assert_eq!(ended, [(user(1), user(2), unknown), (user(2), user(1), unknown)]);
    assert_eq!(enter(&presence, 2, &[contact(1, false)]), [], "it was told already");
    let mut begun = enter(&presence, 2, &[contact(1, true)]);
    begun.sort_unstable_by_key(|(to, ..)| *to);
    let online = PresenceState::Online;
    assert_eq!(begun, [(user(1), user(2), online), (user(2), user(1), online)]);
    assert_eq!(enter(&presence, 1, &[contact(2, true)]), []);
}

#[test]
fn who_is_not_here_is_unknown_too_when_it_ends() {
    let presence = nobody();
    presence.join(user(2), 20);
    enter(&presence, 2, &[contact(1, true)]);
    presence.visibility_changed(&[user(1)]);
    let told = enter(&presence, 1, &[contact(2, false)]);
    assert!(told.contains(&(user(2), user(1), PresenceState::Unknown)));
    assert_eq!(presence.lock().users[&user(2)].circle, Some(vec![]));
}

#[test]
fn a_subscription_is_shown_who_is_there_and_who_comes_back_whatever_changed() {
    let presence = nobody();
    presence.join(user(1), 10);
    presence.lock().tell_change(user(1), NOW, &mut News::new(), &mut Vec::new());
    let state = presence.lock();
    let shown = |contact: &PresenceContact, since: Option<i64>| {
        state.shown(contact, since.map(Timestamp), Duration::ZERO, NOW).map(|(state, _)| state)
    };
    let here = contact(1, true);
    assert_eq!(shown(&here, None), Some(PresenceState::Online));
    assert_eq!(shown(&here, Some(NOW.0 - 1)), Some(PresenceState::Online));
    assert_eq!(shown(&here, Some(NOW.0)), None, "so it was when they left");
    let gone = PresenceContact { last_seen_at: Some(NOW), ..contact(2, true) };
    assert_eq!((shown(&gone, None), shown(&gone, Some(NOW.0))), (None, None));
    assert_eq!(shown(&gone, Some(NOW.0 - 1)), Some(PresenceState::Offline));
    let begun = PresenceContact { last_seen_at: Some(Timestamp(1)), ..contact(2, true) };
    assert_eq!(shown(&begun, Some(NOW.0)), None);
    assert_eq!(shown(&begun, Some(NOW.0 - 1)), Some(PresenceState::Offline), "no more unknown");
    assert_eq!(shown(&contact(2, true), Some(NOW.0 - 1)), None, "never seen: as good as unknown");
    let hidden = PresenceContact { visible: false, ..gone };
    assert_eq!((shown(&hidden, None), shown(&hidden, Some(NOW.0))), (None, None), "that was known");
    assert_eq!(shown(&hidden, Some(NOW.0 - 1)), Some(PresenceState::Unknown));
}
