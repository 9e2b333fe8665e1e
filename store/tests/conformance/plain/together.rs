//! Publications that meet the end of a session, its new beginning, and what it has done. What is checked holds whoever wins.

use super::{db_counts, device, ending, message, open, places, publish, queued};
use crate::{harness::Fixture, on_both_engines, sessions::connect};
use curlew_domain::{
    plain::{PublishPlain, PublishedPlain, Settle},
    ports::store::{Plain, Sessions},
    session::{CloseSession, OpenSession},
};
use std::sync::Arc;
use tokio::task::JoinSet;

on_both_engines!(
    a_session_may_end_while_it_is_published_to,
    a_queue_that_begins_anew_while_it_is_published_to_is_whole,
    a_queue_that_is_settled_while_it_is_published_to_is_whole,
);

/// Starts as many publications in the user's lane as there are; returns when they have all been made.
fn start(f: &Fixture, publications: Vec<PublishPlain>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for publication in publications {
        let store = Arc::clone(&f.store);
        tasks.spawn(async move {
            let published = store.publish_plain(publication).await.unwrap().await;
            assert_eq!(published.expect("it is never refused"), PublishedPlain::Now);
        });
    }
    tasks
}

async fn a_session_may_end_while_it_is_published_to(f: Fixture) {
    let owner = device(&f).await;
    for round in 0..20u16 {
        let fence = open(&f, owner, "a").await.fence;
        let publications = (0..10u16).map(|n| PublishPlain {
            received: Some((fence.session, n)),
            ..publish(&f, owner.0, message("t", "x"), &[fence.session])
        });
        let publications = start(&f, publications.collect());
        let close = CloseSession { expiry_secs: 0, ..ending(&f, fence) };
        assert!(f.store.close_session(close).await.unwrap(), "round {round}");
        publications.join_all().await;
        assert!(places(&f, fence.session).await.is_empty());
        let relayed = f.relay.take_plain();
        assert!(relayed.iter().all(|delivery| delivery.queued.len() + delivery.gone.len() == 1));
        let ended = relayed.iter().position(|delivery| delivery.queued.is_empty()).unwrap_or(relayed.len());
        assert!(relayed[ended..].iter().all(|delivery| delivery.queued.is_empty()), "it does not come back");
    }
}

async fn a_queue_that_begins_anew_while_it_is_published_to_is_whole(f: Fixture) {
    let owner = device(&f).await;
    let session = open(&f, owner, "a").await.fence.session;
    for _ in 0..20 {
        let publications = (0..10).map(|_| publish(&f, owner.0, message("t", "x"), &[session]));
        let publications = start(&f, publications.collect());
        let clean = OpenSession { clean_start: true, ..connect(&f, owner, "a") };
        assert!(!f.store.open_session(clean).await.unwrap().present);
        publications.join_all().await;
        // One more, so that there is a queue in any case.
        start(&f, vec![publish(&f, owner.0, message("t", "x"), &[session])]).join_all().await;
        let places = places(&f, session).await;
        let (first, last) = (places[0], places[places.len() - 1]);
        assert_eq!((first, last), (1, places.len() as u64), "{places:?}");
        assert_eq!(db_counts(&f, session).await.0, places.len() as i64);
    }
}

async fn a_queue_that_is_settled_while_it_is_published_to_is_whole(f: Fixture) {
    let owner = device(&f).await;
    let fence = open(&f, owner, "a").await.fence;
    for _ in 0..20 {
        let publications = (0..20).map(|_| publish(&f, owner.0, message("t", "x"), &[fence.session]));
        let publications = start(&f, publications.collect());
        let there = queued(&f, fence.session).await;
        let done: Vec<_> = there.iter().map(|queued| queued.seq).collect();
        let sent = done.last().copied().unwrap_or(0);
        let settle = Settle { done, sent, ..Settle::default() };
        assert!(f.store.settle_queue(fence, settle).await.unwrap());
        publications.join_all().await;
        db_counts(&f, fence.session).await;
    }
    let relayed = f.relay.take_plain();
    let seqs: Vec<_> = relayed.iter().flat_map(|delivery| &delivery.queued).map(|(_, seq)| *seq).collect();
    assert_eq!(seqs, (1..=400).collect::<Vec<_>>());
}
