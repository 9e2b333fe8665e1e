//! Shared subscriptions (MQTT 5, section 4.8.2).

use super::{body, connect, lasting, subscriber};
use curlew_tests::{Protocol, both_engines, mqtt::raw::Connect};

both_engines! {
    async fn each_message_goes_to_one_of_a_share(server) {
        let alice = server.user("alice").await;
        let mut one = connect(&alice, "one").await;
        let mut two = alice.raw(Protocol::V3, crate::plain::fleeting("two")).await;
        let mut all = subscriber(&alice, Protocol::V5, &[("jobs/#", 1)]).await;
        one.subscribe(&[("$share/workers/jobs/#", 1)]).await;
        two.subscribe(&[("$share/workers/jobs/#", 1)]).await;
        let mut publisher = connect(&alice, "publisher").await;
        for number in 0..10 {
            publisher.publish_to_the_end("jobs/a", number.to_string().as_bytes(), 1).await;
        }
        let mut got = Vec::new();
        for _ in 0..5 {
            got.push(body(&one.take_publication().await).to_owned());
            got.push(body(&two.take_publication().await).to_owned());
        }
        got.sort();
        assert_eq!(got, (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
        one.expect_quiet().await;
        two.expect_quiet().await;
        for number in 0..10 {
            assert_eq!(body(&all.take_publication().await), number.to_string());
        }
        // Who has gone gets nothing.
        two.disconnect().await;
        for number in 10..12 {
            publisher.publish_to_the_end("jobs/a", number.to_string().as_bytes(), 1).await;
            assert_eq!(body(&one.take_publication().await), number.to_string());
        }
    }

    async fn a_share_of_sessions_that_are_away_waits(server) {
        let alice = server.user("alice").await;
        let mut away = alice.raw(Protocol::V5, lasting("away")).await;
        away.subscribe(&[("$share/workers/jobs", 1)]).await;
        away.disconnect().await;
        connect(&alice, "publisher").await.publish_to_the_end("jobs", b"later", 1).await;
        let mut back = alice.raw(Protocol::V5, lasting("away")).await;
        assert_eq!(body(&back.take_publication().await), "later");
    }

    async fn outside_ones_own_lane_there_are_none(server) {
        let alice = server.user("alice").await;
        let mut bare = alice.raw(Protocol::V5, Connect::default()).await;
        let own = format!("$share/g/users/{}/x/#", alice.id);
        let codes = bare.subscribe(&[(&own, 1), ("$share/g/chats/+/messages", 1), ("$share/g/#", 1)]).await;
        assert_eq!(codes, [1, 0x8F, 0x8F]);
        let mut old = alice.raw(Protocol::V3, Connect::default()).await;
        assert_eq!(old.subscribe(&[(&own, 1), ("$share/g/#", 1), ("$share/g", 1)]).await, [1, 0x80, 0x80]);
    }
}
