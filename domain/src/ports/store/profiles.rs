//! What users change about themselves, to the end of their account.

use crate::{
    account::{Privacy, PrivacyChange, ProfileChange, User, Username},
    clock::Timestamp,
    error::Result,
    ids::{ChatId, LoginId, RowId, UserId},
};
use async_trait::async_trait;

/// A profile to be changed.
#[derive(Clone, Debug)]
pub struct UpdateProfile {
    /// Whose.
    pub user: UserId,
    /// What.
    pub change: ProfileChange,
    /// Now.
    pub at: Timestamp,
}

/// A password to be replaced.
#[derive(Clone, Debug)]
pub struct UpdatePassword {
    /// Whose.
    pub user: UserId,
    /// The hash that the password given has been held against.
    pub verified: String,
    /// bcrypt of the new one.
    pub password_hash: String,
    /// The login that stays.
    pub keep: LoginId,
    /// Now.
    pub at: Timestamp,
}

/// An account to be deleted.
#[derive(Clone, Debug)]
pub struct DeleteUser {
    /// Whose.
    pub user: UserId,
    /// The hash that the password given has been held against.
    pub verified: String,
    /// The name that takes the place of theirs.
    pub alias: Username,
    /// Until when nobody gets theirs.
    pub reserved_until: Timestamp,
    /// Now.
    pub at: Timestamp,
}

/// A stay of a deleted user to be ended.
#[derive(Clone, Copy, Debug)]
pub struct EndDeletedStay {
    /// Where.
    pub chat: ChatId,
    /// Whose.
    pub user: UserId,
    /// Id of the row, if one is appended.
    pub row: RowId,
    /// Now.
    pub at: Timestamp,
}

/// What users change about themselves, to the end of their account.
#[async_trait]
pub trait Profiles: Send + Sync {
    /// The bcrypt hash of a user's password; `None`: no such user, or deleted.
    async fn find_password_hash(&self, user: UserId) -> Result<Option<String>>;
    /// Changes a profile. If something public changed, `profile-updated` goes into the personal logs of the user and of
    /// every accepted contact with whom neither has blocked the other; else no row is written.
    async fn update_profile(&self, update: UpdateProfile) -> Result<User>;
    /// Replaces the password and ends every other sign-in; device tokens stay. Answers those ended. Refused:
    /// [`InvalidCredentials`](crate::ErrorCode::InvalidCredentials), when the verified hash is not the user's any more.
    async fn update_password(&self, update: UpdatePassword) -> Result<Vec<LoginId>>;
    /// Changes who sees what; answers it as it is then.
    async fn update_privacy(&self, user: UserId, change: PrivacyChange) -> Result<Privacy>;
    /// Marks the user deleted and takes away what is theirs alone: name, profile, password, logins, devices, sessions,
    /// what the plain lane keeps, relations (the others are told). What they have sent stays. From now on they are in
    /// [`list_departing`](Self::list_departing). Answers the logins ended. Refused as
    /// [`update_password`](Self::update_password).
    async fn delete_user(&self, delete: DeleteUser) -> Result<Vec<LoginId>>;
    /// Deleted users who may still have stays that last.
    async fn list_departing(&self, limit: u32) -> Result<Vec<UserId>>;
    /// Ends a deleted user's stay, in the order of the chat's log: in a group with a `members-changed` row, as if they had
    /// left, in a private chat at the log's present end without one. Nothing to do for anybody else.
    async fn end_deleted_stay(&self, end: EndDeletedStay) -> Result<()>;
    /// Takes a user out of [`list_departing`](Self::list_departing), unless a stay lasts.
    async fn forget_departing(&self, user: UserId) -> Result<()>;
}
