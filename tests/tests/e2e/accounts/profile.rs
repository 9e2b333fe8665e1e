//! Profile, password, privacy.

use super::{closed_within_a_second, profile, text};
use curlew_tests::{Protocol, actor::PASSWORD, both_engines, json, mqtt::raw::Connect};

const NEW: &str = "another horse entirely";

both_engines! {
    async fn a_profile_is_changed_and_those_who_know_the_user_are_told(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let tablet = alice.log_in_on(&server, "tablet").await;
        tablet.connect().await;
        bob.connect().await;
        let change = json!({ "displayName": " Alice B. ", "about": "birds", "email": "a@example.org", "phone": "+45123" });
        let answer = alice.http.put("/auth/update-profile", change.clone()).await.expect(200);
        assert_eq!((text(&answer, "/displayName"), text(&answer, "/about")), ("Alice B.".into(), "birds".into()));
        assert_eq!((text(&answer, "/email"), text(&answer, "/phone")), ("a@example.org".into(), "+45123".into()));
        assert_eq!(answer, profile(&alice.http).await);
        for reader in [&tablet, &bob] {
            let event = reader.expect_event("profile-updated").await;
            assert_eq!(event.topic, format!("users/{}/events", reader.id));
            assert_eq!(event.json["user"]["id"], alice.id.as_str());
            assert_eq!(event.json["user"]["displayName"], "Alice B.");
            assert!(event.json["user"].get("email").is_none(), "{event:?}");
        }
        // The same again, and what is nobody else's business, tells nobody.
        alice.http.put("/auth/update-profile", change).await.expect(200);
        let private = alice.http.put("/auth/update-profile", json!({ "email": null, "phone": null })).await.expect(200);
        assert!(private["email"].is_null() && private["phone"].is_null(), "{private}");
        assert_eq!(alice.http.put("/auth/update-profile", json!({})).await.expect(200), private);
        alice.http.put("/auth/update-profile", json!({ "about": "" })).await.expect(200);
        for reader in [&tablet, &bob] {
            let event = reader.expect_event("profile-updated").await;
            assert_eq!(event.json["user"]["about"], "", "the next one: {event:?}");
        }
        let seen = bob.http.get(&format!("/users/{}", alice.id)).await.expect(200);
        assert_eq!((text(&seen, "/displayName"), text(&seen, "/about")), ("Alice B.".into(), String::new()));
    }

    async fn a_profile_that_cannot_be_is_refused_whole(server) {
        let alice = server.user("alice").await;
        let before = profile(&alice.http).await;
        let wrong = json!({ "displayName": null, "about": "x".repeat(501), "email": "x", "phone": "7" });
        let errors = alice.http.put("/auth/update-profile", wrong).await.expect_invalid();
        let fields: Vec<_> = errors.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(fields, ["displayName", "about", "email", "phone"]);
        let unknown = alice.http.put("/auth/update-profile", json!({ "about": "x", "username": "bob" })).await;
        assert_eq!(unknown.expect_invalid(), [("username".into(), "unknown-field".into())]);
        assert_eq!(profile(&alice.http).await, before);
        let long = alice.http.put("/auth/update-profile", json!({ "about": "ø".repeat(500) })).await.expect(200);
        assert_eq!(text(&long, "/about").chars().count(), 500);
        server.anonymous().put("/auth/update-profile", json!({})).await.expect_problem(401, "unauthenticated");
    }

    async fn a_password_change_ends_the_other_sign_ins(server) {
        let alice = server.user("alice").await;
        let tablet = alice.log_in_on(&server, "tablet").await;
        let issued = server.curlew(&["devices", "token", "alice", "--name", "gadget", "--output", "json"]);
        let issued: curlew_tests::Value = serde_json::from_slice(&issued.stdout).unwrap();
        let gadget = server.anonymous().with_token(&text(&issued, "/token"));
        profile(&gadget).await;
        alice.connect().await;
        let mut other = tablet.raw(Protocol::V5, Connect::default()).await;
        let change = json!({ "currentPassword": PASSWORD, "newPassword": NEW });
        let wrong = json!({ "currentPassword": "not the password", "newPassword": NEW });
        alice.http.put("/auth/password", wrong).await.expect_problem(401, "invalid-credentials");
        profile(&tablet.http).await;
        let short = json!({ "currentPassword": PASSWORD, "newPassword": "short" });
        let errors = alice.http.put("/auth/password", short).await.expect_invalid();
        assert_eq!(errors, [("newPassword".into(), "length".into())]);

        alice.http.put("/auth/password", change.clone()).await.expect(204);
        assert_eq!(closed_within_a_second(&mut other).await, Some(0x87));
        tablet.http.get("/auth/profile").await.expect_problem(401, "unauthenticated");
        let devices = alice.expect_event("devices-updated").await;
        let names: Vec<_> = crate::pluck(&devices.json["devices"], "/name");
        assert!(!names.contains(&"tablet".to_owned()) && names.contains(&"gadget".to_owned()), "{names:?}");
        profile(&alice.http).await;
        profile(&gadget).await;
        // Again: it is done. With the old password to another one it is refused.
        alice.http.put("/auth/password", change).await.expect(204);
        let further = json!({ "currentPassword": PASSWORD, "newPassword": "yet another one" });
        alice.http.put("/auth/password", further).await.expect_problem(401, "invalid-credentials");
        let login = |password: &str| json!({ "login": "alice", "password": password });
        server.anonymous().post("/auth/login", login(PASSWORD)).await.expect_problem(401, "invalid-credentials");
        server.anonymous().post("/auth/login", login(NEW)).await.expect(200);
        // One's own connection has gone on.
        let about = alice.http.put("/auth/update-profile", json!({ "about": "sentinel" })).await;
        about.expect(200);
        alice.expect_event("profile-updated").await;
    }

    async fn logins_with_an_old_password_do_not_survive_its_change(server) {
        let alice = server.user("alice").await;
        let anonymous = server.anonymous();
        let login = || async {
            let body = json!({ "login": "alice", "password": PASSWORD, "device": { "name": "tablet", "platform": "test" } });
            anonymous.post("/auth/login", body).await
        };
        let change = alice.http.put("/auth/password", json!({ "currentPassword": PASSWORD, "newPassword": NEW }));
        let (changed, logins) = tokio::join!(change, async { tokio::join!(login(), login(), login(), login()) });
        changed.expect(204);
        for answer in [logins.0, logins.1, logins.2, logins.3] {
            if answer.status == 200 {
                let token = text(&answer.json(), "/accessToken");
                let http = server.anonymous().with_token(&token);
                http.get("/auth/profile").await.expect_problem(401, "unauthenticated");
            } else {
                answer.expect_problem(401, "invalid-credentials");
            }
        }
        profile(&alice.http).await;
    }

    async fn privacy_is_set_in_part_and_shown(server) {
        let alice = server.user("alice").await;
        let everyone = json!({ "lastSeen": "everyone", "picture": "everyone", "readReceipts": "everyone" });
        assert_eq!(alice.http.get("/auth/privacy").await.expect(200), everyone);
        for _ in 0..2 {
            let part = alice.http.put("/auth/privacy", json!({ "lastSeen": "nobody", "picture": "contacts" })).await;
            let expected = json!({ "lastSeen": "nobody", "picture": "contacts", "readReceipts": "everyone" });
            assert_eq!(part.expect(200), expected);
            assert_eq!(alice.http.get("/auth/privacy").await.expect(200), expected);
            assert_eq!(profile(&alice.http).await["privacy"], expected);
        }
        let wrong = alice.http.put("/auth/privacy", json!({ "lastSeen": "friends" })).await.expect_invalid();
        assert_eq!(wrong, [("lastSeen".into(), "unknown-value".into())]);
        server.kill_and_restart().await;
        assert_eq!(alice.http.get("/auth/privacy").await.expect(200)["lastSeen"], "nobody");
    }
}
