//! The plain lane of a session that lasts, against a model: whatever the client, the store and the network do, and whenever
//! the connection or the server dies, each message at QoS 1 arrives at least once and each one at QoS 2 exactly once, for the
//! first time in the order in which they were queued; the window is kept, and no packet identifier is used for two messages
//! at once.
//!
//! The machine is the real one; queue, client and network are made here, so that everything which a runtime could delay is a
//! step of the test.

use super::*;
use crate::plain::Item;
use curlew_domain::plain::{PlainMessage, PlainProperties, Recipient, Settle};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// What can happen.
#[derive(Clone, Debug)]
enum Op {
    /// A message is queued; `told`: the session hears of it.
    Publish {
        exactly_once: bool,
        told: bool,
    },
    /// What waits outside is handed to the session, as far as it has room.
    Deliver,
    /// So many packets go out to the client.
    Pull(usize),
    /// The client takes so many packets in and answers them.
    Read(usize),
    /// So many answers arrive.
    Answer(usize),
    /// The store does what it was asked for.
    Work,
    /// The same, but the server dies before it hears of it.
    WorkAndCrash,
    Tick(u64),
    /// The connection breaks; what is on its way is lost, both ways.
    Break,
    /// So does the server.
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (any::<bool>(), prop::bool::weighted(0.8)).prop_map(|(exactly_once, told)| Op::Publish { exactly_once, told }),
        12 => Just(Op::Deliver),
        12 => (1usize..6).prop_map(Op::Pull),
        12 => (1usize..6).prop_map(Op::Read),
        12 => (1usize..6).prop_map(Op::Answer),
        12 => Just(Op::Work),
        1 => Just(Op::WorkAndCrash),
        4 => (0u64..3).prop_map(Op::Tick),
        1 => Just(Op::Break),
        1 => Just(Op::Crash),
    ]
}

/// A row of the queue.
#[derive(Clone, Debug)]
struct Row {
    qos: Qos,
    released: bool,
}

/// What a client keeps, whatever happens to its connections.
#[derive(Default)]
struct Client {
    /// Messages taken, in order.
    taken: Vec<(Seq, Qos)>,
    /// QoS 2: identifiers for which PUBREL is awaited.
    received: BTreeSet<u16>,
}

struct World {
    // The store.
    queue: BTreeMap<Seq, Row>,
    last_seq: Seq,
    sent: Seq,
    // The process.
    machine: Machine,
    waiting: VecDeque<Due>,
    asked: VecDeque<Action>,
    // The network.
    outgoing: VecDeque<Out>,
    answers: VecDeque<In>,
    client: Client,
    window: u16,
    /// Identifiers of exchanges that are not over, as the connection has seen them.
    in_use: HashMap<u16, Seq>,
}

impl World {
    fn new(window: u16) -> Self {
        Self {
            queue: BTreeMap::new(),
            last_seq: 0,
            sent: 0,
            machine: Self::open(0, window),
            waiting: VecDeque::new(),
            asked: VecDeque::new(),
            outgoing: VecDeque::new(),
            answers: VecDeque::new(),
            client: Client::default(),
            window,
            in_use: HashMap::new(),
        }
    }

    fn open(sent: Seq, window: u16) -> Machine {
        let filters = filters(&[("users/+/x/#", Qos::ExactlyOnce)]);
        Machine::new(Start { filters, sent, window, ..start() })
    }

    fn run(&mut self, op: &Op) {
        match op {
            Op::Publish { exactly_once, told } => {
                let qos = if *exactly_once { Qos::ExactlyOnce } else { Qos::AtLeastOnce };
                self.last_seq += 1;
                self.queue.insert(self.last_seq, Row { qos, released: false });
                if *told {
                    self.waiting.push_back(due(self.last_seq, &self.queue[&self.last_seq]));
                }
            }
            Op::Deliver => {
                while self.machine.session.wants_plain()
                    && let Some(due) = self.waiting.pop_front()
                {
                    self.machine.session.handle_plain(due);
                }
            }
            Op::Pull(count) => (0..*count).for_each(|_| self.pull()),
            Op::Read(count) => (0..*count).for_each(|_| self.read()),
            Op::Answer(count) => {
                for _ in 0..*count {
                    if let Some(answer) = self.answers.pop_front() {
                        self.machine.receive(answer);
                    }
                }
            }
            Op::Work => self.work(true),
            Op::WorkAndCrash => {
                self.work(false);
                self.reconnect();
            }
            Op::Tick(seconds) => self.machine.pass(Duration::from_secs(*seconds)),
            Op::Break => {
                let settle = self.machine.session.take_settle();
                self.store(&settle);
                self.reconnect();
            }
            Op::Crash => self.reconnect(),
        }
        let actions = self.machine.actions();
        assert!(!actions.iter().any(|action| matches!(action, Action::Close(_))), "{actions:?}");
        self.asked.extend(actions);
    }

    fn pull(&mut self) {
        let Some(out) = self.machine.session.poll_transmit(self.machine.now) else { return };
        match &out {
            Out::Publish(publish) => {
                let (id, seq) = (publish.packet_id.unwrap().get(), seq_of(publish));
                assert_eq!(*self.in_use.entry(id).or_insert(seq), seq, "identifier {id} is in use");
            }
            Out::PubRel(id, Reason::Success) => {
                let seq = self.queue.keys().find(|seq| place(**seq) == id.get()).copied();
                self.in_use.entry(id.get()).or_insert(seq.unwrap_or(0));
            }
            other => panic!("{other:?}"),
        }
        assert!(self.in_use.len() <= usize::from(self.window) + self.released(), "the window");
        self.outgoing.push_back(out);
    }

    /// Exchanges that an earlier connection had brought to PUBREL go on whatever the window is.
    fn released(&self) -> usize {
        self.queue.values().filter(|row| row.released).count()
    }

    fn read(&mut self) {
        let answer = match self.outgoing.pop_front() {
            Some(Out::Publish(publish)) => {
                let (id, seq) = (publish.packet_id.unwrap(), seq_of(&publish));
                if publish.qos == Qos::AtLeastOnce {
                    self.client.taken.push((seq, publish.qos));
                    In::PubAck(id, Reason::Success)
                } else {
                    if self.client.received.insert(id.get()) {
                        self.client.taken.push((seq, publish.qos));
                    }
                    In::PubRec(id, Reason::Success)
                }
            }
            Some(Out::PubRel(id, _)) => {
                self.client.received.remove(&id.get());
                In::PubComp(id, Reason::Success)
            }
            Some(other) => panic!("{other:?}"),
            None => return,
        };
        if let In::PubAck(id, _) | In::PubComp(id, _) = &answer {
            self.in_use.remove(&id.get());
        }
        self.answers.push_back(answer);
    }

    /// `heard`: the machine is told of it.
    fn work(&mut self, heard: bool) {
        match self.asked.pop_front() {
            Some(Action::Settle(settle)) => {
                self.store(&settle);
                if heard {
                    self.machine.session.settled();
                }
            }
            Some(Action::ReadQueue { after }) => {
                let page: Vec<_> =
                    self.queue.range(after + 1..).take(3).map(|(seq, row)| due(*seq, row)).collect();
                let more = self.queue.range(after + 1..).count() > page.len();
                if heard {
                    self.machine.session.handle_queue(page, more);
                }
            }
            Some(Action::Acknowledged(..) | Action::SaveCursors(_)) | None => {}
            Some(other) => panic!("{other:?}"),
        }
    }

    fn store(&mut self, settle: &Settle) {
        for seq in &settle.released {
            if let Some(row) = self.queue.get_mut(seq) {
                row.released = true;
            }
        }
        for seq in &settle.done {
            self.queue.remove(seq);
        }
        self.sent = self.sent.max(settle.sent);
    }

    fn reconnect(&mut self) {
        self.waiting.clear();
        self.asked.clear();
        self.outgoing.clear();
        self.answers.clear();
        self.in_use.clear();
        self.machine = Self::open(self.sent, self.window);
    }

    /// Everything that is under way comes to its end.
    fn come_to_rest(&mut self) {
        // What nobody was told of is found at the latest by the next connection.
        self.run(&Op::Break);
        for _ in 0..400 {
            for op in [Op::Deliver, Op::Pull(8), Op::Read(8), Op::Answer(8), Op::Work, Op::Tick(2)] {
                self.run(&op);
            }
        }
    }

    fn check(&self) {
        assert!(self.queue.is_empty(), "{:?} is left", self.queue);
        let mut seen = BTreeSet::new();
        let mut last = 0;
        for (seq, qos) in &self.client.taken {
            if seen.insert(*seq) {
                assert!(*seq > last, "{seq} comes after {last}");
                last = *seq;
            } else {
                assert_eq!(*qos, Qos::AtLeastOnce, "{seq} comes twice");
            }
        }
        assert_eq!(seen.len() as u64, self.last_seq, "all of them");
    }
}

fn due(seq: Seq, row: &Row) -> Due {
    let message = PlainMessage {
        topic: "users/00000000-0000-0000-0000-000000000001/x/a".into(),
        payload: seq.to_be_bytes().to_vec().into(),
        qos: row.qos,
        retain: false,
        properties: PlainProperties::default(),
        expires_at: None,
    };
    let recipient = Recipient { session: id(7), qos: row.qos, retain: false, subscription_ids: Vec::new() };
    let item = Item { message: Arc::new(message), recipient, seq: Some(seq), released: row.released };
    Due { item, expires: None }
}

fn seq_of(publish: &Publish) -> Seq {
    Seq::from_be_bytes(publish.payload[..].try_into().unwrap())
}

fn place(seq: Seq) -> u16 {
    0x8000 | u16::try_from(seq).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_and_nothing_at_qos_2_comes_twice(
        window in 1u16..6,
        ops in prop::collection::vec(op(), 0..250),
    ) {
        let mut world = World::new(window);
        for op in &ops {
            world.run(op);
        }
        world.come_to_rest();
        world.check();
    }
}
