//! Who is told whether somebody is there, and when they were last seen. Who is connected, the broker knows.

use super::Base;
use crate::{
    clock::Timestamp,
    error::Result,
    event::{Event, EventBody},
    ids::UserId,
    presence::{PresenceContact, PresenceState},
};

/// Presence.
pub struct Presence {
    base: Base,
}

impl Presence {
    /// The service.
    pub fn new(base: Base) -> Self {
        Self { base }
    }

    /// The user's contacts, by id. Sharing presence is mutual: it is the same asked from either side.
    pub async fn list_contacts(&self, user: UserId) -> Result<Vec<PresenceContact>> {
        self.base.store.list_presence_contacts(user).await
    }

    /// Keeps when users were last active; what is later stays.
    pub async fn note_seen(&self, seen: Vec<(UserId, Timestamp)>) -> Result<()> {
        self.base.store.note_seen(seen).await
    }

    /// As contacts are told it.
    pub fn event(&self, user: UserId, state: PresenceState, last_seen_at: Option<Timestamp>) -> Event {
        let body = EventBody::Presence { user_id: user, state, last_seen_at };
        Event::live(self.base.entropy.uuid(), self.base.now(), None, body)
    }
}
