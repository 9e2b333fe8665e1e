//! MQTT over TLS.

mod identity;

pub use identity::{Tls, TlsError, TlsFiles};

use super::{
    gate::{self, Gate},
    tcp::span,
};
use crate::{
    connection::{Edge, serve},
    places::Refusal,
};
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

/// Accepts connections until `stop`, each in a task of `tasks`, and meanwhile follows the files of `tls`.
pub async fn run(
    listener: TcpListener,
    tls: Tls,
    gate: Arc<Gate>,
    edge: Arc<Edge>,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let (current, following) = tls.follow(stop.clone());
    let at_gate = Arc::clone(&gate);
    let serve = move |socket, address: SocketAddr| {
        let acceptor = TlsAcceptor::from(Arc::clone(&current.borrow()));
        let (gate, edge) = (Arc::clone(&at_gate), Arc::clone(&edge));
        let connection = async move {
            if let Some(stream) = shake_hands(acceptor, socket, &gate).await {
                serve(stream, edge).await;
            }
        };
        connection.instrument(span("tls", address))
    };
    tokio::join!(gate::run(listener, gate, tasks, stop, serve), following);
}

/// Boxed: it is large, and a future has room for each variable it holds on the way.
async fn shake_hands(
    acceptor: TlsAcceptor,
    socket: TcpStream,
    gate: &Gate,
) -> Option<Box<TlsStream<TcpStream>>> {
    match timeout(gate.patience, acceptor.accept(socket)).await {
        Ok(Ok(stream)) => return Some(Box::new(stream)),
        // Mostly somebody who looks for open ports, so that it is no news.
        Ok(Err(error)) => tracing::debug!(%error, "the TLS handshake failed"),
        Err(_) => tracing::debug!("the TLS handshake was not done in time"),
    }
    gate.places.count_refused(Refusal::Tls);
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        listener::{gate::Opening, proxy::Trusted},
        places::Places,
    };
    use rcgen::{CertificateParams, KeyPair};
    use std::{
        fs,
        time::{Duration, Instant},
    };
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn a_handshake_must_be_done_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let files =
            TlsFiles { certificate: dir.path().join("c"), key: dir.path().join("k"), client_ca: None };
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
        fs::write(&files.certificate, certificate.pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        let (current, _) = Tls::load(files).await.unwrap().follow(CancellationToken::new());
        let acceptor = TlsAcceptor::from(Arc::clone(&current.borrow()));
        let patience = Duration::from_millis(50);
        let places = Places::new("refused", 1, 0);
        let gate = Gate { places, trusted: Trusted::default(), opening: Opening::Header, patience };

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // Nothing, and the beginning of a record that never ends.
        for said in [&b""[..], &[0x16, 3, 1, 2, 0, 1]] {
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            client.write_all(said).await.unwrap();
            let (socket, _) = listener.accept().await.unwrap();
            let began = Instant::now();
            assert!(shake_hands(acceptor.clone(), socket, &gate).await.is_none());
            assert!(began.elapsed() >= patience, "{said:?}");
        }
    }
}
