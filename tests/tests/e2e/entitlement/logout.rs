//! After a logout has been answered, nothing more is written to the sockets it concerns.

use curlew_tests::{
    Actor, Http, Protocol, RawClient, both_engines, json,
    mqtt::raw::{Connect, Packet},
    wait::within,
};
use tokio::sync::watch;

/// Everything that still comes on a connection that the server has ended: the highest `seq`, and the reason told. The list of
/// devices that the logout itself changes may come before it is answered, and is left out.
async fn rest_of(raw: &mut RawClient) -> (u64, Option<u8>) {
    let (mut highest, mut told) = (0, None);
    while let Some(packet) = raw.read().await {
        match packet {
            Packet::Publish(publication) => {
                let event = publication.json();
                if event["event"] != "devices-updated" {
                    highest = highest.max(event["seq"].as_u64().unwrap_or_default());
                }
                raw.acknowledge(publication.id).await;
            }
            Packet::Disconnect { reason, .. } => told = Some(reason),
            other => panic!("{other:?}"),
        }
    }
    (highest, told)
}

async fn assert_refused_over_mqtt(actor: &Actor, mqtt: std::net::SocketAddr) {
    for (protocol, expected) in [(Protocol::V5, 0x86), (Protocol::V3, 4)] {
        let mut raw = RawClient::open(mqtt, protocol).await;
        let (_, code, _) = raw.connect(&actor.credentials(Connect::default())).await;
        assert_eq!(code, expected, "{protocol:?}");
        assert_eq!(raw.read().await, None);
    }
}

async fn assert_refused_over_rest(http: &Http) {
    let answer = http.get("/auth/profile").await;
    assert_eq!(answer.header("www-authenticate"), "Bearer");
    answer.expect_problem(401, "unauthenticated");
}

both_engines! {
    async fn logout_ends_the_login_and_its_connections(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        let mut raw = bob.raw(Protocol::V5, Connect::default()).await;
        raw.subscribe(&[("#", 1)]).await;
        let mut old = bob.raw(Protocol::V3, Connect { client_id: "old".into(), ..Connect::default() }).await;
        let tablet = bob.log_in_on(&server, "tablet").await;
        tablet.connect().await;
        let devices = raw.publication().await;
        assert_eq!(devices.json()["event"], "devices-updated");
        raw.acknowledge(devices.id).await;

        bob.http.post("/auth/logout", json!({})).await.expect(204);
        let sent = alice.post(&chat, "after").await;
        assert_eq!(rest_of(&mut raw).await, (0, Some(0x87)));
        assert_eq!(rest_of(&mut old).await, (0, None));
        assert_refused_over_rest(&bob.http).await;
        assert_refused_over_mqtt(&bob, server.endpoints().mqtt()).await;
        let refresh = json!({ "refreshToken": bob.refresh_token });
        server.anonymous().post("/auth/refresh", refresh).await.expect_problem(401, "unauthenticated");
        // The other login lives on.
        tablet.expect_message(&sent).await;
        tablet.http.get("/auth/profile").await.expect(200);
    }

    async fn nothing_is_written_after_a_logout_under_load(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        let mut raw = bob.raw(Protocol::V5, Connect::default()).await;
        raw.subscribe(&[("#", 0)]).await;
        let (stop, stopped) = watch::channel(false);
        let (http, path) = (alice.http.clone(), format!("/chats/{chat}/messages"));
        let sending = tokio::spawn(async move {
            while !*stopped.borrow() {
                http.post(&path, json!({ "type": "TEXT", "text": "more" })).await.expect(201);
            }
        });
        // Under way, and being delivered.
        for _ in 0..20 {
            raw.publication().await;
        }
        bob.http.post_nothing("/auth/logout").await.expect(204);
        let end = alice.chat(&chat).await["lastSeq"].as_u64().unwrap();
        // At least one message was committed after the logout was answered.
        alice.post(&chat, "after").await;
        let (highest, told) = rest_of(&mut raw).await;
        assert!(highest <= end, "row {highest} was written after the logout was answered at row {end}");
        assert_eq!(told, Some(0x87));
        stop.send_replace(true);
        within("the sender", sending).await.unwrap();
    }

    async fn logout_everywhere_ends_every_login(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        alice.private_chat(&bob).await;
        let tablet = bob.log_in_on(&server, "tablet").await;
        let mut raws = [
            bob.raw(Protocol::V5, Connect::default()).await,
            tablet.raw(Protocol::V5, Connect::default()).await,
        ];
        tablet.http.post("/auth/logout", json!({ "everywhere": true })).await.expect(204);
        for raw in &mut raws {
            assert_eq!(rest_of(raw).await, (0, Some(0x87)));
        }
        for actor in [&bob, &tablet] {
            assert_refused_over_rest(&actor.http).await;
            assert_refused_over_mqtt(actor, server.endpoints().mqtt()).await;
        }
        // Nobody else's.
        alice.http.get("/auth/profile").await.expect(200);
        // And one may come back.
        bob.log_in_on(&server, "phone").await.http.get("/auth/profile").await.expect(200);
    }

    async fn a_revoked_login_stays_revoked_after_a_crash(server) {
        let alice = server.user("alice").await;
        alice.http.post_nothing("/auth/logout").await.expect(204);
        server.kill_and_restart().await;
        assert_refused_over_rest(&alice.http).await;
        assert_refused_over_mqtt(&alice, server.endpoints().mqtt()).await;
    }
}

both_engines! {
    async fn a_connection_made_with_an_access_token_ends_with_it(server: with |setup| {
        setup.env("CURLEW_AUTH_ACCESS_TOKEN_TTL", "2s")
    }) {
        let alice = server.user("alice").await;
        let connect = Connect {
            username: Some(alice.username.clone()),
            password: Some(alice.access_token.clone().into_bytes()),
            ..Connect::default()
        };
        let mut raw = RawClient::open(server.endpoints().mqtt(), Protocol::V5).await;
        assert_eq!(raw.connect(&connect).await.1, 0);
        assert_eq!(rest_of(&mut raw).await, (0, Some(0x87)));
        // The MQTT password goes on.
        alice.raw(Protocol::V5, Connect::default()).await;
    }
}
