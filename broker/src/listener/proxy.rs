//! The PROXY protocol, version 2 and only that: how a load balancer tells the address that a connection really comes from
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, section 2.2).
//!
//! By hand: what is needed of it is one fixed layout, and the crates there are take version 1 as well.

use ipnet::IpNet;
use std::{
    io,
    net::{IpAddr, SocketAddr},
};
use tokio::io::{AsyncRead, AsyncReadExt};

/// What no other protocol begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED: usize = 16;
/// Longest rest. The sender's duty is to fit the whole into one TCP segment.
const MAX_REST: usize = 2048;
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const UNSPECIFIED: u8 = 0x00;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

/// Networks whose hosts are proxies of ours.
#[derive(Clone, Debug, Default)]
pub struct Trusted(Vec<IpNet>);

impl Trusted {
    /// Those in `networks`.
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Whether `address` is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// Why a header was not taken.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// The connection ended, or broke, before its end.
    #[error("the connection ended in it: {0}")]
    Io(#[from] io::Error),
    /// It is none.
    #[error("the connection begins with something else")]
    Signature,
    /// Neither LOCAL nor PROXY of version 2.
    #[error("version and command are {0:#04x}")]
    Command(u8),
    /// No connection over TCP.
    #[error("family and protocol are {0:#04x}")]
    Family(u8),
    /// Too long, too short for its addresses, or its extensions do not fill it.
    #[error("its length of {0} is wrong")]
    Length(usize),
}

/// Reads a header and not a byte more. `None`: the connection is the proxy's own, or it does not know its source.
///
/// Extensions (TLVs) are stepped over. A checksum among them is not verified, TCP has its own.
///
/// # Errors
/// Anything but a whole, well-formed header. Nothing is then known of what follows.
pub async fn read_header(socket: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, HeaderError> {
    let mut fixed = [0; FIXED];
    socket.read_exact(&mut fixed).await?;
    let [signature @ .., command, family, length_high, length_low] = fixed;
    if signature != SIGNATURE {
        return Err(HeaderError::Signature);
    }
    if ![LOCAL, PROXY].contains(&command) {
        return Err(HeaderError::Command(command));
    }
    let length = usize::from(u16::from_be_bytes([length_high, length_low]));
    if length > MAX_REST {
        return Err(HeaderError::Length(length));
    }
    let mut rest = vec![0; length];
    socket.read_exact(&mut rest).await?;
    if command == LOCAL {
        // Whatever it says must be stepped over.
        return Ok(None);
    }
    let short = HeaderError::Length(length);
    let (source, extensions) = match family {
        UNSPECIFIED => return Ok(None),
        TCP_OVER_IPV4 => read_source::<4>(&rest).ok_or(short)?,
        TCP_OVER_IPV6 => read_source::<16>(&rest).ok_or(short)?,
        other => return Err(HeaderError::Family(other)),
    };
    if !are_whole(extensions) {
        return Err(HeaderError::Length(length));
    }
    Ok(Some(source))
}

/// Source of: source, destination, source port, destination port; and what follows them.
fn read_source<const N: usize>(rest: &[u8]) -> Option<(SocketAddr, &[u8])>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = rest.split_first_chunk::<N>()?;
    let (_destination, rest) = rest.split_first_chunk::<N>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let (_destination_port, rest) = rest.split_first_chunk::<2>()?;
    Some((SocketAddr::new(IpAddr::from(*source).to_canonical(), u16::from_be_bytes(*port)), rest))
}

/// Whether extensions, each a type, a length of two bytes and a value, fill what is there.
fn are_whole(mut extensions: &[u8]) -> bool {
    while let [_kind, high, low, rest @ ..] = extensions {
        let Some(rest) = rest.get(usize::from(u16::from_be_bytes([*high, *low]))..) else { return false };
        extensions = rest;
    }
    extensions.is_empty()
}

#[cfg(test)]
mod tests;
