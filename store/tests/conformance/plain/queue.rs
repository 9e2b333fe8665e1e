//! Queues: reading them, what a session has done, and their bounds.

use super::{db_counts, device, ending, fill, message, open, open_clean, places, publish, queued, run};
use crate::{harness::Fixture, on_both_engines, sessions::connect};
use curlew_domain::{
    clock::Timestamp,
    ids::{Seq, SessionId},
    plain::{MAX_PAYLOAD, MAX_QUEUED, MAX_QUEUED_BYTES, Settle},
    ports::store::{Plain, Sessions},
    session::{CloseSession, OpenSession},
};
use uuid::Uuid;

on_both_engines!(
    a_queue_is_read_in_parts_of_so_many_messages_and_bytes,
    what_is_done_leaves_the_queue,
    a_superseded_connection_settles_nothing,
    closing_stores_what_was_done_first,
    a_session_that_begins_anew_has_an_empty_queue,
    an_expired_session_has_an_empty_queue,
    a_queue_ends_with_its_session,
    beyond_so_many_messages_the_oldest_unsent_go,
    beyond_so_many_bytes_the_oldest_unsent_go,
);

async fn a_queue_is_read_in_parts_of_so_many_messages_and_bytes(f: Fixture) {
    let owner = device(&f).await;
    let session = open(&f, owner, "a").await.fence.session;
    fill(&f, owner.0, session, [10, 20, 30, 4000, 50].map(|size| vec![b'x'; size])).await;
    let topic = message("t", "").topic.len();
    let part = async |after, limit, bytes| {
        let page = f.store.list_queued(session, after, limit, bytes).await.unwrap();
        (page.messages.iter().map(|queued| queued.seq).collect::<Vec<_>>(), page.more)
    };
    assert_eq!(part(0, 100, usize::MAX).await, (vec![1, 2, 3, 4, 5], false));
    assert_eq!(part(0, 2, usize::MAX).await, (vec![1, 2], true));
    assert_eq!(part(2, 3, usize::MAX).await, (vec![3, 4, 5], false));
    assert_eq!(part(5, 3, usize::MAX).await, (vec![], false));
    assert_eq!(part(0, 100, 30 + 2 * topic).await, (vec![1, 2], true));
    assert_eq!(part(0, 100, 29 + 2 * topic).await, (vec![1], true));
    assert_eq!(part(3, 100, 1).await, (vec![4], true), "at least one");
    assert_eq!(part(4, 100, 1).await, (vec![5], false));
    let nobody = f.store.list_queued(Uuid::now_v7().into(), 0, 10, usize::MAX).await.unwrap();
    assert!(nobody.messages.is_empty() && !nobody.more);
}

async fn what_is_done_leaves_the_queue(f: Fixture) {
    let owner = device(&f).await;
    let fence = open(&f, owner, "a").await.fence;
    let other = open(&f, owner, "b").await.fence.session;
    fill(&f, owner.0, fence.session, (0..6).map(|n| vec![b'x'; n])).await;
    fill(&f, owner.0, other, [vec![1]]).await;
    let settle = async |settle| assert!(f.store.settle_queue(fence, settle).await.unwrap());
    settle(Settle::default()).await;
    settle(Settle { sent: 4, done: vec![1, 3], released: vec![2], ..Settle::default() }).await;
    let flags = |queued: &[curlew_domain::plain::QueuedMessage]| {
        queued.iter().map(|queued| (queued.seq, queued.released)).collect::<Vec<_>>()
    };
    let expected = [(2, true), (4, false), (5, false), (6, false)];
    assert_eq!(flags(&queued(&f, fence.session).await), expected);
    let size = |n: Seq| (message("t", "").size() as i64) + n as i64 - 1;
    assert_eq!(db_counts(&f, fence.session).await, (4, size(2) + size(4) + size(5) + size(6), 0));
    // Again, and what was never there: the counts stay right.
    settle(Settle { sent: 2, done: vec![1, 3, 77], released: vec![2, 1], ..Settle::default() }).await;
    assert_eq!(flags(&queued(&f, fence.session).await), expected);
    assert_eq!(db_counts(&f, fence.session).await.0, 4);
    assert_eq!(places(&f, other).await, [1], "places are one session's");
    let again = open(&f, owner, "a").await;
    assert_eq!((again.present, again.sent), (true, 4), "never lowered");
    // Places go on where they were.
    let fence = again.fence;
    let all = Settle { done: vec![2, 4, 5, 6], ..Settle::default() };
    assert!(f.store.settle_queue(fence, all).await.unwrap());
    fill(&f, owner.0, fence.session, [vec![]]).await;
    assert_eq!(places(&f, fence.session).await, [7]);
}

async fn a_superseded_connection_settles_nothing(f: Fixture) {
    let owner = device(&f).await;
    let first = open(&f, owner, "a").await.fence;
    fill(&f, owner.0, first.session, [vec![1], vec![2]]).await;
    let mut received = publish(&f, owner.0, message("t", "x"), &[first.session]);
    received.received = Some((first.session, 5));
    run(&f, received).await.unwrap();
    let second = open(&f, owner, "a").await.fence;
    let settle = Settle { done: vec![1], released: vec![2], sent: 2, forgotten: vec![5] };
    assert!(!f.store.settle_queue(first, settle.clone()).await.unwrap());
    let close = CloseSession { settle: settle.clone(), ..ending(&f, first) };
    assert!(!f.store.close_session(close).await.unwrap());
    let waiting = queued(&f, first.session).await;
    assert!(waiting.len() == 3 && waiting.iter().all(|queued| !queued.released));
    let third = open(&f, owner, "a").await;
    assert_eq!((third.sent, third.received), (0, vec![5]));
    assert!(!f.store.settle_queue(second, settle.clone()).await.unwrap());
    assert!(f.store.settle_queue(third.fence, settle).await.unwrap());
    assert_eq!(places(&f, first.session).await, [2, 3]);
}

async fn closing_stores_what_was_done_first(f: Fixture) {
    let owner = device(&f).await;
    let fence = open(&f, owner, "a").await.fence;
    fill(&f, owner.0, fence.session, [vec![1], vec![2], vec![3]]).await;
    let settle = Settle { done: vec![1], released: vec![2], sent: 3, forgotten: vec![] };
    assert!(f.store.close_session(CloseSession { settle, ..ending(&f, fence) }).await.unwrap());
    let again = open(&f, owner, "a").await;
    assert_eq!(again.sent, 3);
    let waiting = queued(&f, fence.session).await;
    assert_eq!(
        waiting.iter().map(|queued| (queued.seq, queued.released)).collect::<Vec<_>>(),
        [(2, true), (3, false)]
    );
}

/// Whether the queue begins at place 1 again.
async fn begins_anew(f: &Fixture, user: curlew_domain::ids::UserId, session: SessionId) {
    assert!(places(f, session).await.is_empty());
    fill(f, user, session, [vec![]]).await;
    assert_eq!(places(f, session).await, [1]);
    assert_eq!(db_counts(f, session).await.0, 1);
}

async fn a_session_that_begins_anew_has_an_empty_queue(f: Fixture) {
    let owner = device(&f).await;
    let fence = open(&f, owner, "a").await.fence;
    fill(&f, owner.0, fence.session, [vec![1], vec![2]]).await;
    assert!(f.store.settle_queue(fence, Settle { sent: 2, ..Settle::default() }).await.unwrap());
    let clean = open_clean(&f, owner, "a").await;
    assert_eq!((clean.present, clean.sent, clean.fence.session), (false, 0, fence.session));
    begins_anew(&f, owner.0, fence.session).await;
    assert_eq!(open(&f, owner, "a").await.sent, 0);
}

async fn an_expired_session_has_an_empty_queue(f: Fixture) {
    let owner = device(&f).await;
    let fence = open(&f, owner, "a").await.fence;
    fill(&f, owner.0, fence.session, [vec![1], vec![2]]).await;
    let close = CloseSession { settle: Settle { sent: 2, ..Settle::default() }, ..ending(&f, fence) };
    let expired = Timestamp(close.at.0 + 100_000);
    assert!(f.store.close_session(close).await.unwrap());
    let late = OpenSession { at: expired, ..connect(&f, owner, "a") };
    let again = f.store.open_session(late).await.unwrap();
    assert_eq!((again.present, again.sent), (false, 0));
    begins_anew(&f, owner.0, fence.session).await;
}

async fn a_queue_ends_with_its_session(f: Fixture) {
    let owner = device(&f).await;
    let (closed, pruned) = (open(&f, owner, "closed").await.fence, open(&f, owner, "pruned").await.fence);
    for fence in [closed, pruned] {
        fill(&f, owner.0, fence.session, [vec![1]]).await;
        let mut received = publish(&f, owner.0, message("t", "x"), &[fence.session]);
        received.received = Some((fence.session, 1));
        run(&f, received).await.unwrap();
    }
    let settle = Settle { sent: 1, done: vec![1], ..Settle::default() };
    let close = CloseSession { expiry_secs: 0, settle, ..ending(&f, closed) };
    assert!(f.store.close_session(close).await.unwrap());
    let close = ending(&f, pruned);
    let expired = Timestamp(close.at.0 + 100_000);
    assert!(f.store.close_session(close).await.unwrap());
    assert_eq!(f.store.prune_sessions(expired).await.unwrap(), 1);
    for fence in [closed, pruned] {
        assert!(places(&f, fence.session).await.is_empty());
        assert!(!f.store.settle_queue(fence, Settle::default()).await.unwrap());
    }
}

async fn beyond_so_many_messages_the_oldest_unsent_go(f: Fixture) {
    let owner = device(&f).await;
    let fence = open(&f, owner, "a").await.fence;
    let max = u64::from(MAX_QUEUED);
    fill(&f, owner.0, fence.session, (0..MAX_QUEUED).map(|_| vec![])).await;
    assert_eq!(db_counts(&f, fence.session).await.2, 0, "so many are not too many");
    assert!(f.store.settle_queue(fence, Settle { sent: 2, ..Settle::default() }).await.unwrap());
    fill(&f, owner.0, fence.session, (0..100).map(|_| vec![])).await;
    let left: Vec<Seq> = (1..=2).chain(103..=max + 100).collect();
    assert_eq!(places(&f, fence.session).await, left, "what was sent stays");
    let (messages, _, dropped) = db_counts(&f, fence.session).await;
    assert_eq!((messages, dropped), (MAX_QUEUED.into(), 100));
}

async fn beyond_so_many_bytes_the_oldest_unsent_go(f: Fixture) {
    let owner = device(&f).await;
    let fence = open(&f, owner, "a").await.fence;
    let small = (0..200).map(|_| vec![]);
    let large = (0..15).map(|_| vec![b'x'; MAX_PAYLOAD]);
    fill(&f, owner.0, fence.session, small.chain(large)).await;
    assert_eq!(db_counts(&f, fence.session).await.2, 0);
    // One large message makes more than one query's worth of small ones go.
    let body = message("t", vec![b'x'; MAX_PAYLOAD - 1000]);
    let (size, unit) = (body.size() as u64, message("t", "").size() as u64);
    run(&f, publish(&f, owner.0, body, &[fence.session])).await.unwrap();
    let total = 200 * unit + 15 * (unit + MAX_PAYLOAD as u64) + size;
    let dropped = total.saturating_sub(MAX_QUEUED_BYTES).div_ceil(unit);
    assert!((65..200).contains(&dropped), "{dropped}");
    assert_eq!(places(&f, fence.session).await, (dropped + 1..=216).collect::<Vec<_>>());
    let (_, bytes, lost) = db_counts(&f, fence.session).await;
    assert_eq!((bytes as u64, lost as u64), (total - dropped * unit, dropped));
}
