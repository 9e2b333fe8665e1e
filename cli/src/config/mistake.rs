//! What is wrong with a configuration.

use super::Source;
use std::fmt;

/// One mistake: where, which key, which value (secrets hidden), what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where the value was given; `None` when nothing was given.
    pub(super) source: Option<Source>,
    /// `section.key`; `None` when a source as a whole is wrong.
    pub(super) key: Option<String>,
    /// The value as it may be shown.
    pub(super) value: Option<String>,
    /// What is wrong and what is allowed.
    pub(super) problem: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(source) = &self.source {
            write!(f, "{source}: ")?;
        }
        match (&self.key, &self.value) {
            (Some(key), Some(value)) => write!(f, "{key} = {value}: ")?,
            (Some(key), None) => write!(f, "{key} ")?,
            (None, _) => {}
        }
        f.write_str(&self.problem)
    }
}

/// All mistakes of all sources; never empty.
#[derive(Debug, thiserror::Error)]
#[error("{} in the configuration", count(.0.len()))]
pub struct Mistakes(pub Vec<Mistake>);

fn count(mistakes: usize) -> String {
    if mistakes == 1 { "1 mistake".to_owned() } else { format!("{mistakes} mistakes") }
}
