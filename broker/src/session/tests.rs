//! The machine by itself: packets and commits in, packets and actions out, time passed in.

mod authentication;
mod commands;
mod delivery;
mod ending;
mod lag;
mod plain;
mod plain_property;
mod property;
mod redelivery;
mod standard;
mod states;
mod subscriptions;
mod timers;

use super::{
    commands::MAX_RECEIVED,
    cursors::{FLUSH_AFTER, FLUSH_INTERVAL},
    rows::MAX_READY,
    *,
};
use crate::{
    packet::{Publish, PublishProperties, Qos, RetainHandling, SubscribeFilter},
    topic::{self, Space},
};
use bytes::Bytes;
use curlew_domain::{
    chat::StayEnd,
    error::ErrorCode,
    ids::{ChatId, Seq},
    session::{Cursors, Follow},
};
use uuid::Uuid;

const CHATS: &str = "chats/+/messages";

/// An id of any kind.
fn id<T: From<Uuid>>(n: u128) -> T {
    Uuid::from_u128(n).into()
}

fn me() -> UserId {
    id(1)
}

fn chat(n: u128) -> ChatId {
    id(0x100 + n)
}

fn stream(n: u128) -> Stream {
    Stream::Chat(chat(n))
}

fn packet(id: u16) -> PacketId {
    PacketId::new(id).unwrap()
}

/// The payload by which a row is known again.
fn payload(stream: Stream, seq: Seq) -> Bytes {
    let mut payload = stream.id().uuid().as_bytes().to_vec();
    payload.extend(seq.to_be_bytes());
    payload.into()
}

fn read_payload(payload: &[u8]) -> (StreamId, Seq) {
    let (stream, seq) = payload.split_at(16);
    let stream = Uuid::from_slice(stream).unwrap().into();
    (stream, Seq::from_be_bytes(seq.try_into().unwrap()))
}

/// The stored form of filters, each with its QoS.
fn filters(filters: &[(&str, Qos)]) -> String {
    let mut subscriptions = Subscriptions::new(Space::of(me()));
    for (filter, qos) in filters {
        subscriptions.add(&wish(filter, *qos), None).unwrap();
    }
    subscriptions.store()
}

fn wish(filter: &str, qos: Qos) -> SubscribeFilter {
    SubscribeFilter {
        filter: filter.into(),
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Send,
    }
}

/// A session that lasts, without filters.
fn start() -> Start {
    Start {
        me: me(),
        space: Space::of(me()),
        version: Version::V5,
        format: Format::Json,
        filters: String::new(),
        cursors: Cursors::new(),
        left_at: None,
        parked: Parked::default(),
        sent: 0,
        received: Vec::new(),
        window: 4,
        keep_alive: 0,
        expiry_secs: 3600,
        named_method: false,
        rates: Arc::default(),
    }
}

/// All chats at this QoS; the first chat is followed after `cursor`.
fn following(qos: Qos, cursor: Seq) -> Start {
    Start { filters: filters(&[(CHATS, qos)]), cursors: [(stream(1).id(), cursor)].into(), ..start() }
}

/// A row as it went out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sent {
    seq: Seq,
    packet: Option<u16>,
    dup: bool,
}

fn sent(seq: Seq, packet: u16) -> Sent {
    Sent { seq, packet: Some(packet), dup: false }
}

fn sent_again(seq: Seq, packet: u16) -> Sent {
    Sent { seq, packet: Some(packet), dup: true }
}

/// A session and the time.
struct Machine {
    session: Session,
    now: Instant,
}

impl Machine {
    fn new(start: Start) -> Self {
        let now = Instant::now();
        Self { session: Session::new(start, now), now }
    }

    fn receive(&mut self, packet: In) {
        self.session.handle_packet(packet, self.now);
    }

    fn publish(&mut self, qos: Qos, id: u16) {
        self.receive(In::Publish(Box::new(Publish {
            topic: format!("chats/{}/send", chat(1)),
            payload: Bytes::from_static(b"{}"),
            qos,
            dup: false,
            retain: false,
            packet_id: PacketId::new(id),
            properties: PublishProperties::default(),
        })));
    }

    fn acknowledge(&mut self, id: u16) {
        self.receive(In::PubAck(packet(id), Reason::Success));
    }

    fn subscribe(&mut self, filter: &str, qos: Qos) {
        self.receive(In::Subscribe {
            packet_id: packet(9),
            filters: vec![wish(filter, qos)],
            subscription_id: None,
        });
    }

    fn unsubscribe(&mut self, filter: &str) {
        self.receive(In::Unsubscribe { packet_id: packet(9), filters: vec![filter.into()] });
    }

    /// A row of the first chat was committed.
    fn commit(&mut self, seq: Seq) {
        self.session.handle_row(stream(1), seq, || payload(stream(1), seq));
    }

    /// Time passes, and the machine is told when it wants to be.
    fn pass(&mut self, time: Duration) {
        self.now += time;
        if self.session.poll_timeout().is_some_and(|due| due <= self.now) {
            self.session.handle_timeout(self.now);
        }
    }

    /// Everything to be written.
    fn written(&mut self) -> Vec<Out> {
        std::iter::from_fn(|| self.session.poll_transmit(self.now)).collect()
    }

    /// The rows among it.
    fn rows(&mut self) -> Vec<Sent> {
        let row = |out| match out {
            Out::Publish(publish) => {
                let Publish { payload, packet_id, dup, .. } = *publish;
                Some(Sent { seq: read_payload(&payload).1, packet: packet_id.map(PacketId::get), dup })
            }
            _ => None,
        };
        self.written().into_iter().filter_map(row).collect()
    }

    /// Everything to be done.
    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.session.poll_action()).collect()
    }

    fn commands(&mut self) -> Vec<Command> {
        let command = |action| match action {
            Action::Command(command) => Some(command),
            _ => None,
        };
        self.actions().into_iter().filter_map(command).collect()
    }

    /// The log is read, of which these rows are the user's.
    fn page(&mut self, stream: Stream, after: Seq, rows: &[Seq], end: Seq) {
        let rows = rows.iter().map(|seq| (*seq, payload(stream, *seq))).collect();
        self.session.handle_pages(vec![Page { stream, after, rows, end, more: false }]);
    }

    fn cursor(&self, stream: Stream) -> Option<Seq> {
        self.session.cursors().get(&stream.id()).copied()
    }

    /// Why the connection is to be closed.
    fn closed(&mut self) -> Option<Reason> {
        self.actions().into_iter().find_map(|action| match action {
            Action::Close(reason) => Some(reason),
            _ => None,
        })
    }
}

fn done() -> Outcome {
    Outcome::Done { properties: Vec::new(), recorded: false }
}

fn refused() -> Outcome {
    Outcome::Refused {
        reason: Reason::NotAuthorized,
        code: ErrorCode::NotMember,
        detail: "gone".into(),
        local_id: None,
    }
}

/// An active stay in a chat whose log ends at `end`.
fn stay(n: u128, first_joined: Seq, end: Seq) -> StayEnd {
    StayEnd { chat: chat(n), first_joined, last_joined: first_joined, left: None, end, delivered: 0 }
}
