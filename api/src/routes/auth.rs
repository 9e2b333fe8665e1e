//! `/api/auth`.

use crate::{
    ApiState,
    extract::{Authenticated, Json, JsonOrEmpty, Object},
    fields::Fields,
    problem::Problem,
};
use axum::{
    Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use curlew_domain::{
    FieldError,
    account::{LoginAnswer, Password, ProfileView, Registration, Username, parse_label},
    device::DeviceChoice,
    services::Services,
};
use serde::Deserialize;

pub fn routes() -> Router<ApiState> {
    Router::new()
        .route("/register", post(register))
        .route("/login", post(login))
        .route("/refresh", post(refresh))
        .route("/logout", post(logout))
        .route("/profile", get(get_profile))
}

// Requests with secrets in them have no `Debug`.

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RegisterRequest {
    username: Option<String>,
    password: Option<String>,
    display_name: Option<String>,
    email: Option<String>,
    phone: Option<String>,
    device: Option<Object<NewDevice>>,
}

/// A device to be made or found by its name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewDevice {
    name: Option<String>,
    platform: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LoginRequest {
    login: Option<String>,
    password: Option<String>,
    device: Option<Object<KnownDevice>>,
}

/// A device to be found by its id, else made or found by its name.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownDevice {
    id: Option<String>,
    name: Option<String>,
    platform: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RefreshRequest {
    refresh_token: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogoutRequest {
    #[serde(default)]
    everywhere: bool,
}

impl RegisterRequest {
    fn parse(self) -> Result<Registration, Problem> {
        let mut fields = Fields::default();
        let username =
            fields.required("username", self.username).and_then(|t| fields.keep(Username::parse(&t)));
        let password = fields
            .required("password", self.password)
            .and_then(|t| fields.keep(Password::parse(t, "password")));
        let display_name = fields
            .required("displayName", self.display_name)
            .and_then(|t| fields.keep(parse_label(&t, "displayName", 1, 64)));
        let email = self.email.and_then(|t| fields.keep(parse_email(t)));
        let phone = self.phone.and_then(|t| fields.keep(parse_phone(t)));
        let device =
            self.device.map(|Object(d)| KnownDevice { id: None, name: d.name, platform: d.platform });
        let device = parse_device(&mut fields, device);
        let registration =
            username.zip(password).zip(display_name).map(|((username, password), display_name)| {
                Registration { username, password, display_name, email, phone, device }
            });
        fields.finish(registration)
    }
}

impl LoginRequest {
    fn parse(self) -> Result<(String, String, DeviceChoice), Problem> {
        let mut fields = Fields::default();
        let login = fields.required("login", self.login);
        let password = fields.required("password", self.password);
        let device = parse_device(&mut fields, self.device.map(|Object(device)| device));
        fields.finish(login.zip(password).map(|(login, password)| (login, password, device)))
    }
}

/// Absent: the user's device `default`.
fn parse_device(fields: &mut Fields, device: Option<KnownDevice>) -> DeviceChoice {
    let Some(KnownDevice { id, name, platform }) = device else { return DeviceChoice::default() };
    let id = id.and_then(|id| fields.id("device.id", &id));
    let name = fields.required("device.name", name);
    let platform = fields.required("device.platform", platform);
    let choice = name
        .zip(platform)
        .and_then(|(name, platform)| fields.keep(DeviceChoice::parse(id, &name, &platform)));
    choice.unwrap_or_default()
}

/// As much as can be known without sending to it.
fn parse_email(text: String) -> Result<String, FieldError> {
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
fn parse_phone(text: String) -> Result<String, FieldError> {
    let digits = text.strip_prefix('+').unwrap_or_default();
    if (1..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(text);
    }
    Err(FieldError::new("phone", "invalid", "must be + and 1 to 15 digits"))
}

/// 201: signed in.
async fn register(
    State(services): State<Services>,
    Json(request): Json<RegisterRequest>,
) -> Result<(StatusCode, Json<LoginAnswer>), Problem> {
    let answer = services.accounts.register(request.parse()?).await?;
    Ok((StatusCode::CREATED, Json(answer)))
}

/// 200: signed in.
async fn login(
    State(services): State<Services>,
    Json(request): Json<LoginRequest>,
) -> Result<Json<LoginAnswer>, Problem> {
    let (login, password, device) = request.parse()?;
    Ok(Json(services.accounts.login(&login, password, device).await?))
}

/// 200: a new pair of tokens.
async fn refresh(
    State(services): State<Services>,
    Json(request): Json<RefreshRequest>,
) -> Result<Json<LoginAnswer>, Problem> {
    Ok(Json(services.accounts.refresh(&request.refresh_token).await?))
}

/// 204: nothing more is written to the connections concerned.
async fn logout(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    JsonOrEmpty(request): JsonOrEmpty<LogoutRequest>,
) -> Result<StatusCode, Problem> {
    services.accounts.logout(&me, request.everywhere).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// 200: one's own profile.
async fn get_profile(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
) -> Result<Json<ProfileView>, Problem> {
    Ok(Json(services.accounts.profile(&me).await?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn register(body: Value) -> Result<Registration, Vec<String>> {
        let request: RegisterRequest = serde_json::from_value(body).unwrap();
        request.parse().map_err(|problem| {
            problem.errors.into_iter().map(|e| format!("{} {}", e.field, e.code)).collect()
        })
    }

    #[test]
    fn a_registration_needs_three_fields() {
        let made = register(json!({"username": "bob", "password": "correct horse", "displayName": " Bob "}))
            .unwrap();
        assert_eq!((made.display_name.as_str(), made.device), ("Bob", DeviceChoice::default()));
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let wrong = register(json!({
            "username": "Bob", "password": "short", "displayName": "", "email": "x", "phone": "0123", "device": {"name": "a\u{0}"}
        }));
        assert_eq!(
            wrong.unwrap_err(),
            [
                "username characters",
                "password length",
                "displayName length",
                "email invalid",
                "phone invalid",
                "device.platform required",
            ]
        );
        assert_eq!(
            register(json!({"username": null})).unwrap_err(),
            ["username required", "password required", "displayName required"]
        );
    }

    #[test]
    fn a_login_names_its_device_by_id_and_name() {
        let parse = |device: Value| {
            let body = json!({"login": "bob", "password": "x", "device": device});
            serde_json::from_value::<LoginRequest>(body).unwrap().parse()
        };
        let id = "0192f0c1-0000-7000-8000-000000000001";
        let (.., device) = parse(json!({"id": id, "name": "phone", "platform": "ios"})).unwrap();
        assert_eq!(device.id.unwrap().to_string(), id);
        let errors = parse(json!({"id": "7", "name": "a\nb", "platform": "ios"})).unwrap_err().errors;
        assert_eq!(errors.iter().map(|e| e.field.as_ref()).collect::<Vec<_>>(), ["device.id", "device.name"]);
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
}
