//! MQTT over WebSocket: packets in binary frames, cut as a test wants them.

pub use futures_util::{SinkExt, StreamExt};
use std::{io, net::SocketAddr};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    net::TcpStream,
};
pub use tokio_tungstenite::tungstenite::{
    Error, Message,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{client::IntoClientRequest, http::HeaderValue},
};

/// Largest amount of bytes under way in one direction.
const UNDER_WAY: usize = 64 * 1024;

/// Opens a WebSocket at `/mqtt`, offering this subprotocol or none; answers it, and which one was chosen.
///
/// # Errors
/// The handshake was refused.
pub async fn open(
    address: SocketAddr,
    subprotocol: Option<&'static str>,
) -> Result<(WebSocketStream<TcpStream>, Option<String>), Error> {
    open_from(address, subprotocol, &[]).await
}

/// The same, with header fields of a proxy.
///
/// # Errors
/// The handshake was refused.
pub async fn open_from(
    address: SocketAddr,
    subprotocol: Option<&'static str>,
    fields: &[(&'static str, &'static str)],
) -> Result<(WebSocketStream<TcpStream>, Option<String>), Error> {
    let mut request = format!("ws://{address}/mqtt").into_client_request()?;
    for (name, value) in subprotocol.map(|name| ("Sec-WebSocket-Protocol", name)).iter().chain(fields) {
        request.headers_mut().insert(*name, HeaderValue::from_static(value));
    }
    let (socket, answer) = client_async(request, TcpStream::connect(address).await?).await?;
    let chosen = answer.headers().get("Sec-WebSocket-Protocol").and_then(|name| name.to_str().ok());
    Ok((socket, chosen.map(str::to_owned)))
}

/// The WebSocket as a stream of bytes, which go out in frames of `frame_size`, whatever packets they are of.
pub fn in_frames(mut socket: WebSocketStream<TcpStream>, frame_size: usize) -> DuplexStream {
    let (ours, mut theirs) = tokio::io::duplex(UNDER_WAY);
    tokio::spawn(async move {
        let mut outgoing = Vec::with_capacity(UNDER_WAY);
        loop {
            tokio::select! {
                read = theirs.read_buf(&mut outgoing) => {
                    if read? == 0 {
                        return socket.close(None).await.map_err(io::Error::other);
                    }
                    for frame in outgoing.chunks(frame_size) {
                        socket.send(Message::binary(frame.to_vec())).await.map_err(io::Error::other)?;
                    }
                    outgoing.clear();
                }
                message = socket.next() => match message {
                    Some(Ok(Message::Binary(frame))) => theirs.write_all(&frame).await?,
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    // `theirs` is dropped, and that is the end of the stream.
                    _ => return Ok(()),
                },
            }
        }
    });
    ours
}
