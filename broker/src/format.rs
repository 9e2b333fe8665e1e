//! How the commands and events of a connection are written: as JSON, or as CBOR (RFC 8949) for who asks at CONNECT.
//!
//! One schema: CBOR carries the very value that the JSON text stands for, so that ids and times are text in both. What a client
//! sends is held to it as strictly, and what is wrong is said in the same words.

mod cbor;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use curlew_domain::{Error, ErrorCode, event::Event};
use serde::{Deserializer, de::DeserializeOwned, de::value::MapDeserializer};
use serde_json::Value;
use std::fmt::Display;

/// Most bytes of a client's own text that an error repeats.
const ECHO_LIMIT: usize = 200;

/// JSON or CBOR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Text.
    #[default]
    Json,
    /// Binary, and shorter.
    Cbor,
}

impl Format {
    /// The format with this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "json" => Some(Self::Json),
            "cbor" => Some(Self::Cbor),
            _ => None,
        }
    }

    /// Its media type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Cbor => "application/cbor",
        }
    }

    /// Whether what is written in it is text.
    pub const fn is_text(self) -> bool {
        matches!(self, Self::Json)
    }

    /// An event, as sent.
    pub fn encode(self, event: &Event) -> Bytes {
        match self {
            Self::Json => event.to_json().into(),
            Self::Cbor => {
                let value = serde_json::to_value(event);
                cbor::encode(&value.expect("what can be written as JSON is a value"))
            }
        }
    }

    /// A value, as sent.
    pub fn encode_value(self, value: &Value) -> Bytes {
        match self {
            Self::Json => value.to_string().into(),
            Self::Cbor => cbor::encode(value),
        }
    }

    /// The body of a command: one object, and nothing behind it. An error names the field.
    pub fn decode<T: DeserializeOwned>(self, payload: &[u8]) -> Result<T, Error> {
        match self {
            Self::Json => {
                if payload.trim_ascii_start().first() != Some(&b'{') {
                    return Err(invalid("the payload is not a JSON object".into()));
                }
                let mut json = serde_json::Deserializer::from_slice(payload);
                let decoded = read(&mut json)?;
                json.end().map_err(|_| invalid("something follows the JSON object".into()))?;
                Ok(decoded)
            }
            Self::Cbor => {
                let fields = cbor::decode(payload).map_err(|error| invalid(error.to_string()))?;
                read(MapDeserializer::<_, serde_json::Error>::new(fields.into_iter()))
            }
        }
    }
}

fn read<'de, T: DeserializeOwned, D: Deserializer<'de, Error: Display>>(source: D) -> Result<T, Error> {
    serde_path_to_error::deserialize(source).map_err(|error| {
        let (path, message) = (error.path().to_string(), error.inner().to_string());
        // The place in the text helps nobody who is told the field.
        let message = message.rsplit_once(" at line ").map_or(&*message, |(message, _)| message);
        invalid(if path == "." { message.to_owned() } else { format!("{path}: {message}") })
    })
}

fn invalid(mut detail: String) -> Error {
    detail.truncate(detail.floor_char_boundary(ECHO_LIMIT));
    Error::refused(ErrorCode::InvalidRequest, detail)
}
