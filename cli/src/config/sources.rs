//! What was given where: file, environment, flags.

use super::{Flags, mistake::Mistake, settings::SETTINGS};
use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt, fs, io,
    path::{Path, PathBuf},
};

/// Read when no `--config` is given and it is there.
const DEFAULT_FILE: &str = "curlew.toml";

/// Variables of common hosting platforms and the settings they mean. `CURLEW_…` wins over them.
const ALIASES: &[(&str, &str)] = &[
    ("DATABASE_URL", "database.url"),
    ("JWT_SECRET", "auth.jwt_secret"),
    ("JWT_EXPIRES_IN", "auth.access_token_ttl"),
    ("PORT", "http.listen"),
];

/// Variables of parts that this version does not have.
const WITHOUT_EFFECT: &[&str] = &[
    "REDIS_URL",
    "REDIS_HOST",
    "REDIS_PORT",
    "REDIS_USERNAME",
    "REDIS_PASSWORD",
    "CLOUDINARY_CLOUD_NAME",
    "CLOUDINARY_API_KEY",
    "CLOUDINARY_API_SECRET",
];

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// This flag.
    Flag(&'static str),
    /// This environment variable.
    Environment(String),
    /// This file.
    File(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The strongest value given for one setting.
pub(super) struct Given {
    pub(super) source: Source,
    pub(super) text: String,
    /// What the source wants, when `text` is not even that.
    pub(super) wrong_shape: Option<&'static str>,
}

/// All sources merged: they are read from the weakest to the strongest.
#[derive(Default)]
pub(super) struct Sources {
    given: BTreeMap<&'static str, Given>,
    pub(super) warnings: Vec<String>,
}

impl Sources {
    pub(super) fn find(&self, setting: &str) -> Option<&Given> {
        self.given.get(setting)
    }

    fn give(
        &mut self,
        setting: &'static str,
        source: Source,
        text: String,
        wrong_shape: Option<&'static str>,
    ) {
        self.given.insert(setting, Given { source, text, wrong_shape });
    }

    /// Reads `file`, which must exist, or the default file, which need not.
    pub(super) fn read_file(&mut self, file: Option<&Path>, mistakes: &mut Vec<Mistake>) {
        let path = file.unwrap_or(Path::new(DEFAULT_FILE));
        let source = Source::File(path.to_owned());
        let whole = |problem| Mistake { source: Some(source.clone()), key: None, value: None, problem };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if file.is_none() && error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return mistakes.push(whole(format!("cannot be read: {error}"))),
        };
        match text.parse::<toml::Table>() {
            Ok(table) => self.read_table(table, &source, mistakes),
            // Not the error's own text: it quotes the line, which may hold a secret.
            Err(error) => {
                let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
                mistakes.push(whole(format!("line {line} is not valid TOML: {}", one_line(error.message()))));
            }
        }
    }

    fn read_table(&mut self, table: toml::Table, source: &Source, mistakes: &mut Vec<Mistake>) {
        let mut mistake = |key: String, problem: String| {
            mistakes.push(Mistake { source: Some(source.clone()), key: Some(key), value: None, problem });
        };
        for (section, content) in table {
            let prefix = format!("{section}.");
            let keys: Vec<&str> = SETTINGS.iter().filter_map(|s| s.name.strip_prefix(&prefix)).collect();
            let toml::Value::Table(content) = content else {
                mistake(section, "is outside of any section; write [section] above it".to_owned());
                continue;
            };
            if keys.is_empty() {
                mistake(format!("[{section}]"), format!("is no known section; there are {}", sections()));
                continue;
            }
            for (key, value) in content {
                let name = format!("{section}.{key}");
                let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
                    mistake(name, format!("is no known key; [{section}] has {}", keys.join(", ")));
                    continue;
                };
                let (text, wrong_shape) = match value {
                    toml::Value::String(text) => (text, None),
                    toml::Value::Integer(number) => (number.to_string(), None),
                    toml::Value::Boolean(truth) => (truth.to_string(), None),
                    toml::Value::Float(_) => {
                        (String::new(), Some("a text, a whole number, or true or false, not a float"))
                    }
                    toml::Value::Datetime(_) => {
                        (String::new(), Some("a text, a whole number, or true or false, not a date"))
                    }
                    toml::Value::Array(_) => (String::new(), Some("one value, not a list")),
                    toml::Value::Table(_) => (String::new(), Some("one value, not a table")),
                };
                self.give(setting.name, source.clone(), text, wrong_shape);
            }
        }
    }

    /// Reads the variables that concern us. An empty one counts as not given: that is how compose files and shells
    /// hand on what nobody set.
    pub(super) fn read_environment(
        &mut self,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        mistakes: &mut Vec<Mistake>,
    ) {
        let (mut ours, mut aliases) = (Vec::new(), Vec::new());
        for (name, value) in environment {
            let name = name.to_string_lossy().into_owned();
            if let Some((_, setting)) = ALIASES.iter().find(|(alias, _)| *alias == name) {
                aliases.push((name, *setting, value));
            } else if WITHOUT_EFFECT.contains(&name.as_str()) && !value.is_empty() {
                self.warnings.push(format!("environment variable {name} has no effect in this version"));
            } else if let Some(setting) = SETTINGS.iter().find(|setting| setting.environment() == name) {
                ours.push((name, setting.name, value));
            } else if name.starts_with("CURLEW_") && !name.starts_with("CURLEW_TEST_") {
                self.warnings
                    .push(format!("environment variable {name} is no known setting and has no effect"));
            }
        }
        self.warnings.sort();
        for (name, setting, value) in aliases.into_iter().chain(ours) {
            self.read_variable(name, setting, &value, mistakes);
        }
    }

    fn read_variable(
        &mut self,
        name: String,
        setting: &'static str,
        value: &OsStr,
        mistakes: &mut Vec<Mistake>,
    ) {
        let is_port = name == "PORT";
        let source = Source::Environment(name);
        match value.to_str() {
            Some("") => {}
            Some(port) if is_port => {
                let number = port.parse::<u16>().ok();
                let text = number.map_or_else(|| port.to_owned(), |number| format!("0.0.0.0:{number}"));
                self.give(setting, source, text, number.is_none().then_some("a port number, 0 to 65535"));
            }
            Some(text) => self.give(setting, source, text.to_owned(), None),
            None => {
                let problem = "is not valid UTF-8".to_owned();
                mistakes.push(Mistake {
                    source: Some(source),
                    key: Some(setting.to_owned()),
                    value: None,
                    problem,
                });
            }
        }
    }

    /// Reads what stood on the command line.
    pub(super) fn read_flags(&mut self, flags: &Flags, mistakes: &mut Vec<Mistake>) {
        for (flag, setting, value) in &flags.values {
            // Exposed to be parsed; the setting's kind decides what may be shown.
            self.give(setting, Source::Flag(flag), value.expose().clone(), None);
        }
        if flags.redis {
            mistakes.push(Mistake {
                source: Some(Source::Flag("--redis-url")),
                key: None,
                value: None,
                problem: "Redis is not supported by this version".to_owned(),
            });
        }
    }
}

fn sections() -> String {
    let mut names: Vec<&str> = SETTINGS
        .iter()
        .filter_map(|setting| setting.name.split_once('.'))
        .map(|(section, _)| section)
        .collect();
    names.dedup();
    names.join(", ")
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(", ")
}
