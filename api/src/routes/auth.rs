//! `/api/auth`: signing in and out. What users change about themselves is in [`profile`].

mod profile;

use super::compression::Secret;
use crate::{
    extract::{Authenticated, Json, JsonOrEmpty, Object},
    fields::Fields,
    limits::Meter,
    openapi::Routes,
    problem::Problem,
};
use axum::{extract::State, http::StatusCode, middleware, response::Response};
use curlew_domain::{
    ErrorCode,
    account::{
        LoginAnswer, Password, ProfileView, Registration, Username, parse_email, parse_label, parse_phone,
    },
    device::DeviceChoice,
    ids::DeviceId,
    services::Services,
};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

pub fn routes() -> Routes {
    let secret = Routes::of("auth").add(routes!(register)).add(routes!(login)).add(routes!(refresh));
    let profile = Routes::of("auth").add(routes!(get_profile));
    secret
        .map(|routes| routes.layer(middleware::map_response(hold_secret)))
        .merge(profile.with_etags())
        .merge(Routes::of("auth").add(routes!(logout)))
        .merge(profile::routes())
}

/// Marks an answer that holds tokens.
async fn hold_secret(mut response: Response) -> Response {
    response.extensions_mut().insert(Secret);
    response
}

// Requests with secrets in them have no `Debug`.

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RegisterRequest {
    #[schema(value_type = Username)]
    username: Option<String>,
    /// 8 to 71 bytes of UTF-8, without U+0000.
    #[schema(value_type = String, min_length = 2, max_length = 71, pattern = "^[^\\u0000]*$", example = "correct horse battery")]
    password: Option<String>,
    /// 1 to 64 characters, none of them a control character. White space around it goes.
    #[schema(value_type = String, min_length = 1, max_length = 64, example = "Alice")]
    display_name: Option<String>,
    /// Is not shown to others, and confirms nothing.
    #[schema(min_length = 3, max_length = 254, pattern = "^[^@\\s]+@[^@\\s]+$")]
    email: Option<String>,
    /// E.164.
    #[schema(min_length = 2, max_length = 16, pattern = "^\\+[0-9]{1,15}$")]
    phone: Option<String>,
    #[schema(value_type = Option<NewDevice>)]
    device: Option<Object<NewDevice>>,
}

/// A device to be made or found by its name.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewDevice {
    /// 1 to 64 characters; finds the device, too.
    #[schema(value_type = String, min_length = 1, max_length = 64, example = "Alice's phone")]
    name: Option<String>,
    /// 1 to 32 characters.
    #[schema(value_type = String, min_length = 1, max_length = 32, example = "android")]
    platform: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LoginRequest {
    /// The user name.
    #[schema(value_type = String, example = "alice")]
    login: Option<String>,
    #[schema(value_type = String, example = "correct horse battery")]
    password: Option<String>,
    #[schema(value_type = Option<KnownDevice>)]
    device: Option<Object<KnownDevice>>,
    /// A device of mine that is removed for this login, as `DELETE /devices/{deviceId}` does.
    #[schema(value_type = Option<DeviceId>)]
    replace_device_id: Option<String>,
}

/// What a login says.
struct Login {
    name: String,
    password: String,
    device: DeviceChoice,
    replace: Option<DeviceId>,
}

/// A device to be found by its id, else made or found by its name.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct KnownDevice {
    /// Of an earlier login answer. An unknown one makes a new device.
    #[schema(value_type = Option<DeviceId>)]
    id: Option<String>,
    /// 1 to 64 characters; finds the device when there is no `id`.
    #[schema(value_type = String, min_length = 1, max_length = 64, example = "Alice's phone")]
    name: Option<String>,
    /// 1 to 32 characters.
    #[schema(value_type = String, min_length = 1, max_length = 32, example = "android")]
    platform: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RefreshRequest {
    /// Of the last login answer.
    #[schema(example = "cr_AZLwwXoQcAC…")]
    refresh_token: String,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LogoutRequest {
    /// Not this login only: all of them.
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
    fn parse(self) -> Result<Login, Problem> {
        let mut fields = Fields::default();
        let login = fields.required("login", self.login);
        let password = fields.required("password", self.password);
        let device = parse_device(&mut fields, self.device.map(|Object(device)| device));
        let replace = self.replace_device_id.and_then(|id| fields.id("replaceDeviceId", &id));
        let login = login.zip(password);
        fields.finish(login.map(|(name, password)| Login { name, password, device, replace }))
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

/// Register an account, and sign in on a device
///
/// Whether strangers may is a setting of the operator. The user name of a deleted account is free again after 30 days.
#[utoipa::path(
    post,
    path = "/register",
    security(()),
    request_body = RegisterRequest,
    responses((status = 201, description = "Registered and signed in.", body = LoginAnswer)),
    extensions(("x-error-codes" = json!([ErrorCode::RegistrationClosed, ErrorCode::UsernameTaken, ErrorCode::TooManyRequests]))),
)]
async fn register(
    State(services): State<Services>,
    meter: Meter,
    Json(request): Json<RegisterRequest>,
) -> Result<(StatusCode, Json<LoginAnswer>), Problem> {
    let registration = request.parse()?;
    meter.count_registration()?;
    let answer = services.accounts.register(registration).await?;
    Ok((StatusCode::CREATED, Json(answer)))
}

/// Sign in on a device
///
/// Without `device` it is the device `default`. Signing in again on a device ends no other login. When as many devices as
/// allowed are signed in, the refusal lists them; `replaceDeviceId` names the one that is to go.
#[utoipa::path(
    post,
    path = "/login",
    security(()),
    request_body = LoginRequest,
    responses((status = 200, description = "Signed in.", body = LoginAnswer)),
    extensions(("x-error-codes" = json!([
        ErrorCode::InvalidCredentials, ErrorCode::NotFound, ErrorCode::DeviceLimit, ErrorCode::TooManyRequests,
    ]))),
)]
async fn login(
    State(services): State<Services>,
    meter: Meter,
    Json(request): Json<LoginRequest>,
) -> Result<Json<LoginAnswer>, Problem> {
    let Login { name, password, device, replace } = request.parse()?;
    meter.count_login(&name)?;
    Ok(Json(services.accounts.login(&name, password, device, replace).await?))
}

/// Exchange a refresh token for a new pair of tokens
///
/// The old one can be sent again until its successor is used, for at most 60 s; used later it ends the login.
#[utoipa::path(
    post,
    path = "/refresh",
    security(()),
    request_body = RefreshRequest,
    responses((status = 200, description = "A new pair of tokens.", body = LoginAnswer)),
    extensions(("x-error-codes" = json!([ErrorCode::Unauthenticated]))),
)]
async fn refresh(
    State(services): State<Services>,
    Json(request): Json<RefreshRequest>,
) -> Result<Json<LoginAnswer>, Problem> {
    Ok(Json(services.accounts.refresh(&request.refresh_token).await?))
}

/// End this login, or all
///
/// Its MQTT connections are closed before the answer.
#[utoipa::path(
    post,
    path = "/logout",
    request_body = Option<LogoutRequest>,
    responses((status = 204, description = "Signed out; nothing more is written to the connections concerned.")),
)]
async fn logout(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    JsonOrEmpty(request): JsonOrEmpty<LogoutRequest>,
) -> Result<StatusCode, Problem> {
    services.accounts.logout(&me, request.everywhere).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Read my own profile
#[utoipa::path(
    get,
    path = "/profile",
    responses((status = 200, description = "My profile.", body = ProfileView)),
)]
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
        let parsed = parse(json!({"id": id, "name": "phone", "platform": "ios"}));
        assert_eq!(parsed.ok().unwrap().device.id.unwrap().to_string(), id);
        let errors = parse(json!({"id": "7", "name": "a\nb", "platform": "ios"})).err().unwrap().errors;
        assert_eq!(errors.iter().map(|e| e.field.as_ref()).collect::<Vec<_>>(), ["device.id", "device.name"]);
    }
}
