//! What can go wrong, with one stable code each. The three edges (problem+json, MQTT reason codes, exit codes) map
//! [`ErrorCode`] exhaustively.

use crate::device::DeviceView;
use serde::{Serialize, Serializer};
use std::{borrow::Cow, fmt};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{Object, RefOr, Schema, schema::Type},
};

/// The outcome of a service call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a service call did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Final: the same call gets the same answer. Nothing was stored.
    #[error("{0}")]
    Refused(Refusal),
    /// May pass (database away, queue full). Never acknowledged as done; nothing is known to be stored.
    #[error("temporarily unavailable: {0}")]
    Unavailable(String),
    /// A defect or a broken store. The text is for the log only.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// Shorthand for a refusal without fields.
    pub fn refused(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::Refused(Refusal::new(code, detail))
    }

    /// The one answer for what does not exist and for what is not the caller's.
    pub fn not_found(what: &'static str) -> Self {
        Self::Refused(Refusal::not_found(what))
    }

    /// One invalid field.
    pub fn invalid(
        field: impl Into<Cow<'static, str>>,
        code: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self::Refused(Refusal::invalid(vec![FieldError::new(field, code, detail)]))
    }

    /// The stable code.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Refused(refusal) => refusal.code,
            Self::Unavailable(_) => ErrorCode::Unavailable,
            Self::Internal(_) => ErrorCode::Internal,
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A final refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Stable code.
    pub code: ErrorCode,
    /// For people: what was wrong, with which value, what to do.
    pub detail: Cow<'static, str>,
    /// The fields concerned, for [`ErrorCode::InvalidRequest`].
    pub fields: Vec<FieldError>,
    /// The devices to choose from, for [`ErrorCode::DeviceLimit`].
    pub devices: Vec<DeviceView>,
}

impl Refusal {
    /// A refusal without fields.
    pub fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: detail.into(), fields: Vec::new(), devices: Vec::new() }
    }

    /// The one answer for what does not exist and for what is not the caller's.
    pub fn not_found(what: &'static str) -> Self {
        Self::new(ErrorCode::NotFound, format!("no such {what}"))
    }

    /// Invalid input, field by field.
    pub fn invalid(fields: Vec<FieldError>) -> Self {
        let detail =
            fields.iter().map(|f| format!("{}: {}", f.field, f.detail)).collect::<Vec<_>>().join("; ");
        Self { fields, ..Self::new(ErrorCode::InvalidRequest, detail) }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.detail)
    }
}

/// One invalid field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// Path of the field, `device.name`.
    pub field: Cow<'static, str>,
    /// Stable code, `too-long`.
    pub code: &'static str,
    /// For people.
    pub detail: String,
}

impl FieldError {
    /// A field error.
    pub fn new(field: impl Into<Cow<'static, str>>, code: &'static str, detail: impl Into<String>) -> Self {
        Self { field: field.into(), code, detail: detail.into() }
    }
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])* $name:ident = $text:literal),+ $(,)?) => {
        /// Stable error codes, the same on every surface.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $($(#[doc = $doc])* $name),+ }

        impl ErrorCode {
            /// Every code, for documentation and tests.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The code as clients see it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }

            /// What it means, for documentation.
            pub fn meaning(self) -> String {
                let lines: &[&str] = match self { $(Self::$name => &[$($doc),*]),+ };
                lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
            }
        }
    };
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl PartialSchema for ErrorCode {
    fn schema() -> RefOr<Schema> {
        let codes = Self::ALL.iter().map(|code| code.as_str());
        Object::builder()
            .schema_type(Type::String)
            .description(Some("Stable; the same on every surface."))
            .enum_values(Some(codes))
            .into()
    }
}

impl ToSchema for ErrorCode {}

codes! {
    /// Malformed or invalid input; `fields` says where.
    InvalidRequest = "invalid-request",
    /// The topic is none that a client publishes to.
    InvalidTopic = "invalid-topic",
    /// No credentials, or ones that are not valid (any more).
    Unauthenticated = "unauthenticated",
    /// Wrong user name or password.
    InvalidCredentials = "invalid-credentials",
    /// Registration is closed or by invitation.
    RegistrationClosed = "registration-closed",
    /// The role does not allow it.
    Forbidden = "forbidden",
    /// The caller was a member and is none any more.
    NotMember = "not-member",
    /// One of the two has blocked the other.
    Blocked = "blocked",
    /// The other's account was deleted.
    UserDeleted = "user-deleted",
    /// The message was deleted for everyone.
    MessageDeleted = "message-deleted",
    /// The time in which it was allowed is over.
    TooLate = "too-late",
    /// It needs an accepted contact.
    NotContact = "not-contact",
    /// It does not exist, or is not the caller's.
    NotFound = "not-found",
    /// The path exists, the method does not.
    MethodNotAllowed = "method-not-allowed",
    /// The user name is in use.
    UsernameTaken = "username-taken",
    /// The `localId` was used in this chat with another content.
    LocalIdConflict = "local-id-conflict",
    /// As many devices with a live login as allowed.
    DeviceLimit = "device-limit",
    /// The group has as many members as allowed.
    GroupFull = "group-full",
    /// The user has as many retained messages, or bytes of them, as allowed.
    RetainedFull = "retained-full",
    /// The body is longer than allowed.
    PayloadTooLarge = "payload-too-large",
    /// The body is not JSON.
    UnsupportedMediaType = "unsupported-media-type",
    /// The request took too long to arrive.
    RequestTimeout = "request-timeout",
    /// Too many requests.
    TooManyRequests = "too-many-requests",
    /// May pass; try again.
    Unavailable = "unavailable",
    /// A defect of the server.
    Internal = "internal",
}
