//! Chats and their members.

use super::Base;
use crate::{
    chat::{ChatSettings, ChatView, HistoryVisible, MemberView, Role},
    error::{Error, Result},
    ids::{ChatId, UserId},
    message::LocalId,
    page::{Page, PageRequest},
    ports::store::{ChangeMembers, ChatChange, NewGroup, NewPrivateChat, SettingsChange, UpdateChat},
    rules::{MembershipChange, MembershipLimits},
};
use std::collections::BTreeSet;

/// A group as its founder wishes it.
#[derive(Clone, Debug)]
pub struct GroupWish {
    /// Name, checked.
    pub name: String,
    /// Others.
    pub members: Vec<UserId>,
    /// What those who join later may read.
    pub history_visible: HistoryVisible,
    /// Unique per creator.
    pub local_id: Option<LocalId>,
}

/// Chats and their members.
pub struct Chats {
    base: Base,
    limits: MembershipLimits,
}

impl Chats {
    /// The service.
    pub fn new(base: Base, limits: MembershipLimits) -> Self {
        Self { base, limits }
    }

    /// The one private chat with `peer`, and whether it was made just now.
    pub async fn open_private(&self, creator: UserId, peer: UserId) -> Result<(ChatView, bool)> {
        if creator == peer {
            return Err(Error::invalid("userId", "self", "a private chat needs somebody else"));
        }
        let (id, limits, at) = (self.base.new_id(), self.limits, self.base.now());
        let chat = NewPrivateChat { id, creator, peer, limits, at };
        let (id, created) = self.base.store.create_private_chat(chat).await?;
        Ok((self.find(creator, id).await?, created))
    }

    /// Founds a group; whether it was made just now (a known `localId` answers the group it made).
    pub async fn create_group(&self, creator: UserId, wish: GroupWish) -> Result<(ChatView, bool)> {
        let members: Vec<_> =
            self.distinct("memberIds", wish.members)?.into_iter().filter(|user| *user != creator).collect();
        let group = NewGroup {
            id: self.base.new_id(),
            row: self.base.new_id(),
            creator,
            name: wish.name,
            members,
            history_visible: wish.history_visible,
            local_id: wish.local_id,
            limits: self.limits,
            at: self.base.now(),
        };
        let (id, created) = self.base.store.create_group(group).await?;
        Ok((self.find(creator, id).await?, created))
    }

    /// The user's chats, latest activity first.
    pub async fn list(&self, user: UserId, page: PageRequest) -> Result<Page<ChatView>> {
        self.base.store.list_chats(user, page).await
    }

    /// A chat as the user, present or former member, sees it.
    pub async fn find(&self, user: UserId, chat: ChatId) -> Result<ChatView> {
        self.base.store.find_chat(user, chat).await?.ok_or_else(|| Error::not_found("chat"))
    }

    /// Active members.
    pub async fn list_members(
        &self,
        user: UserId,
        chat: ChatId,
        page: PageRequest,
    ) -> Result<Page<MemberView>> {
        self.base.store.list_members(user, chat, page).await?.ok_or_else(|| Error::not_found("chat"))
    }

    /// Adds members; those who are in already change nothing.
    pub async fn add_members(&self, actor: UserId, chat: ChatId, users: Vec<UserId>) -> Result<()> {
        let users = self.distinct("userIds", users)?;
        self.change(actor, chat, MembershipChange::Add(users)).await
    }

    /// Removes a member. When it returns, no row after the removal reaches them.
    pub async fn remove_member(&self, actor: UserId, chat: ChatId, user: UserId) -> Result<()> {
        self.change(actor, chat, MembershipChange::Remove(user)).await
    }

    /// Gives a member another role. The same again changes nothing.
    pub async fn set_role(&self, actor: UserId, chat: ChatId, user: UserId, role: Role) -> Result<()> {
        self.change(actor, chat, MembershipChange::SetRole(user, role)).await
    }

    /// Changes a group itself: name, description, history. The same again changes nothing.
    pub async fn update(&self, actor: UserId, chat: ChatId, change: ChatChange) -> Result<ChatView> {
        let (row, at) = (self.base.new_id(), self.base.now());
        self.base.store.update_chat(UpdateChat { chat, actor, change, row, at }).await?;
        self.find(actor, chat).await
    }

    /// Changes the user's own settings of a chat: mute, pin, archive.
    pub async fn update_settings(
        &self,
        user: UserId,
        chat: ChatId,
        change: SettingsChange,
    ) -> Result<ChatSettings> {
        self.base.store.update_settings(user, chat, change, self.base.now()).await
    }

    /// Leaves. Again: changes nothing.
    pub async fn leave(&self, actor: UserId, chat: ChatId) -> Result<()> {
        self.change(actor, chat, MembershipChange::Leave).await
    }

    async fn change(&self, actor: UserId, chat: ChatId, change: MembershipChange) -> Result<()> {
        let (row, limits, at) = (self.base.new_id(), self.limits, self.base.now());
        self.base.store.change_members(ChangeMembers { chat, actor, change, row, limits, at }).await.map(drop)
    }

    fn distinct(&self, field: &'static str, users: Vec<UserId>) -> Result<Vec<UserId>> {
        if users.len() > self.limits.group_members as usize {
            let detail =
                format!("{} users, a group has at most {} members", users.len(), self.limits.group_members);
            return Err(Error::invalid(field, "too-many", detail));
        }
        let mut seen = BTreeSet::new();
        Ok(users.into_iter().filter(|user| seen.insert(*user)).collect())
    }
}
