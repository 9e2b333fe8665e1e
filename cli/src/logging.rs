//! The log: lines on standard error.

use crate::{
    config::{Log, LogFormat},
    failure::Failure,
    output,
};
use std::io;
use tracing_subscriber::{EnvFilter, fmt};

/// Sends the log of this process to standard error. Once, by `serve`; the other commands print what they have to say.
pub fn start(log: &Log) -> Result<(), Failure> {
    let filter = EnvFilter::builder().parse(&log.level).map_err(anyhow::Error::from)?;
    let lines = fmt().with_env_filter(filter).with_writer(io::stderr);
    let started = match log.format {
        LogFormat::Text => lines.with_ansi(output::has_colour(&io::stderr())).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Failure::Internal(anyhow::anyhow!("the log was started twice: {error}")))
}
