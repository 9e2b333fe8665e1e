//! State events: receipts and presence. They are sent as things happen, at QoS 0. How things *stand* is told to a new
//! subscription, to a session that comes back, and when events were lost on the way: it is read, and what happens meanwhile
//! is sent after it, so that nothing older follows what is newer.

use super::{Action, Session, Subscription, rows::unnumbered, subscriptions::Grant};
use crate::{
    delivery::{SharedEvent, StateEvent},
    packet::Out,
    topic::{self, Which},
};
use curlew_domain::{
    clock::Timestamp,
    event::EventBody,
    ids::{ChatId, Seq, UserId},
    receipt::Status,
    session::FollowChats,
};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use uuid::Uuid;

/// State events that wait for the socket; more are let go, and how things stand is read once there is room.
pub(super) const MAX_WAITING: usize = 256;
/// Questions that wait, two of a SUBSCRIBE; then the connection reads no further.
const MAX_WISHES: usize = 16;
/// When nothing has happened yet.
const NEVER: Timestamp = Timestamp(0);
/// So long before a session was left, or an event was lost, things may have changed of which it was not told: commits and what
/// is told of them take their time.
const MARGIN: Duration = Duration::from_secs(15);
/// What was told in that time is remembered, at most so much of it.
const MAX_TOLD: usize = 64;

/// Whose state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StateTopic {
    /// Of a chat's receipts.
    Receipts(ChatId),
    /// A user's presence.
    Presence(UserId),
}

/// A question how things stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateQuery {
    /// What is asked for.
    pub family: StateFamily,
    /// What changed since then; `None`: as a new subscription is told.
    pub since: Option<Timestamp>,
    /// The chat or user that ended the page before.
    pub after: Option<Uuid>,
}

/// What kind of state is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateFamily {
    /// Receipts of these chats.
    Receipts(FollowChats),
    /// Presence of these contacts; `None`: of all.
    Presence(Option<Vec<UserId>>),
}

/// What was told of a chat's receipts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Status(Seq, Status),
    Counts(Seq, [u32; 3]),
    Read(Seq),
}

impl Told {
    fn of(body: &EventBody) -> Option<Self> {
        match *body {
            EventBody::MessageStatus { message_seq, status } => Some(Self::Status(message_seq, status)),
            EventBody::GroupMessageStatus { message_seq, delivered, read, of } => {
                Some(Self::Counts(message_seq, [delivered, read, of]))
            }
            EventBody::ReadElsewhere { read_seq, .. } => Some(Self::Read(read_seq)),
            _ => None,
        }
    }
}

/// What a session was told of receipts last: when it comes back it is not told it again.
#[derive(Clone, Debug, Default)]
pub struct ToldStates(VecDeque<(Timestamp, ChatId, Told)>);

impl ToldStates {
    fn note(&mut self, at: Timestamp, chat: ChatId, body: &EventBody) {
        let Some(told) = Told::of(body) else { return };
        while self.0.front().is_some_and(|(then, ..)| then.plus(MARGIN) < at) || self.0.len() >= MAX_TOLD {
            self.0.pop_front();
        }
        self.0.push_back((at, chat, told));
    }

    fn knows(&self, chat: ChatId, body: &EventBody) -> bool {
        Told::of(body).is_some_and(|body| self.0.iter().any(|(_, of, told)| (*of, *told) == (chat, body)))
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a session that was left at this time may be asked about when it comes back.
    pub(super) fn of_last(mut self, left_at: Timestamp) -> Self {
        self.0.retain(|(at, ..)| at.plus(MARGIN) > left_at);
        self
    }
}

/// A state event that waits for the socket.
#[derive(Debug)]
struct Waiting {
    topic: StateTopic,
    event: Arc<SharedEvent>,
    /// The new subscriptions that it is for; `None`: it is for all there are.
    retained: Option<Arc<[Arc<Subscription>]>>,
    /// From when on a session that is not told it must ask again.
    since: Timestamp,
}

#[derive(Debug)]
struct Wish {
    query: StateQuery,
    retained: Option<Arc<[Arc<Subscription>]>>,
}

impl Wish {
    /// From when on it would be asked again; how things stand: from the beginning.
    fn asked_from(&self) -> Timestamp {
        self.query.since.map_or(NEVER, |since| since.plus(MARGIN))
    }
}

/// State events on their way.
#[derive(Debug, Default)]
pub(super) struct States {
    wishes: VecDeque<Wish>,
    asked: bool,
    waiting: VecDeque<Waiting>,
    lost_since: Option<Timestamp>,
    pub(super) told: ToldStates,
}

impl States {
    /// For a session that comes back, left at that time.
    pub(super) fn resume(&mut self, told: ToldStates, left_at: Timestamp, covers: &[Arc<Subscription>]) {
        self.told = told;
        if left_at < NEVER {
            self.wish(covers, None, None);
        }
        self.wish(covers, Some(Timestamp(left_at.0.abs())), None);
    }

    /// Asks how things stand for these subscriptions.
    fn wish(
        &mut self,
        subscriptions: &[Arc<Subscription>],
        since: Option<Timestamp>,
        retained: Option<&Arc<[Arc<Subscription>]>>,
    ) {
        let since = since.map(|since| since.minus(MARGIN).max(NEVER));
        for family in families(subscriptions) {
            let query = StateQuery { family, since, after: None };
            self.wishes.push_back(Wish { query, retained: retained.cloned() });
        }
    }

    pub(super) fn poll_action(&mut self) -> Option<Action> {
        if self.asked || !self.waiting.is_empty() {
            return None;
        }
        let wish = self.wishes.front()?;
        self.asked = true;
        Some(Action::ReadStates(wish.query.clone()))
    }

    /// Whether so much is asked for that the client waits.
    pub(super) fn is_behind(&self) -> bool {
        self.wishes.len() >= MAX_WISHES
    }

    /// From when on a session that was heard of last at `heard_at` must ask, when it comes back: what it was not told is not
    /// forgotten. Negative: it was not told how things stand at all.
    pub(super) fn left_at(&self, heard_at: Timestamp) -> Timestamp {
        let wishes = self.wishes.iter().map(Wish::asked_from);
        let open = wishes.chain(self.waiting.iter().map(|waiting| waiting.since)).chain(self.lost_since);
        let (never, since): (Vec<_>, Vec<_>) = open.partition(|since| *since == NEVER);
        let left_at = since.into_iter().fold(heard_at, Timestamp::min);
        // It is not new when it comes back, and must be told, too, how things stood.
        if never.is_empty() { left_at } else { Timestamp(-left_at.0) }
    }

    fn lose(&mut self, at: Timestamp) {
        self.lost_since = Some(self.lost_since.map_or(at, |since| since.min(at)));
    }
}

/// What state these subscriptions select.
fn families(subscriptions: &[Arc<Subscription>]) -> Vec<StateFamily> {
    let covers = || subscriptions.iter().map(|subscription| &subscription.granted.covers);
    let receipts = selected(covers().filter_map(|covers| covers.receipts))
        .map(|chats| StateFamily::Receipts(chats.map_or(FollowChats::All, FollowChats::Only)));
    let presence = selected(covers().filter_map(|covers| covers.presence)).map(StateFamily::Presence);
    receipts.into_iter().chain(presence).collect()
}

/// What all of these come to: `None` for nothing, `Some(None)` for all.
fn selected<T>(which: impl Iterator<Item = Which<T>>) -> Option<Option<Vec<T>>> {
    let mut named = Vec::new();
    for which in which {
        match which {
            Which::All => return Some(None),
            Which::One(one) => named.push(one),
        }
    }
    (!named.is_empty()).then_some(Some(named))
}

impl Session {
    /// Something happened. Sent to those who subscribed; what waits for the socket longer than it lasts is replaced.
    pub fn handle_state(&mut self, topic: StateTopic, event: Arc<SharedEvent>) {
        if self.closed || self.subscriptions.grant_state(topic).is_none() {
            return;
        }
        let states = &mut self.states;
        if matches!(topic, StateTopic::Presence(_))
            && let Some(older) =
                states.waiting.iter_mut().find(|older| older.topic == topic && older.retained.is_none())
        {
            older.event = event;
        } else if states.waiting.len() < MAX_WAITING {
            let since = event.event.at;
            states.waiting.push_back(Waiting { topic, event, retained: None, since });
        } else {
            states.lose(event.event.at);
        }
    }

    /// State events were lost on the way from that time on.
    pub fn handle_states_lost(&mut self, since: Timestamp) {
        self.states.lose(since);
    }

    /// What [`Action::ReadStates`] asked for, and from where it goes on.
    pub fn handle_states(&mut self, events: Vec<StateEvent>, next: Option<Uuid>) {
        let states = &mut self.states;
        states.asked = false;
        let Some(wish) = states.wishes.front_mut() else { return };
        let (retained, resumed) = (wish.retained.clone(), wish.query.since.is_some());
        let since = wish.asked_from();
        match next {
            Some(next) => wish.query.after = Some(next),
            None => drop(states.wishes.pop_front()),
        }
        // What happened since it was read is behind it.
        for (topic, event) in events.into_iter().rev() {
            let known = match topic {
                StateTopic::Receipts(chat) => resumed && states.told.knows(chat, &event.event.body),
                StateTopic::Presence(_) => false,
            };
            if !known {
                states.waiting.push_front(Waiting { topic, event, retained: retained.clone(), since });
            }
        }
    }

    /// How things stand is due to these new subscriptions.
    pub(super) fn wish_states(&mut self, subscriptions: &[Arc<Subscription>]) {
        self.states.wish(subscriptions, None, Some(&subscriptions.into()));
    }

    pub(super) fn poll_state(&mut self) -> Option<Out> {
        // What is being read is older than what waits.
        while !self.states.asked
            && let Some(Waiting { topic, event, retained, .. }) = self.states.waiting.pop_front()
        {
            let grant = match &retained {
                None => self.subscriptions.grant_state(topic),
                Some(subscriptions) => Grant::of_state(subscriptions, topic),
            };
            let Some(Grant { ids, retain_as_published, .. }) = grant else { continue };
            if let StateTopic::Receipts(chat) = topic {
                self.states.told.note(event.event.at, chat, &event.event.body);
            }
            // [MQTT-3.3.1-8], [MQTT-3.3.1-12], [MQTT-3.3.1-13]
            let retain = retained.is_some() || retain_as_published;
            return Some(unnumbered(topic.name(), ids, retain, event.payload(self.format)));
        }
        // Not while a question is open: the next one knows of all that is lost until then.
        if !self.states.asked
            && self.states.wishes.is_empty()
            && let Some(since) = self.states.lost_since.take()
        {
            let all = self.subscriptions.all();
            self.states.wish(&all, Some(since), None);
        }
        None
    }
}

impl StateTopic {
    /// The topic's name.
    pub fn name(self) -> String {
        match self {
            Self::Receipts(chat) => topic::receipts_topic(chat),
            Self::Presence(user) => topic::presence_topic(user),
        }
    }
}
