//! Delivered and read. Watermarks are committed first and announced after.

use super::Base;
use crate::{
    clock::Timestamp,
    error::{Error, Result},
    event::{Event, EventBody},
    ids::{ChatId, Seq, SessionId, UserId},
    receipt::{Counts, Mark, Raise, Raised, ReceiptState, ReceiptsQuery, Sight, Status, status_of},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    ops::RangeBounds,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;
use uuid::Uuid;

/// How long acknowledgements of devices are collected before they are stored: in private chats, and where the chat's size is
/// not known yet …
const PRIVATE: Duration = Duration::from_millis(100);
/// … in groups of up to [`SMALL_GROUP`] …
const SMALL: Duration = Duration::from_secs(1);
/// … and above.
const LARGE: Duration = Duration::from_secs(5);
/// Stays of a group, former ones included, up to which it is small.
const SMALL_GROUP: usize = 64;
/// Most (chat, user) pairs that wait; beyond it nobody waits.
const MAX_PENDING: usize = 16_384;
/// Chats whose size is remembered; beyond it all are forgotten.
const MAX_SIZES: usize = 16_384;
/// Pause before watermarks that could not be read are read again.
const PAY_RETRY: Duration = Duration::from_millis(500);
/// Raises that are handed to the store together.
const FLUSH_BATCH: usize = 128;

/// An acknowledgement that waits to be stored.
struct Pending {
    seq: Seq,
    due: Timestamp,
}

/// Delivered and read.
pub struct Receipts {
    base: Base,
    pending: Mutex<BTreeMap<(UserId, ChatId), Pending>>,
    /// How long acknowledgements of a chat are collected, as learned from the last ones stored.
    delays: Mutex<HashMap<ChatId, Duration>>,
    wake: Notify,
    /// What senders are owed.
    owed: Mutex<BTreeMap<(ChatId, UserId), News>>,
    owing: Notify,
    /// Raises on their way to the store.
    storing: TaskTracker,
}

impl Receipts {
    /// The service. Run [`Self::run`] beside it.
    pub fn new(base: Base) -> Self {
        Self {
            base,
            pending: Mutex::default(),
            delays: Mutex::default(),
            wake: Notify::new(),
            owed: Mutex::default(),
            owing: Notify::new(),
            storing: TaskTracker::new(),
        }
    }

    /// Raises the user's watermarks; durable when it returns. `None` for a bound = leave it; `u64::MAX` = the present end.
    /// `origin` is the session it came from, which is not told what it knows.
    pub async fn raise(
        self: &Arc<Self>,
        user: UserId,
        chat: ChatId,
        delivered: Option<Seq>,
        read: Option<Seq>,
        origin: Option<SessionId>,
    ) -> Result<()> {
        let raise = Raise { chat, user, delivered, read };
        self.store(vec![raise], origin).await.into_iter().collect()
    }

    /// How the receipts of the user's chats stand, as events, and from where the next page goes on.
    pub async fn list(&self, user: UserId, query: ReceiptsQuery) -> Result<(Vec<Event>, Option<ChatId>)> {
        let since = query.since;
        let page = self.base.store.list_receipts(user, query).await?;
        let mut events = Vec::new();
        for ReceiptState { chat, group, sight, messages, marks, read } in page.states {
            let newest = messages.last().copied();
            let mut bodies = statuses(group, &marks, user, sight, messages);
            if since.is_none() && newest.is_none_or(|seq| is_final(group, &marks, user, sight, seq)) {
                bodies.clear();
            }
            bodies.extend(
                read.map(|(read_seq, unread_count)| EventBody::ReadElsewhere { read_seq, unread_count }),
            );
            events.extend(bodies.into_iter().map(|body| self.event(chat, body)));
        }
        Ok((events, page.next))
    }

    /// A session of `user` acknowledged the chat's log up to `seq`: coalesced, stored soon, never waited for.
    pub fn acknowledged(&self, user: UserId, chat: ChatId, seq: Seq) {
        let delay = lock(&self.delays).get(&chat).copied().unwrap_or(PRIVATE);
        let due = self.base.now().plus(delay);
        let mut pending = lock(&self.pending);
        let known = pending.entry((user, chat)).or_insert(Pending { seq, due });
        known.seq = seq.max(known.seq);
        drop(pending);
        self.wake.notify_one();
    }

    /// Stores what [`Self::acknowledged`] collected as it falls due, and tells senders, until `stop`, and the rest then.
    pub async fn run(self: &Arc<Self>, stop: CancellationToken) {
        tokio::join!(self.collect(stop.clone()), self.pay(stop));
        self.storing.close();
        self.storing.wait().await;
        self.pay_once().await;
    }

    async fn collect(self: &Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if lock(&self.pending).is_empty() {
                tokio::select! {
                    () = self.wake.notified() => {}
                    () = stop.cancelled() => break,
                }
            }
            // The shortest delay is also the grain of the longer ones.
            tokio::select! {
                () = tokio::time::sleep(PRIVATE) => {}
                () = stop.cancelled() => break,
            }
            let now = self.base.now();
            let full = lock(&self.pending).len() >= MAX_PENDING;
            self.flush_or_later(|pending| full || pending.due <= now).await;
        }
        self.flush_or_later(|_| true).await;
    }

    async fn flush_or_later(self: &Arc<Self>, due: impl Fn(&Pending) -> bool) {
        if let Err(error) = self.flush(.., due).await {
            tracing::warn!(%error, "delivered watermarks are stored later");
        }
    }

    /// Stores what was collected of this user.
    pub(super) async fn settle(self: &Arc<Self>, user: UserId) -> Result<()> {
        let all = (user, Uuid::nil().into())..=(user, Uuid::max().into());
        self.flush(all, |_| true).await
    }

    /// What is not stored goes on waiting, unless it never can be.
    async fn flush(
        self: &Arc<Self>,
        whose: impl RangeBounds<(UserId, ChatId)>,
        due: impl Fn(&Pending) -> bool,
    ) -> Result<()> {
        let raises: Vec<_> = lock(&self.pending)
            .range(whose)
            .filter(|(_, pending)| due(pending))
            .map(|((user, chat), pending)| Raise {
                chat: *chat,
                user: *user,
                delivered: Some(pending.seq),
                read: None,
            })
            .collect();
        let mut batches: VecDeque<Vec<Raise>> = raises.chunks(FLUSH_BATCH).map(<[_]>::to_vec).collect();
        let mut flushed = Ok(());
        while let Some(batch) = batches.pop_front() {
            let outcomes = self.store(batch.clone(), None).await;
            let alone = batch.len() == 1;
            for (raise, outcome) in batch.into_iter().zip(outcomes) {
                match outcome {
                    // A refusal: the member left meanwhile.
                    Ok(()) | Err(Error::Refused(_)) => {}
                    Err(Error::Internal(_)) if !alone => batches.push_back(vec![raise]),
                    Err(Error::Internal(error)) => {
                        tracing::error!(error, ?raise, "a delivered watermark cannot be stored");
                        self.forget([&raise]);
                    }
                    Err(error) => flushed = Err(error),
                }
            }
        }
        flushed
    }

    /// These wait no more, unless more was acknowledged since.
    fn forget<'a>(&self, raises: impl IntoIterator<Item = &'a Raise>) {
        let mut pending = lock(&self.pending);
        for raise in raises {
            let place = (raise.user, raise.chat);
            if pending.get(&place).is_some_and(|known| Some(known.seq) == raise.delivered) {
                pending.remove(&place);
            }
        }
    }

    /// Stores raises, and sees to it that all they concern are told. It goes on when its caller no longer waits: what was
    /// committed and told to nobody would be found raised ever after.
    async fn store(self: &Arc<Self>, raises: Vec<Raise>, origin: Option<SessionId>) -> Vec<Result<()>> {
        let receipts = Arc::clone(self);
        let store = async move { receipts.store_and_tell(raises, origin).await };
        let stored = self.storing.spawn(store.instrument(tracing::Span::current()));
        stored.await.unwrap_or_else(|error| vec![Err(Error::Internal(error.to_string()))])
    }

    async fn store_and_tell(&self, raises: Vec<Raise>, origin: Option<SessionId>) -> Vec<Result<()>> {
        let at = self.base.now();
        let outcomes = self.base.store.raise_watermarks(raises.clone(), at).await;
        let is_settled = |outcome: &Result<Raised>| matches!(outcome, Ok(_) | Err(Error::Refused(_)));
        let settled = raises.iter().zip(&outcomes).filter(|(_, outcome)| is_settled(outcome));
        self.forget(settled.map(|(raise, _)| raise));
        if !outcomes.iter().all(is_settled) {
            // Tried again they may be found raised, and nobody would be told.
            self.base.relay.receipts_uncertain(at);
        }
        self.announce(outcomes.iter().flatten());
        for raised in outcomes.iter().flatten() {
            self.announce_own(raised, origin);
        }
        outcomes.into_iter().map(|outcome| outcome.map(drop)).collect()
    }

    fn learn_delay(&self, group: ChatId, small: bool) {
        let mut delays = lock(&self.delays);
        if delays.len() >= MAX_SIZES {
            delays.clear();
        }
        delays.insert(group, if small { SMALL } else { LARGE });
    }

    /// Senders are owed news of what was committed: of a chat each of them once, however many raises concern them.
    fn announce<'a>(&self, raised: impl IntoIterator<Item = &'a Raised>) {
        let mut owed = lock(&self.owed);
        for raised in raised {
            let delivered = raised.delivered_of.iter().map(|of| (of, Status::Delivered));
            for (of, status) in delivered.chain(raised.read_of.iter().map(|of| (of, Status::Read))) {
                let news = owed.entry((raised.chat, of.sender)).or_insert_with(|| News::of(raised.group));
                news.sight = of.sight;
                let newest = if status == Status::Read { &mut news.read } else { &mut news.delivered };
                *newest = of.newest.max(*newest);
                if status == Status::Delivered && of.count > 1 {
                    let (up_to_seq, user_id) = (raised.shown_delivered.1, raised.user);
                    news.several.push(EventBody::MessagesDelivered { up_to_seq, user_id });
                }
            }
        }
        drop(owed);
        self.owing.notify_one();
    }

    /// Tells senders what they are owed, until `stop`. Commits of several lanes and callers may know nothing of each other: so
    /// one tells it all, and reads before it does how things stand.
    async fn pay(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = self.owing.notified() => {}
                () = stop.cancelled() => return,
            }
            while !self.pay_once().await {
                tokio::select! {
                    () = tokio::time::sleep(PAY_RETRY) => {}
                    () = stop.cancelled() => return,
                }
            }
        }
    }

    /// Whether nothing is owed any more.
    async fn pay_once(&self) -> bool {
        let owed = std::mem::take(&mut *lock(&self.owed));
        if owed.is_empty() {
            return true;
        }
        let chats: BTreeSet<ChatId> = owed.keys().map(|(chat, _)| *chat).collect();
        let marks = match self.base.store.list_marks(chats.into_iter().collect()).await {
            Ok(marks) => marks,
            Err(error) => {
                tracing::warn!(%error, "senders are told later how far their messages got");
                let mut again = lock(&self.owed);
                for (place, news) in owed {
                    again.entry(place).or_insert_with(|| News::of(news.group)).add(news);
                }
                return false;
            }
        };
        for ((chat, sender), News { group, sight, delivered, read, several }) in owed {
            let marks = marks.get(&chat).map(Vec::as_slice).unwrap_or_default();
            // READ raises DELIVERED, but a sender may have been told of that before.
            let statuses = statuses(group, marks, sender, sight, BTreeSet::from([read, delivered]));
            let small = marks.len() <= SMALL_GROUP;
            if group {
                self.learn_delay(chat, small);
            }
            // That several came names the member: in a large group each sender would be told of each member.
            let several = several.into_iter().filter(|_| small || !group);
            for body in statuses.into_iter().chain(several) {
                self.tell(chat, sender, body, None);
            }
        }
        true
    }

    fn announce_own(&self, raised: &Raised, origin: Option<SessionId>) {
        if raised.read.1 > raised.read.0 {
            let body =
                EventBody::ReadElsewhere { read_seq: raised.read.1, unread_count: raised.unread_count };
            self.tell(raised.chat, raised.user, body, origin);
        }
    }

    fn tell(&self, chat: ChatId, to: UserId, body: EventBody, except: Option<SessionId>) {
        self.base.relay.notify(to, Arc::new(self.event(chat, body)), except);
    }

    fn event(&self, chat: ChatId, body: EventBody) -> Event {
        Event::live(self.base.entropy.uuid(), self.base.now(), Some(chat), body)
    }
}

/// What a sender is owed of a chat.
struct News {
    group: bool,
    sight: Sight,
    /// Their newest message that is newly DELIVERED to somebody, and READ by somebody; 0: none.
    delivered: Seq,
    read: Seq,
    /// That several were delivered at once.
    several: Vec<EventBody>,
}

impl News {
    fn of(group: bool) -> Self {
        Self { group, sight: Sight::Nothing, delivered: 0, read: 0, several: Vec::new() }
    }

    /// What was owed before and could not be told.
    fn add(&mut self, earlier: Self) {
        if self.delivered.max(self.read) == 0 {
            self.sight = earlier.sight;
        }
        self.delivered = self.delivered.max(earlier.delivered);
        self.read = self.read.max(earlier.read);
        self.several.splice(0..0, earlier.several);
    }
}

/// The state of these messages of `sender`, oldest first. One that says no more than a newer one is left out: what came
/// before has at least the state of what came after.
fn statuses(
    group: bool,
    marks: &[Mark],
    sender: UserId,
    sight: Sight,
    messages: impl IntoIterator<Item = Seq, IntoIter: DoubleEndedIterator>,
) -> Vec<EventBody> {
    let mut told = None;
    let mut bodies = Vec::new();
    for seq in messages.into_iter().rev().filter(|seq| *seq > 0) {
        let status = (!group).then(|| status_of(marks, sender, sight, seq));
        let counts = if group { Counts::of_message(marks, sender, sight, seq) } else { Counts::default() };
        if told.replace((status, counts)) == Some((status, counts)) {
            continue;
        }
        let Counts { delivered, read, of } = counts;
        bodies.push(match status {
            Some(status) => EventBody::MessageStatus { message_seq: seq, status },
            None => EventBody::GroupMessageStatus { message_seq: seq, delivered, read, of },
        });
    }
    bodies.reverse();
    bodies
}

/// Whether nothing more can become of a message, and hence of those before it, as its sender sees it.
fn is_final(group: bool, marks: &[Mark], sender: UserId, sight: Sight, seq: Seq) -> bool {
    let last = if sight == Sight::Nothing { Status::Delivered } else { Status::Read };
    if group {
        let Counts { delivered, read, of } = Counts::of_message(marks, sender, sight, seq);
        return of == if last == Status::Read { read } else { delivered };
    }
    status_of(marks, sender, sight, seq) >= last
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
