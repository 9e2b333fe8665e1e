//! A session that drops and returns, and what all of them have come to.

use super::client::{Client, Credentials, Packet};
use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// What the sessions do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Connected,
    Away,
    Returned,
    Ended,
}

/// A CONNACK must have come by then.
const CONNECT_TIMEOUT: Duration = Duration::from_mins(1);
/// Pause before a connection is tried again, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// How many there were of something, and when the last of them came.
#[derive(Default)]
pub(super) struct Count {
    pub number: AtomicU64,
    /// Microseconds after the beginning of the storm.
    last: AtomicU64,
}

impl Count {
    fn add(&self, since: Option<&Instant>) {
        self.number.fetch_add(1, Relaxed);
        if let Some(since) = since {
            self.last.fetch_max(u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX), Relaxed);
        }
    }

    pub fn get(&self) -> u64 {
        self.number.load(Relaxed)
    }

    pub fn last_seconds(&self) -> f64 {
        self.last.load(Relaxed) as f64 / 1e6
    }
}

/// All sessions together.
pub(super) struct Tally {
    /// The storm begins.
    pub begin: OnceLock<Instant>,
    /// Per chat, the end of its log when the storm began.
    pub missed: Vec<AtomicU64>,
    /// Sessions back with their CONNACK.
    pub connected: Count,
    /// Of those, sessions that the server did not know any more.
    pub absent: Count,
    /// Connections that were tried and did not come to a CONNACK.
    pub refused: Count,
    /// Connections that ended while they should have lasted.
    pub interrupted: Count,
    /// Rows of chats' logs, each once per session.
    pub received: Count,
    /// Of those, the ones that were missed.
    pub caught_up: Count,
    /// Rows that came again.
    pub duplicates: Count,
    /// Rows that came before an earlier one.
    pub reordered: Count,
    /// Why a connection was refused or interrupted.
    trouble: Mutex<Option<String>>,
}

impl Tally {
    pub fn new(chats: usize) -> Self {
        Self {
            begin: OnceLock::new(),
            missed: (0..chats).map(|_| AtomicU64::new(0)).collect(),
            connected: Count::default(),
            absent: Count::default(),
            refused: Count::default(),
            interrupted: Count::default(),
            received: Count::default(),
            caught_up: Count::default(),
            duplicates: Count::default(),
            reordered: Count::default(),
            trouble: Mutex::default(),
        }
    }

    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, count: &Count, error: &anyhow::Error) {
        count.add(None);
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("{error:#}"));
    }
}

/// How far a session has come in one chat.
struct Position {
    /// Everything up to here.
    received: u64,
    /// And this.
    ahead: HashSet<u64>,
}

/// One session.
pub(super) struct Session {
    server: SocketAddr,
    credentials: Credentials,
    /// By their ids: the place among the session's, and among all.
    chats: Arc<HashMap<String, (usize, usize)>>,
    positions: Vec<Position>,
    tally: Arc<Tally>,
    returned: bool,
}

impl Session {
    pub fn new(
        server: SocketAddr,
        credentials: Credentials,
        chats: Arc<HashMap<String, (usize, usize)>>,
        beginnings: &[u64],
        tally: Arc<Tally>,
    ) -> Self {
        let mut positions: Vec<Position> =
            chats.iter().map(|_| Position { received: 0, ahead: HashSet::new() }).collect();
        for (place, chat) in chats.values() {
            positions[*place].received = beginnings[*chat];
        }
        Self { server, credentials, chats, positions, tally, returned: false }
    }

    /// Connects for the first time and subscribes.
    pub async fn begin(&self, user_id: &str) -> anyhow::Result<Client> {
        let (mut client, _) = Client::connect(self.server, &self.credentials).await?;
        let events = format!("users/{user_id}/events");
        client.subscribe(&["chats/+/messages", &events, "chats/+/receipts", "users/+/presence"]).await?;
        Ok(client)
    }

    /// Does as the phases say, until the last one.
    pub async fn live(mut self, client: Client, mut phases: watch::Receiver<Phase>) {
        let mut client = Some(client);
        loop {
            let phase = *phases.borrow_and_update();
            client = match (phase, client) {
                (Phase::Ended, _) => return,
                (Phase::Away, client) => {
                    drop(client);
                    if phases.changed().await.is_err() {
                        return;
                    }
                    None
                }
                (Phase::Connected | Phase::Returned, None) => self.come_back(&mut phases).await,
                (Phase::Connected | Phase::Returned, Some(client)) => self.attend(client, &mut phases).await,
            };
        }
    }

    /// Tries until it is connected; `None`: the phase has changed.
    async fn come_back(&mut self, phases: &mut watch::Receiver<Phase>) -> Option<Client> {
        let mut pause = FIRST_PAUSE;
        loop {
            let connect =
                tokio::time::timeout(CONNECT_TIMEOUT, Client::connect(self.server, &self.credentials));
            let error = match connect.await {
                Ok(Ok((client, present))) => {
                    if !std::mem::replace(&mut self.returned, true) {
                        self.tally.connected.add(self.tally.begin.get());
                    }
                    if !present {
                        self.tally.absent.add(None);
                    }
                    return Some(client);
                }
                Ok(Err(error)) => error,
                Err(_) => anyhow::anyhow!("no CONNACK within {CONNECT_TIMEOUT:?}"),
            };
            self.tally.note(&self.tally.refused, &error);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = phases.changed() => return None,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Receives; `None`: the connection has ended.
    async fn attend(&mut self, mut client: Client, phases: &mut watch::Receiver<Phase>) -> Option<Client> {
        loop {
            tokio::select! {
                _ = phases.changed() => return Some(client),
                filled = client.fill() => {
                    let handled = match filled {
                        Ok(()) => client.handle(|packet| self.receive(&packet)).await,
                        Err(error) => Err(error),
                    };
                    if let Err(error) = handled {
                        self.tally.note(&self.tally.interrupted, &error);
                        return None;
                    }
                }
            }
        }
    }

    fn receive(&mut self, packet: &Packet<'_>) {
        let Packet::Publish { topic, payload, .. } = packet else { return };
        let chat = topic.strip_prefix("chats/").and_then(|rest| rest.strip_suffix("/messages"));
        let Some(&(place, chat)) = chat.and_then(|chat| self.chats.get(chat)) else { return };
        let Some(seq) = find_seq(payload) else { return };
        let (position, tally) = (&mut self.positions[place], &self.tally);
        if seq <= position.received || position.ahead.contains(&seq) {
            tally.duplicates.add(None);
            return;
        }
        if seq == position.received + 1 {
            position.received = seq;
            while position.ahead.remove(&(position.received + 1)) {
                position.received += 1;
            }
        } else {
            position.ahead.insert(seq);
            tally.reordered.add(None);
        }
        tally.received.add(tally.begin.get());
        if tally.begin.get().is_some() && seq <= tally.missed[chat].load(Relaxed) {
            tally.caught_up.add(tally.begin.get());
        }
    }
}

/// The `seq` of an event's envelope, which comes before everything that has one of its own. Reading all of the JSON would cost
/// more than the server's part.
fn find_seq(payload: &[u8]) -> Option<u64> {
    const KEY: &[u8] = b"\"seq\":";
    let at = payload.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let digits = payload[at..].iter().take_while(|byte| byte.is_ascii_digit());
    let number = digits.fold(0u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_in_the_log_is_found() {
        let event =
            br#"{"v":1,"event":"new-message","id":"x","at":"x","seq":17,"chatId":"x","message":{"seq":18}}"#;
        assert_eq!(find_seq(event), Some(17));
        assert_eq!(find_seq(b"{}"), None);
    }
}
