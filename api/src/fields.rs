//! Collects what is wrong with the fields of a request, so that a client learns all of it at once.

use crate::problem::Problem;
use curlew_domain::{FieldError, Refusal, clock::Timestamp};
use std::{borrow::Cow, str::FromStr};

/// Code of a field that must be there and is not.
pub const REQUIRED: &str = "required";

/// The field errors found so far.
#[derive(Debug, Default)]
pub struct Fields(Vec<FieldError>);

impl Fields {
    /// The value of a field that must be there; `null` is not.
    pub fn required<T>(&mut self, field: &'static str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.refuse(field, REQUIRED, "must be given");
        }
        value
    }

    /// The parsed value, or its error is noted.
    pub fn keep<T>(&mut self, parsed: Result<T, FieldError>) -> Option<T> {
        parsed.map_err(|error| self.0.push(error)).ok()
    }

    /// An id, or the error is noted.
    pub fn id<T: FromStr>(&mut self, field: impl Into<Cow<'static, str>>, text: &str) -> Option<T> {
        self.keep(text.parse().map_err(|_| FieldError::new(field, "invalid", "is not a UUID")))
    }

    /// A list of ids; errors name the place, `memberIds[2]`.
    pub fn ids<T: FromStr>(&mut self, field: &'static str, texts: &[String]) -> Vec<T> {
        texts.iter().enumerate().filter_map(|(at, text)| self.id(format!("{field}[{at}]"), text)).collect()
    }

    /// A point in time: RFC 3339.
    pub fn timestamp(&mut self, field: &'static str, text: &str) -> Option<Timestamp> {
        let parsed = Timestamp::parse(text);
        self.keep(parsed.ok_or_else(|| FieldError::new(field, "invalid", "is not a time of RFC 3339")))
    }

    /// Whether nothing was noted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notes an error.
    pub fn refuse(&mut self, field: &'static str, code: &'static str, detail: &'static str) {
        self.0.push(FieldError::new(field, code, detail));
    }

    /// `Err` when something was noted, or when `value`, made of what is required, is `None`.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Problem> {
        match value {
            Some(value) if self.0.is_empty() => Ok(value),
            _ => Err(Refusal::invalid(self.0).into()),
        }
    }
}
