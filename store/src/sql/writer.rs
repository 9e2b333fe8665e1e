//! The group-commit writer: the only thing that writes.
//!
//! Each lane (one on SQLite, four on PostgreSQL) drains a bounded queue and commits what it finds, up to [`BATCH`] commands,
//! in one transaction; no timer, a lone command commits at once. A caller is answered when the transaction of its command
//! has been committed and its rows have been handed to the relay.
//!
//! Within a batch messages and membership changes run in the order of the queue, consecutive messages in bulk; watermarks,
//! all in bulk, what is noted of users and logins, and sessions ride behind them. That is also the order of the locks on
//! PostgreSQL: chats by id, stays, users by id, logins, devices, sessions.

pub(crate) mod batch;
mod lane;

use super::{engine::Db, messages::append::Append, receipts::RaiseWatermarks, transaction::Tx};
use crate::{StoreConfig, trouble::Failed};
use async_trait::async_trait;
use curlew_domain::{
    Error, Result,
    clock::{Clock, Entropy, Timestamp},
    ports::{
        relay::{Committed, Relay},
        store::{AppendMessage, Appended, Commit},
    },
    receipt::{Raise, Raised},
};
use lane::Lane;
pub(crate) use lane::STATEMENTS;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

/// Most commands in one transaction.
pub(crate) const BATCH: usize = 256;
/// Most commands that may wait in one transaction: however many sessions are opened and closed at once, a message that comes
/// waits for no more of them …
pub(crate) const PATIENT_ALONE: usize = 32;
/// … and takes no more of them along.
pub(crate) const PATIENT_BEHIND: usize = 6;

/// What this process is to the database.
pub(crate) struct Process {
    /// New with every start.
    pub id: Uuid,
    pub started_at: Timestamp,
    pub clock: Arc<dyn Clock>,
    pub entropy: Arc<dyn Entropy>,
}

/// What a command works with.
pub(crate) struct Scope<'a> {
    pub tx: &'a mut Tx,
    /// What the relay gets after the commit, in this order.
    pub committed: &'a mut Vec<Committed>,
    pub process: &'a Process,
}

/// When in its batch a command other than a message or watermarks runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// In the order of the queue. Locks chats and users, appends to personal logs: on PostgreSQL it gets a transaction of its
    /// own.
    InTurn,
    /// In the order of the queue. Locks the one chat whose id is its key.
    ChatInTurn,
    /// Behind messages and watermarks: locks users, logins, devices; appends nothing.
    Accounts,
    /// Last: locks sessions.
    Sessions,
}

impl Place {
    /// Whether it waits behind everything else, in a queue of its own: what comes in thousands when the connections of a
    /// server are cut.
    fn is_patient(self) -> bool {
        matches!(self, Self::Accounts | Self::Sessions)
    }

    fn is_in_turn(self) -> bool {
        matches!(self, Self::InTurn | Self::ChatInTurn)
    }
}

/// A command other than a message or watermarks. It refuses before it writes anything, and may be run again from the start.
#[async_trait]
pub(crate) trait Write: Send + 'static {
    type Answer: Send;
    const PLACE: Place;

    /// What it is about; commands about the same thing share a lane.
    fn key(&self) -> Uuid;

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Self::Answer, Failed>;
}

/// A command in the queue.
pub(crate) struct Queued {
    /// When its caller called.
    pub since: Instant,
    pub work: Work,
}

pub(crate) enum Work {
    Append(Box<Append>),
    Raise(Box<RaiseWatermarks>),
    Other(Box<dyn Job>),
}

impl Queued {
    /// Answers with what its last run came to; the transaction is durable.
    fn answer(self) {
        match self.work {
            Work::Append(append) => {
                metrics::histogram!("curlew_message_commit_seconds")
                    .record(self.since.elapsed().as_secs_f64());
                append.reply.send();
            }
            Work::Raise(raise) => raise.reply.send(),
            Work::Other(job) => job.answer(),
        }
    }

    fn fail(self, error: Error) {
        match self.work {
            Work::Append(append) => append.reply.fail(error),
            Work::Raise(raise) => raise.reply.fail(error),
            Work::Other(job) => job.fail(error),
        }
    }

    fn is_patient(&self) -> bool {
        matches!(&self.work, Work::Other(job) if job.place().is_patient())
    }

    /// Whether it locks users after chats, and so must not be followed by another lock on a chat in one transaction.
    fn stands_alone(&self) -> bool {
        matches!(&self.work, Work::Other(job) if job.place() == Place::InTurn)
    }
}

/// A [`Write`] whose answer's type is forgotten.
#[async_trait]
pub(crate) trait Job: Send {
    fn place(&self) -> Place;
    async fn run(&mut self, scope: &mut Scope<'_>) -> Result<(), sqlx::Error>;
    fn answer(self: Box<Self>);
    fn fail(self: Box<Self>, error: Error);
}

/// A caller, and what the last run of its command came to.
pub(crate) struct Reply<T> {
    outcome: Option<Result<T>>,
    caller: oneshot::Sender<Result<T>>,
}

impl<T> Reply<T> {
    fn channel() -> (Self, Commit<T>) {
        let (caller, commit) = Commit::channel();
        (Self { outcome: None, caller }, commit)
    }

    /// Notes what a run came to; an earlier one was rolled back.
    pub fn set(&mut self, outcome: Result<T>) {
        self.outcome = Some(outcome);
    }

    // A caller that has gone away has no use for its answer.
    fn send(self) {
        let outcome = self.outcome.unwrap_or_else(|| Err(Error::Internal("a command was not run".into())));
        self.caller.send(outcome).ok();
    }

    fn fail(self, error: Error) {
        self.caller.send(Err(error)).ok();
    }
}

struct Pending<W: Write> {
    write: W,
    reply: Reply<W::Answer>,
}

#[async_trait]
impl<W: Write + Sync> Job for Pending<W> {
    fn place(&self) -> Place {
        W::PLACE
    }

    async fn run(&mut self, scope: &mut Scope<'_>) -> Result<(), sqlx::Error> {
        self.reply.set(match self.write.apply(scope).await {
            Ok(answer) => Ok(answer),
            Err(Failed::Refused(refusal)) => Err(refusal.into()),
            Err(Failed::Sql(error)) => return Err(error),
        });
        Ok(())
    }

    fn answer(self: Box<Self>) {
        self.reply.send();
    }

    fn fail(self: Box<Self>, error: Error) {
        self.reply.fail(error);
    }
}

/// The callers' ends of a lane's queues.
struct Entry {
    queue: mpsc::Sender<Queued>,
    patient: mpsc::Sender<Queued>,
}

/// The callers' end.
pub(crate) struct Writer {
    lanes: Vec<Entry>,
    patience: Duration,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Writer {
    pub fn start(db: &Arc<Db>, config: &StoreConfig, process: &Arc<Process>, relay: &Arc<dyn Relay>) -> Self {
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let personal = Arc::new(Mutex::new(()));
        let lanes = (0..db.lanes())
            .map(|number| {
                let (queue, commands) = mpsc::channel(config.queue);
                let (patient, patient_commands) = mpsc::channel(config.queue);
                let lane = Lane::new(number, db, config, process, relay, &personal);
                tasks.spawn(lane.run(commands, patient_commands, stop.clone()));
                Entry { queue, patient }
            })
            .collect();
        tasks.close();
        Self { lanes, patience: config.patience, stop, tasks }
    }

    /// Queues a message; waits only for room.
    pub async fn append(&self, message: AppendMessage) -> Result<Commit<Appended>> {
        let (reply, commit) = Reply::channel();
        let lane = self.lane_of(message.chat.uuid());
        self.queue(lane, Work::Append(Box::new(Append { message, reply })), Instant::now()).await?;
        Ok(commit)
    }

    /// Queues watermarks of chats of this lane, for a caller who called then; waits only for room.
    pub async fn raise(
        &self,
        lane: usize,
        raises: Vec<Raise>,
        at: Timestamp,
        since: Instant,
    ) -> Result<Commit<Vec<Result<Raised>>>> {
        let (reply, commit) = Reply::channel();
        self.queue(lane, Work::Raise(Box::new(RaiseWatermarks { raises, at, reply })), since).await?;
        Ok(commit)
    }

    /// Queues another command; waits only for room.
    pub async fn submit<W: Write + Sync>(&self, write: W) -> Result<Commit<W::Answer>> {
        let (reply, commit) = Reply::channel();
        let lane = self.lane_of(write.key());
        self.queue(lane, Work::Other(Box::new(Pending { write, reply })), Instant::now()).await?;
        Ok(commit)
    }

    /// Queues a command and waits for its commit.
    pub async fn write<W: Write + Sync>(&self, write: W) -> Result<W::Answer> {
        self.submit(write).await?.await
    }

    /// Number of the lane in which commands about this are committed.
    pub fn lane_of(&self, key: Uuid) -> usize {
        // The low bits of a UUIDv7 are random.
        (key.as_u128() % self.lanes.len() as u128) as usize
    }

    async fn queue(&self, lane: usize, work: Work, since: Instant) -> Result<()> {
        let lane = &self.lanes[lane];
        let queued = Queued { since, work };
        let queue = if queued.is_patient() { &lane.patient } else { &lane.queue };
        match tokio::time::timeout_at(since + self.patience, queue.send(queued)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Error::Unavailable("the store has been shut down".into())),
            Err(_) => Err(Error::Unavailable("the commit queue is full".into())),
        }
    }

    /// Accepts no more commands, commits those that are queued, and returns when the last one has been answered.
    pub async fn close(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }
}
