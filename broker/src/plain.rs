//! The plain lane: ordinary MQTT among the devices of one user.
//!
//! A [`Lane`] knows the filters of all sessions of one user, of those that are away too, and says who gets a message. What
//! must outlive a connection goes through the store first; the relay then brings it to the lane, which puts it into the
//! [`Waiting`] queue of each connection. [`wills`] publishes what connections leave behind.

mod lane;
mod waiting;
pub mod wills;

pub use lane::{Lane, Member, Routes};
pub use waiting::{Item, Waiting};
