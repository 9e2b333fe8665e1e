//! Accounts and logins.

use crate::{
    clock::Timestamp,
    error::{FieldError, Refusal},
    ids::{DeviceId, LoginId, UserId},
    secret::Secret,
};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use utoipa::ToSchema;

/// A user name: 3–32 of `a-z0-9_.`, unique.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(min_length = 3, max_length = 32, pattern = "^[a-z0-9_.]{3,32}$", example = "alice")]
pub struct Username(String);

impl Username {
    /// Checks length and alphabet.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '.';
        if !(3..=32).contains(&text.len()) {
            return Err(FieldError::new("username", "length", "must be 3 to 32 characters long"));
        }
        if !text.chars().all(legal) {
            return Err(FieldError::new("username", "characters", "may contain a-z, 0-9, _ and . only"));
        }
        Ok(Self(text.to_owned()))
    }

    /// A name that is already in the store.
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A password of 8–71 bytes: bcrypt sees at most 72 with its end mark, and we never truncate.
#[derive(Clone, Debug)]
pub struct Password(Secret<String>);

impl Password {
    /// Checks the length.
    pub fn parse(text: String, field: &'static str) -> Result<Self, FieldError> {
        if !(8..=71).contains(&text.len()) {
            return Err(FieldError::new(field, "length", "must be 8 to 71 bytes long"));
        }
        if text.contains('\0') {
            return Err(FieldError::new(field, "characters", "must not contain U+0000"));
        }
        Ok(Self(Secret::new(text)))
    }

    /// To hash or verify it.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// Checks a text for people: `min..=max` characters, no control characters.
pub fn parse_label(text: &str, field: &'static str, min: usize, max: usize) -> Result<String, FieldError> {
    let text = text.trim();
    let length = text.chars().count();
    if length < min || length > max {
        return Err(FieldError::new(field, "length", format!("must be {min} to {max} characters long")));
    }
    if text.chars().any(char::is_control) {
        return Err(FieldError::new(field, "characters", "must not contain control characters"));
    }
    Ok(text.to_owned())
}

/// Checks a longer text for people: at most `max` characters, line ends allowed, other control characters not.
pub fn parse_about(text: &str, field: &'static str, max: usize) -> Result<String, FieldError> {
    let text = text.trim();
    if text.chars().count() > max {
        return Err(FieldError::new(field, "length", format!("must be at most {max} characters long")));
    }
    if text.chars().any(|c| c.is_control() && c != '\n') {
        return Err(FieldError::new(
            field,
            "characters",
            "must not contain control characters but line ends",
        ));
    }
    Ok(text.to_owned())
}

/// As much as can be known without sending to it.
pub fn parse_email(text: String) -> Result<String, FieldError> {
    let invalid = |detail: &str| Err(FieldError::new("email", "invalid", detail));
    if text.len() > 254 {
        return invalid("must be at most 254 bytes long");
    }
    match text.split_once('@') {
        Some((local, domain)) if !local.is_empty() && !domain.is_empty() && !domain.contains('@') => {}
        _ => return invalid("must have the form name@domain"),
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return invalid("must not contain spaces or control characters");
    }
    Ok(text)
}

/// E.164: `+` and at most 15 digits.
pub fn parse_phone(text: String) -> Result<String, FieldError> {
    let digits = text.strip_prefix('+').unwrap_or_default();
    if (1..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(text);
    }
    Err(FieldError::new("phone", "invalid", "must be + and 1 to 15 digits"))
}

/// An account.
#[derive(Clone, Debug)]
pub struct User {
    /// Id.
    pub id: UserId,
    /// Unique name.
    pub username: Username,
    /// Name shown.
    pub display_name: String,
    /// Free text about the user.
    pub about: String,
    /// Unconfirmed; visible to the user alone.
    pub email: Option<String>,
    /// Unconfirmed; visible to the user alone.
    pub phone: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Whether the account was deleted.
    pub deleted: bool,
    /// Who sees what.
    pub privacy: Privacy,
}

/// The public side of an account, as every surface shows it.
#[derive(Clone, Debug, Serialize, PartialEq, Eq, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserView {
    /// Id.
    pub id: UserId,
    /// User name.
    pub username: Username,
    /// Name shown.
    pub display_name: String,
    /// About.
    pub about: String,
    /// Picture, if there is one.
    pub picture_url: Option<String>,
    /// Since when.
    pub created_at: Timestamp,
    /// Whether the account is gone.
    pub deleted: bool,
}

impl From<User> for ProfileView {
    fn from(user: User) -> Self {
        let (email, phone, privacy) = (user.email.clone(), user.phone.clone(), user.privacy);
        Self { user: user.into(), email, phone, privacy }
    }
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            username: user.username,
            display_name: user.display_name,
            about: user.about,
            picture_url: None,
            created_at: user.created_at,
            deleted: user.deleted,
        }
    }
}

/// One's own profile.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfileView {
    /// The public part.
    #[serde(flatten)]
    pub user: UserView,
    /// E-mail address as given, unconfirmed.
    pub email: Option<String>,
    /// Phone number as given, unconfirmed.
    pub phone: Option<String>,
    /// Who sees what.
    pub privacy: Privacy,
}

/// To whom something of a user is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// To every user.
    #[default]
    Everyone,
    /// To accepted contacts.
    Contacts,
    /// To nobody else.
    Nobody,
}

impl Visibility {
    /// As stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Everyone => "everyone",
            Self::Contacts => "contacts",
            Self::Nobody => "nobody",
        }
    }

    /// From the store or a client.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Everyone, Self::Contacts, Self::Nobody].into_iter().find(|v| v.as_str() == text)
    }
}

/// Who sees what of a user. Last seen and read receipts are reciprocal: who does not show theirs is shown nobody's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Privacy {
    /// Last seen.
    pub last_seen: Visibility,
    /// Picture.
    pub picture: Visibility,
    /// Read receipts.
    pub read_receipts: Visibility,
}

/// How a login came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginKind {
    /// With a password; 30 days, sliding.
    Password,
    /// A token issued by an operator; until revoked.
    DeviceToken,
}

impl LoginKind {
    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::DeviceToken => "device-token",
        }
    }

    /// From the store.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Password, Self::DeviceToken].into_iter().find(|k| k.as_str() == text)
    }
}

/// A live or ended sign-in.
#[derive(Clone, Debug)]
pub struct Login {
    /// Id.
    pub id: LoginId,
    /// Whose.
    pub user: UserId,
    /// On which device.
    pub device: DeviceId,
    /// How.
    pub kind: LoginKind,
    /// Which refresh token is the current one: 0, 1, 2 …
    pub refresh_count: i64,
    /// When it became the current one.
    pub refreshed_at: Timestamp,
    /// End; `None` = until revoked.
    pub expires_at: Option<Timestamp>,
    /// Ended by logout, removal or revocation.
    pub ended: bool,
    /// Whether the user's account is deleted.
    pub user_deleted: bool,
}

impl Login {
    /// Whether it still lets anybody in.
    pub fn is_live(&self, now: Timestamp) -> bool {
        !self.ended && !self.user_deleted && self.expires_at.is_none_or(|end| end > now)
    }
}

/// Who is asking: established by a credential whose login row was read just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The user.
    pub user: UserId,
    /// The login.
    pub login: LoginId,
    /// The device.
    pub device: DeviceId,
    /// When the credential itself ends (an access token does, an MQTT password does with its login).
    pub expires_at: Option<Timestamp>,
}

/// What a successful register, login or refresh answers.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoginAnswer {
    /// Own profile.
    pub user: ProfileView,
    /// The device.
    pub device: crate::device::DeviceView,
    /// JWT for REST.
    #[serde(serialize_with = "exposed")]
    #[schema(value_type = String)]
    pub access_token: Secret<String>,
    /// For `POST /auth/refresh`.
    #[serde(serialize_with = "exposed")]
    #[schema(value_type = String)]
    pub refresh_token: Secret<String>,
    /// Seconds until the access token ends.
    pub expires_in: u64,
    /// How to connect over MQTT.
    pub mqtt: MqttAccess,
}

/// How to connect over MQTT.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct MqttAccess {
    /// `mqtt://host:port`.
    pub tcp: String,
    /// `mqtts://host:port`, if there is TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub tls: Option<String>,
    /// `ws://host:port/mqtt`.
    pub ws: String,
    /// User name.
    pub username: UserId,
    /// Password, for MQTT only.
    #[serde(serialize_with = "exposed")]
    #[schema(value_type = String)]
    pub password: Secret<String>,
}

// The one place where these secrets are written out: the answer to their owner.
fn exposed<S: Serializer>(secret: &Secret<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret.expose())
}

/// What a caller gives to register.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Unique name.
    pub username: Username,
    /// Password.
    pub password: Password,
    /// Name shown.
    pub display_name: String,
    /// Unconfirmed.
    pub email: Option<String>,
    /// Unconfirmed.
    pub phone: Option<String>,
    /// The device to sign in on.
    pub device: crate::device::DeviceChoice,
}

/// A change of one's own profile; `None` leaves a field as it is.
#[derive(Clone, Debug, Default)]
pub struct ProfileChange {
    /// Name shown.
    pub display_name: Option<String>,
    /// About.
    pub about: Option<String>,
    /// `Some(None)` clears it.
    pub email: Option<Option<String>>,
    /// `Some(None)` clears it.
    pub phone: Option<Option<String>>,
}

/// A change of who sees what; `None` leaves it as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct PrivacyChange {
    /// Last seen.
    pub last_seen: Option<Visibility>,
    /// Picture.
    pub picture: Option<Visibility>,
    /// Read receipts.
    pub read_receipts: Option<Visibility>,
}

impl Privacy {
    /// With the change.
    #[must_use]
    pub fn with(self, change: PrivacyChange) -> Self {
        Self {
            last_seen: change.last_seen.unwrap_or(self.last_seen),
            picture: change.picture.unwrap_or(self.picture),
            read_receipts: change.read_receipts.unwrap_or(self.read_receipts),
        }
    }
}

/// The refusal for wrong credentials, whatever was wrong with them.
pub fn invalid_credentials() -> Refusal {
    Refusal::new(crate::ErrorCode::InvalidCredentials, "wrong user name or password")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_have_a_closed_alphabet_and_length() {
        for good in ["bob", "a.b_9", "x".repeat(32).as_str()] {
            assert!(Username::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "ab", "Bob", "bob ", "bob@x", "bøb", "x".repeat(33).as_str()] {
            assert!(Username::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn passwords_are_bounded_in_bytes_and_hidden() {
        assert!(Password::parse("x".repeat(71), "password").is_ok());
        assert!(Password::parse("x".repeat(72), "password").is_err());
        assert!(Password::parse("ø".repeat(36), "password").is_err());
        let password = Password::parse("correct horse".into(), "password").unwrap();
        assert!(!format!("{password:?}").contains("horse"));
    }

    #[test]
    fn addresses_are_checked_as_far_as_a_form_can() {
        for good in ["a@b", "a.b+c@example.org"] {
            assert!(parse_email(good.into()).is_ok(), "{good}");
        }
        for bad in ["", "@", "a@", "@b", "a@b@c", "a b@c", "a\0@b", &format!("{}@b", "a".repeat(254))] {
            assert!(parse_email(bad.into()).is_err(), "{bad}");
        }
        for good in ["+4915112345678", "+123456789012345"] {
            assert!(parse_phone(good.into()).is_ok(), "{good}");
        }
        for bad in ["", "+", "0151", "+49 151", "+1234567890123456", "+٣"] {
            assert!(parse_phone(bad.into()).is_err(), "{bad}");
        }
    }

    #[test]
    fn about_may_be_empty_and_has_an_end() {
        assert_eq!(parse_about("  ", "about", 500).unwrap(), "");
        assert_eq!(parse_about(" one\ntwo ", "about", 500).unwrap(), "one\ntwo");
        assert!(parse_about(&"ø".repeat(500), "about", 500).is_ok());
        assert!(parse_about(&"x".repeat(501), "about", 500).is_err());
        assert!(parse_about("a\0b", "about", 500).is_err());
    }
}
