//! A throw-away PostgreSQL server out of the distribution's binaries: one per test binary, one database per test.
//!
//! Without binaries the tests that need it say so and are skipped; with `postgres` in `CURLEW_TEST_REQUIRE` they fail.

use crate::required;
use anyhow::{Context, Result, bail, ensure};
use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// Makes, starts and in the end removes a cluster. It lives as long as its standard input is open, so it goes with the
/// test process, however that ends.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
dir=$(mktemp -d "${TMPDIR:-/tmp}/curlew-postgres.XXXXXX") || exit 1
finish() { "$bin/pg_ctl" -D "$dir/data" -m immediate stop >/dev/null 2>&1; cd /; rm -rf "$dir"; }
cd "$dir" &&
"$bin/initdb" -D "$dir/data" -U curlew -A trust -E UTF8 --locale=C -N >"$dir/initdb.log" 2>&1 &&
"$bin/pg_ctl" -D "$dir/data" -l "$dir/server.log" -w -t 60 -o "-p $port -h 127.0.0.1 -k $dir $settings" start >"$dir/start.log" 2>&1 ||
{ cat "$dir"/*.log >&2; finish; exit 1; }
echo ready
cat >/dev/null
finish
"#;

/// A running server.
pub struct PostgresServer {
    binaries: PathBuf,
    port: u16,
    databases: AtomicU32,
    /// Closing it ends the server.
    _alive: ChildStdin,
    _keeper: Child,
}

static SHARED: LazyLock<Option<PostgresServer>> = LazyLock::new(|| {
    // Tests kill Curlew, not PostgreSQL: no fsync is needed to survive that.
    let settings = "-c fsync=off -c max_connections=400 -c deadlock_timeout=200ms";
    let Some(binaries) = find_binaries() else {
        assert!(
            !required("postgres"),
            "CURLEW_TEST_REQUIRE names postgres, but its binaries (initdb, pg_ctl) were not found"
        );
        return None;
    };
    Some(PostgresServer::start_with(binaries, settings).expect("a throw-away PostgreSQL server starts"))
});

impl PostgresServer {
    /// The server of this test binary; `None`, and a line that names `test` as skipped, where PostgreSQL is not installed.
    pub fn shared(test: &str) -> Option<&'static Self> {
        if SHARED.is_none() {
            // Past the capture of the test harness: a skipped test must not look like a passed one.
            writeln!(std::io::stderr(), "skipped: {test} (PostgreSQL's binaries were not found)").ok();
        }
        SHARED.as_ref()
    }

    /// A server of one's own, with further arguments of `postgres`, such as `-c fsync=on`.
    pub fn start(settings: &str) -> Result<Self> {
        let binaries = find_binaries().context("PostgreSQL's binaries (initdb, pg_ctl) were not found")?;
        Self::start_with(binaries, settings)
    }

    fn start_with(binaries: PathBuf, settings: &str) -> Result<Self> {
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let mut command = unprivileged()?;
        let mut keeper = command
            .args(["sh", "-c", SCRIPT])
            .env("bin", &binaries)
            .env("port", port.to_string())
            .env("settings", settings)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run the script that keeps the server")?;
        let alive = keeper.stdin.take().context("the script has no standard input")?;
        let mut answer = String::new();
        BufReader::new(keeper.stdout.take().context("the script has no standard output")?)
            .read_line(&mut answer)?;
        ensure!(answer.trim() == "ready", "the server did not start; its log is above");
        Ok(Self { binaries, port, databases: AtomicU32::new(0), _alive: alive, _keeper: keeper })
    }

    /// Makes an empty database; answers its URL.
    pub fn create_database(&self) -> Result<String> {
        let name = format!("t{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let port = self.port.to_string();
        let make = |strategy: &[&str]| {
            Command::new(self.binaries.join("createdb"))
                .args(["-h", "127.0.0.1", "-p", &port, "-U", "curlew", &name])
                .args(strategy)
                .output()
                .context("cannot run createdb")
        };
        // Copying files takes half the time of logging them; before PostgreSQL 15 it is the only way, and has no name.
        let mut made = make(&["--strategy=file_copy"])?;
        if !made.status.success() {
            made = make(&[])?;
        }
        if !made.status.success() {
            bail!("createdb: {}", String::from_utf8_lossy(&made.stderr));
        }
        Ok(format!("postgres://curlew@127.0.0.1:{port}/{name}"))
    }
}

/// PostgreSQL refuses to run as root: then a command is run as the user that Debian's package makes.
fn unprivileged() -> Result<Command> {
    let mut command = Command::new("setpriv");
    if output(Command::new("id").arg("-u"))? == "0" {
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups", "env"]);
        return Ok(command);
    }
    Ok(Command::new("env"))
}

/// By `pg_config`, then `PATH`, then where Debian puts them (the newest version).
fn find_binaries() -> Option<PathBuf> {
    let complete =
        |dir: &PathBuf| ["initdb", "pg_ctl", "createdb"].iter().all(|name| dir.join(name).exists());
    let configured = output(Command::new("pg_config").arg("--bindir")).ok().map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut packaged: Vec<PathBuf> = Path::new("/usr/lib/postgresql")
        .read_dir()
        .map(|versions| versions.flatten().map(|version| version.path().join("bin")).collect())
        .unwrap_or_default();
    packaged.sort();
    configured
        .into_iter()
        .chain(std::env::split_paths(&path))
        .chain(packaged.into_iter().rev())
        .find(complete)
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?} failed");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
