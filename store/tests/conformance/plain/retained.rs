//! Retained messages.

use super::{message, publish, run};
use crate::{
    harness::{Fixture, code},
    on_both_engines,
};
use curlew_domain::{
    ErrorCode, Result,
    account::Username,
    clock::Timestamp,
    ids::UserId,
    plain::{
        MAX_PAYLOAD, MAX_RETAINED, MAX_RETAINED_BYTES, PlainMessage, PlainProperties, PublishPlain,
        PublishedPlain, Qos, Retained,
    },
    ports::store::{DeleteUser, Plain, Profiles, Sessions},
};
use curlew_store::Engine;
use sqlx::{Connection, PgConnection};

on_both_engines!(
    a_topic_has_one_retained_message_until_it_is_removed,
    retained_messages_are_one_users,
    topics_below_are_found_whatever_is_in_their_names,
    topics_are_compared_byte_by_byte,
    an_expired_retained_message_is_not_there,
    retained_messages_are_bounded_in_number,
    retained_messages_are_bounded_in_bytes,
    a_deleted_account_keeps_nothing,
);

async fn retain(f: &Fixture, user: UserId, message: PlainMessage) -> Result<PublishedPlain> {
    run(f, publish(f, user, PlainMessage { retain: true, ..message }, &[])).await
}

async fn list(f: &Fixture, user: UserId, which: Retained) -> Vec<PlainMessage> {
    f.store.list_retained(user, which, f.now()).await.unwrap()
}

async fn of(f: &Fixture, user: UserId, topic: &str) -> Vec<PlainMessage> {
    list(f, user, Retained::Of(topic.into())).await
}

async fn below(f: &Fixture, user: UserId, prefix: &str) -> Vec<String> {
    let messages = list(f, user, Retained::Below(prefix.into())).await;
    messages.into_iter().map(|message| message.topic).collect()
}

async fn a_topic_has_one_retained_message_until_it_is_removed(f: Fixture) {
    let user = f.user("owner").await;
    let first = PlainMessage {
        qos: Qos::ExactlyOnce,
        properties: PlainProperties {
            content_type: Some("a".into()),
            correlation_data: Some(vec![1].into()),
            ..PlainProperties::default()
        },
        expires_at: Some(Timestamp(f.now().0 + 60_000)),
        ..message("t", "first")
    };
    retain(&f, user, first.clone()).await.unwrap();
    assert_eq!(of(&f, user, &first.topic).await, [PlainMessage { retain: true, ..first }]);
    let second = message("t", "second");
    retain(&f, user, second.clone()).await.unwrap();
    let f = f.restart().await;
    assert_eq!(of(&f, user, &second.topic).await, [PlainMessage { retain: true, ..second.clone() }]);
    run(&f, publish(&f, user, message("t", "passing"), &[])).await.unwrap();
    assert_eq!(of(&f, user, &second.topic).await.len(), 1, "one without RETAIN changes nothing");
    assert_eq!(of(&f, user, "users/me/x").await.len(), 0);
    for _ in 0..2 {
        retain(&f, user, message("t", "")).await.unwrap();
        assert!(of(&f, user, &second.topic).await.is_empty());
    }
}

async fn retained_messages_are_one_users(f: Fixture) {
    let (a, b) = (f.user("a_user").await, f.user("b_user").await);
    retain(&f, a, message("t", "of a")).await.unwrap();
    retain(&f, b, message("t", "of b")).await.unwrap();
    retain(&f, a, message("t", "")).await.unwrap();
    let of_b = of(&f, b, &message("t", "").topic).await;
    assert_eq!((of_b.len(), &of_b[0].payload[..]), (1, &b"of b"[..]));
    assert!(below(&f, a, "users/me/x/").await.is_empty());
}

async fn topics_below_are_found_whatever_is_in_their_names(f: Fixture) {
    let user = f.user("owner").await;
    let below_a =
        ["a/", "a/\u{1}", "a/ ", "a/%", "a//", "a/0", "a/B", "a/_", "a/b", "a/b/c", "a/é", "a/\u{10ffff}"];
    let beside = ["A/b", "a", "a%/b", "a.b", "a0", "a0/b", "aa/b", "é/a"];
    for topic in below_a.iter().chain(&beside) {
        retain(&f, user, PlainMessage { topic: (*topic).into(), ..message("", "x") }).await.unwrap();
    }
    let mut expected = below_a.map(String::from).to_vec();
    expected.sort();
    assert_eq!(below(&f, user, "a/").await, expected, "by topic");
    assert_eq!(below(&f, user, "a/b/").await, ["a/b/c"]);
    assert_eq!(below(&f, user, "a//").await, ["a//"]);
    assert_eq!(below(&f, user, "é/").await, ["é/a"]);
    assert!(below(&f, user, "b/").await.is_empty());
    for topic in below_a.iter().chain(&beside) {
        assert_eq!(of(&f, user, topic).await.len(), 1, "{topic:?}");
    }
}

/// That ranges of topics are found byte by byte does not depend on the locale that the database was made with.
async fn topics_are_compared_byte_by_byte(f: Fixture) {
    let Engine::Postgres(url) = &f.config.engine else { return };
    let mut db = PgConnection::connect(url).await.unwrap();
    let collation = "SELECT collation_name::text FROM information_schema.columns
        WHERE table_name = 'plain_retained' AND column_name = 'topic'";
    let collation: Option<String> = sqlx::query_scalar(collation).fetch_one(&mut db).await.unwrap();
    assert_eq!(collation.as_deref(), Some("C"));
}

async fn an_expired_retained_message_is_not_there(f: Fixture) {
    let user = f.user("owner").await;
    let end = Timestamp(f.now().0 + 10_000);
    let expiring = PlainMessage { expires_at: Some(end), ..message("t", "x") };
    retain(&f, user, expiring.clone()).await.unwrap();
    for which in [Retained::Of(expiring.topic.clone()), Retained::Below("users/me/x/".into())] {
        let at = async |at| f.store.list_retained(user, which.clone(), at).await.unwrap().len();
        assert_eq!((at(Timestamp(end.0 - 1)).await, at(end).await), (1, 0));
    }
    f.store.prune_sessions(Timestamp(end.0 - 1)).await.unwrap();
    assert_eq!(of(&f, user, &expiring.topic).await.len(), 1);
    f.store.prune_sessions(end).await.unwrap();
    assert!(of(&f, user, &expiring.topic).await.is_empty(), "house-keeping deletes it");
}

async fn retained_messages_are_bounded_in_number(f: Fixture) {
    let user = f.user("owner").await;
    let end = Timestamp(f.now().0 + 1_000_000);
    let mut commits = Vec::new();
    for n in 0..MAX_RETAINED {
        let expires_at = (n == 0).then_some(end);
        let message = PlainMessage { expires_at, retain: true, ..message(&n.to_string(), "x") };
        commits.push(f.store.publish_plain(publish(&f, user, message, &[])).await.unwrap());
    }
    for commit in commits {
        commit.await.unwrap();
    }
    assert_eq!(code(retain(&f, user, message("more", "x")).await), ErrorCode::RetainedFull);
    assert!(of(&f, user, "users/me/x/more").await.is_empty());
    retain(&f, user, message("7", "replaced")).await.unwrap();
    let after_the_end = PlainMessage { retain: true, ..message("more", "x") };
    let publication = PublishPlain { at: end, ..publish(&f, user, after_the_end, &[]) };
    run(&f, publication).await.expect("one that has expired takes no room");
    retain(&f, user, message("7", "")).await.unwrap();
    retain(&f, user, message("8", "")).await.unwrap();
    retain(&f, user, message("again", "x")).await.expect("there is room again");
    let other = f.user("other").await;
    retain(&f, other, message("t", "x")).await.expect("the bound is each user's");
}

async fn retained_messages_are_bounded_in_bytes(f: Fixture) {
    let user = f.user("owner").await;
    let large = |topic: String| message(&topic, vec![0; MAX_PAYLOAD]);
    let size = large("00".into()).size() as u64;
    let fit = MAX_RETAINED_BYTES / size;
    for n in 0..fit {
        retain(&f, user, large(format!("{n:02}"))).await.unwrap();
    }
    // Nothing of what is refused happens.
    let device = f.login(user, "phone").await.1.id;
    let session = super::open(&f, (user, device), "a").await.fence.session;
    let refused = PlainMessage { retain: true, ..large("xx".into()) };
    let publication = PublishPlain { received: Some((session, 1)), ..publish(&f, user, refused, &[session]) };
    assert_eq!(code(run(&f, publication.clone()).await), ErrorCode::RetainedFull);
    assert!(super::places(&f, session).await.is_empty() && f.relay.take_plain().is_empty());
    let unretained = PublishPlain { retain: false, ..publication };
    assert_eq!(run(&f, unretained).await.unwrap(), PublishedPlain::Now, "its packet identifier is free");
    retain(&f, user, large("00".into())).await.expect("one may be replaced by another as large");
    let rest = MAX_RETAINED_BYTES - fit * size;
    let exact = |over: u64| message("yy", vec![0; (rest - message("yy", "").size() as u64 + over) as usize]);
    assert_eq!(code(retain(&f, user, exact(1)).await), ErrorCode::RetainedFull);
    retain(&f, user, exact(0)).await.expect("exactly as much as there may be");
}

/// A publication that was on its way when the account was deleted.
async fn a_deleted_account_keeps_nothing(f: Fixture) {
    let alice = f.user("alice").await;
    let verified = f.store.find_password_hash(alice).await.unwrap().expect("a password");
    let at = f.now();
    let delete = DeleteUser {
        user: alice,
        verified,
        alias: Username::stored("deleted.1".into()),
        reserved_until: at,
        at,
    };
    f.store.delete_user(delete).await.unwrap();
    retain(&f, alice, message("late", "late")).await.unwrap();
    assert!(of(&f, alice, "late").await.is_empty());
}
