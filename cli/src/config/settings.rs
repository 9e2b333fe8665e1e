//! The table of all settings. A line here is all it takes: file, environment, help and types follow from it.

use super::kind::{Database, LogFormat, Registration};
use super::{Resolver, kind};
use curlew_api::CorsOrigins;
use curlew_domain::{receipt::DeliveredOn, secret::Secret};
use ipnet::IpNet;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// One line of the table.
pub(super) struct Setting {
    /// `section.key`, as in `curlew.toml`.
    pub(super) name: &'static str,
    /// What it is when nobody says anything.
    pub(super) default: &'static str,
    /// For people.
    doc: &'static str,
}

impl Setting {
    /// `CURLEW_<SECTION>_<KEY>`.
    pub(super) fn environment(&self) -> String {
        format!("CURLEW_{}", self.name.replace('.', "_").to_uppercase())
    }
}

macro_rules! settings {
    ($(
        $(#[doc = $section_doc:literal])+
        $section:ident: $Section:ident {$(
            $(#[doc = $doc:literal])+
            $key:ident: $type:ty = $default:literal, $kind:expr;
        )+}
    )+) => {
        /// Everything that can be configured, checked.
        #[derive(Clone, Debug)]
        pub struct Config {$(
            $(#[doc = $section_doc])+
            pub $section: $Section,
        )+}

        $(
            $(#[doc = $section_doc])+
            #[derive(Clone, Debug)]
            pub struct $Section {$(
                $(#[doc = $doc])+
                pub $key: $type,
            )+}
        )+

        /// Every setting, by section.
        pub(super) const SETTINGS: &[Setting] = &[$($(
            Setting {
                name: concat!(stringify!($section), ".", stringify!($key)),
                default: $default,
                doc: concat!($($doc),+),
            },
        )+)+];

        impl Config {
            /// Takes every setting from `resolver`, in the order of the table.
            pub(super) fn resolve(resolver: &mut Resolver) -> Self {
                let mut table = SETTINGS.iter();
                Self {$(
                    $section: $Section {$(
                        $key: resolver.take(table.next().expect("made by the same macro"), &$kind),
                    )+},
                )+}
            }
        }
    };
}

const DAY_MS: u64 = 86_400_000;

settings! {
    /// The process.
    server: Server {
        /// Directory of the database, the media, the generated secret and the admin socket; relative to the working
        /// directory.
        data_dir: PathBuf = "./curlew-data", kind::path();
        /// Host under which clients reach this server, told in login answers; empty: the address it listens on.
        public_host: Option<String> = "", kind::optional(kind::host());
    }
    /// REST, and MQTT over WebSocket.
    http: Http {
        /// Address of the HTTP server; port 0: any.
        listen: SocketAddr = "127.0.0.1:8080", kind::address();
        /// Origins of web pages, between commas, that may use the API from a browser, with their scheme; *: all.
        cors_origins: CorsOrigins = "", kind::origins();
    }
    /// MQTT over TCP.
    mqtt: Mqtt {
        /// Address of the MQTT server; port 0: any.
        listen: SocketAddr = "127.0.0.1:1883", kind::address();
        /// Longest Keep Alive of a client, in seconds; who asks for more, or for none, gets this one, if it speaks MQTT 5,
        /// which can tell it. 0: as the client asks.
        keep_alive_max: u16 = "0", kind::whole(0..=65_535);
    }
    /// MQTT over TLS.
    tls: Tls {
        /// Address of the MQTT server over TLS, such as 0.0.0.0:8883; empty: none.
        listen: Option<SocketAddr> = "", kind::optional(kind::address());
        /// PEM file of the server's certificate and those between it and a root. This file and the next two are
        /// followed: once replaced, they count for new connections.
        certificate: Option<PathBuf> = "", kind::optional(kind::path());
        /// PEM file of the certificate's private key.
        key: Option<PathBuf> = "", kind::optional(kind::path());
        /// PEM file of the issuers of client certificates; given: every client over TLS must show one.
        client_ca: Option<PathBuf> = "", kind::optional(kind::path());
    }
    /// Load balancers.
    proxy: Proxy {
        /// IP addresses and networks of load balancers, between commas. They must send a PROXY header of version 2 on
        /// the MQTT ports; from nobody else is one read.
        trusted: Vec<IpNet> = "", kind::networks();
        /// Whether they send it on the HTTP port, too (REST, MQTT over WebSocket). If not, they are believed there when they
        /// say in X-Forwarded-For or Forwarded from where a request comes.
        http: bool = "false", kind::boolean();
    }
    /// Measurements.
    metrics: Metrics {
        /// Whether /metrics answers others than loopback.
        public: bool = "false", kind::boolean();
    }
    /// The database.
    database: DatabaseSettings {
        /// postgres://USER:PASSWORD@HOST:PORT/DATABASE; empty: SQLite in the data directory.
        url: Database = "", kind::database();
    }
    /// Accounts and logins.
    auth: Auth {
        /// Key that signs tokens, at least 32 bytes; required with PostgreSQL, otherwise generated in the data directory.
        jwt_secret: Option<Secret<String>> = "", kind::secret(32);
        /// Life of an access token: 15m, 1h, 7d, or seconds.
        access_token_ttl: Duration = "1h", kind::duration(1_000..=365 * DAY_MS, "a duration from 1s to 365d, such as 15m, 1h, 7d or 3600 (seconds)");
        /// Cost of hashing a password; each step doubles it.
        bcrypt_cost: u32 = "12", kind::whole(4..=16);
        /// Who may register: open, invite or closed.
        registration: Registration = "open", kind::choice();
    }
    /// Devices of users.
    devices: DeviceSettings {
        /// A device that nobody has seen for so long is retired: its sign-ins end and its MQTT sessions are forgotten.
        /// 0: never.
        retire_after: Duration = "60d", kind::duration_or_zero(1_000..=36_500 * DAY_MS, "a duration of 1s or more, such as 60d, or 0 for never");
    }
    /// Rules of chats.
    chats: Chats {
        /// Whether a private chat, and adding somebody to a group, needs an accepted contact.
        require_contact: bool = "true", kind::boolean();
    }
    /// Whether people are there.
    presence: Presence {
        /// How long somebody's last connection may be gone before their contacts are told; 0: not at all.
        grace: Duration = "10s", kind::duration(0..=600_000, "a duration from 0 to 10m, such as 10s");
    }
    /// DELIVERED and READ.
    receipts: Receipts {
        /// When a message is DELIVERED: ack, once a device has it; open, once the app was opened since.
        delivered_on: DeliveredOn = "ack", kind::choice();
    }
    /// Bounds on what clients may do.
    limits: Limits {
        /// Bytes of a message's text.
        text_bytes: usize = "16384", kind::whole(1..=1_048_576);
        /// How long a sender may delete a message for everyone: 1h, 2d; 0: for ever.
        delete_window: Duration = "2d", kind::duration(0..=36_500 * DAY_MS, "a duration such as 1h or 2d, or 0 for no limit");
        /// Members of a group.
        group_members: usize = "1024", kind::whole(2..=65_536);
        /// Devices of a user with a live login.
        devices: usize = "10", kind::whole(1..=1_000);
        /// Bytes of an MQTT packet, after authentication.
        mqtt_packet_bytes: usize = "262144", kind::whole(1_024..=16_777_216);
        /// Unacknowledged MQTT messages of a session, each way.
        in_flight: u16 = "64", kind::whole(1..=65_535);
        /// Commands that a user may publish per second, four times as many at once; who is faster is read later over
        /// MQTT and refused over REST. 0: no limit.
        messages_per_second: u32 = "30", kind::whole(0..=1_000_000);
        /// The same for topics under users/{me}/x/ and chats/{chat}/x/.
        plain_messages_per_second: u32 = "200", kind::whole(0..=1_000_000);
        /// Sign-ins to one account from one address, per minute; 0: no limit, here and below.
        login_per_minute: u32 = "5", kind::whole(0..=1_000_000);
        /// Sign-ins to one account, per hour.
        login_per_account_per_hour: u32 = "100", kind::whole(0..=1_000_000);
        /// Sign-ins from one address (of IPv6: from one /64), per minute.
        login_per_address_per_minute: u32 = "30", kind::whole(0..=1_000_000);
        /// Registrations from one address, per hour.
        registration_per_address_per_hour: u32 = "10", kind::whole(0..=1_000_000);
        /// Contact requests of one user, per day.
        contact_requests_per_day: u32 = "50", kind::whole(0..=1_000_000);
        /// MQTT connections of this node; as many again over HTTP.
        connections: usize = "10000", kind::whole(1..=10_000_000);
        /// Connections from one address (of IPv6: from one /64; loopback is not counted), MQTT and HTTP each; 0: no
        /// limit. Phones of one carrier share addresses.
        connections_per_address: usize = "1000", kind::whole(0..=10_000_000);
    }
    /// The writer.
    commit: Commit {
        /// How long a failing commit is tried again before the client hears of it.
        patience: Duration = "10s", kind::duration(100..=300_000, "a duration from 100ms to 5m, such as 10s");
        /// Commands that may wait for their commit.
        queue: usize = "4096", kind::whole(1..=1_048_576);
    }
    /// The log, on standard error.
    log: Log {
        /// text or json.
        format: LogFormat = "text", kind::choice();
        /// Level, or a list such as info,curlew_broker=debug.
        level: String = "info", kind::log_filter();
    }
}

/// The data directory that nobody has to name.
pub fn default_data_dir() -> &'static Path {
    let setting = SETTINGS.iter().find(|setting| setting.name == "server.data_dir");
    Path::new(setting.expect("it is in the table").default)
}

/// The table for people: the end of `curlew serve --help`.
pub fn describe() -> String {
    let line = |setting: &Setting| {
        let default = if setting.default.is_empty() { "empty" } else { setting.default };
        format!("  {}  ({default})  {}\n     {}\n", setting.name, setting.environment(), setting.doc.trim())
    };
    format!(
        "Settings, in curlew.toml as [section] key = value, and as environment variables:\n\n{}\n\
         Also understood: PORT (HTTP, all interfaces), DATABASE_URL, JWT_SECRET, JWT_EXPIRES_IN.",
        SETTINGS.iter().map(line).collect::<Vec<_>>().join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_valid() {
        let config = Config::resolve(&mut Resolver::default());
        assert_eq!(config.http.listen.port(), 8080);
        assert_eq!(config.mqtt.listen.port(), 1883);
        assert_eq!(config.auth.access_token_ttl, Duration::from_hours(1));
        assert_eq!(config.auth.registration, Registration::Open);
        assert_eq!(config.log.format, LogFormat::Text);
        assert!(config.chats.require_contact && !config.metrics.public);
        assert!(config.auth.jwt_secret.is_none());
    }

    #[test]
    fn the_help_names_every_setting() {
        let text = describe();
        assert!(text.contains("auth.bcrypt_cost  (12)  CURLEW_AUTH_BCRYPT_COST"));
        assert!(SETTINGS.iter().all(|setting| text.contains(setting.name)));
    }
}
