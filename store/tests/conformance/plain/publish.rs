//! Publications: whom they reach, in which order, and how often.

use super::{db_counts, device, message, open, open_clean, places, publish, queued, recipient, run};
use crate::{
    harness::{Fate, Fixture},
    on_both_engines,
    sessions::connect,
};
use curlew_domain::{
    clock::Timestamp,
    ids::{SessionId, UserId},
    plain::{
        LastingSession, PlainMessage, PlainProperties, PublishPlain, PublishedPlain, Qos, Recipient, Settle,
    },
    ports::store::{Plain, Sessions},
    session::{CloseSession, Cursors, Follow, OpenSession, SaveSubscriptions},
};
use std::time::Duration;
use uuid::Uuid;

on_both_engines!(
    a_publication_waits_in_every_queue_as_it_was_published,
    publications_of_one_user_reach_the_relay_in_order,
    what_reaches_nobody_is_not_relayed,
    a_session_with_two_subscriptions_gets_a_message_twice,
    sessions_that_are_gone_are_told,
    an_expired_message_waits_for_nobody,
    a_packet_identifier_publishes_once_until_it_is_forgotten,
    packet_identifiers_are_those_of_a_session_that_lasts,
    a_commit_nobody_heard_of_publishes_once,
    lasting_sessions_are_those_that_outlive_their_connection,
);

fn everything(f: &Fixture) -> PlainMessage {
    PlainMessage {
        topic: "users/me/x/ä/\u{1f426}".into(),
        payload: vec![0, 159, 146, 150].into(),
        qos: Qos::ExactlyOnce,
        retain: false,
        properties: PlainProperties {
            payload_is_utf8: true,
            content_type: Some("text/\"plain\"".into()),
            response_topic: Some("users/me/x/answer".into()),
            correlation_data: Some(vec![0, 255, 1].into()),
            user_properties: vec![
                ("b".into(), "1".into()),
                ("a".into(), "2".into()),
                ("b".into(), "3".into()),
            ],
        },
        expires_at: Some(f.now().plus(Duration::from_mins(1))),
    }
}

async fn a_publication_waits_in_every_queue_as_it_was_published(f: Fixture) {
    let owner = device(&f).await;
    let [a, b, c] = ["a", "b", "c"].map(|client| open(&f, owner, client));
    let (a, b, c) = (a.await.fence.session, b.await.fence.session, c.await.fence.session);
    let message = everything(&f);
    let to_a = Recipient {
        session: a,
        qos: Qos::ExactlyOnce,
        retain: false,
        subscription_ids: vec![1, 268_435_455],
    };
    let to_b = recipient(b);
    let live = vec![Recipient { qos: Qos::AtMostOnce, ..recipient(c) }];
    let publication = PublishPlain {
        queue: vec![to_a.clone(), to_b.clone()],
        live: live.clone(),
        ..publish(&f, owner.0, message.clone(), &[])
    };
    for n in 1..=2 {
        assert_eq!(run(&f, publication.clone()).await.unwrap(), PublishedPlain::Now);
        let relayed = f.relay.take_plain();
        assert_eq!(relayed.len(), 1);
        assert_eq!((relayed[0].user, &*relayed[0].message), (owner.0, &message));
        assert_eq!(relayed[0].queued, [(to_a.clone(), n), (to_b.clone(), n)]);
        assert_eq!(relayed[0].live, live);
        assert!(relayed[0].gone.is_empty());
    }
    let f = f.restart().await;
    for (session, to) in [(a, to_a), (b, to_b)] {
        let waiting = queued(&f, session).await;
        assert_eq!(waiting.iter().map(|queued| queued.seq).collect::<Vec<_>>(), [1, 2]);
        for queued in waiting {
            assert_eq!((&*queued.message, &queued.recipient, queued.released), (&message, &to, false));
        }
    }
    assert!(places(&f, c).await.is_empty(), "live is kept nowhere");
}

async fn publications_of_one_user_reach_the_relay_in_order(f: Fixture) {
    let owner = device(&f).await;
    let sessions = [open(&f, owner, "a").await.fence.session, open(&f, owner, "b").await.fence.session];
    let mut commits = Vec::new();
    for n in 0..300u32 {
        let publish = publish(&f, owner.0, message("t", n.to_string()), &sessions[..=(n as usize % 2)]);
        commits.push(f.store.publish_plain(publish).await.unwrap());
    }
    for commit in commits {
        assert_eq!(commit.await.unwrap(), PublishedPlain::Now);
    }
    let relayed = f.relay.take_plain();
    let payloads: Vec<_> = relayed.iter().map(|delivery| delivery.message.payload.clone()).collect();
    assert_eq!(payloads, (0..300u32).map(|n| n.to_string()).collect::<Vec<_>>());
    for (session, count) in sessions.into_iter().zip([300, 150]) {
        let seqs = relayed.iter().flat_map(|delivery| &delivery.queued);
        let seqs: Vec<_> = seqs.filter(|(to, _)| to.session == session).map(|(_, seq)| *seq).collect();
        assert_eq!(seqs, (1..=count).collect::<Vec<_>>());
    }
}

async fn what_reaches_nobody_is_not_relayed(f: Fixture) {
    let user = f.user("owner").await;
    let retained = PlainMessage { retain: true, ..message("t", "kept") };
    assert_eq!(run(&f, publish(&f, user, retained, &[])).await.unwrap(), PublishedPlain::Now);
    assert!(f.relay.take_plain().is_empty());
}

async fn a_session_with_two_subscriptions_gets_a_message_twice(f: Fixture) {
    let owner = device(&f).await;
    let session = open(&f, owner, "a").await.fence.session;
    run(&f, publish(&f, owner.0, message("t", "before"), &[session])).await.unwrap();
    f.relay.take_plain();
    let shared = Recipient { subscription_ids: vec![7], ..recipient(session) };
    let twice = PublishPlain {
        queue: vec![recipient(session), shared.clone()],
        ..publish(&f, owner.0, message("t", "twice"), &[])
    };
    assert_eq!(run(&f, twice).await.unwrap(), PublishedPlain::Now);
    let relayed = f.relay.take_plain();
    assert_eq!(relayed[0].queued, [(recipient(session), 2), (shared, 3)]);
    assert!(relayed[0].gone.is_empty());
    assert_eq!(places(&f, session).await, [1, 2, 3]);
    assert_eq!(db_counts(&f, session).await.0, 3);
}

async fn sessions_that_are_gone_are_told(f: Fixture) {
    let owner = device(&f).await;
    let [kept, ended] = [open(&f, owner, "kept").await.fence, open(&f, owner, "ended").await.fence];
    let (never, close) = (SessionId::from(Uuid::now_v7()), super::ending(&f, ended));
    assert!(f.store.close_session(CloseSession { expiry_secs: 0, ..close }).await.unwrap());
    let publication = publish(&f, owner.0, message("t", "x"), &[ended.session, kept.session, never]);
    assert_eq!(run(&f, publication).await.unwrap(), PublishedPlain::Now);
    let relayed = f.relay.take_plain();
    assert_eq!(relayed[0].queued, [(recipient(kept.session), 1)]);
    assert_eq!(relayed[0].gone, [ended.session, never]);
    // Also when nobody else is there.
    run(&f, publish(&f, owner.0, message("t", "x"), &[never])).await.unwrap();
    let relayed = f.relay.take_plain();
    assert_eq!((relayed[0].queued.len(), &relayed[0].gone[..]), (0, &[never][..]));
}

async fn an_expired_message_waits_for_nobody(f: Fixture) {
    let owner = device(&f).await;
    let session = open(&f, owner, "a").await.fence.session;
    let at = f.now();
    let expired = PlainMessage { expires_at: Some(at), ..message("t", "late") };
    let publication = PublishPlain { at, ..publish(&f, owner.0, expired.clone(), &[session]) };
    assert_eq!(run(&f, publication).await.unwrap(), PublishedPlain::Now);
    assert!(f.relay.take_plain().is_empty());
    let publication = PublishPlain { at: Timestamp(at.0 - 1), ..publish(&f, owner.0, expired, &[session]) };
    assert_eq!(run(&f, publication).await.unwrap(), PublishedPlain::Now);
    assert_eq!(
        places(&f, session).await,
        [1],
        "one that expires later waits, and is listed even when it has"
    );
}

fn received(f: &Fixture, user: UserId, from: SessionId, packet: u16, to: SessionId) -> PublishPlain {
    PublishPlain { received: Some((from, packet)), ..publish(f, user, message("t", "once"), &[to]) }
}

async fn a_packet_identifier_publishes_once_until_it_is_forgotten(f: Fixture) {
    let owner = device(&f).await;
    let (publisher, other) = (open(&f, owner, "p").await, open(&f, owner, "q").await);
    let (from, to) = (publisher.fence.session, other.fence.session);
    let send =
        async |f: &Fixture, from, packet| run(f, received(f, owner.0, from, packet, to)).await.unwrap();
    assert_eq!(send(&f, from, 1).await, PublishedPlain::Now);
    assert_eq!(send(&f, from, 65_535).await, PublishedPlain::Now);
    f.relay.take_plain();
    let retained = PublishPlain { retain: true, ..received(&f, owner.0, from, 1, to) };
    assert_eq!(run(&f, retained).await.unwrap(), PublishedPlain::Before);
    assert!(f.relay.take_plain().is_empty(), "it is not published again");
    let all = curlew_domain::plain::Retained::Below("users/me/x/".into());
    assert!(f.store.list_retained(owner.0, all, f.now()).await.unwrap().is_empty());
    assert_eq!(places(&f, to).await, [1, 2]);
    assert_eq!(send(&f, to, 1).await, PublishedPlain::Now, "an identifier is one session's");

    let f = f.restart().await;
    let again = open(&f, owner, "p").await;
    let mut known = again.received.clone();
    known.sort_unstable();
    assert_eq!(known, [1, 65_535]);
    assert_eq!(send(&f, from, 1).await, PublishedPlain::Before, "nor by a later process");
    let settle = Settle { forgotten: vec![1, 9], ..Settle::default() };
    assert!(f.store.settle_queue(again.fence, settle).await.unwrap());
    assert_eq!(send(&f, from, 65_535).await, PublishedPlain::Before);
    assert_eq!(send(&f, from, 1).await, PublishedPlain::Now, "released, it is another publication's");

    let clean = open_clean(&f, owner, "p").await;
    assert_eq!((clean.present, clean.received.len()), (false, 0));
    assert_eq!(send(&f, from, 65_535).await, PublishedPlain::Now, "Clean Start forgets them");
}

async fn packet_identifiers_are_those_of_a_session_that_lasts(f: Fixture) {
    let owner = device(&f).await;
    let to = open(&f, owner, "q").await.fence.session;
    let never = SessionId::from(Uuid::now_v7());
    for _ in 0..2 {
        let outcome = run(&f, received(&f, owner.0, never, 1, to)).await.unwrap();
        assert_eq!(outcome, PublishedPlain::Now, "what is not there remembers nothing");
    }
    assert_eq!(places(&f, to).await, [1, 2]);
}

async fn a_commit_nobody_heard_of_publishes_once(f: Fixture) {
    let owner = device(&f).await;
    let session = open(&f, owner, "a").await.fence.session;
    for (n, fate) in [(1, Fate::Hide), (2, Fate::Pass)] {
        f.gate.set(fate);
        let outcome = run(&f, publish(&f, owner.0, message("t", "x"), &[session])).await.unwrap();
        assert_eq!(outcome, PublishedPlain::Now);
        assert_eq!(f.relay.take_plain().len(), 1);
        assert_eq!(places(&f, session).await, (1..=n).collect::<Vec<_>>());
    }
}

async fn lasting_sessions_are_those_that_outlive_their_connection(f: Fixture) {
    let owner = device(&f).await;
    let list = async |at: Timestamp| {
        let mut sessions = f.store.list_lasting_sessions(owner.0, at).await.unwrap();
        sessions.sort_by_key(|lasting| lasting.session);
        sessions
    };
    let connected = OpenSession { mount: "x".into(), ..connect(&f, owner, "connected") };
    let connected = f.store.open_session(connected).await.unwrap().fence;
    let short = OpenSession { expiry_secs: 0, ..connect(&f, owner, "short") };
    f.store.open_session(short).await.unwrap();
    let away = open(&f, owner, "away").await.fence;
    let save = SaveSubscriptions {
        fence: away,
        user: owner.0,
        filters: "[1]".into(),
        previous: Follow::default(),
        follow: Follow::default(),
        cursors: Cursors::new(),
    };
    f.store.save_subscriptions(save).await.unwrap().unwrap();
    let close = super::ending(&f, away);
    let left = close.at;
    assert!(f.store.close_session(close).await.unwrap());
    let stranger = f.user("stranger").await;
    let foreign = (stranger, f.login(stranger, "phone").await.1.id);
    open(&f, foreign, "foreign").await;

    let connected = LastingSession { session: connected.session, mount: "x".into(), filters: String::new() };
    let away = LastingSession { session: away.session, mount: String::new(), filters: "[1]".into() };
    assert_eq!(list(Timestamp(left.0 + 99_999)).await, [connected.clone(), away]);
    assert_eq!(list(Timestamp(left.0 + 100_000)).await, [connected], "expired");
}
