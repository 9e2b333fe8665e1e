//! The program under test: a real process with its own data directory, on ports that the system chooses.

use crate::{
    actor::Actor,
    http::Http,
    postgres::PostgresServer,
    wait::{DEADLINE, LOOK_AGAIN, eventually},
};
use serde::Deserialize;
use std::{
    env,
    fs::{self, OpenOptions},
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use tempfile::TempDir;

/// Given to servers on PostgreSQL, where it is required.
const JWT_SECRET: &str = "a secret of the tests, longer than 32 bytes";
/// Lines of the server's log that a failed test shows.
const LOG_LINES: usize = 60;

/// Where the truth is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// In the data directory.
    Sqlite,
    /// In a database of a throw-away server.
    Postgres,
}

impl Engine {
    /// Whether it can be used here. If not, `test` is reported as skipped.
    pub fn is_there(self, test: &str) -> bool {
        match self {
            Self::Sqlite => true,
            Self::Postgres => PostgresServer::shared(test).is_some(),
        }
    }
}

/// Where a server listens at present; shared with its actors, since a restart may change it.
#[derive(Debug)]
pub struct Endpoints(Mutex<Ready>);

impl Endpoints {
    /// Of the HTTP server.
    pub fn http(&self) -> SocketAddr {
        lock(&self.0).http
    }

    /// Of the MQTT server.
    pub fn mqtt(&self) -> SocketAddr {
        lock(&self.0).mqtt
    }

    /// Of the MQTT server over TLS, if it is on.
    pub fn mqtts(&self) -> Option<SocketAddr> {
        lock(&self.0).mqtts
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ready {
    http: SocketAddr,
    mqtt: SocketAddr,
    mqtts: Option<SocketAddr>,
    pid: u32,
}

/// A server that is about to be started.
pub struct Setup {
    engine: Engine,
    environment: Vec<(String, String)>,
}

impl Setup {
    /// With an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts it, and waits until it is ready.
    pub async fn start(self) -> TestServer {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let database_url = (self.engine == Engine::Postgres).then(|| {
            let postgres = PostgresServer::shared("a server").expect("asked for after `Engine::is_there`");
            postgres.create_database().expect("a database can be made")
        });
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = TestServer {
            engine: self.engine,
            dir,
            database_url,
            environment: self.environment,
            endpoints: Arc::new(Endpoints(Mutex::new(Ready {
                http: nowhere,
                mqtt: nowhere,
                mqtts: None,
                pid: 0,
            }))),
            process: Mutex::new(None),
        };
        server.start_again().await;
        server
    }
}

/// A running server. It is killed when dropped; when the test has failed, the end of its log is shown.
pub struct TestServer {
    engine: Engine,
    dir: TempDir,
    database_url: Option<String>,
    environment: Vec<(String, String)>,
    endpoints: Arc<Endpoints>,
    process: Mutex<Option<Child>>,
}

impl TestServer {
    /// A server with the default settings.
    pub async fn start(engine: Engine) -> Self {
        Self::setup(engine).start().await
    }

    /// A server with other settings.
    pub fn setup(engine: Engine) -> Setup {
        Setup { engine, environment: Vec::new() }
    }

    /// Which engine it runs on.
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// URL of its database, when that is not in the data directory.
    pub fn database_url(&self) -> Option<&str> {
        self.database_url.as_deref()
    }

    /// Where it listens.
    pub fn endpoints(&self) -> &Arc<Endpoints> {
        &self.endpoints
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        lock(&self.process).as_ref().map(Child::id).expect("the server runs")
    }

    /// Whether the process is still there.
    pub fn is_running(&self) -> bool {
        lock(&self.process).as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// REST without credentials.
    pub fn anonymous(&self) -> Http {
        Http::new(Arc::clone(&self.endpoints), None)
    }

    /// SIGKILL, and nothing after it.
    pub fn kill(&self) {
        let mut child = lock(&self.process).take().expect("the server runs");
        child.kill().expect("a process of ours can be killed");
        child.wait().expect("a process of ours can be waited for");
    }

    /// SIGTERM; answers how the process ended.
    pub async fn terminate(&self) -> ExitStatus {
        self.signal("TERM");
        self.ended().await
    }

    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -s {name} {}", self.pid())]).status();
        assert!(sent.is_ok_and(|status| status.success()), "a signal can be sent");
    }

    /// Waits for the process to end by itself.
    pub async fn ended(&self) -> ExitStatus {
        let mut child = lock(&self.process).take().expect("the server runs");
        eventually("the server to end", async || {
            child.try_wait().expect("a process of ours can be waited for")
        })
        .await
    }

    /// SIGTERM, then a new process on the same data.
    pub async fn restart(&self) {
        let status = self.terminate().await;
        assert!(status.success(), "the server ended with {status}");
        self.start_again().await;
    }

    /// SIGKILL, then a new process on the same data.
    pub async fn kill_and_restart(&self) {
        self.kill();
        self.start_again().await;
    }

    /// Starts the process, and waits until it is ready.
    pub async fn start_again(&self) {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        self.start_on(any, any).await;
    }

    /// The same, where it listened before.
    pub async fn start_again_on_the_same_ports(&self) {
        self.start_on(self.endpoints.http(), self.endpoints.mqtt()).await;
    }

    async fn start_on(&self, http: SocketAddr, mqtt: SocketAddr) {
        let ready_file = self.dir.path().join("ready.json");
        let _ = fs::remove_file(&ready_file);
        let append =
            |path| OpenOptions::new().create(true).append(true).open(path).expect("a file can be opened");
        let (printed, log) = (append(self.dir.path().join("printed")), append(self.log_path()));
        let child = self
            .command("serve")
            .args(["--http", &http.to_string(), "--mqtt", &mqtt.to_string(), "--ready-file"])
            .arg(&ready_file)
            .stdin(Stdio::null())
            .stdout(printed)
            .stderr(log)
            .spawn()
            .expect("the program can be run");
        let pid = child.id();
        *lock(&self.process) = Some(child);
        let ready = self.wait_until_ready(&ready_file).await;
        assert_eq!(ready.pid, pid, "the ready file names its own process");
        *lock(&self.endpoints.0) = ready;
    }

    async fn wait_until_ready(&self, ready_file: &Path) -> Ready {
        let give_up = Instant::now() + DEADLINE;
        loop {
            if let Ok(text) = fs::read(ready_file) {
                return serde_json::from_slice(&text)
                    .expect("the ready file is written at once and as promised");
            }
            assert!(self.is_running(), "the server ended instead of becoming ready");
            assert!(Instant::now() < give_up, "the server was not ready within {DEADLINE:?}");
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Runs `curlew` with these arguments on the server's data, beside the server or without it.
    pub fn curlew(&self, arguments: &[&str]) -> Output {
        self.curlew_with_input(arguments, "")
    }

    /// The same, with something to read on standard input.
    pub fn curlew_with_input(&self, arguments: &[&str], input: &str) -> Output {
        let mut words = arguments.iter();
        let mut command = self.command(words.next().expect("a command"));
        let mut child = command
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be run");
        // One that does not read its input has closed it.
        let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
        child.wait_with_output().expect("a process of ours can be waited for")
    }

    /// A command line that works on the server's data.
    fn command(&self, word: &str) -> Command {
        let mut command = curlew();
        command.arg(word).current_dir(self.dir.path()).env("CURLEW_SERVER_DATA_DIR", self.data_dir());
        if let Some(url) = &self.database_url {
            command.env("DATABASE_URL", url).env("JWT_SECRET", JWT_SECRET);
        }
        command.envs(self.environment.iter().cloned());
        command
    }

    /// Everything the server has logged, all processes of it.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Everything the server has written to standard output, all processes of it.
    pub fn printed(&self) -> String {
        fs::read_to_string(self.dir.path().join("printed")).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Registers a user who has one device.
    pub async fn user(&self, username: &str) -> Actor {
        Actor::register(self, username).await
    }

    /// Registers users who are contacts of each other; nobody is connected yet.
    pub async fn contacts<const N: usize>(&self, usernames: [&str; N]) -> [Actor; N] {
        let mut actors = Vec::with_capacity(N);
        for username in usernames {
            actors.push(self.user(username).await);
        }
        for (n, actor) in actors.iter().enumerate() {
            for peer in &actors[n + 1..] {
                actor.befriend(peer).await;
            }
        }
        actors.try_into().unwrap_or_else(|_| unreachable!("as many as were asked for"))
    }

    /// Alice and Bob: contacts, with a private chat, connected.
    pub async fn two_contacts(&self) -> (Actor, Actor) {
        let [alice, bob] = self.contacts(["alice", "bob"]).await;
        alice.private_chat(&bob).await;
        alice.connect().await;
        bob.connect().await;
        (alice, bob)
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(mut child) = lock(&self.process).take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
            eprintln!("---- the server's log ({:?}) ends so:\n{tail}\n----", self.engine);
        }
    }
}

/// Limits on how often something is done: all tests come from one address, and in a hurry.
const UNLIMITED: [&str; 7] = [
    "MESSAGES_PER_SECOND",
    "PLAIN_MESSAGES_PER_SECOND",
    "LOGIN_PER_MINUTE",
    "LOGIN_PER_ACCOUNT_PER_HOUR",
    "LOGIN_PER_ADDRESS_PER_MINUTE",
    "REGISTRATION_PER_ADDRESS_PER_HOUR",
    "CONTACT_REQUESTS_PER_DAY",
];

/// A command line of the program under test: cheap hashing, no limit on how often anything is done, and nothing of this
/// process's own configuration.
pub fn curlew() -> Command {
    let mut command = Command::new(program());
    for (name, _) in env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("CURLEW_")
            || ["DATABASE_URL", "JWT_SECRET", "JWT_EXPIRES_IN", "PORT"].contains(&&*name_text)
        {
            command.env_remove(&name);
        }
    }
    command.env("CURLEW_AUTH_BCRYPT_COST", "4");
    for limit in UNLIMITED {
        command.env(format!("CURLEW_LIMITS_{limit}"), "0");
    }
    command
}

/// The program: as Cargo tells the tests of the package that makes it, else beside the test binary.
fn program() -> PathBuf {
    if let Some(told) = env::var_os("CARGO_BIN_EXE_curlew") {
        return told.into();
    }
    let test = env::current_exe().expect("a process has a program");
    let beside = test.ancestors().nth(2).expect("it lies in target/debug/deps").join("curlew");
    assert!(beside.exists(), "{} is not there: cargo build", beside.display());
    beside
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
