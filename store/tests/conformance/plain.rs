//! The plain lane.

mod publish;
mod queue;
mod retained;
mod together;
mod wills;

use crate::{
    harness::Fixture,
    sessions::{connect, device},
};
use curlew_domain::{
    Result,
    ids::{DeviceId, Seq, SessionId, UserId},
    plain::{
        PlainMessage, PlainProperties, PublishPlain, PublishedPlain, Qos, QueuedMessage, Recipient, Settle,
    },
    ports::store::{Plain, Sessions},
    session::{CloseSession, Cursors, OpenSession, OpenedSession, SessionFence},
};
use curlew_store::Engine;
use sqlx::{Connection, PgConnection, Row, SqliteConnection};
use std::sync::Arc;

type Owner = (UserId, DeviceId);

/// A message at QoS 1 in somebody's lane.
fn message(topic: &str, payload: impl Into<Vec<u8>>) -> PlainMessage {
    PlainMessage {
        topic: format!("users/me/x/{topic}"),
        payload: payload.into().into(),
        qos: Qos::AtLeastOnce,
        retain: false,
        properties: PlainProperties::default(),
        expires_at: None,
    }
}

fn publish(f: &Fixture, user: UserId, message: PlainMessage, queue: &[SessionId]) -> PublishPlain {
    PublishPlain {
        user,
        retain: message.retain,
        message: Arc::new(message),
        queue: queue.iter().copied().map(recipient).collect(),
        live: Vec::new(),
        received: None,
        will: None,
        at: f.now(),
    }
}

fn recipient(session: SessionId) -> Recipient {
    Recipient { session, qos: Qos::AtLeastOnce, retain: false, subscription_ids: Vec::new() }
}

async fn run(f: &Fixture, publish: PublishPlain) -> Result<PublishedPlain> {
    f.store.publish_plain(publish).await.unwrap().await
}

/// Publishes so many messages to one queue.
async fn fill(f: &Fixture, user: UserId, session: SessionId, payloads: impl IntoIterator<Item = Vec<u8>>) {
    let mut commits = Vec::new();
    for payload in payloads {
        let publish = publish(f, user, message("t", payload), &[session]);
        commits.push(f.store.publish_plain(publish).await.unwrap());
    }
    for commit in commits {
        assert_eq!(commit.await.unwrap(), PublishedPlain::Now);
    }
}

async fn open(f: &Fixture, owner: Owner, client: &str) -> OpenedSession {
    f.store.open_session(connect(f, owner, client)).await.unwrap()
}

async fn open_clean(f: &Fixture, owner: Owner, client: &str) -> OpenedSession {
    f.store.open_session(OpenSession { clean_start: true, ..connect(f, owner, client) }).await.unwrap()
}

/// The connection is lost.
fn ending(f: &Fixture, fence: SessionFence) -> CloseSession {
    CloseSession {
        fence,
        cursors: Some(Cursors::new()),
        expiry_secs: 100,
        settle: Settle::default(),
        left_at: curlew_domain::clock::Timestamp(0),
        discard_will: false,
        at: f.now(),
    }
}

async fn queued(f: &Fixture, session: SessionId) -> Vec<QueuedMessage> {
    let page = f.store.list_queued(session, 0, 10_000, usize::MAX).await.unwrap();
    assert!(!page.more);
    page.messages
}

async fn places(f: &Fixture, session: SessionId) -> Vec<Seq> {
    queued(f, session).await.iter().map(|queued| queued.seq).collect()
}

/// What is counted of a queue: messages, bytes, and how many it lost; messages and bytes are what is in it.
async fn db_counts(f: &Fixture, session: SessionId) -> (i64, i64, i64) {
    const COUNTS: &str = "SELECT q.messages, q.bytes, q.dropped,
        (SELECT COUNT(*) FROM plain_queue m WHERE m.session_id = q.session_id),
        (SELECT CAST(COALESCE(SUM(m.size), 0) AS BIGINT) FROM plain_queue m WHERE m.session_id = q.session_id)
        FROM plain_queues q WHERE q.session_id = $1";
    let id = session.uuid().as_bytes().to_vec();
    let counts: Vec<i64> = match &f.config.engine {
        Engine::Sqlite(path) => {
            let mut db = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
            let row = sqlx::query(COUNTS).bind(id).fetch_one(&mut db).await.unwrap();
            (0..5).map(|n| row.get(n)).collect()
        }
        Engine::Postgres(url) => {
            let mut db = PgConnection::connect(url).await.unwrap();
            let row = sqlx::query(COUNTS).bind(id).fetch_one(&mut db).await.unwrap();
            (0..5).map(|n| row.get(n)).collect()
        }
    };
    assert_eq!((counts[0], counts[1]), (counts[3], counts[4]), "the counts are those of what is there");
    (counts[0], counts[1], counts[2])
}
