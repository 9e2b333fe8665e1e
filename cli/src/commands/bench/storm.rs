//! `curlew bench storm`: thousands of sessions drop at once and return at once, as after a network or a server was away.
//!
//! Users with devices, contacts and private chats are made; every session subscribes and its connection is dropped. While they
//! are away each chat gets messages. Then all return at once, while some who stayed send at a steady rate. It is measured how
//! long it takes until everybody has everything, and what those who stayed notice of it.

mod sender;
mod session;
mod world;

use super::{
    Target, TargetOpts, all,
    client::{self, Client, Credentials},
    cpu_time, failed, memory,
    metrics::Metrics,
};
use crate::{failure::Failure, output::table};
use anyhow::Context;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sender::{Senders, Sent};
use serde::Serialize;
use session::{Phase, Session, Tally};
use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use world::{Size, World};

/// Session Expiry Interval: a day.
const EXPIRY: u32 = 86_400;
/// How often the sessions' progress is looked at. It is timed where it is made.
const LOOK: Duration = Duration::from_millis(5);
/// The server must have closed the connections by then.
const CLOSE_PATIENCE: Duration = Duration::from_mins(2);
/// After the recovery, for what comes twice.
const AFTERMATH: Duration = Duration::from_secs(1);
/// File descriptors beside the sessions' sockets.
const OTHER_FILES: u64 = 200;

/// Options of `curlew bench storm`.
#[derive(Debug, clap::Args)]
pub struct Opts {
    /// Sessions that drop and return
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=25_000))]
    sessions: u32,
    /// Users whose sessions they are, at most 80 each
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=25_000))]
    users: u32,
    /// Chats of each user
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
    chats: u32,
    /// Messages in each chat while the sessions are away
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=1000))]
    missed: u32,
    /// Messages per second of those who stay
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// Seconds for which they send before the storm, for comparison
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=3600))]
    calm: u32,
    /// Seconds to wait for the recovery
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=3600))]
    patience: u32,
    #[command(flatten)]
    target: TargetOpts,
}

/// What was measured. Times of the storm count from its beginning.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    sessions: u32,
    users: u32,
    chats: usize,
    /// Until the server had closed all connections that were dropped.
    dropped_seconds: Option<f64>,
    /// Until every session had its CONNACK.
    connected_seconds: f64,
    /// Until every session had every message that it missed.
    caught_up_seconds: f64,
    /// Until every session had those, too, that were sent during the storm.
    recovered_seconds: f64,
    /// Messages due to the sessions, missed and sent during the storm, each counted for each session.
    missed: u64,
    due: u64,
    lost: u64,
    duplicates: u64,
    reordered: u64,
    /// Sessions that the server did not know any more.
    absent: u64,
    /// Connections that did not come to a CONNACK, and that broke after it.
    refused: u64,
    interrupted: u64,
    /// What those who stayed saw, before and during the storm.
    calm: Latency,
    storm: Latency,
    server: Server,
    /// CPU time of this program during the storm: it works on the same machine.
    client_cpu_seconds: Option<f64>,
}

/// Sends, from the moment at which they were due to the PUBACK.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Latency {
    sends: usize,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

/// What the server says of the storm.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Server {
    /// Of messages, from the queue to the end of their commit.
    message_p50_ms: Option<f64>,
    message_p99_ms: Option<f64>,
    /// Of transactions, whatever is in them.
    transaction_p99_ms: Option<f64>,
    transactions: Option<f64>,
    statements: Option<f64>,
    /// User and system.
    cpu_seconds: Option<f64>,
    /// Since its start.
    peak_memory_kib: Option<u64>,
}

/// Makes the users, raises the storm, and reports.
pub fn run(opts: &Opts) -> Result<(), Failure> {
    if opts.users <= opts.chats || opts.sessions > opts.users.saturating_mul(80) {
        return Err(Failure::usage(
            "there must be more --users than --chats, and at most 80 --sessions of each",
        ));
    }
    allow_files(u64::from(opts.sessions) + OTHER_FILES)?;
    let target = Target::resolve(&opts.target)?;
    crate::commands::block_on(async {
        let report = measure(opts, &target).await.map_err(|error| failed(&error))?;
        opts.target.output.print(&report, text)?;
        match report.lost {
            0 => Ok(()),
            lost => Err(Failure::unavailable(format!("{lost} messages did not arrive"))),
        }
    })
}

/// Lets this process open so many files.
fn allow_files(needed: u64) -> Result<(), Failure> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = Rlimit { current: Some(needed), maximum: maximum.map(|maximum| maximum.max(needed)) };
    setrlimit(Resource::Nofile, raised).map_err(|_| {
        Failure::unavailable(format!(
            "{needed} files must be open at once, and no more than {} may",
            current.unwrap_or(0)
        ))
        .with_hint(format!("ulimit -n {needed}, here and for the server"))
    })
}

async fn measure(opts: &Opts, target: &Target) -> anyhow::Result<Report> {
    let size = Size { sessions: opts.sessions, users: opts.users, chats: opts.chats };
    let mut world = World::make(size, target).await?;
    let tally = Arc::new(Tally::new(world.chats.len()));
    let (phases, phase) = watch::channel(Phase::Connected);
    let mut sessions = JoinSet::new();
    for (session, client) in begin(target, &world, &tally).await? {
        sessions.spawn(session.live(client, phase.clone()));
    }

    let calm = Senders::connect(target, &world).await?;
    let stop = CancellationToken::new();
    let ending = stop.clone();
    let calm = tokio::spawn(calm.send(opts.rate, stop));
    tokio::time::sleep(Duration::from_secs(opts.calm.into())).await;
    ending.cancel();
    let calm = calm.await.context("a task panicked")??;
    world.enter(&calm);
    let patience = Duration::from_secs(opts.patience.into());
    until(patience, || tally.received.get() >= world.deliveries()).await;
    anyhow::ensure!(
        tally.received.get() == world.deliveries(),
        "messages do not arrive even without a storm"
    );

    phases.send_replace(Phase::Away);
    let dropped_seconds = until_closed(target).await?;
    world.send_missed(opts.missed, target).await?;
    let (received_before, due_before) = (tally.received.get(), world.deliveries());
    for (missed, chat) in tally.missed.iter().zip(&world.chats) {
        missed.store(chat.end, Relaxed);
    }
    let missed = due_before - received_before;

    let senders = Senders::connect(target, &world).await?;
    let before = Usage::now(opts, target).await;
    let stop = CancellationToken::new();
    let begin = Instant::now();
    tally.begin.set(begin).ok();
    phases.send_replace(Phase::Returned);
    let sending = tokio::spawn(senders.send(opts.rate, stop.clone()));
    until(patience, || {
        sending.is_finished()
            || (tally.caught_up.get() >= missed && tally.connected.get() >= opts.sessions.into())
    })
    .await;
    stop.cancel();
    let sent = sending.await.context("a task panicked")??;
    world.enter(&sent);
    until(patience.saturating_sub(begin.elapsed()), || tally.received.get() >= world.deliveries()).await;
    let after = Usage::now(opts, target).await;
    tokio::time::sleep(AFTERMATH).await;
    phases.send_replace(Phase::Ended);
    sessions.join_all().await;

    let lost = world.deliveries().saturating_sub(tally.received.get());
    if let Some(trouble) = tally.trouble() {
        eprintln!("the last connection that was refused or interrupted: {trouble}");
    }
    Ok(Report {
        sessions: opts.sessions,
        users: opts.users,
        chats: world.chats.len(),
        dropped_seconds,
        connected_seconds: tally.connected.last_seconds(),
        caught_up_seconds: tally.caught_up.last_seconds(),
        recovered_seconds: tally.received.last_seconds(),
        missed,
        due: world.deliveries() - received_before,
        lost,
        duplicates: tally.duplicates.get(),
        reordered: tally.reordered.get(),
        absent: tally.absent.get(),
        refused: tally.refused.get(),
        interrupted: tally.interrupted.get(),
        calm: Latency::of(&calm),
        storm: Latency::of(&sent),
        server: Server::between(&before, &after, opts),
        client_cpu_seconds: after
            .client_cpu
            .zip(before.client_cpu)
            .map(|(after, before)| after.saturating_sub(before).as_secs_f64()),
    })
}

/// Every session, connected and subscribed.
async fn begin(target: &Target, world: &World, tally: &Arc<Tally>) -> anyhow::Result<Vec<(Session, Client)>> {
    let beginnings: Vec<u64> = world.chats.iter().map(|chat| chat.beginning).collect();
    let mut jobs = Vec::new();
    for user in &world.users {
        for (account, count) in &user.devices {
            for n in 0..*count {
                let credentials = Credentials {
                    username: account.user_id.clone(),
                    password: account.mqtt_password.clone(),
                    client_id: format!("storm-{n}"),
                    expiry_secs: EXPIRY,
                };
                let session = Session::new(
                    target.mqtt,
                    credentials,
                    Arc::clone(&user.chats),
                    &beginnings,
                    Arc::clone(tally),
                );
                jobs.push((session, account.user_id.clone()));
            }
        }
    }
    all("sessions", jobs, |(session, user)| async move {
        let client = session.begin(&user).await?;
        Ok((session, client))
    })
    .await
}

/// Waits, at most so long.
async fn until(patience: Duration, done: impl Fn() -> bool) {
    let begin = Instant::now();
    while !done() && begin.elapsed() < patience {
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits until the server has noticed that nobody is connected; answers how long that took, if it says so.
async fn until_closed(target: &Target) -> anyhow::Result<Option<f64>> {
    let begin = Instant::now();
    loop {
        let Some(metrics) = target.metrics().await else {
            tokio::time::sleep(CLOSE_PATIENCE / 10).await;
            return Ok(None);
        };
        let connections = metrics.value("curlew_mqtt_connections").unwrap_or(0.0);
        if connections < 1.0 {
            return Ok(Some(begin.elapsed().as_secs_f64()));
        }
        anyhow::ensure!(begin.elapsed() < CLOSE_PATIENCE, "{connections} connections are still open");
        tokio::time::sleep(LOOK).await;
    }
}

/// What has been used up by now.
struct Usage {
    metrics: Option<Metrics>,
    server_cpu: Option<Duration>,
    client_cpu: Option<Duration>,
}

impl Usage {
    async fn now(opts: &Opts, target: &Target) -> Self {
        Self {
            metrics: target.metrics().await,
            server_cpu: opts.target.pid.and_then(cpu_time),
            client_cpu: cpu_time(std::process::id()),
        }
    }
}

impl Server {
    fn between(before: &Usage, after: &Usage, opts: &Opts) -> Self {
        let metrics = before.metrics.as_ref().zip(after.metrics.as_ref());
        let quantile = |name: &str, q| {
            metrics
                .and_then(|(before, after)| after.quantile_since(before, name, q))
                .map(|seconds| seconds * 1e3)
        };
        let grown = |name: &str| {
            metrics.and_then(|(before, after)| Some(after.value(name)? - before.value(name).unwrap_or(0.0)))
        };
        Self {
            message_p50_ms: quantile("curlew_message_commit_seconds", 0.5),
            message_p99_ms: quantile("curlew_message_commit_seconds", 0.99),
            transaction_p99_ms: quantile("curlew_commit_seconds", 0.99),
            transactions: grown("curlew_commit_seconds_count"),
            statements: grown("curlew_sql_statements_total"),
            cpu_seconds: after
                .server_cpu
                .zip(before.server_cpu)
                .map(|(after, before)| after.saturating_sub(before).as_secs_f64()),
            peak_memory_kib: opts.target.pid.and_then(|pid| memory(pid, "VmHWM:")),
        }
    }
}

impl Latency {
    fn of(sent: &Sent) -> Self {
        let quantile = |q: f64| {
            let place = (sent.latencies.len().saturating_sub(1) as f64 * q) as usize;
            sent.latencies.get(place).map_or(0.0, |us| f64::from(*us) / 1000.0)
        };
        Self {
            sends: sent.latencies.len(),
            p50_ms: quantile(0.5),
            p99_ms: quantile(0.99),
            max_ms: quantile(1.0),
        }
    }
}

fn text(report: &Report) -> String {
    let or_dash = |value: Option<f64>, digits| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
    };
    let latency = |latency: &Latency| {
        let Latency { sends, p50_ms, p99_ms, max_ms } = latency;
        format!("{sends}, p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms, max {max_ms:.1} ms")
    };
    let Server { message_p50_ms, message_p99_ms, transaction_p99_ms, transactions, statements, .. } =
        report.server;
    let server = &report.server;
    let rows = [
        ("sessions, users, chats", format!("{}, {}, {}", report.sessions, report.users, report.chats)),
        ("all closed by the server", format!("{} s", or_dash(report.dropped_seconds, 2))),
        ("all connected again", format!("{:.2} s", report.connected_seconds)),
        (
            "all have what they missed",
            format!("{:.2} s ({} deliveries)", report.caught_up_seconds, report.missed),
        ),
        ("all have everything", format!("{:.2} s ({} deliveries)", report.recovered_seconds, report.due)),
        (
            "lost, duplicates, reordered",
            format!("{}, {}, {}", report.lost, report.duplicates, report.reordered),
        ),
        (
            "absent, refused, interrupted",
            format!("{}, {}, {}", report.absent, report.refused, report.interrupted),
        ),
        ("sends before the storm", latency(&report.calm)),
        ("sends during the storm", latency(&report.storm)),
        (
            "server: commit of messages",
            format!("p50 {} ms, p99 {} ms", or_dash(message_p50_ms, 1), or_dash(message_p99_ms, 1)),
        ),
        (
            "server: transactions",
            format!(
                "{}, p99 {} ms, {} statements",
                or_dash(transactions, 0),
                or_dash(transaction_p99_ms, 1),
                or_dash(statements, 0)
            ),
        ),
        ("server: CPU", format!("{} s", or_dash(server.cpu_seconds, 2))),
        (
            "server: peak memory",
            format!("{} KiB", server.peak_memory_kib.map_or_else(|| "-".into(), |kib| kib.to_string())),
        ),
        ("this program: CPU", format!("{} s", or_dash(report.client_cpu_seconds, 2))),
    ];
    table(&["storm", "measured"], rows.map(|(name, value)| vec![name.to_owned(), value]))
}
