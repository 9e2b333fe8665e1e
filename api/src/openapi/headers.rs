//! The headers that answers carry.

use serde_json::{Value, json};

/// Those of operations whose requests are counted.
pub const OF_COUNTED: &[&str] = &["RateLimit", "RateLimit-Policy"];

/// All of them.
pub fn all() -> Value {
    json!({
        "X-Request-Id": {
            "description": "Id of the request, as the server's log has it.",
            "required": true, "schema": { "type": "string", "format": "uuid" },
        },
        "WWW-Authenticate": {
            "description": "How to authenticate.", "required": true, "schema": { "const": "Bearer" },
        },
        "Retry-After": {
            "description": "When to try again: seconds from now.",
            "required": true, "schema": { "type": "integer", "minimum": 1 },
        },
        "RateLimit": {
            "description": "Of the policy that has least left: how many more requests, and in how many seconds there is one more.",
            "schema": { "type": "string" }, "example": "\"login\";r=4;t=12",
        },
        "RateLimit-Policy": {
            "description": "The policies that count this request: how many requests in how many seconds.",
            "schema": { "type": "string" }, "example": "\"login\";q=5;w=60",
        },
        "ETag": {
            "description": "Tag of the answer, for `If-None-Match`.", "required": true, "schema": { "type": "string" },
        },
    })
}

/// Says that an answer carries these.
pub fn add(response: &mut Value, names: &[&str]) {
    for name in names {
        response["headers"][name] = json!({ "$ref": format!("#/components/headers/{name}") });
    }
}
