//! Accounts: register, sign in, refresh, sign out; who is asking.

use super::{
    Base,
    bcrypt::Bcrypt,
    credentials::{Claims, Credentials, OpaqueUse, TokenUse},
};
use crate::{
    account::{
        Login, LoginAnswer, LoginKind, MqttAccess, Principal, ProfileView, Registration, User, UserView,
        Username, invalid_credentials,
    },
    clock::Timestamp,
    device::{Device, DeviceChoice},
    error::{Error, ErrorCode, Result},
    ids::{DeviceId, LoginId, UserId},
    page::{Page, PageRequest},
    ports::store::{EndLogins, MadeLogin, NewLogin, NewUser, Refreshed},
    secret::Secret,
};
use std::{sync::Arc, time::Duration};

/// A login lives this long after its last use.
const LOGIN_LIFETIME: Duration = Duration::from_hours(30 * 24);
/// It slides by so much at least.
const SLIDE_GRAIN: Duration = Duration::from_hours(1);
/// A replaced refresh token may be repeated this long: its answer may have been lost.
const REFRESH_GRACE: Duration = Duration::from_mins(1);

/// Who may register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistrationMode {
    /// Anybody.
    Open,
    /// Those invited (accounts are made by an operator).
    Invite,
    /// Nobody.
    Closed,
}

/// Where clients connect over MQTT, told in login answers.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// `mqtt://host:port`.
    pub tcp: String,
    /// `mqtts://host:port`, if there is TLS.
    pub tls: Option<String>,
    /// `ws://host:port/mqtt`.
    pub ws: String,
}

/// What an operator sets for accounts.
#[derive(Clone, Debug)]
pub struct AccountsConfig {
    /// Signs tokens; at least 32 bytes.
    pub secret: Secret<Vec<u8>>,
    /// Life of an access token.
    pub access_token_ttl: Duration,
    /// bcrypt cost, 4..=16.
    pub bcrypt_cost: u32,
    /// Who may register.
    pub registration: RegistrationMode,
    /// Most devices of one user with a live login.
    pub device_limit: u32,
    /// Told to clients.
    pub endpoints: Endpoints,
}

/// Accounts: register, sign in, refresh, sign out; who is asking.
pub struct Accounts {
    base: Base,
    config: AccountsConfig,
    credentials: Credentials,
    bcrypt: Arc<Bcrypt>,
}

impl Accounts {
    /// The service.
    pub fn new(base: Base, config: AccountsConfig, bcrypt: Arc<Bcrypt>) -> Self {
        let credentials = Credentials::new(&config.secret);
        Self { base, config, credentials, bcrypt }
    }

    /// Makes an account and signs it in.
    pub async fn register(&self, registration: Registration) -> Result<LoginAnswer> {
        match self.config.registration {
            RegistrationMode::Open => {}
            RegistrationMode::Invite => {
                return Err(Error::refused(ErrorCode::RegistrationClosed, "registration is by invitation"));
            }
            RegistrationMode::Closed => {
                return Err(Error::refused(ErrorCode::RegistrationClosed, "registration is closed"));
            }
        }
        let device = registration.device.clone();
        let user = self.create_user(registration).await?;
        self.sign_in(user, None, device, None).await
    }

    /// Makes an account, whatever the registration mode: for operators, and behind [`Self::register`].
    pub async fn create_user(&self, registration: Registration) -> Result<User> {
        // A name that is taken costs no hash.
        if self.base.store.find_user_by_name(&registration.username).await?.is_some() {
            return Err(username_taken(&registration.username));
        }
        let user = NewUser {
            id: self.base.new_id(),
            username: registration.username,
            password_hash: self.bcrypt.hash(registration.password).await?,
            display_name: registration.display_name,
            email: registration.email,
            phone: registration.phone,
            at: self.base.now(),
        };
        let id = user.id;
        self.base.store.create_user(user).await?;
        self.user(id).await
    }

    /// Signs in with user name and password. Takes the same time whatever is wrong. `replace`: a device that is removed for
    /// it; when it returns nothing more is written to the connections of that one.
    pub async fn login(
        &self,
        login: &str,
        password: String,
        device: DeviceChoice,
        replace: Option<DeviceId>,
    ) -> Result<LoginAnswer> {
        let known = match Username::parse(login) {
            Ok(name) => self.base.store.find_credentials(&name).await?,
            Err(_) => None,
        };
        let (user, hash) = known.map_or((None, None), |(user, hash)| (Some(user), Some(hash)));
        let matches = self.bcrypt.verify(password, hash.clone()).await?;
        match user {
            Some(user) if matches => {
                let user = self.user(user).await?;
                self.sign_in(user, hash, device, replace).await
            }
            _ => Err(invalid_credentials().into()),
        }
    }

    /// Exchanges a refresh token for a new pair.
    pub async fn refresh(&self, token: &str) -> Result<LoginAnswer> {
        let refused = || {
            Error::refused(
                ErrorCode::Unauthenticated,
                "the refresh token is not valid (any more); log in again",
            )
        };
        let now = self.base.now();
        let claims = self.credentials.read_jwt(token, TokenUse::Refresh, now).ok_or_else(refused)?;
        let n = claims.n.ok_or_else(refused)?;
        let grace = i64::try_from(REFRESH_GRACE.as_millis()).unwrap_or(i64::MAX);
        let end = now.plus(LOGIN_LIFETIME);
        match self.base.store.refresh_login(claims.lid, n, now, grace, end).await? {
            Refreshed::Current(n) => {
                let (user, device) = (self.user(claims.sub).await?, self.device(claims.did).await?);
                Ok(self.answer(user, device, claims.lid, n).await)
            }
            Refreshed::Reused => {
                self.base.relay.end_logins(&[claims.lid]).await;
                tracing::warn!(login = %claims.lid, "a replaced refresh token was used again: login ended");
                Err(refused())
            }
            Refreshed::Ended => Err(refused()),
        }
    }

    /// Who presents this REST bearer token: an access token or a device token.
    pub async fn authenticate_bearer(&self, token: &str) -> Result<Principal> {
        let (login, expires_at) = self.find_bearer(token).await?;
        Ok(principal_of(&login, expires_at))
    }

    async fn find_bearer(&self, token: &str) -> Result<(Login, Option<Timestamp>)> {
        if let Some(login) = self.credentials.read_opaque(OpaqueUse::DeviceToken, token) {
            return Ok((self.find_live(login, Some(LoginKind::DeviceToken)).await?, None));
        }
        let claims = self
            .credentials
            .read_jwt(token, TokenUse::Access, self.base.now())
            .ok_or_else(unauthenticated)?;
        Ok((self.find_live(claims.lid, None).await?, Some(Timestamp(claims.exp.saturating_mul(1000)))))
    }

    /// Who presents this MQTT user name (options cut off) and password: an MQTT password, a device token or an access
    /// token. The user name may be empty, the user's id or their user name.
    pub async fn authenticate_mqtt(&self, username: &str, password: &str) -> Result<Principal> {
        let (login, expires_at) = match self.credentials.read_opaque(OpaqueUse::Mqtt, password) {
            Some(login) => (self.find_live(login, Some(LoginKind::Password)).await?, None),
            None => self.find_bearer(password).await?,
        };
        let principal = principal_of(&login, expires_at);
        if !username.is_empty() && username != principal.user.to_string() {
            let user = self.user(principal.user).await?;
            if user.username.as_str() != username {
                return Err(unauthenticated());
            }
        }
        let now = self.base.now();
        let end = now.plus(LOGIN_LIFETIME);
        // Who comes back every minute does not slide it every minute.
        if login.expires_at.is_some_and(|known| known.until(end) > SLIDE_GRAIN) {
            self.base.store.touch_login(principal.login, now, end).await?;
        }
        Ok(principal)
    }

    /// Whether the login behind a principal still lets anybody in.
    pub async fn is_live(&self, principal: &Principal) -> Result<bool> {
        let login = self.base.store.find_login(principal.login).await?;
        Ok(login.is_some_and(|login| login.is_live(self.base.now())))
    }

    async fn find_live(&self, login: LoginId, kind: Option<LoginKind>) -> Result<Login> {
        let login = self.base.store.find_login(login).await?.filter(|l| l.is_live(self.base.now()));
        login.filter(|l| kind.is_none_or(|kind| kind == l.kind)).ok_or_else(unauthenticated)
    }

    /// Ends this login, or with `everywhere` every sign-in of the user (device tokens stay: an operator revokes them).
    /// When it returns nothing more is written to the connections concerned.
    pub async fn logout(&self, principal: &Principal, everywhere: bool) -> Result<()> {
        let now = self.base.now();
        let mut ended = self.base.store.end_logins(EndLogins::One(principal.login), now).await?;
        if everywhere {
            ended.extend(self.base.store.end_logins(EndLogins::SignIns(principal.user), now).await?);
        }
        self.base.relay.end_logins(&ended).await;
        Ok(())
    }

    /// One's own profile.
    pub async fn profile(&self, principal: &Principal) -> Result<ProfileView> {
        Ok(self.user(principal.user).await?.into())
    }

    /// The public side of a user.
    pub async fn find_user(&self, user: UserId) -> Result<UserView> {
        self.base.store.find_user(user).await?.map(UserView::from).ok_or_else(|| Error::not_found("user"))
    }

    /// The public side of a user, by name.
    pub async fn find_user_by_name(&self, username: &Username) -> Result<UserView> {
        self.named(username).await.map(UserView::from)
    }

    /// All users, for operators.
    pub async fn list_users(&self, page: PageRequest) -> Result<Page<User>> {
        self.base.store.list_users(page).await
    }

    /// Issues a device token, for operators: valid until revoked, on MQTT and REST.
    pub async fn issue_device_token(
        &self,
        username: &Username,
        device: DeviceChoice,
    ) -> Result<(Device, Secret<String>)> {
        let user = self.named(username).await?;
        let (login, MadeLogin { device, .. }) =
            self.create_login(user.id, LoginKind::DeviceToken, None, device, None).await?;
        Ok((device, self.credentials.make_opaque(OpaqueUse::DeviceToken, login)))
    }

    /// A live device token of that device if there is one, else a new one.
    pub async fn reuse_device_token(
        &self,
        username: &Username,
        choice: DeviceChoice,
    ) -> Result<(Device, Secret<String>)> {
        let user = self.named(username).await?;
        match self.base.store.find_device_token(user.id, &choice.name).await? {
            Some((login, device)) => {
                Ok((device, self.credentials.make_opaque(OpaqueUse::DeviceToken, login)))
            }
            None => self.issue_device_token(username, choice).await,
        }
    }

    /// Revokes every device token of the user's device of that name; answers how many. When it returns nothing more is
    /// written to the connections concerned.
    pub async fn revoke_device_tokens(&self, username: &Username, device_name: &str) -> Result<u32> {
        let user = self.named(username).await?;
        let mut revoked = Vec::new();
        while let Some((login, _)) = self.base.store.find_device_token(user.id, device_name).await? {
            revoked.extend(self.base.store.end_logins(EndLogins::One(login), self.base.now()).await?);
        }
        self.base.relay.end_logins(&revoked).await;
        Ok(u32::try_from(revoked.len()).unwrap_or(u32::MAX))
    }

    /// Whether this is the user's password.
    pub async fn password_matches(&self, username: &Username, password: &Secret<String>) -> Result<bool> {
        let known = self.base.store.find_credentials(username).await?;
        self.bcrypt.verify(password.expose().clone(), known.map(|(_, hash)| hash)).await
    }

    /// The password of a user made by `curlew demo`: follows from the secret, so that it can be printed again.
    pub fn demo_password(&self, username: &Username) -> Secret<String> {
        self.credentials.demo_password(username.as_str())
    }

    /// `verified`: the hash that the password given was held against.
    async fn sign_in(
        &self,
        user: User,
        verified: Option<String>,
        device: DeviceChoice,
        replace: Option<DeviceId>,
    ) -> Result<LoginAnswer> {
        let made = self.create_login(user.id, LoginKind::Password, verified, device, replace).await;
        let (login, MadeLogin { device, ended }) = match made {
            Ok(made) => made,
            Err(error) => return Err(self.with_online(user.id, error).await),
        };
        self.base.relay.end_logins(&ended).await;
        Ok(self.answer(user, device, login, 0).await)
    }

    /// Adds to a refusal which of its devices are connected.
    async fn with_online(&self, user: UserId, error: Error) -> Error {
        let Error::Refused(mut refusal) = error else { return error };
        if !refusal.devices.is_empty() {
            let online = self.base.relay.online_devices(user).await;
            refusal.devices.iter_mut().for_each(|device| device.online = online.contains(&device.id));
        }
        refusal.into()
    }

    async fn create_login(
        &self,
        user: UserId,
        kind: LoginKind,
        verified: Option<String>,
        device: DeviceChoice,
        replace: Option<DeviceId>,
    ) -> Result<(LoginId, MadeLogin)> {
        let at = self.base.now();
        let login = NewLogin {
            id: self.base.new_id(),
            user,
            kind,
            verified,
            replace,
            device,
            new_device: self.base.new_id(),
            expires_at: (kind == LoginKind::Password).then(|| at.plus(LOGIN_LIFETIME)),
            device_limit: self.config.device_limit,
            at,
        };
        let id = login.id;
        Ok((id, self.base.store.create_login(login).await?))
    }

    async fn answer(&self, user: User, device: Device, login: LoginId, refresh: i64) -> LoginAnswer {
        let online = self.base.relay.online_devices(user.id).await;
        let (now, device_id) = (self.base.now(), device.id);
        let token = |token_use, n, life| {
            let (iat, exp) = (now.seconds(), now.plus(life).seconds());
            self.credentials.make_jwt(&Claims {
                sub: user.id,
                lid: login,
                did: device_id,
                token_use,
                n,
                iat,
                exp,
            })
        };
        LoginAnswer {
            access_token: token(TokenUse::Access, None, self.config.access_token_ttl),
            refresh_token: token(TokenUse::Refresh, Some(refresh), LOGIN_LIFETIME),
            expires_in: self.config.access_token_ttl.as_secs(),
            mqtt: MqttAccess {
                tcp: self.config.endpoints.tcp.clone(),
                tls: self.config.endpoints.tls.clone(),
                ws: self.config.endpoints.ws.clone(),
                username: user.id,
                password: self.credentials.make_opaque(OpaqueUse::Mqtt, login),
            },
            device: device.view(Some(device_id), &online),
            user: user.into(),
        }
    }

    async fn named(&self, username: &Username) -> Result<User> {
        self.base.store.find_user_by_name(username).await?.ok_or_else(|| Error::not_found("user"))
    }

    async fn user(&self, user: UserId) -> Result<User> {
        let found = self.base.store.find_user(user).await?.filter(|user| !user.deleted);
        found.ok_or_else(unauthenticated)
    }

    async fn device(&self, device: DeviceId) -> Result<Device> {
        self.base.store.find_device(device).await?.ok_or_else(unauthenticated)
    }
}

pub(super) fn unauthenticated() -> Error {
    Error::refused(ErrorCode::Unauthenticated, "the credentials are missing, invalid, expired or revoked")
}

fn username_taken(username: &Username) -> Error {
    Error::refused(ErrorCode::UsernameTaken, format!("the user name {username} is taken"))
}

/// By whom and on which device; `expires_at`: the end of the credential.
fn principal_of(login: &Login, expires_at: Option<Timestamp>) -> Principal {
    let Login { id, user, device, .. } = *login;
    Principal { user, login: id, device, expires_at }
}
