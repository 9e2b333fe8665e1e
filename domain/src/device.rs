//! Devices: a phone, browser or gadget of a user. A device outlives its logins.

use crate::{
    account::parse_label,
    clock::Timestamp,
    error::FieldError,
    ids::{DeviceId, UserId},
};
use serde::Serialize;
use utoipa::ToSchema;

/// A device.
#[derive(Clone, Debug)]
pub struct Device {
    /// Id.
    pub id: DeviceId,
    /// Whose.
    pub user: UserId,
    /// Name shown.
    pub name: String,
    /// `android`, `ios`, `web`, … free text.
    pub platform: String,
    /// First login.
    pub created_at: Timestamp,
    /// Last sign-in, token refresh, begin or end of a connection.
    pub last_seen_at: Timestamp,
}

/// A device as its owner sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeviceView {
    /// Id.
    pub id: DeviceId,
    /// Name.
    pub name: String,
    /// Platform.
    pub platform: String,
    /// Whether the asking login is on it; left out where nobody in particular asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = true)]
    pub current: Option<bool>,
    /// Whether it is connected.
    pub online: bool,
    /// Last sign-in, token refresh, begin or end of a connection.
    pub last_seen_at: Timestamp,
    /// First login.
    pub created_at: Timestamp,
}

impl Device {
    /// As its owner sees it, asking from one of their devices, or in an event. `online`: those that are connected.
    pub fn view(self, asking: Option<DeviceId>, online: &[DeviceId]) -> DeviceView {
        let (current, online) = (asking.map(|asking| asking == self.id), online.contains(&self.id));
        DeviceView {
            id: self.id,
            name: self.name,
            platform: self.platform,
            current,
            online,
            last_seen_at: self.last_seen_at,
            created_at: self.created_at,
        }
    }
}

/// The device a login is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceChoice {
    /// An existing device of the user; unknown ids make a new one.
    pub id: Option<DeviceId>,
    /// Name; also finds the device when no id is given.
    pub name: String,
    /// Platform.
    pub platform: String,
}

/// The name of a device.
pub fn parse_device_name(text: &str, field: &'static str) -> Result<String, FieldError> {
    parse_label(text, field, 1, 64)
}

impl Default for DeviceChoice {
    fn default() -> Self {
        Self { id: None, name: "default".into(), platform: "unknown".into() }
    }
}

impl DeviceChoice {
    /// Checks name and platform.
    pub fn parse(id: Option<DeviceId>, name: &str, platform: &str) -> Result<Self, FieldError> {
        Ok(Self {
            id,
            name: parse_device_name(name, "device.name")?,
            platform: parse_label(platform, "device.platform", 1, 32)?,
        })
    }
}
