//! `--ready-file`: tells scripts that every port is open, and where.

use crate::{admin::Endpoints, data_dir::write_atomically, failure::Failure};
use serde::Serialize;
use std::{fs, io, net::SocketAddr, path::Path, process};

#[derive(Serialize)]
struct Ready {
    http: SocketAddr,
    mqtt: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    mqtts: Option<SocketAddr>,
    pid: u32,
}

/// Removes the file of an earlier run, so that nobody takes it for this one's.
pub fn clear(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path, &error)),
        _ => Ok(()),
    }
}

/// Writes the file; a reader sees nothing or all of it.
pub fn write(path: &Path, endpoints: &Endpoints) -> Result<(), Failure> {
    let Endpoints { http, mqtt, mqtts } = *endpoints;
    let ready = Ready { http, mqtt, mqtts, pid: process::id() };
    let json = serde_json::to_vec(&ready).map_err(anyhow::Error::from)?;
    write_atomically(path, &json, 0o644).map_err(|error| failed(path, &error))
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::unavailable(format!("cannot write the ready file {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_the_addresses_and_the_pid() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ready.json");
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let mut endpoints = Endpoints { http: address(1), mqtt: address(2), mqtts: None };
        clear(&path).unwrap();
        write(&path, &endpoints).unwrap();
        let expected = format!(r#"{{"http":"127.0.0.1:1","mqtt":"127.0.0.1:2","pid":{}}}"#, process::id());
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        endpoints.mqtts = Some(address(3));
        write(&path, &endpoints).unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains(r#""mqtts":"127.0.0.1:3""#));
        clear(&path).unwrap();
        assert!(!path.exists());
        assert!(write(&dir.path().join("no/such"), &endpoints).is_err());
    }
}
