//! The OpenAPI document, made from the routes themselves.
//!
//! A route comes with its documentation ([`Routes::add`]): `#[utoipa::path]` on its handler gives method, path, body, query
//! and what it answers when all is well. The rest is the same for all or follows from these, and is added by [`complete`]:
//! path parameters, the security scheme, every refusal that an operation can answer, headers, examples. Of its own
//! refusals a handler names the codes: `extensions(("x-error-codes" = json!([ErrorCode::Blocked])))`.

mod complete;
mod example;
mod headers;
mod page;
mod refusals;
mod schemas;

#[cfg(test)]
mod tests;

use crate::{ApiState, etag, problem::ProblemBody, routes::documented_routes};
use axum::{Router, middleware};
use serde_json::Value;
use std::sync::LazyLock;
use utoipa::{
    OpenApi,
    openapi::path::{Operation, PathItem},
};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

/// The areas, in the order in which they are shown.
pub const TAGS: &[(&str, &str)] = &[
    ("auth", "Accounts, and signing in and out."),
    ("devices", "Where I am signed in."),
    ("users", "Other people."),
    ("contacts", "Who may write to whom. A `contactId` is the other user's id."),
    ("chats", "Private chats and groups, and their members."),
    ("messages", "Sending, reading, changing and acknowledging messages."),
    ("notifications", "Badges: what waits to be noticed."),
    ("service", "For operators and their machines."),
];

/// Codes that an operation refuses with beside those that all have: an extension of it.
const ERROR_CODES: &str = "x-error-codes";

/// Marks an operation whose answer has an entity tag; it is not in the document.
const HAS_ETAG: &str = "x-has-etag";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Curlew",
        description = "REST interface of Curlew, a messaging server for chats over MQTT and HTTP.\n\n\
            Bodies are JSON; unknown fields are refused by name. Times are RFC 3339, UTC, with milliseconds; ids are \
            UUIDs of version 7. A list is read page by page: hand `nextCursor` back as `cursor` until it is `null`.\n\n\
            Every answer from 400 on is an RFC 9457 problem whose `code` is stable. What does not exist and what is not \
            yours get the same 404 `not-found`. A method that a path has not is 405 `method-not-allowed`.",
        license(name = "MIT", identifier = "MIT")
    ),
    components(schemas(ProblemBody))
)]
struct Base;

/// The document, as served: made once, when it is first asked for.
pub static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let (_, routes) = documented_routes().split();
    let mut document = Base::openapi();
    document.merge(routes);
    complete::complete(serde_json::to_value(document).expect("a document has string keys only"))
});

/// The document as a page to read.
pub static PAGE: LazyLock<String> = LazyLock::new(|| page::render(&DOCUMENT));

/// Routes of one area, each with its documentation. There is no way to add one without.
pub struct Routes {
    tag: &'static str,
    routes: OpenApiRouter<ApiState>,
}

impl Routes {
    /// None yet. `tag` is one of [`TAGS`].
    pub fn of(tag: &'static str) -> Self {
        Self { tag, routes: OpenApiRouter::new() }
    }

    /// Adds handlers of one path, as `utoipa_axum::routes!` collects them.
    pub fn add(self, (schemas, mut paths, handlers): UtoipaMethodRouter<ApiState>) -> Self {
        for operation in paths.paths.values_mut().flat_map(operations_of) {
            operation.tags.get_or_insert_default().push(self.tag.into());
        }
        Self { routes: self.routes.routes((schemas, paths, handlers)), ..self }
    }

    /// The routes of `other` below `path`.
    pub fn nest(self, path: &str, other: Self) -> Self {
        Self { routes: self.routes.nest(path, other.routes), ..self }
    }

    /// The routes of both.
    pub fn merge(self, other: Self) -> Self {
        Self { routes: self.routes.merge(other.routes), ..self }
    }

    /// The same routes, whose GETs answer 304 to who has the answer already.
    pub fn with_etags(mut self) -> Self {
        let items = self.routes.get_openapi_mut().paths.paths.values_mut();
        for operation in items.filter_map(|item| item.get.as_mut()) {
            operation.extensions.get_or_insert_default().insert(HAS_ETAG.into(), true.into());
        }
        self.map(|routes| routes.layer(middleware::from_fn(etag::tag)))
    }

    /// The same routes with something around them.
    pub fn map(self, change: impl FnOnce(OpenApiRouter<ApiState>) -> OpenApiRouter<ApiState>) -> Self {
        Self { routes: change(self.routes), ..self }
    }

    /// What serves them, and what describes them.
    pub fn split(self) -> (Router<ApiState>, utoipa::openapi::OpenApi) {
        self.routes.split_for_parts()
    }
}

fn operations_of(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete].into_iter().flatten()
}
