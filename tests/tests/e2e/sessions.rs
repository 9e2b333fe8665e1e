//! How sessions and connections begin and end: credentials, client identifiers, take-over, expiry, keep-alive.

use curlew_tests::{
    Actor, Engine, Protocol, RawClient, TestServer, both_engines, json,
    mqtt::raw::{Connect, Packet},
};

fn lasting(client_id: &str) -> Connect {
    Connect { client_id: client_id.into(), clean: false, expiry: Some(3600), ..Connect::default() }
}

async fn is_alive(raw: &mut RawClient) -> bool {
    raw.ping().await;
    raw.read().await == Some(Packet::PingResp)
}

both_engines! {
    async fn every_credential_of_the_contract_opens_a_connection(server) {
        let alice = server.user("alice").await;
        let token = server.curlew(&["devices", "token", "alice", "--name", "gadget", "--output", "json"]);
        assert!(token.status.success(), "{token:?}");
        let token: curlew_tests::Value = serde_json::from_slice(&token.stdout).unwrap();
        let token = token["token"].as_str().unwrap().to_owned();
        for password in [&alice.mqtt_password, &alice.access_token, &token] {
            for username in [Some(alice.id.clone()), Some(alice.username.clone()), Some(String::new()), None] {
                for protocol in [Protocol::V5, Protocol::V3] {
                    if username.is_none() && protocol == Protocol::V3 {
                        // [MQTT-3.1.2-22]: a password without a user name is MQTT 5's.
                        continue;
                    }
                    let mut raw = RawClient::open(server.endpoints().mqtt(), protocol).await;
                    let password = Some(password.clone().into_bytes());
                    let connect = Connect { username: username.clone(), password, ..Connect::default() };
                    assert_eq!(raw.connect(&connect).await.1, 0, "{username:?} {protocol:?}");
                }
            }
        }
    }

    async fn a_newer_connection_takes_the_session_over(server) {
        let [alice, bob] = server.contacts(["alice", "bob"]).await;
        let chat = alice.private_chat(&bob).await;
        let mut older = bob.raw(Protocol::V5, lasting("phone")).await;
        older.subscribe(&[("chats/+/messages", 1)]).await;
        let (mut newer, present) = bob.raw_session(Protocol::V5, lasting("phone")).await;
        assert!(present);
        assert_eq!(older.closed().await, Some(0x8E));
        let sent = alice.post(&chat, "hello").await;
        assert_eq!(newer.publication().await.json()["id"], sent.id);
        // 3.1.1 takes over from 5, and the other way round.
        let (_third, present) = bob.raw_session(Protocol::V3, lasting("phone")).await;
        assert!(present);
        assert_eq!(newer.closed().await, Some(0x8E));
    }

    async fn connections_with_other_client_identifiers_live_side_by_side(server) {
        let alice = server.user("alice").await;
        let mut one = alice.raw(Protocol::V5, lasting("one")).await;
        let mut other = alice.raw(Protocol::V5, lasting("other")).await;
        let tablet = alice.log_in_on(&server, "tablet").await;
        let mut same_name = tablet.raw(Protocol::V5, lasting("one")).await;
        for raw in [&mut one, &mut other, &mut same_name] {
            assert!(is_alive(raw).await);
        }
    }

    async fn many_take_overs_at_once_leave_one_connection(server) {
        let alice = server.user("alice").await;
        let mut racing = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (address, connect) = (server.endpoints().mqtt(), alice.credentials(lasting("phone")));
            racing.spawn(async move {
                let mut raw = RawClient::open(address, Protocol::V5).await;
                // One that is taken over before it was let in may be told so by the end of its connection.
                let accepted = raw.try_connect(&connect).await.is_some_and(|(_, code, _)| code == 0);
                (raw, accepted)
            });
        }
        let mut raws = racing.join_all().await;
        // The last one to come, after all of them.
        let (mut last, present) = alice.raw_session(Protocol::V5, lasting("phone")).await;
        assert!(present);
        for (raw, accepted) in &mut raws {
            let told = raw.closed().await;
            assert!(!*accepted || told == Some(0x8E), "{told:x?}");
        }
        assert!(is_alive(&mut last).await);
    }

    async fn session_present_is_the_truth_after_a_crash(server) {
        let alice = server.user("alice").await;
        for protocol in [Protocol::V5, Protocol::V3] {
            let client_id = format!("{protocol:?}");
            let (_, present) = alice.raw_session(protocol, lasting(&client_id)).await;
            assert!(!present);
            server.kill_and_restart().await;
            let (raw, present) = alice.raw_session(protocol, lasting(&client_id)).await;
            assert!(present, "{protocol:?}");
            raw.disconnect().await;
            let (raw, present) = alice.raw_session(protocol, Connect { clean: true, ..lasting(&client_id) }).await;
            assert!(!present, "Clean Start discards what was there");
            raw.disconnect().await;
        }
    }

    async fn a_session_without_expiry_ends_with_its_connection(server) {
        let alice = server.user("alice").await;
        for connect in [Connect { expiry: None, ..lasting("brief") }, Connect { expiry: Some(0), ..lasting("brief") }] {
            let (raw, present) = alice.raw_session(Protocol::V5, connect.clone()).await;
            assert!(!present);
            raw.disconnect().await;
            let (raw, present) = alice.raw_session(Protocol::V5, connect).await;
            assert!(!present);
            raw.disconnect().await;
        }
        // Clean Session 1 of 3.1.1, at both ends.
        let clean = Connect { client_id: "v3".into(), clean: true, ..Connect::default() };
        let (raw, _) = alice.raw_session(Protocol::V3, clean).await;
        raw.disconnect().await;
        let (_, present) = alice.raw_session(Protocol::V3, lasting("v3")).await;
        assert!(!present);
    }

    async fn a_session_ends_after_its_expiry(server) {
        let alice = server.user("alice").await;
        let second = Connect { expiry: Some(1), ..lasting("second") };
        let (raw, _) = alice.raw_session(Protocol::V5, second.clone()).await;
        drop(raw);
        // Each look takes the session up again, so each waits longer than the expiry.
        tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
        let (_, present) = alice.raw_session(Protocol::V5, second).await;
        assert!(!present);
    }
}

#[tokio::test]
async fn wrong_credentials_are_refused_with_the_codes_of_the_standard() {
    let server = TestServer::start(Engine::Sqlite).await;
    let alice = server.user("alice").await;
    let password = |text: &str| Some(text.as_bytes().to_vec());
    let wrong: Vec<(Option<&str>, Option<Vec<u8>>)> = vec![
        (Some("alice"), password("wrong")),
        (Some("nobody"), password(&alice.mqtt_password)),
        (Some("alice"), Some(vec![0xFF, 0xFE])),
        (Some("alice"), password("")),
        (Some("alice"), None),
        (None, None),
    ];
    for (username, password) in wrong {
        for (protocol, expected) in [(Protocol::V5, [0x86, 0x87]), (Protocol::V3, [4, 5])] {
            let mut raw = RawClient::open(server.endpoints().mqtt(), protocol).await;
            let username = username.map(str::to_owned);
            let connect =
                Connect { username: username.clone(), password: password.clone(), ..Connect::default() };
            let (present, code, _) = raw.connect(&connect).await;
            assert!(!present && expected.contains(&code), "{username:?} {protocol:?}: {code:#x}");
            assert_eq!(raw.read().await, None);
        }
    }
}

#[tokio::test]
async fn a_stock_client_is_told_why_it_is_refused() {
    let server = TestServer::start(Engine::Sqlite).await;
    let alice = server.user("alice").await;
    for (protocol, expected) in [(Protocol::V5, "BadUserNamePassword"), (Protocol::V3, "BadUserNamePassword")]
    {
        let options = curlew_tests::mqtt::Options { protocol, password: "wrong".into(), ..alice.options() };
        let why = alice.open(&options).await.err().unwrap();
        assert!(why.contains(expected), "{why}");
    }
}

#[tokio::test]
async fn without_a_client_identifier_a_fresh_one_is_assigned() {
    let server = TestServer::start(Engine::Sqlite).await;
    let alice = server.user("alice").await;
    let anonymous =
        |clean| alice.credentials(Connect { client_id: String::new(), clean, ..Connect::default() });
    let mut assigned = Vec::new();
    for clean in [true, false] {
        let mut raw = RawClient::open(server.endpoints().mqtt(), Protocol::V5).await;
        let (present, code, properties) = raw.connect(&anonymous(clean)).await;
        assert_eq!((present, code), (false, 0));
        assigned.push(properties.assigned_client_id.expect("told in CONNACK"));
    }
    assert_ne!(assigned[0], assigned[1]);
    // 3.1.1 cannot tell it, so a session that lasts needs one: return code 2.
    let mut raw = RawClient::open(server.endpoints().mqtt(), Protocol::V3).await;
    assert_eq!(raw.connect(&anonymous(false)).await.1, 2);
    assert_eq!(raw.read().await, None);
    let mut raw = RawClient::open(server.endpoints().mqtt(), Protocol::V3).await;
    assert_eq!(raw.connect(&anonymous(true)).await.1, 0);
    assert!(is_alive(&mut raw).await);
}

#[tokio::test]
async fn a_session_lasts_60_days_at_most_and_is_told_so() {
    let server = TestServer::start(Engine::Sqlite).await;
    let alice = server.user("alice").await;
    let days = |days: u32| days * 24 * 60 * 60;
    for (wish, told) in [(u32::MAX, Some(days(60))), (days(61), Some(days(60))), (days(60), None), (60, None)]
    {
        let mut raw = RawClient::open(server.endpoints().mqtt(), Protocol::V5).await;
        let (_, code, properties) =
            raw.connect(&alice.credentials(Connect { expiry: Some(wish), ..lasting("x") })).await;
        // Not told is as wished.
        assert_eq!((code, properties.session_expiry.filter(|expiry| *expiry != wish)), (0, told));
    }
}

#[tokio::test]
async fn a_device_keeps_8_sessions_and_the_ninth_discards_the_oldest() {
    let server = TestServer::start(Engine::Sqlite).await;
    let alice = server.user("alice").await;
    for number in 1..=9 {
        let (raw, _) = alice.raw_session(Protocol::V5, lasting(&number.to_string())).await;
        raw.disconnect().await;
        // Its end is stored when it can be taken up again; of two in one millisecond either is the older.
        let (raw, _) = alice.raw_session(Protocol::V5, lasting(&number.to_string())).await;
        raw.disconnect().await;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let (_, present) = alice.raw_session(Protocol::V5, lasting("9")).await;
    assert!(present);
    let (_, present) = alice.raw_session(Protocol::V5, lasting("2")).await;
    assert!(present);
    let (_, present) = alice.raw_session(Protocol::V5, lasting("1")).await;
    assert!(!present, "the one longest disconnected");
}

#[tokio::test]
async fn silence_beyond_the_keep_alive_ends_the_connection() {
    let server = TestServer::start(Engine::Sqlite).await;
    let alice = server.user("alice").await;
    let mut raw = alice.raw(Protocol::V5, Connect { keep_alive: 1, ..Connect::default() }).await;
    let begun = std::time::Instant::now();
    assert_eq!(raw.closed().await, Some(0x8D));
    assert!((1.4..5.0).contains(&begun.elapsed().as_secs_f64()), "{:?}", begun.elapsed());
    let mut raw = alice.raw(Protocol::V3, Connect { keep_alive: 1, ..Connect::default() }).await;
    assert_eq!(raw.closed().await, None);
}

#[tokio::test]
async fn a_taken_over_stock_client_is_told_so() {
    let server = TestServer::start(Engine::Sqlite).await;
    let (_alice, bob): (Actor, Actor) = server.two_contacts().await;
    let newer = bob.open(&bob.options()).await.unwrap();
    assert!(newer.session_present());
    let why = bob.expect_closed().await;
    assert!(why.contains("SessionTakenOver"), "{why}");
    bob.http.get("/auth/profile").await.expect(200);
    bob.http.post("/auth/logout", json!({})).await.expect(204);
}
