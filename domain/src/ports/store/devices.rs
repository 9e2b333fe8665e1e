//! Devices, once they are there.

use crate::{
    clock::Timestamp,
    device::Device,
    error::Result,
    ids::{DeviceId, LoginId, UserId},
};
use async_trait::async_trait;

/// Devices, once they are there: a login makes them. Each change of the devices with a live login is a `devices-updated`
/// row in the user's personal log.
#[async_trait]
pub trait Devices: Send + Sync {
    /// The user's devices with a live login, the one last seen first.
    async fn list_devices(&self, user: UserId, at: Timestamp) -> Result<Vec<Device>>;
    /// A device.
    async fn find_device(&self, device: DeviceId) -> Result<Option<Device>>;
    /// Gives a device another name; `None`: the user has no such device, or has removed it.
    async fn rename_device(
        &self,
        user: UserId,
        device: DeviceId,
        name: String,
        at: Timestamp,
    ) -> Result<Option<Device>>;
    /// Removes a device: ends its logins, device tokens too, and deletes its sessions with their queues, whose wills are due
    /// at once. Answers the logins ended; `None`: the user has no such device, or has removed it.
    async fn remove_device(
        &self,
        user: UserId,
        device: DeviceId,
        at: Timestamp,
    ) -> Result<Option<Vec<LoginId>>>;
    /// Devices with a sign-in or a session that were last seen at `seen` or earlier and have no connection, with their users,
    /// by id, behind `after`. A session whose connection died with an earlier process was seen when this one started.
    async fn list_unseen_devices(
        &self,
        seen: Timestamp,
        after: Option<DeviceId>,
        limit: u32,
    ) -> Result<Vec<(UserId, DeviceId)>>;
    /// Retires such a device: ends its sign-ins and deletes its sessions with their queues, whose wills are due at once.
    /// Device tokens stay, and so does the device. Answers the logins ended; `None`: it is no such device (any more).
    async fn retire_device(
        &self,
        user: UserId,
        device: DeviceId,
        seen: Timestamp,
        at: Timestamp,
    ) -> Result<Option<Vec<LoginId>>>;
}
