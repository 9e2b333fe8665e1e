//! What a surface may ask for. REST and MQTT are thin adapters over these, so that a rule is written once.

pub mod accounts;
pub mod bcrypt;
pub mod chats;
pub mod contacts;
pub mod credentials;
pub mod devices;
pub mod messaging;
pub mod notifications;
pub mod plain;
pub mod presence;
pub mod profiles;
pub mod receipts;
pub mod sessions;

use crate::{
    clock::{Clock, Entropy, System, Timestamp},
    error::Result,
    ports::{relay::Relay, store::Store},
    rules::MembershipLimits,
};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

use bcrypt::Bcrypt;

pub use accounts::{Accounts, AccountsConfig, Endpoints, RegistrationMode};
pub use chats::Chats;
pub use contacts::Contacts;
pub use devices::Devices;
pub use messaging::Messaging;
pub use notifications::Notifications;
pub use plain::Plain;
pub use presence::Presence;
pub use profiles::Profiles;
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
    /// For how long a sender may delete a message for everyone; `None`: for ever.
    pub delete_window: Option<Duration>,
    /// Members, and whether contacts are required.
    pub membership: MembershipLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            text_bytes: 16 * 1024,
            delete_window: Some(Duration::from_hours(48)),
            membership: MembershipLimits { group_members: 1024, require_contact: true },
        }
    }
}

/// All services of a process.
#[derive(Clone)]
pub struct Services {
    /// Accounts, logins.
    pub accounts: Arc<Accounts>,
    /// What users change about themselves.
    pub profiles: Arc<Profiles>,
    /// Devices.
    pub devices: Arc<Devices>,
    /// Contacts.
    pub contacts: Arc<Contacts>,
    /// Chats and members.
    pub chats: Arc<Chats>,
    /// Sending and reading.
    pub messaging: Arc<Messaging>,
    /// Delivered and read.
    pub receipts: Arc<Receipts>,
    /// Badges.
    pub notifications: Arc<Notifications>,
    /// Whether people are there.
    pub presence: Arc<Presence>,
    /// MQTT sessions.
    pub sessions: Arc<Sessions>,
    /// The plain lane.
    pub plain: Arc<Plain>,
}

impl Services {
    /// Builds them; reads the key of the content hash from the store.
    pub async fn new(base: Base, accounts: AccountsConfig, limits: Limits) -> Result<Self> {
        let content_key = base.store.content_key().await?;
        let bcrypt = Arc::new(Bcrypt::new(accounts.bcrypt_cost));
        let receipts = Arc::new(Receipts::new(base.clone()));
        Ok(Self {
            accounts: Arc::new(Accounts::new(base.clone(), accounts, Arc::clone(&bcrypt))),
            profiles: Arc::new(Profiles::new(base.clone(), bcrypt)),
            devices: Arc::new(Devices::new(base.clone())),
            contacts: Arc::new(Contacts::new(base.clone())),
            chats: Arc::new(Chats::new(base.clone(), limits.membership)),
            messaging: Arc::new(Messaging::new(base.clone(), limits, content_key)),
            notifications: Arc::new(Notifications::new(base.clone())),
            presence: Arc::new(Presence::new(base.clone())),
            sessions: Arc::new(Sessions::new(base.clone(), Arc::clone(&receipts))),
            receipts,
            plain: Arc::new(Plain::new(base)),
        })
    }
}
