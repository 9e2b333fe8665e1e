//! The socket in the data directory.

use crate::data_dir::LockedDataDir;
use std::{
    fs::{self, File, Permissions},
    io,
    os::{fd::AsRawFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
};
use tokio::net::{UnixListener, UnixSocket};

const FILE: &str = "admin.sock";
/// Longer paths do not fit into an address of the socket: 108 bytes on Linux, 104 elsewhere, with an end mark.
const MAX_ADDRESS_BYTES: usize = 100;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 64;

/// Listens for administrative commands. The file is removed when this is dropped.
#[derive(Debug)]
pub struct AdminListener {
    pub(super) listener: UnixListener,
    path: PathBuf,
}

impl AdminListener {
    /// Listens at `admin.sock` in `dir`, mode 0600. A file left there by a server that died is removed: holding the lock
    /// proves that it is nobody's.
    pub fn bind(dir: &LockedDataDir) -> io::Result<Self> {
        let path = dir.path().join(FILE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = UnixSocket::new_stream()?;
        socket.bind(Address::of(dir.path())?.path())?;
        // Before listening: until then nobody can connect, whatever the umask.
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(Self { listener: socket.listen(BACKLOG)?, path })
    }
}

impl Drop for AdminListener {
    fn drop(&mut self) {
        // Best effort: the next holder of the lock removes what is left.
        let _ = fs::remove_file(&self.path);
    }
}

/// A path of the socket that fits into an address, however deep the data directory is.
pub(super) struct Address {
    path: PathBuf,
    /// What a path over `/proc/self/fd` goes through.
    _dir: Option<File>,
}

impl Address {
    pub(super) fn of(dir: &Path) -> io::Result<Self> {
        let path = dir.join(FILE);
        if path.as_os_str().len() <= MAX_ADDRESS_BYTES || !cfg!(target_os = "linux") {
            return Ok(Self { path, _dir: None });
        }
        let dir = File::open(dir)?;
        Ok(Self { path: format!("/proc/self/fd/{}/{FILE}", dir.as_raw_fd()).into(), _dir: Some(dir) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}
