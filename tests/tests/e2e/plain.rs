//! The plain lane: ordinary MQTT among the devices of one user, seen through a mount and without one.

mod delivery;
mod lane;
mod queues;
mod retained;
mod shared;
mod wills;

use curlew_tests::{
    Actor, Protocol, RawClient,
    mqtt::raw::{Connect, Publication},
};

/// Behind it the topics are one's own.
const MOUNT: &str = "?mount=x";

/// A mounted client whose session ends with it.
fn fleeting(client_id: &str) -> Connect {
    Connect { client_id: client_id.into(), options: MOUNT, ..Connect::default() }
}

/// A mounted client whose session lasts.
fn lasting(client_id: &str) -> Connect {
    Connect { clean: false, expiry: Some(3600), ..fleeting(client_id) }
}

async fn connect(actor: &Actor, client_id: &str) -> RawClient {
    actor.raw(Protocol::V5, fleeting(client_id)).await
}

/// A client of both versions of MQTT, subscribed.
async fn subscriber(actor: &Actor, protocol: Protocol, filters: &[(&str, u8)]) -> RawClient {
    let mut raw = actor.raw(protocol, fleeting("subscriber")).await;
    let granted = raw.subscribe(filters).await;
    assert_eq!(granted, filters.iter().map(|(_, qos)| *qos).collect::<Vec<_>>());
    raw
}

fn body(publication: &Publication) -> &str {
    std::str::from_utf8(&publication.payload).unwrap()
}
