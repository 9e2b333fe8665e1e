//! What waits between a lane and a connection.

use curlew_domain::{
    ids::Seq,
    plain::{MAX_QUEUED, MAX_QUEUED_BYTES, PlainMessage, QueuedMessage, Recipient},
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A message on its way to one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What.
    pub message: Arc<PlainMessage>,
    /// How.
    pub recipient: Recipient,
    /// Its place in the session's queue, if it waits there, too, until it is acknowledged.
    pub seq: Option<Seq>,
    /// QoS 2: only PUBREL is due.
    pub released: bool,
}

impl From<QueuedMessage> for Item {
    fn from(queued: QueuedMessage) -> Self {
        let QueuedMessage { seq, message, recipient, released } = queued;
        Self { message, recipient, seq: Some(seq), released }
    }
}

impl Item {
    /// One that waits nowhere else.
    pub fn live(message: Arc<PlainMessage>, recipient: Recipient) -> Self {
        Self { message, recipient, seq: None, released: false }
    }
}

/// The queue of one connection, bounded by [`MAX_QUEUED`] messages and [`MAX_QUEUED_BYTES`]: beyond, the oldest goes. One
/// that waits in the store is met there again.
#[derive(Debug, Default)]
pub struct Waiting(Mutex<Queue>);

#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<Item>,
    bytes: u64,
}

impl Waiting {
    /// Adds an item.
    pub fn push(&self, item: Item) {
        let mut queue = self.lock();
        queue.bytes += item.message.size() as u64;
        queue.items.push_back(item);
        while queue.items.len() > MAX_QUEUED as usize
            || (queue.bytes > MAX_QUEUED_BYTES && queue.items.len() > 1)
        {
            if queue.pop().is_some_and(|item| item.seq.is_none()) {
                metrics::counter!("curlew_plain_dropped_total", "reason" => "slow").increment(1);
            }
        }
    }

    /// Takes the oldest item.
    pub fn pop(&self) -> Option<Item> {
        self.lock().pop()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.bytes -= item.message.size() as u64;
        if self.items.is_empty() {
            self.items = VecDeque::new();
        }
        Some(item)
    }
}
