//! `curlew devices`: tokens for devices that cannot log in by themselves.

use crate::{
    admin::{AdminReply, AdminRequest, DeviceToken},
    config::CommonFlags,
    failure::Failure,
    output::{self, OutputOpts},
};

/// What can be done with devices.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Issue a token for a device: MQTT password and REST bearer, valid until revoked
    Token(TokenOpts),
    /// Revoke the tokens of a device; its connections end
    Revoke(RevokeOpts),
}

/// Options of `curlew devices token`.
#[derive(Debug, clap::Args)]
pub struct TokenOpts {
    /// Whose device
    username: String,
    /// Name of the device, made if it is not there [default: default]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// What it runs on, such as android
    #[arg(long)]
    platform: Option<String>,
    #[command(flatten)]
    output: OutputOpts,
    #[command(flatten)]
    flags: CommonFlags,
}

/// Options of `curlew devices revoke`.
#[derive(Debug, clap::Args)]
pub struct RevokeOpts {
    /// Whose device
    username: String,
    /// Name of the device
    #[arg(long, value_name = "NAME", default_value = "default")]
    name: String,
    #[command(flatten)]
    output: OutputOpts,
    #[command(flatten)]
    flags: CommonFlags,
}

/// Runs `command`.
pub fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Token(opts) => issue(opts),
        Command::Revoke(opts) => revoke(opts),
    }
}

fn revoke(opts: &RevokeOpts) -> Result<(), Failure> {
    let config = super::configuration(&opts.flags)?;
    let request =
        AdminRequest::DevicesRevoke { username: opts.username.clone(), device_name: opts.name.clone() };
    let AdminReply::TokensRevoked { count } = super::administer(&config, request)? else {
        return Err(super::unexpected_reply());
    };
    opts.output.print(&serde_json::json!({ "revoked": count }), |_| match count {
        0 => format!("{} has no live token for a device named {}.", opts.username, opts.name),
        1 => "1 token revoked.".to_owned(),
        count => format!("{count} tokens revoked."),
    })
}

fn issue(opts: &TokenOpts) -> Result<(), Failure> {
    let config = super::configuration(&opts.flags)?;
    let request = AdminRequest::DevicesToken {
        username: opts.username.clone(),
        device_name: opts.name.clone(),
        platform: opts.platform.clone(),
    };
    let AdminReply::DeviceToken(token) = super::administer(&config, request)? else {
        return Err(super::unexpected_reply());
    };
    opts.output.print(&token, token_text)
}

fn token_text(token: &DeviceToken) -> String {
    // Exposed to the one who asked for it.
    let secret = token.token.expose().clone();
    let row = vec![token.username.clone(), token.device_name.clone(), token.device_id.clone(), secret];
    output::table(&["username", "device", "device id", "token"], [row])
}
