//! One lane: from the queue to the commit, through whatever trouble there is.

use super::{BATCH, PATIENT_ALONE, PATIENT_BEHIND, Process, Queued, batch};
use crate::{
    CommitGate, StoreConfig,
    config::OnFatal,
    sql::engine::Db,
    sql::value::args,
    trouble::{Trouble, repeated},
};
use curlew_domain::{
    Error,
    ports::relay::{Committed, Relay},
};
use sqlx::error::DatabaseError;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, mpsc},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
const ROLLBACK: Duration = Duration::from_secs(1);

crate::sql::statement::statements! {
    /// Leaves the transaction's number with the lane; on PostgreSQL the row's lock makes the next one wait for an
    /// earlier transaction of the lane that is still ending.
    MARK_COMMIT = ["INSERT INTO lanes (id, last_commit, at) VALUES ($1, $2, $3)
        ON CONFLICT (id) DO UPDATE SET last_commit = excluded.last_commit, at = excluded.at"];
    LAST_COMMIT = ["SELECT l.last_commit FROM lanes l WHERE l.id = $1" lock(l)];
}

pub(super) struct Lane {
    /// Under which it marks its commits.
    id: Uuid,
    number: u32,
    /// Number of the last transaction that was begun.
    transaction: i64,
    db: Arc<Db>,
    process: Arc<Process>,
    relay: Arc<dyn Relay>,
    /// Held by commands that write personal logs until the relay has their rows: lanes share those logs.
    personal: Arc<Mutex<()>>,
    patience: Duration,
    gate: Option<Arc<dyn CommitGate>>,
    on_fatal: OnFatal,
    /// Rows of the last transaction, whose outcome could not be found out in time: the relay gets them if it was committed.
    unresolved: Option<Vec<Committed>>,
    /// What is on the disk is unknown: nothing more is committed.
    dead: Option<String>,
}

/// Why a transaction was not committed.
enum Attempt {
    /// Certainly rolled back.
    Failed(sqlx::Error),
    /// It may have been committed.
    Unknown(sqlx::Error),
}

/// What a batch came to.
enum Outcome {
    Committed(Vec<Committed>),
    /// One of its commands cannot be run.
    Poisoned(sqlx::Error),
    /// Nothing is known to be stored.
    GivenUp(Error),
}

impl Lane {
    pub fn new(
        number: u32,
        db: &Arc<Db>,
        config: &StoreConfig,
        process: &Arc<Process>,
        relay: &Arc<dyn Relay>,
        personal: &Arc<Mutex<()>>,
    ) -> Self {
        Self {
            id: process.entropy.uuid(),
            number,
            transaction: 0,
            db: Arc::clone(db),
            process: Arc::clone(process),
            relay: Arc::clone(relay),
            personal: Arc::clone(personal),
            patience: config.patience,
            gate: config.gate.clone(),
            on_fatal: Arc::clone(&config.on_fatal),
            unresolved: None,
            dead: None,
        }
    }

    pub async fn run(
        mut self,
        mut queue: mpsc::Receiver<Queued>,
        mut patient: mpsc::Receiver<Queued>,
        stop: CancellationToken,
    ) {
        let depth = metrics::gauge!("curlew_commit_queue_depth", "lane" => self.number.to_string());
        let mut commands = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled(), if !queue.is_closed() => {
                    queue.close();
                    patient.close();
                    continue;
                }
                first = queue.recv(), if !queue.is_closed() || !queue.is_empty() => match first {
                    Some(command) => commands.push(command),
                    None => continue,
                },
                first = patient.recv() => match first {
                    Some(command) => commands.push(command),
                    None => return,
                },
            }
            // Whatever came first, both have their share: neither keeps the other out.
            let taken = commands.iter().filter(|command| command.is_patient()).count();
            top_up(&mut commands, &mut queue, BATCH);
            let share = if commands.len() > taken { PATIENT_BEHIND } else { PATIENT_ALONE };
            let most = commands.len() + share.saturating_sub(taken);
            top_up(&mut commands, &mut patient, most);
            depth.set(as_sample(queue.len() + patient.len()));
            for part in self.split(&mut commands) {
                self.commit(part).await;
            }
        }
    }

    /// Cuts a batch into transactions: on PostgreSQL a command that locks chats and then users stands alone, so that
    /// within a transaction no chat is locked after a user.
    fn split(&self, commands: &mut Vec<Queued>) -> Vec<Vec<Queued>> {
        let commands = std::mem::replace(commands, Vec::with_capacity(BATCH));
        if matches!(*self.db, Db::Sqlite { .. }) {
            return vec![commands];
        }
        let mut parts: Vec<Vec<Queued>> = Vec::new();
        for command in commands {
            match parts.last_mut() {
                Some(part) if !command.stands_alone() && !part[0].stands_alone() => part.push(command),
                _ => parts.push(vec![command]),
            }
        }
        parts
    }

    /// Commits the commands, in halves as long as one of them is poisoned, and answers each.
    async fn commit(&mut self, commands: Vec<Queued>) {
        let mut parts = vec![commands];
        while let Some(mut part) = parts.pop() {
            let personal = Arc::clone(&self.personal);
            let _turn =
                if part.iter().any(Queued::stands_alone) { Some(personal.lock().await) } else { None };
            match self.persist(&mut part).await {
                Outcome::Committed(rows) => {
                    if !rows.is_empty() {
                        self.relay.committed(rows);
                    }
                    part.into_iter().for_each(Queued::answer);
                }
                Outcome::Poisoned(error) if part.len() == 1 => {
                    tracing::error!(%error, "a command cannot be stored");
                    for command in part {
                        command.fail(Error::Internal(error.to_string()));
                    }
                }
                Outcome::Poisoned(error) => {
                    tracing::warn!(%error, commands = part.len(), "a batch is split to find the command that cannot be stored");
                    let tail = part.split_off(part.len() / 2);
                    parts.push(tail);
                    parts.push(part);
                }
                Outcome::GivenUp(error) => {
                    for command in part {
                        command.fail(repeated(&error));
                    }
                }
            }
        }
    }

    /// Tries until the batch is committed, poisoned, or every command in it has run out of patience.
    async fn persist(&mut self, commands: &mut Vec<Queued>) -> Outcome {
        let mut pause = FIRST_PAUSE;
        let mut last_error: Option<String> = None;
        loop {
            if let Some(reason) = &self.dead {
                return Outcome::GivenUp(Error::Unavailable(reason.clone()));
            }
            self.drop_overdue(commands, last_error.as_deref());
            if commands.is_empty() {
                return Outcome::Committed(Vec::new());
            }
            let deadline =
                commands.iter().map(|c| c.since).max().unwrap_or_else(Instant::now) + self.patience;
            if let Some(error) = self.settle_unresolved(deadline).await {
                return Outcome::GivenUp(error);
            }
            let mut rows = Vec::new();
            let error = match self.attempt(commands, &mut rows, deadline).await {
                Ok(()) => return Outcome::Committed(rows),
                Err(Attempt::Failed(error)) => error,
                Err(Attempt::Unknown(error)) => match self.resolve(deadline).await {
                    Some(true) => return Outcome::Committed(rows),
                    Some(false) => error,
                    None => {
                        self.unresolved = Some(rows);
                        return Outcome::GivenUp(Error::Unavailable(error.to_string()));
                    }
                },
            };
            match Trouble::of(&error) {
                Trouble::Lasting => return Outcome::Poisoned(error),
                Trouble::Fatal => self.die(&error),
                Trouble::Passing => {
                    if last_error.is_none() {
                        tracing::warn!(%error, lane = self.number, "a commit failed and is tried again");
                    }
                    last_error = Some(error.to_string());
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Catches up with a transaction that was given up in doubt, before the next one takes its mark's place.
    async fn settle_unresolved(&mut self, deadline: Instant) -> Option<Error> {
        let rows = self.unresolved.take()?;
        match self.resolve(deadline).await {
            Some(true) => self.relay.committed(rows),
            Some(false) => {}
            None => {
                self.unresolved = Some(rows);
                return Some(Error::Unavailable("the outcome of the last commit is not known yet".into()));
            }
        }
        None
    }

    /// Answers the commands whose patience is over.
    fn drop_overdue(&self, commands: &mut Vec<Queued>, last_error: Option<&str>) {
        let now = Instant::now();
        let overdue: Vec<Queued> = commands.extract_if(.., |c| c.since + self.patience <= now).collect();
        for command in overdue {
            command
                .fail(Error::Unavailable(last_error.unwrap_or("waited too long in the commit queue").into()));
        }
    }

    async fn attempt(
        &mut self,
        commands: &mut [Queued],
        rows: &mut Vec<Committed>,
        deadline: Instant,
    ) -> Result<(), Attempt> {
        let started = Instant::now();
        self.transaction += 1;
        let mut tx = match timeout_at(deadline, self.db.begin_write()).await {
            Ok(begun) => begun.map_err(Attempt::Failed)?,
            Err(_) => return Err(Attempt::Failed(late())),
        };
        let applied = async {
            batch::apply(&mut tx, commands, rows, &self.process).await?;
            tx.execute(&MARK_COMMIT, args![self.id, self.transaction, self.process.clock.now()]).await?;
            match &self.gate {
                Some(gate) => gate.before_commit().await.map_err(passing),
                None => Ok(()),
            }
        };
        match timeout_at(deadline, applied).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                timeout(ROLLBACK, tx.rollback()).await.ok();
                return Err(Attempt::Failed(error));
            }
            // Dropped in the middle of a statement, the transaction takes its connection with it.
            Err(_) => return Err(Attempt::Failed(late())),
        }
        match timeout_at(deadline, tx.commit()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(refused_or_unknown(error)),
            Err(_) => return Err(Attempt::Unknown(late())),
        }
        if let Some(gate) = &self.gate {
            gate.after_commit().await.map_err(|text| Attempt::Unknown(passing(text)))?;
        }
        metrics::histogram!("curlew_commit_batch_size").record(as_sample(commands.len()));
        metrics::histogram!("curlew_commit_seconds").record(started.elapsed().as_secs_f64());
        Ok(())
    }

    /// Finds out whether the last transaction was committed. `None`: it cannot be known before the deadline.
    async fn resolve(&self, deadline: Instant) -> Option<bool> {
        let mut pause = FIRST_PAUSE;
        loop {
            let look = async {
                let mut tx = self.db.begin_write().await?;
                let row = tx.find(&LAST_COMMIT, args![self.id]).await?;
                let last = row.map(|row| row.int(0)).transpose()?;
                tx.rollback().await;
                Ok::<_, sqlx::Error>(last == Some(self.transaction))
            };
            match timeout_at(deadline, look).await {
                Ok(Ok(happened)) => {
                    tracing::warn!(lane = self.number, happened, "a commit of unknown outcome was looked up");
                    return Some(happened);
                }
                Ok(Err(error)) => tracing::debug!(%error, "the outcome of a commit cannot be looked up yet"),
                Err(_) => return None,
            }
            if Instant::now() + pause >= deadline {
                return None;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn die(&mut self, error: &sqlx::Error) {
        let reason = format!("the database file cannot be written reliably: {error}");
        tracing::error!("{reason}");
        (self.on_fatal)(&reason);
        self.dead = Some(reason);
    }
}

/// A server that refuses a COMMIT has rolled back; one that is shutting down, or says nothing, may have done either.
fn refused_or_unknown(error: sqlx::Error) -> Attempt {
    let shutting_down =
        error.as_database_error().and_then(DatabaseError::code).is_some_and(|code| code.starts_with("57P"));
    if matches!(error, sqlx::Error::Database(_)) && !shutting_down {
        Attempt::Failed(error)
    } else {
        Attempt::Unknown(error)
    }
}

/// Takes what waits in a queue until there are so many commands.
fn top_up(commands: &mut Vec<Queued>, queue: &mut mpsc::Receiver<Queued>, most: usize) {
    while commands.len() < most
        && let Ok(command) = queue.try_recv()
    {
        commands.push(command);
    }
}

/// A queue's length for a metric.
fn as_sample(n: usize) -> f64 {
    f64::from(u32::try_from(n).unwrap_or(u32::MAX))
}

fn late() -> sqlx::Error {
    passing("the database did not answer in time".into())
}

fn passing(text: String) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::other(text))
}
