//! Requests and replies. Both ends are the same program, so this is no public format; the JSON that commands print is.

use crate::config::Config;
use curlew_domain::{ErrorCode, secret::Secret};
use serde::{Deserialize, Serialize};

/// What can be asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum AdminRequest {
    /// Creates a user, whoever may register otherwise. Answered by [`AdminReply::UserCreated`].
    UsersCreate {
        /// As in CONTRACT.md.
        username: String,
        /// As in CONTRACT.md.
        #[serde(with = "exposed")]
        password: Secret<String>,
        /// `None`: the user name.
        display_name: Option<String>,
    },
    /// Lists users by name. Answered by [`AdminReply::Users`].
    UsersList {
        /// Where the page before ended.
        cursor: Option<String>,
        /// At most this many.
        limit: u32,
    },
    /// Issues a token for a device of a user, making the device if it is not there. Answered by
    /// [`AdminReply::DeviceToken`].
    DevicesToken {
        /// Whose.
        username: String,
        /// Devices of one user are told apart by it; `None`: `default`.
        device_name: Option<String>,
        /// Free text, such as `android`.
        platform: Option<String>,
    },
    /// Revokes the tokens of a device. Answered by [`AdminReply::TokensRevoked`].
    DevicesRevoke {
        /// Whose.
        username: String,
        /// Which device.
        device_name: String,
    },
    /// Makes two users who are contacts, with a chat and a device token each, or finds them. Answered by
    /// [`AdminReply::Demo`].
    Demo {},
}

/// What is answered.
#[expect(clippy::large_enum_variant, reason = "there is one for each command, and it lives for a moment")]
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "reply", content = "with", rename_all = "kebab-case")]
pub enum AdminReply {
    /// To [`AdminRequest::UsersCreate`].
    UserCreated(UserCreated),
    /// To [`AdminRequest::UsersList`].
    Users(UserPage),
    /// To [`AdminRequest::DevicesToken`].
    DeviceToken(DeviceToken),
    /// To [`AdminRequest::DevicesRevoke`].
    TokensRevoked {
        /// How many.
        count: u32,
    },
    /// To [`AdminRequest::Demo`].
    Demo {
        /// The two users and their chat.
        chat: DemoChat,
        /// Where the answering server listens; `None` when there is none.
        endpoints: Option<Endpoints>,
    },
}

/// A user that was created.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserCreated {
    /// UUIDv7.
    pub user_id: String,
    /// Unique.
    pub username: String,
    /// For people.
    pub display_name: String,
}

/// A page of users.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserPage {
    /// The users.
    pub items: Vec<UserEntry>,
    /// Where the next page begins; `None` at the end.
    pub next_cursor: Option<String>,
}

/// One user of a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserEntry {
    /// UUIDv7.
    pub user_id: String,
    /// Unique.
    pub username: String,
    /// For people.
    pub display_name: String,
    /// RFC 3339, UTC.
    pub created_at: String,
}

/// A token of a device: MQTT password and REST bearer, valid until revoked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceToken {
    /// UUIDv7.
    pub user_id: String,
    /// Whose.
    pub username: String,
    /// UUIDv7.
    pub device_id: String,
    /// Name of the device.
    pub device_name: String,
    /// Platform of the device.
    pub platform: String,
    /// The token.
    #[serde(with = "exposed")]
    pub token: Secret<String>,
}

/// What `curlew demo` makes. Its JSON is fixed in CONTRACT.md, "Program".
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DemoChat {
    /// The one side.
    pub alice: DemoActor,
    /// The other side.
    pub bob: DemoActor,
    /// Their private chat.
    pub chat_id: String,
}

/// One of the two.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DemoActor {
    /// UUIDv7.
    pub user_id: String,
    /// Unique.
    pub username: String,
    /// For `POST /auth/login`.
    #[serde(with = "exposed")]
    pub password: Secret<String>,
    /// UUIDv7.
    pub device_id: String,
    /// Token of the device.
    #[serde(with = "exposed")]
    pub token: Secret<String>,
}

/// Where a server listens, `address:port`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// REST.
    pub http: std::net::SocketAddr,
    /// MQTT over TCP.
    pub mqtt: std::net::SocketAddr,
    /// MQTT over TLS, if it is on.
    pub mqtts: Option<std::net::SocketAddr>,
}

impl From<&Config> for Endpoints {
    /// Where a server would listen.
    fn from(config: &Config) -> Self {
        Self { http: config.http.listen, mqtt: config.mqtt.listen, mqtts: config.tls.listen }
    }
}

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct AdminError {
    /// Stable code; the exit code follows from it.
    #[serde(with = "code")]
    pub code: ErrorCode,
    /// One line for people.
    pub message: String,
}

/// A secret on its way to the one who asked for it, over a socket that only the owner of the server can open, or on the
/// terminal of the one who made it.
mod exposed {
    use curlew_domain::secret::Secret;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(secret: &Secret<String>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret.expose())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret<String>, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

/// An error code by its text.
mod code {
    use curlew_domain::ErrorCode;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    pub fn serialize<S: Serializer>(code: &ErrorCode, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(code.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ErrorCode, D::Error> {
        let text = String::deserialize(deserializer)?;
        let known = ErrorCode::ALL.iter().find(|code| code.as_str() == text);
        known.copied().ok_or_else(|| D::Error::custom(format_args!("unknown error code {text}")))
    }
}
