//! The store. One method is one transaction is one business fact. Every write goes through the group-commit writer
//! and returns only after its transaction is durable; what a write depends on is read, and judged by [`crate::rules`],
//! inside that transaction.
//!
//! Failures that may pass are retried by the store up to its patience and then are [`Error::Unavailable`](crate::Error).

mod devices;
mod profiles;

pub use devices::Devices;
pub use profiles::{DeleteUser, EndDeletedStay, Profiles, UpdatePassword, UpdateProfile};

use crate::{
    account::{Login, LoginKind, User, Username},
    chat::{ChatSettings, ChatView, HistoryVisible, MemberView, StayEnd},
    clock::Timestamp,
    contact::{ContactFilter, ContactView, FoundUser, RelationAction, SearchPosition, SearchQuery},
    device::{Device, DeviceChoice},
    error::{Error, Result},
    ids::{ChatId, DeviceId, LoginId, RowId, Seq, SessionId, Stream, UserId},
    message::{LocalId, LogRow, MessageView, Origin, Target},
    notification::{ChatNotification, NotificationCounts},
    page::{Page, PageRequest},
    plain::{
        DueWill, LastingSession, PlainMessage, PublishPlain, PublishedPlain, QueuePage, Retained, Settle,
    },
    presence::PresenceContact,
    receipt::{Mark, Raise, Raised, ReceiptsPage, ReceiptsQuery, Recipient},
    rules::{MembershipChange, MembershipLimits, MessageChange, SendFacts},
    session::{CloseSession, Cursors, OpenSession, OpenedSession, SaveSubscriptions, SessionFence},
};
use async_trait::async_trait;
use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::sync::oneshot;

/// A write that is queued. Resolves when its transaction is durable, or it is known to have failed. Dropping it does not
/// take the write back.
#[derive(Debug)]
pub struct Commit<T>(oneshot::Receiver<Result<T>>);

impl<T> Commit<T> {
    /// The two ends.
    pub fn channel() -> (oneshot::Sender<Result<T>>, Self) {
        let (sender, receiver) = oneshot::channel();
        (sender, Self(receiver))
    }
}

impl<T> Future for Commit<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|outcome| {
            outcome.unwrap_or_else(|_| Err(Error::Unavailable("the store has been shut down".into())))
        })
    }
}

/// Everything the services need kept.
pub trait Store:
    Accounts + Profiles + Devices + Contacts + Chats + Log + Notifications + Sessions + Plain
{
}

impl<T: Accounts + Profiles + Devices + Contacts + Chats + Log + Notifications + Sessions + Plain> Store
    for T
{
}

/// A user to be made.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// Id.
    pub id: UserId,
    /// Unique name.
    pub username: Username,
    /// bcrypt.
    pub password_hash: String,
    /// Name shown.
    pub display_name: String,
    /// Unconfirmed.
    pub email: Option<String>,
    /// Unconfirmed.
    pub phone: Option<String>,
    /// Now.
    pub at: Timestamp,
}

/// A login to be made, with its device.
#[derive(Clone, Debug)]
pub struct NewLogin {
    /// Id.
    pub id: LoginId,
    /// Whose.
    pub user: UserId,
    /// How.
    pub kind: LoginKind,
    /// The hash that the password given has been held against: refused when it is not the user's any more.
    pub verified: Option<String>,
    /// A device to be removed first, as [`Devices::remove_device`] does.
    pub replace: Option<DeviceId>,
    /// Found by id, else by name, else made with `new_device`.
    pub device: DeviceChoice,
    /// Id of a device that is made.
    pub new_device: DeviceId,
    /// End.
    pub expires_at: Option<Timestamp>,
    /// Most devices of one user with a live login.
    pub device_limit: u32,
    /// Now.
    pub at: Timestamp,
}

/// A login that was made.
#[derive(Clone, Debug)]
pub struct MadeLogin {
    /// On which device.
    pub device: Device,
    /// Logins of the device that it replaced.
    pub ended: Vec<LoginId>,
}

/// Outcome of presenting refresh token number `n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// This is the current number now.
    Current(i64),
    /// A token was used that had been replaced: the login has been ended.
    Reused,
    /// The login is not live.
    Ended,
}

/// Which logins to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndLogins {
    /// One.
    One(LoginId),
    /// All of a user's, device tokens excepted.
    SignIns(UserId),
}

/// Users and logins. Each change of the devices with a live login is a `devices-updated` row in the user's personal log, but
/// for the very first.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// Makes a user. Refused: [`UsernameTaken`](crate::ErrorCode::UsernameTaken), also when a race is lost, and for the name
    /// of a deleted user while it is reserved.
    async fn create_user(&self, user: NewUser) -> Result<()>;
    /// Makes a login, and its device if need be; one that was removed is not found any more. Refused:
    /// [`InvalidCredentials`](crate::ErrorCode::InvalidCredentials), [`NotFound`](crate::ErrorCode::NotFound) for a device to
    /// be replaced, [`DeviceLimit`](crate::ErrorCode::DeviceLimit) with the devices.
    async fn create_login(&self, login: NewLogin) -> Result<MadeLogin>;
    /// A user, deleted ones included.
    async fn find_user(&self, user: UserId) -> Result<Option<User>>;
    /// A user by name, not deleted.
    async fn find_user_by_name(&self, username: &Username) -> Result<Option<User>>;
    /// Id and password hash by name, not deleted.
    async fn find_credentials(&self, username: &Username) -> Result<Option<(UserId, String)>>;
    /// Users by id, oldest first; `Position::key` is `created_at`.
    async fn list_users(&self, page: PageRequest) -> Result<Page<User>>;
    /// A login by primary key. Read on every request and CONNECT, never cached.
    async fn find_login(&self, login: LoginId) -> Result<Option<Login>>;
    /// The newest live device token of the user's device of that name.
    async fn find_device_token(&self, user: UserId, device_name: &str) -> Result<Option<(LoginId, Device)>>;
    /// Presents refresh token number `n` at `at`. The current one is replaced by its successor; the one before is answered
    /// with the same successor for `grace_ms` (its answer may have been lost); any other is reuse and ends the login. A
    /// success slides the login's end to `expires_at`.
    async fn refresh_login(
        &self,
        login: LoginId,
        n: i64,
        at: Timestamp,
        grace_ms: i64,
        expires_at: Timestamp,
    ) -> Result<Refreshed>;
    /// Notes that the login was used on MQTT: slides its end (not of a device token) and the device's last-seen.
    async fn touch_login(&self, login: LoginId, at: Timestamp, expires_at: Timestamp) -> Result<()>;
    /// Ends logins; answers those that were not ended before.
    async fn end_logins(&self, which: EndLogins, at: Timestamp) -> Result<Vec<LoginId>>;
}

/// Relations between users.
#[async_trait]
pub trait Contacts: Send + Sync {
    /// Locks both users, judges by [`crate::rules::relate`], writes, and appends to the personal logs. Answers the
    /// relation as the actor sees it afterwards (`None`: none), and whether anything changed.
    async fn relate(
        &self,
        actor: UserId,
        peer: UserId,
        action: RelationAction,
        at: Timestamp,
    ) -> Result<(Option<ContactView>, bool)>;
    /// People whose user name or display name begins with `query`, the user and deleted accounts excepted: by user name
    /// first, then those whose display name alone matches. Answers where the next page begins.
    async fn search_users(
        &self,
        user: UserId,
        query: SearchQuery,
        after: Option<SearchPosition>,
        limit: u32,
    ) -> Result<(Vec<FoundUser>, Option<SearchPosition>)>;
    /// Contacts by id, blocked and former ones included, and whether presence is shared with each.
    async fn list_presence_contacts(&self, user: UserId) -> Result<Vec<PresenceContact>>;
    /// Keeps when users were last active; what is later stays.
    async fn note_seen(&self, seen: Vec<(UserId, Timestamp)>) -> Result<()>;
    /// Contacts, newest `since` first; `Position::key` is `since`.
    async fn list_contacts(
        &self,
        user: UserId,
        filter: ContactFilter,
        page: PageRequest,
    ) -> Result<Page<ContactView>>;
}

/// Badges. Each read is one snapshot, in a number of statements that does not depend on how many chats there are.
#[async_trait]
pub trait Notifications: Send + Sync {
    /// Chats of the user with a badge, latest activity first; `Position::key` is the time of the last row.
    async fn list_chat_notifications(
        &self,
        user: UserId,
        page: PageRequest,
    ) -> Result<Page<ChatNotification>>;
    /// Incoming contact requests not yet viewed, newest first, at most `limit`.
    async fn list_new_requests(&self, user: UserId, limit: u32) -> Result<Vec<ContactView>>;
    /// All badges of the user.
    async fn count_notifications(&self, user: UserId) -> Result<NotificationCounts>;
    /// Clears the badge of a chat up to its present end, and tells the personal log if that changed anything. Marks nothing
    /// READ. Refused by [`crate::rules::require_member`].
    async fn clear_notifications(&self, user: UserId, chat: ChatId, at: Timestamp) -> Result<()>;
    /// Notes that the incoming contact requests were viewed, and tells the personal log if any was new.
    async fn mark_requests_viewed(&self, user: UserId, at: Timestamp) -> Result<()>;
}

/// A private chat to be opened.
#[derive(Clone, Copy, Debug)]
pub struct NewPrivateChat {
    /// Id if it is made.
    pub id: ChatId,
    /// Who opens it.
    pub creator: UserId,
    /// With whom.
    pub peer: UserId,
    /// Limits for [`crate::rules::may_open_chat`].
    pub limits: MembershipLimits,
    /// Now.
    pub at: Timestamp,
}

/// A group to be founded.
#[derive(Clone, Debug)]
pub struct NewGroup {
    /// Id if it is made.
    pub id: ChatId,
    /// Id of row 1, if it is made.
    pub row: RowId,
    /// Who founds it: its owner.
    pub creator: UserId,
    /// Name.
    pub name: String,
    /// Other founders, without the creator, each once.
    pub members: Vec<UserId>,
    /// What those who join later may read.
    pub history_visible: HistoryVisible,
    /// Unique per creator.
    pub local_id: Option<LocalId>,
    /// Limits for [`crate::rules::may_open_chat`].
    pub limits: MembershipLimits,
    /// Now.
    pub at: Timestamp,
}

/// A change of members to be made.
#[derive(Clone, Debug)]
pub struct ChangeMembers {
    /// Where.
    pub chat: ChatId,
    /// Who asks.
    pub actor: UserId,
    /// What.
    pub change: MembershipChange,
    /// Id of the row, if one is appended.
    pub row: RowId,
    /// Limits for [`crate::rules::change_members`].
    pub limits: MembershipLimits,
    /// Now.
    pub at: Timestamp,
}

/// Changes of a group itself; `None` leaves as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChatChange {
    /// Name.
    pub name: Option<String>,
    /// Description; `Some(None)` takes it away.
    pub description: Option<Option<String>>,
    /// What those who join from now on may read.
    pub history_visible: Option<HistoryVisible>,
}

/// A group to be changed.
#[derive(Clone, Debug)]
pub struct UpdateChat {
    /// Which.
    pub chat: ChatId,
    /// Who asks.
    pub actor: UserId,
    /// What.
    pub change: ChatChange,
    /// Id of the row, if one is appended.
    pub row: RowId,
    /// Now.
    pub at: Timestamp,
}

/// Changes of a member's own settings; `None` leaves as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SettingsChange {
    /// `Some(None)`: not muted.
    pub muted_until: Option<Option<Timestamp>>,
    /// Shown on top.
    pub pinned: Option<bool>,
    /// Shown apart.
    pub archived: Option<bool>,
}

/// Chats and stays.
#[async_trait]
pub trait Chats: Send + Sync {
    /// Opens the one private chat of two users: both stays with `joined_seq` 0 and `visible_from` 1, `new-chat` in both
    /// personal logs. An existing one is answered with `false` before any rule is asked.
    async fn create_private_chat(&self, chat: NewPrivateChat) -> Result<(ChatId, bool)>;
    /// Founds a group: row 1 is `members-changed` with all founders, `new-chat` in each one's personal log. A known
    /// `localId` of the creator answers the group it made, with `false`.
    async fn create_group(&self, group: NewGroup) -> Result<(ChatId, bool)>;
    /// Locks the chat, judges by [`crate::rules::change_members`], appends the `members-changed` row, begins and ends
    /// stays, writes the personal logs (`new-chat`, `chat-left`). `None`: nothing was to do.
    async fn change_members(&self, change: ChangeMembers) -> Result<Option<LogRow>>;
    /// Locks the chat, judges by [`crate::rules::may_update_chat`], writes, appends the `chat-updated` row. Answers whether
    /// anything changed.
    async fn update_chat(&self, update: UpdateChat) -> Result<bool>;
    /// Changes an active member's settings of a chat, and tells the personal log if they changed. Refused by
    /// [`crate::rules::require_member`].
    async fn update_settings(
        &self,
        user: UserId,
        chat: ChatId,
        change: SettingsChange,
        at: Timestamp,
    ) -> Result<ChatSettings>;
    /// The chat as the user sees it; `None` for strangers.
    async fn find_chat(&self, user: UserId, chat: ChatId) -> Result<Option<ChatView>>;
    /// The user's chats (active stays), latest activity first, in a number of statements that does not depend on how many
    /// there are; `Position::key` is the time of the last row.
    async fn list_chats(&self, user: UserId, page: PageRequest) -> Result<Page<ChatView>>;
    /// Active members, longest-standing first; `None` unless the user is one. `Position::key` is `joined_seq`, `id` the user's.
    async fn list_members(
        &self,
        user: UserId,
        chat: ChatId,
        page: PageRequest,
    ) -> Result<Option<Page<MemberView>>>;
    /// Every chat in which the user has or ever had a stay, reduced to what delivery needs.
    async fn list_stays(&self, user: UserId) -> Result<Vec<StayEnd>>;
}

/// A message to be appended.
#[derive(Clone, Debug)]
pub struct AppendMessage {
    /// Where.
    pub chat: ChatId,
    /// Who.
    pub sender: UserId,
    /// Id if it is stored.
    pub id: RowId,
    /// Makes the send unique for ever with chat and sender.
    pub local_id: Option<LocalId>,
    /// Keyed hash of the content, to tell a retry from a conflict.
    pub content_hash: [u8; 32],
    /// The text.
    pub text: String,
    /// The message that it answers.
    pub reply_to: Option<RowId>,
    /// Who is mentioned, each once.
    pub mentions: Vec<UserId>,
    /// What it was copied from.
    pub forwarded_from: Option<Origin>,
    /// Now.
    pub at: Timestamp,
}

/// A stored message to be changed.
#[derive(Clone, Debug)]
pub struct ChangeMessage {
    /// Where.
    pub chat: ChatId,
    /// Which.
    pub message: RowId,
    /// Who asks.
    pub actor: UserId,
    /// What.
    pub change: MessageChange,
    /// For how long a sender may delete for everyone.
    pub delete_window: Option<Duration>,
    /// Id of the row, if one is appended.
    pub row: RowId,
    /// Now.
    pub at: Timestamp,
}

/// Outcome of [`Log::append_message`].
#[derive(Clone, Debug)]
pub enum Appended {
    /// Stored just now.
    New(LogRow),
    /// Stored before; this is what it is.
    Existing(LogRow),
}

impl Appended {
    /// The row, new or not.
    pub fn row(&self) -> &LogRow {
        match self {
            Self::New(row) | Self::Existing(row) => row,
        }
    }
}

/// Rows of a log that a user may have, in `seq` order.
#[derive(Clone, Debug, Default)]
pub struct LogPage {
    /// Reading past a hole is allowed: what is returned is the truth.
    pub rows: Vec<LogRow>,
    /// Everything the user may have up to here is in `rows` or before it. Of the last page it is the log's present end, or
    /// the end of the last stay.
    pub end: Seq,
    /// Whether the user may have rows after `end`.
    pub more: bool,
}

/// From where messages are paged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessagesFrom {
    /// The newest, downwards.
    Newest,
    /// Below this, downwards.
    Before(Seq),
    /// Above this, upwards.
    After(Seq),
}

/// Appending to logs, reading them, watermarks.
#[async_trait]
pub trait Log: Send + Sync {
    /// The key of the content hash, made once and kept in the database.
    async fn content_key(&self) -> Result<[u8; 32]>;
    /// Queues a message; commands queued one after the other to one chat commit in that order. Waits only for room in the
    /// queue. Then, inside the transaction: a known `localId` first (equal or emptied content: `Existing`; other:
    /// [`LocalIdConflict`](crate::ErrorCode::LocalIdConflict)), then [`crate::rules::may_send`] and
    /// [`crate::rules::may_quote`].
    async fn append_message(&self, message: AppendMessage) -> Result<Commit<Appended>>;
    /// Messages that `sender` sent to `chats` under this `localId`: equal or emptied content is `Existing`, other content
    /// refuses as in [`Self::append_message`].
    async fn find_sent(
        &self,
        sender: UserId,
        chats: &[ChatId],
        local_id: &LocalId,
        content_hash: &[u8; 32],
    ) -> Result<HashMap<ChatId, Appended>>;
    /// Of each of these logs the rows after one which the user may have (`visible_from ..= left_seq` of each stay; a
    /// personal log only its owner); of all together at most `limit`, the first ones first. A page for each log, in that
    /// order; `None`: the user never had a stay there.
    async fn read_logs(
        &self,
        user: UserId,
        wanted: &[(Stream, Seq)],
        limit: u32,
    ) -> Result<Vec<Option<LogPage>>>;
    /// Rows that are messages (SYSTEM ones too), as the user sees them, own ones with status. Newest first, or upwards
    /// with `After`. `None`: the user never had a stay there.
    async fn list_messages(
        &self,
        user: UserId,
        chat: ChatId,
        from: MessagesFrom,
        limit: u32,
    ) -> Result<Option<Vec<MessageView>>>;
    /// Queues a change of a message, in order with sends to its chat. Inside the transaction it is judged by
    /// [`crate::rules::may_change_message`]; what is so already changes nothing, else a row is appended. Deleting empties
    /// the message: text, what it quotes, reactions, mentions, the hash of its content.
    async fn change_message(&self, change: ChangeMessage) -> Result<Commit<Target>>;
    /// Hides a message from the user, who may have it, on all of their devices.
    async fn hide_message(
        &self,
        user: UserId,
        chat: ChatId,
        message: RowId,
        at: Timestamp,
    ) -> Result<Commit<Target>>;
    /// Messages that answer `message`, oldest first, as the user sees them; `Position::key` is `seq`. `None`: the user may not
    /// have `message`.
    async fn list_replies(
        &self,
        user: UserId,
        message: RowId,
        page: PageRequest,
    ) -> Result<Option<Page<MessageView>>>;
    /// For whom a message counts and how far it got with each; longest-standing first.
    async fn list_recipients(&self, chat: ChatId, sender: UserId, seq: Seq) -> Result<Vec<Recipient>>;
    /// The chat of a message which the user may have, hidden or not.
    async fn locate_message(&self, user: UserId, message: RowId) -> Result<Option<ChatId>>;
    /// A message which the user may have and has not hidden.
    async fn find_message(&self, user: UserId, message: RowId) -> Result<Option<MessageView>>;
    /// Raises watermarks, behind messages. A raise by somebody who is not an active member is refused by
    /// [`crate::rules::require_member`]. One outcome per raise: one may fail, and another be committed.
    async fn raise_watermarks(&self, raises: Vec<Raise>, at: Timestamp) -> Vec<Result<Raised>>;
    /// Watermarks of all stays of these chats, as shown to others.
    async fn list_marks(&self, chats: Vec<ChatId>) -> Result<HashMap<ChatId, Vec<Mark>>>;
    /// How the receipts of the user's chats stand, by chat.
    async fn list_receipts(&self, user: UserId, query: ReceiptsQuery) -> Result<ReceiptsPage>;
    /// What [`crate::rules::may_send`] asks about, as it is now; `None`: the chat does not exist. For what is not stored.
    async fn find_send_facts(&self, user: UserId, chat: ChatId) -> Result<Option<SendFacts>>;
    /// Whether the database answers.
    async fn ping(&self) -> Result<()>;
}

/// MQTT sessions.
#[async_trait]
pub trait Sessions: Send + Sync {
    /// Takes the session's next generation and reads it, or makes it. An expired session counts as absent. Refused:
    /// [`Unauthenticated`](crate::ErrorCode::Unauthenticated), for a device that was removed.
    async fn open_session(&self, open: OpenSession) -> Result<OpenedSession>;
    /// Replaces filters and cursor map in one update; answers the new map. `None`: superseded.
    async fn save_subscriptions(&self, save: SaveSubscriptions) -> Result<Option<Cursors>>;
    /// Stores the cursor map. `false`: superseded.
    async fn save_cursors(&self, fence: SessionFence, cursors: Cursors) -> Result<bool>;
    /// Stores the cursor map and marks the session disconnected, or deletes it when its expiry is 0. `false`: superseded.
    async fn close_session(&self, close: CloseSession) -> Result<bool>;
    /// Forgets sessions whose expiry has passed; answers how many. Sessions without a `disconnected_at` whose process died
    /// count from the start of this process. Their wills are due from now on, as [`Plain::list_due_wills`] says; so this is
    /// called once at the start. Retained messages that have expired are forgotten, too.
    async fn prune_sessions(&self, at: Timestamp) -> Result<u64>;
}

/// The plain lane.
#[async_trait]
pub trait Plain: Send + Sync {
    /// Queues a publication. In one transaction: a known packet identifier, or a will that is gone, ends it with
    /// [`Before`](PublishedPlain::Before); the retained message is replaced or removed (refused with
    /// [`RetainedFull`](crate::ErrorCode::RetainedFull) beyond [`MAX_RETAINED`](crate::plain::MAX_RETAINED) and
    /// [`MAX_RETAINED_BYTES`](crate::plain::MAX_RETAINED_BYTES)); it enters each queue, from which the oldest messages
    /// that were never sent go beyond [`MAX_QUEUED`](crate::plain::MAX_QUEUED) and
    /// [`MAX_QUEUED_BYTES`](crate::plain::MAX_QUEUED_BYTES); the will is forgotten. After the commit the relay gets a
    /// [`PlainDelivery`](crate::plain::PlainDelivery), in the order of the commits of one user's lane.
    async fn publish_plain(&self, publish: PublishPlain) -> Result<Commit<PublishedPlain>>;
    /// A session's queue after `after`, at most so many messages and about so many bytes (at least one message, if there is
    /// one). Expired messages are in it, too.
    async fn list_queued(
        &self,
        session: SessionId,
        after: Seq,
        limit: u32,
        bytes: usize,
    ) -> Result<QueuePage>;
    /// Stores what a session has done. `false`: superseded, and nothing was changed.
    async fn settle_queue(&self, fence: SessionFence, settle: Settle) -> Result<bool>;
    /// Retained messages of a user that are not expired at `at`, by topic.
    async fn list_retained(&self, user: UserId, which: Retained, at: Timestamp) -> Result<Vec<PlainMessage>>;
    /// The user's sessions that outlive their connections and are not expired.
    async fn list_lasting_sessions(&self, user: UserId, at: Timestamp) -> Result<Vec<LastingSession>>;
    /// Wills whose time has come, or whose session is gone; oldest first. Those of connections that died with an earlier
    /// process are among them once [`Sessions::prune_sessions`] has met them; their delay counts from the start of this one.
    async fn list_due_wills(&self, at: Timestamp, limit: u32) -> Result<Vec<DueWill>>;
}
