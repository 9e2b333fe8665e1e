//! Settings on the command line.

use curlew_domain::secret::Secret;
use std::path::PathBuf;

/// Flags of every command that opens the data directory.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct CommonFlags {
    /// Configuration file [default: curlew.toml, if it is there]
    #[arg(long, value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Directory of the database, the media and the generated secret [default: ./curlew-data]
    #[arg(long, value_name = "PATH")]
    pub data_dir: Option<String>,
    /// postgres://USER:PASSWORD@HOST:PORT/DATABASE [default: SQLite in the data directory]
    #[arg(long, value_name = "URL", value_parser = secret_text)]
    pub database_url: Option<Secret<String>>,
}

/// Flags of `curlew serve` that are settings.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ServeFlags {
    #[command(flatten)]
    pub common: CommonFlags,
    /// Address of the HTTP server, port 0: any [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR:PORT")]
    pub http: Option<String>,
    /// Address of the MQTT server, port 0: any [default: 127.0.0.1:1883]
    #[arg(long, value_name = "ADDR:PORT")]
    pub mqtt: Option<String>,
    /// Not supported by this version
    #[arg(long, value_name = "URL", hide = true, value_parser = secret_text)]
    pub redis_url: Option<Secret<String>>,
}

#[expect(clippy::unnecessary_wraps, reason = "clap wants a Result")]
fn secret_text(text: &str) -> Result<Secret<String>, std::convert::Infallible> {
    Ok(Secret::new(text.to_owned()))
}

/// The flags of any command, ready to be merged with the other sources.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// The file named by `--config`.
    pub config: Option<PathBuf>,
    /// Flag, setting, value. Secret until the setting's kind says what may be shown.
    pub(super) values: Vec<(&'static str, &'static str, Secret<String>)>,
    /// Whether `--redis-url` was given.
    pub(super) redis: bool,
}

impl From<&CommonFlags> for Flags {
    fn from(flags: &CommonFlags) -> Self {
        let mut all = Self { config: flags.config.clone(), ..Self::default() };
        all.set("--data-dir", "server.data_dir", flags.data_dir.clone().map(Secret::new));
        all.set("--database-url", "database.url", flags.database_url.clone());
        all
    }
}

impl From<&ServeFlags> for Flags {
    fn from(flags: &ServeFlags) -> Self {
        let mut all = Self::from(&flags.common);
        all.set("--http", "http.listen", flags.http.clone().map(Secret::new));
        all.set("--mqtt", "mqtt.listen", flags.mqtt.clone().map(Secret::new));
        all.redis = flags.redis_url.is_some();
        all
    }
}

impl Flags {
    fn set(&mut self, flag: &'static str, setting: &'static str, value: Option<Secret<String>>) {
        self.values.extend(value.map(|value| (flag, setting, value)));
    }
}
