//! Who is there, as their contacts are told.

use curlew_tests::{
    Actor, Protocol, Received,
    actor::PASSWORD,
    both_engines, json,
    mqtt::{Connection, raw::Connect},
    wait::eventually,
};
use std::time::Duration;

const PRESENCE: &str = "users/+/presence";

/// A connection of its own that follows presence.
async fn watch(actor: &Actor) -> Connection {
    let mut connection = actor.open(&actor.options()).await.expect("CONNECT is accepted");
    if !connection.session_present() {
        connection.subscribe(&[(PRESENCE, 0)]).await;
    }
    connection
}

/// The next word about somebody, which must be this one.
async fn expect(watching: &mut Connection, of: &Actor, state: &str) -> Received {
    let topic = format!("users/{}/presence", of.id);
    let told = watching.receive(&format!("{state} of {}", of.username), |r| r.topic == topic).await;
    assert_eq!(
        (told.event(), &told.json["userId"], &told.json["state"]),
        ("presence", &json!(of.id), &json!(state))
    );
    told
}

async fn privacy(actor: &Actor, last_seen: &str) {
    actor.http.put("/auth/privacy", json!({ "lastSeen": last_seen })).await.expect(200);
}

/// Nothing was told of anybody until now.
fn expect_quiet(watching: &mut Connection) {
    let arrived = watching.arrived();
    assert!(arrived.is_empty(), "{arrived:?}");
}

async fn publish(connection: &mut Connection, actor: &Actor, state: &str) {
    let topic = format!("users/{}/presence", actor.id);
    assert_eq!(connection.publish(&topic, json!({ "state": state }).to_string()).await.reason, "Success");
}

both_engines! {
    async fn a_subscription_is_told_who_is_there_already(server) {
        let [alice, bob, carol] = server.contacts(["alice", "bob", "carol"]).await;
        let _there = bob.open(&bob.options()).await.unwrap();
        let mut watching = watch(&alice).await;
        assert!(expect(&mut watching, &bob, "online").await.retain);
        let _comes = carol.open(&carol.options()).await.unwrap();
        let told = expect(&mut watching, &carol, "online").await;
        assert!(!told.retain, "nothing was retained of who was not there: {told:?}");
        // Of one alone, and not at all if it is not wanted.
        let mut raw = alice.raw(Protocol::V5, Connect::default()).await;
        let of_carol = format!("users/{}/presence", carol.id);
        raw.subscribe_with(&[(PRESENCE, 0b10_0000), (&of_carol, 0)], None).await;
        let publication = raw.publication().await;
        assert_eq!((&publication.topic, publication.retain), (&of_carol, true));
        raw.expect_quiet().await;
    }

    async fn strangers_are_told_nothing(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let mallory = server.user("mallory").await;
        mallory.http.post("/contacts/request", json!({ "userId": bob.id })).await.expect(201);
        let mut stranger = watch(&mallory).await;
        let mut watching = watch(&alice).await;
        let _there = bob.open(&bob.options()).await.unwrap();
        expect(&mut watching, &bob, "online").await;
        stranger.subscribe(&[(&format!("users/{}/presence", bob.id), 0)]).await;
        bob.http.delete(&format!("/contacts/request/{}/reject", mallory.id)).await.expect(204);
        alice.befriend(&mallory).await;
        // Alice is shown once they are contacts; of Bob there was nothing before.
        expect(&mut stranger, &alice, "online").await;
        expect_quiet(&mut stranger);
    }

    async fn what_ends_is_unknown_to_both(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let (mut to_alice, mut to_bob) = (watch(&alice).await, watch(&bob).await);
        expect(&mut to_alice, &bob, "online").await;
        expect(&mut to_bob, &alice, "online").await;
        let both = async |to_alice: &mut Connection, to_bob: &mut Connection, state: &str| {
            let told = expect(to_alice, &bob, state).await;
            assert_eq!(told.json["lastSeenAt"].is_null(), state == "unknown");
            expect(to_bob, &alice, state).await;
        };
        alice.http.post("/contacts/block", json!({ "userId": bob.id })).await.expect(200);
        both(&mut to_alice, &mut to_bob, "unknown").await;
        alice.http.patch_nothing(&format!("/contacts/unblock/{}", bob.id)).await.expect(204);
        both(&mut to_alice, &mut to_bob, "online").await;
        // Who shows nobody when they were last seen is shown nobody, either.
        privacy(&bob, "nobody").await;
        both(&mut to_alice, &mut to_bob, "unknown").await;
        let mut raw = alice.raw(Protocol::V5, Connect::default()).await;
        raw.subscribe(&[(PRESENCE, 0)]).await;
        raw.expect_quiet().await;
        privacy(&bob, "contacts").await;
        both(&mut to_alice, &mut to_bob, "online").await;
        bob.http.delete(&format!("/contacts/{}", alice.id)).await.expect(204);
        both(&mut to_alice, &mut to_bob, "unknown").await;
    }

    async fn a_deleted_account_is_unknown(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let mut watching = watch(&alice).await;
        let there = bob.open(&bob.options()).await.unwrap();
        expect(&mut watching, &bob, "online").await;
        bob.http.delete_with("/auth/delete-profile", json!({ "password": PASSWORD })).await.expect(204);
        expect(&mut watching, &bob, "unknown").await;
        drop(there);
    }

    async fn a_mounted_device_is_not_its_user(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let mut watching = watch(&alice).await;
        let _lamp = bob.raw(Protocol::V5, Connect { options: "?mount=x", ..Connect::default() }).await;
        let _phone = bob.raw(Protocol::V5, Connect { client_id: "phone".into(), ..Connect::default() }).await;
        expect(&mut watching, &bob, "online").await;
        expect_quiet(&mut watching);
    }

    async fn what_is_no_state_is_refused(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let mut connection = alice.open(&alice.options()).await.unwrap();
        for (of, body, reason) in [
            (&alice, r#"{"state":"offline"}"#, "PayloadFormatInvalid"),
            (&alice, r#"{"state":"away","since":1}"#, "PayloadFormatInvalid"),
            (&alice, "", "PayloadFormatInvalid"),
            (&bob, r#"{"state":"away"}"#, "NotAuthorized"),
        ] {
            let ack = connection.publish(&format!("users/{}/presence", of.id), body).await;
            assert_eq!(ack.reason, reason, "{body}");
        }
    }

    async fn devices_are_listed_with_their_state(server) {
        let bob = server.user("bob").await;
        let tablet = bob.log_in_on(&server, "tablet").await;
        let phone = bob.open(&bob.options()).await.unwrap();
        let online = async |name: &str| {
            let listed = bob.http.get("/devices").await.expect(200);
            let found = listed["items"].as_array().unwrap().iter().find(|device| device["name"] == name).cloned();
            found.unwrap()["online"] == true
        };
        assert_eq!((online("phone").await, online("tablet").await), (true, false));
        drop(phone);
        eventually("the phone to be offline", async || (!online("phone").await).then_some(())).await;
        drop(tablet);
    }
}

both_engines! {
    async fn contacts_are_told_who_comes_is_away_and_goes(server: with |setup| setup.env("CURLEW_PRESENCE_GRACE", "300ms")) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let mut watching = watch(&alice).await;
        let mut phone = bob.open(&bob.options()).await.unwrap();
        let told = expect(&mut watching, &bob, "online").await;
        assert_eq!((told.qos, told.retain), (0, false));
        publish(&mut phone, &bob, "away").await;
        let away = expect(&mut watching, &bob, "away").await;
        assert!(away.json["lastSeenAt"].is_string());
        // Another device that is active makes up for it.
        let tablet = bob.log_in_on(&server, "tablet").await;
        let on_tablet = tablet.open(&tablet.options()).await.unwrap();
        expect(&mut watching, &bob, "online").await;
        on_tablet.disconnect().await;
        expect(&mut watching, &bob, "away").await;
        publish(&mut phone, &bob, "active").await;
        expect(&mut watching, &bob, "online").await;
        drop(phone);
        let gone = expect(&mut watching, &bob, "offline").await;
        assert!(gone.json["lastSeenAt"].as_str() <= gone.json["at"].as_str());
    }

    async fn who_flaps_is_there_all_the_time(server: with |setup| setup.env("CURLEW_PRESENCE_GRACE", "1s")) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let mut watching = watch(&alice).await;
        for _ in 0..5 {
            drop(bob.open(&bob.options()).await.unwrap());
        }
        expect(&mut watching, &bob, "online").await;
        expect_quiet(&mut watching);
        expect(&mut watching, &bob, "offline").await;
    }

    async fn who_comes_back_is_told_what_changed(server: with |setup| setup.env("CURLEW_PRESENCE_GRACE", "200ms")) {
        let [alice, bob, carol] = server.contacts(["alice", "bob", "carol"]).await;
        let mut watching = watch(&alice).await;
        let (phone, _there) = (bob.open(&bob.options()).await.unwrap(), carol.open(&carol.options()).await.unwrap());
        expect(&mut watching, &bob, "online").await;
        expect(&mut watching, &carol, "online").await;
        watching.disconnect().await;
        phone.disconnect().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let mut watching = watch(&alice).await;
        let told = expect(&mut watching, &bob, "offline").await;
        assert!(!told.retain && told.json["lastSeenAt"].is_string(), "{told:?}");
    }

    async fn after_a_crash_of_the_server_who_does_not_come_back_is_gone(server: with |setup| setup.env("CURLEW_PRESENCE_GRACE", "200ms")) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let mut watching = watch(&alice).await;
        let _phone = bob.open(&bob.options()).await.unwrap();
        expect(&mut watching, &bob, "online").await;
        server.kill_and_restart().await;
        let mut watching = watch(&alice).await;
        assert!(watching.session_present());
        let told = expect(&mut watching, &bob, "offline").await;
        assert!(told.json["lastSeenAt"].as_str() < told.json["at"].as_str(), "{told:?}");
        let _back = bob.open(&bob.options()).await.unwrap();
        expect(&mut watching, &bob, "online").await;
    }

    async fn who_falls_silent_is_gone_when_the_keep_alive_is_over(server: with |setup| setup.env("CURLEW_PRESENCE_GRACE", "100ms")) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let mut watching = watch(&alice).await;
        let half_open = bob.raw(Protocol::V3, Connect { keep_alive: 1, ..Connect::default() }).await;
        expect(&mut watching, &bob, "online").await;
        expect(&mut watching, &bob, "offline").await;
        drop(half_open);
    }
}
