//! Wills.

use super::{body, connect, fleeting, lasting, subscriber};
use curlew_tests::{
    Protocol, RawClient, both_engines,
    mqtt::raw::{Connect, Publication, Will},
};
use std::time::{Duration, Instant};

fn will() -> Will {
    Will { topic: "will".into(), payload: b"gone".to_vec(), qos: 1, ..Will::default() }
}

fn with(will: Will, connect: Connect) -> Connect {
    Connect { will: Some(will), ..connect }
}

async fn expect(raw: &mut RawClient) -> Publication {
    let publication = raw.take_publication().await;
    assert_eq!((&publication.topic[..], body(&publication)), ("will", "gone"));
    publication
}

both_engines! {
    /// [MQTT-3.1.2-7], [MQTT-3.1.2-8], [MQTT-3.14.4-3]
    async fn a_will_is_published_unless_the_client_takes_it_back(server) {
        let alice = server.user("alice").await;
        for protocol in [Protocol::V3, Protocol::V5] {
            let mut raw = subscriber(&alice, protocol, &[("#", 2)]).await;
            alice.raw(protocol, with(will(), fleeting("mortal"))).await.disconnect().await;
            raw.expect_quiet().await;
            drop(alice.raw(protocol, with(will(), fleeting("mortal"))).await);
            let publication = expect(&mut raw).await;
            assert_eq!((publication.qos, publication.retain), (1, false));
            // A protocol error.
            let mut mortal = alice.raw(protocol, with(will(), fleeting("mortal"))).await;
            mortal.write(&[0xF0]).await;
            mortal.write(&[0xFF, 0xFF, 0xFF, 0xFF]).await;
            expect(&mut raw).await;
            raw.expect_quiet().await;
        }
        let mut raw = subscriber(&alice, Protocol::V5, &[("#", 2)]).await;
        alice.raw(Protocol::V5, with(will(), fleeting("mortal"))).await.leave(0x04).await;
        expect(&mut raw).await;
        raw.expect_quiet().await;
    }

    /// [MQTT-3.1.2-14], [MQTT-3.1.2-15]
    async fn a_will_may_be_retained(server) {
        let alice = server.user("alice").await;
        let mut raw = subscriber(&alice, Protocol::V5, &[("will", 1)]).await;
        drop(alice.raw(Protocol::V5, with(Will { retain: true, ..will() }, fleeting("mortal"))).await);
        assert!(!expect(&mut raw).await.retain);
        let mut late = connect(&alice, "late").await;
        let (_, before) = late.subscribe_with(&[("will", 1)], None).await;
        let kept = match before.into_iter().next() {
            Some(publication) => publication,
            None => late.publication().await,
        };
        assert!(kept.retain);
    }

    /// Section 3.1.3.2.2, [MQTT-3.1.3-9]: after the delay, unless the session goes on, or with its end.
    async fn a_will_may_wait(server) {
        let alice = server.user("alice").await;
        let mut raw = subscriber(&alice, Protocol::V5, &[("#", 1)]).await;
        let delayed = |secs| Will { delay: Some(secs), ..will() };
        // The session ends with the connection: the delay is over.
        drop(alice.raw(Protocol::V5, with(delayed(60), fleeting("fleeting"))).await);
        expect(&mut raw).await;
        // It comes back in time.
        drop(alice.raw(Protocol::V5, with(delayed(1), lasting("back"))).await);
        let mut back = alice.raw(Protocol::V5, lasting("back")).await;
        // It does not.
        let began = Instant::now();
        drop(alice.raw(Protocol::V5, with(delayed(1), lasting("away"))).await);
        expect(&mut raw).await;
        assert!(began.elapsed() >= Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(500)).await;
        raw.expect_quiet().await;
        back.expect_quiet().await;
        // Clean Start ends it.
        drop(alice.raw(Protocol::V5, with(delayed(60), lasting("away"))).await);
        let clean = Connect { clean: true, ..lasting("away") };
        let _clean = alice.raw(Protocol::V5, clean).await;
        expect(&mut raw).await;
    }

    async fn a_connection_that_is_taken_over_leaves_its_will(server) {
        let alice = server.user("alice").await;
        let mut raw = subscriber(&alice, Protocol::V5, &[("#", 1)]).await;
        let mut older = alice.raw(Protocol::V5, with(will(), lasting("same"))).await;
        let _newer = alice.raw(Protocol::V5, lasting("same")).await;
        assert_eq!(older.closed().await, Some(0x8E));
        expect(&mut raw).await;
        let waiting = Will { delay: Some(60), ..will() };
        let mut older = alice.raw(Protocol::V5, with(waiting, lasting("other"))).await;
        let _newer = alice.raw(Protocol::V5, lasting("other")).await;
        assert_eq!(older.closed().await, Some(0x8E));
        raw.expect_quiet().await;
    }

    async fn keep_alive_and_logout_leave_the_will(server) {
        let alice = server.user("alice").await;
        let mut raw = subscriber(&alice, Protocol::V5, &[("#", 1)]).await;
        let tablet = alice.log_in_on(&server, "tablet").await;
        let _silent =
            tablet.raw(Protocol::V5, Connect { keep_alive: 1, ..with(will(), fleeting("silent")) }).await;
        expect(&mut raw).await;
        let _loud = tablet.raw(Protocol::V5, with(will(), fleeting("loud"))).await;
        tablet.http.post_nothing("/auth/logout").await.expect(204);
        expect(&mut raw).await;
    }

    /// Whichever process ends the session.
    async fn a_crash_of_the_server_leaves_the_wills(server) {
        let alice = server.user("alice").await;
        let mut raw = alice.raw(Protocol::V5, lasting("subscriber")).await;
        raw.subscribe(&[("#", 1)]).await;
        let _mortal = alice.raw(Protocol::V5, with(will(), fleeting("mortal"))).await;
        server.kill_and_restart().await;
        let mut raw = alice.raw(Protocol::V5, lasting("subscriber")).await;
        expect(&mut raw).await;
        raw.expect_quiet().await;
    }

    async fn a_will_outside_the_lane_is_refused(server) {
        let alice = server.user("alice").await;
        let topics = ["will".to_owned(), format!("chats/{}/send", alice.id), "users/x".to_owned()];
        for topic in topics {
            let mut raw = RawClient::open(server.endpoints().mqtt(), Protocol::V5).await;
            let connect = Connect { options: "", ..with(Will { topic: topic.clone(), ..will() }, fleeting("w")) };
            assert_eq!(raw.connect(&alice.credentials(connect)).await.1, 0x90, "{topic}");
        }
        let own = Will { topic: format!("users/{}/x/will", alice.id), ..will() };
        let mut raw = subscriber(&alice, Protocol::V5, &[("#", 1)]).await;
        drop(alice.raw(Protocol::V5, Connect { options: "", ..with(own, fleeting("w")) }).await);
        expect(&mut raw).await;
    }
}
