//! The MQTT edge.
//!
//! Bytes become packets in [`wire`]; [`session`] is the protocol as a pure state machine; [`connection`] runs one for one
//! socket; [`registry`] knows who is connected here and brings them what was committed. [`topic`] is the grammar of
//! topics, [`command`] what a published command asks of the services; [`plain`] is ordinary MQTT among the devices of one user;
//! [`mod@format`] writes and reads commands and events.

pub mod alias;
pub mod command;
pub mod connection;
pub mod delivery;
pub mod format;
pub mod listener;
pub mod packet;
pub mod places;
pub mod plain;
pub mod presence;
pub mod rate;
pub mod reason;
pub mod registry;
pub mod session;
pub mod topic;
pub mod typing;
pub mod wire;

pub use registry::Registry;
