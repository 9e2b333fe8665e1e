//! What users change about themselves: profile, password, privacy, the end of their account.

use crate::{
    extract::{Authenticated, Json},
    fields::Fields,
    limits::Meter,
    openapi::Routes,
    problem::Problem,
};
use axum::{extract::State, http::StatusCode};
use curlew_domain::{
    ErrorCode, FieldError,
    account::{
        Password, Privacy, PrivacyChange, ProfileChange, ProfileView, Visibility, parse_about, parse_email,
        parse_label, parse_phone,
    },
    services::Services,
};
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;
use utoipa_axum::routes;

/// Longest `about`, in characters.
const MAX_ABOUT: usize = 500;

pub fn routes() -> Routes {
    Routes::of("auth")
        .add(routes!(update_profile))
        .add(routes!(change_password))
        .add(routes!(get_privacy, update_privacy))
        .add(routes!(delete_profile))
}

/// `null`, which clears, is another thing than nothing, which leaves.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct UpdateProfileRequest {
    /// 1 to 64 characters.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, nullable = false, min_length = 1, max_length = 64, example = "Alice")]
    display_name: Option<Option<String>>,
    /// At most 500 characters; may be empty.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, nullable = false, max_length = 500)]
    about: Option<Option<String>>,
    /// `null` clears it.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, min_length = 3, max_length = 254, pattern = "^[^@\\s]+@[^@\\s]+$")]
    email: Option<Option<String>>,
    /// `null` clears it.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, min_length = 2, max_length = 16, pattern = "^\\+[0-9]{1,15}$")]
    phone: Option<Option<String>>,
}

fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl UpdateProfileRequest {
    fn parse(self) -> Result<ProfileChange, Problem> {
        let mut fields = Fields::default();
        let display_name = self
            .display_name
            .and_then(|name| fields.required("displayName", name))
            .and_then(|name| fields.keep(parse_label(&name, "displayName", 1, 64)));
        let about = self
            .about
            .and_then(|about| fields.required("about", about))
            .and_then(|about| fields.keep(parse_about(&about, "about", MAX_ABOUT)));
        let email = self.email.and_then(|email| keep_or_clear(&mut fields, email, parse_email));
        let phone = self.phone.and_then(|phone| keep_or_clear(&mut fields, phone, parse_phone));
        fields.finish(Some(ProfileChange { display_name, about, email, phone }))
    }
}

fn keep_or_clear(
    fields: &mut Fields,
    text: Option<String>,
    parse: impl Fn(String) -> Result<String, FieldError>,
) -> Option<Option<String>> {
    match text {
        None => Some(None),
        Some(text) => fields.keep(parse(text)).map(Some),
    }
}

// Requests with secrets in them have no `Debug`.

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ChangePasswordRequest {
    #[schema(value_type = String, example = "correct horse battery")]
    current_password: Option<String>,
    /// 8 to 71 bytes of UTF-8, without U+0000.
    #[schema(value_type = String, min_length = 2, max_length = 71, pattern = "^[^\\u0000]*$", example = "correct horse battery 2")]
    new_password: Option<String>,
}

impl ChangePasswordRequest {
    fn parse(self) -> Result<(String, Password), Problem> {
        let mut fields = Fields::default();
        let current = fields.required("currentPassword", self.current_password);
        let new = fields
            .required("newPassword", self.new_password)
            .and_then(|text| fields.keep(Password::parse(text, "newPassword")));
        fields.finish(current.zip(new))
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DeleteProfileRequest {
    #[schema(value_type = String, example = "correct horse battery")]
    password: Option<String>,
}

impl DeleteProfileRequest {
    fn parse(self) -> Result<String, Problem> {
        let mut fields = Fields::default();
        let password = fields.required("password", self.password);
        fields.finish(password)
    }
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(example = json!({ "lastSeen": "contacts" }))]
struct UpdatePrivacyRequest {
    /// Who sees when I was last seen.
    last_seen: Option<Visibility>,
    /// Who sees my picture.
    picture: Option<Visibility>,
    /// Who is shown what I have read.
    read_receipts: Option<Visibility>,
}

/// Change my own profile
///
/// What is left out stays as it is. My other devices and my contacts are told of a new `displayName` or `about`.
#[utoipa::path(
    put,
    path = "/update-profile",
    request_body = UpdateProfileRequest,
    responses((status = 200, description = "My profile as it is now.", body = ProfileView)),
)]
async fn update_profile(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Json(request): Json<UpdateProfileRequest>,
) -> Result<Json<ProfileView>, Problem> {
    Ok(Json(services.profiles.update(me.user, request.parse()?).await?))
}

/// Change my password
///
/// Every other sign-in ends, and its MQTT connections are closed before the answer. Device tokens stay.
#[utoipa::path(
    put,
    path = "/password",
    request_body = ChangePasswordRequest,
    responses((status = 204, description = "Changed; every other sign-in has ended.")),
    extensions(("x-error-codes" = json!([ErrorCode::InvalidCredentials, ErrorCode::TooManyRequests]))),
)]
async fn change_password(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    meter: Meter,
    Json(request): Json<ChangePasswordRequest>,
) -> Result<StatusCode, Problem> {
    let (current, new) = request.parse()?;
    // Who holds a token only does not get to guess, either.
    meter.count_login(&me.user.to_string())?;
    services.profiles.change_password(&me, current, new).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Read who sees what of me
#[utoipa::path(
    get,
    path = "/privacy",
    responses((status = 200, description = "Who sees what.", body = Privacy)),
)]
async fn get_privacy(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
) -> Result<Json<Privacy>, Problem> {
    Ok(Json(services.profiles.privacy(me.user).await?))
}

/// Change who sees what of me
///
/// What is left out stays as it is. Read receipts are reciprocal: while nobody is shown mine I am not shown others'. What
/// was read meanwhile stays hidden when they are shown again.
#[utoipa::path(
    put,
    path = "/privacy",
    request_body = UpdatePrivacyRequest,
    responses((status = 200, description = "Who sees what now.", body = Privacy)),
)]
async fn update_privacy(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Json(request): Json<UpdatePrivacyRequest>,
) -> Result<Json<Privacy>, Problem> {
    let UpdatePrivacyRequest { last_seen, picture, read_receipts } = request;
    let change = PrivacyChange { last_seen, picture, read_receipts };
    Ok(Json(services.profiles.update_privacy(me.user, change).await?))
}

/// Delete my account
///
/// Messages stay as from a deleted user. Contacts, devices, tokens and sessions are gone, every group is left, and nobody
/// gets the user name for 30 days.
#[utoipa::path(
    delete,
    path = "/delete-profile",
    request_body = DeleteProfileRequest,
    responses((status = 204, description = "Gone; nothing more is written to its connections.")),
    extensions(("x-error-codes" = json!([ErrorCode::InvalidCredentials, ErrorCode::TooManyRequests]))),
)]
async fn delete_profile(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    meter: Meter,
    Json(request): Json<DeleteProfileRequest>,
) -> Result<StatusCode, Problem> {
    let password = request.parse()?;
    meter.count_login(&me.user.to_string())?;
    services.profiles.delete(&me, password).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn change(body: Value) -> Result<ProfileChange, Vec<String>> {
        let request: UpdateProfileRequest = serde_json::from_value(body).unwrap();
        request.parse().map_err(|problem| {
            problem.errors.into_iter().map(|e| format!("{} {}", e.field, e.code)).collect()
        })
    }

    #[test]
    fn null_clears_and_nothing_leaves() {
        let made = change(json!({"displayName": " Bob ", "about": "", "email": null})).unwrap();
        assert_eq!((made.display_name.as_deref(), made.about.as_deref()), (Some("Bob"), Some("")));
        assert_eq!((made.email, made.phone), (Some(None), None));
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let wrong =
            change(json!({"displayName": null, "about": "x".repeat(501), "email": "x", "phone": "7"}));
        let expected = ["displayName required", "about length", "email invalid", "phone invalid"];
        assert_eq!(wrong.unwrap_err(), expected);
    }
}
