//! The commands' side of the socket.

use super::{
    AdminError, AdminReply, AdminRequest,
    socket::Address,
    wire::{read_message, write_message},
};
use crate::failure::Failure;
use std::{future::Future, io, path::Path, time::Duration};
use tokio::{io::BufReader, net::UnixStream, time::timeout};

/// How long a request may take to leave.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the reply may take. Longer than the server's `commit.patience` (10 s unless configured), so that its clear
/// answer comes before our vague one.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No socket, or one that nobody listens on: worth another try while somebody holds the lock.
    #[error("nobody listens")]
    NobodyListens,
    /// Anything else, such as a socket of another user.
    #[error(transparent)]
    Failed(io::Error),
}

/// A connection to the server of a data directory.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
}

/// Connects to the server that works in `data_dir`.
pub async fn connect(data_dir: &Path) -> Result<Client, ConnectError> {
    let address = Address::of(data_dir).map_err(ConnectError::Failed)?;
    match UnixStream::connect(address.path()).await {
        Ok(stream) => Ok(Client { stream }),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ConnectError::NobodyListens,
            _ => ConnectError::Failed(error),
        }),
    }
}

impl Client {
    /// Asks the server to carry out `request`.
    ///
    /// # Errors
    /// The server's refusal; [`Failure::Unavailable`] when there is no answer: then the request may have been carried
    /// out.
    pub async fn call(mut self, request: &AdminRequest) -> Result<AdminReply, Failure> {
        let (reader, mut writer) = self.stream.split();
        in_time(SEND_TIMEOUT, write_message(&mut writer, request)).await?;
        let mut reader = BufReader::new(reader);
        let reply: Result<AdminReply, AdminError> = in_time(REPLY_TIMEOUT, read_message(&mut reader)).await?;
        Ok(reply?)
    }
}

async fn in_time<T>(limit: Duration, step: impl Future<Output = io::Result<T>>) -> Result<T, Failure> {
    let problem = match timeout(limit, step).await {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            "it closed the connection".to_owned()
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("nothing within {} s", limit.as_secs()),
    };
    Err(Failure::unavailable(format!("no answer from the server: {problem}"))
        .with_hint("it may have been done nevertheless; look before trying again"))
}
