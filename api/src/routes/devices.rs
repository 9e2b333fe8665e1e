//! `/api/devices`.

use crate::{
    extract::{Authenticated, Json, Path},
    fields::Fields,
    openapi::Routes,
    problem::Problem,
};
use axum::{extract::State, http::StatusCode};
use curlew_domain::{
    device::{DeviceView, parse_device_name},
    ids::DeviceId,
    page::Page,
    services::Services,
};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

pub fn routes() -> Routes {
    Routes::of("devices").add(routes!(list_devices)).add(routes!(rename_device, remove_device))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RenameDeviceRequest {
    #[schema(value_type = String, min_length = 1, max_length = 64, example = "Alice's phone")]
    name: Option<String>,
}

impl RenameDeviceRequest {
    fn parse(self) -> Result<String, Problem> {
        let mut fields = Fields::default();
        let name =
            fields.required("name", self.name).and_then(|name| fields.keep(parse_device_name(&name, "name")));
        fields.finish(name)
    }
}

/// List my devices with a live login, the one last seen first
///
/// There are few: `nextCursor` is always `null`.
#[utoipa::path(
    get,
    path = "/",
    responses((status = 200, description = "All of them.", body = Page<DeviceView>)),
)]
async fn list_devices(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
) -> Result<Json<Page<DeviceView>>, Problem> {
    let items = services.devices.list(&me).await?;
    Ok(Json(Page { items, next_cursor: None }))
}

/// Rename one of my devices
#[utoipa::path(
    patch,
    path = "/{deviceId}",
    request_body = RenameDeviceRequest,
    responses((status = 200, description = "The device as it is now.", body = DeviceView)),
)]
async fn rename_device(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Path(device): Path<DeviceId>,
    Json(request): Json<RenameDeviceRequest>,
) -> Result<Json<DeviceView>, Problem> {
    Ok(Json(services.devices.rename(&me, device, request.parse()?).await?))
}

/// Remove one of my devices
///
/// It is logged out, its device tokens are revoked and its MQTT sessions forgotten; its connections are closed before the
/// answer.
#[utoipa::path(
    delete,
    path = "/{deviceId}",
    responses((status = 204, description = "Removed; nothing more is written to its connections.")),
)]
async fn remove_device(
    Authenticated(me): Authenticated,
    State(services): State<Services>,
    Path(device): Path<DeviceId>,
) -> Result<StatusCode, Problem> {
    services.devices.remove(me.user, device).await?;
    Ok(StatusCode::NO_CONTENT)
}
