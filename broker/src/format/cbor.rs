//! Between CBOR and the values of JSON. Only what JSON has, too, is taken; lengths are believed when the bytes have come.

use bytes::Bytes;
use minicbor::{Decoder, Encoder, data::Type};
use serde_json::{Map, Value};
use std::convert::Infallible;

/// Deepest nesting of a body. None of ours is half as deep.
const MAX_DEPTH: usize = 16;
/// Most values in a body, so that one of single bytes does not become a hundred times as large. None of ours has a tenth.
const MAX_VALUES: usize = 1024;

/// Why a payload is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum CborError {
    #[error("the payload is not a CBOR map")]
    NotAMap,
    #[error("the CBOR is not well-formed")]
    Malformed(#[from] minicbor::decode::Error),
    #[error("something follows the CBOR map")]
    Trailing,
    #[error("the CBOR holds {0}, which is not taken")]
    Foreign(&'static str),
    #[error("the CBOR is nested more than {MAX_DEPTH} deep")]
    TooDeep,
    #[error("the CBOR holds more than {MAX_VALUES} values")]
    TooMany,
    #[error("duplicate field `{0}`")]
    Duplicate(String),
}

/// The fields of the one map that a payload is, in its order. Whether one comes twice is for the caller to see.
pub(super) fn decode(payload: &[u8]) -> Result<Vec<(String, Value)>, CborError> {
    let mut source = Source { decoder: Decoder::new(payload), depth: 0, values: 0 };
    if !matches!(source.decoder.datatype(), Ok(Type::Map | Type::MapIndef)) {
        return Err(CborError::NotAMap);
    }
    let mut fields = Vec::new();
    source.map(|name, value| {
        fields.push((name, value));
        Ok(())
    })?;
    if source.decoder.position() < payload.len() {
        return Err(CborError::Trailing);
    }
    Ok(fields)
}

struct Source<'a> {
    decoder: Decoder<'a>,
    depth: usize,
    values: usize,
}

impl Source<'_> {
    fn value(&mut self) -> Result<Value, CborError> {
        let decoder = &mut self.decoder;
        Ok(match decoder.datatype()? {
            Type::Null => {
                decoder.null()?;
                Value::Null
            }
            Type::Bool => decoder.bool()?.into(),
            Type::U8 | Type::U16 | Type::U32 | Type::U64 => decoder.u64()?.into(),
            Type::I8 | Type::I16 | Type::I32 | Type::I64 => decoder.i64()?.into(),
            Type::String | Type::StringIndef => self.text()?.into(),
            Type::Array | Type::ArrayIndef => {
                let mut items = Vec::new();
                let length = decoder.array()?;
                self.items(length, |source| {
                    items.push(source.value()?);
                    Ok(())
                })?;
                Value::Array(items)
            }
            Type::Map | Type::MapIndef => {
                let mut object = Map::new();
                self.map(|name, value| {
                    if object.contains_key(&name) {
                        return Err(CborError::Duplicate(name));
                    }
                    object.insert(name, value);
                    Ok(())
                })?;
                Value::Object(object)
            }
            Type::Bytes | Type::BytesIndef => return Err(CborError::Foreign("a byte string")),
            Type::Tag => return Err(CborError::Foreign("a tag")),
            // No field of ours is one, and in JSON none is taken for an integer either.
            Type::F16 | Type::F32 | Type::F64 => return Err(CborError::Foreign("a floating point number")),
            Type::Int => return Err(CborError::Foreign("an integer beyond 64 bits")),
            Type::Undefined | Type::Simple => return Err(CborError::Foreign("a simple value")),
            Type::Break | Type::Unknown(_) => {
                return Err(minicbor::decode::Error::message("no value begins like this").into());
            }
        })
    }

    fn map(
        &mut self,
        mut field: impl FnMut(String, Value) -> Result<(), CborError>,
    ) -> Result<(), CborError> {
        let length = self.decoder.map()?;
        self.items(length, |source| {
            if !matches!(source.decoder.datatype()?, Type::String | Type::StringIndef) {
                return Err(CborError::Foreign("a key that is not text"));
            }
            let name = source.text()?;
            field(name, source.value()?)
        })
    }

    /// Reads as many items as `length` says, or all up to the break.
    fn items(
        &mut self,
        length: Option<u64>,
        mut item: impl FnMut(&mut Self) -> Result<(), CborError>,
    ) -> Result<(), CborError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(CborError::TooDeep);
        }
        let mut left = length;
        while left != Some(0) {
            if left.is_none() && self.decoder.datatype()? == Type::Break {
                self.decoder.set_position(self.decoder.position() + 1);
                break;
            }
            self.values += 1;
            if self.values > MAX_VALUES {
                return Err(CborError::TooMany);
            }
            item(self)?;
            left = left.map(|left| left - 1);
        }
        self.depth -= 1;
        Ok(())
    }

    fn text(&mut self) -> Result<String, CborError> {
        Ok(self.decoder.str_iter()?.collect::<Result<String, _>>()?)
    }
}

/// In the shortest form, with definite lengths.
pub(super) fn encode(value: &Value) -> Bytes {
    let mut encoder = Encoder::new(Vec::new());
    write(&mut encoder, value).expect("a Vec takes everything");
    encoder.into_writer().into()
}

fn write(encoder: &mut Encoder<Vec<u8>>, value: &Value) -> Result<(), minicbor::encode::Error<Infallible>> {
    match value {
        Value::Null => encoder.null()?,
        Value::Bool(is) => encoder.bool(*is)?,
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), ..) => encoder.u64(number)?,
            (_, Some(number), _) => encoder.i64(number)?,
            (.., number) => encoder.f64(number.unwrap_or(f64::NAN))?,
        },
        Value::String(text) => encoder.str(text)?,
        Value::Array(items) => {
            encoder.array(items.len() as u64)?;
            return items.iter().try_for_each(|item| write(encoder, item));
        }
        Value::Object(fields) => {
            encoder.map(fields.len() as u64)?;
            return fields.iter().try_for_each(|(name, value)| write(encoder.str(name)?, value));
        }
    };
    Ok(())
}
