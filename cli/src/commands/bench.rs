//! `curlew bench`: measures a running server from outside, with a stock client.

mod client;
mod idle;
mod metrics;
mod plain;
mod presence;
mod rest;
mod sends;
mod storm;

use crate::{config::CommonFlags, failure::Failure, output::OutputOpts};
use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use rumqttc::MqttOptions;
use serde::Serialize;
use serde_json::{Value, json};
use std::{fs, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{sync::Semaphore, task::JoinSet};
use uuid::Uuid;

/// Requests at once.
const AT_ONCE: usize = 32;

/// What can be measured.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Durable sends: how many per second, and how long each waits for its acknowledgement
    ///
    /// The server must let its users send and register as fast as they can: CURLEW_LIMITS_MESSAGES_PER_SECOND=0,
    /// CURLEW_LIMITS_REGISTRATION_PER_ADDRESS_PER_HOUR=0.
    Sends(sends::Opts),
    /// Messages at QoS 1 in the plain lane, or through another broker: how many per second, and what each costs the server
    ///
    /// The server must let its users publish and register as fast as they can:
    /// CURLEW_LIMITS_PLAIN_MESSAGES_PER_SECOND=0, CURLEW_LIMITS_REGISTRATION_PER_ADDRESS_PER_HOUR=0.
    Plain(plain::Opts),
    /// The requests that apps make most: how many per second, how long each takes, how many SQL statements
    ///
    /// The server must let its users ask as fast as they can: CURLEW_LIMITS_MESSAGES_PER_SECOND=0,
    /// CURLEW_LIMITS_LOGIN_PER_MINUTE=0 and its like.
    Rest(rest::Opts),
    /// Idle connections: memory of the server for each
    Idle(idle::Opts),
    /// Thousands of sessions that drop and return at once: how long until all have what they missed, and what others notice
    ///
    /// The server must let users be made as fast as they can, and be told to let so many connect:
    /// CURLEW_LIMITS_REGISTRATION_PER_ADDRESS_PER_HOUR=0, CURLEW_LIMITS_LOGIN_PER_MINUTE=0,
    /// CURLEW_LIMITS_LOGIN_PER_ADDRESS_PER_MINUTE=0, CURLEW_LIMITS_CONTACT_REQUESTS_PER_DAY=0,
    /// CURLEW_LIMITS_MESSAGES_PER_SECOND=0, CURLEW_AUTH_BCRYPT_COST=4, CURLEW_LIMITS_CONNECTIONS (10000) above --sessions, and
    /// `ulimit -n` as well. From another host also CURLEW_LIMITS_CONNECTIONS_PER_ADDRESS=0 and CURLEW_METRICS_PUBLIC=true.
    Storm(storm::Opts),
    /// Presence: what each change costs the server when many contacts watch
    ///
    /// The server must let users be made as fast as they can: CURLEW_LIMITS_REGISTRATION_PER_ADDRESS_PER_HOUR=0,
    /// CURLEW_LIMITS_CONTACT_REQUESTS_PER_DAY=0, CURLEW_LIMITS_MESSAGES_PER_SECOND=0, CURLEW_AUTH_BCRYPT_COST=4.
    Presence(presence::Opts),
}

/// Which server.
#[derive(Debug, clap::Args)]
struct TargetOpts {
    /// Process of the server, to report its CPU time or memory (Linux)
    #[arg(long)]
    pid: Option<u32>,
    /// Where the server's HTTP listens [default: as configured]
    #[arg(long, value_name = "ADDR:PORT")]
    http: Option<SocketAddr>,
    /// Where the server's MQTT listens [default: as configured]
    #[arg(long, value_name = "ADDR:PORT")]
    mqtt: Option<SocketAddr>,
    #[command(flatten)]
    output: OutputOpts,
    #[command(flatten)]
    flags: CommonFlags,
}

/// Runs `command`.
pub fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Sends(opts) => sends::run(opts),
        Command::Plain(opts) => plain::run(opts),
        Command::Rest(opts) => rest::run(opts),
        Command::Idle(opts) => idle::run(opts),
        Command::Storm(opts) => storm::run(opts),
        Command::Presence(opts) => presence::run(opts),
    }
}

/// A server to be measured.
#[derive(Clone)]
struct Target {
    api: String,
    mqtt: SocketAddr,
    client: reqwest::Client,
    /// Tells the users of this run from those of others.
    run: String,
}

/// A user made for a measurement.
struct Account {
    user_id: String,
    mqtt_password: String,
    access_token: String,
}

impl Account {
    fn of(login: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            user_id: text(&login["mqtt"]["username"]),
            mqtt_password: text(&login["mqtt"]["password"]),
            access_token: text(&login["accessToken"]),
        }
    }
}

impl Target {
    fn resolve(opts: &TargetOpts) -> Result<Self, Failure> {
        let config = super::configuration(&opts.flags)?;
        let http = crate::address::reachable(opts.http.unwrap_or(config.http.listen));
        Ok(Self {
            api: format!("http://{http}/api"),
            mqtt: crate::address::reachable(opts.mqtt.unwrap_or(config.mqtt.listen)),
            client: reqwest::Client::new(),
            run: Uuid::now_v7().simple().to_string()[20..].to_owned(),
        })
    }

    async fn register(&self, n: u32) -> anyhow::Result<Account> {
        let username = format!("bench.{}.{n}", self.run);
        let body = json!({ "username": username, "password": "bench password", "displayName": "Bench" });
        Ok(Account::of(&self.post("auth/register", None, &body).await?))
    }

    /// A further login of a registered user.
    async fn sign_in(&self, n: u32, device: &str) -> anyhow::Result<Account> {
        let device = json!({ "name": device, "platform": "bench" });
        let login = format!("bench.{}.{n}", self.run);
        let body = json!({ "login": login, "password": "bench password", "device": device });
        Ok(Account::of(&self.post("auth/login", None, &body).await?))
    }

    async fn post(&self, path: &str, token: Option<&str>, body: &Value) -> anyhow::Result<Value> {
        let url = format!("{}/{path}", self.api);
        let mut request = self.client.post(&url).json(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.with_context(|| format!("no answer from {url}"))?;
        let status = response.status();
        let answer = response.text().await?;
        anyhow::ensure!(status.is_success(), "{url} answered {status}: {answer}");
        Ok(serde_json::from_str(&answer)?)
    }

    fn mqtt_options(&self, account: &Account, client_id: &str) -> MqttOptions {
        let mut options = MqttOptions::new(client_id, self.mqtt.ip().to_string(), self.mqtt.port());
        options.set_credentials(&account.user_id, &account.mqtt_password);
        options.set_clean_session(true).set_keep_alive(Duration::from_mins(1));
        options
    }
}

/// Measures a server, and prints the report.
fn run_on<T: Serialize>(
    opts: &TargetOpts,
    measure: impl AsyncFnOnce(&Target) -> anyhow::Result<T>,
    text: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    let target = Target::resolve(opts)?;
    super::block_on(async {
        let report = measure(&target).await.map_err(|error| failed(&error))?;
        opts.output.print(&report, text)
    })
}

fn failed(error: &anyhow::Error) -> Failure {
    Failure::unavailable(format!("{error:#}"))
}

/// A line of a process's memory in KiB, such as `VmRSS:` (Linux).
fn memory(pid: u32, line: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|found| found.strip_prefix(line))?.split_whitespace().next()?.parse().ok()
}

fn progress(length: u64, unit: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(&format!("{{bar:40}} {{pos}}/{{len}} {unit}"));
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Does all jobs, some at once; answers in their order.
async fn all<J, T, F>(unit: &str, jobs: Vec<J>, mut work: impl FnMut(J) -> F) -> anyhow::Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = anyhow::Result<T>> + Send + 'static,
{
    let bar = progress(jobs.len() as u64, unit);
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for (n, job) in jobs.into_iter().enumerate() {
        let (places, bar, work) = (Arc::clone(&places), bar.clone(), work(job));
        tasks.spawn(async move {
            let _place = places.acquire().await;
            let done = work.await;
            bar.inc(1);
            done.map(|done| (n, done))
        });
    }
    let mut done = Vec::with_capacity(tasks.len());
    while let Some(one) = tasks.join_next().await {
        done.push(one.context("a task panicked")??);
    }
    bar.finish_and_clear();
    done.sort_unstable_by_key(|(n, _)| *n);
    Ok(done.into_iter().map(|(_, done)| done).collect())
}

/// CPU time, user and system, of a process (Linux).
fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses, which may hold spaces.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    // USER_HZ is 100 on every architecture that Linux runs on today.
    Some(Duration::from_millis(ticks * 10))
}
