//! `curlew serve`: start, say so, run, stop.

mod banner;
mod ready_file;
mod signals;

use crate::{
    admin::{AdminListener, serve_admin},
    config::{self, Config, Flags, ServeFlags},
    data_dir::{DataDir, LockedDataDir, Locking, Role},
    failure::Failure,
    logging, output,
    wiring::Node,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signals::Signals;
use std::{env, path::PathBuf, time::Duration};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// Options of `curlew serve`, and of `curlew` alone.
#[derive(Debug, clap::Args)]
pub struct Opts {
    #[command(flatten)]
    flags: ServeFlags,
    /// Written when every port is open: JSON with the addresses and the pid
    #[arg(long, value_name = "PATH")]
    ready_file: Option<PathBuf>,
}

/// How long a server waits for a command that works in the data directory.
const WAIT_FOR_COMMAND: Duration = Duration::from_secs(10);
const LOOK_AGAIN_EVERY: Duration = Duration::from_millis(50);
/// Files beside the sockets of connections.
const OTHER_FILES: u64 = 200;

/// Serves until SIGTERM or Ctrl-C.
pub fn run(opts: &Opts) -> Result<(), Failure> {
    let loaded = config::load(&Flags::from(&opts.flags), env::vars_os())?;
    logging::start(&loaded.config.log)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    allow_files(loaded.config.limits.connections);
    super::block_on(async {
        let shutdown = CancellationToken::new();
        let signals = Signals::listen()?;
        tokio::select! {
            outcome = serve(opts, &loaded.config, &shutdown) => outcome,
            () = signals.second(&shutdown) => Err(Failure::Aborted),
        }
    })
}

/// Lets this process open as many files as its user may: each connection is one. Tells when that is too few.
fn allow_files(connections: usize) {
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OTHER_FILES);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_err() {
        tracing::warn!("the number of files that may be open could not be raised");
    }
    let most = getrlimit(Resource::Nofile).current;
    if let Some(most) = most.filter(|most| *most < needed) {
        tracing::warn!(
            "limits.connections needs {needed} open files, and no more than {most} may be: raise ulimit -n"
        );
    }
}

async fn serve(opts: &Opts, config: &Config, shutdown: &CancellationToken) -> Result<(), Failure> {
    let data_dir = lock(config).await?;
    // Only now: the file may be that of the server that has the lock.
    if let Some(path) = &opts.ready_file {
        ready_file::clear(path)?;
    }
    let node = tokio::select! {
        node = Node::start(config, &data_dir, shutdown.child_token()) => node?,
        () = shutdown.cancelled() => return Ok(()),
    };
    let admin_stop = CancellationToken::new();
    let listener = AdminListener::bind(&data_dir)
        .map_err(|error| Failure::unavailable(format!("cannot listen on the admin socket: {error}")))?;
    let admin = serve_admin(listener, node.operator(), admin_stop.clone());
    let endpoints = node.endpoints.clone();
    let work = async {
        // Whatever ends the work ends the admin socket, which is joined below.
        let _stop = admin_stop.drop_guard();
        if let Some(path) = &opts.ready_file {
            ready_file::write(path, &endpoints)?;
        }
        tracing::info!(http = %endpoints.http, mqtt = %endpoints.mqtt, "ready");
        // Nobody may be reading: that is no reason not to serve.
        let _ = output::print(&banner::text(config, &endpoints));
        node.run().await
    };
    let (outcome, ()) = tokio::join!(work, admin);
    tracing::info!("stopped");
    outcome
}

/// Takes the lock. Another server is refused at once; a command is waited for, as it will be done in a moment.
async fn lock(config: &Config) -> Result<LockedDataDir, Failure> {
    let dir = DataDir::prepare(&config.server.data_dir)?;
    let give_up = Instant::now() + WAIT_FOR_COMMAND;
    loop {
        match dir.try_lock(Role::Server)? {
            Locking::Acquired(locked) => return Ok(locked),
            Locking::Held(holder) if holder.role == Some(Role::Server) || Instant::now() >= give_up => {
                return Err(dir.in_use(holder).into());
            }
            Locking::Held(_) => sleep(LOOK_AGAIN_EVERY).await,
        }
    }
}
