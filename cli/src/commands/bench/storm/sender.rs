//! Those who stay and send, at a steady rate, whatever the server does.

use super::{
    client::{Client, Credentials, Packet},
    world::World,
};
use crate::commands::bench::Target;
use anyhow::{Context, ensure};
use serde_json::json;
use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The last acknowledgements must have come by then.
const PATIENCE: Duration = Duration::from_mins(1);

/// Connections of all who send.
pub(super) struct Senders(Vec<Sender>);

struct Sender {
    client: Client,
    /// Chats by their place among all, with the topic to publish to.
    chats: Vec<(usize, String)>,
    next_id: u16,
    next_chat: usize,
}

/// What was sent.
#[derive(Default)]
pub(super) struct Sent {
    /// From the moment at which it should have been sent to the PUBACK, in microseconds.
    pub latencies: Vec<u32>,
    /// The new end of each chat's log.
    pub ends: HashMap<usize, u64>,
}

impl Senders {
    pub async fn connect(target: &Target, world: &World) -> anyhow::Result<Self> {
        let mut senders = Vec::new();
        for (n, account) in world.senders.iter().enumerate() {
            let credentials = Credentials {
                username: account.user_id.clone(),
                password: account.mqtt_password.clone(),
                client_id: format!("storm-sender-{n}"),
                expiry_secs: 0,
            };
            let (client, _) = Client::connect(target.mqtt, &credentials).await?;
            let user = world.users.len() + n;
            let chats: Vec<_> = world
                .chats
                .iter()
                .enumerate()
                .filter(|(_, chat)| chat.between.contains(&user))
                .map(|(place, chat)| (place, format!("chats/{}/send", chat.id)))
                .collect();
            if !chats.is_empty() {
                senders.push(Sender { client, chats, next_id: 0, next_chat: 0 });
            }
        }
        Ok(Self(senders))
    }

    /// Sends so many messages per second, all together, until `stop`; answers when each is acknowledged.
    pub async fn send(self, rate: u32, stop: CancellationToken) -> anyhow::Result<Sent> {
        let count = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        let each = Duration::from_secs(1) * count / rate;
        let mut tasks = JoinSet::new();
        for (n, sender) in (0u32..).zip(self.0) {
            // Not all at the same moment.
            let begin = Instant::now() + each * n / count;
            tasks.spawn(sender.send(begin, each, stop.clone()));
        }
        let mut all = Sent::default();
        while let Some(sent) = tasks.join_next().await {
            let Sent { latencies, ends } = sent.context("a task panicked")??;
            all.latencies.extend(latencies);
            all.ends.extend(ends);
        }
        all.latencies.sort_unstable();
        Ok(all)
    }
}

impl Sender {
    async fn send(
        mut self,
        begin: Instant,
        every: Duration,
        stop: CancellationToken,
    ) -> anyhow::Result<Sent> {
        let mut sent = Sent::default();
        let (mut waiting, mut in_flight) = (VecDeque::new(), HashMap::new());
        let (mut next, mut stopped) = (begin, None::<Instant>);
        while stopped.is_none() || !waiting.is_empty() || !in_flight.is_empty() {
            ensure!(stopped.is_none_or(|at| at.elapsed() < PATIENCE), "messages were not acknowledged");
            while in_flight.len() < usize::from(self.client.receive_maximum)
                && let Some(due) = waiting.pop_front()
            {
                let chat = self.publish().await?;
                in_flight.insert(self.next_id, (due, chat));
            }
            let deadline = stopped.map_or(next, |at| at + PATIENCE);
            tokio::select! {
                () = stop.cancelled(), if stopped.is_none() => stopped = Some(Instant::now()),
                () = tokio::time::sleep_until(deadline.into()) => if stopped.is_none() {
                    waiting.push_back(next);
                    next += every;
                },
                filled = self.client.fill() => {
                    filled.context("the connection of one who sends")?;
                    let mut refused = None;
                    self.client.handle(|packet| {
                        let Packet::PubAck { id, reason, seq } = packet else { return };
                        let Some((due, chat)) = in_flight.remove(&id) else { return };
                        match seq {
                            Some(seq) if reason == 0 => {
                                let latency = Instant::elapsed(&due);
                                sent.latencies.push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
                                let end = sent.ends.entry(chat).or_default();
                                *end = seq.max(*end);
                            }
                            _ => refused = Some(reason),
                        }
                    }).await?;
                    ensure!(refused.is_none(), "a message was refused: {refused:?}");
                }
            }
        }
        Ok(sent)
    }

    /// Publishes into the next chat; answers which.
    async fn publish(&mut self) -> anyhow::Result<usize> {
        self.next_id = if self.next_id == u16::MAX { 1 } else { self.next_id + 1 };
        let (chat, topic) = &self.chats[self.next_chat];
        self.next_chat = (self.next_chat + 1) % self.chats.len();
        let body = json!({ "type": "TEXT", "text": "something that is said while others return" });
        self.client.publish(topic, self.next_id, body.to_string().as_bytes()).await?;
        Ok(*chat)
    }
}
