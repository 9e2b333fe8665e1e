//! Devices: list, rename, remove.

use super::Base;
use crate::{
    account::Principal,
    device::DeviceView,
    error::{Error, Result},
    ids::{DeviceId, UserId},
};

/// Devices: list, rename, remove.
pub struct Devices {
    base: Base,
}

impl Devices {
    /// The service.
    pub fn new(base: Base) -> Self {
        Self { base }
    }

    /// The user's devices with a live login, the one last seen first.
    pub async fn list(&self, asking: &Principal) -> Result<Vec<DeviceView>> {
        let devices = self.base.store.list_devices(asking.user, self.base.now()).await?;
        let online = self.base.relay.online_devices(asking.user).await;
        Ok(devices.into_iter().map(|device| device.view(Some(asking.device), &online)).collect())
    }

    /// Gives a device of the user another name, checked.
    pub async fn rename(&self, asking: &Principal, device: DeviceId, name: String) -> Result<DeviceView> {
        let renamed = self.base.store.rename_device(asking.user, device, name, self.base.now()).await?;
        let renamed = renamed.ok_or_else(|| Error::not_found("device"))?;
        let online = self.base.relay.online_devices(asking.user).await;
        Ok(renamed.view(Some(asking.device), &online))
    }

    /// Removes a device of the user: its logins end, device tokens too, and its sessions are forgotten. When it returns
    /// nothing more is written to its connections.
    pub async fn remove(&self, user: UserId, device: DeviceId) -> Result<()> {
        let ended = self.base.store.remove_device(user, device, self.base.now()).await?;
        let ended = ended.ok_or_else(|| Error::not_found("device"))?;
        self.base.relay.end_logins(&ended).await;
        Ok(())
    }
}
