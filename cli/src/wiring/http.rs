//! The HTTP server. In place of `axum::serve`, which bounds neither the number of connections nor the time a client may
//! take for a header.

use super::forwarded::client_address;
use axum::{Router, body::Body, extract::ConnectInfo};
use curlew_broker::listener::{
    gate::{self, Gate, Opening},
    proxy::Trusted,
};
use hyper::{Request, body::Incoming, server::conn::http1::Builder, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

/// Bytes of a request's head (request line and header fields). A longer one, or one of more than 100 fields, is 431: an
/// answer of hyper's, which knows no route yet, without a body.
const MAX_HEAD: usize = 32 * 1024;

/// Serves `router`, which finds the client's address in `ConnectInfo`, until `stop`; then until the requests under way
/// are answered. A connection is closed when its next header is not there within `header_timeout`.
///
/// Trusted peers that do not begin with a PROXY header may tell by header fields whom they speak for.
pub async fn run(
    listener: TcpListener,
    gate: Arc<Gate>,
    router: Router,
    header_timeout: Duration,
    stop: CancellationToken,
) {
    let connections = TaskTracker::new();
    let stopping = stop.clone();
    let proxies = Arc::new(match gate.opening {
        Opening::Plain => gate.trusted.clone(),
        Opening::Header => Trusted::default(),
    });
    let serve = move |socket, peer| {
        serve(socket, peer, Arc::clone(&proxies), router.clone(), header_timeout, stopping.clone())
    };
    gate::run(listener, gate, connections.clone(), stop, serve).await;
    connections.close();
    connections.wait().await;
}

async fn serve(
    socket: TcpStream,
    peer: SocketAddr,
    proxies: Arc<Trusted>,
    router: Router,
    header_timeout: Duration,
    stop: CancellationToken,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        // Everything behind this line sees the client's address.
        let client = client_address(peer, request.headers(), &proxies);
        request.extensions_mut().insert(ConnectInfo(client));
        router.clone().oneshot(request)
    });
    let mut builder = Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(header_timeout).max_buf_size(MAX_HEAD);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), service).with_upgrades());
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%peer, %error, "an HTTP connection broke");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use curlew_broker::places::Places;
    use std::time::Instant;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        task::JoinHandle,
        time::timeout,
    };

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    const LONG: Duration = Duration::from_secs(20);

    async fn start(
        connections: usize,
        header_timeout: Duration,
    ) -> (SocketAddr, CancellationToken, JoinHandle<()>) {
        let places = Places::new("refused", connections, 0);
        let gate = Gate { places, trusted: Trusted::default(), opening: Opening::Plain, patience: LONG };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let tell = async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.port().to_string();
        let router = Router::new().route("/", get(tell));
        (address, stop.clone(), tokio::spawn(run(listener, Arc::new(gate), router, header_timeout, stop)))
    }

    /// The body of the next answer; empty at the end of the connection.
    async fn answer(socket: &mut TcpStream) -> String {
        let mut chunk = [0; 1024];
        let size = timeout(LONG, socket.read(&mut chunk)).await.expect("an answer").unwrap_or(0);
        let text = std::str::from_utf8(&chunk[..size]).unwrap();
        text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    }

    #[tokio::test]
    async fn a_header_must_come_in_time_after_accept_and_after_an_answer() {
        let patience = Duration::from_millis(200);
        let (address, _stop, _running) = start(8, patience).await;
        for said in [&b""[..], b"G", &REQUEST[..REQUEST.len() - 1]] {
            let began = Instant::now();
            let mut socket = TcpStream::connect(address).await.unwrap();
            socket.write_all(said).await.unwrap();
            assert_eq!(answer(&mut socket).await, "", "{said:?}");
            assert!(began.elapsed() >= patience, "{said:?}");
        }
        let mut socket = TcpStream::connect(address).await.unwrap();
        let mut asked = Instant::now();
        for _ in 0..2 {
            asked = Instant::now();
            socket.write_all(REQUEST).await.unwrap();
            assert_eq!(answer(&mut socket).await, socket.local_addr().unwrap().port().to_string());
        }
        assert_eq!(answer(&mut socket).await, "");
        assert!(asked.elapsed() >= patience);
    }

    #[tokio::test]
    async fn a_connection_without_a_place_is_closed() {
        let (address, _stop, _running) = start(1, LONG).await;
        let mut first = TcpStream::connect(address).await.unwrap();
        for _ in 0..2 {
            first.write_all(REQUEST).await.unwrap();
            assert_ne!(answer(&mut first).await, "");
            let mut second = TcpStream::connect(address).await.unwrap();
            assert_eq!(answer(&mut second).await, "");
        }
    }

    #[tokio::test]
    async fn stopping_closes_what_is_idle_and_ends() {
        let (address, stop, running) = start(8, LONG).await;
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(REQUEST).await.unwrap();
        assert_ne!(answer(&mut idle).await, "");
        let _silent = TcpStream::connect(address).await.unwrap();
        stop.cancel();
        timeout(LONG / 4, running).await.expect("it ends at once").unwrap();
        assert_eq!(answer(&mut idle).await, "");
    }
}
