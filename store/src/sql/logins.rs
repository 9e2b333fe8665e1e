//! Logins and the devices they are on.

use super::{
    log::lock_users,
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
    ids::{DeviceId, LoginId, UserId},
    ports::store::{EndLogins, NewLogin, Refreshed},
};
use uuid::Uuid;

/// The columns that [`read_device`] expects, of a table `d`.
macro_rules! device_columns {
    () => {
        "d.id, d.user_id, d.name, d.platform, d.created_at, d.last_seen_at"
    };
}

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
    END_SIGN_INS = ["UPDATE logins SET ended_at = $2 WHERE user_id = $1 AND kind = 'password' AND ended_at IS NULL RETURNING id"];
    FIND_DEVICE_TOKEN = ["SELECT " (device_columns!()) ", l.id FROM logins l JOIN devices d ON d.id = l.device_id
        WHERE l.user_id = $1 AND d.name = $2 AND l.kind = 'device-token' AND l.ended_at IS NULL AND l.expires_at IS NULL
        ORDER BY l.created_at DESC, l.id DESC LIMIT 1"];
    FIND_DEVICE = ["SELECT " (device_columns!()) " FROM devices d WHERE d.id = $1"];
    FIND_DEVICE_BY_NAME = ["SELECT " (device_columns!()) " FROM devices d WHERE d.user_id = $1 AND d.name = $2
        ORDER BY d.last_seen_at DESC, d.id LIMIT 1"];
    LIVE_DEVICES = ["SELECT " (device_columns!()) " FROM devices d WHERE d.user_id = $1 AND EXISTS (SELECT 1 FROM logins l
            WHERE l.user_id = $1 AND l.device_id = d.id AND l.ended_at IS NULL AND (l.expires_at IS NULL OR l.expires_at > $2))
        ORDER BY d.last_seen_at, d.id"];
    INSERT_DEVICE = ["INSERT INTO devices (id, user_id, name, platform, created_at, last_seen_at) VALUES ($1, $2, $3, $4, $5, $5)"];
    SEE_DEVICE = ["UPDATE devices SET last_seen_at = $2 WHERE id = $1 AND last_seen_at < $2"];
    SEE_DEVICE_OF_LOGIN = ["UPDATE devices SET last_seen_at = $2
        WHERE id = (SELECT l.device_id FROM logins l WHERE l.id = $1 AND l.ended_at IS NULL) AND last_seen_at < $2"];
}

fn read_device(row: &Row) -> Result<Device, sqlx::Error> {
    Ok(Device {
        id: row.id(0)?,
        user: row.id(1)?,
        name: row.text(2)?,
        platform: row.text(3)?,
        created_at: row.at(4)?,
        last_seen_at: row.at(5)?,
    })
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

pub(super) async fn find_device(tx: &mut Tx, device: DeviceId) -> Result<Option<Device>, sqlx::Error> {
    tx.find(&FIND_DEVICE, args![device]).await?.map(|row| read_device(&row)).transpose()
}

/// The newest device token of the user on a device of this name that has not been ended.
pub(super) async fn find_device_token(
    tx: &mut Tx,
    user: UserId,
    name: &str,
) -> Result<Option<(LoginId, Device)>, sqlx::Error> {
    let row = tx.find(&FIND_DEVICE_TOKEN, args![user, name]).await?;
    row.map(|row| Ok((row.id(6)?, read_device(&row)?))).transpose()
}

#[async_trait]
impl Write for NewLogin {
    type Answer = Device;
    const PLACE: Place = Place::Accounts;

    fn key(&self) -> Uuid {
        self.user.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Device, Failed> {
        let tx = &mut *scope.tx;
        // The lock keeps two logins from both taking the last device, or both making the device of one name.
        if lock_users(tx, &[self.user]).await?.is_empty() {
            return Err(Refusal::not_found("user").into());
        }
        let known = self.find_device(tx).await?;
        self.check_limit(tx, known.as_ref()).await?;
        let device = match known {
            Some(device) => {
                tx.execute(&SEE_DEVICE, args![device.id, self.at]).await?;
                Device { last_seen_at: device.last_seen_at.max(self.at), ..device }
            }
            None => self.make_device(tx).await?,
        };
        tx.execute(
            &INSERT_LOGIN,
            args![self.id, self.user, device.id, self.kind.as_str(), self.at, self.expires_at],
        )
        .await?;
        Ok(device)
    }
}

/// The device of a [`NewLogin`].
trait ChosenDevice {
    async fn find_device(&self, tx: &mut Tx) -> Result<Option<Device>, sqlx::Error>;
    async fn check_limit(&self, tx: &mut Tx, known: Option<&Device>) -> Result<(), Failed>;
    async fn make_device(&self, tx: &mut Tx) -> Result<Device, sqlx::Error>;
}

impl ChosenDevice for NewLogin {
    /// By id if one is given, else by name. An id that is unknown, or another user's, finds nothing: two phones of one
    /// name stay two devices.
    async fn find_device(&self, tx: &mut Tx) -> Result<Option<Device>, sqlx::Error> {
        if let Some(id) = self.device.id {
            return Ok(find_device(tx, id).await?.filter(|device| device.user == self.user));
        }
        let row = tx.find(&FIND_DEVICE_BY_NAME, args![self.user, self.device.name.as_str()]).await?;
        row.map(|row| read_device(&row)).transpose()
    }

    async fn check_limit(&self, tx: &mut Tx, known: Option<&Device>) -> Result<(), Failed> {
        let rows = tx.fetch(&LIVE_DEVICES, args![self.user, self.at]).await?;
        let live = rows.iter().map(read_device).collect::<Result<Vec<_>, _>>()?;
        let counted = known.is_some_and(|known| live.iter().any(|device| device.id == known.id));
        if counted || live.len() < self.device_limit as usize {
            return Ok(());
        }
        let names: Vec<String> =
            live.iter().map(|device| format!("{} ({})", device.name, device.id)).collect();
        let detail =
            format!("{} devices are logged in, as many as allowed: {}", live.len(), names.join(", "));
        Err(Refusal::new(ErrorCode::DeviceLimit, detail).into())
    }

    async fn make_device(&self, tx: &mut Tx) -> Result<Device, sqlx::Error> {
        let device = Device {
            id: self.new_device,
            user: self.user,
            name: self.device.name.clone(),
            platform: self.device.platform.clone(),
            created_at: self.at,
            last_seen_at: self.at,
        };
        tx.execute(
            &INSERT_DEVICE,
            args![device.id, device.user, device.name.as_str(), device.platform.as_str(), device.created_at],
        )
        .await?;
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
    const PLACE: Place = Place::Accounts;

    fn key(&self) -> Uuid {
        self.login.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Refreshed, Failed> {
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
                scope.tx.execute(&END_LOGIN, args![self.login, self.at]).await?;
                return Ok(Refreshed::Reused);
            }
        };
        // A token without an end stays without one.
        let expires_at = login.expires_at.map(|_| self.expires_at);
        scope.tx.execute(&REFRESH_LOGIN, args![self.login, count, refreshed_at, expires_at]).await?;
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
    const PLACE: Place = Place::Accounts;

    fn key(&self) -> Uuid {
        match self.which {
            EndLogins::One(login) => login.uuid(),
            EndLogins::SignIns(user) => user.uuid(),
        }
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Vec<LoginId>, Failed> {
        let rows = match self.which {
            EndLogins::One(login) => scope.tx.fetch(&END_LOGIN, args![login, self.at]).await?,
            EndLogins::SignIns(user) => {
                // A login that is being made right now is ended too, or comes after.
                lock_users(scope.tx, &[user]).await?;
                scope.tx.fetch(&END_SIGN_INS, args![user, self.at]).await?
            }
        };
        Ok(rows.iter().map(|row| row.id(0)).collect::<Result<_, _>>()?)
    }
}
