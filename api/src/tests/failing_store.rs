//! A store that is away: it knows one login, and fails every other call as one that may pass.

use async_trait::async_trait;
use curlew_domain::{
    Error, Result,
    account::{Login, LoginKind, Privacy, PrivacyChange, User, Username},
    chat::{ChatSettings, ChatView, MemberView, StayEnd},
    clock::Timestamp,
    contact::{ContactFilter, ContactView, FoundUser, RelationAction, SearchPosition, SearchQuery},
    device::Device,
    event::Event,
    ids::{ChatId, DeviceId, LoginId, RowId, Seq, SessionId, Stream, UserId},
    message::{LocalId, LogRow, MessageView, Target},
    notification::{ChatNotification, NotificationCounts},
    page::{Page, PageRequest},
    plain::{
        DueWill, LastingSession, PlainMessage, PublishPlain, PublishedPlain, QueuePage, Retained, Settle,
    },
    ports::{
        relay::{Committed, Relay},
        store::{
            Accounts, AppendMessage, Appended, ChangeMembers, ChangeMessage, Chats, Commit, Contacts,
            DeleteUser, Devices, EndDeletedStay, EndLogins, Log, LogPage, MadeLogin, MessagesFrom, NewGroup,
            NewLogin, NewPrivateChat, NewUser, Notifications, Plain, Profiles, Refreshed, Sessions,
            SettingsChange, UpdateChat, UpdatePassword, UpdateProfile,
        },
    },
    presence::PresenceContact,
    receipt::{Mark, Raise, Raised, ReceiptsPage, ReceiptsQuery, Recipient},
    rules::SendFacts,
    session::{CloseSession, Cursors, OpenSession, OpenedSession, SaveSubscriptions, SessionFence},
};
use std::{collections::HashMap, sync::Arc};
use uuid::Uuid;

/// What the failing store would tell, and no client may hear.
pub const CAUSE: &str = "connection refused: 10.0.0.7:5432";

/// The one login, of a device token.
pub fn known_login() -> LoginId {
    Uuid::from_u128(7).into()
}

/// The store.
pub struct FailingStore;

fn away<T>() -> Result<T> {
    Err(Error::Unavailable(CAUSE.into()))
}

#[async_trait]
impl Accounts for FailingStore {
    async fn create_user(&self, _: NewUser) -> Result<()> {
        away()
    }
    async fn create_login(&self, _: NewLogin) -> Result<MadeLogin> {
        away()
    }
    async fn find_user(&self, _: UserId) -> Result<Option<User>> {
        away()
    }
    async fn find_user_by_name(&self, _: &Username) -> Result<Option<User>> {
        away()
    }
    async fn find_credentials(&self, _: &Username) -> Result<Option<(UserId, String)>> {
        away()
    }
    async fn list_users(&self, _: PageRequest) -> Result<Page<User>> {
        away()
    }
    async fn find_login(&self, id: LoginId) -> Result<Option<Login>> {
        Ok((id == known_login()).then(|| Login {
            id,
            user: Uuid::from_u128(1).into(),
            device: Uuid::from_u128(2).into(),
            kind: LoginKind::DeviceToken,
            refresh_count: 0,
            refreshed_at: Timestamp(0),
            expires_at: None,
            ended: false,
            user_deleted: false,
        }))
    }
    async fn find_device_token(&self, _: UserId, _: &str) -> Result<Option<(LoginId, Device)>> {
        away()
    }
    async fn refresh_login(
        &self,
        _: LoginId,
        _: i64,
        _: Timestamp,
        _: i64,
        _: Timestamp,
    ) -> Result<Refreshed> {
        away()
    }
    async fn touch_login(&self, _: LoginId, _: Timestamp, _: Timestamp) -> Result<()> {
        away()
    }
    async fn end_logins(&self, _: EndLogins, _: Timestamp) -> Result<Vec<LoginId>> {
        away()
    }
}

#[async_trait]
impl Profiles for FailingStore {
    async fn find_password_hash(&self, _: UserId) -> Result<Option<String>> {
        away()
    }
    async fn update_profile(&self, _: UpdateProfile) -> Result<User> {
        away()
    }
    async fn update_password(&self, _: UpdatePassword) -> Result<Vec<LoginId>> {
        away()
    }
    async fn update_privacy(&self, _: UserId, _: PrivacyChange) -> Result<Privacy> {
        away()
    }
    async fn delete_user(&self, _: DeleteUser) -> Result<Vec<LoginId>> {
        away()
    }
    async fn list_departing(&self, _: u32) -> Result<Vec<UserId>> {
        away()
    }
    async fn end_deleted_stay(&self, _: EndDeletedStay) -> Result<()> {
        away()
    }
    async fn forget_departing(&self, _: UserId) -> Result<()> {
        away()
    }
}

#[async_trait]
impl Devices for FailingStore {
    async fn list_devices(&self, _: UserId, _: Timestamp) -> Result<Vec<Device>> {
        away()
    }
    async fn find_device(&self, _: DeviceId) -> Result<Option<Device>> {
        away()
    }
    async fn rename_device(&self, _: UserId, _: DeviceId, _: String, _: Timestamp) -> Result<Option<Device>> {
        away()
    }
    async fn list_unseen_devices(
        &self,
        _: Timestamp,
        _: Option<DeviceId>,
        _: u32,
    ) -> Result<Vec<(UserId, DeviceId)>> {
        away()
    }
    async fn retire_device(
        &self,
        _: UserId,
        _: DeviceId,
        _: Timestamp,
        _: Timestamp,
    ) -> Result<Option<Vec<LoginId>>> {
        away()
    }
    async fn remove_device(&self, _: UserId, _: DeviceId, _: Timestamp) -> Result<Option<Vec<LoginId>>> {
        away()
    }
}

#[async_trait]
impl Contacts for FailingStore {
    async fn list_presence_contacts(&self, _: UserId) -> Result<Vec<PresenceContact>> {
        away()
    }
    async fn note_seen(&self, _: Vec<(UserId, Timestamp)>) -> Result<()> {
        away()
    }
    async fn relate(
        &self,
        _: UserId,
        _: UserId,
        _: RelationAction,
        _: Timestamp,
    ) -> Result<(Option<ContactView>, bool)> {
        away()
    }
    async fn search_users(
        &self,
        _: UserId,
        _: SearchQuery,
        _: Option<SearchPosition>,
        _: u32,
    ) -> Result<(Vec<FoundUser>, Option<SearchPosition>)> {
        away()
    }
    async fn list_contacts(&self, _: UserId, _: ContactFilter, _: PageRequest) -> Result<Page<ContactView>> {
        away()
    }
}

#[async_trait]
impl Chats for FailingStore {
    async fn create_private_chat(&self, _: NewPrivateChat) -> Result<(ChatId, bool)> {
        away()
    }
    async fn create_group(&self, _: NewGroup) -> Result<(ChatId, bool)> {
        away()
    }
    async fn change_members(&self, _: ChangeMembers) -> Result<Option<LogRow>> {
        away()
    }
    async fn update_chat(&self, _: UpdateChat) -> Result<bool> {
        away()
    }
    async fn update_settings(
        &self,
        _: UserId,
        _: ChatId,
        _: SettingsChange,
        _: Timestamp,
    ) -> Result<ChatSettings> {
        away()
    }
    async fn find_chat(&self, _: UserId, _: ChatId) -> Result<Option<ChatView>> {
        away()
    }
    async fn list_chats(&self, _: UserId, _: PageRequest) -> Result<Page<ChatView>> {
        away()
    }
    async fn list_members(&self, _: UserId, _: ChatId, _: PageRequest) -> Result<Option<Page<MemberView>>> {
        away()
    }
    async fn list_stays(&self, _: UserId) -> Result<Vec<StayEnd>> {
        away()
    }
}

#[async_trait]
impl Log for FailingStore {
    async fn content_key(&self) -> Result<[u8; 32]> {
        Ok([0; 32])
    }
    async fn append_message(&self, _: AppendMessage) -> Result<Commit<Appended>> {
        away()
    }
    async fn read_logs(&self, _: UserId, _: &[(Stream, Seq)], _: u32) -> Result<Vec<Option<LogPage>>> {
        // A defect of the store.
        panic!("{CAUSE}")
    }
    async fn list_messages(
        &self,
        _: UserId,
        _: ChatId,
        _: MessagesFrom,
        _: u32,
    ) -> Result<Option<Vec<MessageView>>> {
        away()
    }
    async fn find_sent(
        &self,
        _: UserId,
        _: &[ChatId],
        _: &LocalId,
        _: &[u8; 32],
    ) -> Result<HashMap<ChatId, Appended>> {
        away()
    }
    async fn change_message(&self, _: ChangeMessage) -> Result<Commit<Target>> {
        away()
    }
    async fn hide_message(&self, _: UserId, _: ChatId, _: RowId, _: Timestamp) -> Result<Commit<Target>> {
        away()
    }
    async fn list_replies(&self, _: UserId, _: RowId, _: PageRequest) -> Result<Option<Page<MessageView>>> {
        away()
    }
    async fn list_recipients(&self, _: ChatId, _: UserId, _: Seq) -> Result<Vec<Recipient>> {
        away()
    }
    async fn locate_message(&self, _: UserId, _: RowId) -> Result<Option<ChatId>> {
        away()
    }
    async fn find_message(&self, _: UserId, _: RowId) -> Result<Option<MessageView>> {
        away()
    }
    async fn list_marks(&self, _: Vec<ChatId>) -> Result<HashMap<ChatId, Vec<Mark>>> {
        away()
    }
    async fn list_receipts(&self, _: UserId, _: ReceiptsQuery) -> Result<ReceiptsPage> {
        away()
    }
    async fn raise_watermarks(&self, raises: Vec<Raise>, _: Timestamp) -> Vec<Result<Raised>> {
        raises.iter().map(|_| away()).collect()
    }
    async fn find_send_facts(&self, _: UserId, _: ChatId) -> Result<Option<SendFacts>> {
        away()
    }
    async fn ping(&self) -> Result<()> {
        away()
    }
}

#[async_trait]
impl Notifications for FailingStore {
    async fn list_chat_notifications(&self, _: UserId, _: PageRequest) -> Result<Page<ChatNotification>> {
        away()
    }
    async fn list_new_requests(&self, _: UserId, _: u32) -> Result<Vec<ContactView>> {
        away()
    }
    async fn count_notifications(&self, _: UserId) -> Result<NotificationCounts> {
        away()
    }
    async fn clear_notifications(&self, _: UserId, _: ChatId, _: Timestamp) -> Result<()> {
        away()
    }
    async fn mark_requests_viewed(&self, _: UserId, _: Timestamp) -> Result<()> {
        away()
    }
}

#[async_trait]
impl Sessions for FailingStore {
    async fn open_session(&self, _: OpenSession) -> Result<OpenedSession> {
        away()
    }
    async fn save_subscriptions(&self, _: SaveSubscriptions) -> Result<Option<Cursors>> {
        away()
    }
    async fn save_cursors(&self, _: SessionFence, _: Cursors) -> Result<bool> {
        away()
    }
    async fn close_session(&self, _: CloseSession) -> Result<bool> {
        away()
    }
    async fn prune_sessions(&self, _: Timestamp) -> Result<u64> {
        away()
    }
}

#[async_trait]
impl Plain for FailingStore {
    async fn publish_plain(&self, _: PublishPlain) -> Result<Commit<PublishedPlain>> {
        away()
    }
    async fn list_queued(&self, _: SessionId, _: Seq, _: u32, _: usize) -> Result<QueuePage> {
        away()
    }
    async fn settle_queue(&self, _: SessionFence, _: Settle) -> Result<bool> {
        away()
    }
    async fn list_retained(&self, _: UserId, _: Retained, _: Timestamp) -> Result<Vec<PlainMessage>> {
        away()
    }
    async fn list_lasting_sessions(&self, _: UserId, _: Timestamp) -> Result<Vec<LastingSession>> {
        away()
    }
    async fn list_due_wills(&self, _: Timestamp, _: u32) -> Result<Vec<DueWill>> {
        away()
    }
}

/// Nobody is connected.
pub struct NoConnections;

#[async_trait]
impl Relay for NoConnections {
    fn committed(&self, _: Vec<Committed>) {}
    fn notify(&self, _: UserId, _: Arc<Event>, _: Option<SessionId>) {}
    fn receipts_uncertain(&self, _: Timestamp) {}
    async fn end_logins(&self, _: &[LoginId]) {}
    async fn online_devices(&self, _: UserId) -> Vec<DeviceId> {
        Vec::new()
    }
}
