//! Retained messages.

use super::{body, connect, fleeting, lasting, subscriber};
use curlew_tests::{Protocol, RawClient, both_engines, mqtt::raw::Connect};

async fn retain(raw: &mut RawClient, topic: &str, payload: &str, qos: u8) {
    raw.retain(topic, payload.as_bytes(), qos, 5).await;
    if qos == 0 {
        return raw.expect_quiet().await;
    }
    assert_eq!(raw.puback(5).await.0, 0, "{topic}");
}

/// What comes at once for these filters, in the order of their topics.
async fn kept(raw: &mut RawClient, filters: &[(&str, u8)]) -> Vec<(String, String, u8)> {
    let (codes, mut publications) = raw.subscribe_with(filters, None).await;
    assert!(codes.iter().all(|code| *code < 3), "{codes:?}");
    raw.ping().await;
    while let Some(curlew_tests::mqtt::raw::Packet::Publish(publication)) = raw.read().await {
        publications.push(publication);
    }
    let mut kept: Vec<_> = publications
        .iter()
        .map(|publication| {
            assert!(publication.retain, "[MQTT-3.3.1-8]");
            (publication.topic.clone(), body(publication).to_owned(), publication.qos)
        })
        .collect();
    kept.sort();
    kept
}

fn expected(kept: &[(&str, &str, u8)]) -> Vec<(String, String, u8)> {
    kept.iter().map(|(topic, payload, qos)| ((*topic).to_owned(), (*payload).to_owned(), *qos)).collect()
}

both_engines! {
    /// [MQTT-3.3.1-5], [MQTT-3.3.1-6], [MQTT-3.3.1-7], [MQTT-3.3.1-9]
    async fn a_new_subscription_gets_what_is_kept(server) {
        let alice = server.user("alice").await;
        let mut publisher = connect(&alice, "publisher").await;
        for (topic, qos) in [("a", 0), ("a/b", 1), ("a/c", 1), ("/a", 1), ("b", 1), ("$a", 1)] {
            retain(&mut publisher, topic, topic, qos).await;
        }
        retain(&mut publisher, "a/b", "newer", 1).await;
        retain(&mut publisher, "a/c", "", 1).await;
        let mut raw = connect(&alice, "one").await;
        assert_eq!(
            kept(&mut raw, &[("a/#", 1)]).await,
            expected(&[("a", "a", 0), ("a/b", "newer", 1)])
        );
        let mut raw = connect(&alice, "two").await;
        let all = [("/a", "/a", 1), ("a", "a", 0), ("a/b", "newer", 1), ("b", "b", 1)];
        assert_eq!(kept(&mut raw, &[("#", 2)]).await, expected(&all), "without what begins with $");
        let mut raw = connect(&alice, "three").await;
        assert_eq!(kept(&mut raw, &[("+", 0)]).await, expected(&[("a", "a", 0), ("b", "b", 0)]));
        assert_eq!(kept(&mut raw, &[("$a", 0), ("nothing", 0)]).await, expected(&[("$a", "$a", 0)]));
        server.kill_and_restart().await;
        let mut raw = connect(&alice, "four").await;
        assert_eq!(kept(&mut raw, &[("#", 2)]).await, expected(&all));
    }

    /// [MQTT-3.3.1-9], [MQTT-3.3.1-10], [MQTT-3.3.1-11]
    async fn retain_handling_says_when(server) {
        const IF_NEW: u8 = 0x10;
        const NEVER: u8 = 0x20;
        let alice = server.user("alice").await;
        retain(&mut connect(&alice, "publisher").await, "a", "kept", 1).await;
        let one = expected(&[("a", "kept", 1)]);
        let mut raw = connect(&alice, "subscriber").await;
        assert_eq!(kept(&mut raw, &[("a", 1 | IF_NEW)]).await, one);
        assert_eq!(kept(&mut raw, &[("a", 1 | IF_NEW)]).await, []);
        assert_eq!(kept(&mut raw, &[("a", 1)]).await, one);
        assert_eq!(kept(&mut raw, &[("a", 1 | NEVER)]).await, []);
        assert_eq!(kept(&mut raw, &[("+", 1 | NEVER)]).await, []);
        assert_eq!(kept(&mut raw, &[("$share/g/a", 1)]).await, [], "section 4.8.2");
    }

    /// What a session that lasts was to get, it gets after a crash.
    async fn what_is_kept_waits_for_a_session_that_lasts(server) {
        let alice = server.user("alice").await;
        retain(&mut connect(&alice, "publisher").await, "a", "kept", 1).await;
        let mut raw = alice.raw(Protocol::V5, Connect { receive_maximum: Some(1), ..lasting("sub") }).await;
        retain(&mut connect(&alice, "publisher").await, "b", "kept too", 1).await;
        raw.subscribe(&[("#", 1)]).await;
        server.kill_and_restart().await;
        let (mut raw, present) = alice.raw_session(Protocol::V5, lasting("sub")).await;
        assert!(present);
        let (first, second) = (raw.take_publication().await, raw.take_publication().await);
        assert_eq!([body(&first), body(&second)], ["kept", "kept too"]);
        assert!(first.retain && second.retain);
    }

    /// [MQTT-3.3.2-5], [MQTT-3.3.2-6]
    async fn what_is_kept_expires(server) {
        let alice = server.user("alice").await;
        let mut publisher = connect(&alice, "publisher").await;
        for (topic, secs) in [("short", 1u32), ("long", 100)] {
            let properties = [&[0x02][..], &secs.to_be_bytes()].concat();
            let mut bytes = publisher.encode_with(&properties, topic, b"x", 7);
            bytes[0] |= 1;
            publisher.write(&bytes).await;
            assert_eq!(publisher.puback(7).await.0, 0);
        }
        tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
        let mut raw = connect(&alice, "subscriber").await;
        let (_, mut before) = raw.subscribe_with(&[("#", 0)], None).await;
        let publication = match before.pop() {
            Some(publication) => publication,
            None => raw.publication().await,
        };
        assert_eq!(publication.topic, "long");
        let left = publication.properties.message_expiry.unwrap();
        assert!((90..=99).contains(&left), "{left}");
        raw.expect_quiet().await;
    }

    async fn there_are_only_so_many(server) {
        let alice = server.user("alice").await;
        let mut publisher = connect(&alice, "publisher").await;
        let payload = vec![b'x'; 64 * 1024];
        let mut refused = None;
        for number in 1..=64u16 {
            publisher.retain(&format!("a/{number}"), &payload, 1, number).await;
            let (reason, properties) = publisher.puback(number).await;
            if reason != 0 {
                refused = Some((number, reason, properties.reason_string));
                break;
            }
        }
        let (number, reason, detail) = refused.expect("a bound");
        assert_eq!((number, reason), (64, 0x97), "{detail}");
        assert!(detail.starts_with("retained-full"), "{detail}");
        let mut raw = subscriber(&alice, Protocol::V3, &[("a/64", 1)]).await;
        raw.expect_quiet().await;
        publisher.publish_to_the_end("a/64", b"not kept", 1).await;
        assert_eq!(body(&raw.take_publication().await), "not kept");
    }

    async fn in_mqtt_3_it_is_the_same(server) {
        let alice = server.user("alice").await;
        let mut publisher = alice.raw(Protocol::V3, fleeting("publisher")).await;
        retain(&mut publisher, "a", "kept", 1).await;
        let mut raw = alice.raw(Protocol::V3, fleeting("subscriber")).await;
        raw.write(&raw.encode_subscribe(1, &[("a", 1)])).await;
        let mut got = Vec::new();
        while got.len() < 2 {
            got.push(raw.read().await.unwrap());
        }
        assert!(got.iter().any(|packet| matches!(packet, curlew_tests::mqtt::raw::Packet::Publish(p) if p.retain)), "{got:?}");
    }
}
