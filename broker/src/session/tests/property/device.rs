//! A device with its connection: does what `connection.rs` does, one step at a time, and checks every packet.

use super::{
    expectation::{Expectation, Filter},
    store::{Store, user},
};
use crate::{
    delivery::Delivery,
    format::Format,
    packet::{In, Out, PacketId, Qos, Reason, RetainHandling, SubscribeFilter, Version},
    registry::{Registration, Registry, SessionKey},
    session::{
        Action, Page, Session, Start,
        tests::{id, payload, read_payload},
    },
    topic::Space,
};
use curlew_domain::{
    chat::StayEnd,
    ids::{Seq, Stream, UserId},
    session::{Cursors, Follow, OpenedSession, SaveSubscriptions, SessionFence},
};
use std::{collections::VecDeque, sync::Arc, time::Instant};

/// Devices of the world; the first two belong to one user.
pub const DEVICES: usize = 4;

/// A device.
pub struct Device {
    number: usize,
    me: UserId,
    pub link: Link,
    pub expectation: Expectation,
    /// Rows of one page of the log.
    pub page: usize,
}

pub enum Link {
    Offline,
    Admitting(Box<Admitting>),
    Online(Box<Online>),
}

/// A CONNECT on its way through `admission.rs`.
pub struct Admitting {
    registration: Registration,
    opened: OpenedSession,
    window: u16,
    picky: bool,
    stage: Stage,
}

enum Stage {
    Registered,
    Listed(Vec<StayEnd>),
    Learned,
    Ready(Vec<StayEnd>),
}

/// A connection.
pub struct Online {
    session: Session,
    registration: Registration,
    fence: SessionFence,
    /// Deliveries taken from the inbox.
    deliveries: VecDeque<Delivery>,
    /// Queued in the store, in order.
    writes: VecDeque<Write>,
    reads: Vec<Read>,
    results: Vec<Done>,
    /// Packets that the socket still takes.
    room: usize,
    /// The client's Maximum Packet Size is too small for some rows.
    picky: bool,
    closing: Option<Reason>,
}

enum Write {
    Subscriptions { filters: String, follow: (Follow, Follow), cursors: Cursors },
    Cursors(Cursors),
}

enum Read {
    Pages(Vec<(Stream, Seq)>),
    Stays,
}

enum Done {
    Subscriptions(Cursors),
    Cursors,
    Pages(Vec<Page>),
    Stays(Vec<StayEnd>),
}

impl Device {
    pub fn new(number: usize) -> Self {
        let me = user(number.saturating_sub(1));
        Self { number, me, link: Link::Offline, expectation: Expectation::new(me), page: 3 }
    }

    pub fn online(&mut self) -> Option<&mut Online> {
        match &mut self.link {
            Link::Online(online) => Some(online),
            _ => None,
        }
    }

    // ## Connecting

    /// `waits`: an earlier connection stores its state before this one reads it.
    pub fn connect(
        &mut self,
        store: &mut Store,
        registry: &Arc<Registry>,
        (clean_start, waits, picky): (bool, bool, bool),
        window: u16,
    ) {
        if waits {
            self.disconnect(store, true);
        }
        let opened = store.open_session(self.number, clean_start);
        let device = id(0x400 + self.number as u128);
        let key = SessionKey { device, client_id: "c".into(), mount: String::new() };
        let registration = registry.register(self.me, id(0x500), opened.fence, key);
        self.disconnect(store, false);
        self.expectation.connected(&opened, usize::from(window));
        if !opened.present {
            registration.unpark();
        }
        let stage = Stage::Registered;
        self.link = Link::Admitting(Box::new(Admitting { registration, opened, window, picky, stage }));
    }

    /// One step of the admission.
    fn admit(&mut self, store: &Store, registry: &Registry, now: Instant) {
        let Link::Admitting(admitting) = std::mem::replace(&mut self.link, Link::Offline) else { return };
        let mut admitting = *admitting;
        admitting.stage = match admitting.stage {
            Stage::Registered if registry.needs_stays(self.me) => Stage::Listed(store.list_stays(self.me)),
            Stage::Registered => Stage::Learned,
            Stage::Listed(stays) => {
                registry.learn_stays(self.me, &stays);
                Stage::Learned
            }
            Stage::Learned => Stage::Ready(store.list_stays(self.me)),
            Stage::Ready(stays) => {
                let Admitting { registration, opened, window, picky, .. } = admitting;
                return self.begin(registration, opened, &stays, (window, picky), (store, now));
            }
        };
        self.link = Link::Admitting(Box::new(admitting));
    }

    fn begin(
        &mut self,
        registration: Registration,
        opened: OpenedSession,
        stays: &[StayEnd],
        (window, picky): (u16, bool),
        (store, now): (&Store, Instant),
    ) {
        let parked = registration.unpark();
        let OpenedSession { fence, filters, cursors, .. } = opened;
        let start = Start {
            me: self.me,
            space: Space::of(self.me),
            sent: 0,
            received: Vec::new(),
            version: Version::V5,
            format: Format::Json,
            filters,
            cursors,
            left_at: None,
            parked,
            window,
            keep_alive: 0,
            expiry_secs: 3600,
            named_method: false,
            rates: Arc::default(),
        };
        let mut session = Session::new(start, now);
        session.handle_stays(stays);
        self.link = Link::Online(Box::new(Online {
            session,
            registration,
            fence,
            deliveries: VecDeque::new(),
            writes: VecDeque::new(),
            reads: Vec::new(),
            results: Vec::new(),
            room: 0,
            picky,
            closing: None,
        }));
        self.pump(store, now);
    }

    // ## The connection

    /// Moves everything that can move without waiting.
    fn pump(&mut self, store: &Store, now: Instant) {
        let Link::Online(online) = &mut self.link else { return };
        loop {
            while online.registration.take_lag() {
                online.session.handle_lag();
            }
            while online.room > 0 {
                let Some(out) = online.session.poll_transmit(now) else { break };
                online.room -= 1;
                let Out::Publish(publish) = out else { continue };
                self.expectation.published(store, &publish);
                if online.picky && read_payload(&publish.payload).1.is_multiple_of(4) {
                    online.session.not_transmitted(&publish, now);
                    publish.packet_id.into_iter().for_each(|id| self.expectation.acknowledged(id));
                }
            }
            let mut acted = false;
            while let Some(action) = online.session.poll_action() {
                acted = true;
                online.act(action);
            }
            if !acted {
                break;
            }
        }
        self.expectation.check_cursors(store, &online.session.cursors());
    }

    /// What the client or the time tells the session.
    fn tell(&mut self, store: &Store, now: Instant, packet: In) {
        let Some(online) = self.online().filter(|online| online.session.wants_input()) else { return };
        online.session.handle_packet(packet, now);
        self.pump(store, now);
    }

    pub fn subscribe(&mut self, store: &Store, now: Instant, filters: &[(Filter, Qos)], id: Option<u32>) {
        if self.online().is_none_or(|online| !online.session.wants_input()) {
            return;
        }
        let wish = |(filter, qos): &(Filter, Qos)| SubscribeFilter {
            filter: filter.text(self.me),
            qos: *qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Send,
        };
        let wishes = filters.iter().map(wish).collect();
        for (filter, qos) in filters {
            self.expectation.subscribe(*filter, *qos, id);
        }
        self.tell(
            store,
            now,
            In::Subscribe { packet_id: PacketId::MIN, filters: wishes, subscription_id: id },
        );
    }

    pub fn unsubscribe(&mut self, store: &Store, now: Instant, filter: Filter) {
        if self.online().is_none_or(|online| !online.session.wants_input()) {
            return;
        }
        self.expectation.unsubscribe(filter);
        self.tell(
            store,
            now,
            In::Unsubscribe { packet_id: PacketId::MIN, filters: vec![filter.text(self.me)] },
        );
    }

    /// Acknowledges something in flight, or something that is not.
    pub fn acknowledge(&mut self, store: &Store, now: Instant, pick: usize) {
        if self.online().is_none_or(|online| !online.session.wants_input()) {
            return;
        }
        let in_flight: Vec<_> = self.expectation.in_flight.keys().copied().collect();
        let id = in_flight.get(pick % (in_flight.len() + 1)).copied().unwrap_or(PacketId::MAX);
        self.expectation.acknowledged(id);
        self.tell(store, now, In::PubAck(id, Reason::Success));
    }

    /// The socket takes so many packets more; `false`: there was none.
    pub fn pull(&mut self, store: &Store, now: Instant, packets: usize) -> bool {
        let Some(online) = self.online() else { return false };
        online.room = packets;
        self.pump(store, now);
        self.online().is_some_and(|online| online.room < packets)
    }

    /// One delivery.
    pub fn deliver(&mut self, store: &Store, now: Instant) -> bool {
        let Some(online) = self.online() else { return false };
        online.fill();
        let Some(delivery) = online.deliveries.pop_front() else { return false };
        match delivery {
            Delivery::Row(shared) => {
                let row = shared.row();
                online.session.handle_row(row.stream, row.seq, || payload(row.stream, row.seq));
            }
            Delivery::Stale(stream) => online.session.handle_emptied(stream, 0),
            Delivery::Hint(stream, seq) => online.session.handle_hint(stream, seq),
            Delivery::Joined(chat, joined_seq) => online.session.handle_joined(chat, joined_seq),
            Delivery::State(..) | Delivery::Typing(..) | Delivery::Signal(..) | Delivery::Plain => {}
        }
        self.pump(store, now);
        true
    }

    /// All deliveries after the first `kept` are lost.
    pub fn lose(&mut self, store: &Store, now: Instant, kept: usize) {
        let Some(online) = self.online() else { return };
        online.fill();
        online.deliveries.truncate(kept);
        online.session.handle_lag();
        self.pump(store, now);
    }

    /// One step of what the store was asked for; `false`: there is none.
    pub fn work(&mut self, store: &mut Store, registry: &Registry, now: Instant, pick: usize) -> bool {
        if let Link::Admitting(_) = self.link {
            self.admit(store, registry, now);
            return true;
        }
        let (me, page, number) = (self.me, self.page, self.number);
        let Link::Online(online) = &mut self.link else { return false };
        let writes = online.writes.len().min(1);
        let steps = writes + online.reads.len() + online.results.len();
        if steps == 0 {
            return false;
        }
        let step = pick % steps;
        if step < writes {
            let write = online.writes.pop_front().expect("there is one");
            let done = apply(write, store, &mut self.expectation, (number, me, online.fence));
            online.results.extend(done);
        } else if let Some(read) = step.checked_sub(writes).filter(|step| *step < online.reads.len()) {
            let done = match online.reads.swap_remove(read) {
                Read::Pages(wanted) => Done::Pages(read_pages(store, me, wanted, page)),
                Read::Stays => Done::Stays(store.list_stays(me)),
            };
            online.results.push(done);
        } else {
            match online.results.remove(step - writes - online.reads.len()) {
                Done::Subscriptions(map) => {
                    self.expectation.filters_saved(&map);
                    online.session.subscriptions_saved(&map);
                }
                Done::Cursors => online.session.cursors_saved(true, now),
                Done::Pages(pages) => online.session.handle_pages(pages),
                Done::Stays(stays) => {
                    registry.learn_stays(me, &stays);
                    online.session.handle_stays(&stays);
                }
            }
        }
        self.pump(store, now);
        true
    }

    /// Time has passed.
    pub fn tick(&mut self, store: &mut Store, now: Instant) {
        let Some(online) = self.online() else { return };
        if online.session.poll_timeout().is_none_or(|due| due > now) {
            return;
        }
        online.session.handle_timeout(now);
        let (due, closing) = (online.session.poll_timeout(), online.session.closed);
        assert!(closing || due.is_none_or(|due| due > now), "a timeout that does not go away");
        self.pump(store, now);
        if let Some(Online { closing: Some(reason), .. }) = self.online() {
            assert_eq!(*reason, Reason::QuotaExceeded, "stalled");
            self.disconnect(store, true);
        }
    }

    // ## The end

    /// Does what `Connection::finish` does. `holds`: no other connection has taken the session.
    pub fn disconnect(&mut self, store: &mut Store, holds: bool) {
        let Link::Online(mut online) = std::mem::replace(&mut self.link, Link::Offline) else { return };
        for write in std::mem::take(&mut online.writes) {
            let done = apply(write, store, &mut self.expectation, (self.number, self.me, online.fence));
            online.results.extend(done);
        }
        for done in online.results {
            if let Done::Subscriptions(map) = done {
                self.expectation.filters_saved(&map);
                online.session.subscriptions_saved(&map);
            }
        }
        let cursors = online.session.cursors();
        if holds {
            self.expectation.check_cursors(store, &cursors);
            self.expectation.check_stored(store, &cursors);
        }
        online.registration.park(online.session.park(curlew_domain::clock::Timestamp(0)));
        assert_eq!(store.save_cursors(self.number, online.fence, cursors), holds);
        self.expectation.disconnected(holds);
    }

    /// The process dies; so many of its writes were committed.
    pub fn crash(&mut self, store: &mut Store, committed: usize) {
        if let Link::Online(online) = std::mem::replace(&mut self.link, Link::Offline) {
            for write in online.writes.into_iter().take(committed) {
                apply(write, store, &mut self.expectation, (self.number, self.me, online.fence));
            }
        }
        self.expectation.disconnected(false);
    }
}

impl Online {
    pub fn wants_input(&self) -> bool {
        self.session.wants_input()
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::SaveSubscriptions { filters, follow, cursors, .. } => {
                self.writes.push_back(Write::Subscriptions { filters, follow, cursors });
            }
            Action::SaveCursors(cursors) => self.writes.push_back(Write::Cursors(cursors)),
            Action::Read(wanted) => {
                let reading = self.reads.iter().any(|read| matches!(read, Read::Pages(..)));
                assert!(!reading, "one read at a time");
                self.reads.push(Read::Pages(wanted));
            }
            Action::ListStays => self.reads.push(Read::Stays),
            Action::Close(reason) => self.closing = Some(reason),
            Action::Acknowledged(..) => {}
            // The plain lane is empty in this world.
            // Nobody tells of receipts or presence.
            Action::ReadStates(_) => self.session.handle_states(Vec::new(), None),
            Action::ReadQueue { .. } => self.session.handle_queue(Vec::new(), false),
            Action::Settle(settle) => panic!("there is no queue: {settle:?}"),
            Action::Authenticate(_) => panic!("no AUTH was sent"),
            Action::Command(command) => panic!("nothing was published: {command:?}"),
        }
    }

    /// Takes what is in the inbox.
    fn fill(&mut self) {
        while let Ok(delivery) = self.registration.inbox.try_recv() {
            self.deliveries.push_back(delivery);
        }
    }
}

/// Commits a write; `None`: superseded.
fn apply(
    write: Write,
    store: &mut Store,
    expectation: &mut Expectation,
    (number, user, fence): (usize, UserId, SessionFence),
) -> Option<Done> {
    match write {
        Write::Subscriptions { filters, follow, cursors } => {
            let (previous, now) = follow.clone();
            let save = SaveSubscriptions { fence, user, filters, previous, follow: now, cursors };
            let map = store.save_subscriptions(number, save)?;
            expectation.filters_stored(store, &follow, &map);
            Some(Done::Subscriptions(map))
        }
        Write::Cursors(cursors) => {
            let stored = store.save_cursors(number, fence, cursors.clone());
            stored.then(|| {
                expectation.check_stored(store, &cursors);
                Done::Cursors
            })
        }
    }
}

fn read_pages(store: &Store, me: UserId, wanted: Vec<(Stream, Seq)>, limit: usize) -> Vec<Page> {
    let mut room = limit;
    let page = |(stream, after)| {
        let empty = |more| Page { stream, after, rows: Vec::new(), end: after, more };
        if room == 0 {
            return empty(true);
        }
        let Some((rows, end)) = store.read_log(me, stream, after, room) else { return empty(false) };
        let more = rows.len() >= room;
        room -= rows.len();
        let rows = rows.into_iter().map(|seq| (seq, payload(stream, seq))).collect();
        Page { stream, after, rows, end, more }
    };
    wanted.into_iter().map(page).collect()
}
