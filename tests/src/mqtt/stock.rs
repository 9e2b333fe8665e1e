//! `rumqttc`'s two clients behind one face.

use super::{Ack, Incoming, LASTING, Options, Protocol, Received};
use rumqttc::{mqttbytes, v5};
use std::{net::SocketAddr, time::Duration};
use tokio::{sync::mpsc, task::JoinHandle};

/// Longer than any test takes: a ping would be an accident.
const KEEP_ALIVE: Duration = Duration::from_mins(5);
const MAX_PACKET: u32 = 1024 * 1024;
/// Requests that wait for the client's loop.
const REQUESTS: usize = 64;

/// A client whose loop runs.
pub enum Client {
    V3(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

impl Client {
    /// Starts the loop of a client, which reports to `incoming` until its connection is gone.
    pub fn start(
        address: SocketAddr,
        options: &Options,
        incoming: mpsc::Sender<Incoming>,
    ) -> (Self, JoinHandle<()>) {
        match options.protocol {
            Protocol::V3 => {
                let (client, events) = rumqttc::AsyncClient::new(options_v3(address, options), REQUESTS);
                (Self::V3(client), tokio::spawn(poll_v3(events, incoming)))
            }
            Protocol::V5 => {
                let (client, events) = v5::AsyncClient::new(options_v5(address, options), REQUESTS);
                (Self::V5(client), tokio::spawn(poll_v5(events, incoming)))
            }
        }
    }

    pub async fn subscribe(&self, filters: &[(&str, u8)]) {
        let sent = match self {
            Self::V3(client) => {
                let filters = filters.iter().map(|(filter, number)| {
                    mqttbytes::v4::SubscribeFilter::new(
                        (*filter).to_owned(),
                        mqttbytes::qos(*number).expect("a QoS"),
                    )
                });
                client.subscribe_many(filters).await.is_ok()
            }
            Self::V5(client) => {
                let filters = filters.iter().map(|(filter, number)| {
                    v5::mqttbytes::v5::Filter::new(*filter, v5::mqttbytes::qos(*number).expect("a QoS"))
                });
                client.subscribe_many(filters).await.is_ok()
            }
        };
        assert!(sent, "SUBSCRIBE could not be sent");
    }

    pub async fn unsubscribe(&self, filter: &str) {
        let sent = match self {
            Self::V3(client) => client.unsubscribe(filter).await.is_ok(),
            Self::V5(client) => client.unsubscribe(filter).await.is_ok(),
        };
        assert!(sent, "UNSUBSCRIBE could not be sent");
    }

    pub async fn publish(&self, topic: &str, number: u8, payload: Vec<u8>) {
        let sent = match self {
            Self::V3(client) => {
                client.publish(topic, mqttbytes::qos(number).expect("a QoS"), false, payload).await.is_ok()
            }
            Self::V5(client) => client
                .publish(topic, v5::mqttbytes::qos(number).expect("a QoS"), false, payload)
                .await
                .is_ok(),
        };
        assert!(sent, "PUBLISH could not be sent");
    }

    pub async fn disconnect(&self) {
        // One whose connection is gone already need not be told.
        match self {
            Self::V3(client) => drop(client.disconnect().await),
            Self::V5(client) => drop(client.disconnect().await),
        }
    }
}

fn options_v3(address: SocketAddr, options: &Options) -> rumqttc::MqttOptions {
    let mut v3 = rumqttc::MqttOptions::new(&options.client_id, address.ip().to_string(), address.port());
    v3.set_credentials(&options.username, &options.password)
        .set_clean_session(options.clean)
        .set_keep_alive(KEEP_ALIVE)
        .set_max_packet_size(MAX_PACKET as usize, MAX_PACKET as usize);
    v3
}

fn options_v5(address: SocketAddr, options: &Options) -> v5::MqttOptions {
    let mut v5 = v5::MqttOptions::new(&options.client_id, address.ip().to_string(), address.port());
    v5.set_credentials(&options.username, &options.password)
        .set_clean_start(options.clean)
        .set_session_expiry_interval(options.lasting.then_some(LASTING))
        .set_keep_alive(KEEP_ALIVE)
        .set_max_packet_size(Some(MAX_PACKET));
    v5
}

async fn poll_v3(mut events: rumqttc::EventLoop, incoming: mpsc::Sender<Incoming>) {
    use rumqttc::{Event, Packet, SubscribeReasonCode};
    loop {
        let report = match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(connack))) => {
                Incoming::Connected { session_present: connack.session_present }
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => Incoming::Publication(Received {
                topic: publish.topic,
                qos: publish.qos as u8,
                dup: publish.dup,
                retain: publish.retain,
                json: parse(&publish.payload),
            }),
            Ok(Event::Incoming(Packet::PubAck(_))) => {
                Incoming::Ack(Ack { reason: "Success".into(), ..Ack::default() })
            }
            Ok(Event::Incoming(Packet::SubAck(suback))) => Incoming::Subscribed(
                suback
                    .return_codes
                    .iter()
                    .map(|code| match code {
                        SubscribeReasonCode::Success(qos) => Ok(*qos as u8),
                        refusal @ SubscribeReasonCode::Failure => Err(format!("{refusal:?}")),
                    })
                    .collect(),
            ),
            Ok(Event::Incoming(Packet::UnsubAck(_))) => Incoming::Unsubscribed,
            Ok(_) => continue,
            Err(error) => Incoming::Closed(format!("{error:?}")),
        };
        let over = matches!(report, Incoming::Closed(_));
        if incoming.send(report).await.is_err() || over {
            return;
        }
    }
}

async fn poll_v5(mut events: v5::EventLoop, incoming: mpsc::Sender<Incoming>) {
    use v5::{
        Event,
        mqttbytes::v5::{Packet, SubscribeReasonCode},
    };
    loop {
        let report = match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(connack))) => {
                Incoming::Connected { session_present: connack.session_present }
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => Incoming::Publication(Received {
                topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                qos: publish.qos as u8,
                dup: publish.dup,
                retain: publish.retain,
                json: parse(&publish.payload),
            }),
            Ok(Event::Incoming(Packet::PubAck(puback))) => {
                let properties = puback.properties.unwrap_or(v5::mqttbytes::v5::PubAckProperties {
                    reason_string: None,
                    user_properties: Vec::new(),
                });
                Incoming::Ack(Ack {
                    reason: format!("{:?}", puback.reason),
                    reason_string: properties.reason_string.unwrap_or_default(),
                    properties: properties.user_properties,
                })
            }
            Ok(Event::Incoming(Packet::SubAck(suback))) => Incoming::Subscribed(
                suback
                    .return_codes
                    .iter()
                    .map(|code| match code {
                        SubscribeReasonCode::Success(qos) => Ok(*qos as u8),
                        refusal => Err(format!("{refusal:?}")),
                    })
                    .collect(),
            ),
            Ok(Event::Incoming(Packet::UnsubAck(_))) => Incoming::Unsubscribed,
            Ok(_) => continue,
            Err(error) => Incoming::Closed(format!("{error:?}")),
        };
        let over = matches!(report, Incoming::Closed(_));
        if incoming.send(report).await.is_err() || over {
            return;
        }
    }
}

fn parse(payload: &[u8]) -> serde_json::Value {
    serde_json::from_slice(payload)
        .unwrap_or_else(|error| panic!("{error}: not JSON: {}", String::from_utf8_lossy(payload)))
}
