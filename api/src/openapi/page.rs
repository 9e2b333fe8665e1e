//! The document as a page to read: plain HTML with its style in it. No script, nothing to fetch.

use super::{TAGS, complete::METHODS};
use serde_json::Value;
use std::fmt::Write;

const STYLE: &str = include_str!("page.css");

/// The whole page.
pub fn render(document: &Value) -> String {
    let mut page = Page { document, html: String::with_capacity(256 * 1024) };
    page.begin();
    page.navigation();
    page.put("<main>");
    page.introduction();
    for (tag, description) in TAGS {
        page.area(tag, description);
    }
    page.schemas();
    page.put("</main></body></html>\n");
    page.html
}

struct Page<'a> {
    document: &'a Value,
    html: String,
}

/// An operation and where it is.
struct Operation<'a> {
    method: &'static str,
    path: &'a str,
    is: &'a Value,
}

impl<'a> Page<'a> {
    fn put(&mut self, html: &str) {
        self.html.push_str(html);
    }

    fn write(&mut self, html: std::fmt::Arguments<'_>) {
        self.html.write_fmt(html).expect("a String takes everything");
    }

    fn begin(&mut self) {
        let title = escape(text(&self.document["info"]["title"]));
        self.write(format_args!(
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
             content=\"width=device-width\"><title>{title}: REST interface</title><style>{STYLE}</style></head><body>"
        ));
    }

    fn operations_of(&self, tag: &str) -> Vec<Operation<'a>> {
        let paths = self.document["paths"].as_object().into_iter().flatten();
        paths
            .flat_map(|(path, item)| METHODS.map(|method| Operation { method, path, is: &item[method] }))
            .filter(|operation| operation.is["tags"][0] == tag)
            .collect()
    }

    fn navigation(&mut self) {
        self.put("<nav aria-label=\"Contents\"><a href=\"#top\">Introduction</a>");
        for (tag, _) in TAGS {
            self.write(format_args!("<h2><a href=\"#{tag}\">{tag}</a></h2><ul>"));
            for Operation { method, is, .. } in self.operations_of(tag) {
                let (id, summary) = (text(&is["operationId"]), escape(text(&is["summary"])));
                self.write(format_args!(
                    "<li><a href=\"#{id}\"><span class=\"method {method}\">{}</span> {summary}</a></li>",
                    method.to_uppercase()
                ));
            }
            self.put("</ul>");
        }
        self.put("<h2><a href=\"#schemas\">Schemas</a></h2></nav>");
    }

    fn introduction(&mut self) {
        let info = &self.document["info"];
        self.write(format_args!(
            "<h1 id=\"top\">{} <small>{}</small></h1>{}<p>The same for machines: <a href=\"/api/openapi.json\">openapi.json</a></p>",
            escape(text(&info["title"])),
            escape(text(&info["version"])),
            prose(text(&info["description"])),
        ));
    }

    fn area(&mut self, tag: &str, description: &str) {
        self.write(format_args!("<section><h2 id=\"{tag}\">{tag}</h2>{}", prose(description)));
        for operation in self.operations_of(tag) {
            self.operation(&operation);
        }
        self.put("</section>");
    }

    fn operation(&mut self, Operation { method, path, is }: &Operation<'_>) {
        self.write(format_args!(
            "<article id=\"{}\"><h3>{}</h3><p><span class=\"method {method}\">{}</span> <code>{}</code></p>{}",
            text(&is["operationId"]),
            escape(text(&is["summary"])),
            method.to_uppercase(),
            escape(path),
            prose(text(&is["description"])),
        ));
        if is["security"].as_array().is_some_and(Vec::is_empty) {
            self.put("<p class=\"note\">Needs no token.</p>");
        }
        self.parameters(&is["parameters"]);
        if let Some(body) = is.get("requestBody") {
            let optional = if body["required"] == true { "" } else { " (may be absent)" };
            self.write(format_args!("<h4>Body{optional}</h4>"));
            self.content(&body["content"]);
        }
        self.put("<h4>Answers</h4>");
        for (status, response) in is["responses"].as_object().into_iter().flatten() {
            self.response(status, resolve(self.document, response));
        }
        self.put("</article>");
    }

    fn parameters(&mut self, parameters: &Value) {
        let Some(parameters) = parameters.as_array() else { return };
        self.put("<h4>Parameters</h4><table><thead><tr><th>Name<th>In<th>Type<th>Meaning</thead><tbody>");
        for parameter in parameters {
            self.write(format_args!(
                "<tr><td><code>{}</code><td>{}<td>{}<td>{}",
                escape(text(&parameter["name"])),
                text(&parameter["in"]),
                kind(&parameter["schema"]),
                prose(text(&parameter["description"])),
            ));
        }
        self.put("</tbody></table>");
    }

    fn response(&mut self, status: &str, response: &Value) {
        self.write(format_args!("<details><summary><code>{status}</code> "));
        // The description in one line; a refusal's codes are told apart by their marks.
        self.put(&inline(text(&response["description"])));
        self.put("</summary>");
        self.content(&response["content"]);
        self.put("</details>");
    }

    fn content(&mut self, content: &Value) {
        for (media_type, content) in content.as_object().into_iter().flatten() {
            self.write(format_args!("<p><code>{media_type}</code> {}</p>", kind(&content["schema"])));
            let several =
                content["examples"].as_object().into_iter().flatten().map(|(_, example)| &example["value"]);
            for example in content.get("example").into_iter().chain(several) {
                let example = serde_json::to_string_pretty(example).unwrap_or_default();
                self.write(format_args!("<pre>{}</pre>", escape(&example)));
            }
        }
    }

    fn schemas(&mut self) {
        self.put("<section><h2 id=\"schemas\">Schemas</h2>");
        for (name, schema) in self.document["components"]["schemas"].as_object().into_iter().flatten() {
            self.write(format_args!(
                "<article id=\"schema-{name}\"><h3>{name}</h3>{}",
                prose(text(&schema["description"]))
            ));
            self.schema(schema);
            self.put("</article>");
        }
        self.put("</section>");
    }

    fn schema(&mut self, schema: &Value) {
        if let Some(parts) = schema["allOf"].as_array().or_else(|| schema["oneOf"].as_array()) {
            let title = if schema.get("allOf").is_some() { "All of" } else { "One of" };
            self.write(format_args!("<h4>{title}</h4>"));
            for part in parts {
                self.put(&prose(text(&part["description"])));
                self.schema(part);
            }
            return;
        }
        let Some(fields) = schema["properties"].as_object() else {
            self.write(format_args!("<p>{}</p>", kind(schema)));
            return;
        };
        let required =
            |name: &str| schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
        self.put("<table><thead><tr><th>Field<th>Type<th>Meaning</thead><tbody>");
        for (name, field) in fields {
            let optional = if required(name) { "" } else { " <span class=\"note\">optional</span>" };
            self.write(format_args!(
                "<tr><td><code>{name}</code>{optional}<td>{}<td>{}",
                kind(field),
                prose(text(meaning(field)))
            ));
        }
        self.put("</tbody></table>");
    }
}

/// What a reference stands for, or the value itself.
fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let pointer = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    pointer.and_then(|pointer| document.pointer(pointer)).unwrap_or(value)
}

/// The description of a field, which lies deeper when it may be `null`.
fn meaning(field: &Value) -> &Value {
    let inside = || field["oneOf"].as_array()?.iter().find_map(|one| one.get("description"));
    field.get("description").or_else(inside).unwrap_or(&Value::Null)
}

/// A type in a few words, with links to named ones.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
        return format!("<a href=\"#schema-{name}\">{name}</a>");
    }
    for (keyword, between) in [("oneOf", " or "), ("allOf", " with ")] {
        if let Some(parts) = schema[keyword].as_array() {
            return parts.iter().map(kind).collect::<Vec<_>>().join(between);
        }
    }
    if let Some(values) = schema["enum"].as_array() {
        return values
            .iter()
            .map(|value| format!("<code>{}</code>", escape(&value.to_string())))
            .collect::<Vec<_>>()
            .join(" ");
    }
    let kinds: Vec<_> = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().map(text).collect(),
        kind => vec![text(kind)],
    };
    let mut words = kinds.join(" or ");
    if let Some(items) = schema.get("items") {
        let _ = write!(words, " of {}", kind(items));
    }
    if let Some(values) = schema.get("additionalProperties").filter(|values| values.is_object()) {
        let _ = write!(words, " of {}", kind(values));
    }
    for bound in [
        "format",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "pattern",
        "default",
        "const",
    ] {
        if let Some(value) = schema.get(bound) {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let _ = write!(words, " <span class=\"note\">{bound} <code>{}</code></span>", escape(&value));
        }
    }
    words
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Text with `code` in it.
fn inline(text: &str) -> String {
    let pieces = escape(text);
    let pieces = pieces.split('`').enumerate();
    pieces
        .map(
            |(n, piece)| {
                if n % 2 == 1 { format!("<code>{piece}</code>") } else { piece.replace("  \n", "<br>") }
            },
        )
        .collect()
}

/// Paragraphs of such text.
fn prose(text: &str) -> String {
    text.split("\n\n")
        .filter(|text| !text.is_empty())
        .fold(String::new(), |html, text| html + "<p>" + &inline(text) + "</p>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_code_is_marked() {
        assert_eq!(prose("a <b> `c&d`\n\ne"), "<p>a &lt;b&gt; <code>c&amp;d</code></p><p>e</p>");
        assert_eq!(prose(""), "");
    }
}
