//! Promises 3, 4 and 5 against a model: whatever clients, the store and the network do, and in whichever order, nothing is
//! missed, nothing arrives that its reader is not entitled to, streams are in order, and cursors are what was acknowledged.
//!
//! The registry and the session machine are the real ones; the store, the clients and the connections between them are
//! made here, so that every step which a runtime could delay is a step of the test.

mod device;
mod expectation;
mod store;

use crate::{packet::Qos, registry::Registry};
use curlew_domain::ports::relay::{Committed, Relay};
use device::{DEVICES, Device, Link};
use expectation::Filter;
use proptest::prelude::*;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use store::{CHATS, Store, USERS, chat, user};

/// What can happen.
#[derive(Clone, Debug)]
enum Op {
    Connect {
        device: usize,
        clean_start: bool,
        waits: bool,
        picky: bool,
        window: u16,
    },
    Disconnect {
        device: usize,
    },
    Crash {
        committed: usize,
    },
    Subscribe {
        device: usize,
        filters: Vec<(Filter, Qos)>,
        id: Option<u32>,
    },
    Unsubscribe {
        device: usize,
        filter: Filter,
    },
    Send {
        chat: usize,
        count: usize,
    },
    Join {
        chat: usize,
        user: usize,
        all: bool,
    },
    Leave {
        chat: usize,
        user: usize,
    },
    /// The same, and every session hears of it at once.
    Prompt(Box<Op>),
    Acknowledge {
        device: usize,
        picks: Vec<usize>,
    },
    /// The registry is told of commits, of all at once or of one after the other.
    Announce {
        commits: usize,
        together: bool,
    },
    Deliver {
        device: usize,
        count: usize,
    },
    /// The inbox overflows after so many deliveries.
    Lose {
        device: usize,
        kept: usize,
    },
    /// The store does, and the connection learns, what was asked for.
    Work {
        device: usize,
        picks: Vec<usize>,
    },
    /// The socket takes so many packets.
    Pull {
        device: usize,
        packets: usize,
    },
    Page {
        device: usize,
        rows: usize,
    },
    Tick {
        seconds: u64,
    },
    /// What is under way for a device arrives, so many packets are taken and as many acknowledged as the client cares to.
    Flow {
        device: usize,
        packets: usize,
        picks: Vec<usize>,
    },
}

struct World {
    store: Store,
    registry: Arc<Registry>,
    devices: Vec<Device>,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let devices = (0..DEVICES).map(Device::new).collect();
        Self {
            store: Store::default(),
            registry: Registry::new(Duration::ZERO),
            devices,
            now: Instant::now(),
        }
    }

    /// Everybody is in a chat, connected, and has subscribed.
    fn begin(&mut self, filters: &[(Filter, Qos); DEVICES]) {
        (0..USERS).for_each(|n| self.run(&Op::Join { chat: 0, user: n, all: false }));
        for (device, filter) in filters.iter().enumerate() {
            self.run(&Op::Connect { device, clean_start: false, waits: true, picky: false, window: 4 });
            self.come_to_rest();
            self.run(&Op::Subscribe { device, filters: vec![*filter], id: None });
        }
    }

    fn run(&mut self, op: &Op) {
        let Self { store, registry, devices, now } = self;
        let now_is = *now;
        match op {
            Op::Connect { device, clean_start, waits, picky, window } => {
                devices[*device].connect(store, registry, (*clean_start, *waits, *picky), *window);
            }
            Op::Disconnect { device } => devices[*device].disconnect(store, true),
            Op::Crash { committed } => {
                for device in devices {
                    device.crash(store, *committed);
                }
                store.unannounced.clear();
                *registry = Registry::new(Duration::ZERO);
            }
            Op::Subscribe { device, filters, id } => devices[*device].subscribe(store, now_is, filters, *id),
            Op::Unsubscribe { device, filter } => devices[*device].unsubscribe(store, now_is, *filter),
            Op::Send { chat: n, count } => (0..*count).for_each(|_| store.send(chat(*n))),
            Op::Join { chat, user: n, all } => store.join(*chat, user(*n), *all),
            Op::Leave { chat, user: n } => store.leave(*chat, user(*n)),
            Op::Prompt(op) => {
                self.run(op);
                self.run(&Op::Announce { commits: usize::MAX, together: false });
                self.devices.iter_mut().for_each(|device| while device.deliver(&self.store, now_is) {});
            }
            Op::Acknowledge { device, picks } => {
                for pick in picks {
                    devices[*device].acknowledge(store, now_is, *pick);
                }
            }
            Op::Announce { commits, together } => {
                let commits = store.unannounced.drain(..store.unannounced.len().min(*commits));
                if *together {
                    registry.committed(commits.flatten().map(Committed::Row).collect());
                } else {
                    commits
                        .for_each(|rows| registry.committed(rows.into_iter().map(Committed::Row).collect()));
                }
            }
            Op::Deliver { device, count } => {
                for _ in 0..*count {
                    devices[*device].deliver(store, now_is);
                }
            }
            Op::Lose { device, kept } => devices[*device].lose(store, now_is, *kept),
            Op::Work { device, picks } => {
                for pick in picks {
                    devices[*device].work(store, registry, now_is, *pick);
                }
            }
            Op::Pull { device, packets } => {
                devices[*device].pull(store, now_is, *packets);
            }
            Op::Page { device, rows } => devices[*device].page = *rows,
            Op::Tick { seconds } => {
                *now += Duration::from_secs(*seconds);
                for device in devices {
                    device.tick(store, *now);
                }
            }
            Op::Flow { device, packets, picks } => {
                let device = &mut devices[*device];
                while device.work(store, registry, now_is, 0) || device.deliver(store, now_is) {}
                device.pull(store, now_is, *packets);
                while device.work(store, registry, now_is, 0) {}
                for pick in picks {
                    device.acknowledge(store, now_is, *pick);
                }
            }
        }
    }

    /// Everything under way arrives, and clients acknowledge.
    fn come_to_rest(&mut self) {
        for _ in 0..10_000 {
            let mut moved = !self.store.unannounced.is_empty();
            self.run(&Op::Announce { commits: usize::MAX, together: false });
            let Self { store, registry, devices, now } = self;
            for device in devices {
                moved |= device.work(store, registry, *now, 0);
                moved |= device.deliver(store, *now);
                moved |= device.pull(store, *now, usize::MAX);
                while !device.expectation.in_flight.is_empty()
                    && device.online().is_some_and(|online| online.wants_input())
                {
                    device.acknowledge(store, *now, 0);
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// Those who are connected have everything, without having to connect again.
    fn check_complete(&mut self) {
        self.come_to_rest();
        for device in self.devices.iter().filter(|device| matches!(device.link, Link::Online(_))) {
            device.expectation.check_complete(&self.store);
        }
    }

    /// Those who are not get it when they return.
    fn check_return(&mut self) {
        for device in 0..DEVICES {
            if matches!(self.devices[device].link, Link::Offline) && self.store.sessions.contains_key(&device)
            {
                self.run(&Op::Connect { device, clean_start: false, waits: true, picky: false, window: 3 });
            }
        }
        self.check_complete();
    }
}

fn filter() -> impl Strategy<Value = Filter> {
    prop_oneof![
        3 => (0..CHATS).prop_map(Filter::Chat),
        2 => Just(Filter::AnyChat),
        1 => Just(Filter::Events),
        2 => Just(Filter::Everything),
    ]
}

fn qos() -> impl Strategy<Value = Qos> {
    prop_oneof![4 => Just(Qos::AtLeastOnce), 1 => Just(Qos::AtMostOnce)]
}

fn commit() -> impl Strategy<Value = Op> {
    let member = || (0..CHATS, 0..USERS);
    prop_oneof![
        8 => (0..CHATS, 1..4_usize).prop_map(|(chat, count)| Op::Send { chat, count }),
        5 => (member(), any::<bool>()).prop_map(|((chat, user), all)| Op::Join { chat, user, all }),
        4 => member().prop_map(|(chat, user)| Op::Leave { chat, user }),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    let device = || prop_oneof![2 => 0..2_usize, 1 => 0..DEVICES];
    let filters = prop::collection::vec((filter(), qos()), 1..3);
    let connect =
        (device(), prop::bool::weighted(0.1), prop::bool::weighted(0.8), prop::bool::weighted(0.1), 1..6_u16);
    let picks = |most| prop::collection::vec(0..12_usize, 1..most);
    prop_oneof![
        4 => connect.prop_map(|(device, clean_start, waits, picky, window)| {
            Op::Connect { device, clean_start, waits, picky, window }
        }),
        2 => device().prop_map(|device| Op::Disconnect { device }),
        1 => (0..3_usize).prop_map(|committed| Op::Crash { committed }),
        5 => (device(), filters, prop::option::of(1..4_u32)).prop_map(|(device, filters, id)| {
            Op::Subscribe { device, filters, id }
        }),
        2 => (device(), filter()).prop_map(|(device, filter)| Op::Unsubscribe { device, filter }),
        14 => commit(),
        10 => commit().prop_map(|op| Op::Prompt(Box::new(op))),
        6 => (device(), picks(5)).prop_map(|(device, picks)| Op::Acknowledge { device, picks }),
        8 => (1..5_usize, any::<bool>()).prop_map(|(commits, together)| Op::Announce { commits, together }),
        8 => (device(), 1..6_usize).prop_map(|(device, count)| Op::Deliver { device, count }),
        3 => (device(), 0..3_usize).prop_map(|(device, kept)| Op::Lose { device, kept }),
        16 => (device(), picks(4)).prop_map(|(device, picks)| Op::Work { device, picks }),
        8 => (device(), 1..8_usize).prop_map(|(device, packets)| Op::Pull { device, packets }),
        1 => (device(), 1..6_usize).prop_map(|(device, rows)| Op::Page { device, rows }),
        1 => (1..40_u64).prop_map(|seconds| Op::Tick { seconds }),
        10 => (device(), 0..12_usize, prop::collection::vec(0..8_usize, 0..8)).prop_map(|(device, packets, picks)| {
            Op::Flow { device, packets, picks }
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sessions_get_everything_they_are_entitled_to_and_nothing_else(
        filters in prop::array::uniform4((filter(), qos())),
        ops in prop::collection::vec(op(), 20..160),
    ) {
        let mut world = World::new();
        world.begin(&filters);
        for op in &ops {
            world.run(op);
        }
        world.check_complete();
        world.check_return();
    }
}
