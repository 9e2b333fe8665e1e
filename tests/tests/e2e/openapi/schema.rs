//! The document, and whether an answer is as it says.

use super::{Operation, recipes::Call};
use curlew_tests::{Answer, TestServer, Value, http::Method, json};
use jsonschema::{Draft, Validator};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// Headers that are to be documented where they are sent.
const TELLING_HEADERS: [&str; 7] =
    ["etag", "location", "ratelimit", "ratelimit-policy", "retry-after", "www-authenticate", "x-request-id"];

/// The document.
pub struct Document(Value);

impl Document {
    pub async fn read(server: &TestServer) -> Self {
        let document = server.anonymous().get("/openapi.json").await.expect(200);
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
        Self(document)
    }

    pub fn operations(&self) -> Vec<Operation> {
        let mut operations = Vec::new();
        for (path, item) in self.0["paths"].as_object().unwrap() {
            for method in METHODS.into_iter().filter(|method| item.get(method).is_some()) {
                let is = item[method].clone();
                let id = is["operationId"].as_str().unwrap().to_owned();
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                let path = path.strip_prefix("/api").unwrap_or(path).to_owned();
                operations.push(Operation { id, method, path, is });
            }
        }
        operations
    }

    /// What a reference stands for, or the value itself.
    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(reference) => {
                self.0.pointer(reference.strip_prefix('#').unwrap()).expect("references lead somewhere")
            }
            None => value,
        }
    }

    /// Status, headers, content type and body of an answer.
    #[track_caller]
    pub fn check(&self, operation: &Operation, call: &Call, answer: &Answer) {
        let body = answer.text.chars().take(2000).collect::<String>();
        let what = format!("{}: {} {body}\n{call:?}", operation.id, answer.status);
        assert_eq!(answer.status, call.status, "{what}");
        let response = self.resolve(&operation.is["responses"][answer.status.to_string()]);
        assert!(response.is_object(), "the status is not documented: {what}");
        for (name, header) in response["headers"].as_object().into_iter().flatten() {
            let required = self.resolve(header)["required"] == true;
            assert!(!required || !answer.header(name).is_empty(), "no {name}: {what}");
        }
        for name in TELLING_HEADERS.iter().filter(|name| answer.headers.contains_key(**name)) {
            let names = response["headers"].as_object().into_iter().flatten();
            let documented = names.into_iter().any(|(documented, _)| documented.eq_ignore_ascii_case(name));
            assert!(documented, "{name} is not documented: {what}");
        }
        let content_type = answer.header("content-type").split(';').next().unwrap_or_default().to_owned();
        let Some(content) = response["content"].as_object() else {
            assert_eq!(
                (content_type.as_str(), answer.text.as_str()),
                ("", ""),
                "no content is documented: {what}"
            );
            return;
        };
        let range = content_type.split('/').next().map(|kind| format!("{kind}/*")).unwrap_or_default();
        let documented =
            [content_type.as_str(), &range, "*/*"].into_iter().find_map(|name| content.get(name));
        let content = documented.unwrap_or_else(|| panic!("{content_type} is not documented: {what}"));
        if content_type.ends_with("json") {
            let faults = self.faults(&content["schema"], &answer.json());
            assert!(faults.is_empty(), "{faults:#?}\n{what}");
        }
    }

    /// Every example of a body.
    pub fn check_examples(&self) {
        for operation in self.operations() {
            let responses = operation.is["responses"].as_object().unwrap().values();
            for body in responses.chain(operation.is.get("requestBody")) {
                for (content_type, content) in self.resolve(body)["content"].as_object().into_iter().flatten()
                {
                    let several =
                        content["examples"].as_object().into_iter().flatten().map(|(_, one)| &one["value"]);
                    let examples: Vec<_> = content.get("example").into_iter().chain(several).collect();
                    assert!(
                        !content_type.ends_with("json") || !examples.is_empty(),
                        "{}: no example",
                        operation.id
                    );
                    for example in examples {
                        let faults = self.faults(&content["schema"], example);
                        assert!(faults.is_empty(), "{}: {example:#}\n{faults:#?}", operation.id);
                    }
                }
            }
        }
    }

    /// What is wrong with a value, by a schema of this document.
    fn faults(&self, schema: &Value, value: &Value) -> Vec<String> {
        let mut root =
            json!({ "components": { "schemas": self.0["components"]["schemas"] }, "allOf": [schema] });
        close(&mut root);
        root["unevaluatedProperties"] = json!(false);
        for schema in root["components"]["schemas"].as_object_mut().unwrap().values_mut() {
            close(schema);
        }
        validator(&root)
            .iter_errors(value)
            .map(|fault| format!("{}: {fault}", fault.instance_path()))
            .collect()
    }
}

fn validator(schema: &Value) -> Validator {
    let options = jsonschema::options().with_draft(Draft::Draft202012).should_validate_formats(true);
    options.build(schema).expect("the schemas are schemas")
}

/// Lets the fields of a schema, and the items of its lists, have no properties but those documented. A schema itself stays
/// open, since others may add to it.
fn close(schema: &mut Value) {
    for keyword in ["allOf", "oneOf"] {
        schema.get_mut(keyword).and_then(Value::as_array_mut).into_iter().flatten().for_each(close);
    }
    let fields = schema.get_mut("properties").and_then(Value::as_object_mut);
    for field in fields.into_iter().flat_map(|fields| fields.values_mut()) {
        seal(field);
    }
    for keyword in ["items", "additionalProperties"] {
        let inner =
            schema.get_mut(keyword).filter(|inner| inner.as_object().is_some_and(|inner| !inner.is_empty()));
        inner.into_iter().for_each(seal);
    }
}

fn seal(schema: &mut Value) {
    close(schema);
    // A map takes any name.
    if schema.get("additionalProperties").is_none() {
        schema["unevaluatedProperties"] = json!(false);
    }
}
