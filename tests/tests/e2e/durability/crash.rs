//! `kill -9` of the real process, under load, at random moments.

use crate::text;
use curlew_tests::{
    Actor, Chat, Protocol, RawClient, TestServer, Value, both_engines,
    mqtt::raw::{Connect, Packet},
    server::Endpoints,
    wait::eventually,
};
use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    hash::{BuildHasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinSet;

const ROUNDS: usize = 20;
const PUBLISHERS: usize = 8;
/// Unacknowledged publications of one publisher at a time.
const PIPELINE: usize = 32;
/// The server is killed between its first acknowledgement and this much later.
const LONGEST_ROUND: Duration = Duration::from_millis(250);

/// A message on its way: where to, and its `localId`, which is its text, too.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Outgoing {
    chat: Chat,
    local_id: String,
}

/// What the server promised by acknowledging.
#[derive(Debug)]
struct Promise {
    outgoing: Outgoing,
    id: String,
    seq: u64,
}

/// A client that sends as fast as its pipeline allows, and after a crash sends again what was not acknowledged.
struct Publisher {
    name: String,
    endpoints: Arc<Endpoints>,
    connect: Connect,
    chats: Vec<Chat>,
    made: usize,
    /// Sent or to be sent, not acknowledged: oldest first.
    pending: VecDeque<Outgoing>,
    promises: Vec<Promise>,
}

impl Publisher {
    fn new(number: usize, actor: &Actor, server: &TestServer, chats: Vec<Chat>) -> Self {
        let name = format!("{}-{number}", actor.username);
        let connect = actor.credentials(Connect { client_id: name.clone(), ..Connect::default() });
        let endpoints = Arc::clone(server.endpoints());
        Self { name, endpoints, connect, chats, made: 0, pending: VecDeque::new(), promises: Vec::new() }
    }

    /// Sends until the connection breaks; with `more` false only what is pending, and returns when it is acknowledged.
    async fn run(&mut self, acknowledged: &AtomicU64, more: bool) {
        let Ok(mut raw) = RawClient::try_open(self.endpoints.mqtt(), Protocol::V5).await else { return };
        let Some((_, code, properties)) = raw.try_connect(&self.connect).await else { return };
        assert_eq!(code, 0, "CONNECT is accepted: {properties:?}");
        // By packet identifier; resent ones first, in their order.
        let mut in_flight: HashMap<u16, Outgoing> = HashMap::new();
        let mut unsent = self.pending.clone();
        let mut packet_id = 0;
        loop {
            let mut burst = Vec::new();
            while in_flight.len() < PIPELINE {
                let Some(outgoing) = unsent.pop_front().or_else(|| more.then(|| self.make())) else { break };
                packet_id = packet_id % u16::MAX + 1;
                let body = text(&outgoing.local_id, &outgoing.local_id);
                burst.extend(raw.encode_publish(
                    &crate::send_topic(&outgoing.chat),
                    &body,
                    1,
                    packet_id,
                    false,
                ));
                in_flight.insert(packet_id, outgoing);
            }
            raw.write(&burst).await;
            if in_flight.is_empty() {
                return raw.disconnect().await;
            }
            match raw.read().await {
                Some(Packet::PubAck { id, reason: 0, properties }) => {
                    let outgoing = in_flight.remove(&id).expect("what is acknowledged was sent");
                    self.pending.retain(|pending| *pending != outgoing);
                    let id = properties.user("messageId").expect("an id").to_owned();
                    let seq = properties.user("seq").and_then(|seq| seq.parse().ok()).expect("a seq");
                    self.promises.push(Promise { outgoing, id, seq });
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
                None => return,
                other => panic!("instead of PUBACK: {other:?}"),
            }
        }
    }

    fn make(&mut self) -> Outgoing {
        self.made += 1;
        let chat = self.chats[self.made % self.chats.len()].clone();
        let outgoing = Outgoing { chat, local_id: format!("{}-{}", self.name, self.made) };
        self.pending.push_back(outgoing.clone());
        outgoing
    }
}

/// The logs as read so far.
#[derive(Default)]
struct Logs {
    read_up_to: HashMap<Chat, u64>,
    /// Where each message is.
    stored: HashMap<Outgoing, (String, u64)>,
}

impl Logs {
    /// Reads on, and checks that `seq` has no gaps, time does not run backwards and no `localId` is stored twice.
    async fn read_on(&mut self, reader: &Actor, chats: &[Chat]) {
        for chat in chats {
            let end = self.read_up_to.entry(chat.clone()).or_default();
            let mut at = String::new();
            for event in reader.events_after(chat, *end).await {
                *end += 1;
                assert_eq!(event["seq"], *end, "a gap in the log: {event}");
                let now = event["at"].as_str().expect("a time");
                assert!(*now >= *at, "time runs backwards: {event}");
                now.clone_into(&mut at);
                if event["event"] == "new-message" {
                    let local_id = event["message"]["text"].as_str().expect("a text").to_owned();
                    let outgoing = Outgoing { chat: chat.clone(), local_id };
                    let place = (event["id"].as_str().expect("an id").to_owned(), *end);
                    let earlier = self.stored.insert(outgoing, place);
                    assert_eq!(earlier, None, "stored twice: {event}");
                }
            }
        }
    }

    fn assert_kept(&self, promise: &Promise) {
        let Promise { outgoing, id, seq } = promise;
        let stored = self.stored.get(outgoing);
        assert_eq!(stored, Some(&(id.clone(), *seq)), "acknowledged and not there: {promise:?}");
    }
}

fn random_moment() -> Duration {
    let random = RandomState::new().hash_one(0);
    LONGEST_ROUND.mul_f64((random % 1000) as f64 / 1000.0)
}

both_engines! {
    async fn no_acknowledged_message_is_lost_by_kill_9_under_load(server) {
        let [alice, bob, carol, dave] = server.contacts(["alice", "bob", "carol", "dave"]).await;
        let one = alice.group("one", &[&bob, &carol, &dave]).await;
        let other = alice.group("other", &[&bob, &carol, &dave]).await;
        let private = alice.private_chat(&bob).await;
        let mut publishers: Vec<_> = (0..PUBLISHERS)
            .map(|number| {
                let actor = [&alice, &bob, &carol, &dave][number % 4];
                let mut chats = vec![one.clone(), other.clone()];
                if number % 4 < 2 {
                    chats.push(private.clone());
                }
                Publisher::new(number, actor, &server, chats)
            })
            .collect();

        let mut logs = Logs::default();
        let chats = [one, other, private];
        for round in 0..=ROUNDS {
            let last = round == ROUNDS;
            let acknowledged = Arc::new(AtomicU64::new(0));
            let mut running = JoinSet::new();
            for mut publisher in publishers.drain(..) {
                let acknowledged = Arc::clone(&acknowledged);
                running.spawn(async move {
                    publisher.run(&acknowledged, !last).await;
                    publisher
                });
            }
            if !last {
                eventually("the first acknowledgement", async || {
                    (acknowledged.load(Ordering::Relaxed) > 0).then_some(())
                })
                .await;
                tokio::time::sleep(random_moment()).await;
                server.kill();
            }
            publishers.extend(running.join_all().await);
            if !last {
                server.start_again().await;
            }
            logs.read_on(&alice, &chats).await;
            publishers.iter_mut().flat_map(|p| p.promises.drain(..)).for_each(|promise| logs.assert_kept(&promise));
        }
        let unacknowledged: usize = publishers.iter().map(|publisher| publisher.pending.len()).sum();
        assert_eq!(unacknowledged, 0, "in the end everything is acknowledged");
        let made: usize = publishers.iter().map(|publisher| publisher.made).sum();
        assert_eq!(logs.stored.len(), made, "everything sent is there, and nothing else");
        assert!(made > ROUNDS * PUBLISHERS, "there was load: {made} messages");
    }

    async fn a_subscriber_misses_nothing_across_crashes(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        bob.connect().await;
        let mut publisher = Publisher::new(0, &alice, &server, vec![chat.clone()]);
        let mut received: Vec<Value> = Vec::new();
        for _ in 0..4 {
            let acknowledged = Arc::new(AtomicU64::new(0));
            let counter = Arc::clone(&acknowledged);
            let running = tokio::spawn(async move {
                publisher.run(&counter, true).await;
                publisher
            });
            // Bob has some of it when the server dies.
            received.push(bob.expect_event("new-message").await.json);
            tokio::time::sleep(random_moment()).await;
            server.kill();
            publisher = running.await.expect("a publisher does not panic");
            bob.mqtt().await.closed().await;
            received.extend(bob.mqtt().await.arrived().into_iter().filter(curlew_tests::Received::is_of_a_chat).map(|r| r.json));
            server.start_again().await;
            bob.connect().await;
            assert!(bob.mqtt().await.session_present(), "the session outlives the crash");
        }
        let sentinel = alice.post(&chat, "sentinel").await;
        received.extend(bob.rows_until(&sentinel).await.into_iter().map(|r| r.json));

        // At least once, in order: each row's first coming follows its predecessor's, and whatever comes again is the same.
        let mut known: BTreeMap<u64, String> = BTreeMap::new();
        for row in &received {
            let seq = row["seq"].as_u64().expect("a seq");
            let id = row["id"].as_str().expect("an id").to_owned();
            if let Some(same) = known.get(&seq) { assert_eq!(*same, id, "another row at {seq}") } else {
                let expected = known.len() as u64 + 1;
                assert_eq!(seq, expected, "a row was missed or came early");
                known.insert(seq, id);
            }
        }
        assert_eq!(known.len() as u64 + 1, sentinel.seq, "everything before the sentinel has come");
        let log: HashSet<_> = alice.events(&chat).await.iter().map(|e| e["id"].as_str().unwrap_or_default().to_owned()).collect();
        assert!(known.values().all(|id| log.contains(id)), "what was delivered is in the log");
    }
}
