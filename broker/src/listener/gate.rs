//! What every listener does with a connection before it serves it: a place, the address it really comes from, its limit.

use super::proxy::{self, Trusted};
use crate::places::{Place, Places, Refusal};
use socket2::{SockRef, TcpKeepalive};
use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Pause after a connection could not be accepted.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// How the other end of a silent connection is found to be gone, if its client announced no Keep Alive: with one it is closed
/// before TCP asks.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_mins(15))
    .with_interval(Duration::from_secs(15))
    .with_retries(4);

/// Who may come in.
pub struct Gate {
    /// A connection for which there is none is closed at once.
    pub places: Arc<Places>,
    /// Load balancers and reverse proxies.
    pub trusted: Trusted,
    /// What those begin with. From nobody else is a PROXY header read.
    pub opening: Opening,
    /// How long each step of a handshake (PROXY header, TLS) may take.
    pub patience: Duration,
}

/// How a trusted peer begins a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// With a PROXY header, or it is closed.
    Header,
    /// As everybody does. It stands for many clients, and is not counted as one address.
    Plain,
}

/// Accepts connections until `stop`, each in a task of `tasks` that lets it in and then runs `serve` with the address
/// it really comes from.
pub async fn run<Serving>(
    listener: TcpListener,
    gate: Arc<Gate>,
    tasks: TaskTracker,
    stop: CancellationToken,
    serve: impl Fn(TcpStream, SocketAddr) -> Serving + Clone + Send + 'static,
) where
    Serving: Future<Output = ()> + Send + 'static,
{
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let (mut socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly: connections that end make room.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let Some(mut place) = gate.places.take() else { continue };
        let (gate, serve) = (Arc::clone(&gate), serve.clone());
        tasks.spawn(async move {
            // Small packets must not wait for each other's acknowledgement by TCP.
            let _ = socket.set_nodelay(true);
            let _ = SockRef::from(&socket).set_tcp_keepalive(&KEEPALIVE);
            if let Some(address) = gate.let_in(&mut socket, peer, &mut place).await {
                serve(socket, address).await;
            }
            drop(place);
        });
    }
}

impl Gate {
    /// The address that a connection really comes from; `None`: it must be closed.
    async fn let_in(
        &self,
        socket: &mut TcpStream,
        peer: SocketAddr,
        place: &mut Place,
    ) -> Option<SocketAddr> {
        let mut address = peer;
        if self.trusted.contains(peer.ip()) {
            if self.opening == Opening::Plain {
                return Some(peer);
            }
            match timeout(self.patience, proxy::read_header(socket)).await {
                // Its own connection, such as a health check.
                Ok(Ok(None)) => {}
                Ok(Ok(Some(source))) => address = source,
                Ok(Err(error)) => return self.refuse_proxy(peer, &error),
                Err(_) => return self.refuse_proxy(peer, &"it did not come in time"),
            }
        }
        if !place.count_for(address.ip()) {
            tracing::debug!(peer = %address, "too many connections from this address");
            return None;
        }
        Some(address)
    }

    fn refuse_proxy(&self, peer: SocketAddr, problem: &dyn std::fmt::Display) -> Option<SocketAddr> {
        self.places.count_refused(Refusal::Proxy);
        tracing::warn!(proxy = %peer, "no valid PROXY header: {problem}");
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const HEADER: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xC0\0\x02\x07\x7F\0\0\x01\xC3\x50\x07\x5B";

    /// A gate with one place, at which loopback is a listed proxy; it tells whom it let in where they come from.
    async fn listen(opening: Opening, patience: Duration) -> SocketAddr {
        let trusted = Trusted::new(vec!["127.0.0.0/8".parse().unwrap()]);
        let gate = Arc::new(Gate { places: Places::new("refused", 1, 1), trusted, opening, patience });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = |mut socket: TcpStream, from: SocketAddr| async move {
            socket.write_all(from.ip().to_string().as_bytes()).await.unwrap();
        };
        tokio::spawn(run(listener, gate, TaskTracker::new(), CancellationToken::new(), serve));
        address
    }

    /// What a client hears that says this.
    async fn hear(address: SocketAddr, said: &[u8]) -> String {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let mut heard = String::new();
        // One that is closed with something unread is reset.
        let _ = socket.write_all(said).await;
        let _ = socket.read_to_string(&mut heard).await;
        heard
    }

    #[tokio::test]
    async fn a_header_must_come_in_time_and_its_sender_has_a_place_until_then() {
        let patience = Duration::from_millis(50);
        let address = listen(Opening::Header, patience).await;
        for said in [0, 1, 16, HEADER.len() - 1] {
            let began = Instant::now();
            assert_eq!(hear(address, &HEADER[..said]).await, "", "{said} bytes");
            assert!(began.elapsed() >= patience, "{said} bytes");
        }
        // The place is given back in the moment after the socket is closed.
        while hear(address, HEADER).await != "192.0.2.7" {}

        let address = listen(Opening::Header, Duration::MAX).await;
        let silent = TcpStream::connect(address).await.unwrap();
        assert_eq!(hear(address, HEADER).await, "", "the one place is taken");
        drop(silent);
        while hear(address, HEADER).await != "192.0.2.7" {}
    }

    #[tokio::test]
    async fn a_proxy_that_begins_as_everybody_does_keeps_its_address() {
        let address = listen(Opening::Plain, Duration::MAX).await;
        assert_eq!(hear(address, b"").await, "127.0.0.1");
    }
}
