//! The port `Devices`, and devices as rows.

use super::{
    SqlStore,
    log::{append_personal, lock_users},
    logins::publish_ended,
    plain, read,
    statement::statements,
    transaction::Tx,
    value::{Row, args},
    writer::{Place, Process, Scope, Write},
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

/// Whether device `d` was last seen at `$1` or earlier and is not connected to process `$2`, which started at `$3`.
macro_rules! is_unseen {
    () => {
        "d.removed_at IS NULL AND d.last_seen_at <= $1 AND NOT EXISTS (SELECT 1 FROM sessions s WHERE s.device_id = d.id
            AND (s.disconnected_at > $1 OR (s.disconnected_at IS NULL AND (s.opened_by = $2 OR $3 > $1))))"
    };
}

/// Whether there is something to be taken from device `d` when it is retired.
macro_rules! holds_something {
    () => {
        "(EXISTS (SELECT 1 FROM logins l WHERE l.user_id = d.user_id AND l.device_id = d.id AND l.kind = 'password'
            AND l.ended_at IS NULL) OR EXISTS (SELECT 1 FROM sessions s WHERE s.device_id = d.id))"
    };
}

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
    SEE_AND_HOLD_DEVICE = ["UPDATE devices SET last_seen_at = CASE WHEN last_seen_at < $2 THEN $2 ELSE last_seen_at END
        WHERE id = $1 AND removed_at IS NULL RETURNING id"];
    TAKE_DEVICE = ["SELECT d.id FROM devices d WHERE d.id = $1" take(d)];
    REMOVE_DEVICE = ["UPDATE devices SET removed_at = $2 WHERE id = $1"];
    END_LOGINS_OF_DEVICE = ["UPDATE logins SET ended_at = $3 WHERE user_id = $1 AND device_id = $2 AND ended_at IS NULL RETURNING id"];
    LIST_UNSEEN = ["SELECT d.user_id, d.id FROM devices d
        WHERE d.id > $4 AND " (is_unseen!()) " AND " (holds_something!()) " ORDER BY d.id LIMIT $5"];
    FIND_UNSEEN = ["SELECT d.id FROM devices d
        WHERE d.id = $4 AND d.user_id = $5 AND " (is_unseen!()) " AND " (holds_something!())];
    LOCK_LOGINS_OF_DEVICE = ["SELECT l.id FROM logins l
        WHERE l.user_id = $1 AND l.device_id = $2 AND l.ended_at IS NULL ORDER BY l.id" lock(l)];
    END_SIGN_INS_OF_DEVICE = ["UPDATE logins SET ended_at = $3
        WHERE user_id = $1 AND device_id = $2 AND kind = 'password' AND ended_at IS NULL RETURNING id"];
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

/// Notes that the device was used; whether it is there, and not removed until the end of this transaction.
pub(super) async fn see_and_hold(tx: &mut Tx, device: DeviceId, at: Timestamp) -> Result<bool, sqlx::Error> {
    Ok(tx.find(&SEE_AND_HOLD_DEVICE, args![device, at]).await?.is_some())
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
    forget_sessions(tx, device, at).await?;
    publish_ended(scope, &ended)
}

/// Forgets the device's sessions; their wills are due. The device must be taken.
async fn forget_sessions(tx: &mut Tx, device: DeviceId, at: Timestamp) -> Result<(), sqlx::Error> {
    let sessions = tx.fetch(&FORGET_SESSIONS_OF_DEVICE, args![device]).await?;
    let sessions = sessions.iter().map(|row| row.id(0)).collect::<Result<_, _>>()?;
    plain::end_wills_of(tx, sessions, at).await
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

struct RetireDevice {
    user: UserId,
    device: DeviceId,
    seen: Timestamp,
    at: Timestamp,
}

#[async_trait]
impl Write for RetireDevice {
    type Answer = Option<Vec<LoginId>>;
    const PLACE: Place = Place::InTurn;

    fn key(&self) -> Uuid {
        self.user.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Option<Vec<LoginId>>, Failed> {
        let Self { user, device, seen, at } = *self;
        let tx = &mut *scope.tx;
        // From here on it is not seen: a sign-in waits for the user, a CONNECT for the login or the device.
        lock_users(tx, &[user]).await?;
        tx.fetch(&LOCK_LOGINS_OF_DEVICE, args![user, device]).await?;
        tx.find(&TAKE_DEVICE, args![device]).await?;
        let Process { id, started_at, .. } = *scope.process;
        if tx.find(&FIND_UNSEEN, args![seen, id, started_at, device, user]).await?.is_none() {
            return Ok(None);
        }
        let before = list_live(tx, user, at).await?;
        let ended = tx.fetch(&END_SIGN_INS_OF_DEVICE, args![user, device, at]).await?;
        forget_sessions(tx, device, at).await?;
        tell_if_changed(scope, user, &before, at).await?;
        Ok(Some(publish_ended(scope, &ended)?))
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

    async fn list_unseen_devices(
        &self,
        seen: Timestamp,
        after: Option<DeviceId>,
        limit: u32,
    ) -> Result<Vec<(UserId, DeviceId)>> {
        let Process { id, started_at, .. } = *self.process;
        let after = after.map_or(Uuid::nil(), DeviceId::uuid);
        read!(
            self,
            single | tx | {
                let rows = tx.fetch(&LIST_UNSEEN, args![seen, id, started_at, after, limit]).await?;
                rows.iter()
                    .map(|row| Ok((row.id(0)?, row.id(1)?)))
                    .collect::<Result<Vec<_>, sqlx::Error>>()?
            }
        )
    }

    async fn retire_device(
        &self,
        user: UserId,
        device: DeviceId,
        seen: Timestamp,
        at: Timestamp,
    ) -> Result<Option<Vec<LoginId>>> {
        self.writer.write(RetireDevice { user, device, seen, at }).await
    }
}
