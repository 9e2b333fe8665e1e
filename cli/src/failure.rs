//! Why a command failed, and the exit code that says so.

use crate::{admin::AdminError, config::Mistakes, data_dir::DataDirError};
use curlew_domain::ErrorCode;
use std::{io, process::ExitCode};

/// The exit codes of CONTRACT.md, numbered as in `sysexits.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Success = 0,
    /// Usage or configuration: doing it again will not help.
    Usage = 64,
    /// A needed service or the data directory is unavailable.
    Unavailable = 69,
    /// A defect.
    Internal = 70,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration is wrong.
    #[error(transparent)]
    Configuration(#[from] Mistakes),
    /// The command line or its input is wrong, or what it asks for is refused.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// Something outside this process is not there.
    #[error("{message}")]
    Unavailable {
        /// What is missing.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The data directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The services said no, here or in the server.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// Nobody reads what we print.
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
    /// A second signal came before the first had stopped us.
    #[error("stopped at once by a second signal; what was acknowledged is stored")]
    Aborted,
    /// A defect.
    #[error("internal error: {0:#}")]
    Internal(#[from] anyhow::Error),
}

impl Failure {
    /// A wrong use, without a hint.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: None }
    }

    /// Something missing, without a hint.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::Unavailable { message: message.into(), hint: None }
    }

    /// With `hint`, where the kind of failure has one.
    #[must_use]
    pub fn with_hint(mut self, text: impl Into<String>) -> Self {
        if let Self::Usage { hint, .. } | Self::Unavailable { hint, .. } = &mut self {
            *hint = Some(text.into());
        }
        self
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Configuration(_) | Self::Usage { .. } => Exit::Usage,
            Self::Unavailable { .. } | Self::DataDir(_) => Exit::Unavailable,
            Self::Admin(error) => exit_for(error.code),
            // `curlew users list | head -1` is no failure.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Success,
            Self::Output(_) | Self::Aborted | Self::Internal(_) => Exit::Internal,
        }
    }

    /// The lines after `error: `, one for each thing that is wrong; none when there is nothing to say.
    pub fn messages(&self) -> Vec<String> {
        match self {
            Self::Configuration(mistakes) => mistakes.0.iter().map(ToString::to_string).collect(),
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Vec::new(),
            other => vec![other.to_string()],
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Usage { hint, .. } | Self::Unavailable { hint, .. } => hint.as_deref(),
            Self::Configuration(_) => Some("`curlew serve --help` lists every setting"),
            Self::DataDir(DataDirError::Unusable { .. } | DataDirError::InUse { .. }) => {
                Some("another directory can be given with --data-dir or CURLEW_SERVER_DATA_DIR")
            }
            Self::Admin(_) | Self::Output(_) | Self::Aborted | Self::Internal(_) => None,
        }
    }
}

/// The third of the three mappers over [`ErrorCode`]: problem+json and MQTT reason codes are the others.
fn exit_for(code: ErrorCode) -> Exit {
    match code {
        ErrorCode::InvalidRequest
        | ErrorCode::InvalidTopic
        | ErrorCode::Unauthenticated
        | ErrorCode::InvalidCredentials
        | ErrorCode::RegistrationClosed
        | ErrorCode::Forbidden
        | ErrorCode::NotMember
        | ErrorCode::Blocked
        | ErrorCode::UserDeleted
        | ErrorCode::MessageDeleted
        | ErrorCode::TooLate
        | ErrorCode::NotContact
        | ErrorCode::NotFound
        | ErrorCode::MethodNotAllowed
        | ErrorCode::UsernameTaken
        | ErrorCode::LocalIdConflict
        | ErrorCode::DeviceLimit
        | ErrorCode::RetainedFull
        | ErrorCode::GroupFull
        | ErrorCode::PayloadTooLarge
        | ErrorCode::UnsupportedMediaType => Exit::Usage,
        ErrorCode::RequestTimeout | ErrorCode::TooManyRequests | ErrorCode::Unavailable => Exit::Unavailable,
        ErrorCode::Internal => Exit::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_its_exit_code() {
        let admin = |code| Failure::from(AdminError { code, message: String::new() });
        assert_eq!(Failure::usage("x").exit() as u8, 64);
        assert_eq!(Failure::unavailable("x").exit() as u8, 69);
        assert_eq!(Failure::from(Mistakes(Vec::new())).exit() as u8, 64);
        assert_eq!(Failure::from(anyhow::anyhow!("x")).exit() as u8, 70);
        assert_eq!(admin(ErrorCode::UsernameTaken).exit() as u8, 64);
        assert_eq!(admin(ErrorCode::Unavailable).exit() as u8, 69);
        assert_eq!(admin(ErrorCode::Internal).exit() as u8, 70);
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert_eq!((failure.exit(), failure.messages()), (Exit::Success, Vec::new()));
    }
}
