//! Delivered and read. Watermarks are committed first and announced after.

use super::Base;
use crate::{
    clock::Timestamp,
    error::{Error, Result},
    event::{Event, EventBody},
    ids::{ChatId, Seq, SessionId, UserId},
    receipt::{Concerned, Counts, Raise, Raised, Status, status_of},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How long acknowledgements of devices are collected before they are stored: in private chats, and where the chat's size is
/// not known yet …
const PRIVATE: Duration = Duration::from_millis(100);
/// … in groups of up to [`SMALL_GROUP`] …
const SMALL: Duration = Duration::from_secs(1);
/// … and above.
const LARGE: Duration = Duration::from_secs(5);
/// Stays of a group, former ones included, up to which it is small.
const SMALL_GROUP: usize = 64;
/// Most (chat, user) pairs that wait; beyond it nobody waits.
const MAX_PENDING: usize = 16_384;
/// Chats whose size is remembered; beyond it all are forgotten.
const MAX_SIZES: usize = 16_384;
/// Raises per transaction.
const FLUSH_BATCH: usize = 256;

/// An acknowledgement that waits to be stored.
struct Pending {
    seq: Seq,
    due: Timestamp,
}

/// Delivered and read.
pub struct Receipts {
    base: Base,
    pending: Mutex<HashMap<(ChatId, UserId), Pending>>,
    /// How long acknowledgements of a chat are collected, as learned from the last ones stored.
    delays: Mutex<HashMap<ChatId, Duration>>,
    wake: Notify,
}

impl Receipts {
    /// The service. Run [`Self::run`] beside it.
    pub fn new(base: Base) -> Self {
        Self { base, pending: Mutex::default(), delays: Mutex::default(), wake: Notify::new() }
    }

    /// Raises the user's watermarks; durable when it returns. `None` for a bound = leave it; `u64::MAX` = the present end.
    /// `origin` is the session it came from, which is not told what it knows.
    pub async fn raise(
        &self,
        user: UserId,
        chat: ChatId,
        delivered: Option<Seq>,
        read: Option<Seq>,
        origin: Option<SessionId>,
    ) -> Result<()> {
        let raise = Raise { chat, user, delivered, read };
        let mut outcomes = self.base.store.raise_watermarks(vec![raise], self.base.now()).await?.await?;
        let raised = outcomes.pop().ok_or_else(|| Error::Internal("a raise without outcome".into()))??;
        self.announce(&raised, origin);
        Ok(())
    }

    /// A session of `user` acknowledged the chat's log up to `seq`: coalesced, stored soon, never waited for. What a crash
    /// swallows is made good by the next acknowledgement.
    pub fn acknowledged(&self, user: UserId, chat: ChatId, seq: Seq) {
        let delay = lock(&self.delays).get(&chat).copied().unwrap_or(PRIVATE);
        let due = self.base.now().plus(delay);
        let mut pending = lock(&self.pending);
        let known = pending.entry((chat, user)).or_insert(Pending { seq, due });
        known.seq = seq.max(known.seq);
        drop(pending);
        self.wake.notify_one();
    }

    /// Stores what [`Self::acknowledged`] collected as it falls due until `stop`, and the rest then.
    pub async fn run(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if lock(&self.pending).is_empty() {
                tokio::select! {
                    () = self.wake.notified() => {}
                    () = stop.cancelled() => break,
                }
            }
            // The shortest delay is also the grain of the longer ones.
            tokio::select! {
                () = tokio::time::sleep(PRIVATE) => {}
                () = stop.cancelled() => break,
            }
            let now = self.base.now();
            let full = lock(&self.pending).len() >= MAX_PENDING;
            self.flush(|pending| full || pending.due <= now).await;
        }
        self.flush(|_| true).await;
    }

    async fn flush(&self, due: impl Fn(&Pending) -> bool) {
        let raises: Vec<_> = lock(&self.pending)
            .extract_if(|_, pending| due(pending))
            .map(|((chat, user), pending)| Raise { chat, user, delivered: Some(pending.seq), read: None })
            .collect();
        for batch in raises.chunks(FLUSH_BATCH) {
            let outcome = match self.base.store.raise_watermarks(batch.to_vec(), self.base.now()).await {
                Ok(commit) => commit.await,
                Err(error) => Err(error),
            };
            match outcome {
                // A refusal: the member left meanwhile.
                Ok(raised) => raised.iter().flatten().for_each(|raised| {
                    self.learn_delay(raised);
                    self.announce(raised, None);
                }),
                Err(error) => {
                    tracing::warn!(%error, raises = batch.len(), "delivered watermarks are stored later");
                    for raise in batch {
                        self.acknowledged(raise.user, raise.chat, raise.delivered.unwrap_or(0));
                    }
                }
            }
        }
    }

    fn learn_delay(&self, raised: &Raised) {
        let delay = match raised.marks.len() {
            _ if !raised.group => return,
            // Nobody was concerned: the size was not read.
            0 => return,
            1..=SMALL_GROUP => SMALL,
            _ => LARGE,
        };
        let mut delays = lock(&self.delays);
        if delays.len() >= MAX_SIZES {
            delays.clear();
        }
        delays.insert(raised.chat, delay);
    }

    fn announce(&self, raised: &Raised, origin: Option<SessionId>) {
        let mut newest: HashMap<UserId, Seq> = HashMap::new();
        for Concerned { sender, newest: seq, .. } in raised.delivered_of.iter().chain(&raised.read_of) {
            let known = newest.entry(*sender).or_default();
            *known = (*known).max(*seq);
        }
        for (sender, seq) in newest {
            let hides = raised.hiding.contains(&sender);
            let body = if raised.group {
                let Counts { delivered, read, of } = Counts::of_message(&raised.marks, sender, seq);
                let read = if hides { 0 } else { read };
                EventBody::GroupMessageStatus { message_seq: seq, delivered, read, of }
            } else {
                let status = status_of(&raised.marks, sender, seq);
                let status = if hides { status.min(Status::Delivered) } else { status };
                EventBody::MessageStatus { message_seq: seq, status }
            };
            self.tell(raised.chat, sender, body, None);
        }
        for concerned in raised.delivered_of.iter().filter(|concerned| concerned.count > 1) {
            let body =
                EventBody::MessagesDelivered { up_to_seq: raised.shown_delivered.1, user_id: raised.user };
            self.tell(raised.chat, concerned.sender, body, None);
        }
        if raised.read.1 > raised.read.0 {
            let body =
                EventBody::ReadElsewhere { read_seq: raised.read.1, unread_count: raised.unread_count };
            self.tell(raised.chat, raised.user, body, origin);
        }
    }

    fn tell(&self, chat: ChatId, to: UserId, body: EventBody, except: Option<SessionId>) {
        let event = Event::live(self.base.entropy.uuid(), self.base.now(), Some(chat), body);
        self.base.relay.notify(to, Arc::new(event), except);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
