//! Wills: when they fall due, and that each is published at most once.

use super::{Owner, device, ending, message, open, open_clean, places, publish, run};
use crate::{
    harness::Fixture,
    on_both_engines,
    sessions::{Stopped, connect},
};
use curlew_domain::{
    clock::Timestamp,
    plain::{DueWill, NewWill, PlainMessage, PlainProperties, PublishPlain, PublishedPlain, Qos, Retained},
    ports::store::{Plain, Sessions},
    session::{CloseSession, OpenSession, OpenedSession},
};
use std::sync::Arc;
use uuid::Uuid;

on_both_engines!(
    a_will_is_due_after_its_delay,
    a_will_is_due_with_the_end_of_its_session,
    a_will_that_was_taken_back_is_forgotten,
    a_session_that_goes_on_forgets_a_will_with_a_delay,
    a_session_that_goes_on_publishes_a_will_without_delay,
    a_session_that_begins_anew_publishes_the_will,
    a_will_whose_time_has_come_stays_due,
    a_superseded_connection_leaves_the_will_alone,
    a_will_outlives_its_session,
    a_session_that_makes_room_leaves_its_will,
    wills_of_a_process_that_died_count_from_the_next_start,
    a_will_is_published_once,
    due_wills_come_oldest_first,
);

fn new_will(topic: &str, delay_secs: u32) -> NewWill {
    NewWill { id: Uuid::now_v7(), message: message(topic, "last"), expiry_secs: None, delay_secs }
}

/// A connection of a session that lasts 100 s, with a will.
async fn open_with(f: &Fixture, owner: Owner, client: &str, will: &NewWill) -> OpenedSession {
    let open = OpenSession { will: Some(will.clone()), ..connect(f, owner, client) };
    f.store.open_session(open).await.unwrap()
}

async fn due(f: &Fixture, at: Timestamp) -> Vec<Uuid> {
    f.store.list_due_wills(at, 100).await.unwrap().iter().map(|due| due.id).collect()
}

fn after(at: Timestamp, secs: i64) -> Timestamp {
    Timestamp(at.0 + secs * 1000)
}

/// Not a moment before.
async fn is_due_at(f: &Fixture, will: &NewWill, at: Timestamp) {
    assert!(due(f, Timestamp(at.0 - 1)).await.is_empty(), "too early");
    assert_eq!(due(f, at).await, [will.id]);
}

const NEVER: Timestamp = Timestamp(i64::MAX / 2);

async fn a_will_is_due_after_its_delay(f: Fixture) {
    let owner = device(&f).await;
    let will = NewWill {
        message: PlainMessage {
            qos: Qos::ExactlyOnce,
            retain: true,
            properties: PlainProperties {
                user_properties: vec![("a".into(), "b".into())],
                ..PlainProperties::default()
            },
            ..message("t", vec![0, 1])
        },
        expiry_secs: Some(u32::MAX),
        ..new_will("t", 10)
    };
    let fence = open_with(&f, owner, "a", &will).await.fence;
    assert!(due(&f, NEVER).await.is_empty(), "the connection lasts");
    let close = ending(&f, fence);
    let at = close.at;
    assert!(f.store.close_session(close).await.unwrap());
    is_due_at(&f, &will, after(at, 10)).await;
    let f = f.restart().await;
    let NewWill { id, message, expiry_secs, .. } = will;
    let expected = DueWill { id, user: owner.0, session: fence.session, message, expiry_secs };
    assert_eq!(f.store.list_due_wills(after(at, 10), 1).await.unwrap(), [expected]);
}

async fn a_will_is_due_with_the_end_of_its_session(f: Fixture) {
    let owner = device(&f).await;
    // The session ends before the delay.
    let will = new_will("t", 1000);
    let fence = open_with(&f, owner, "a", &will).await.fence;
    let close = ending(&f, fence);
    let at = close.at;
    assert!(f.store.close_session(close).await.unwrap());
    is_due_at(&f, &will, after(at, 100)).await;
    run(&f, of_will(&f, owner, &will, after(at, 100))).await.unwrap();
    // DISCONNECT makes it end sooner, or now.
    for expiry_secs in [3, 0] {
        let will = new_will("t", 50);
        let fence = open_with(&f, owner, "b", &will).await.fence;
        let close = CloseSession { expiry_secs, ..ending(&f, fence) };
        let at = close.at;
        assert!(f.store.close_session(close).await.unwrap());
        is_due_at(&f, &will, after(at, expiry_secs.into())).await;
        run(&f, of_will(&f, owner, &will, after(at, 100))).await.unwrap();
    }
}

async fn a_will_that_was_taken_back_is_forgotten(f: Fixture) {
    let owner = device(&f).await;
    for expiry_secs in [100, 0] {
        let fence = open_with(&f, owner, "a", &new_will("t", 0)).await.fence;
        let close = CloseSession { discard_will: true, expiry_secs, ..ending(&f, fence) };
        assert!(f.store.close_session(close).await.unwrap());
        assert!(due(&f, NEVER).await.is_empty());
    }
}

async fn a_session_that_goes_on_forgets_a_will_with_a_delay(f: Fixture) {
    let owner = device(&f).await;
    // Taken over while it is connected; and come back within the delay.
    let first = open_with(&f, owner, "a", &new_will("t", 10)).await;
    let second = open_with(&f, owner, "a", &new_will("t", 10)).await;
    assert!(second.present && second.fence.session == first.fence.session);
    assert!(f.store.close_session(ending(&f, second.fence)).await.unwrap());
    let third = open(&f, owner, "a").await;
    assert!(due(&f, NEVER).await.is_empty());
    assert!(f.store.close_session(ending(&f, third.fence)).await.unwrap());
    assert!(due(&f, NEVER).await.is_empty(), "the last connection had none");
}

async fn a_session_that_goes_on_publishes_a_will_without_delay(f: Fixture) {
    let owner = device(&f).await;
    let (first, second) = (new_will("first", 0), new_will("second", 0));
    open_with(&f, owner, "a", &first).await;
    let open = OpenSession { will: Some(second.clone()), ..connect(&f, owner, "a") };
    let at = open.at;
    f.store.open_session(open).await.unwrap();
    is_due_at(&f, &first, at).await;
    assert_eq!(due(&f, NEVER).await, [first.id], "not that of the connection which lasts");
}

async fn a_session_that_begins_anew_publishes_the_will(f: Fixture) {
    let owner = device(&f).await;
    // Connected, or within its delay.
    for close in [false, true] {
        let will = new_will("t", 10);
        let fence = open_with(&f, owner, "a", &will).await.fence;
        if close {
            assert!(f.store.close_session(ending(&f, fence)).await.unwrap());
        }
        assert!(due(&f, f.now()).await.is_empty());
        assert!(!open_clean(&f, owner, "a").await.present);
        let now = f.now();
        assert_eq!(due(&f, now).await, [will.id]);
        run(&f, of_will(&f, owner, &will, now)).await.unwrap();
    }
}

async fn a_will_whose_time_has_come_stays_due(f: Fixture) {
    let owner = device(&f).await;
    let will = new_will("t", 10);
    let fence = open_with(&f, owner, "a", &will).await.fence;
    let close = ending(&f, fence);
    let at = close.at;
    assert!(f.store.close_session(close).await.unwrap());
    let back = OpenSession { at: after(at, 10), ..connect(&f, owner, "a") };
    assert!(f.store.open_session(back).await.unwrap().present);
    is_due_at(&f, &will, after(at, 10)).await;
}

async fn a_superseded_connection_leaves_the_will_alone(f: Fixture) {
    let owner = device(&f).await;
    let (first, second) = (new_will("first", 10), new_will("second", 10));
    let old = open_with(&f, owner, "a", &first).await.fence;
    let new = open_with(&f, owner, "a", &second).await.fence;
    for (expiry_secs, discard_will) in [(0, false), (0, true), (100, false), (100, true)] {
        let close = CloseSession { expiry_secs, discard_will, ..ending(&f, old) };
        assert!(!f.store.close_session(close).await.unwrap());
    }
    assert!(due(&f, NEVER).await.is_empty());
    let close = ending(&f, new);
    let at = close.at;
    assert!(f.store.close_session(close).await.unwrap());
    is_due_at(&f, &second, after(at, 10)).await;
}

async fn a_will_outlives_its_session(f: Fixture) {
    let owner = device(&f).await;
    let will = new_will("t", 10);
    let fence = open_with(&f, owner, "a", &will).await.fence;
    let close = ending(&f, fence);
    let at = close.at;
    assert!(f.store.close_session(close).await.unwrap());
    assert_eq!(f.store.prune_sessions(after(at, 100)).await.unwrap(), 1);
    is_due_at(&f, &will, after(at, 10)).await;
    let published = run(&f, of_will(&f, owner, &will, after(at, 100))).await.unwrap();
    assert_eq!(published, PublishedPlain::Now);
}

async fn a_session_that_makes_room_leaves_its_will(f: Fixture) {
    let owner = device(&f).await;
    let (away, connected) = (new_will("away", 90), new_will("connected", 90));
    let fence = open_with(&f, owner, "away", &away).await.fence;
    open_with(&f, owner, "connected", &connected).await;
    assert!(f.store.close_session(ending(&f, fence)).await.unwrap());
    for (client, expected) in [("new", vec![away.id]), ("newer", vec![away.id, connected.id])] {
        let open = OpenSession { max_per_device: 2, ..connect(&f, owner, client) };
        let at = open.at;
        assert!(due(&f, at).await.len() < expected.len());
        f.store.open_session(open).await.unwrap();
        assert_eq!(due(&f, at).await, expected);
    }
}

async fn wills_of_a_process_that_died_count_from_the_next_start(f: Fixture) {
    let owner = device(&f).await;
    let (soon, late, closed) = (new_will("soon", 0), new_will("late", 10), new_will("closed", 50));
    open_with(&f, owner, "soon", &soon).await;
    open_with(&f, owner, "late", &late).await;
    let fence = open_with(&f, owner, "closed", &closed).await.fence;
    let close = ending(&f, fence);
    let left = close.at;
    assert!(f.store.close_session(close).await.unwrap());
    // The process dies without a word; the next one begins at `started`.
    let started = Timestamp(left.0 + 5_000);
    let f = f.reopen(|config| config.clock = Arc::new(Stopped(started))).await;
    let of_the_living = new_will("living", 0);
    open_with(&f, owner, "living", &of_the_living).await;
    f.store.prune_sessions(started).await.unwrap();
    is_due_at(&f, &soon, started).await;
    assert_eq!(due(&f, Timestamp(after(started, 10).0 - 1)).await, [soon.id]);
    assert_eq!(due(&f, after(started, 10)).await, [soon.id, late.id]);
    assert_eq!(due(&f, after(left, 50)).await, [soon.id, late.id, closed.id]);
    assert_eq!(due(&f, NEVER).await, [soon.id, late.id, closed.id]);
    // Its device is back before the delay is over.
    assert!(open(&f, owner, "late").await.present);
    assert_eq!(due(&f, NEVER).await, [soon.id, closed.id]);
    // House-keeping does not begin the delay anew.
    f.store.prune_sessions(after(started, 1)).await.unwrap();
    is_due_at(&f, &soon, started).await;
}

fn of_will(f: &Fixture, owner: Owner, will: &NewWill, at: Timestamp) -> PublishPlain {
    PublishPlain { will: Some(will.id), at, ..publish(f, owner.0, will.message.clone(), &[]) }
}

async fn a_will_is_published_once(f: Fixture) {
    let owner = device(&f).await;
    let to = open(&f, owner, "to").await.fence.session;
    let mut will = new_will("t", 10);
    will.message.retain = true;
    let fence = open_with(&f, owner, "a", &will).await.fence;
    let close = ending(&f, fence);
    let at = close.at;
    assert!(f.store.close_session(close).await.unwrap());
    let mut publication = of_will(&f, owner, &will, Timestamp(after(at, 10).0 - 1));
    publication.queue.push(super::recipient(to));
    assert_eq!(run(&f, publication.clone()).await.unwrap(), PublishedPlain::Before, "it is not due");
    publication.at = after(at, 10);
    for expected in [PublishedPlain::Now, PublishedPlain::Before] {
        assert_eq!(run(&f, publication.clone()).await.unwrap(), expected);
        assert_eq!(places(&f, to).await, [1]);
        assert!(due(&f, NEVER).await.is_empty());
    }
    assert_eq!(f.relay.take_plain().len(), 1);
    let retained =
        f.store.list_retained(owner.0, Retained::Of(will.message.topic.clone()), at).await.unwrap();
    assert_eq!(retained, [will.message]);
}

async fn due_wills_come_oldest_first(f: Fixture) {
    let owner = device(&f).await;
    let wills = [30, 10, 20].map(|delay| new_will("t", delay));
    for (n, will) in wills.iter().enumerate() {
        let fence = open_with(&f, owner, &n.to_string(), will).await.fence;
        assert!(f.store.close_session(ending(&f, fence)).await.unwrap());
    }
    assert_eq!(due(&f, NEVER).await, [wills[1].id, wills[2].id, wills[0].id]);
    let some = f.store.list_due_wills(NEVER, 2).await.unwrap();
    assert_eq!(some.iter().map(|due| due.id).collect::<Vec<_>>(), [wills[1].id, wills[2].id]);
}
