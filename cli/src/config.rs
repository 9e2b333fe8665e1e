//! The configuration of `curlew`: flags over environment over `curlew.toml` over defaults.
//!
//! [`settings`] is the one table of what can be set; [`kind`] says which texts a setting takes; [`sources`] gathers what
//! was given where. [`load`] puts them together and reports every mistake at once.

mod flags;
mod kind;
mod mistake;
mod secret_url;
mod settings;
mod sources;
#[cfg(test)]
mod tests;

pub use flags::{CommonFlags, Flags, ServeFlags};
pub use kind::{Database, LogFormat, Registration};
pub use mistake::{Mistake, Mistakes};
pub use settings::{Config, Log, default_data_dir, describe};

use kind::Kind;
use settings::Setting;
use sources::{Source, Sources};
use std::ffi::OsString;

/// A valid configuration and what should be said about where it came from.
#[derive(Debug)]
pub struct Loaded {
    /// What to run with.
    pub config: Config,
    /// One line each: things given that have no effect.
    pub warnings: Vec<String>,
}

/// Reads all sources. Nothing is created or bound, so a mistake costs nothing.
///
/// # Errors
/// Every mistake of every source, the secret parts of values hidden. A value that a stronger source overrides is not
/// looked at.
pub fn load(
    flags: &Flags,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Loaded, Mistakes> {
    let mut resolver = Resolver::default();
    resolver.sources.read_file(flags.config.as_deref(), &mut resolver.mistakes);
    resolver.sources.read_environment(environment, &mut resolver.mistakes);
    resolver.sources.read_flags(flags, &mut resolver.mistakes);
    let config = Config::resolve(&mut resolver);
    resolver.check_combinations(&config);
    if resolver.mistakes.is_empty() {
        Ok(Loaded { config, warnings: resolver.sources.warnings })
    } else {
        Err(Mistakes(resolver.mistakes))
    }
}

/// Turns texts into values, collecting what cannot be turned.
#[derive(Default)]
struct Resolver {
    sources: Sources,
    mistakes: Vec<Mistake>,
}

impl Resolver {
    /// The value of `setting`. After a mistake its default, so that the search for further mistakes can go on.
    fn take<T>(&mut self, setting: &Setting, kind: &Kind<T>) -> T {
        if let Some(given) = self.sources.find(setting.name) {
            match given.wrong_shape.map_or_else(|| kind.parse(&given.text), |_| None) {
                Some(value) => return value,
                None => self.mistakes.push(Mistake {
                    source: Some(given.source.clone()),
                    key: Some(setting.name.to_owned()),
                    // A list or a table in the file has no text.
                    value: (given.wrong_shape.is_none() || !given.text.is_empty())
                        .then(|| kind.show(&given.text)),
                    problem: format!("must be {}", given.wrong_shape.unwrap_or(&kind.allowed)),
                }),
            }
        }
        kind.parse(setting.default).expect("every default is valid: `every_default_is_valid` tests it")
    }

    /// What no single setting can know. Silent about settings that are wrong by themselves.
    fn check_combinations(&mut self, config: &Config) {
        if matches!(config.database.url, Database::Postgres(_)) && config.auth.jwt_secret.is_none() {
            self.combination(
                &["auth.jwt_secret", "database.url"],
                "is required with PostgreSQL, because all nodes have to share it: set CURLEW_AUTH_JWT_SECRET to at \
                 least 32 random bytes, such as from `openssl rand -hex 32`"
                    .to_owned(),
            );
        }
        if config.http.listen == config.mqtt.listen && config.http.listen.port() != 0 {
            self.combination(
                &["mqtt.listen", "http.listen"],
                format!("must differ from http.listen, and both are {}", config.http.listen),
            );
        }
        self.check_tls(config);
        if config.limits.text_bytes >= config.limits.mqtt_packet_bytes {
            self.combination(
                &["limits.text_bytes", "limits.mqtt_packet_bytes"],
                format!(
                    "must be less than limits.mqtt_packet_bytes ({}), and is {}",
                    config.limits.mqtt_packet_bytes, config.limits.text_bytes
                ),
            );
        }
    }

    fn check_tls(&mut self, config: &Config) {
        let Config { tls, http, mqtt, .. } = config;
        let Some(listen) = tls.listen else {
            for (key, given) in [
                ("tls.certificate", &tls.certificate),
                ("tls.key", &tls.key),
                ("tls.client_ca", &tls.client_ca),
            ] {
                if given.is_some() {
                    self.sources.warnings.push(format!("{key} has no effect without tls.listen"));
                }
            }
            return;
        };
        for (key, given) in [("tls.certificate", &tls.certificate), ("tls.key", &tls.key)] {
            if given.is_none() {
                self.combination(&[key, "tls.listen"], "is required with tls.listen".to_owned());
            }
        }
        for (key, other) in [("http.listen", http.listen), ("mqtt.listen", mqtt.listen)] {
            if listen == other && listen.port() != 0 {
                self.combination(
                    &["tls.listen", key],
                    format!("must differ from {key}, and both are {listen}"),
                );
            }
        }
    }

    fn combination(&mut self, keys: &[&str], problem: String) {
        let already_wrong = |mistake: &Mistake| mistake.key.as_deref().is_some_and(|key| keys.contains(&key));
        if !self.mistakes.iter().any(already_wrong) {
            let source = self.sources.find(keys[0]).map(|given| given.source.clone());
            self.mistakes.push(Mistake { source, key: Some(keys[0].to_owned()), value: None, problem });
        }
    }
}
