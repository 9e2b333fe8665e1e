//! MQTT over WebSocket (section 6 of both standards): packets in binary frames, which may split and share them at will.

use super::{gate::Gate, tcp::span};
use crate::{
    connection::{Edge, serve},
    places::Place,
};
use axum::{
    Router,
    extract::{
        ConnectInfo, State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::task::TaskTracker;
use tracing::Instrument;

/// The subprotocol that clients must offer `[MQTT-6.0.0-3]`.
const SUBPROTOCOL: &str = "mqtt";
/// The library's default of 128 KiB would be most of an idle connection.
const READ_BUFFER: usize = 4 * 1024;

/// The route `/mqtt`. Connections run in tasks of `tasks`, and stop as those over TCP do. Needs
/// `ConnectInfo<SocketAddr>`, by which connections of one address are counted.
pub fn router(gate: Arc<Gate>, edge: Arc<Edge>, tasks: TaskTracker) -> Router {
    Router::new().route("/mqtt", get(upgrade)).with_state(Entrance { gate, edge, tasks })
}

#[derive(Clone)]
struct Entrance {
    gate: Arc<Gate>,
    edge: Arc<Edge>,
    tasks: TaskTracker,
}

async fn upgrade(
    State(Entrance { gate, edge, tasks }): State<Entrance>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let upgrade = upgrade.protocols([SUBPROTOCOL]);
    if upgrade.selected_protocol().is_none() {
        return (StatusCode::BAD_REQUEST, "the WebSocket subprotocol `mqtt` must be offered\n")
            .into_response();
    }
    // A proxy of ours that has not told whom it speaks for stands for many clients.
    let counted = |place: &mut Place| gate.trusted.contains(peer.ip()) || place.count_for(peer.ip());
    let Some(place) = gate.places.take().and_then(|mut place| counted(&mut place).then_some(place)) else {
        return (StatusCode::SERVICE_UNAVAILABLE, [("Retry-After", "1")], "too many connections\n")
            .into_response();
    };
    let largest = edge.max_packet_bytes as usize;
    let upgrade = upgrade.read_buffer_size(READ_BUFFER).max_message_size(largest).max_frame_size(largest);
    let span = span("websocket", peer);
    upgrade.on_upgrade(move |socket| {
        let connection = async move {
            serve(ByteStream { socket, frame: Bytes::new() }, edge).await;
            drop(place);
        };
        tasks.track_future(connection.instrument(span))
    })
}

/// A WebSocket as the stream of bytes that its binary frames carry.
struct ByteStream {
    socket: WebSocket,
    /// What is left of the last frame.
    frame: Bytes,
}

fn failed(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::other(error)
}

impl AsyncRead for ByteStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.frame.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(context)) {
                Some(Ok(Message::Binary(frame))) => self.frame = frame,
                // The library answers pings by itself.
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                // Not a binary frame: the connection must be closed `[MQTT-6.0.0-1]`.
                Some(Ok(Message::Text(_))) => return Poll::Ready(Err(failed("a text frame"))),
                Some(Err(error)) => return Poll::Ready(Err(failed(error))),
            }
        }
        let take = self.frame.len().min(buffer.remaining());
        buffer.put_slice(&self.frame[..take]);
        self.frame.advance(take);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut socket = Pin::new(&mut self.socket);
        ready!(socket.as_mut().poll_ready(context)).map_err(failed)?;
        socket.start_send(Message::Binary(Bytes::copy_from_slice(bytes))).map_err(failed)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context).map_err(failed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(context).map_err(failed)
    }
}
