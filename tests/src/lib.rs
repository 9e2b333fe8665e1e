//! The harness of the black-box tests: the real program as a real process ([`server`]), people who use it through its
//! public surfaces ([`actor`], over [`http`] and [`mqtt`]), and ways to break what it stands on ([`faults`]).
//!
//! A helper goes through a public surface; one that touches the database has a name that begins with `db_`. Nothing
//! here waits for time to pass ([`wait`]). What is not as a helper expects makes it panic, naming what was expected.

pub mod actor;
pub mod faults;
pub mod http;
pub mod mqtt;
pub mod mqttjs;
pub mod postgres;
pub mod server;
pub mod tls;
pub mod wait;

pub use actor::{Actor, Chat, Sent};
pub use http::{Answer, Http};
pub use mqtt::{Connection, Protocol, Received, raw::RawClient};
pub use serde_json::{Value, json};
pub use server::{Engine, TestServer};

/// Whether `CURLEW_TEST_REQUIRE` names this: then the tests that need it fail where it is missing.
pub fn required(name: &str) -> bool {
    std::env::var("CURLEW_TEST_REQUIRE")
        .is_ok_and(|names| names.split([',', ' ']).any(|required| required == name))
}

/// Makes a test of each function, on each engine: `name::on_sqlite` and `name::on_postgres`. The function gets a server of
/// its own. Without PostgreSQL's binaries the latter is skipped by name, or fails, as `CURLEW_TEST_REQUIRE` says.
#[macro_export]
macro_rules! both_engines {
    ($($(#[$meta:meta])* async fn $name:ident($server:ident) $body:block)+) => {$(
        $(#[$meta])*
        mod $name {
            use super::*;

            async fn test($server: $crate::TestServer) $body

            #[tokio::test]
            async fn on_sqlite() {
                test($crate::TestServer::start($crate::Engine::Sqlite).await).await;
            }

            #[tokio::test]
            async fn on_postgres() {
                if $crate::Engine::Postgres.is_there(module_path!()) {
                    test($crate::TestServer::start($crate::Engine::Postgres).await).await;
                }
            }
        }
    )+};
    ($($(#[$meta:meta])* async fn $name:ident($server:ident: with $configure:expr) $body:block)+) => {$(
        $(#[$meta])*
        mod $name {
            use super::*;

            async fn test($server: $crate::TestServer) $body

            async fn start(engine: $crate::Engine) -> $crate::TestServer {
                let configure: fn($crate::server::Setup) -> $crate::server::Setup = $configure;
                configure($crate::TestServer::setup(engine)).start().await
            }

            #[tokio::test]
            async fn on_sqlite() {
                test(start($crate::Engine::Sqlite).await).await;
            }

            #[tokio::test]
            async fn on_postgres() {
                if $crate::Engine::Postgres.is_there(module_path!()) {
                    test(start($crate::Engine::Postgres).await).await;
                }
            }
        }
    )+};
}
