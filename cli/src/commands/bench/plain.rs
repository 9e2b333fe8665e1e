//! `curlew bench plain`: messages from publishers to subscribers at QoS 1, pair by pair, through the plain lane, or through
//! any other broker for comparison.

use super::{Account, Target, TargetOpts, cpu_time, progress, run_on};
use crate::{failure::Failure, output::table};
use anyhow::Context;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use serde::Serialize;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Options of `curlew bench plain`.
#[derive(Debug, clap::Args)]
pub struct Opts {
    /// Pairs of one publisher and one subscriber, each a user of its own
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pairs: u32,
    /// Messages of one publisher that wait for their acknowledgement
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=64))]
    in_flight: u16,
    /// Seconds to measure
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Bytes of a payload
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    payload_bytes: u32,
    /// The broker at --mqtt is another one without accounts, such as Mosquitto
    #[arg(long)]
    anonymous: bool,
    #[command(flatten)]
    target: TargetOpts,
}

/// What was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    pairs: u32,
    in_flight: u16,
    seconds: f64,
    delivered: u64,
    per_second: f64,
    /// CPU time of the server, user and system, per delivered message.
    server_cpu_us: Option<f64>,
}

/// Connects the pairs, publishes, and reports.
pub fn run(opts: &Opts) -> Result<(), Failure> {
    run_on(&opts.target, async |target| measure(opts, target).await, text)
}

async fn measure(opts: &Opts, target: &Target) -> anyhow::Result<Report> {
    let bar = progress(u64::from(opts.pairs), "pairs");
    let mut pairs = Vec::new();
    for n in 0..opts.pairs {
        let account = if opts.anonymous { None } else { Some(target.register(n).await?) };
        let topic = format!("bench/{n}");
        let mut subscriber = connect(opts, target, account.as_ref(), &format!("sub-{n}"));
        subscriber.0.subscribe(&topic, QoS::AtLeastOnce).await?;
        while !matches!(
            subscriber.1.poll().await.context("the connection ended")?,
            Event::Incoming(Packet::SubAck(_))
        ) {}
        let publisher = connect(opts, target, account.as_ref(), &format!("pub-{n}"));
        pairs.push((subscriber, publisher, topic));
        bar.inc(1);
    }
    bar.finish_and_clear();
    let cpu_before = opts.target.pid.and_then(cpu_time);
    let (begin, length) = (Instant::now(), Duration::from_secs(u64::from(opts.seconds)));
    let payload = vec![b'x'; opts.payload_bytes as usize];
    let mut publishing = JoinSet::new();
    let mut counting = JoinSet::new();
    for ((subscribing, events), (client, publisher_events), topic) in pairs {
        publishing.spawn(publish(client, topic, payload.clone()));
        publishing.spawn(drive(publisher_events));
        counting.spawn(async move { count(events, begin + length, subscribing).await });
    }
    let mut delivered = 0;
    while let Some(count) = counting.join_next().await {
        delivered += count.context("a task panicked")??;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let cpu = opts.target.pid.and_then(cpu_time).zip(cpu_before);
    let server_cpu_us =
        cpu.map(|(after, before)| after.saturating_sub(before).as_secs_f64() * 1e6 / delivered.max(1) as f64);
    publishing.abort_all();
    Ok(Report {
        pairs: opts.pairs,
        in_flight: opts.in_flight,
        seconds,
        delivered,
        per_second: delivered as f64 / seconds,
        server_cpu_us,
    })
}

fn connect(
    opts: &Opts,
    target: &Target,
    account: Option<&Account>,
    client_id: &str,
) -> (AsyncClient, EventLoop) {
    let mut options = match account {
        Some(account) => {
            let mut options = target.mqtt_options(account, client_id);
            options.set_credentials(format!("{}?mount=x", account.user_id), &account.mqtt_password);
            options
        }
        None => MqttOptions::new(client_id, target.mqtt.ip().to_string(), target.mqtt.port()),
    };
    options.set_inflight(opts.in_flight);
    AsyncClient::new(options, usize::from(opts.in_flight))
}

/// Publishes until the event loop is gone.
async fn publish(client: AsyncClient, topic: String, payload: Vec<u8>) {
    while client.publish(&topic, QoS::AtLeastOnce, false, payload.clone()).await.is_ok() {}
}

async fn drive(mut events: EventLoop) {
    while events.poll().await.is_ok() {}
}

/// Messages that arrive until `end`.
async fn count(mut events: EventLoop, end: Instant, _subscribing: AsyncClient) -> anyhow::Result<u64> {
    let mut delivered = 0;
    while Instant::now() < end {
        match tokio::time::timeout_at(end.into(), events.poll()).await {
            Ok(event) => {
                if let Event::Incoming(Packet::Publish(_)) = event.context("the MQTT connection ended")? {
                    delivered += 1;
                }
            }
            Err(_) => break,
        }
    }
    Ok(delivered)
}

fn text(report: &Report) -> String {
    let cpu = report.server_cpu_us.map_or_else(|| "-".to_owned(), |us| format!("{us:.1}"));
    table(
        &["pairs", "in flight", "messages/s", "server µs/message"],
        [vec![
            report.pairs.to_string(),
            report.in_flight.to_string(),
            format!("{:.0}", report.per_second),
            cpu,
        ]],
    )
}
