//! What Curlew is about: ids, entities, the rules, the services that apply them, and the ports through which they
//! reach the outside. No SQL, HTTP or MQTT; wall clock and randomness only through [`clock`].
//!
//! Read in this order: [`ids`], [`chat`] and [`message`] (what there is), [`rules`] (who may do what), [`ports`] (what the
//! outside must guarantee), [`services`] (what a surface may ask for).

pub mod account;
pub mod chat;
pub mod clock;
pub mod contact;
pub mod device;
pub mod error;
pub mod event;
pub mod ids;
pub mod message;
pub mod notification;
pub mod page;
pub mod plain;
pub mod ports;
pub mod presence;
pub mod rate;
pub mod receipt;
pub mod rules;
pub mod secret;
pub mod services;
pub mod session;

pub use error::{Error, ErrorCode, FieldError, Refusal, Result};
