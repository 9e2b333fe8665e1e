//! What a server says when it is ready.

use crate::{
    address::reachable,
    admin::Endpoints,
    commands::command_line,
    config::{Config, Database},
};

/// The start-up text: where it listens, where the data is, what to do next.
pub fn text(config: &Config, endpoints: &Endpoints) -> String {
    let database = match config.database.url {
        Database::Embedded => "embedded SQLite",
        Database::Postgres(_) => "PostgreSQL",
    };
    let http = reachable(endpoints.http);
    let mqtts = endpoints
        .mqtts
        .map_or_else(String::new, |address| format!("         mqtts://{}\n", reachable(address)));
    format!(
        "Curlew {version} is ready.\n\n  \
           REST   http://{http}/api\n  \
           MQTT   mqtt://{mqtt}\n\
         {mqtts}         ws://{http}/mqtt\n  \
           Data   {data} ({database})\n\n\
         Try: {demo}\n\
         Stop with Ctrl-C.",
        version = env!("CARGO_PKG_VERSION"),
        mqtt = reachable(endpoints.mqtt),
        data = config.server.data_dir.display(),
        demo = command_line("demo", config),
    )
}
