//! What the schemas of types leave out.

use serde_json::{Map, Value, json};
use std::{collections::HashSet, mem};

const SCHEMAS: &str = "#/components/schemas/";

/// Puts right what the macros get wrong about our types.
pub fn correct(document: &mut Value) {
    let Some(mut schemas) = document["components"]["schemas"].as_object().cloned() else { return };
    // A page is of a type that has a name, and says so.
    let mut named = Map::new();
    for (name, schema) in &mut schemas {
        if let Some(item) = name.strip_prefix("Page_") {
            let reference = json!({ "$ref": format!("{SCHEMAS}{item}") });
            let schema = mem::replace(&mut schema["properties"]["items"]["items"], reference);
            named.insert(item.to_owned(), schema);
        }
    }
    named.into_iter().for_each(|(name, schema)| {
        schemas.entry(name).or_insert(schema);
    });
    // `Seq` is an alias of a primitive type, which needs no name.
    let is_primitive = |name: &str| name.starts_with(|c: char| c.is_ascii_lowercase());
    let (primitives, schemas): (Map<_, _>, Map<_, _>) =
        schemas.into_iter().partition(|(name, _)| is_primitive(name));
    document["components"]["schemas"] = schemas.into();
    correct_within(document, &primitives);
}

fn correct_within(value: &mut Value, primitives: &Map<String, Value>) {
    if let Some((_, schema)) = primitives.iter().find(|(name, _)| value["$ref"] == format!("{SCHEMAS}{name}"))
    {
        let description = value.get("description").cloned();
        *value = schema.clone();
        if let Some(description) = description {
            value["description"] = description;
        }
    }
    // Ours are counted without a sign, up to the end.
    if value.get("minimum").and_then(Value::as_u64).is_some()
        && let Some(width) = value["format"].as_str().and_then(|format| format.strip_prefix("int"))
    {
        value["format"] = format!("uint{width}").into();
    }
    match value {
        Value::Object(members) => {
            // The fields of an enum's variants, of which `rename_all_fields` is not understood.
            if let Some(Value::Object(properties)) = members.get_mut("properties") {
                *properties = mem::take(properties)
                    .into_iter()
                    .map(|(name, field)| (camel_case(&name), field))
                    .collect();
            }
            if let Some(Value::Array(required)) = members.get_mut("required") {
                for name in required {
                    *name = camel_case(name.as_str().unwrap_or_default()).into();
                }
            }
            members.values_mut().for_each(|member| correct_within(member, primitives));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| correct_within(item, primitives)),
        _ => {}
    }
}

fn camel_case(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |name, part| name + &part[..1].to_uppercase() + &part[1..])
}

/// In answers a field that may be `null` is always there, if only to be `null`: a type that leaves it out instead says
/// `#[schema(nullable = false)]` of it. In requests a field may be absent and `null` alike.
pub fn require_what_is_always_there(document: &mut Value) {
    let mut of_requests = HashSet::new();
    let mut of_answers = HashSet::new();
    for item in document["paths"].as_object().into_iter().flat_map(|paths| paths.values()) {
        for operation in item.as_object().into_iter().flat_map(|item| item.values()) {
            collect(&operation["requestBody"], document, &mut of_requests);
            collect(&operation["responses"], document, &mut of_answers);
        }
    }
    for name in of_answers.difference(&of_requests) {
        require_nullable(&mut document["components"]["schemas"][name.as_str()]);
    }
}

/// The names of all schemas that `value` refers to, however far.
fn collect(value: &Value, document: &Value, names: &mut HashSet<String>) {
    match value {
        Value::Object(members) => {
            if let Some(name) =
                members.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix(SCHEMAS))
                && names.insert(name.to_owned())
            {
                collect(&document["components"]["schemas"][name], document, names);
            }
            members.values().for_each(|member| collect(member, document, names));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, document, names)),
        _ => {}
    }
}

fn require_nullable(schema: &mut Value) {
    let properties = schema["properties"].as_object();
    let nullable: Vec<_> = properties
        .into_iter()
        .flatten()
        .filter(|(_, property)| is_nullable(property))
        .map(|(name, _)| json!(name))
        .collect();
    if !nullable.is_empty() {
        let mut required = schema["required"].as_array().cloned().unwrap_or_default();
        required.extend(nullable.into_iter().filter(|name| !required.contains(name)).collect::<Vec<_>>());
        schema["required"] = required.into();
    }
    for keyword in ["allOf", "oneOf"] {
        schema
            .get_mut(keyword)
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
            .for_each(require_nullable);
    }
}

/// Whether `null` is a value.
pub fn is_nullable(schema: &Value) -> bool {
    let is_null = |kind: &Value| kind == "null";
    is_null(&schema["type"])
        || schema["type"].as_array().is_some_and(|kinds| kinds.iter().any(is_null))
        || schema["oneOf"].as_array().is_some_and(|any| any.iter().any(is_nullable))
}

/// Takes `null` out of the values.
pub fn drop_null(schema: &mut Value) {
    if let Some(kinds) = schema.get_mut("type").and_then(Value::as_array_mut) {
        kinds.retain(|kind| kind != "null");
        if let [kind] = kinds.as_slice() {
            schema["type"] = kind.clone();
        }
    }
    if let Some(any) = schema.get_mut("oneOf").and_then(Value::as_array_mut) {
        any.retain(|schema| !is_nullable(schema));
        if let [one] = any.as_slice() {
            *schema = one.clone();
        }
    }
}
