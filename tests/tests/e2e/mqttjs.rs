//! MQTT.js under Node, over WebSocket: a stock client, of which most apps in browsers are made.

use curlew_tests::{Actor, Engine, TestServer, Value, json, mqttjs};

/// As Node names the protocols.
const PROTOCOLS: [u8; 2] = [4, 5];

fn credentials(actor: &Actor) -> Value {
    json!({ "username": actor.username, "password": actor.mqtt_password })
}

fn url(server: &TestServer) -> String {
    format!("ws://{}/mqtt", server.endpoints().http())
}

fn connected(name: &str, session_present: bool) -> Value {
    json!({ "what": "connected", "name": name, "sessionPresent": session_present })
}

fn granted(filter: &str, qos: u8) -> Value {
    json!({ "what": "granted", "filter": filter, "qos": qos })
}

fn published(qos: u8) -> Value {
    json!({ "what": "published", "qos": qos, "reasonCode": 0 })
}

fn received(topic: &str, payload: &str, qos: u8, retain: bool) -> Value {
    json!({ "what": "received", "topic": topic, "payload": payload, "qos": qos, "retain": retain })
}

/// Lines of different clients come in the order in which the script waits for them.
#[tokio::test]
async fn commands_are_acknowledged_and_their_events_arrive() {
    if !mqttjs::is_there("mqttjs::commands_are_acknowledged_and_their_events_arrive") {
        return;
    }
    for protocol in PROTOCOLS {
        let server = TestServer::start(Engine::Sqlite).await;
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        let mut lines = mqttjs::play(&json!({
            "scenario": "commands",
            "url": url(&server),
            "protocolVersion": protocol,
            "alice": credentials(&alice),
            "bob": credentials(&bob),
            "chat": chat.to_string(),
        }))
        .await;

        let mut rows = Vec::new();
        for line in &mut lines {
            if let Some(payload) = line["payload"].as_str() {
                let row: Value = serde_json::from_str(payload).unwrap();
                rows.push((
                    row["message"]["text"].as_str().unwrap().to_owned(),
                    row["seq"].as_u64().unwrap(),
                ));
                line["payload"] = "a row".into();
            }
        }
        // PUBACK tells 5 the row's place. PUBCOMP, which is what the script sees at QoS 2, tells nothing.
        let acknowledged = |seq: u64| match protocol {
            5 => json!({ "what": "published", "qos": 1, "reasonCode": 0, "seq": seq.to_string() }),
            _ => published(1),
        };
        let row = received(&format!("chats/{chat}/messages"), "a row", 1, false);
        let [first, second, _] = [0, 1, 2].map(|n| rows[n].1);
        let expected = [
            connected("sender", false),
            connected("listener", false),
            granted("chats/+/messages", 1),
            acknowledged(first),
            row.clone(),
            acknowledged(second),
            connected("listener", true),
            row.clone(),
            published(2),
            row,
            json!({ "what": "done" }),
        ];
        assert_eq!(lines, expected, "MQTT {protocol}");
        let texts: Vec<_> = rows.iter().map(|(text, _)| text.as_str()).collect();
        assert_eq!(texts, ["first", "second", "third"]);
        assert_eq!(alice.texts(&chat).await, texts, "each is stored once");
    }
}

#[tokio::test]
async fn behind_a_mount_the_server_is_an_ordinary_broker() {
    if !mqttjs::is_there("mqttjs::behind_a_mount_the_server_is_an_ordinary_broker") {
        return;
    }
    for protocol in PROTOCOLS {
        let server = TestServer::start(Engine::Sqlite).await;
        let alice = server.user("alice").await;
        let lines = mqttjs::play(&json!({
            "scenario": "broker",
            "url": url(&server),
            "protocolVersion": protocol,
            "alice": credentials(&alice),
        }))
        .await;

        let at = |qos| received("house/kitchen/temperature", &format!("at {qos}"), qos, false);
        let expected = [
            connected("sensor", false),
            connected("panel", false),
            published(1),
            granted("house/#", 2),
            received("house/kitchen/light", "on", 1, true),
            published(0),
            at(0),
            published(1),
            at(1),
            published(2),
            at(2),
            received("house/sensor", "gone", 1, false),
            json!({ "what": "done" }),
        ];
        assert_eq!(lines, expected, "MQTT {protocol}");
    }
}
