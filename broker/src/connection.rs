//! One socket: reads bytes, runs the session machine, does what it asks, writes bytes.

mod admission;
mod reauthentication;
mod subscribing;

use crate::{
    command::{self, Ended, Publisher},
    delivery::{Delivery, Ending, SharedEvent, StateEvent},
    format::Format,
    packet::{In, Out, Reason, Version},
    plain::{Item, Routes, wills::Wills},
    rate::RatesByUser,
    registry::{Registration, Registry},
    session::{Action, Command, Due, Failure, Page, Session, StateFamily, StateQuery, StateTopic},
    typing::Typing,
    wire::{Encoded, Wire},
};
use admission::Admitted;
use bytes::BytesMut;
use curlew_domain::{
    account::Principal,
    chat::StayEnd,
    clock::{Clock, Entropy, Timestamp},
    event::{Event, EventBody},
    ids::{ChatId, Seq, Stream, UserId},
    message::Entry,
    plain::QueuePage,
    receipt::{DeliveredOn, ReceiptsQuery},
    services::{Services, messaging::EventPage, sessions::SessionEnd},
    session::{Cursors, FollowChats, SessionFence},
};
use futures_util::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{FuturesOrdered, FuturesUnordered},
};
use std::{
    collections::VecDeque,
    future::{self, Future},
    sync::Arc,
    time::{Duration, Instant},
};
use subscribing::{Subscribing, due};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::Semaphore;
use uuid::Uuid;

/// Longest packet before authentication.
const MAX_PACKET_BEFORE_AUTH: u32 = 16 * 1024;
/// CONNECT must have come by then, and have been answered another such time later.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes waiting for the socket, above which nothing more is encoded.
const WRITE_HIGH: usize = 32 * 1024;
/// Room for one read.
const READ_ROOM: usize = 1024;
/// How long a closing connection may take to write what is due.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long commands that were read may take to be stored after that.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Rows of all logs that are read together …
const PAGE: u32 = 64;
/// … and about so many bytes of them.
const PAGE_BYTES: usize = 64 * 1024;
/// Pages of all kinds that are read at once: when thousands come back together, each waits its turn.
const CATCH_UPS: usize = 8;
/// Messages of one part of a session's queue.
const QUEUE_PAGE: u32 = 64;
/// About so many bytes of them.
const QUEUE_PAGE_BYTES: usize = 64 * 1024;
/// Chats or contacts of one page of how things stand.
const STATE_PAGE: usize = 64;
/// Pause before a log that could not be read is tried again.
const READ_RETRY: Duration = Duration::from_millis(500);
/// A buffer that grew beyond this is given back when it is empty.
const BUFFER_KEEP: usize = 4 * 1024;

/// What all connections share.
pub struct Edge {
    /// The services.
    pub services: Services,
    /// Who is connected.
    pub registry: Arc<Registry>,
    /// What connections leave behind.
    pub wills: Arc<Wills>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Ids.
    pub entropy: Arc<dyn Entropy>,
    /// Longest packet after authentication.
    pub max_packet_bytes: u32,
    /// Most publications in flight to one client.
    pub in_flight: u16,
    /// Longest Keep Alive of a client that can be told so, in seconds; 0: none is too long.
    pub keep_alive_max: u16,
    /// Who types.
    pub typing: Typing,
    /// When a message is delivered.
    pub delivered_on: DeliveredOn,
    /// How fast users may publish.
    pub rates: Arc<RatesByUser>,
    /// Who may read a page now.
    pub catch_ups: Semaphore,
}

/// As many turns for reading as there may be at once.
pub fn catch_ups() -> Semaphore {
    Semaphore::new(CATCH_UPS)
}

impl Edge {
    /// The instant at which the clock will show this; now, if it has.
    fn instant_of(&self, end: Timestamp) -> Instant {
        Instant::now() + self.clock.now().until(end)
    }

    /// Reads when it is its turn. What fails gives its turn back before it is tried again.
    async fn in_turn<T>(&self, read: impl Future<Output = T>) -> T {
        let _turn = self.catch_ups.acquire().await;
        read.await
    }

    /// Whether what a session of the user acknowledges is delivered.
    fn is_delivered(&self, user: UserId) -> bool {
        self.delivered_on == DeliveredOn::Ack || self.registry.presence.is_active(user)
    }

    /// The user has opened the app: if that is what delivers, all that waits is delivered.
    pub fn opened(&self, user: UserId, stays: &[StayEnd]) {
        if self.delivered_on == DeliveredOn::Open {
            for stay in stays.iter().filter(|stay| stay.delivered < stay.end) {
                self.services.receipts.acknowledged(user, stay.chat, stay.end);
            }
        }
    }
}

/// Runs one connection to its end.
pub async fn serve<S: AsyncRead + AsyncWrite + Send + 'static>(socket: S, edge: Arc<Edge>) {
    let mut pipe = Pipe::new(socket);
    let connect = match tokio::time::timeout(CONNECT_TIMEOUT, pipe.read_connect()).await {
        Ok(Some(connect)) => connect,
        Ok(None) => return,
        Err(_) => {
            tracing::debug!("no CONNECT within 10 s");
            return;
        }
    };
    // What the store does takes its own patience; a client that is gone is noticed later.
    match admission::admit(&edge, connect).await {
        Ok(admitted) => Connection::new(edge, pipe, *admitted).run().await,
        Err(refusal) => {
            tracing::info!(reason = ?refusal.reason, detail = refusal.detail, "CONNECT refused");
            pipe.encode(&refusal.connack());
            pipe.finish().await;
            pipe.linger().await;
        }
    }
}

/// A socket with its buffers and its wire layer.
struct Pipe<S> {
    reader: ReadHalf<S>,
    writer: WriteHalf<S>,
    input: BytesMut,
    output: BytesMut,
    /// Written and perhaps still in a buffer of the transport's own.
    unflushed: bool,
    wire: Wire,
}

impl<S: AsyncRead + AsyncWrite> Pipe<S> {
    fn new(socket: S) -> Self {
        let (reader, writer) = tokio::io::split(socket);
        let wire = Wire::new(MAX_PACKET_BEFORE_AUTH);
        Self { reader, writer, input: BytesMut::new(), output: BytesMut::new(), unflushed: false, wire }
    }

    /// The first packet; `None`: there will be none, and the client was told what can be told.
    async fn read_connect(&mut self) -> Option<crate::packet::Connect> {
        loop {
            match self.wire.decode(&mut self.input) {
                Ok(Some(In::Connect(connect))) => return Some(*connect),
                Ok(Some(_)) => return None,
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%error, "not a CONNECT");
                    if let Some(reply) = error.reply() {
                        self.encode(&reply);
                        self.finish().await;
                        self.linger().await;
                    }
                    return None;
                }
            }
            self.make_room();
            if !matches!(self.reader.read_buf(&mut self.input).await, Ok(1..)) {
                return None;
            }
        }
    }

    /// So that a read takes more than a few bytes, while an idle connection keeps little.
    fn make_room(&mut self) {
        if self.input.capacity() - self.input.len() < READ_ROOM / 2 {
            self.input.reserve(READ_ROOM);
        }
    }

    fn encode(&mut self, out: &Out) -> Encoded {
        self.wire.encode(out, &mut self.output)
    }

    /// Writes what is due, for a bounded time, and closes.
    async fn finish(&mut self) {
        let write = async {
            let written = self.writer.write_all_buf(&mut self.output).await;
            if written.is_ok() {
                let _ = self.writer.shutdown().await;
            }
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, write).await;
    }

    /// Reads, for a bounded time, what the client still sends: closing a socket with unread bytes would reset it, and the
    /// client might lose the DISCONNECT it was sent.
    async fn linger(&mut self) {
        let read = async {
            loop {
                self.input.clear();
                self.make_room();
                if !matches!(self.reader.read_buf(&mut self.input).await, Ok(1..)) {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, read).await;
    }
}

/// What a task of a connection came to.
enum Done {
    /// A command was queued; this resolves with what it came to.
    Started(Command, BoxFuture<'static, Ended>),
    /// With retained messages that are sent at once.
    SubscriptionsSaved(curlew_domain::Result<Option<(Cursors, Vec<Due>)>>),
    Settled(curlew_domain::Result<bool>),
    Queue(QueuePage),
    CursorsSaved(curlew_domain::Result<bool>),
    Read(Vec<Page>),
    States(Vec<StateEvent>, Option<Uuid>),
    Stays(Vec<StayEnd>),
    Authenticated(curlew_domain::Result<Option<Principal>>),
}

struct Connection<S> {
    edge: Arc<Edge>,
    pipe: Pipe<S>,
    session: Session,
    me: UserId,
    principal: Principal,
    publisher: Arc<Publisher>,
    fence: SessionFence,
    version: Version,
    registration: Registration,
    /// When the credential ends.
    expires_at: Option<Timestamp>,
    /// Commands not yet queued in the store, in order; one at a time is being queued.
    waiting: VecDeque<Command>,
    starting: bool,
    /// Commands queued in the store, in order.
    started: FuturesOrdered<BoxFuture<'static, (Command, Ended)>>,
    tasks: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Filters are being stored.
    saving: bool,
    /// What was done with the queue of the plain lane is being stored.
    settling: bool,
    closing: Option<Reason>,
}

impl<S: AsyncRead + AsyncWrite + Send + 'static> Connection<S> {
    fn new(edge: Arc<Edge>, mut pipe: Pipe<S>, admitted: Admitted) -> Self {
        pipe.wire.set_max_packet_size(edge.max_packet_bytes);
        let told = pipe.encode(&admitted.connack) != Encoded::TooLarge;
        let lasting = admitted.start.expiry_secs > 0;
        let publisher = Publisher {
            user: admitted.principal.user,
            session: admitted.fence.session,
            connection: admitted.registration.number(),
            lasting,
            space: admitted.start.space.clone(),
            format: admitted.start.format,
            lane: Arc::clone(&admitted.registration.lane),
            storing: Arc::default(),
        };
        let mut session = Session::new(admitted.start, Instant::now());
        admitted.registration.enter_lane(lasting, session.own_lane());
        session.handle_stays(&admitted.stays);
        if !told {
            session.close(Reason::PacketTooLarge, "the CONNACK is larger than you take");
        }
        Self {
            edge,
            pipe,
            session,
            me: admitted.principal.user,
            principal: admitted.principal,
            publisher: Arc::new(publisher),
            fence: admitted.fence,
            version: admitted.version,
            registration: admitted.registration,
            expires_at: admitted.principal.expires_at,
            waiting: VecDeque::new(),
            starting: false,
            started: FuturesOrdered::new(),
            tasks: FuturesUnordered::new(),
            saving: false,
            settling: false,
            closing: None,
        }
    }

    async fn run(mut self) {
        tracing::info!(version = ?self.version, "connected");
        let mut received = 0u64;
        loop {
            self.pump();
            if self.closing.is_some() {
                break;
            }
            let deadline = self.deadline();
            self.pipe.make_room();
            tokio::select! {
                // `pump` looks at it. The sender lives as long as the registration.
                _ = self.registration.end.changed() => {}
                read = self.pipe.reader.read_buf(&mut self.pipe.input), if self.session.wants_input() => {
                    match read {
                        Ok(1..) => received += 1,
                        Ok(0) | Err(_) => break,
                    }
                }
                written = write_some(&mut self.pipe.writer, &mut self.pipe.output, &mut self.pipe.unflushed),
                    if !self.pipe.output.is_empty() || self.pipe.unflushed => {
                    if written.is_err() {
                        break;
                    }
                }
                Some((command, ended)) = self.started.next(), if !self.started.is_empty() => {
                    self.handle_ended(&command, ended);
                }
                Some(done) = self.tasks.next(), if !self.tasks.is_empty() => self.handle_done(done),
                Some(delivery) = self.registration.inbox.recv() => self.handle_delivery(delivery),
                () = sleep_until(deadline) => self.handle_timeout(),
            }
        }
        // Boxed: the end would be most of what a connection keeps while it lasts.
        Box::pin(self.finish(received)).await;
    }

    /// Moves everything that can move without waiting.
    fn pump(&mut self) {
        let now = Instant::now();
        // First, so that nothing is encoded any more once the end was called.
        let ending = *self.registration.end.borrow();
        if let Some(ending) = ending {
            self.end(ending);
        }
        loop {
            while self.session.wants_input() {
                match self.pipe.wire.decode(&mut self.pipe.input) {
                    Ok(Some(packet)) => {
                        metrics::counter!("curlew_mqtt_packets_received_total").increment(1);
                        self.session.handle_packet(packet, now);
                    }
                    Ok(None) => break,
                    Err(error) => {
                        tracing::info!(%error, "protocol violation");
                        self.session.close(error.reason, error.detail);
                    }
                }
            }
            while self.registration.take_lag() {
                self.session.handle_lag();
            }
            if let Some(since) = self.registration.take_states_lost() {
                self.session.handle_states_lost(since);
            }
            while let Some(failure) = self.session.poll_failure() {
                let (format, event) = (self.publisher.format, self.failure_event(failure));
                self.session.handle_failure_event(|| format.encode(&event));
            }
            let mut acted = self.take_plain();
            self.transmit(now);
            while let Some(action) = self.session.poll_action() {
                acted = true;
                self.act(action);
            }
            self.start_next();
            if !acted {
                break;
            }
        }
        shrink(&mut self.pipe.input);
        shrink(&mut self.pipe.output);
    }

    /// Takes in what waits in the plain lane, as far as the session has room; whether there was anything.
    fn take_plain(&mut self) -> bool {
        let mut any = false;
        while self.session.wants_plain()
            && let Some(item) = self.registration.next_plain()
        {
            let due = self.due(item);
            self.session.handle_plain(due);
            any = true;
        }
        any
    }

    fn due(&self, item: Item) -> Due {
        due(&self.edge, item)
    }

    fn transmit(&mut self, now: Instant) {
        while self.pipe.output.len() < WRITE_HIGH {
            let Some(out) = self.session.poll_transmit(now) else { return };
            match (self.pipe.encode(&out), &out) {
                (Encoded::TooLarge, Out::Publish(publish)) => self.session.not_transmitted(publish, now),
                (Encoded::TooLarge, _) => {
                    self.session.close(Reason::PacketTooLarge, "an answer is larger than you take");
                }
                (Encoded::Written, Out::Publish(_)) => {
                    metrics::counter!("curlew_mqtt_messages_sent_total").increment(1);
                }
                (Encoded::Written | Encoded::NoForm, _) => {}
            }
        }
    }

    fn act(&mut self, action: Action) {
        let services = &self.edge.services;
        match action {
            Action::Command(command) => {
                metrics::counter!("curlew_mqtt_messages_received_total").increment(1);
                self.waiting.push_back(command);
            }
            Action::Authenticate(token) => {
                let (edge, held) = (Arc::clone(&self.edge), self.registration.held_login());
                let done = reauthentication::reauthenticate(edge, held, self.principal, token);
                self.tasks.push(done.map(Done::Authenticated).boxed());
            }
            Action::SaveSubscriptions { filters, follow, cursors, own_lane, retained } => {
                self.saving = true;
                let subscribing = Subscribing {
                    fence: self.fence,
                    me: self.me,
                    lasting: self.publisher.lasting,
                    lane: Arc::clone(&self.publisher.lane),
                    filters,
                    follow,
                    cursors,
                    own_lane,
                    retained,
                };
                self.tasks.push(subscribing.run(Arc::clone(&self.edge)).boxed());
            }
            Action::ReadQueue { after } => {
                let read = read_queue(Arc::clone(&self.edge), self.fence, after);
                self.tasks.push(read.map(Done::Queue).boxed());
            }
            Action::Settle(settle) => {
                let (plain, fence) = (Arc::clone(&services.plain), self.fence);
                self.settling = true;
                let store = async move { plain.settle(fence, settle).await };
                self.tasks.push(store.map(Done::Settled).boxed());
            }
            Action::ReadStates(query) => {
                self.tasks.push(read_states(Arc::clone(&self.edge), self.me, query).boxed());
            }
            Action::SaveCursors(cursors) => {
                let (sessions, me, fence) = (Arc::clone(&services.sessions), self.me, self.fence);
                let save = async move { sessions.save_cursors(fence, me, cursors).await };
                self.tasks.push(save.map(Done::CursorsSaved).boxed());
            }
            Action::Read(wanted) => {
                let (edge, format) = (Arc::clone(&self.edge), self.publisher.format);
                self.tasks.push(read_logs(edge, self.me, format, wanted).map(Done::Read).boxed());
            }
            Action::Acknowledged(chat, seq) => {
                if self.edge.is_delivered(self.me) {
                    services.receipts.acknowledged(self.me, chat, seq);
                }
            }
            Action::ListStays => {
                self.tasks.push(list_stays(Arc::clone(&self.edge), self.me).map(Done::Stays).boxed());
            }
            Action::Close(reason) => self.closing = Some(reason),
        }
    }

    /// Commands are queued in the store one after the other, so that they stay in order.
    fn start_next(&mut self) {
        if self.starting {
            return;
        }
        let Some(command) = self.waiting.pop_front() else { return };
        self.starting = true;
        let (edge, publisher) = (Arc::clone(&self.edge), Arc::clone(&self.publisher));
        let start = async move {
            let ended = command::start(&edge, &publisher, &command).await;
            Done::Started(command, ended)
        };
        self.tasks.push(start.boxed());
    }

    fn handle_ended(&mut self, command: &Command, Ended { outcome, reply }: Ended) {
        if let Some(reply) = reply {
            let lane = &self.publisher.lane;
            let Routes { mut live, queue } = lane.route(&reply, None);
            live.extend(queue);
            lane.pass_on(&Arc::new(reply), live);
        }
        self.session.command_done(command, outcome);
    }

    fn handle_done(&mut self, done: Done) {
        let now = Instant::now();
        self.saving &= !matches!(done, Done::SubscriptionsSaved(_));
        self.settling &= !matches!(done, Done::Settled(_));
        match done {
            Done::Started(command, ended) => {
                self.starting = false;
                self.started.push_back(ended.map(|ended| (command, ended)).boxed());
            }
            Done::SubscriptionsSaved(Ok(Some((cursors, retained)))) => {
                self.session.subscriptions_saved(&cursors);
                for due in retained {
                    self.session.handle_plain(due);
                }
            }
            Done::SubscriptionsSaved(Ok(None)) | Done::CursorsSaved(Ok(false)) | Done::Settled(Ok(false)) => {
                self.end(Ending::TakenOver);
            }
            Done::Settled(Ok(true)) => self.session.settled(),
            Done::Settled(Err(error)) => {
                tracing::warn!(%error, "acknowledgements in the plain lane could not be stored");
                self.session
                    .close(Reason::ServerBusy, "an acknowledgement could not be stored now; try again");
            }
            Done::Queue(QueuePage { messages, more }) => {
                let page = messages.into_iter().map(|queued| self.due(queued.into())).collect();
                self.session.handle_queue(page, more);
            }
            Done::SubscriptionsSaved(Err(error)) => {
                tracing::warn!(%error, "subscriptions could not be stored");
                self.session.close(Reason::ServerBusy, "the subscription could not be stored now; try again");
            }
            Done::CursorsSaved(Ok(true)) => self.session.cursors_saved(true, now),
            Done::CursorsSaved(Err(error)) => {
                tracing::warn!(%error, "cursors could not be stored");
                self.session.cursors_saved(false, now);
            }
            Done::Authenticated(Ok(principal)) => {
                if let Some(principal) = principal {
                    self.principal = principal;
                    self.expires_at = principal.expires_at;
                }
                self.session.authenticated(principal.is_some());
            }
            Done::Authenticated(Err(error)) => {
                tracing::warn!(%error, "a token could not be checked");
                self.session.close(Reason::ServerBusy, "the token could not be checked now; try again");
            }
            Done::Read(pages) => self.session.handle_pages(pages),
            Done::States(events, next) => self.session.handle_states(events, next),
            Done::Stays(stays) => {
                self.edge.registry.learn_stays(self.me, &stays);
                self.session.handle_stays(&stays);
            }
        }
    }

    fn handle_delivery(&mut self, delivery: Delivery) {
        let format = self.publisher.format;
        match delivery {
            Delivery::Row(shared) => {
                let row = shared.row();
                if let Entry::MessageDeleted(message) = row.entry {
                    self.session.handle_emptied(row.stream, message.seq);
                }
                self.session.handle_row(row.stream, row.seq, || shared.payload(self.me, format));
            }
            Delivery::Hint(stream, seq) => self.session.handle_hint(stream, seq),
            Delivery::Stale(stream) => self.session.handle_emptied(stream, 0),
            Delivery::Joined(chat, joined_seq) => self.session.handle_joined(chat, joined_seq),
            Delivery::State(topic, event) => self.session.handle_state(topic, event),
            Delivery::Typing(chat, event) => self.session.handle_typing(chat, || event.payload(format)),
            Delivery::Signal(message, from) => {
                let (session, own) = (self.fence.session, from == self.fence.session);
                let expires = message.expires_at.map(|end| self.edge.instant_of(end));
                self.session.handle_signal(&message, own, session, expires);
            }
            // `pump` looks.
            Delivery::Plain => {}
        }
    }

    fn end(&mut self, ending: Ending) {
        let detail = match ending {
            Ending::TakenOver => "a newer connection has taken over the session",
            Ending::LoginEnded => "the login was ended",
            Ending::ShuttingDown => "the server is shutting down",
        };
        self.session.close(ending.reason(), detail);
    }

    fn deadline(&self) -> Option<Instant> {
        let expiry = self.expires_at.map(|end| Instant::now() + self.edge.clock.now().until(end));
        [self.session.poll_timeout(), expiry].into_iter().flatten().min()
    }

    fn handle_timeout(&mut self) {
        if self.expires_at.is_some_and(|end| self.edge.clock.now() >= end) {
            self.session.close(Reason::NotAuthorized, "the access token has expired");
        }
        self.session.handle_timeout(Instant::now());
    }

    fn failure_event(&self, failure: Failure) -> Event {
        let Failure { topic, packet_id, code, detail, local_id } = failure;
        let packet_id = packet_id.map(crate::packet::PacketId::get);
        let body = EventBody::CommandFailed { topic, local_id, packet_id, code, detail };
        Event::live(self.edge.entropy.uuid(), self.edge.clock.now(), None, body)
    }

    /// Carries out the commands that were read, though nobody hears of it: a client may publish at QoS 0 and leave. Those of
    /// a client that was sent away go no further than they are. Then it is known, too, which QoS 2 commands were committed
    /// and which filters were stored, so that the session is kept as it is.
    async fn settle(&mut self) {
        if !matches!(self.closing, None | Some(Reason::Success)) {
            self.waiting.clear();
        }
        let settled = async {
            loop {
                self.start_next();
                tokio::select! {
                    Some((command, ended)) = self.started.next(), if !self.started.is_empty() => {
                        self.handle_ended(&command, ended);
                    }
                    Some(done) = self.tasks.next(), if self.starting || self.saving || self.settling => {
                        self.handle_done(done);
                    }
                    else => break,
                }
            }
        };
        if tokio::time::timeout(SETTLE_TIMEOUT, settled).await.is_err() {
            tracing::warn!("the store is slow: the session ends before its last commands");
        }
    }

    /// Writes what is due, stores the session, and gives its place free.
    async fn finish(mut self, reads: u64) {
        self.registration.leave_lane(self.session.expiry_secs() > 0);
        if self.closing.is_some() {
            // What is left is bounded, now that the session is closed, and a DISCONNECT is its end.
            while let Some(out) = self.session.poll_transmit(Instant::now()) {
                self.pipe.encode(&out);
            }
            self.pipe.finish().await;
        }
        self.registration.writing_stopped();
        self.settle().await;
        let Self { edge, mut pipe, mut session, me, fence, registration, .. } = self;
        let expiry_secs = session.expiry_secs();
        let end = SessionEnd {
            cursors: session.cursors(),
            settle: session.take_settle(),
            expiry_secs,
            left_at: session.left_at(edge.clock.now(), Instant::now()),
            discard_will: session.will_taken_back(),
        };
        if expiry_secs > 0 {
            registration.park(session.park(edge.clock.now()));
        }
        if let Err(error) = edge.services.sessions.close(fence, me, end).await {
            tracing::warn!(%error, "the session's end could not be stored; what it acknowledged last may come again");
        }
        edge.wills.look();
        tracing::info!(reads, reason = ?self.closing, "disconnected");
        drop(registration);
        if !matches!(self.closing, None | Some(Reason::Success)) {
            pipe.linger().await;
        }
    }
}

/// One step of writing, which may be dropped half-way: first what is due, then what the transport holds back.
async fn write_some(
    writer: &mut (impl AsyncWrite + Unpin),
    output: &mut BytesMut,
    unflushed: &mut bool,
) -> std::io::Result<()> {
    if output.is_empty() {
        writer.flush().await?;
        *unflushed = false;
    } else {
        if writer.write_buf(output).await? == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        *unflushed = true;
    }
    Ok(())
}

/// Reads pages of logs, however long the store takes to answer.
async fn read_logs(edge: Arc<Edge>, me: UserId, format: Format, wanted: Vec<(Stream, Seq)>) -> Vec<Page> {
    loop {
        match edge.in_turn(edge.services.messaging.read_events(me, &wanted, PAGE)).await {
            Ok(read) => {
                let mut room = PAGE_BYTES;
                let pages = wanted.into_iter().zip(read);
                return pages
                    .map(|((stream, after), read)| page(format, stream, after, read, &mut room))
                    .collect();
            }
            Err(error) => {
                tracing::warn!(%error, "logs could not be read");
                tokio::time::sleep(READ_RETRY).await;
            }
        }
    }
}

/// What was read of a log, encoded, as far as there is room for it; a row is taken as long as there is any.
fn page(format: Format, stream: Stream, after: Seq, read: Option<EventPage>, room: &mut usize) -> Page {
    // Nothing there was ever the user's: that settles it.
    let EventPage { events, end, more } =
        read.unwrap_or(EventPage { events: Vec::new(), end: after, more: false });
    let mut page = Page { stream, after, rows: Vec::new(), end, more };
    for event in &events {
        let Some(seq) = event.seq else { continue };
        if *room == 0 {
            page.end = page.rows.last().map_or(after, |(last, _)| *last);
            page.more = true;
            break;
        }
        let payload = format.encode(event);
        *room = room.saturating_sub(payload.len());
        page.rows.push((seq, payload));
    }
    page
}

/// Reads a page of how things stand, however long the store takes to answer.
async fn read_states(edge: Arc<Edge>, me: UserId, query: StateQuery) -> Done {
    let read = async || match &query.family {
        StateFamily::Receipts(chats) => read_receipts(&edge, me, chats.clone(), &query).await,
        StateFamily::Presence(users) => {
            let page = edge.registry.presence.list(&edge, me, users.as_deref(), &query, STATE_PAGE).await;
            page.map(|(events, next)| (events, next.map(UserId::uuid)))
        }
    };
    loop {
        match edge.in_turn(read()).await {
            Ok((events, next)) => return Done::States(events, next),
            Err(error) => {
                tracing::warn!(%error, "how things stand could not be read");
                tokio::time::sleep(READ_RETRY).await;
            }
        }
    }
}

async fn read_receipts(
    edge: &Edge,
    me: UserId,
    chats: FollowChats,
    query: &StateQuery,
) -> curlew_domain::Result<(Vec<StateEvent>, Option<Uuid>)> {
    let (since, after) = (query.since, query.after.map(ChatId::from));
    let query = ReceiptsQuery { chats, since, after, limit: STATE_PAGE as u32 };
    let (events, next) = edge.services.receipts.list(me, query).await?;
    let shared = events
        .into_iter()
        .filter_map(|event| Some((StateTopic::Receipts(event.chat_id?), SharedEvent::new(event))));
    Ok((shared.collect(), next.map(ChatId::uuid)))
}

/// Reads a part of a session's queue, however long the store takes to answer.
async fn read_queue(edge: Arc<Edge>, fence: SessionFence, after: Seq) -> QueuePage {
    loop {
        let page = edge.services.plain.list_queued(fence.session, after, QUEUE_PAGE, QUEUE_PAGE_BYTES);
        match edge.in_turn(page).await {
            Ok(page) => return page,
            Err(error) => {
                tracing::warn!(%error, "a queue could not be read");
                tokio::time::sleep(READ_RETRY).await;
            }
        }
    }
}

async fn list_stays(edge: Arc<Edge>, me: UserId) -> Vec<StayEnd> {
    loop {
        match edge.in_turn(edge.services.messaging.list_stays(me)).await {
            Ok(stays) => return stays,
            Err(error) => {
                tracing::warn!(%error, "stays could not be read");
                tokio::time::sleep(READ_RETRY).await;
            }
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => future::pending().await,
    }
}

fn shrink(buffer: &mut BytesMut) {
    if buffer.is_empty() && buffer.capacity() > BUFFER_KEEP {
        *buffer = BytesMut::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use curlew_domain::event::Event;

    fn read(seqs: &[Seq], end: Seq, more: bool) -> EventPage {
        let event = |seq: &Seq| Event {
            seq: Some(*seq),
            ..Event::live(Uuid::nil(), Timestamp(0), None, EventBody::ContactRequestsViewed)
        };
        EventPage { events: seqs.iter().map(event).collect(), end, more }
    }

    fn shape(page: &Page) -> (Vec<Seq>, Seq, bool) {
        (page.rows.iter().map(|(seq, _)| *seq).collect(), page.end, page.more)
    }

    #[test]
    fn logs_share_the_room_for_bytes_and_what_has_none_is_read_next() {
        let me = Stream::Personal(Uuid::nil().into());
        let page = |after, read, room: &mut usize| shape(&page(Format::Json, me, after, read, room));
        let mut room = PAGE_BYTES;
        assert_eq!(page(3, Some(read(&[4, 6], 9, false)), &mut room), (vec![4, 6], 9, false));
        let bytes = (PAGE_BYTES - room) / 2;
        let mut room = bytes + 1;
        assert_eq!(
            page(3, Some(read(&[4, 6, 7], 9, false)), &mut room),
            (vec![4, 6], 6, true),
            "the second is the last"
        );
        assert_eq!(room, 0);
        assert_eq!(page(5, Some(read(&[6, 8], 8, true)), &mut room), (vec![], 5, true));
        assert_eq!(
            page(5, Some(read(&[], 8, false)), &mut room),
            (vec![], 8, false),
            "there is nothing to be sent"
        );
        assert_eq!(page(5, None, &mut room), (vec![], 5, false));
    }
}
