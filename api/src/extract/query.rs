//! Query strings.

use super::serde_error::field_error;
use crate::problem::Problem;
use axum::{extract::FromRequestParts, http::request::Parts};
use curlew_domain::{FieldError, Refusal, page::PageRequest};
use serde::{Deserialize, de::DeserializeOwned};
use utoipa::IntoParams;

/// The query, as a `T` that denies unknown fields.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = parse(parts.uri.query().unwrap_or_default());
        query.map(Self).map_err(|error| Refusal::invalid(vec![error]).into())
    }
}

fn parse<T: DeserializeOwned>(query: &str) -> Result<T, FieldError> {
    let parameters = serde_urlencoded::Deserializer::new(form_urlencoded::parse(query.as_bytes()));
    serde_path_to_error::deserialize(parameters)
        .map_err(|error| field_error(&error.path().to_string(), &error.inner().to_string()))
}

/// `?limit=&cursor=` of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// Most items of the page.
    #[param(minimum = 1, maximum = 200, default = 50)]
    limit: Option<u32>,
    /// The `nextCursor` of the page before. Opaque.
    cursor: Option<String>,
}

impl PageQuery {
    pub fn parse(&self) -> Result<PageRequest, Problem> {
        Ok(PageRequest::parse(self.limit, self.cursor.as_deref())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(query: &str) -> (String, &'static str) {
        let error = parse::<PageQuery>(query).unwrap_err();
        (error.field.into_owned(), error.code)
    }

    #[test]
    fn unknown_repeated_and_malformed_parameters_are_named() {
        assert_eq!(refused("limt=3"), ("limt".into(), "unknown-field"));
        assert_eq!(refused("limit=3&limit=4"), ("limit".into(), "duplicate-field"));
        assert_eq!(refused("cursor=a&limit=many"), ("limit".into(), "invalid"));
        assert_eq!(refused("limit=-1"), ("limit".into(), "invalid"));
    }

    #[test]
    fn a_page_is_bounded() {
        let page = |query| parse::<PageQuery>(query).unwrap().parse().map(|page| page.limit);
        assert_eq!(page("").unwrap(), 50);
        assert_eq!(page("limit=200").unwrap(), 200);
        for bad in ["limit=0", "limit=201", "cursor=x"] {
            assert_eq!(page(bad).unwrap_err().errors.len(), 1, "{bad}");
        }
    }
}
