//! Logins as rows.

use super::{
    devices::{self, DEVICE_COLUMNS, Owned, device_columns, read_device, tell_if_changed},
    log::lock_users,
    profiles::require_hash,
    statement::statements,
    transaction::Tx,
    value::{Row, args},
    writer::{Place, Scope, Write},
};
use crate::trouble::Failed;
use async_trait::async_trait;
use curlew_domain::{
    ErrorCode, Refusal,
    account::{Login, LoginKind},
    clock::Timestamp,
    device::Device,
    ids::{LoginId, UserId},
    ports::{
        relay::Committed,
        store::{EndLogins, MadeLogin, NewLogin, Refreshed},
    },
};
use uuid::Uuid;

/// The columns that [`read_login`] expects, of tables `l` and `u`.
macro_rules! login_columns {
    () => {
        "l.id, l.user_id, l.device_id, l.kind, l.refresh_count, l.refreshed_at, l.expires_at, l.ended_at, u.deleted_at"
    };
}

statements! {
    FIND_LOGIN = ["SELECT " (login_columns!()) " FROM logins l JOIN users u ON u.id = l.user_id WHERE l.id = $1"];
    LOCK_LOGIN = ["SELECT " (login_columns!()) " FROM logins l JOIN users u ON u.id = l.user_id WHERE l.id = $1" lock(l)];
    INSERT_LOGIN = ["INSERT INTO logins (id, user_id, device_id, kind, refresh_count, refreshed_at, expires_at, created_at)
        VALUES ($1, $2, $3, $4, 0, $5, $6, $5)"];
    REFRESH_LOGIN = ["UPDATE logins SET refresh_count = $2, refreshed_at = $3, expires_at = $4 WHERE id = $1"];
    SLIDE_LOGIN = ["UPDATE logins SET expires_at = $2 WHERE id = $1 AND expires_at < $2 AND ended_at IS NULL"];
    END_LOGIN = ["UPDATE logins SET ended_at = $2 WHERE id = $1 AND ended_at IS NULL RETURNING id"];
    END_SIGN_INS = ["UPDATE logins SET ended_at = $2
        WHERE user_id = $1 AND kind = 'password' AND id <> $3 AND ended_at IS NULL RETURNING id"];
    FIND_DEVICE_TOKEN = ["SELECT " (device_columns!()) ", l.id FROM logins l JOIN devices d ON d.id = l.device_id
        WHERE l.user_id = $1 AND d.name = $2 AND l.kind = 'device-token' AND l.ended_at IS NULL AND l.expires_at IS NULL
        ORDER BY l.created_at DESC, l.id DESC LIMIT 1"];
    SEE_DEVICE_OF_LOGIN = ["UPDATE devices SET last_seen_at = $2
        WHERE id = (SELECT l.device_id FROM logins l WHERE l.id = $1 AND l.ended_at IS NULL) AND last_seen_at < $2"];
}

fn read_login(row: &Row) -> Result<Login, sqlx::Error> {
    Ok(Login {
        id: row.id(0)?,
        user: row.id(1)?,
        device: row.id(2)?,
        kind: row.named(3, LoginKind::parse)?,
        refresh_count: row.int(4)?,
        refreshed_at: row.at(5)?,
        expires_at: row.at_or_null(6)?,
        ended: row.int_or_null(7)?.is_some(),
        user_deleted: row.int_or_null(8)?.is_some(),
    })
}

pub(super) async fn find_login(tx: &mut Tx, login: LoginId) -> Result<Option<Login>, sqlx::Error> {
    tx.find(&FIND_LOGIN, args![login]).await?.map(|row| read_login(&row)).transpose()
}

/// The newest device token of the user on a device of this name that has not been ended.
pub(super) async fn find_device_token(
    tx: &mut Tx,
    user: UserId,
    name: &str,
) -> Result<Option<(LoginId, Device)>, sqlx::Error> {
    let row = tx.find(&FIND_DEVICE_TOKEN, args![user, name]).await?;
    row.map(|row| Ok((row.id(DEVICE_COLUMNS)?, read_device(&row)?))).transpose()
}

/// The ids of logins that a statement has ended; the commit ends their connections, whatever becomes of the caller.
pub(super) fn publish_ended(scope: &mut Scope<'_>, ended: &[Row]) -> Result<Vec<LoginId>, sqlx::Error> {
    let ended = ended.iter().map(|row| row.id(0)).collect::<Result<Vec<LoginId>, _>>()?;
    if !ended.is_empty() {
        scope.committed.push(Committed::LoginsEnded(ended.clone()));
    }
    Ok(ended)
}

#[async_trait]
impl Write for NewLogin {
    type Answer = MadeLogin;
    const PLACE: Place = Place::InTurn;

    fn key(&self) -> Uuid {
        self.user.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<MadeLogin, Failed> {
        let Self { user, at, .. } = *self;
        let tx = &mut *scope.tx;
        // The lock keeps two logins from both taking the last device, or both making the device of one name, and the
        // password from being changed meanwhile.
        if lock_users(tx, &[user]).await?.is_empty() {
            return Err(Refusal::not_found("user").into());
        }
        if let Some(verified) = &self.verified {
            require_hash(tx, user, verified).await?;
        }
        let replace = match self.replace {
            Some(replaced) => match devices::find_owned(tx, user, replaced).await? {
                Owned::Present(device) => Some(device.id),
                Owned::Removed => None,
                Owned::Not => return Err(Refusal::not_found("device").into()),
            },
            None => None,
        };
        let before = devices::list_live(tx, user, at).await?;
        let known = devices::find_chosen(tx, user, &self.device, replace).await?;
        self.check_limit(&before, known.as_ref())?;
        let is_first = !devices::had_any(tx, user).await?;
        let ended = match replace {
            Some(replaced) => devices::remove(scope, user, replaced, at).await?,
            None => Vec::new(),
        };
        let tx = &mut *scope.tx;
        let device = self.take_device(tx, known).await?;
        let args = args![self.id, user, device.id, self.kind.as_str(), at, self.expires_at];
        tx.execute(&INSERT_LOGIN, args).await?;
        if !is_first {
            tell_if_changed(scope, user, &before, at).await?;
        }
        Ok(MadeLogin { device, ended })
    }
}

/// The device of a [`NewLogin`].
trait ChosenDevice {
    fn check_limit(&self, live: &[Device], known: Option<&Device>) -> Result<(), Refusal>;
    async fn take_device(&self, tx: &mut Tx, known: Option<Device>) -> Result<Device, sqlx::Error>;
}

impl ChosenDevice for NewLogin {
    /// The refusal names the devices, so that one of them can be replaced.
    fn check_limit(&self, live: &[Device], known: Option<&Device>) -> Result<(), Refusal> {
        let counted = known.is_some_and(|known| live.iter().any(|device| device.id == known.id));
        let staying = live.iter().filter(|device| Some(device.id) != self.replace).count();
        if counted || staying < self.device_limit as usize {
            return Ok(());
        }
        let names: Vec<String> =
            live.iter().map(|device| format!("{} ({})", device.name, device.id)).collect();
        let detail =
            format!("{} devices are logged in, as many as allowed: {}", live.len(), names.join(", "));
        // The one that asks is none of them.
        let asking = Some(self.new_device);
        let devices = live.iter().map(|device| device.clone().view(asking, &[])).collect();
        Err(Refusal { devices, ..Refusal::new(ErrorCode::DeviceLimit, detail) })
    }

    /// The known one, or a new one.
    async fn take_device(&self, tx: &mut Tx, known: Option<Device>) -> Result<Device, sqlx::Error> {
        if let Some(device) = known {
            devices::see(tx, device.id, self.at).await?;
            return Ok(Device { last_seen_at: device.last_seen_at.max(self.at), ..device });
        }
        let device = Device {
            id: self.new_device,
            user: self.user,
            name: self.device.name.clone(),
            platform: self.device.platform.clone(),
            created_at: self.at,
            last_seen_at: self.at,
        };
        devices::insert(tx, &device).await?;
        Ok(device)
    }
}

/// Refresh token number `n` is presented.
pub(super) struct RefreshLogin {
    pub login: LoginId,
    pub n: i64,
    pub at: Timestamp,
    pub grace_ms: i64,
    pub expires_at: Timestamp,
}

#[async_trait]
impl Write for RefreshLogin {
    type Answer = Refreshed;
    const PLACE: Place = Place::InTurn;

    fn key(&self) -> Uuid {
        self.login.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Refreshed, Failed> {
        // Users are locked before logins, and reuse may change the list of the user's devices.
        let Some(Login { user, .. }) = find_login(scope.tx, self.login).await? else {
            return Ok(Refreshed::Ended);
        };
        lock_users(scope.tx, &[user]).await?;
        let row = scope.tx.find(&LOCK_LOGIN, args![self.login]).await?;
        let Some(login) = row.map(|row| read_login(&row)).transpose()? else { return Ok(Refreshed::Ended) };
        if !login.is_live(self.at) {
            return Ok(Refreshed::Ended);
        }
        let age = self.at.0.saturating_sub(login.refreshed_at.0);
        let (count, refreshed_at) = match login.refresh_count - self.n {
            0 => (login.refresh_count + 1, self.at),
            1 if age <= self.grace_ms => (login.refresh_count, login.refreshed_at),
            _ => {
                let before = devices::list_live(scope.tx, user, self.at).await?;
                let ended = scope.tx.fetch(&END_LOGIN, args![self.login, self.at]).await?;
                publish_ended(scope, &ended)?;
                tell_if_changed(scope, user, &before, self.at).await?;
                return Ok(Refreshed::Reused);
            }
        };
        // A token without an end stays without one.
        let expires_at = login.expires_at.map(|_| self.expires_at);
        scope.tx.execute(&REFRESH_LOGIN, args![self.login, count, refreshed_at, expires_at]).await?;
        devices::see(scope.tx, login.device, self.at).await?;
        Ok(Refreshed::Current(count))
    }
}

/// A login was used on MQTT.
pub(super) struct TouchLogin {
    pub login: LoginId,
    pub at: Timestamp,
    pub expires_at: Timestamp,
}

#[async_trait]
impl Write for TouchLogin {
    type Answer = ();
    const PLACE: Place = Place::Accounts;

    fn key(&self) -> Uuid {
        self.login.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<(), Failed> {
        scope.tx.execute(&SLIDE_LOGIN, args![self.login, self.expires_at]).await?;
        scope.tx.execute(&SEE_DEVICE_OF_LOGIN, args![self.login, self.at]).await?;
        Ok(())
    }
}

/// Logins end.
pub(super) struct EndThese {
    pub which: EndLogins,
    pub at: Timestamp,
}

#[async_trait]
impl Write for EndThese {
    type Answer = Vec<LoginId>;
    const PLACE: Place = Place::InTurn;

    fn key(&self) -> Uuid {
        match self.which {
            EndLogins::One(login) => login.uuid(),
            EndLogins::SignIns(user) => user.uuid(),
        }
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Vec<LoginId>, Failed> {
        let user = match self.which {
            EndLogins::SignIns(user) => user,
            EndLogins::One(login) => match find_login(scope.tx, login).await? {
                Some(login) => login.user,
                None => return Ok(Vec::new()),
            },
        };
        // A login that is being made right now is ended too, or comes after.
        lock_users(scope.tx, &[user]).await?;
        let before = devices::list_live(scope.tx, user, self.at).await?;
        let ended = match self.which {
            EndLogins::One(login) => scope.tx.fetch(&END_LOGIN, args![login, self.at]).await?,
            EndLogins::SignIns(user) => {
                scope.tx.fetch(&END_SIGN_INS, args![user, self.at, Uuid::nil()]).await?
            }
        };
        tell_if_changed(scope, user, &before, self.at).await?;
        Ok(publish_ended(scope, &ended)?)
    }
}

/// Ends the user's sign-ins but one; answers them. Their user must be locked.
pub(super) async fn end_other_sign_ins(
    scope: &mut Scope<'_>,
    user: UserId,
    keep: LoginId,
    at: Timestamp,
) -> Result<Vec<LoginId>, sqlx::Error> {
    let before = devices::list_live(scope.tx, user, at).await?;
    let ended = scope.tx.fetch(&END_SIGN_INS, args![user, at, keep]).await?;
    tell_if_changed(scope, user, &before, at).await?;
    publish_ended(scope, &ended)
}
