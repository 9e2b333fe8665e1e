use super::*;
use crate::{packet::SubscribeFilter, plain::Waiting, session::Subscriptions};
use curlew_domain::plain::PlainProperties;
use std::sync::atomic::{AtomicUsize, Ordering};
use uuid::Uuid;

fn me() -> UserId {
    Uuid::from_u128(1).into()
}

fn session(n: u128) -> SessionId {
    Uuid::from_u128(0x100 + n).into()
}

#[derive(Default)]
struct Connection {
    number: u64,
    waiting: Waiting,
    woken: AtomicUsize,
}

impl Member for Connection {
    fn number(&self) -> u64 {
        self.number
    }

    fn waiting(&self) -> &Waiting {
        &self.waiting
    }

    fn wake(&self) {
        self.woken.fetch_add(1, Ordering::Relaxed);
    }
}

impl Connection {
    fn payloads(&self) -> Vec<String> {
        std::iter::from_fn(|| self.waiting.pop())
            .map(|item| String::from_utf8(item.message.payload.to_vec()).unwrap())
            .collect()
    }
}

/// Filters of a mounted session, each with its QoS and its number as Subscription Identifier.
fn filters(wishes: &[(&str, Qos)]) -> Vec<Arc<Subscription>> {
    let mut subscriptions = Subscriptions::new(Space::mounted(me(), "x").unwrap());
    for (n, (filter, qos)) in (1..).zip(wishes) {
        let wish = SubscribeFilter {
            filter: (*filter).into(),
            qos: *qos,
            no_local: filter.ends_with("mine"),
            retain_as_published: filter.contains("kept"),
            retain_handling: crate::packet::RetainHandling::Send,
        };
        subscriptions.add(&wish, Some(n)).unwrap();
    }
    subscriptions.own_lane()
}

/// Number, whether it lasts, filters.
type Given<'a> = (u128, bool, &'a [(&'a str, Qos)]);

fn lane(sessions: &[Given<'_>]) -> (Lane, Vec<Arc<Connection>>) {
    let lane = Lane::new(me());
    let connections = sessions
        .iter()
        .map(|(n, lasting, wishes)| {
            let connection = Arc::new(Connection { number: *n as u64, ..Connection::default() });
            lane.enter(session(*n), *lasting, Arc::clone(&connection) as _, filters(wishes));
            connection
        })
        .collect();
    (lane, connections)
}

fn message(topic: &str, qos: Qos) -> Arc<PlainMessage> {
    Arc::new(PlainMessage {
        topic: format!("users/{}/x/{topic}", me()),
        payload: topic.to_owned().into(),
        qos,
        retain: false,
        properties: PlainProperties::default(),
        expires_at: None,
    })
}

type Routed = Vec<(SessionId, Qos)>;

/// Sessions and QoS of the two kinds of recipients.
fn routed(routes: &Routes) -> (Routed, Routed) {
    let list = |recipients: &[Recipient]| recipients.iter().map(|r| (r.session, r.qos)).collect();
    (list(&routes.queue), list(&routes.live))
}

fn pass_on(lane: &Lane, message: &Arc<PlainMessage>) {
    lane.pass_on(message, lane.route(message, None).live);
}

const ZERO: Qos = Qos::AtMostOnce;
const ONE: Qos = Qos::AtLeastOnce;
const TWO: Qos = Qos::ExactlyOnce;

#[test]
fn sessions_that_last_have_a_queue_at_qos_1_and_2_and_others_are_served_live() {
    let (lane, connections) = lane(&[(1, true, &[("a", TWO)]), (2, false, &[("#", ONE)])]);
    let one = (session(1), TWO);
    assert_eq!(routed(&lane.route(&message("a", TWO), None)), (vec![one], vec![(session(2), ONE)]));
    assert_eq!(
        routed(&lane.route(&message("a", ZERO), None)),
        (vec![], vec![(session(1), ZERO), (session(2), ZERO)])
    );
    assert_eq!(routed(&lane.route(&message("b", ONE), None)), (vec![], vec![(session(2), ONE)]));
    pass_on(&lane, &message("a", ZERO));
    assert_eq!(connections[0].payloads(), ["a"]);
    assert_eq!(connections[1].woken.load(Ordering::Relaxed), 1);
    // Away, only what can wait.
    lane.leave(session(1), 1, true);
    lane.leave(session(2), 2, false);
    assert_eq!(routed(&lane.route(&message("a", ONE), None)), (vec![(session(1), ONE)], vec![]));
    assert_eq!(routed(&lane.route(&message("a", ZERO), None)), (vec![], vec![]));
}

#[test]
fn overlapping_filters_give_one_copy_at_the_highest_qos_with_all_identifiers() {
    let (lane, _) = lane(&[(1, false, &[("a/#", ZERO), ("a/+", TWO), ("b", TWO), ("a/kept", ONE)])]);
    let routes = lane.route(&PlainMessage { retain: true, ..(*message("a/kept", TWO)).clone() }, None);
    let [recipient] = &routes.live[..] else { panic!("{routes:?}") };
    assert_eq!(recipient.qos, TWO);
    let mut ids = recipient.subscription_ids.clone();
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 4]);
    assert!(recipient.retain, "one of them wants RETAIN as published");
    assert!(
        !lane.route(&PlainMessage { retain: true, ..(*message("a/b", TWO)).clone() }, None).live[0].retain
    );
}

#[test]
fn no_local_keeps_a_message_from_its_publisher() {
    let (lane, _) = lane(&[(1, false, &[("mine", ONE)]), (2, false, &[("mine", ONE)])]);
    let routes = lane.route(&message("mine", ONE), Some(session(1)));
    assert_eq!(routed(&routes).1, [(session(2), ONE)]);
}

#[test]
fn wildcards_do_not_match_dollar_topics_of_a_mounted_session() {
    let (lane, _) =
        lane(&[(1, false, &[("#", ZERO)]), (2, false, &[("+/a", ZERO)]), (3, false, &[("$s/a", ZERO)])]);
    assert_eq!(routed(&lane.route(&message("$s/a", ZERO), None)).1, [(session(3), ZERO)]);
    assert_eq!(routed(&lane.route(&message("s/a", ZERO), None)).1.len(), 2);
    // Nobody else has a reason to spare them.
    let space = Space::of(me());
    let mut subscriptions = Subscriptions::new(space);
    let wish = SubscribeFilter {
        filter: "#".into(),
        qos: ZERO,
        no_local: false,
        retain_as_published: false,
        retain_handling: crate::packet::RetainHandling::Send,
    };
    subscriptions.add(&wish, None).unwrap();
    lane.set_filters(session(1), subscriptions.own_lane());
    assert_eq!(routed(&lane.route(&message("$s/a", ZERO), None)).1.len(), 2);
}

#[test]
fn a_shared_subscription_takes_turns_and_prefers_those_who_are_connected() {
    let wishes: &[(&str, Qos)] = &[("$share/g/a", ONE)];
    let (lane, _) = lane(&[(1, false, wishes), (2, true, wishes), (3, true, &[("$share/other/a", ONE)])]);
    let turn = || {
        let (queue, live) = routed(&lane.route(&message("a", ONE), None));
        [queue, live].concat().into_iter().map(|(session, _)| session).collect::<Vec<_>>()
    };
    let turns: Vec<_> = (0..4).map(|_| turn()).collect();
    assert!(
        turns.iter().all(|turn| turn.len() == 2 && turn.contains(&session(3))),
        "each share has one: {turns:?}"
    );
    let first = turns.iter().filter(|turn| turn.contains(&session(1))).count();
    assert_eq!(first, 2, "{turns:?}");
    lane.leave(session(2), 2, true);
    assert!((0..3).all(|_| turn().contains(&session(1))));
    lane.leave(session(1), 1, false);
    assert!((0..3).all(|_| turn().contains(&session(2))), "it waits for one who lasts");
    lane.set_filters(session(2), Vec::new());
    assert_eq!(turn(), [session(3)]);
}

#[test]
fn an_older_connection_that_ends_late_changes_nothing() {
    let (lane, _) = lane(&[(1, true, &[("a", ONE)])]);
    let newer = Arc::new(Connection { number: 9, ..Connection::default() });
    lane.enter(session(1), true, Arc::clone(&newer) as _, filters(&[("b", ONE)]));
    lane.leave(session(1), 1, false);
    assert_eq!(routed(&lane.route(&message("a", ONE), None)), (vec![], vec![]));
    lane.deliver(&PlainDelivery {
        user: me(),
        message: message("b", ONE),
        queued: lane.route(&message("b", ONE), None).queue.into_iter().map(|r| (r, 1)).collect(),
        live: Vec::new(),
        gone: Vec::new(),
    });
    assert_eq!(newer.waiting.pop().unwrap().seq, Some(1));
}

#[test]
fn a_session_that_is_gone_is_forgotten_unless_it_is_connected() {
    let (lane, _) = lane(&[(1, true, &[("a", ONE)]), (2, true, &[("a", ONE)])]);
    lane.leave(session(1), 1, true);
    lane.deliver(&PlainDelivery {
        user: me(),
        message: message("a", ONE),
        queued: Vec::new(),
        live: Vec::new(),
        gone: vec![session(1), session(2)],
    });
    assert_eq!(routed(&lane.route(&message("a", ONE), None)).0, [(session(2), ONE)]);
}

#[test]
fn a_slow_connection_loses_the_oldest_beyond_the_bound() {
    let (lane, connections) = lane(&[(1, false, &[("#", ZERO)])]);
    for n in 0..=curlew_domain::plain::MAX_QUEUED {
        pass_on(&lane, &message(&n.to_string(), ZERO));
    }
    let payloads = connections[0].payloads();
    assert_eq!(payloads.len(), curlew_domain::plain::MAX_QUEUED as usize);
    assert_eq!(payloads[0], "1");
}
