//! The data directory: made, checked, and locked by whoever works in it.

mod atomic_file;
mod jwt_secret;
#[cfg(test)]
mod tests;

pub use atomic_file::write_atomically;

use std::{
    fmt,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process,
};

/// Why the data directory cannot be used. Each message is one line that names the directory.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// It cannot be made, read or written.
    #[error("cannot use the data directory {}: {problem}", .path.display())]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        problem: String,
    },
    /// Another process works in it.
    #[error("the data directory {} is in use by {holder}", .path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Who.
        holder: Holder,
    },
}

/// What a process wants the directory for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `curlew serve`: keeps the lock for its life.
    Server,
    /// An administrative command: keeps the lock for moments.
    Command,
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Self::Server => "serve",
            Self::Command => "command",
        }
    }
}

/// Who holds the lock, as far as the lock file tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// `None` in the moment between locking and writing.
    pub pid: Option<u32>,
    /// As [`Holder::pid`].
    pub role: Option<Role>,
}

impl Holder {
    fn parse(text: &str) -> Self {
        let mut lines = text.lines();
        let pid = lines.next().and_then(|line| line.parse().ok());
        let role = lines
            .next()
            .and_then(|line| [Role::Server, Role::Command].into_iter().find(|r| r.word() == line));
        Self { pid, role }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.role {
            Some(Role::Server) => "another server",
            Some(Role::Command) => "a curlew command",
            None => "another process",
        };
        match self.pid {
            Some(pid) => write!(f, "{what} (pid {pid})"),
            None => f.write_str(what),
        }
    }
}

/// A directory that exists and can be written.
#[derive(Clone, Debug)]
pub struct DataDir {
    path: PathBuf,
}

/// What trying to lock came to.
#[derive(Debug)]
pub enum Locking {
    /// It is ours.
    Acquired(LockedDataDir),
    /// Somebody else's.
    Held(Holder),
}

impl DataDir {
    /// Makes the directory (0700) if it is not there, and writes a file in it to see that this can be done.
    pub fn prepare(path: &Path) -> Result<Self, DataDirError> {
        let dir = Self { path: path.to_owned() };
        let check = || {
            DirBuilder::new().recursive(true).mode(0o700).create(path)?;
            let probe = path.join(format!(".probe-{}", process::id()));
            let written = fs::write(&probe, b"curlew");
            // Removed whatever came of it: a full disk leaves an empty file.
            let removed = fs::remove_file(&probe);
            written.and(removed)
        };
        check().map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                dir.unusable("it is not a directory")
            }
            _ => dir.unusable(error),
        })?;
        Ok(dir)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the exclusive lock unless somebody has it. Never waits.
    ///
    /// The system gives the lock back when its holder dies, in whatever way, so it is never stale; what the file says
    /// is only for messages.
    pub fn try_lock(&self, role: Role) -> Result<Locking, DataDirError> {
        let path = self.path.join("lock");
        let open =
            || OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = open().map_err(|error| self.unusable(format_args!("lock: {error}")))?;
        match file.try_lock() {
            Ok(()) => {
                let owner = format!("{}\n{}\n", process::id(), role.word());
                let write = |file: &mut File| {
                    file.set_len(0)?;
                    file.rewind()?;
                    file.write_all(owner.as_bytes())
                };
                write(&mut file).map_err(|error| self.unusable(format_args!("lock: {error}")))?;
                Ok(Locking::Acquired(LockedDataDir { dir: self.clone(), _lock: file }))
            }
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let told = file.take(64).read_to_string(&mut text).is_ok();
                Ok(Locking::Held(Holder::parse(if told { &text } else { "" })))
            }
            Err(TryLockError::Error(error)) => Err(self.unusable(format_args!("lock: {error}"))),
        }
    }

    /// The error that names `holder`.
    pub fn in_use(&self, holder: Holder) -> DataDirError {
        DataDirError::InUse { path: self.path.clone(), holder }
    }

    fn unusable(&self, problem: impl fmt::Display) -> DataDirError {
        DataDirError::Unusable { path: self.path.clone(), problem: problem.to_string() }
    }
}

/// A directory that no other process works in while this value lives.
#[derive(Debug)]
pub struct LockedDataDir {
    dir: DataDir,
    _lock: File,
}

impl LockedDataDir {
    /// The directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}
