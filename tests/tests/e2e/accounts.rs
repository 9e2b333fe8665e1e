//! Register, sign in, refresh, profile.

mod deletion;
mod devices;
mod privacy;
mod profile;

use crate::pluck;
use curlew_tests::{
    Actor, Engine, Http, Protocol, RawClient, TestServer, Value, actor::PASSWORD, both_engines, json,
    mqtt::raw::Connect, wait::eventually,
};

fn registration(username: &str) -> Value {
    json!({ "username": username, "password": PASSWORD, "displayName": username })
}

async fn refresh(server: &TestServer, token: &str) -> curlew_tests::Answer {
    server.anonymous().post("/auth/refresh", json!({ "refreshToken": token })).await
}

fn text(answer: &Value, pointer: &str) -> String {
    answer
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("{pointer}: {answer}"))
        .to_owned()
}

/// Whether the time has the one form of the contract: RFC 3339, UTC, milliseconds.
fn is_time(value: &Value) -> bool {
    let form =
        |text: &str| -> String { text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect() };
    value.as_str().is_some_and(|text| form(text) == "0000-00-00T00:00:00.000Z")
}

/// The reason in the DISCONNECT of a connection that the server has ended, which is closed within a second.
async fn closed_within_a_second(raw: &mut RawClient) -> Option<u8> {
    let closed = tokio::time::timeout(std::time::Duration::from_secs(1), raw.closed()).await;
    closed.expect("it is closed within a second")
}

async fn profile(http: &Http) -> Value {
    http.get("/auth/profile").await.expect(200)
}

both_engines! {
    async fn registering_signs_in(server) {
        let body = json!({
            "username": "alice",
            "password": PASSWORD,
            "displayName": " Alice A. ",
            "email": "alice@example.org",
            "phone": "+4512345678",
            "device": { "name": "Alice's phone", "platform": "android" },
        });
        let answer = server.anonymous().post("/auth/register", body).await.expect(201);
        assert_eq!(answer["user"]["username"], "alice");
        assert_eq!(answer["user"]["displayName"], "Alice A.");
        assert_eq!(answer["user"]["email"], "alice@example.org");
        assert_eq!(answer["user"]["phone"], "+4512345678");
        assert_eq!(answer["user"]["deleted"], false);
        assert!(answer["user"]["pictureUrl"].is_null());
        assert!(is_time(&answer["user"]["createdAt"]), "{answer}");
        assert_eq!(answer["user"]["privacy"]["lastSeen"], "everyone");
        assert_eq!(answer["device"]["name"], "Alice's phone");
        assert_eq!(answer["device"]["platform"], "android");
        assert_eq!(answer["device"]["current"], true);
        assert_eq!(answer["expiresIn"], 3600);
        assert_eq!(answer["mqtt"]["tcp"], format!("mqtt://{}", server.endpoints().mqtt()));
        assert_eq!(answer["mqtt"]["username"], answer["user"]["id"]);
        assert!(!answer.to_string().contains(PASSWORD));

        let alice = Actor::from_login(&server, &answer);
        let profile = profile(&alice.http).await;
        assert_eq!(profile, answer["user"]);
        alice.connect().await;
    }

    async fn a_public_profile_shows_no_more_than_is_public(server) {
        let (alice, bob) = (server.user("alice").await, server.user("bob").await);
        let seen = bob.http.get(&format!("/users/{}", alice.id)).await.expect(200);
        let mut fields: Vec<_> = seen.as_object().unwrap().keys().map(String::as_str).collect();
        fields.sort_unstable();
        assert_eq!(fields, ["about", "createdAt", "deleted", "displayName", "id", "pictureUrl", "username"]);
        bob.http.get(&format!("/users/{}", alice.device_id)).await.expect_problem(404, "not-found");
    }

    async fn a_user_name_is_taken_once(server) {
        server.user("alice").await;
        let answer = server.anonymous().post("/auth/register", registration("alice")).await;
        answer.expect_problem(409, "username-taken");
    }

    async fn of_two_who_register_a_name_at_once_one_gets_it(server) {
        let anonymous = server.anonymous();
        let register = || anonymous.post("/auth/register", registration("alice"));
        let (one, two, three) = tokio::join!(register(), register(), register());
        let mut statuses = [one.status, two.status, three.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409, 409]);
    }

    async fn signing_in_gives_another_login_on_the_same_device(server) {
        let alice = server.user("alice").await;
        let again = alice.log_in_on(&server, "phone").await;
        assert_eq!(again.device_id, alice.device_id, "found by its name");
        assert_ne!(again.access_token, alice.access_token);
        let tablet = alice.log_in_on(&server, "tablet").await;
        assert_ne!(tablet.device_id, alice.device_id);
        // Logging one out leaves the other.
        again.http.post_nothing("/auth/logout").await.expect(204);
        profile(&alice.http).await;
        profile(&tablet.http).await;
    }

    async fn without_a_device_it_is_the_default_one(server) {
        let anonymous = server.anonymous();
        let registered = anonymous.post("/auth/register", registration("alice")).await.expect(201);
        assert_eq!(registered["device"]["name"], "default");
        let login = json!({ "login": "alice", "password": PASSWORD });
        let answer = anonymous.post("/auth/login", login).await.expect(200);
        assert_eq!(answer["device"]["id"], registered["device"]["id"]);
        let device = json!({ "id": registered["device"]["id"], "name": "phone", "platform": "test" });
        let login = json!({ "login": "alice", "password": PASSWORD, "device": device });
        let answer = anonymous.post("/auth/login", login).await.expect(200);
        assert_eq!(answer["device"]["id"], registered["device"]["id"], "found by its id");
    }

    async fn a_wrong_password_and_an_unknown_user_look_the_same(server) {
        server.user("alice").await;
        let mut details = Vec::new();
        for (login, password) in [("alice", "wrong password"), ("nobody", PASSWORD), ("Not A Name", PASSWORD), ("alice", "")] {
            let answer = server.anonymous().post("/auth/login", json!({ "login": login, "password": password })).await;
            assert_eq!(answer.header("www-authenticate"), "Bearer");
            details.push(answer.expect_problem(401, "invalid-credentials")["detail"].clone());
        }
        details.dedup();
        assert_eq!(details.len(), 1, "{details:?}");
    }

    async fn a_refresh_token_is_replaced_and_its_reuse_ends_the_login(server) {
        let alice = server.user("alice").await;
        let mut raw = alice.raw(Protocol::V5, Connect::default()).await;
        let first = refresh(&server, &alice.refresh_token).await.expect(200);
        assert_eq!(first["user"]["id"], alice.id);
        assert_eq!(first["device"]["id"], alice.device_id);
        profile(&alice.http.with_token(&text(&first, "/accessToken"))).await;
        // Its answer may have been lost: until its successor is used it may be repeated.
        let repeated = refresh(&server, &alice.refresh_token).await.expect(200);
        let second = refresh(&server, &text(&repeated, "/refreshToken")).await.expect(200);
        // Now it is reuse, which only a thief has a use for.
        refresh(&server, &alice.refresh_token).await.expect_problem(401, "unauthenticated");
        for token in [text(&second, "/refreshToken"), text(&first, "/refreshToken")] {
            refresh(&server, &token).await.expect_problem(401, "unauthenticated");
        }
        alice.http.get("/auth/profile").await.expect_problem(401, "unauthenticated");
        assert_eq!(raw.closed().await, Some(0x87), "its connections end with it");
    }

    async fn a_refresh_token_survives_a_crash(server) {
        let alice = server.user("alice").await;
        let first = refresh(&server, &alice.refresh_token).await.expect(200);
        server.kill_and_restart().await;
        refresh(&server, &text(&first, "/refreshToken")).await.expect(200);
        refresh(&server, &alice.refresh_token).await.expect_problem(401, "unauthenticated");
    }
}

both_engines! {
    async fn a_user_has_a_bounded_number_of_devices(server: with |setup| setup.env("CURLEW_LIMITS_DEVICES", "2")) {
        let alice = server.user("alice").await;
        let tablet = alice.log_in_on(&server, "tablet").await;
        // Known ones are no further ones.
        alice.log_in_on(&server, "phone").await;
        let login = json!({ "login": "alice", "password": PASSWORD, "device": { "name": "third", "platform": "test" } });
        let answer = server.anonymous().post("/auth/login", login.clone()).await;
        let problem = answer.expect_problem(409, "device-limit");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("phone") && detail.contains("tablet"), "it lists them: {detail}");
        assert_eq!(pluck(&problem["devices"], "/id"), [alice.device_id.as_str(), &tablet.device_id]);
        tablet.http.post_nothing("/auth/logout").await.expect(204);
        server.anonymous().post("/auth/login", login).await.expect(200);
    }
}

#[tokio::test]
async fn registration_can_be_closed() {
    for mode in ["closed", "invite"] {
        let server = TestServer::setup(Engine::Sqlite).env("CURLEW_AUTH_REGISTRATION", mode).start().await;
        let answer = server.anonymous().post("/auth/register", registration("alice")).await;
        answer.expect_problem(403, "registration-closed");
        // An operator still makes accounts.
        let made = server.curlew_with_input(&["users", "create", "alice", "--password-stdin"], PASSWORD);
        assert!(made.status.success(), "{made:?}");
        let login = json!({ "login": "alice", "password": PASSWORD });
        server.anonymous().post("/auth/login", login).await.expect(200);
    }
}

#[tokio::test]
async fn an_access_token_ends() {
    let server = TestServer::setup(Engine::Sqlite).env("CURLEW_AUTH_ACCESS_TOKEN_TTL", "1s").start().await;
    let alice = server.user("alice").await;
    let answer = eventually("the end of the access token", async || {
        let answer = alice.http.get("/auth/profile").await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    answer.expect_problem(401, "unauthenticated");
    let mut raw = RawClient::open(server.endpoints().mqtt(), Protocol::V5).await;
    let password = Some(alice.access_token.clone().into_bytes());
    let connect = Connect { username: Some(alice.id.clone()), password, ..Connect::default() };
    assert_eq!(raw.connect(&connect).await.1, 0x86);
    // The refresh token is there for that.
    let answer = refresh(&server, &alice.refresh_token).await.expect(200);
    profile(&alice.http.with_token(&text(&answer, "/accessToken"))).await;
}
