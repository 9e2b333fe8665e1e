//! `curlew bench rest`: the requests that apps make most, one after the other, each by several clients at once.
//!
//! A reader has so many groups with an unread message each, and a chat with a long history; then each request is made over
//! and over for some seconds. What else the database holds is up to who calls it.

use super::{Account, Target, TargetOpts, cpu_time, failed, progress};
use crate::{failure::Failure, output::table};
use anyhow::Context;
use reqwest::Method;
use rumqttc::{AsyncClient, Event, Packet, QoS};
use serde::Serialize;
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// Options of `curlew bench rest`.
#[derive(Debug, clap::Args)]
pub struct Opts {
    /// Clients that ask at once
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
    clients: u32,
    /// Chats of the reader
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    chats: u32,
    /// Messages in the reader's longest chat
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    messages: u32,
    /// Seconds to measure each request
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    #[command(flatten)]
    target: TargetOpts,
}

/// What was measured of one request.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    request: String,
    clients: u32,
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// CPU time of the server, user and system, per request.
    server_cpu_us: Option<f64>,
    /// By the server's own count; batches of writes share theirs.
    statements: Option<f64>,
}

/// A request to be made over and over.
#[derive(Clone)]
struct Question {
    name: &'static str,
    method: Method,
    path: String,
    body: Option<Value>,
}

/// Prepares, asks, and reports.
pub fn run(opts: &Opts) -> Result<(), Failure> {
    let target = Target::resolve(&opts.target)?;
    crate::commands::block_on(async {
        let (reader, questions) = prepare(opts, &target).await.map_err(|error| failed(&error))?;
        let mut reports = Vec::new();
        for question in questions {
            let report = measure(opts, &target, &reader, question).await;
            reports.push(report.map_err(|error| failed(&error))?);
        }
        opts.target.output.print(&reports, |reports| text(reports))
    })
}

fn text(reports: &[Report]) -> String {
    let or_dash = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
    let row = |report: &Report| {
        vec![
            report.request.clone(),
            report.clients.to_string(),
            format!("{:.0}", report.per_second),
            format!("{:.2}", report.p50_ms),
            format!("{:.2}", report.p99_ms),
            or_dash(report.server_cpu_us),
            or_dash(report.statements),
        ]
    };
    let head = ["request", "clients", "requests/s", "p50 ms", "p99 ms", "server µs", "statements"];
    table(&head, reports.iter().map(row))
}

async fn prepare(opts: &Opts, target: &Target) -> anyhow::Result<(Account, Vec<Question>)> {
    let (reader, writer) = (target.register(0).await?, target.register(1).await?);
    let (mine, theirs) = (Some(reader.access_token.as_str()), Some(writer.access_token.as_str()));
    target.post("contacts/request", mine, &json!({ "userId": writer.user_id })).await?;
    target.post("contacts/request", theirs, &json!({ "userId": reader.user_id })).await?;
    let bar = progress(u64::from(opts.chats), "chats");
    let mut longest = String::new();
    for n in 0..opts.chats {
        let body = json!({ "type": "group", "name": format!("Bench {n}"), "memberIds": [reader.user_id] });
        let chat = target.post("chats", theirs, &body).await?;
        chat["id"].as_str().unwrap_or_default().clone_into(&mut longest);
        let body = json!({ "type": "TEXT", "text": "something new" });
        target.post(&format!("chats/{longest}/messages"), theirs, &body).await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    write_history(opts, target, &writer, &longest).await?;
    let question = |name, method, path: String, body| Question { name, method, path, body };
    let login = json!({ "login": format!("bench.{}.0", target.run), "password": "bench password" });
    let message = json!({ "type": "TEXT", "text": "x".repeat(40) });
    let questions = vec![
        question("GET chats", Method::GET, format!("chats?limit={}", opts.chats.min(200)), None),
        question("GET chats (50)", Method::GET, "chats".into(), None),
        question("GET messages (50)", Method::GET, format!("chats/{longest}/messages"), None),
        question(
            "GET messages (50, middle)",
            Method::GET,
            format!("chats/{longest}/messages?beforeSeq={}", opts.messages / 2),
            None,
        ),
        question("POST messages", Method::POST, format!("chats/{longest}/messages"), Some(message)),
        question("POST login", Method::POST, "auth/login".into(), Some(login)),
    ];
    Ok((reader, questions))
}

/// Sends over MQTT, which is the quick way.
async fn write_history(opts: &Opts, target: &Target, writer: &Account, chat: &str) -> anyhow::Result<()> {
    let mut options = target.mqtt_options(writer, "bench");
    options.set_inflight(64);
    let (client, mut events) = AsyncClient::new(options, 64);
    let (topic, count) = (format!("chats/{chat}/send"), opts.messages);
    let sending = tokio::spawn(async move {
        for n in 0..count {
            let body = json!({ "type": "TEXT", "text": format!("message {n} of a long conversation") });
            if client.publish(&topic, QoS::AtLeastOnce, false, body.to_string()).await.is_err() {
                break;
            }
        }
        client
    });
    let bar = progress(u64::from(count), "messages");
    let mut acknowledged = 0;
    while acknowledged < count {
        if let Event::Incoming(Packet::PubAck(_)) =
            events.poll().await.context("the MQTT connection ended")?
        {
            acknowledged += 1;
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    sending.await.context("a task panicked")?.disconnect().await.ok();
    Ok(())
}

async fn measure(
    opts: &Opts,
    target: &Target,
    reader: &Account,
    question: Question,
) -> anyhow::Result<Report> {
    let (cpu_before, statements_before) = (opts.target.pid.and_then(cpu_time), statements(target).await);
    let (begin, length) = (Instant::now(), Duration::from_secs(u64::from(opts.seconds)));
    let token = Arc::<str>::from(reader.access_token.as_str());
    let mut tasks = JoinSet::new();
    for _ in 0..opts.clients {
        tasks.spawn(ask(target.clone(), Arc::clone(&token), question.clone(), begin + length));
    }
    let mut latencies: Vec<Duration> = Vec::new();
    while let Some(part) = tasks.join_next().await {
        latencies.extend(part.context("a task panicked")??);
    }
    let elapsed = begin.elapsed().as_secs_f64();
    let count = latencies.len().max(1) as f64;
    let cpu = opts.target.pid.and_then(cpu_time).zip(cpu_before);
    let statements = statements(target).await.zip(statements_before);
    latencies.sort_unstable();
    let quantile = |q: f64| {
        let place = (latencies.len().saturating_sub(1) as f64 * q) as usize;
        latencies.get(place).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
    };
    Ok(Report {
        request: question.name.to_owned(),
        clients: opts.clients,
        per_second: count / elapsed,
        p50_ms: quantile(0.5),
        p99_ms: quantile(0.99),
        server_cpu_us: cpu.map(|(after, before)| after.saturating_sub(before).as_secs_f64() * 1e6 / count),
        statements: statements.map(|(after, before)| (after - before) / count),
    })
}

/// How long each answer took, until `end`.
async fn ask(
    target: Target,
    token: Arc<str>,
    question: Question,
    end: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let Question { method, path, body, .. } = question;
    let url = format!("{}/{path}", target.api);
    let mut latencies = Vec::new();
    while Instant::now() < end {
        let mut request = target.client.request(method.clone(), &url).bearer_auth(&token);
        if let Some(body) = &body {
            request = request.json(body);
        }
        let begun = Instant::now();
        let response = request.send().await.with_context(|| format!("no answer from {url}"))?;
        let status = response.status();
        let answer = response.bytes().await?;
        latencies.push(begun.elapsed());
        anyhow::ensure!(status.is_success(), "{url} answered {status}: {}", String::from_utf8_lossy(&answer));
    }
    Ok(latencies)
}

/// How many SQL statements the server has run.
async fn statements(target: &Target) -> Option<f64> {
    target.metrics().await?.value("curlew_sql_statements_total")
}
