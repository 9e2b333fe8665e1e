//! `curlew bench presence`: what a change of somebody's presence costs when many contacts watch.

use super::{
    Account, Target, TargetOpts, all,
    client::{Client, Credentials, Packet},
    cpu_time, progress, run_on,
};
use crate::{failure::Failure, output::table};
use anyhow::Context;
use serde::Serialize;
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// For a change to come to everybody.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(1);

/// Options of `curlew bench presence`.
#[derive(Debug, clap::Args)]
pub struct Opts {
    /// Contacts who watch
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    watchers: u32,
    /// Changes: away and active, in turn, each after the last one has come to everybody
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    changes: u32,
    #[command(flatten)]
    target: TargetOpts,
}

/// What was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    watchers: u32,
    changes: u32,
    /// Events that came, of as many as there are changes for each watcher.
    events: u64,
    /// From the change to its last event.
    p50_ms: f64,
    p99_ms: f64,
    /// User and system, of the server.
    cpu_ms_per_change: Option<f64>,
    cpu_us_per_event: Option<f64>,
}

/// Makes the contacts, changes the presence, and reports.
pub fn run(opts: &Opts) -> Result<(), Failure> {
    run_on(&opts.target, async |target| measure(opts, target).await, text)
}

async fn measure(opts: &Opts, target: &Target) -> anyhow::Result<Report> {
    let watched = Arc::new(target.register(0).await?);
    let watchers = all("contacts", (1..=opts.watchers).collect(), |n| {
        let (target, watched) = (target.clone(), Arc::clone(&watched));
        async move {
            let account = target.register(n).await?;
            for (asking, asked) in [(&account, &*watched), (&*watched, &account)] {
                let body = json!({ "userId": asked.user_id });
                target.post("contacts/request", Some(&asking.access_token), &body).await?;
            }
            let mut client = connect(&target, &account).await?;
            client.subscribe(&["users/+/presence"]).await?;
            Ok(client)
        }
    })
    .await?;
    let events = Arc::new(AtomicU64::new(0));
    let mut watching = JoinSet::new();
    for mut client in watchers {
        let events = Arc::clone(&events);
        watching.spawn(async move {
            loop {
                client.fill().await?;
                let publication = |packet: Packet<'_>| {
                    events.fetch_add(u64::from(matches!(packet, Packet::Publish { .. })), Relaxed);
                };
                client.handle(publication).await?;
            }
            #[expect(unreachable_code, reason = "names the type of the errors above")]
            anyhow::Ok(())
        });
    }
    let mut client = connect(target, &watched).await?;
    let each = u64::from(opts.watchers);
    wait(&events, each).await?;

    let topic = format!("users/{}/presence", watched.user_id);
    let before = opts.target.pid.and_then(cpu_time);
    let bar = progress(u64::from(opts.changes), "changes");
    let mut times = Vec::new();
    for change in 0..u64::from(opts.changes) {
        let begin = Instant::now();
        let state = if change % 2 == 0 { "away" } else { "active" };
        client.publish(&topic, 1, json!({ "state": state }).to_string().as_bytes()).await?;
        wait(&events, each * (change + 2)).await?;
        times.push(begin.elapsed().as_secs_f64() * 1e3);
        // The PUBACK.
        client.fill().await?;
        client.handle(|_| ()).await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    let spent =
        opts.target.pid.and_then(cpu_time).zip(before).map(|(after, before)| after.saturating_sub(before));
    watching.shutdown().await;
    times.sort_unstable_by(f64::total_cmp);
    let at = |q: f64| times[((times.len() - 1) as f64 * q) as usize];
    let cpu_ms_per_change = spent.map(|spent| spent.as_secs_f64() * 1e3 / f64::from(opts.changes));
    Ok(Report {
        watchers: opts.watchers,
        changes: opts.changes,
        events: events.load(Relaxed) - each,
        p50_ms: at(0.5),
        p99_ms: at(0.99),
        cpu_ms_per_change,
        cpu_us_per_event: cpu_ms_per_change.map(|ms| ms * 1e3 / f64::from(opts.watchers)),
    })
}

async fn connect(target: &Target, account: &Account) -> anyhow::Result<Client> {
    let credentials = Credentials {
        username: account.user_id.clone(),
        password: account.mqtt_password.clone(),
        client_id: "bench".to_owned(),
        expiry_secs: 0,
    };
    Ok(Client::connect(target.mqtt, &credentials).await?.0)
}

/// Waits until so many events have come.
async fn wait(events: &AtomicU64, wanted: u64) -> anyhow::Result<()> {
    let arrival = async {
        while events.load(Relaxed) < wanted {
            tokio::time::sleep(LOOK).await;
        }
    };
    let came = tokio::time::timeout(PATIENCE, arrival).await;
    came.with_context(|| format!("{} of {wanted} events came", events.load(Relaxed)))
}

fn text(report: &Report) -> String {
    let or_dash = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    let rows = [
        ("watchers, changes", format!("{}, {}", report.watchers, report.changes)),
        ("events", report.events.to_string()),
        (
            "until the last watcher has it",
            format!("p50 {:.1} ms, p99 {:.1} ms", report.p50_ms, report.p99_ms),
        ),
        ("server: CPU per change", format!("{} ms", or_dash(report.cpu_ms_per_change))),
        ("server: CPU per event", format!("{} \u{b5}s", or_dash(report.cpu_us_per_event))),
    ];
    table(&["presence", "measured"], rows.map(|(name, value)| vec![name.to_owned(), value]))
}
