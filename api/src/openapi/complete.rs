//! Adds to the document what is the same for all operations, or follows from what they say of themselves.

use super::{
    ERROR_CODES, HAS_ETAG, TAGS,
    example::Examples,
    headers,
    refusals::{self, Refusals},
    schemas,
};
use crate::problem::ACCESS_TOKEN;
use curlew_domain::ErrorCode;
use serde_json::{Map, Value, json};

/// Name of the security scheme.
const BEARER: &str = "bearer";
/// Methods that an operation can have.
pub const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// The document as served, from what the routes say of themselves.
pub fn complete(mut document: Value) -> Value {
    document["tags"] =
        TAGS.iter().map(|(name, description)| json!({ "name": name, "description": description })).collect();
    document["components"]["securitySchemes"][BEARER] = json!({
        "type": "http",
        "scheme": "bearer",
        "description": format!("The `accessToken` of a login answer, or a device token of an operator: {ACCESS_TOKEN}"),
    });
    document["components"]["headers"] = headers::all();
    schemas::correct(&mut document);
    schemas::require_what_is_always_there(&mut document);

    let mut refusals = Refusals::default();
    for (path, _, operation) in operations_mut(&mut document) {
        let own = own_codes(operation);
        secure(operation);
        name_path_parameters(operation, path);
        drop_null(operation);
        describe_etag(operation);
        let codes = refusals::codes_of(operation, own);
        operation[ERROR_CODES] = codes.iter().map(|code| code.as_str()).collect();
        for response in members_mut(&mut operation["responses"]) {
            headers::add(response, &["X-Request-Id"]);
            if codes.contains(&ErrorCode::TooManyRequests) {
                headers::add(response, headers::OF_COUNTED);
            }
        }
        refusals.add_to(operation, &codes);
    }
    document["components"]["responses"] = refusals.into_components();

    let examples = Examples::of(&document);
    for (.., operation) in operations_mut(&mut document) {
        operation.get_mut("requestBody").into_iter().for_each(|body| examples.add_to(body));
        members_mut(&mut operation["responses"]).for_each(|body| examples.add_to(body));
    }
    document
}

/// Every operation, with its path and method.
fn operations_mut(document: &mut Value) -> impl Iterator<Item = (&String, &String, &mut Value)> {
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    paths.flat_map(|(path, item)| {
        let operations = item.as_object_mut().into_iter().flatten();
        operations
            .filter(|(method, _)| METHODS.contains(&method.as_str()))
            .map(move |(method, operation)| (path, method, operation))
    })
}

fn members_mut(object: &mut Value) -> impl Iterator<Item = &mut Value> {
    object.as_object_mut().into_iter().flat_map(Map::values_mut)
}

/// The codes that the handler names.
fn own_codes(operation: &Value) -> Vec<ErrorCode> {
    let named = operation[ERROR_CODES].as_array().into_iter().flatten().filter_map(Value::as_str);
    let code = |name: &str| ErrorCode::ALL.iter().copied().find(|code| code.as_str() == name);
    named.map(|name| code(name).expect("handlers name codes by their variants")).collect()
}

/// An operation that says nothing of it needs a token; `security(())` says that it needs none.
fn secure(operation: &mut Value) {
    let open = operation["security"].as_array().is_some_and(|all| all.iter().any(|one| one == &json!({})));
    operation["security"] = if open { json!([]) } else { json!([{ BEARER: [] }]) };
}

/// All parameters in paths are ids, named for what they are.
fn name_path_parameters(operation: &mut Value, path: &str) {
    let names = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let parameters = names.map(|name| {
        let what = name.strip_suffix("Id").unwrap_or(name);
        let description = match what {
            "contact" => "The other user's id.".to_owned(),
            what => format!("Id of the {what}. One that is malformed names nothing: 404."),
        };
        json!({
            "name": name, "in": "path", "required": true, "description": description,
            "schema": { "type": "string", "format": "uuid" }, "example": super::example::ID,
        })
    });
    let parameters: Vec<_> =
        parameters.chain(operation["parameters"].as_array().cloned().unwrap_or_default()).collect();
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
}

/// What is answered to who has the answer already.
fn describe_etag(operation: &mut Value) {
    if operation.as_object_mut().and_then(|operation| operation.remove(HAS_ETAG)).is_none() {
        return;
    }
    let mut parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
    parameters.push(json!({
        "name": "If-None-Match", "in": "header", "required": false, "schema": { "type": "string" },
        "description": "The `ETag` of an answer that the client has.",
    }));
    operation["parameters"] = parameters.into();
    headers::add(&mut operation["responses"]["200"], &["ETag"]);
    operation["responses"]["304"] = json!({ "description": "It is the same as the client has." });
    headers::add(&mut operation["responses"]["304"], &["ETag"]);
}

/// A query has no `null`: what is not given is absent. So is a body that may be absent.
fn drop_null(operation: &mut Value) {
    for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
        schemas::drop_null(&mut parameter["schema"]);
    }
    let contents = operation.get_mut("requestBody").and_then(|body| body.get_mut("content"));
    for content in contents.into_iter().flat_map(members_mut) {
        schemas::drop_null(&mut content["schema"]);
    }
}
