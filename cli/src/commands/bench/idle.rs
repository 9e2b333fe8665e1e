//! `curlew bench idle`: memory of the server for each idle connection.

use super::{Account, Target, TargetOpts, memory, progress, run_on};
use crate::{failure::Failure, output::table};
use anyhow::Context;
use rumqttc::{AsyncClient, Event, EventLoop, Packet, QoS};
use serde::Serialize;

/// Options of `curlew bench idle`.
#[derive(Debug, clap::Args)]
pub struct Opts {
    /// Connections
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    connections: u32,
    #[command(flatten)]
    target: TargetOpts,
}

/// What was measured.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    connections: u32,
    /// Resident memory of the server before and with the connections.
    rss_before_kib: Option<u64>,
    rss_with_kib: Option<u64>,
    per_connection_kib: Option<f64>,
}

/// Opens the connections, each subscribed to its user's messages, and reports.
pub fn run(opts: &Opts) -> Result<(), Failure> {
    run_on(&opts.target, async |target| measure(opts, target).await, text)
}

async fn measure(opts: &Opts, target: &Target) -> anyhow::Result<Report> {
    let account = target.register(0).await?;
    // What only the first connection costs does not count.
    let first = connect(target, &account, "first").await?;
    let before = opts.target.pid.and_then(resident);
    let bar = progress(u64::from(opts.connections), "connections");
    let mut open = vec![first];
    for n in 0..opts.connections {
        open.push(connect(target, &account, &format!("idle-{n}")).await?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let with = opts.target.pid.and_then(resident);
    let each = before.zip(with).map(|(before, with)| {
        let grown = u32::try_from(with.saturating_sub(before)).unwrap_or(u32::MAX);
        f64::from(grown) / f64::from(opts.connections)
    });
    Ok(Report {
        connections: opts.connections,
        rss_before_kib: before,
        rss_with_kib: with,
        per_connection_kib: each,
    })
}

/// A connection that is subscribed and then left alone.
async fn connect(
    target: &Target,
    account: &Account,
    client_id: &str,
) -> anyhow::Result<(AsyncClient, EventLoop)> {
    let (client, mut events) = AsyncClient::new(target.mqtt_options(account, client_id), 4);
    client.subscribe("chats/+/messages", QoS::AtLeastOnce).await?;
    loop {
        if let Event::Incoming(Packet::SubAck(_)) =
            events.poll().await.context("the MQTT connection ended")?
        {
            return Ok((client, events));
        }
    }
}

fn text(report: &Report) -> String {
    let shown = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    table(
        &["connections", "RSS before KiB", "RSS with KiB", "KiB each"],
        [vec![
            report.connections.to_string(),
            shown(report.rss_before_kib.map(|kib| kib.to_string())),
            shown(report.rss_with_kib.map(|kib| kib.to_string())),
            shown(report.per_connection_kib.map(|kib| format!("{kib:.1}"))),
        ]],
    )
}

fn resident(pid: u32) -> Option<u64> {
    memory(pid, "VmRSS:")
}
