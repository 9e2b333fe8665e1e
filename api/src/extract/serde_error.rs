//! From what serde says to a field and a stable code.

use crate::fields::REQUIRED;
use curlew_domain::FieldError;

/// Most bytes of a client's own text that an error repeats.
const ECHO_LIMIT: usize = 200;

/// The field error for `message`, found at `path`. serde's derived code tells its errors apart by their texts alone; the
/// tests here pin those that matter.
pub fn field_error(path: &str, message: &str) -> FieldError {
    // The place in the text helps nobody who is told the field.
    let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
    let inside = |name| match path {
        "." | "" => clip(name),
        parent => clip(&format!("{parent}.{name}")),
    };
    if let Some(name) = quoted(message, "missing field `") {
        return FieldError::new(inside(name), REQUIRED, "must be given");
    }
    if let Some(name) = quoted(message, "duplicate field `") {
        return FieldError::new(inside(name), "duplicate-field", "is given more than once");
    }
    let code = match message {
        m if m.starts_with("unknown field") => "unknown-field",
        m if m.starts_with("unknown variant") => "unknown-value",
        m if m.starts_with("invalid type") || m == "expected value" => "wrong-type",
        _ => "invalid",
    };
    let field = if path == "." { String::new() } else { clip(path) };
    FieldError::new(field, code, clip(message))
}

fn quoted<'a>(message: &'a str, prefix: &str) -> Option<&'a str> {
    message.strip_prefix(prefix)?.strip_suffix('`')
}

fn clip(text: &str) -> String {
    if text.len() <= ECHO_LIMIT {
        text.to_owned()
    } else {
        format!("{}…", &text[..text.floor_char_boundary(ECHO_LIMIT)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_repeats_little_of_what_it_was_given() {
        let long = "ø".repeat(40_000);
        let error = field_error(&long, &format!("unknown field `{long}`, expected `text`"));
        assert_eq!(error.code, "unknown-field");
        assert!(error.field.len() < 210 && error.detail.len() < 210);
    }
}
