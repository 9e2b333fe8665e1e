//! The port `Devices`, and devices as rows.

use super::{
    SqlStore,
    log::{append_personal, lock_users},
    logins::publish_ended,
    plain, read,
    statement::statements,
    transaction::Tx,
    value::{Row, args},
    writer::{Place, Scope, Write},
};
use crate::trouble::Failed;
use async_trait::async_trait;
use curlew_domain::{
    Result,
    clock::Timestamp,
    device::{Device, DeviceChoice},
    ids::{DeviceId, LoginId, UserId},
    message::Entry,
    ports::store::Devices,
};
use uuid::Uuid;

/// The columns that [`read_device`] expects, of a table `d`.
macro_rules! device_columns {
    () => {
        "d.id, d.user_id, d.name, d.platform, d.created_at, d.last_seen_at"
    };
}
pub(super) use device_columns;

/// How many columns [`device_columns`] has.
pub(super) const DEVICE_COLUMNS: usize = 6;

statements! {
    FIND_DEVICE = ["SELECT " (device_columns!()) " FROM devices d WHERE d.id = $1"];
    FIND_OWN_DEVICE = ["SELECT " (device_columns!()) " FROM devices d WHERE d.id = $1 AND d.user_id = $2 AND d.removed_at IS NULL"];
    FIND_DEVICES_BY_NAME = ["SELECT " (device_columns!()) " FROM devices d
        WHERE d.user_id = $1 AND d.name = $2 AND d.removed_at IS NULL ORDER BY d.last_seen_at DESC, d.id LIMIT 2"];
    FIND_ANY_DEVICE = ["SELECT d.id FROM devices d WHERE d.user_id = $1 LIMIT 1"];
    LIVE_DEVICES = ["SELECT " (device_columns!()) " FROM devices d WHERE d.user_id = $1 AND EXISTS (SELECT 1 FROM logins l
            WHERE l.user_id = $1 AND l.device_id = d.id AND l.ended_at IS NULL AND (l.expires_at IS NULL OR l.expires_at > $2))
        ORDER BY d.last_seen_at DESC, d.id"];
    INSERT_DEVICE = ["INSERT INTO devices (id, user_id, name, platform, created_at, last_seen_at) VALUES ($1, $2, $3, $4, $5, $5)"];
    SEE_DEVICE = ["UPDATE devices SET last_seen_at = $2 WHERE id = $1 AND last_seen_at < $2"];
    RENAME_DEVICE = ["UPDATE devices SET name = $2 WHERE id = $1"];
    HOLD_DEVICE = ["SELECT d.removed_at FROM devices d WHERE d.id = $1" hold(d)];
    TAKE_DEVICE = ["SELECT d.id FROM devices d WHERE d.id = $1" take(d)];
    REMOVE_DEVICE = ["UPDATE devices SET removed_at = $2 WHERE id = $1"];
    END_LOGINS_OF_DEVICE = ["UPDATE logins SET ended_at = $3 WHERE user_id = $1 AND device_id = $2 AND ended_at IS NULL RETURNING id"];
    FORGET_SESSIONS_OF_DEVICE = ["DELETE FROM sessions WHERE device_id = $1 RETURNING id"];
}

pub(super) fn read_device(row: &Row) -> Result<Device, sqlx::Error> {
    Ok(Device {
        id: row.id(0)?,
        user: row.id(1)?,
        name: row.text(2)?,
        platform: row.text(3)?,
        created_at: row.at(4)?,
        last_seen_at: row.at(5)?,
    })
}

async fn find_device(tx: &mut Tx, device: DeviceId) -> Result<Option<Device>, sqlx::Error> {
    tx.find(&FIND_DEVICE, args![device]).await?.map(|row| read_device(&row)).transpose()
}

/// A device of the user that was not removed.
pub(super) async fn find_own(
    tx: &mut Tx,
    user: UserId,
    device: DeviceId,
) -> Result<Option<Device>, sqlx::Error> {
    tx.find(&FIND_OWN_DEVICE, args![device, user]).await?.map(|row| read_device(&row)).transpose()
}

/// Whether a device is the user's.
pub(super) enum Owned {
    Present(Device),
    /// It was.
    Removed,
    Not,
}

pub(super) async fn find_owned(tx: &mut Tx, user: UserId, device: DeviceId) -> Result<Owned, sqlx::Error> {
    if let Some(device) = find_own(tx, user, device).await? {
        return Ok(Owned::Present(device));
    }
    let removed = find_device(tx, device).await?.is_some_and(|device| device.user == user);
    Ok(if removed { Owned::Removed } else { Owned::Not })
}

/// Of the user's devices the one chosen: by id if one is given, else by name; not `but`. An id that is unknown, or another
/// user's, finds nothing: two phones of one name stay two devices.
pub(super) async fn find_chosen(
    tx: &mut Tx,
    user: UserId,
    choice: &DeviceChoice,
    but: Option<DeviceId>,
) -> Result<Option<Device>, sqlx::Error> {
    let rows = match choice.id {
        Some(id) => tx.fetch(&FIND_OWN_DEVICE, args![id, user]).await?,
        None => tx.fetch(&FIND_DEVICES_BY_NAME, args![user, choice.name.as_str()]).await?,
    };
    let found: Vec<Device> = rows.iter().map(read_device).collect::<Result<_, _>>()?;
    Ok(found.into_iter().find(|device| Some(device.id) != but))
}

/// Whether the user ever had a device.
pub(super) async fn had_any(tx: &mut Tx, user: UserId) -> Result<bool, sqlx::Error> {
    Ok(tx.find(&FIND_ANY_DEVICE, args![user]).await?.is_some())
}

/// Devices of the user with a live login, the one last seen first.
pub(super) async fn list_live(tx: &mut Tx, user: UserId, at: Timestamp) -> Result<Vec<Device>, sqlx::Error> {
    tx.fetch(&LIVE_DEVICES, args![user, at]).await?.iter().map(read_device).collect()
}

pub(super) async fn insert(tx: &mut Tx, device: &Device) -> Result<(), sqlx::Error> {
    let Device { id, user, name, platform, created_at, .. } = device;
    let args = args![*id, *user, name.as_str(), platform.as_str(), *created_at];
    tx.execute(&INSERT_DEVICE, args).await.map(drop)
}

/// Notes that the device was used.
pub(super) async fn see(tx: &mut Tx, device: DeviceId, at: Timestamp) -> Result<(), sqlx::Error> {
    tx.execute(&SEE_DEVICE, args![device, at]).await.map(drop)
}

/// Whether the device is there, and not removed until the end of this transaction.
pub(super) async fn hold_device(tx: &mut Tx, device: DeviceId) -> Result<bool, sqlx::Error> {
    let row = tx.find(&HOLD_DEVICE, args![device]).await?;
    Ok(row.map(|row| row.int_or_null(0)).transpose()?.is_some_and(|removed_at| removed_at.is_none()))
}

/// Ends the device's logins, marks it removed and forgets its sessions; answers the logins. Its user must be locked.
pub(super) async fn remove(
    scope: &mut Scope<'_>,
    user: UserId,
    device: DeviceId,
    at: Timestamp,
) -> Result<Vec<LoginId>, sqlx::Error> {
    let tx = &mut *scope.tx;
    let ended = tx.fetch(&END_LOGINS_OF_DEVICE, args![user, device, at]).await?;
    // A session that is being opened is there afterwards, and forgotten, or finds the device removed.
    tx.find(&TAKE_DEVICE, args![device]).await?;
    tx.execute(&REMOVE_DEVICE, args![device, at]).await?;
    let sessions = tx.fetch(&FORGET_SESSIONS_OF_DEVICE, args![device]).await?;
    let sessions = sessions.iter().map(|row| row.id(0)).collect::<Result<_, _>>()?;
    plain::end_wills_of(tx, sessions, at).await?;
    publish_ended(scope, &ended)
}

/// Tells the user that their list of live devices has changed. Their user must be locked.
pub(super) async fn tell_devices(
    scope: &mut Scope<'_>,
    user: UserId,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    append_personal(scope, user, at, vec![(user, Entry::DevicesUpdated)]).await
}

/// Tells it if the list is not what it was.
pub(super) async fn tell_if_changed(
    scope: &mut Scope<'_>,
    user: UserId,
    before: &[Device],
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    let after = list_live(scope.tx, user, at).await?;
    let same = after.len() == before.len()
        && after.iter().all(|device| before.iter().any(|known| known.id == device.id));
    if same { Ok(()) } else { tell_devices(scope, user, at).await }
}

struct RenameDevice {
    user: UserId,
    device: DeviceId,
    name: String,
    at: Timestamp,
}

#[async_trait]
impl Write for RenameDevice {
    type Answer = Option<Device>;
    const PLACE: Place = Place::InTurn;

    fn key(&self) -> Uuid {
        self.user.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Option<Device>, Failed> {
        let Self { user, device, name, at } = self;
        lock_users(scope.tx, &[*user]).await?;
        let Some(found) = find_own(scope.tx, *user, *device).await? else { return Ok(None) };
        if found.name == *name {
            return Ok(Some(found));
        }
        scope.tx.execute(&RENAME_DEVICE, args![*device, name.as_str()]).await?;
        if list_live(scope.tx, *user, *at).await?.iter().any(|live| live.id == *device) {
            tell_devices(scope, *user, *at).await?;
        }
        Ok(Some(Device { name: name.clone(), ..found }))
    }
}

struct RemoveDevice {
    user: UserId,
    device: DeviceId,
    at: Timestamp,
}

#[async_trait]
impl Write for RemoveDevice {
    type Answer = Option<Vec<LoginId>>;
    const PLACE: Place = Place::InTurn;

    fn key(&self) -> Uuid {
        self.user.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Option<Vec<LoginId>>, Failed> {
        let Self { user, device, at } = *self;
        lock_users(scope.tx, &[user]).await?;
        match find_owned(scope.tx, user, device).await? {
            Owned::Present(_) => {}
            Owned::Removed => return Ok(Some(Vec::new())),
            Owned::Not => return Ok(None),
        }
        let before = list_live(scope.tx, user, at).await?;
        let ended = remove(scope, user, device, at).await?;
        tell_if_changed(scope, user, &before, at).await?;
        Ok(Some(ended))
    }
}

#[async_trait]
impl Devices for SqlStore {
    async fn list_devices(&self, user: UserId, at: Timestamp) -> Result<Vec<Device>> {
        read!(self, single | tx | list_live(tx, user, at).await?)
    }

    async fn find_device(&self, device: DeviceId) -> Result<Option<Device>> {
        read!(self, single | tx | find_device(tx, device).await?)
    }

    async fn rename_device(
        &self,
        user: UserId,
        device: DeviceId,
        name: String,
        at: Timestamp,
    ) -> Result<Option<Device>> {
        self.writer.write(RenameDevice { user, device, name, at }).await
    }

    async fn remove_device(
        &self,
        user: UserId,
        device: DeviceId,
        at: Timestamp,
    ) -> Result<Option<Vec<LoginId>>> {
        self.writer.write(RemoveDevice { user, device, at }).await
    }
}
