//! The commands, one file each: what can be asked (`Opts`) and what is done (`run`).

mod bench;
mod demo;
mod devices;
mod password;
mod serve;
#[cfg(test)]
mod tests;
mod users;

use crate::{
    admin::{self, AdminReply, AdminRequest},
    config::{self, CommonFlags, Config, Flags},
    failure::Failure,
    output, wiring,
};
use std::{env, future::Future, path::Path};

/// A self-hosted messaging server: chats over MQTT and REST.
///
/// Without a command it serves.
#[derive(Debug, clap::Parser)]
#[command(name = "curlew", version, args_conflicts_with_subcommands = true, after_long_help = config::describe())]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: serve::Opts,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run a server (the default)
    #[command(after_long_help = config::describe())]
    Serve(serve::Opts),
    /// Create and list users
    #[command(subcommand)]
    Users(users::Command),
    /// Administer the devices of users
    #[command(subcommand)]
    Devices(devices::Command),
    /// Create two users who chat, and print commands to try it
    Demo(demo::Opts),
    /// Measure a running server from outside
    #[command(subcommand)]
    Bench(bench::Command),
}

/// Runs what the command line says.
pub fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        None => serve::run(&cli.serve),
        Some(Command::Serve(opts)) => serve::run(&opts),
        Some(Command::Users(command)) => users::run(&command),
        Some(Command::Devices(command)) => devices::run(&command),
        Some(Command::Demo(opts)) => demo::run(&opts),
        Some(Command::Bench(command)) => bench::run(&command),
    }
}

/// The configuration for a command that has no log: warnings go to standard error.
fn configuration(flags: &CommonFlags) -> Result<Config, Failure> {
    let loaded = config::load(&Flags::from(flags), env::vars_os())?;
    for warning in &loaded.warnings {
        output::print_warning(warning);
    }
    Ok(loaded.config)
}

/// Carries out `request`, by the running server or, without one, here.
fn administer(config: &Config, request: AdminRequest) -> Result<AdminReply, Failure> {
    let makes_something = matches!(request, AdminRequest::UsersCreate { .. } | AdminRequest::Demo {});
    if !makes_something && !wiring::has_data(config) {
        let place = config.server.data_dir.display();
        return Err(Failure::unavailable(format!("there is no server's data in {place}"))
            .with_hint("name the server's directory with --data-dir or CURLEW_SERVER_DATA_DIR"));
    }
    let directly = |data_dir, request| wiring::administer(config, data_dir, request);
    block_on(admin::with_admin(&config.server.data_dir, request, directly))
}

/// The reply does not belong to the request.
fn unexpected_reply() -> Failure {
    Failure::Internal(anyhow::anyhow!(
        "the server answered something else than was asked; is it of another version?"
    ))
}

/// Runs `work` on a runtime of its own. Afterwards nothing is waited for: what matters has ended with `work`.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(anyhow::Error::from)?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_background();
    outcome
}

/// `arguments` to this program, as somebody in the same directory has to type them.
fn command_line(arguments: &str, config: &Config) -> String {
    let program = env::args().next().unwrap_or_else(|| "curlew".to_owned());
    with_data_dir(&format!("{} {arguments}", output::shell_word(&program)), &config.server.data_dir)
}

fn with_data_dir(command: &str, data_dir: &Path) -> String {
    if data_dir == config::default_data_dir() {
        command.to_owned()
    } else {
        format!("{command} --data-dir {}", output::shell_word(&data_dir.to_string_lossy()))
    }
}
