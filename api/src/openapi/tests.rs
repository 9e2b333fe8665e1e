//! The document is whole: what every operation must say, and that nothing points into the void.

use super::{DOCUMENT, ERROR_CODES, PAGE, TAGS, complete::METHODS};
use curlew_domain::ErrorCode;
use serde_json::{Value, json};
use std::{
    collections::{BTreeSet, HashSet},
    fs,
    path::{Path, PathBuf},
};

/// Every operation, with `METHOD path`.
fn operations() -> Vec<(String, &'static Value)> {
    let paths = DOCUMENT["paths"].as_object().unwrap().iter();
    let operations = paths.flat_map(|(path, item)| {
        METHODS.into_iter().filter_map(move |method| Some((format!("{method} {path}"), item.get(method)?)))
    });
    operations.collect()
}

fn resolve(value: &Value) -> &Value {
    match value["$ref"].as_str() {
        Some(reference) => DOCUMENT.pointer(reference.strip_prefix('#').unwrap()).unwrap(),
        None => value,
    }
}

fn is_said(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.trim().is_empty())
}

/// Contents of the body and the answers.
fn contents(operation: &'static Value) -> impl Iterator<Item = (&'static String, &'static Value)> {
    let responses = operation["responses"].as_object().unwrap().values();
    let bodies = responses.chain(operation.get("requestBody"));
    bodies.flat_map(|body| resolve(body)["content"].as_object().into_iter().flatten())
}

#[test]
fn the_document_says_what_it_is() {
    assert_eq!(DOCUMENT["openapi"], "3.1.0");
    assert_eq!(DOCUMENT["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert!(operations().len() > 30);
}

/// [`Routes`](super::Routes) can add none without, but what it wraps can.
#[test]
fn no_route_is_added_beside_its_documentation() {
    let mut found = Vec::new();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/routes");
    let inside = |folder: &Path| -> Vec<PathBuf> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let (folders, mut files): (Vec<_>, Vec<_>) =
        inside(folder.as_ref()).into_iter().partition(|path| path.is_dir());
    files.extend(folders.iter().flat_map(|folder| inside(folder)));
    files.push(format!("{folder}.rs").into());
    for file in files {
        let source = fs::read_to_string(&file).unwrap();
        let adds = |line: &&str| {
            [".route(", ".route_service(", ".nest_service("].iter().any(|call| line.contains(call))
        };
        found.extend(source.lines().filter(adds).map(|line| line.trim().to_owned()));
    }
    // Another name of a page that is documented.
    assert_eq!(found, [r#".route("/docs/", get(docs::show_docs))"#]);
}

#[test]
fn every_operation_has_a_name_of_its_own_a_summary_and_an_area() {
    let mut ids = HashSet::new();
    for (what, operation) in operations() {
        assert!(is_said(&operation["summary"]), "{what}");
        assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{what}");
        let tags = operation["tags"].as_array().unwrap();
        assert!(
            matches!(tags.as_slice(), [tag] if TAGS.iter().any(|(name, _)| tag == name)),
            "{what}: {tags:?}"
        );
        let security = operation["security"].as_array().unwrap();
        assert!(security.is_empty() || *security == [json!({ "bearer": [] })], "{what}");
    }
}

#[test]
fn every_parameter_and_answer_says_what_it_is_for() {
    for (what, operation) in operations() {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(is_said(&parameter["description"]), "{what}: {parameter}");
            assert!(parameter["schema"].is_object(), "{what}: {parameter}");
        }
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.keys().any(|status| status.starts_with('2')), "{what}");
        for (status, response) in responses {
            let response = resolve(response);
            assert!(is_said(&response["description"]), "{what}: {status}");
            assert!(response["headers"]["X-Request-Id"].is_object(), "{what}: {status}");
        }
    }
}

#[test]
fn every_json_body_has_an_example() {
    for (what, operation) in operations() {
        for (media_type, content) in
            contents(operation).filter(|(media_type, _)| media_type.ends_with("json"))
        {
            let has_some = content.get("example").is_some() || content.get("examples").is_some();
            assert!(has_some, "{what}: {media_type}");
        }
    }
}

#[test]
fn bodies_of_requests_are_objects_of_known_fields() {
    for (what, operation) in operations() {
        for (media_type, content) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
            let schema = resolve(&content["schema"]);
            let closed = schema["type"] == "object" && schema["additionalProperties"] == false;
            assert!(closed, "{what}: {media_type} {schema}");
        }
    }
}

#[test]
fn refusals_are_problems_and_their_codes_are_told() {
    let codes = &DOCUMENT["components"]["schemas"]["ErrorCode"]["enum"];
    let all: Value = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(*codes, all);
    for (what, operation) in operations() {
        let mut told = HashSet::new();
        let responses = operation["responses"].as_object().unwrap();
        for (status, response) in responses.iter().filter(|(status, _)| status.as_str() >= "400") {
            let content = resolve(response)["content"].as_object().unwrap();
            assert_eq!(content.keys().collect::<Vec<_>>(), ["application/problem+json"], "{what}: {status}");
            let examples = content["application/problem+json"]["examples"].as_object().unwrap();
            told.extend(examples.keys().map(String::as_str));
        }
        let named = operation[ERROR_CODES].as_array().unwrap().iter().map(|code| code.as_str().unwrap());
        assert_eq!(told, named.collect(), "{what}");
    }
}

#[test]
fn every_code_but_those_that_need_no_operation_is_answered_by_one() {
    let named =
        operations().into_iter().flat_map(|(_, operation)| operation[ERROR_CODES].as_array().unwrap());
    let named: HashSet<_> = named.map(|code| code.as_str().unwrap()).collect();
    // Of MQTT, and of paths without the method.
    let elsewhere = [ErrorCode::InvalidTopic, ErrorCode::RetainedFull, ErrorCode::MethodNotAllowed];
    for code in ErrorCode::ALL {
        assert_eq!(named.contains(code.as_str()), !elsewhere.contains(code), "{}", code.as_str());
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn follow(value: &Value) {
        match value {
            Value::Object(members) => {
                assert!(!resolve(value).is_null(), "{value}");
                members.values().for_each(follow);
            }
            Value::Array(items) => items.iter().for_each(follow),
            _ => {}
        }
    }
    follow(&DOCUMENT);
}

#[test]
fn the_page_shows_every_operation_and_schema() {
    for (what, operation) in operations() {
        let id = operation["operationId"].as_str().unwrap();
        assert!(PAGE.contains(&format!("<article id=\"{id}\">")), "{what}");
    }
    for name in DOCUMENT["components"]["schemas"].as_object().unwrap().keys() {
        assert!(PAGE.contains(&format!("<article id=\"schema-{name}\">")), "{name}");
    }
}

/// Names of events in the schemas.
fn event_names(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            let named = fields.get("event").and_then(|event| event["enum"].as_array());
            names.extend(named.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
            fields.values().for_each(|value| event_names(value, names));
        }
        Value::Array(values) => values.iter().for_each(|value| event_names(value, names)),
        _ => {}
    }
}

#[test]
fn the_description_of_the_topics_knows_every_event() {
    let mut names = BTreeSet::new();
    event_names(&DOCUMENT["components"]["schemas"], &mut names);
    assert!(names.len() > 20, "{names:?}");
    let described = include_str!("../../../docs/asyncapi.yaml");
    let described: BTreeSet<String> = described
        .split("event: {const: ")
        .skip(1)
        .filter_map(|rest| rest.split_once('}').map(|(name, _)| name.to_owned()))
        .collect();
    assert_eq!(names, described);
}
