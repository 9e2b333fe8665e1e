//! Which adapter stands behind which port. Nothing else in this crate names the store, the broker or the API.

mod forwarded;
mod http;
mod operator;

pub use operator::Operator;

use crate::{
    address::reachable,
    admin::{AdminHandler, AdminReply, AdminRequest, Endpoints},
    config::{Config, Database, Registration},
    data_dir::{DataDirError, LockedDataDir},
    failure::Failure,
};
use axum::middleware::map_response;
use curlew_api::{ApiState, RateLimits, limits::Limiter, protect};
use curlew_broker::{
    Registry,
    connection::{Edge, catch_ups},
    listener::{
        gate::{Gate, Opening},
        proxy::Trusted,
        tcp,
        tls::{self, Tls, TlsError, TlsFiles},
        websocket,
    },
    places::Places,
    typing::Typing,
};
use curlew_domain::{
    clock::System,
    ports::{relay::Relay, store::Store},
    rate::{RatesByUser, UserLimits},
    rules::MembershipLimits,
    secret::Secret,
    services::{self, AccountsConfig, Base, Limits, RegistrationMode, Services},
};
use curlew_store::{DatabaseClaim, Engine, SqlStore, StoreConfig};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::{
    fs::{OpenOptions, Permissions},
    io,
    net::SocketAddr,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long connections and requests may take to end after a signal.
const DRAIN: Duration = Duration::from_secs(4);
/// How long a PROXY header and a TLS handshake may take, each; CONNECT has as long after them.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A header of HTTP must have come by then, counted from accept or from the answer before: so long may a connection be
/// idle, too.
const HTTP_HEADER: Duration = Duration::from_secs(30);
/// How often expired sessions are forgotten and metrics are tidied.
const HOUSEKEEPING: Duration = Duration::from_mins(1);
/// Devices are looked through for those to be retired at least so often.
const RETIRING: Duration = Duration::from_hours(1);
/// Histogram buckets.
const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const SIZES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];
/// Most bytes of a text once it is escaped in JSON, per byte of text, and the rest of a body.
const ESCAPED: usize = 6;
const BODY_REST: usize = 4096;

/// File of the embedded database, in the data directory.
const DATABASE: &str = "curlew.db";

/// Whether there is a database that a server or command has worked on, or that others may have.
pub fn has_data(config: &Config) -> bool {
    match config.database.url {
        Database::Embedded => config.server.data_dir.join(DATABASE).exists(),
        Database::Postgres(_) => true,
    }
}

/// Makes the file readable by its owner alone, whatever the directory allows; SQLite gives the files beside it the same mode.
fn private(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))
}

/// A store with its services, the registry of connections and the secret.
struct Core {
    store: Arc<SqlStore>,
    services: Services,
    registry: Arc<Registry>,
}

impl Core {
    async fn open(config: &Config, data_dir: &LockedDataDir, endpoints: &Endpoints) -> Result<Self, Failure> {
        let secret = jwt_secret(config, data_dir)?;
        let engine = match &config.database.url {
            Database::Embedded => {
                let path = data_dir.path().join(DATABASE);
                private(&path).map_err(|error| {
                    Failure::unavailable(format!("cannot write the database {}: {error}", path.display()))
                })?;
                Engine::Sqlite(path)
            }
            Database::Postgres(url) => Engine::Postgres(url.expose().clone()),
        };
        let registry = Registry::new(config.presence.grace);
        let relay: Arc<dyn Relay> = registry.clone();
        let store_config = StoreConfig {
            queue: config.commit.queue,
            patience: config.commit.patience,
            ..StoreConfig::new(engine)
        };
        let opened = SqlStore::open(store_config, Arc::clone(&relay)).await;
        let store = Arc::new(opened.map_err(|error| Failure::unavailable(error.to_string()))?);
        let base = Base::new(Arc::clone(&store) as Arc<dyn Store>, relay);
        let services = Services::new(base, accounts(config, &secret, endpoints), limits(config)).await;
        let services = services
            .map_err(|error| Failure::unavailable(format!("the database does not answer: {error}")))?;
        Ok(Self { store, services, registry })
    }
}

fn accounts(config: &Config, secret: &Secret<String>, endpoints: &Endpoints) -> AccountsConfig {
    AccountsConfig {
        secret: Secret::new(secret.expose().clone().into_bytes()),
        access_token_ttl: config.auth.access_token_ttl,
        bcrypt_cost: config.auth.bcrypt_cost,
        registration: match config.auth.registration {
            Registration::Open => RegistrationMode::Open,
            Registration::Invite => RegistrationMode::Invite,
            Registration::Closed => RegistrationMode::Closed,
        },
        device_limit: u32::try_from(config.limits.devices).unwrap_or(u32::MAX),
        endpoints: told(config.server.public_host.as_deref(), endpoints),
    }
}

/// What clients are told of where to connect.
fn told(public_host: Option<&str>, endpoints: &Endpoints) -> services::Endpoints {
    let authority = |address: SocketAddr| match public_host {
        None => reachable(address).to_string(),
        Some(host) if host.contains(':') => format!("[{host}]:{}", address.port()),
        Some(host) => format!("{host}:{}", address.port()),
    };
    services::Endpoints {
        tcp: format!("mqtt://{}", authority(endpoints.mqtt)),
        tls: endpoints.mqtts.map(|address| format!("mqtts://{}", authority(address))),
        ws: format!("ws://{}/mqtt", authority(endpoints.http)),
    }
}

fn limits(config: &Config) -> Limits {
    Limits {
        text_bytes: config.limits.text_bytes,
        delete_window: Some(config.limits.delete_window).filter(|window| !window.is_zero()),
        membership: MembershipLimits {
            group_members: u32::try_from(config.limits.group_members).unwrap_or(u32::MAX),
            require_contact: config.chats.require_contact,
        },
    }
}

fn rate_limits(config: &Config) -> RateLimits {
    let limits = &config.limits;
    RateLimits {
        login_per_minute: limits.login_per_minute,
        login_per_account_per_hour: limits.login_per_account_per_hour,
        login_per_address_per_minute: limits.login_per_address_per_minute,
        registration_per_address_per_hour: limits.registration_per_address_per_hour,
        contact_requests_per_day: limits.contact_requests_per_day,
    }
}

/// A running node.
pub struct Node {
    /// Where it listens.
    pub endpoints: Endpoints,
    core: Core,
    http: TcpListener,
    mqtt: TcpListener,
    mqtts: Option<(TcpListener, Tls)>,
    config: Config,
    metrics: PrometheusHandle,
    shutdown: CancellationToken,
    /// Until the end of [`Self::run`].
    _claim: Option<DatabaseClaim>,
}

impl Node {
    /// Binds every port, then opens the store. It serves once it [runs](Self::run), and stops when `shutdown` is cancelled.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] for a file or port that cannot be had and a database that cannot be reached,
    /// [`Failure::Usage`] for TLS files that are wrong, each with one clear line.
    pub async fn start(
        config: &Config,
        data_dir: &LockedDataDir,
        shutdown: CancellationToken,
    ) -> Result<Self, Failure> {
        let tls = load_tls(config).await?;
        let http = bind(config.http.listen, "http.listen").await?;
        let mqtt = bind(config.mqtt.listen, "mqtt.listen").await?;
        let mqtts = match tls {
            Some((listen, tls)) => Some((bind(listen, "tls.listen").await?, tls)),
            None => None,
        };
        let endpoints = Endpoints {
            http: address(&http)?,
            mqtt: address(&mqtt)?,
            mqtts: mqtts.as_ref().map(|(listener, _)| address(listener)).transpose()?,
        };
        // Before the store, which registers what it measures.
        let metrics = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_size".to_owned()), SIZES))
            .map_err(anyhow::Error::from)?
            .install_recorder()
            .map_err(anyhow::Error::from)?;
        let claim = match &config.database.url {
            Database::Embedded => None,
            Database::Postgres(url) => {
                let claim = DatabaseClaim::take(url.expose()).await;
                Some(claim.map_err(|error| Failure::unavailable(error.to_string()))?)
            }
        };
        let core = Core::open(config, data_dir, &endpoints).await?;
        Ok(Self {
            endpoints,
            core,
            http,
            mqtt,
            mqtts,
            config: config.clone(),
            metrics,
            shutdown,
            _claim: claim,
        })
    }

    /// Does what administrative requests ask for.
    pub fn operator(&self) -> Arc<Operator> {
        Arc::new(Operator::new(self.core.services.clone(), Some(self.endpoints.clone())))
    }

    /// Serves until shutdown has stopped accepting, sent DISCONNECT 0x8B, flushed and closed; or until a part fails.
    pub async fn run(self) -> Result<(), Failure> {
        let Self { core, http, mqtt, mqtts, config, metrics, shutdown, .. } = self;
        let Core { store, services, registry } = core;
        let connections = TaskTracker::new();
        let rates = RatesByUser::new(UserLimits {
            messages_per_second: config.limits.messages_per_second,
            plain_messages_per_second: config.limits.plain_messages_per_second,
        });
        let edge = Arc::new(Edge {
            services: services.clone(),
            registry: Arc::clone(&registry),
            wills: Arc::default(),
            clock: Arc::new(System),
            entropy: Arc::new(System),
            max_packet_bytes: u32::try_from(config.limits.mqtt_packet_bytes).unwrap_or(u32::MAX),
            in_flight: config.limits.in_flight,
            keep_alive_max: config.mqtt.keep_alive_max,
            typing: Typing::default(),
            delivered_on: config.receipts.delivered_on,
            rates: Arc::clone(&rates),
            catch_ups: catch_ups(),
        });
        let gate = gate("curlew_mqtt_connections_refused_total", Opening::Header, &config);
        let background = TaskTracker::new();
        let last = CancellationToken::new();
        let receipts = Arc::clone(&services.receipts);
        let receipts_stop = last.clone();
        background.spawn(async move { receipts.run(receipts_stop).await });
        let (publishing, publishing_stop) = (Arc::clone(&edge), last.clone());
        background.spawn(async move { publishing.wills.run(&publishing, publishing_stop).await });
        let (telling, telling_stop) = (Arc::clone(&edge), last.clone());
        background.spawn(async move { telling.registry.presence.run(&telling, telling_stop).await });
        let (typing, typing_stop) = (Arc::clone(&edge), last.clone());
        background.spawn(async move { typing.typing.run(&typing, typing_stop).await });
        let retire_after = Some(config.devices.retire_after).filter(|after| !after.is_zero());
        background.spawn(keep_house(services.clone(), metrics.clone(), retire_after, last.clone()));

        let mut state = ApiState::new(services);
        state.metrics = Some(metrics);
        state.metrics_public = config.metrics.public;
        state.limits.body_bytes = state.limits.body_bytes.max(config.limits.text_bytes * ESCAPED + BODY_REST);
        state.limiter = Arc::new(Limiter::new(rate_limits(&config), rates));
        state.cors = config.http.cors_origins.clone();
        let requests = state.tasks.clone();
        let websocket = websocket::router(Arc::clone(&gate), Arc::clone(&edge), connections.clone())
            .layer(map_response(protect));
        let router = curlew_api::router(state).merge(websocket);
        let opening = if config.proxy.http { Opening::Header } else { Opening::Plain };
        let web_gate = self::gate("curlew_http_connections_refused_total", opening, &config);
        let web = http::run(http, web_gate, router, HTTP_HEADER, shutdown.clone());
        let accept =
            tcp::run(mqtt, Arc::clone(&gate), Arc::clone(&edge), connections.clone(), shutdown.clone());
        let accept_tls = async {
            if let Some((listener, tls)) = mqtts {
                tls::run(listener, tls, gate, edge, connections.clone(), shutdown.clone()).await;
            }
        };

        // Ends when accepting has ended and the requests under way are answered, or the patience with them.
        let web = async {
            tokio::select! {
                () = web => {}
                () = async { shutdown.cancelled().await; tokio::time::sleep(DRAIN).await } => {}
            }
        };
        let drain = async {
            shutdown.cancelled().await;
            registry.shut_down();
        };
        tokio::join!(web, accept, accept_tls, drain);

        requests.close();
        connections.close();
        let drained =
            tokio::time::timeout(DRAIN, async { tokio::join!(requests.wait(), connections.wait()) }).await;
        if drained.is_err() {
            tracing::warn!("some connections did not end within {} s", DRAIN.as_secs());
        }
        last.cancel();
        background.close();
        background.wait().await;
        store.close().await;
        Ok(())
    }
}

/// Forgets expired sessions, finishes deletions that were cut off, retires devices that nobody has seen for long, and lets
/// the metrics forget what nobody asked for.
async fn keep_house(
    services: Services,
    metrics: PrometheusHandle,
    retire_after: Option<Duration>,
    stop: CancellationToken,
) {
    let mut retired: Option<Instant> = None;
    loop {
        match services.sessions.prune().await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "expired sessions forgotten"),
            Err(error) => tracing::warn!(%error, "expired sessions could not be forgotten"),
        }
        if let Err(error) = services.profiles.finish_deletions().await {
            tracing::warn!(%error, "the deletion of an account could not be finished");
        }
        // It looks at every device, and has no need to be exact.
        if let Some(after) = retire_after
            && retired.is_none_or(|at| at.elapsed() >= (after / 100).min(RETIRING))
        {
            tokio::select! {
                () = retire(&services, after) => retired = Some(Instant::now()),
                () = stop.cancelled() => return,
            }
        }
        metrics.run_upkeep();
        tokio::select! {
            () = tokio::time::sleep(HOUSEKEEPING) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn retire(services: &Services, after: Duration) {
    match services.devices.retire(after).await {
        Ok(0) => {}
        Ok(count) => tracing::info!(count, "devices retired that nobody has seen for long"),
        Err(error) => tracing::warn!(%error, "devices could not be retired"),
    }
}

/// Who may come in; `refused` counts the others.
fn gate(refused: &'static str, opening: Opening, config: &Config) -> Arc<Gate> {
    let limits = &config.limits;
    let places = Places::new(refused, limits.connections, limits.connections_per_address);
    let trusted = Trusted::new(config.proxy.trusted.clone());
    Arc::new(Gate { places, trusted, opening, patience: HANDSHAKE })
}

/// The certificate and where to use it, if TLS is on.
async fn load_tls(config: &Config) -> Result<Option<(SocketAddr, Tls)>, Failure> {
    let settings = &config.tls;
    let (Some(listen), Some(certificate), Some(key)) =
        (settings.listen, &settings.certificate, &settings.key)
    else {
        return Ok(None);
    };
    let client_ca = settings.client_ca.clone();
    let files = TlsFiles { certificate: certificate.clone(), key: key.clone(), client_ca };
    let tls = Tls::load(files).await.map_err(|error| {
        let failure = match error {
            TlsError::Unreadable { .. } => Failure::unavailable(error.to_string()),
            TlsError::Invalid { .. } => Failure::usage(error.to_string()),
        };
        failure.with_hint("tls.certificate, tls.key and tls.client_ca name PEM files")
    })?;
    Ok(Some((listen, tls)))
}

async fn bind(address: SocketAddr, setting: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::unavailable(format!("cannot listen on {address} ({setting}): {error}"))
            .with_hint(format!("stop what uses the port, or choose another address for {setting}"))
    })
}

fn address(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener.local_addr().map_err(|error| Failure::Internal(error.into()))
}

/// Carries out `request` on the store itself, without a server: opens it, works, closes it, and only then lets the lock
/// go.
pub async fn administer(
    config: &Config,
    data_dir: LockedDataDir,
    request: AdminRequest,
) -> Result<AdminReply, Failure> {
    let configured = Endpoints::from(config);
    let core = Core::open(config, &data_dir, &configured).await?;
    let reply = Operator::new(core.services.clone(), None).handle(request).await;
    core.store.close().await;
    drop(data_dir);
    Ok(reply?)
}

/// The configured secret, or the generated one of the data directory.
fn jwt_secret(config: &Config, data_dir: &LockedDataDir) -> Result<Secret<String>, DataDirError> {
    config.auth.jwt_secret.clone().map_or_else(|| data_dir.jwt_secret(), Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_the_public_host() {
        let endpoints = Endpoints {
            http: "0.0.0.0:80".parse().unwrap(),
            mqtt: "0.0.0.0:1883".parse().unwrap(),
            mqtts: Some("0.0.0.0:8883".parse().unwrap()),
        };
        let told = |host| {
            let services::Endpoints { tcp, tls, ws } = told(host, &endpoints);
            [tcp, tls.unwrap(), ws].join(" ")
        };
        assert_eq!(told(None), "mqtt://127.0.0.1:1883 mqtts://127.0.0.1:8883 ws://127.0.0.1:80/mqtt");
        let public = told(Some("chat.example"));
        assert_eq!(public, "mqtt://chat.example:1883 mqtts://chat.example:8883 ws://chat.example:80/mqtt");
        assert!(told(Some("2001:db8::1")).starts_with("mqtt://[2001:db8::1]:1883 "));
    }
}
