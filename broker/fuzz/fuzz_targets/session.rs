//! Any sequence of packets and events through the session machine, with time passed in: the window is kept, packet
//! identifiers in use are not used again, rows of a stream and places of the queue go out in order, nothing follows the end.
#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use curlew_broker::{
    delivery::SharedEvent,
    format::Format,
    packet::{In, Out, PacketId, Publish, PublishProperties, Qos, Reason, RetainHandling, SubscribeFilter, Version},
    plain::Item,
    session::{Action, Due, Outcome, Page, Parked, Session, Start, StateTopic},
    topic::Space,
};
use curlew_domain::{
    chat::StayEnd,
    clock::Timestamp,
    event::{Event, EventBody},
    ids::{ChatId, Seq, Stream, UserId},
    plain::{PlainMessage, PlainProperties, Recipient},
    receipt::Status,
    session::Cursors,
};
use libfuzzer_sys::fuzz_target;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// A receipt event of the chat.
fn receipt(chat: ChatId) -> Arc<SharedEvent> {
    let body = EventBody::MessageStatus { message_seq: 1, status: Status::Read };
    SharedEvent::new(Event::live(Uuid::nil(), Timestamp(1), Some(chat), body))
}

#[derive(Arbitrary, Debug)]
enum Step {
    Publish { qos: u8, id: u8, topic: u8, alias: Option<u8> },
    Ack { kind: u8, id: u8, queued: bool, bad: bool },
    Subscribe { filter: u8, qos: u8 },
    Unsubscribe { filter: u8 },
    Ping,
    Disconnect { reason: bool, expiry: Option<u8> },
    Auth,
    Row { chat: u8, ahead: u8 },
    Joined { chat: u8, seq: u8 },
    Hint { seq: u8 },
    Receipt { chat: u8 },
    Stays,
    Lag,
    Live { qos: u8 },
    Queued { qos: u8, ahead: u8 },
    Pull(u8),
    Work,
    CommandDone { refused: bool, recorded: bool },
    Tick(u8),
}

#[derive(Arbitrary, Debug)]
struct Plan {
    v5: bool,
    lasting: bool,
    mounted: bool,
    window: u8,
    keep_alive: u8,
    sent: u8,
    steps: Vec<Step>,
}

const FILTERS: [&str; 8] =
    ["#", "chats/+/messages", "users/+/x/#", "a/+", "a/#/b", "$share/g/a", "users/+/events", "+/+/+"];

fn id<T: From<Uuid>>(n: u128) -> T {
    Uuid::from_u128(n).into()
}

fn qos(level: u8) -> Qos {
    Qos::from_level(level % 3).expect("0 to 2")
}

struct World {
    session: Session,
    now: Instant,
    me: UserId,
    window: usize,
    actions: VecDeque<Action>,
    commands: VecDeque<curlew_broker::session::Command>,
    ends: HashMap<u8, Seq>,
    queue_end: Seq,
    /// In flight as the client sees it: what it was for.
    in_flight: BTreeMap<u16, Bytes>,
    rows_sent: HashMap<String, Seq>,
    queue_sent: Seq,
    ended: bool,
}

impl World {
    fn new(plan: &Plan) -> Self {
        let me = id(1);
        let space = if plan.mounted { Space::mounted(me, "x").expect("a mount") } else { Space::of(me) };
        let window = u16::from(plan.window % 8) + 1;
        let now = Instant::now();
        let start = Start {
            me,
            space,
            version: if plan.v5 { Version::V5 } else { Version::V3 },
            format: if plan.sent % 2 == 0 { Format::Json } else { Format::Cbor },
            filters: String::new(),
            cursors: Cursors::new(),
            left_at: plan.lasting.then_some(Timestamp(1)),
            parked: Parked::default(),
            sent: u64::from(plan.sent % 4),
            received: Vec::new(),
            window,
            keep_alive: u16::from(plan.keep_alive),
            expiry_secs: if plan.lasting { 3600 } else { 0 },
            named_method: plan.keep_alive % 2 == 0,
            rates: Arc::default(),
        };
        Self {
            session: Session::new(start, now),
            now,
            me,
            window: window.into(),
            actions: VecDeque::new(),
            commands: VecDeque::new(),
            ends: HashMap::new(),
            queue_end: 0,
            in_flight: BTreeMap::new(),
            rows_sent: HashMap::new(),
            queue_sent: 0,
            ended: false,
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Publish { qos: level, id: packet, topic, alias } => {
                let qos = qos(*level);
                let topics = [format!("chats/{}/send", id::<ChatId>(0x101)), "a/b".into(), format!("users/{}/x/a", self.me)];
                let alias = alias.map(u16::from).filter(|alias| *alias > 0);
                self.receive(In::Publish(Box::new(Publish {
                    topic: topics[usize::from(*topic) % 3].clone(),
                    payload: Bytes::from_static(b"{}"),
                    qos,
                    dup: false,
                    retain: topic % 2 == 0,
                    packet_id: (qos > Qos::AtMostOnce).then(|| packet_id(*packet, false)),
                    properties: PublishProperties { topic_alias: alias, ..PublishProperties::default() },
                })));
            }
            Step::Ack { kind, id: packet, queued, bad } => {
                let id = packet_id(*packet, *queued);
                let reason = if *bad { Reason::UnspecifiedError } else { Reason::Success };
                self.receive(match kind % 4 {
                    0 => In::PubAck(id, reason),
                    1 => In::PubRec(id, reason),
                    2 => In::PubComp(id, reason),
                    _ => In::PubRel(id, Reason::Success),
                });
                let over = matches!((kind % 4, bad), (0 | 2, _) | (1, true));
                if over {
                    self.in_flight.remove(&id.get());
                }
            }
            Step::Subscribe { filter, qos: level } => self.receive(In::Subscribe {
                packet_id: packet_id(7, false),
                filters: vec![SubscribeFilter {
                    filter: FILTERS[usize::from(*filter) % FILTERS.len()].into(),
                    qos: qos(*level),
                    no_local: false,
                    retain_as_published: false,
                    retain_handling: RetainHandling::Send,
                }],
                subscription_id: None,
            }),
            Step::Unsubscribe { filter } => {
                let filters = vec![FILTERS[usize::from(*filter) % FILTERS.len()].to_owned()];
                self.receive(In::Unsubscribe { packet_id: packet_id(8, false), filters });
            }
            Step::Ping => self.receive(In::PingReq),
            Step::Disconnect { reason, expiry } => {
                let reason = if *reason { Reason::Success } else { Reason::DisconnectWithWill };
                self.receive(In::Disconnect { reason, session_expiry: expiry.map(u32::from) });
            }
            Step::Auth => {
                self.receive(In::Auth { reason: Reason::ReAuthenticate, method: "token".into(), data: Some(Bytes::new()) });
            }
            Step::Row { chat, ahead } => {
                let chat = chat % 3;
                let end = self.ends.entry(chat).or_default();
                *end += 1 + u64::from(ahead % 3);
                let (stream, seq) = (Stream::Chat(id(0x100 + u128::from(chat))), *end);
                self.session.handle_row(stream, seq, || row(seq));
            }
            Step::Joined { chat, seq } => {
                self.session.handle_joined(id(0x100 + u128::from(chat % 3)), u64::from(*seq));
            }
            Step::Hint { seq } => self.session.handle_hint(Stream::Personal(self.me), u64::from(*seq)),
            Step::Receipt { chat } => {
                let chat: ChatId = id(0x100 + u128::from(chat % 3));
                self.session.handle_state(StateTopic::Receipts(chat), receipt(chat));
            }
            Step::Stays => {
                let stays: Vec<_> = self.ends.iter().map(|(chat, end)| stay(*chat, *end)).collect();
                self.session.handle_stays(&stays);
            }
            Step::Lag => self.session.handle_lag(),
            Step::Live { qos: level } => self.plain(qos(*level), None),
            Step::Queued { qos: level, ahead } => {
                self.queue_end += 1 + u64::from(ahead % 2);
                self.plain(qos(level % 2 + 1), Some(self.queue_end));
            }
            Step::Pull(count) => (0..*count).for_each(|_| self.pull()),
            Step::Work => self.work(),
            Step::CommandDone { refused, recorded } => {
                if let Some(command) = self.commands.pop_front() {
                    let outcome = if *refused {
                        Outcome::Refused {
                            reason: Reason::NotAuthorized,
                            code: curlew_domain::ErrorCode::NotMember,
                            detail: "gone".into(),
                            local_id: None,
                        }
                    } else {
                        Outcome::Done { properties: Vec::new(), recorded: *recorded }
                    };
                    self.session.command_done(&command, outcome);
                    while self.session.poll_failure().is_some() {}
                }
            }
            Step::Tick(seconds) => {
                self.now += Duration::from_secs(u64::from(*seconds));
                if self.session.poll_timeout().is_some_and(|due| due <= self.now) {
                    self.session.handle_timeout(self.now);
                }
            }
        }
        while let Some(action) = self.session.poll_action() {
            match action {
                Action::Command(command) => self.commands.push_back(command),
                Action::Close(_) => self.ended = true,
                action => self.actions.push_back(action),
            }
        }
    }

    fn receive(&mut self, packet: In) {
        if self.session.wants_input() {
            self.session.handle_packet(packet, self.now);
        }
    }

    fn plain(&mut self, qos: Qos, seq: Option<Seq>) {
        if self.session.wants_plain() {
            self.session.handle_plain(due(self.me, qos, seq));
        }
    }

    fn pull(&mut self) {
        let Some(out) = self.session.poll_transmit(self.now) else { return };
        let Out::Publish(publish) = out else { return };
        // Live events that were due before are written yet.
        assert!(!self.ended || publish.packet_id.is_none(), "a row or a message after the end");
        if let Some(id) = publish.packet_id {
            let before = self.in_flight.insert(id.get(), publish.payload.clone());
            assert!(before.is_none_or(|before| before == publish.payload), "identifier {id} is in use");
            assert!(self.in_flight.len() <= self.window, "the window");
        }
        if publish.topic.ends_with("/messages") {
            let seq = read_row(&publish.payload);
            let last = self.rows_sent.entry(publish.topic.clone()).or_default();
            assert!(seq > *last, "row {seq} after {last}");
            *last = seq;
        } else if publish.packet_id.is_some_and(|id| id.get() >= 0x8000) {
            let seq = read_row(&publish.payload);
            assert!(seq > self.queue_sent, "place {seq} after {}", self.queue_sent);
            self.queue_sent = seq;
        }
    }

    fn work(&mut self) {
        match self.actions.pop_front() {
            Some(Action::SaveSubscriptions { cursors, .. }) => {
                let mut map = cursors;
                for (chat, end) in &self.ends {
                    map.entry(id::<ChatId>(0x100 + u128::from(*chat)).into()).or_insert(*end);
                }
                self.rows_sent.clear();
                self.session.subscriptions_saved(&map);
            }
            Some(Action::SaveCursors(_)) => self.session.cursors_saved(true, self.now),
            Some(Action::Read(wanted)) => {
                let mut room = 4;
                let read = |(stream, after)| {
                    let end = match stream {
                        Stream::Chat(chat) => {
                            let number = u8::try_from(chat.uuid().as_u128() - 0x100).unwrap_or(0);
                            self.ends.get(&number).copied().unwrap_or(0).max(after)
                        }
                        Stream::Personal(_) => after,
                    };
                    let rows: Vec<_> = (after + 1..=end).take(room).map(|seq| (seq, row(seq))).collect();
                    room -= rows.len();
                    let last = rows.last().map_or(after, |(seq, _)| *seq);
                    Page { stream, after, rows, end: last, more: end > last }
                };
                let pages = wanted.into_iter().map(read).collect();
                self.session.handle_pages(pages);
            }
            Some(Action::ReadQueue { after }) => {
                let page: Vec<_> =
                    (after + 1..=self.queue_end).take(4).map(|seq| due(self.me, Qos::AtLeastOnce, Some(seq))).collect();
                let more = self.queue_end > after + 4;
                self.session.handle_queue(page, more);
            }
            Some(Action::ReadStates(_)) => self.session.handle_states(Vec::new(), None),
            Some(Action::Settle(_)) => self.session.settled(),
            Some(Action::ListStays) => self.step(&Step::Stays),
            Some(Action::Authenticate(_)) => self.session.authenticated(true),
            Some(Action::Acknowledged(..) | Action::Command(_) | Action::Close(_)) | None => {}
        }
    }
}

fn stay(chat: u8, end: Seq) -> StayEnd {
    StayEnd { chat: id(0x100 + u128::from(chat)), first_joined: 1, last_joined: 1, left: None, end, delivered: end }
}

fn packet_id(n: u8, queued: bool) -> PacketId {
    let low = u16::from(n % 32) + 1;
    PacketId::new(if queued { 0x8000 | low } else { low }).expect("not 0")
}

fn row(seq: Seq) -> Bytes {
    seq.to_be_bytes().to_vec().into()
}

fn read_row(payload: &[u8]) -> Seq {
    Seq::from_be_bytes(payload.try_into().expect("8 bytes"))
}

fn due(me: UserId, qos: Qos, seq: Option<Seq>) -> Due {
    let message = Arc::new(PlainMessage {
        topic: format!("users/{me}/x/a"),
        payload: row(seq.unwrap_or(0)),
        qos,
        retain: false,
        properties: PlainProperties::default(),
        expires_at: None,
    });
    let recipient = Recipient { session: id(9), qos, retain: false, subscription_ids: Vec::new() };
    Due { item: Item { seq, ..Item::live(message, recipient) }, expires: None }
}

fuzz_target!(|plan: Plan| {
    let mut world = World::new(&plan);
    for step in &plan.steps {
        world.step(step);
    }
});
