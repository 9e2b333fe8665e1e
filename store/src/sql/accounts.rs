//! The port `Accounts`: users and logins.

use super::{
    SqlStore,
    logins::{self, EndThese, RefreshLogin, TouchLogin},
    read, users,
};
use async_trait::async_trait;
use curlew_domain::{
    Result,
    account::{Login, User, Username},
    clock::Timestamp,
    device::Device,
    ids::{LoginId, UserId},
    page::{Page, PageRequest},
    ports::store::{Accounts, EndLogins, MadeLogin, NewLogin, NewUser, Refreshed},
};

#[async_trait]
impl Accounts for SqlStore {
    async fn create_user(&self, user: NewUser) -> Result<()> {
        self.writer.write(user).await
    }

    async fn create_login(&self, login: NewLogin) -> Result<MadeLogin> {
        self.writer.write(login).await
    }

    async fn find_user(&self, user: UserId) -> Result<Option<User>> {
        read!(self, single | tx | users::find_user(tx, user).await?)
    }

    async fn find_user_by_name(&self, username: &Username) -> Result<Option<User>> {
        read!(self, single | tx | users::find_by_name(tx, username).await?.map(|(user, _)| user))
    }

    async fn find_credentials(&self, username: &Username) -> Result<Option<(UserId, String)>> {
        read!(
            self,
            single | tx | users::find_by_name(tx, username).await?.map(|(user, hash)| (user.id, hash))
        )
    }

    async fn list_users(&self, page: PageRequest) -> Result<Page<User>> {
        read!(self, single | tx | users::list_users(tx, page).await?)
    }

    async fn find_login(&self, login: LoginId) -> Result<Option<Login>> {
        read!(self, single | tx | logins::find_login(tx, login).await?)
    }

    async fn find_device_token(&self, user: UserId, device_name: &str) -> Result<Option<(LoginId, Device)>> {
        read!(self, single | tx | logins::find_device_token(tx, user, device_name).await?)
    }

    async fn refresh_login(
        &self,
        login: LoginId,
        n: i64,
        at: Timestamp,
        grace_ms: i64,
        expires_at: Timestamp,
    ) -> Result<Refreshed> {
        self.writer.write(RefreshLogin { login, n, at, grace_ms, expires_at }).await
    }

    async fn touch_login(&self, login: LoginId, at: Timestamp, expires_at: Timestamp) -> Result<()> {
        self.writer.write(TouchLogin { login, at, expires_at }).await
    }

    async fn end_logins(&self, which: EndLogins, at: Timestamp) -> Result<Vec<LoginId>> {
        self.writer.write(EndThese { which, at }).await
    }
}
