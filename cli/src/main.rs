//! The `curlew` command: `serve` runs a node, everything else administers one.
//!
//! [`commands`] has one file per command; [`wiring`] is the only place that knows which adapter stands behind which port.

mod address;
mod admin;
mod commands;
mod config;
mod data_dir;
mod failure;
mod logging;
mod output;
mod wiring;

use clap::Parser;
use failure::{Exit, Failure};
use std::{panic, process::ExitCode};

fn main() -> ExitCode {
    let cli = match commands::Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => {
            // Standard output for --help and --version, standard error otherwise. Closed: nobody to tell.
            let _ = answer.print();
            return if answer.use_stderr() { Exit::Usage } else { Exit::Success }.into();
        }
    };
    // The panic has already printed itself; a defect has its own exit code.
    let outcome = panic::catch_unwind(|| commands::run(cli))
        .unwrap_or_else(|_| Err(Failure::Internal(anyhow::anyhow!("curlew panicked, which is a defect"))));
    match outcome {
        Ok(()) => Exit::Success.into(),
        Err(failure) => {
            output::print_failure(&failure);
            failure.exit().into()
        }
    }
}
