//! From a publisher to those who are connected.

use super::{body, connect, fleeting, subscriber};
use curlew_tests::{
    Protocol, both_engines,
    mqtt::raw::{Answer, Connect, Packet},
};

const BOTH: [Protocol; 2] = [Protocol::V3, Protocol::V5];

both_engines! {
    /// [MQTT-3.8.4-8]: the lower one of what was published and what was granted.
    async fn each_qos_meets_each_qos(server) {
        let alice = server.user("alice").await;
        for protocol in BOTH {
            let mut publisher = alice.raw(protocol, fleeting("publisher")).await;
            for granted in 0..=2 {
                let mut raw = subscriber(&alice, protocol, &[("a/#", granted)]).await;
                for published in 0..=2 {
                    let payload = format!("{published} to {granted}");
                    publisher.publish_to_the_end("a/b", payload.as_bytes(), published).await;
                    let publication = raw.take_publication().await;
                    assert_eq!((&publication.topic[..], body(&publication)), ("a/b", &payload[..]));
                    assert_eq!(publication.qos, published.min(granted), "{payload}");
                    assert!(!publication.dup && !publication.retain);
                }
                raw.expect_quiet().await;
            }
        }
    }

    /// [MQTT-4.6.0-6]: in the order in which they were published, whatever is stored of them on the way.
    async fn messages_of_one_publisher_come_in_order(server) {
        let alice = server.user("alice").await;
        let mut raw = subscriber(&alice, Protocol::V5, &[("#", 1)]).await;
        let mut publisher = connect(&alice, "publisher").await;
        for number in 1..=60u16 {
            let payload = number.to_string();
            match number % 3 {
                0 => publisher.retain("kept", payload.as_bytes(), 1, number).await,
                _ => publisher.publish("a", payload.as_bytes(), 1, number).await,
            }
        }
        for number in 1..=60 {
            assert_eq!(body(&raw.take_publication().await), number.to_string());
        }
    }

    /// [MQTT-3.3.4-2], [MQTT-3.3.4-3]: one copy at the highest QoS, with every identifier.
    async fn overlapping_filters_get_one_copy(server) {
        let alice = server.user("alice").await;
        let mut raw = connect(&alice, "subscriber").await;
        for (filter, qos, identifier) in [("a/#", 0, 1), ("a/+", 2, 2), ("b", 1, 3)] {
            assert_eq!(raw.subscribe_with(&[(filter, qos)], Some(identifier)).await.0, [qos]);
        }
        connect(&alice, "publisher").await.publish_to_the_end("a/b", b"once", 2).await;
        let publication = raw.take_publication().await;
        let mut identifiers = publication.properties.subscription_ids;
        identifiers.sort_unstable();
        assert_eq!((publication.qos, identifiers), (2, vec![1, 2]));
        raw.expect_quiet().await;
    }

    /// [MQTT-3.8.3-3], [MQTT-3.3.1-12], [MQTT-3.3.1-13]
    async fn subscription_options_count(server) {
        const NO_LOCAL: u8 = 0x04;
        const RETAIN_AS_PUBLISHED: u8 = 0x08;
        let alice = server.user("alice").await;
        let mut raw = connect(&alice, "both").await;
        raw.subscribe_with(&[("local", 1 | NO_LOCAL), ("kept", 1 | RETAIN_AS_PUBLISHED), ("plain", 1)], None).await;
        raw.publish_to_the_end("local", b"mine", 1).await;
        raw.expect_quiet().await;
        let mut other = connect(&alice, "other").await;
        other.publish_to_the_end("local", b"another's", 1).await;
        assert_eq!(body(&raw.take_publication().await), "another's");
        for (topic, expected) in [("kept", true), ("plain", false)] {
            other.retain(topic, b"x", 1, 9).await;
            assert_eq!(other.puback(9).await.0, 0);
            assert_eq!(raw.take_publication().await.retain, expected, "{topic}");
        }
    }

    /// [MQTT-3.3.2-4], [MQTT-3.3.2-15], [MQTT-3.3.2-16], [MQTT-3.3.2-17], [MQTT-3.3.2-18], [MQTT-3.3.2-20]
    async fn properties_are_passed_on_unaltered(server) {
        let alice = server.user("alice").await;
        let mut raw = subscriber(&alice, Protocol::V5, &[("a", 1)]).await;
        let mut old = alice.raw(Protocol::V3, fleeting("old")).await;
        old.subscribe(&[("a", 1)]).await;
        let pair = |name: &str, value: &str| {
            [&[0x26][..], &curlew_tests::mqtt::raw::text(name), &curlew_tests::mqtt::raw::text(value)].concat()
        };
        let text = |id: u8, value: &str| [&[id][..], &curlew_tests::mqtt::raw::text(value)].concat();
        let properties = [
            vec![0x01, 1],
            text(0x03, "text/plain"),
            text(0x08, "where/to"),
            text(0x09, "7"),
            pair("b", "2"),
            pair("a", "1"),
            pair("b", "2"),
        ]
        .concat();
        let mut publisher = connect(&alice, "publisher").await;
        publisher.publish_with(&properties, "a", "déjà vu".as_bytes(), 5).await;
        assert_eq!(publisher.puback(5).await.0, 0);
        let got = raw.take_publication().await;
        let (user, properties) = (got.properties.user.clone(), got.properties.clone());
        let pairs = [("b", "2"), ("a", "1"), ("b", "2")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(user, pairs);
        assert_eq!(properties.payload_format, Some(1));
        assert_eq!(properties.content_type.as_deref(), Some("text/plain"));
        assert_eq!(properties.response_topic.as_deref(), Some("where/to"));
        assert_eq!(properties.correlation_data.as_deref(), Some("7"));
        assert_eq!(body(&old.take_publication().await), "déjà vu");
    }

    /// [MQTT-4.3.3-10], [MQTT-4.3.3-12]: sent again before PUBREL, it is not published again; afterwards it is another.
    async fn a_publication_at_qos_2_is_one(server) {
        let alice = server.user("alice").await;
        let mut raw = subscriber(&alice, Protocol::V5, &[("a", 0)]).await;
        let mut publisher = connect(&alice, "publisher").await;
        for round in ["first", "second"] {
            for dup in [false, true, true] {
                let bytes = publisher.encode_publish("a", round.as_bytes(), 2, 8, dup);
                publisher.write(&bytes).await;
                assert_eq!(publisher.read().await, Some(Packet::PubRec { id: 8, reason: 0 }));
            }
            publisher.answer(Answer::Release, 8).await;
            assert_eq!(publisher.read().await, Some(Packet::PubComp { id: 8, reason: 0 }));
            publisher.answer(Answer::Release, 8).await;
            assert_eq!(publisher.read().await, Some(Packet::PubComp { id: 8, reason: 0x92 }));
            assert_eq!(body(&raw.publication().await), round);
        }
        raw.expect_quiet().await;
    }

    /// [MQTT-3.3.4-9]: no more at once than the client's Receive Maximum, at QoS 2 until PUBCOMP.
    async fn a_client_gets_no_more_at_once_than_it_takes(server) {
        let alice = server.user("alice").await;
        let mut raw = alice.raw(Protocol::V5, Connect { receive_maximum: Some(2), ..fleeting("narrow") }).await;
        raw.subscribe(&[("a", 2)]).await;
        let mut publisher = connect(&alice, "publisher").await;
        for _ in 0..3 {
            publisher.publish_to_the_end("a", b"x", 2).await;
        }
        let (first, _second) = (raw.publication().await, raw.publication().await);
        raw.expect_quiet().await;
        raw.answer(Answer::Receive, first.id).await;
        assert_eq!(raw.read().await, Some(Packet::PubRel { id: first.id, reason: 0 }));
        raw.expect_quiet().await;
        raw.answer(Answer::Complete, first.id).await;
        raw.publication().await;
    }

    /// [MQTT-3.1.2-24], [MQTT-3.1.2-25]: what is larger than the client takes counts as delivered.
    async fn a_client_gets_nothing_larger_than_it_takes(server) {
        let alice = server.user("alice").await;
        let connect_small = Connect { maximum_packet_size: Some(60), ..fleeting("small") };
        let mut raw = alice.raw(Protocol::V5, connect_small).await;
        raw.subscribe(&[("a", 2)]).await;
        let mut publisher = connect(&alice, "publisher").await;
        publisher.publish_to_the_end("a", &[b'x'; 60], 2).await;
        publisher.publish_to_the_end("a", b"fits", 1).await;
        assert_eq!(body(&raw.publication().await), "fits");
    }

    async fn an_unsubscribed_client_hears_nothing_more(server) {
        let alice = server.user("alice").await;
        let mut raw = subscriber(&alice, Protocol::V5, &[("a", 1)]).await;
        assert_eq!(raw.unsubscribe("a").await, [0]);
        assert_eq!(raw.unsubscribe("a").await, [0x11]);
        connect(&alice, "publisher").await.publish_to_the_end("a", b"x", 1).await;
        raw.expect_quiet().await;
    }

    async fn what_is_too_large_is_refused_and_the_connection_stays(server) {
        let alice = server.user("alice").await;
        let mut raw = subscriber(&alice, Protocol::V5, &[("#", 1)]).await;
        let mut publisher = connect(&alice, "publisher").await;
        publisher.publish("a", &vec![0; 64 * 1024 + 1], 1, 3).await;
        let (reason, properties) = publisher.puback(3).await;
        assert_eq!(reason, 0x99);
        assert!(properties.reason_string.starts_with("payload-too-large"), "{}", properties.reason_string);
        publisher.publish_to_the_end("a", &vec![0; 64 * 1024], 1).await;
        assert_eq!(raw.take_publication().await.payload.len(), 64 * 1024);
    }
}

/// [MQTT-3.1.2-24]: a client that takes not even a CONNACK cannot be served.
#[tokio::test]
async fn a_client_that_takes_no_connack_is_closed() {
    use curlew_tests::{Engine, RawClient, TestServer};
    let server = TestServer::start(Engine::Sqlite).await;
    let alice = server.user("alice").await;
    let mut raw = RawClient::open(server.endpoints().mqtt(), Protocol::V5).await;
    let connect = Connect { maximum_packet_size: Some(5), ..fleeting("tiny") };
    assert_eq!(raw.try_connect(&alice.credentials(connect)).await, None);
}
