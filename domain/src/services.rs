//! What a surface may ask for. REST and MQTT are thin adapters over these, so that a rule is written once.

pub mod accounts;
pub mod chats;
pub mod contacts;
pub mod credentials;
pub mod messaging;
pub mod plain;
pub mod receipts;
pub mod sessions;

use crate::{
    clock::{Clock, Entropy, System, Timestamp},
    error::Result,
    ports::{relay::Relay, store::Store},
    rules::MembershipLimits,
};
use std::sync::Arc;
use uuid::Uuid;

pub use accounts::{Accounts, AccountsConfig, Endpoints, RegistrationMode};
pub use chats::Chats;
pub use contacts::Contacts;
pub use messaging::Messaging;
pub use plain::Plain;
pub use receipts::Receipts;
pub use sessions::Sessions;

/// What every service is built on.
#[derive(Clone)]
pub struct Base {
    /// Storage.
    pub store: Arc<dyn Store>,
    /// Connections.
    pub relay: Arc<dyn Relay>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

impl Base {
    /// With the operating system's clock and randomness.
    pub fn new(store: Arc<dyn Store>, relay: Arc<dyn Relay>) -> Self {
        Self { store, relay, clock: Arc::new(System), entropy: Arc::new(System) }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn new_id<T: From<Uuid>>(&self) -> T {
        self.entropy.uuid().into()
    }
}

/// Limits that an operator may set.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a message's text.
    pub text_bytes: usize,
    /// Members, and whether contacts are required.
    pub membership: MembershipLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            text_bytes: 16 * 1024,
            membership: MembershipLimits { group_members: 1024, require_contact: true },
        }
    }
}

/// All services of a process.
#[derive(Clone)]
pub struct Services {
    /// Accounts, logins.
    pub accounts: Arc<Accounts>,
    /// Contacts.
    pub contacts: Arc<Contacts>,
    /// Chats and members.
    pub chats: Arc<Chats>,
    /// Sending and reading.
    pub messaging: Arc<Messaging>,
    /// Delivered and read.
    pub receipts: Arc<Receipts>,
    /// MQTT sessions.
    pub sessions: Arc<Sessions>,
    /// The plain lane.
    pub plain: Arc<Plain>,
}

impl Services {
    /// Builds them; reads the key of the content hash from the store.
    pub async fn new(base: Base, accounts: AccountsConfig, limits: Limits) -> Result<Self> {
        let content_key = base.store.content_key().await?;
        Ok(Self {
            accounts: Arc::new(Accounts::new(base.clone(), accounts)),
            contacts: Arc::new(Contacts::new(base.clone())),
            chats: Arc::new(Chats::new(base.clone(), limits.membership)),
            messaging: Arc::new(Messaging::new(base.clone(), limits, content_key)),
            receipts: Arc::new(Receipts::new(base.clone())),
            sessions: Arc::new(Sessions::new(base.clone())),
            plain: Arc::new(Plain::new(base)),
        })
    }
}
