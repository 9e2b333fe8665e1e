//! Where connections come from.

pub mod gate;
pub mod proxy;
pub mod tcp;
pub mod tls;
pub mod websocket;
