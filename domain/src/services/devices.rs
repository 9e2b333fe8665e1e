//! Devices: list, rename, remove, retire.

use super::Base;
use crate::{
    account::Principal,
    device::DeviceView,
    error::{Error, Result},
    ids::{DeviceId, UserId},
};
use std::time::Duration;

/// Devices that are looked up at once to be retired.
const RETIRING: u32 = 100;

/// Devices: list, rename, remove, retire.
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

    /// Retires the devices that nobody has seen for so long, each in a transaction of its own; answers how many. Dropped on
    /// its way, it leaves the rest to the next time.
    pub async fn retire(&self, unseen_for: Duration) -> Result<u64> {
        let at = self.base.now();
        let seen = at.minus(unseen_for);
        let (mut retired, mut after) = (0, None);
        loop {
            let unseen = self.base.store.list_unseen_devices(seen, after, RETIRING).await?;
            for &(user, device) in &unseen {
                // Its connections, if there are any by now, are told by the commit.
                match self.base.store.retire_device(user, device, seen, at).await {
                    Ok(ended) => retired += u64::from(ended.is_some()),
                    // One that cannot be retired keeps no other from it.
                    Err(error) => tracing::warn!(%error, %device, "a device is retired later"),
                }
            }
            after = unseen.last().map(|&(_, device)| device);
            if unseen.len() < RETIRING as usize {
                return Ok(retired);
            }
        }
    }
}
