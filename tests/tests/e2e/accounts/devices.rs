//! Devices: list, rename, remove, replace.

use super::{closed_within_a_second, profile, text};
use crate::pluck;
use curlew_tests::{
    Actor, Protocol, TestServer, Value,
    actor::PASSWORD,
    both_engines, json,
    mqtt::raw::{Connect, RawClient, Will},
    wait::eventually,
};
use std::time::Duration;

fn remove_topic(actor: &Actor, device: &str) -> String {
    format!("users/{}/devices/{device}/remove", actor.id)
}

async fn devices(actor: &Actor) -> Value {
    let page = actor.http.get("/devices").await.expect(200);
    assert!(page["nextCursor"].is_null(), "{page}");
    page["items"].clone()
}

async fn assert_gone(server: &TestServer, actor: &Actor) {
    actor.http.get("/auth/profile").await.expect_problem(401, "unauthenticated");
    let mut raw = RawClient::open(server.endpoints().mqtt(), Protocol::V5).await;
    assert_eq!(raw.connect(&actor.credentials(Connect::default())).await.1, 0x86);
}

both_engines! {
    async fn devices_are_listed_with_what_is_true_of_them(server) {
        let alice = server.user("alice").await;
        let tablet = alice.log_in_on(&server, "tablet").await;
        server.user("bob").await;
        tablet.connect().await;
        let list = devices(&alice).await;
        let mut fields: Vec<_> = list[0].as_object().unwrap().keys().map(String::as_str).collect();
        fields.sort_unstable();
        assert_eq!(fields, ["createdAt", "current", "id", "lastSeenAt", "name", "online", "platform"]);
        assert_eq!(pluck(&list, "/name"), ["tablet", "phone"], "the one last seen first");
        let states: Vec<_> = list.as_array().unwrap().iter().map(|d| (d["current"].clone(), d["online"].clone())).collect();
        assert_eq!(states, [(json!(false), json!(true)), (json!(true), json!(false))]);
        tablet.go_offline().await;
        eventually("the tablet is seen offline", async || {
            (devices(&alice).await[0]["online"] == false).then_some(())
        })
        .await;
        tablet.http.post_nothing("/auth/logout").await.expect(204);
        assert_eq!(pluck(&devices(&alice).await, "/name"), ["phone"]);
    }

    async fn a_device_is_renamed_and_the_others_are_told(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        alice.connect().await;
        let tablet = alice.log_in_on(&server, "tablet").await;
        let event = alice.expect_event("devices-updated").await;
        assert_eq!(event.topic, format!("users/{}/events", alice.id));
        let mut names = pluck(&event.json["devices"], "/name");
        names.sort_unstable();
        assert_eq!(names, ["phone", "tablet"]);
        let path = format!("/devices/{}", tablet.device_id);
        for _ in 0..2 {
            let renamed = alice.http.patch(&path, json!({ "name": " big phone " })).await.expect(200);
            assert_eq!((text(&renamed, "/name"), &renamed["current"]), ("big phone".into(), &json!(false)));
        }
        let event = alice.expect_event("devices-updated").await;
        let list = event.json["devices"].as_array().unwrap();
        let of = |id: &str| list.iter().find(|device| device["id"] == id).unwrap();
        assert_eq!((&of(&tablet.device_id)["name"], &of(&tablet.device_id)["online"]), (&json!("big phone"), &json!(false)));
        assert_eq!(of(&alice.device_id)["online"], true);
        assert!(list.iter().all(|device| device.get("current").is_none()), "{list:?}");
        bob.http.patch(&path, json!({ "name": "mine" })).await.expect_problem(404, "not-found");
        alice.http.patch("/devices/phone", json!({ "name": "x" })).await.expect_problem(404, "not-found");
        for (body, code) in [(json!({ "name": "" }), "length"), (json!({}), "required"), (json!({ "name": "a\nb" }), "characters")] {
            assert_eq!(alice.http.patch(&path, body).await.expect_invalid(), [("name".into(), code.into())]);
        }
        // Renaming twice told once: the next event is another one.
        tablet.http.post_nothing("/auth/logout").await.expect(204);
        let event = alice.expect_event("devices-updated").await;
        assert_eq!(pluck(&event.json["devices"], "/name"), ["phone"]);
    }

    async fn a_removed_device_is_out_at_once(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        alice.connect().await;
        let tablet = alice.log_in_on(&server, "tablet").await;
        let again = alice.log_in_on(&server, "tablet").await;
        let issued = server.curlew(&["devices", "token", "alice", "--name", "tablet", "--output", "json"]);
        let issued: Value = serde_json::from_slice(&issued.stdout).unwrap();
        let mut raws = [
            tablet.raw(Protocol::V5, Connect::default()).await,
            again.raw(Protocol::V5, Connect { client_id: "other".into(), ..Connect::default() }).await,
        ];
        alice.expect_event("devices-updated").await;
        let path = format!("/devices/{}", tablet.device_id);
        bob.http.delete(&path).await.expect_problem(404, "not-found");
        alice.http.delete(&path).await.expect(204);
        for raw in &mut raws {
            assert_eq!(closed_within_a_second(raw).await, Some(0x87));
        }
        for gone in [&tablet, &again] {
            assert_gone(&server, gone).await;
        }
        let token = server.anonymous().with_token(&text(&issued, "/token"));
        token.get("/auth/profile").await.expect_problem(401, "unauthenticated");
        let event = alice.expect_event("devices-updated").await;
        assert_eq!(pluck(&event.json["devices"], "/name"), ["phone"]);
        // Again: it is done.
        alice.http.delete(&path).await.expect(204);
        // One of that name is another one, and its session is new.
        let new = alice.log_in_on(&server, "tablet").await;
        assert_ne!(new.device_id, tablet.device_id);
        let session = new.raw_session(Protocol::V5, Connect { clean: false, expiry: Some(60), ..Connect::default() }).await;
        assert!(!session.1);
        // Oneself, too.
        let mut own = new.raw(Protocol::V5, Connect { client_id: "own".into(), ..Connect::default() }).await;
        new.http.delete(&format!("/devices/{}", new.device_id)).await.expect(204);
        assert_eq!(closed_within_a_second(&mut own).await, Some(0x87));
        assert_gone(&server, &new).await;
        profile(&alice.http).await;
    }

    async fn a_device_is_removed_by_its_topic(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let tablet = alice.log_in_on(&server, "tablet").await;
        let mut other = tablet.raw(Protocol::V5, Connect::default()).await;
        let mut raw = alice.raw(Protocol::V5, Connect::default()).await;
        let topic = remove_topic(&alice, &tablet.device_id);
        for (topic, payload, reason, code) in [
            (topic.clone(), "{}", 0x99, "invalid-request"),
            (remove_topic(&alice, &bob.device_id), "", 0x87, "not-found"),
            (remove_topic(&bob, &bob.device_id), "", 0x87, "not-found"),
            (remove_topic(&alice, "tablet"), "", 0x90, "invalid-topic"),
        ] {
            raw.publish(&topic, payload.as_bytes(), 1, 7).await;
            let (given, properties) = raw.puback(7).await;
            let reason_string = properties.reason_string;
            assert_eq!(given, reason, "{topic}: {reason_string}");
            assert!(reason_string.starts_with(code), "{topic}: {reason_string}");
        }
        profile(&tablet.http).await;
        profile(&bob.http).await;
        raw.publish(&topic, b"", 1, 8).await;
        assert_eq!(raw.puback(8).await.0, 0);
        assert_eq!(closed_within_a_second(&mut other).await, Some(0x87));
        assert_gone(&server, &tablet).await;
        raw.publish(&topic, b"", 1, 9).await;
        assert_eq!(raw.puback(9).await.0, 0, "again: it is done");
    }

    async fn a_device_may_remove_itself_by_its_topic(server) {
        let alice = server.user("alice").await;
        for (protocol, told, qos) in [(Protocol::V5, Some(0x87), 1), (Protocol::V3, None, 1), (Protocol::V5, Some(0x87), 0)] {
            let tablet = alice.log_in_on(&server, "tablet").await;
            let mut raw = tablet.raw(protocol, Connect { clean: false, expiry: Some(60), ..Connect::default() }).await;
            raw.publish(&remove_topic(&tablet, &tablet.device_id), b"", qos, 1).await;
            assert_eq!(closed_within_a_second(&mut raw).await, told, "{protocol:?}");
            assert_gone(&server, &tablet).await;
        }
        profile(&alice.http).await;
        assert_eq!(pluck(&devices(&alice).await, "/name"), ["phone"]);
    }

    async fn wills_of_a_removed_device_are_published(server) {
        let alice = server.user("alice").await;
        let tablet = alice.log_in_on(&server, "tablet").await;
        let mut raw = alice.raw(Protocol::V5, Connect::default()).await;
        raw.subscribe(&[(&format!("users/{}/x/#", alice.id), 1)]).await;
        let will = Will {
            topic: format!("users/{}/x/tablet", alice.id),
            payload: b"gone".to_vec(),
            qos: 1,
            retain: false,
            delay: Some(600),
            expiry: None,
        };
        let connect = Connect { will: Some(will), clean: false, expiry: Some(3600), ..Connect::default() };
        let mut other = tablet.raw(Protocol::V5, connect).await;
        alice.http.delete(&format!("/devices/{}", tablet.device_id)).await.expect(204);
        assert_eq!(closed_within_a_second(&mut other).await, Some(0x87));
        let publication = raw.publication().await;
        assert_eq!((publication.topic.rsplit('/').next(), publication.payload.as_slice()), (Some("tablet"), &b"gone"[..]));
    }

    async fn an_operators_revocation_is_told(server) {
        let alice = server.user("alice").await;
        alice.connect().await;
        server.curlew(&["devices", "token", "alice", "--name", "gadget"]);
        let event = alice.expect_event("devices-updated").await;
        assert_eq!(event.json["devices"].as_array().unwrap().len(), 2);
        let revoked = server.curlew(&["devices", "revoke", "alice", "--name", "gadget"]);
        assert!(revoked.status.success(), "{revoked:?}");
        let event = alice.expect_event("devices-updated").await;
        assert_eq!(pluck(&event.json["devices"], "/name"), ["phone"]);
    }
}

both_engines! {
    async fn a_further_device_replaces_one(server: with |setup| setup.env("CURLEW_LIMITS_DEVICES", "2")) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let tablet = alice.log_in_on(&server, "tablet").await;
        let mut raw = tablet.raw(Protocol::V5, Connect::default()).await;
        alice.connect().await;
        let login = |name: &str, replace: Option<&str>| {
            let device = json!({ "name": name, "platform": "test" });
            json!({ "login": "alice", "password": PASSWORD, "device": device, "replaceDeviceId": replace })
        };
        let post = async |body| server.anonymous().post("/auth/login", body).await;
        let offered = post(login("third", None)).await.expect_problem(409, "device-limit")["devices"].clone();
        let mut names = pluck(&offered, "/name");
        names.sort_unstable();
        assert_eq!(names, ["phone", "tablet"]);
        for device in offered.as_array().unwrap() {
            assert_eq!(device["online"], true, "{device}");
            assert_eq!(device["current"], false, "{device}");
        }
        for (replace, status, code) in [
            (bob.device_id.as_str(), 404, "not-found"),
            ("0192f0c1-0000-7000-8000-000000000001", 404, "not-found"),
        ] {
            post(login("third", Some(replace))).await.expect_problem(status, code);
        }
        let malformed = post(login("third", Some("tablet"))).await.expect_invalid();
        assert_eq!(malformed, [("replaceDeviceId".into(), "invalid".into())]);
        let wrong = json!({ "login": "alice", "password": "wrong password", "replaceDeviceId": tablet.device_id });
        post(wrong).await.expect_problem(401, "invalid-credentials");
        profile(&tablet.http).await;

        let answer = post(login("third", Some(&tablet.device_id))).await.expect(200);
        assert_eq!((text(&answer, "/device/name"), &answer["device"]["current"]), ("third".into(), &json!(true)));
        assert_eq!(closed_within_a_second(&mut raw).await, Some(0x87));
        assert_gone(&server, &tablet).await;
        let event = alice.expect_event("devices-updated").await;
        let mut names = pluck(&event.json["devices"], "/name");
        names.sort_unstable();
        assert_eq!(names, ["phone", "third"]);
        // Again, as when its answer was lost.
        for replace in [Some(tablet.device_id.as_str()), None] {
            let again = post(login("third", replace)).await.expect(200);
            assert_eq!(text(&again, "/device/id"), text(&answer, "/device/id"));
        }
    }
}

both_engines! {
    async fn a_device_that_was_not_seen_for_long_is_retired(server: with |setup| setup.env("CURLEW_DEVICES_RETIRE_AFTER", "3d")) {
        let alice = server.user("alice").await;
        let (tablet, laptop) = (alice.log_in_on(&server, "tablet").await, alice.log_in_on(&server, "laptop").await);
        let issued = server.curlew(&["devices", "token", "alice", "--name", "gadget", "--output", "json"]);
        let issued: Value = serde_json::from_slice(&issued.stdout).unwrap();
        let gadget = alice.log_in_on(&server, "gadget").await;
        let lasting = || Connect { clean: false, expiry: Some(864_000), ..Connect::default() };
        let with_token = Connect {
            username: Some(alice.id.clone()),
            password: Some(text(&issued, "/token").into_bytes()),
            ..lasting()
        };
        let connect = async |connect: &Connect| {
            let mut raw = RawClient::open(server.endpoints().mqtt(), Protocol::V5).await;
            let (present, code, _) = raw.connect(connect).await;
            raw.disconnect().await;
            (present, code)
        };
        for device in [&alice, &tablet, &laptop] {
            assert_eq!(connect(&device.credentials(lasting())).await, (false, 0));
        }
        assert_eq!(connect(&with_token).await, (false, 0));
        server.terminate().await;
        server.db_age_device(&tablet.device_id, Duration::from_hours(73)).await;
        server.db_age_device(&gadget.device_id, Duration::from_hours(73)).await;
        server.db_age_device(&laptop.device_id, Duration::from_hours(71)).await;
        server.start_again().await;

        eventually("the tablet and the gadget are retired", async || {
            let answer = gadget.http.get("/auth/profile").await;
            (answer.status == 401 && pluck(&devices(&alice).await, "/name").len() == 3).then_some(())
        })
        .await;
        assert_gone(&server, &tablet).await;
        assert_gone(&server, &gadget).await;
        let mut names = pluck(&devices(&alice).await, "/name");
        names.sort_unstable();
        assert_eq!(names, ["gadget", "laptop", "phone"], "the gadget has its token");
        for device in [&alice, &laptop] {
            assert_eq!(connect(&device.credentials(lasting())).await, (true, 0));
        }
        assert_eq!(connect(&with_token).await, (false, 0), "the token is good, for a clean session");
        let back = alice.log_in_on(&server, "tablet").await;
        assert_eq!(back.device_id, tablet.device_id);
        assert_eq!(connect(&back.credentials(lasting())).await, (false, 0));
    }
}
