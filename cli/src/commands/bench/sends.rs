//! `curlew bench sends`: durable sends, acknowledged per second and how fast.
//!
//! Every connection is a user of its own with its own groups; it publishes at QoS 1, so many at once, each to the next of
//! its chats, and measures the time until the PUBACK, which the server sends after the commit.

use super::{Account, Target, TargetOpts, cpu_time, failed, progress};
use crate::{failure::Failure, output::table};
use anyhow::Context;
use indicatif::ProgressBar;
use rumqttc::{AsyncClient, Event, EventLoop, Outgoing, Packet, QoS};
use serde::Serialize;
use serde_json::json;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::Semaphore, task::JoinSet};

/// Options of `curlew bench sends`.
#[derive(Debug, clap::Args)]
pub struct Opts {
    /// Connections, each a user of its own
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    connections: u32,
    /// Sends of one connection that wait for their acknowledgement
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=64))]
    in_flight: u16,
    /// Chats in all
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    chats: u32,
    /// Seconds to measure
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Bytes of a message's text
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=16_000))]
    text_bytes: u32,
    #[command(flatten)]
    target: TargetOpts,
}

/// What was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    connections: u32,
    in_flight: u16,
    chats: u32,
    seconds: f64,
    acknowledged: usize,
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    /// CPU time of the server, user and system, per acknowledged message.
    server_cpu_us: Option<f64>,
}

/// A user ready to send.
struct Sender {
    account: Account,
    /// Where to publish.
    topics: Vec<String>,
}

/// Prepares users and chats, sends, and reports.
pub fn run(opts: &Opts) -> Result<(), Failure> {
    let target = Target::resolve(&opts.target)?;
    crate::commands::block_on(async {
        let senders = prepare(opts, &target).await?;
        let report = measure(opts, &target, senders).await?;
        opts.target.output.print(&report, text)
    })
}

fn text(report: &Report) -> String {
    let cpu = report.server_cpu_us.map_or_else(|| "-".to_owned(), |us| format!("{us:.1}"));
    table(
        &["connections", "in flight", "chats", "sends/s", "p50 ms", "p99 ms", "max ms", "server µs/send"],
        [vec![
            report.connections.to_string(),
            report.in_flight.to_string(),
            report.chats.to_string(),
            format!("{:.0}", report.per_second),
            format!("{:.2}", report.p50_ms),
            format!("{:.2}", report.p99_ms),
            format!("{:.2}", report.max_ms),
            cpu,
        ]],
    )
}

/// Registers the users and founds their groups, a few at a time.
async fn prepare(opts: &Opts, target: &Target) -> Result<Vec<Sender>, Failure> {
    let bar = progress(u64::from(opts.chats.max(opts.connections)), "chats");
    let places = Arc::new(Semaphore::new(32));
    let mut tasks = JoinSet::new();
    for n in 0..opts.connections {
        let share = (opts.chats / opts.connections + u32::from(n < opts.chats % opts.connections)).max(1);
        let (target, places, bar) = (target.clone(), Arc::clone(&places), bar.clone());
        tasks.spawn(async move {
            let _place = places.acquire().await;
            prepare_one(&target, n, share, &bar).await
        });
    }
    let mut senders = Vec::new();
    while let Some(sender) = tasks.join_next().await {
        senders.push(sender.context("a task panicked")?.map_err(|error| failed(&error))?);
    }
    bar.finish_and_clear();
    Ok(senders)
}

async fn prepare_one(target: &Target, n: u32, chats: u32, bar: &ProgressBar) -> anyhow::Result<Sender> {
    let account = target.register(n).await?;
    let mut topics = Vec::new();
    for n in 0..chats {
        let body = json!({ "type": "group", "name": format!("Bench {n}"), "memberIds": [] });
        let chat = target.post("chats", Some(&account.access_token), &body).await?;
        topics.push(format!("chats/{}/send", chat["id"].as_str().unwrap_or_default()));
        bar.inc(1);
    }
    Ok(Sender { account, topics })
}

async fn measure(opts: &Opts, target: &Target, senders: Vec<Sender>) -> Result<Report, Failure> {
    let cpu_before = opts.target.pid.and_then(cpu_time);
    let (begin, length) = (Instant::now(), Duration::from_secs(u64::from(opts.seconds)));
    let text = Arc::<str>::from("x".repeat(opts.text_bytes as usize));
    let mut tasks = JoinSet::new();
    for sender in senders {
        let mut options = target.mqtt_options(&sender.account, "bench");
        options.set_inflight(opts.in_flight);
        let (client, events) = AsyncClient::new(options, usize::from(opts.in_flight));
        tasks.spawn(publish(client, sender.topics, Arc::clone(&text)));
        tasks.spawn(async move { Ok(Some(acknowledgements(events, begin + length).await?)) });
    }
    let bar = progress(u64::from(opts.seconds), "s");
    let mut latencies = Vec::new();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    let mut measuring = opts.connections;
    while measuring > 0 {
        tokio::select! {
            _ = ticks.tick() => bar.set_position(begin.elapsed().as_secs()),
            Some(done) = tasks.join_next() => {
                let done: anyhow::Result<Option<Vec<u32>>> = done.context("a task panicked")?;
                if let Some(mut part) = done.map_err(|error| failed(&error))? {
                    latencies.append(&mut part);
                    measuring -= 1;
                }
            }
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let cpu = opts
        .target
        .pid
        .and_then(cpu_time)
        .zip(cpu_before)
        .map(|(after, before)| after.saturating_sub(before));
    bar.finish_and_clear();
    latencies.sort_unstable();
    let quantile = |q: f64| {
        let place = (latencies.len().saturating_sub(1) as f64 * q) as usize;
        latencies.get(place).map_or(0.0, |us| f64::from(*us) / 1000.0)
    };
    Ok(Report {
        connections: opts.connections,
        in_flight: opts.in_flight,
        chats: opts.chats,
        seconds,
        acknowledged: latencies.len(),
        per_second: latencies.len() as f64 / seconds,
        p50_ms: quantile(0.5),
        p99_ms: quantile(0.99),
        max_ms: quantile(1.0),
        server_cpu_us: cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / latencies.len().max(1) as f64),
    })
}

/// Publishes until the event loop is gone.
async fn publish(
    client: AsyncClient,
    topics: Vec<String>,
    text: Arc<str>,
) -> anyhow::Result<Option<Vec<u32>>> {
    for n in 0u64.. {
        let topic = &topics[n as usize % topics.len()];
        let body = json!({ "localId": n.to_string(), "type": "TEXT", "text": &*text }).to_string();
        if client.publish(topic, QoS::AtLeastOnce, false, body).await.is_err() {
            break;
        }
    }
    Ok(None)
}

/// Microseconds from each PUBLISH to its PUBACK, until `end`.
async fn acknowledgements(mut events: EventLoop, end: Instant) -> anyhow::Result<Vec<u32>> {
    let (mut sent, mut latencies) = (HashMap::new(), Vec::new());
    while Instant::now() < end {
        match events.poll().await.context("the MQTT connection ended")? {
            Event::Outgoing(Outgoing::Publish(id)) => {
                sent.insert(id, Instant::now());
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                if let Some(at) = sent.remove(&ack.pkid) {
                    latencies.push(u32::try_from(at.elapsed().as_micros()).unwrap_or(u32::MAX));
                }
            }
            _ => {}
        }
    }
    Ok(latencies)
}
