//! Contacts: request, accept, reject, remove, block, unblock.

use super::Base;
use crate::{
    account::Username,
    contact::{ContactFilter, ContactView, FoundUser, RelationAction, SearchPosition, SearchQuery},
    error::{Error, Result},
    ids::UserId,
    page::{Page, PageRequest, parse_limit},
};

/// Contacts: request, accept, reject, remove, block, unblock.
pub struct Contacts {
    base: Base,
}

impl Contacts {
    /// The service.
    pub fn new(base: Base) -> Self {
        Self { base }
    }

    /// Asks somebody, by name, to be a contact. Answers the contact and whether anything changed.
    pub async fn request_by_name(&self, actor: UserId, username: &Username) -> Result<(ContactView, bool)> {
        let peer =
            self.base.store.find_user_by_name(username).await?.ok_or_else(|| Error::not_found("user"))?;
        self.request(actor, peer.id).await
    }

    /// Asks somebody to be a contact. Answers the contact and whether anything changed.
    pub async fn request(&self, actor: UserId, peer: UserId) -> Result<(ContactView, bool)> {
        let (contact, changed) = self.relate(actor, peer, RelationAction::Request).await?;
        Ok((contact.ok_or_else(|| Error::not_found("user"))?, changed))
    }

    /// Says yes.
    pub async fn accept(&self, actor: UserId, peer: UserId) -> Result<ContactView> {
        let (contact, _) = self.relate(actor, peer, RelationAction::Accept).await?;
        contact.ok_or_else(|| Error::not_found("contact request"))
    }

    /// Says no, or withdraws one's own request.
    pub async fn reject(&self, actor: UserId, peer: UserId) -> Result<()> {
        self.relate(actor, peer, RelationAction::Reject).await.map(drop)
    }

    /// Ends the relation.
    pub async fn remove(&self, actor: UserId, peer: UserId) -> Result<()> {
        self.relate(actor, peer, RelationAction::Remove).await.map(drop)
    }

    /// Blocks. When it returns, no later send between the two in their private chat is accepted.
    pub async fn block(&self, actor: UserId, peer: UserId) -> Result<ContactView> {
        let (contact, _) = self.relate(actor, peer, RelationAction::Block).await?;
        contact.ok_or_else(|| Error::not_found("user"))
    }

    /// Unblocks.
    pub async fn unblock(&self, actor: UserId, peer: UserId) -> Result<()> {
        self.relate(actor, peer, RelationAction::Unblock).await.map(drop)
    }

    /// A list of contacts.
    pub async fn list(
        &self,
        user: UserId,
        filter: ContactFilter,
        page: PageRequest,
    ) -> Result<Page<ContactView>> {
        self.base.store.list_contacts(user, filter, page).await
    }

    /// People by the beginning of a name.
    pub async fn search(
        &self,
        user: UserId,
        query: SearchQuery,
        limit: Option<u32>,
        cursor: Option<&str>,
    ) -> Result<Page<FoundUser>> {
        let (limit, after) = (parse_limit(limit)?, cursor.map(SearchPosition::decode).transpose()?);
        let (items, next) = self.base.store.search_users(user, query, after, limit).await?;
        Ok(Page { items, next_cursor: next.map(|position| position.encode()) })
    }

    async fn relate(
        &self,
        actor: UserId,
        peer: UserId,
        action: RelationAction,
    ) -> Result<(Option<ContactView>, bool)> {
        if actor == peer {
            return Err(Error::invalid("userId", "self", "you are not a contact of yourself"));
        }
        self.base.store.relate(actor, peer, action, self.base.now()).await
    }
}
