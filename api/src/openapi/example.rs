//! Examples of bodies, put together from the schemas: a field says `#[schema(example = ..)]` where what is made up here
//! would say too little.

use super::schemas::is_nullable;
use serde_json::{Map, Value, json};

/// An id.
pub const ID: &str = "0192f0c1-7a10-7000-8000-000000000001";
const TIME: &str = "2026-11-24T10:04:05.007Z";
/// Types that hold themselves end here.
const DEPTH: usize = 32;

/// Makes examples of the schemas of a document.
pub struct Examples {
    schemas: Value,
}

impl Examples {
    /// For the schemas of this document.
    pub fn of(document: &Value) -> Self {
        Self { schemas: document["components"]["schemas"].clone() }
    }

    /// Gives each JSON content of a body an example, unless it has some.
    pub fn add_to(&self, body: &mut Value) {
        for (_, content) in body.get_mut("content").and_then(Value::as_object_mut).into_iter().flatten() {
            if content.get("example").is_some() || content.get("examples").is_some() {
                continue;
            }
            match self.resolve(&content["schema"])["examples"].as_array() {
                Some(several) => {
                    let named = several.iter().enumerate();
                    let named = named.map(|(n, value)| (format!("{}", n + 1), json!({ "value": value })));
                    content["examples"] = named.collect::<Map<_, _>>().into();
                }
                None => {
                    if let Some(example) = self.make(&content["schema"], 0) {
                        content["example"] = example;
                    }
                }
            }
        }
    }

    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        schema["$ref"].as_str().and_then(|r| r.rsplit('/').next()).map_or(schema, |name| &self.schemas[name])
    }

    /// An example of what the schema describes.
    fn make(&self, schema: &Value, depth: usize) -> Option<Value> {
        let given =
            schema.get("example").or_else(|| schema.get("examples")?.get(0)).or_else(|| schema.get("const"));
        let given = given.or_else(|| schema.get("enum")?.get(0));
        if let Some(given) = given {
            return Some(given.clone());
        }
        if depth > DEPTH {
            return None;
        }
        if schema.get("$ref").is_some() {
            return self.make(self.resolve(schema), depth + 1);
        }
        if let Some(parts) = schema["allOf"].as_array() {
            let parts = parts.iter().filter_map(|part| self.make(part, depth + 1));
            return Some(
                parts.filter_map(|part| part.as_object().cloned()).flatten().collect::<Map<_, _>>().into(),
            );
        }
        if is_nullable(schema) {
            return Some(Value::Null);
        }
        if let Some(any) = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array()) {
            return any.iter().find_map(|one| self.make(one, depth + 1));
        }
        match (schema["type"].as_str()?, schema["format"].as_str().unwrap_or_default()) {
            ("object", _) => Some(self.make_object(schema, depth)),
            ("array", _) => Some(self.make(&schema["items"], depth + 1).into_iter().collect()),
            ("string", "uuid") => Some(json!(ID)),
            ("string", "date-time") => Some(json!(TIME)),
            ("string", _) => Some(json!("text")),
            ("integer", _) => {
                Some(schema.get("minimum").cloned().filter(|least| least != 0).unwrap_or_else(|| json!(7)))
            }
            ("boolean", _) => Some(json!(false)),
            _ => None,
        }
    }

    /// With every field that must be there, and those that have an example of their own.
    fn make_object(&self, schema: &Value, depth: usize) -> Value {
        let required =
            |name: &str| schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
        let fields = schema["properties"].as_object().into_iter().flatten();
        let fields = fields.filter(|(name, field)| required(name) || field.get("example").is_some());
        fields
            .filter_map(|(name, field)| Some((name.clone(), self.make(field, depth + 1)?)))
            .collect::<Map<_, _>>()
            .into()
    }
}
