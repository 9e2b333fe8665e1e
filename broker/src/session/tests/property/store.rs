//! A store in memory: what the ports' documentation says about logs, stays and sessions, and nothing else.

use crate::session::tests::id;
use curlew_domain::{
    chat::{LeaveReason, StayEnd},
    clock::Timestamp,
    ids::{ChatId, Seq, Stream, StreamId, UserId},
    message::{Content, Entry, LogRow, MembersChanged},
    session::{Cursors, OpenedSession, SaveSubscriptions, SessionFence},
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

/// Users of the world.
pub const USERS: usize = 3;
/// Its chats. The last one is the private chat of the first two users.
pub const CHATS: usize = 3;
const PRIVATE: usize = CHATS - 1;

pub fn user(n: usize) -> UserId {
    id(0x100 + n as u128)
}

pub fn chat(n: usize) -> ChatId {
    id(0x200 + n as u128)
}

/// One stay of one user in one chat.
#[derive(Clone, Copy, Debug)]
struct Stay {
    user: UserId,
    joined: Seq,
    visible_from: Seq,
    left: Option<Seq>,
}

#[derive(Debug, Default)]
struct Chat {
    exists: bool,
    rows: Vec<Arc<LogRow>>,
    stays: Vec<Stay>,
}

/// A session's row.
#[derive(Clone, Debug, Default)]
pub struct StoredSession {
    pub generation: i64,
    pub filters: String,
    pub cursors: Cursors,
}

/// All that is committed.
#[derive(Debug, Default)]
pub struct Store {
    chats: BTreeMap<ChatId, Chat>,
    personal: BTreeMap<UserId, Vec<Arc<LogRow>>>,
    pub sessions: BTreeMap<usize, StoredSession>,
    ids: u128,
    /// Commits that the relay has not been told of yet.
    pub unannounced: VecDeque<Vec<Arc<LogRow>>>,
}

impl Store {
    // ## What users do

    /// A member sends; nothing happens in a chat that has none.
    pub fn send(&mut self, chat: ChatId) {
        let Some(sender) = self.members(chat).next() else { return };
        let row = self.append(chat, sender, Entry::Message(Content::of_text("hello")));
        self.unannounced.push_back(vec![row]);
    }

    /// A user joins or founds a group, or opens the private chat. `all`: the group shows its history.
    pub fn join(&mut self, n: usize, user: UserId, all: bool) {
        let id = chat(n);
        if self.members(id).any(|member| member == user) {
            return;
        }
        if n == PRIVATE {
            self.open_private(id);
            return;
        }
        self.chat(id).exists = true;
        let change = MembersChanged { added: vec![user], ..MembersChanged::default() };
        let row = self.append(id, user, Entry::MembersChanged(change));
        let visible_from = if all { 1 } else { row.seq };
        self.chat(id).stays.push(Stay { user, joined: row.seq, visible_from, left: None });
        let entered = self.note(user, Entry::NewChat { chat: id, joined_seq: row.seq });
        self.unannounced.push_back(vec![entered, row]);
    }

    fn open_private(&mut self, id: ChatId) {
        if std::mem::replace(&mut self.chat(id).exists, true) {
            return;
        }
        let both = [user(0), user(1)];
        let stays = both.map(|user| Stay { user, joined: 0, visible_from: 1, left: None });
        self.chat(id).stays.extend(stays);
        let rows = both.map(|user| self.note(user, Entry::NewChat { chat: id, joined_seq: 0 }));
        self.unannounced.push_back(rows.into());
    }

    /// A user leaves a group.
    pub fn leave(&mut self, n: usize, user: UserId) {
        let id = chat(n);
        if n == PRIVATE || !self.members(id).any(|member| member == user) {
            return;
        }
        let change = MembersChanged { removed: vec![user], ..MembersChanged::default() };
        let row = self.append(id, user, Entry::MembersChanged(change));
        let stay = self.chat(id).stays.iter_mut().find(|stay| stay.user == user && stay.left.is_none());
        stay.expect("an active member").left = Some(row.seq);
        let (left_seq, reason) = (row.seq, LeaveReason::Left);
        let left = self.note(user, Entry::ChatLeft { chat: id, left_seq, reason });
        self.unannounced.push_back(vec![row, left]);
    }

    fn chat(&mut self, id: ChatId) -> &mut Chat {
        self.chats.entry(id).or_default()
    }

    fn members(&self, id: ChatId) -> impl Iterator<Item = UserId> {
        let stays = self.chats.get(&id).into_iter().flat_map(|chat| &chat.stays);
        stays.filter(|stay| stay.left.is_none()).map(|stay| stay.user)
    }

    fn append(&mut self, id: ChatId, sender: UserId, entry: Entry) -> Arc<LogRow> {
        let seq = self.chat(id).rows.len() as Seq + 1;
        let row = self.row(Stream::Chat(id), seq, sender, entry);
        self.chat(id).rows.push(Arc::clone(&row));
        row
    }

    /// A row of the personal log.
    fn note(&mut self, user: UserId, entry: Entry) -> Arc<LogRow> {
        let seq = self.personal.entry(user).or_default().len() as Seq + 1;
        let row = self.row(Stream::Personal(user), seq, user, entry);
        self.personal.entry(user).or_default().push(Arc::clone(&row));
        row
    }

    fn row(&mut self, stream: Stream, seq: Seq, sender: UserId, entry: Entry) -> Arc<LogRow> {
        self.ids += 1;
        let id = id(0x10_000 + self.ids);
        Arc::new(LogRow { stream, seq, id, sender, at: Timestamp(0), local_id: None, entry })
    }

    // ## What is true about a user

    fn stays(&self, user: UserId, stream: Stream) -> impl Iterator<Item = Stay> {
        let chat = match stream {
            Stream::Chat(chat) => self.chats.get(&chat),
            Stream::Personal(_) => None,
        };
        let stays = chat.into_iter().flat_map(|chat| &chat.stays);
        stays.filter(move |stay| stay.user == user).copied()
    }

    /// Whether the user may have the row.
    pub fn entitled(&self, user: UserId, stream: Stream, seq: Seq) -> bool {
        let within = |stay: Stay| stay.visible_from <= seq && stay.left.is_none_or(|left| seq <= left);
        let mine = stream == Stream::Personal(user) || self.stays(user, stream).any(within);
        mine && (1..=self.log_end(stream)).contains(&seq)
    }

    /// Whether a stream that passes the row must bring it. What a later stay lets its member see of the time before it need
    /// not be brought: the stream may have passed it by then.
    pub fn due(&self, user: UserId, stream: Stream, seq: Seq) -> bool {
        let within = |stay: Stay| stay.joined <= seq && stay.left.is_none_or(|left| seq <= left);
        let mine = stream == Stream::Personal(user) || self.stays(user, stream).any(within);
        mine && (1..=self.log_end(stream)).contains(&seq)
    }

    /// `joined_seq` of the user's first stay.
    pub fn first_joined(&self, user: UserId, stream: Stream) -> Option<Seq> {
        self.stays(user, stream).map(|stay| stay.joined).min()
    }

    pub fn log_end(&self, stream: Stream) -> Seq {
        let rows = match stream {
            Stream::Chat(chat) => self.chats.get(&chat).map(|chat| chat.rows.len()),
            Stream::Personal(user) => self.personal.get(&user).map(Vec::len),
        };
        rows.unwrap_or(0) as Seq
    }

    /// The last row that the user may have.
    fn end(&self, user: UserId, stream: Stream) -> Seq {
        let log_end = self.log_end(stream);
        self.stays(user, stream).map(|stay| stay.left.unwrap_or(log_end)).max().unwrap_or(log_end)
    }

    // ## The ports

    /// `Log::read_logs` of one log: rows and end.
    pub fn read_log(
        &self,
        user: UserId,
        stream: Stream,
        after: Seq,
        limit: usize,
    ) -> Option<(Vec<Seq>, Seq)> {
        if stream != Stream::Personal(user) && self.first_joined(user, stream).is_none() {
            return None;
        }
        let all = after + 1..=self.log_end(stream);
        let rows: Vec<_> = all.filter(|seq| self.entitled(user, stream, *seq)).take(limit).collect();
        let end = if rows.len() == limit { rows[limit - 1] } else { self.end(user, stream) };
        Some((rows, end))
    }

    /// `Chats::list_stays`.
    pub fn list_stays(&self, user: UserId) -> Vec<StayEnd> {
        let of_chat = |id: &ChatId| {
            let stream = Stream::Chat(*id);
            let last = self.stays(user, stream).max_by_key(|stay| stay.joined)?;
            let first_joined = self.first_joined(user, stream)?;
            let (last_joined, left) = (last.joined, last.left);
            Some(StayEnd {
                chat: *id,
                first_joined,
                last_joined,
                left,
                end: self.end(user, stream),
                delivered: 0,
            })
        };
        self.chats.keys().filter_map(of_chat).collect()
    }

    /// `Sessions::open_session`.
    pub fn open_session(&mut self, device: usize, clean_start: bool) -> OpenedSession {
        let known = self.sessions.remove(&device);
        let present = known.is_some() && !clean_start;
        let generation = known.as_ref().map_or(0, |session| session.generation) + 1;
        let kept = known.filter(|_| present).unwrap_or_default();
        let session = StoredSession { generation, ..kept };
        self.sessions.insert(device, session.clone());
        let fence = SessionFence { session: id(0x300 + device as u128), generation };
        OpenedSession {
            fence,
            present,
            left_at: None,
            filters: session.filters,
            cursors: session.cursors,
            sent: 0,
            received: Vec::new(),
        }
    }

    fn fenced(&mut self, device: usize, fence: SessionFence) -> Option<&mut StoredSession> {
        self.sessions.get_mut(&device).filter(|session| session.generation == fence.generation)
    }

    /// `Sessions::save_subscriptions`.
    pub fn save_subscriptions(&mut self, device: usize, save: SaveSubscriptions) -> Option<Cursors> {
        let SaveSubscriptions { fence, user, filters, previous, follow, cursors } = save;
        let mut map = Cursors::new();
        let mut enter = |stream: Stream, before: bool, beginning: Seq, end: Seq| {
            let fresh = if before { beginning } else { end };
            map.insert(stream.id(), cursors.get(&stream.id()).copied().unwrap_or(fresh));
        };
        if follow.personal {
            let stream = Stream::Personal(user);
            enter(stream, previous.personal, 0, self.log_end(stream));
        }
        for stay in self.list_stays(user).iter().filter(|stay| follow.covers(stay.chat)) {
            let beginning = stay.first_joined.saturating_sub(1);
            enter(Stream::Chat(stay.chat), previous.covers(stay.chat), beginning, stay.end);
        }
        let session = self.fenced(device, fence)?;
        (session.filters, session.cursors) = (filters, map.clone());
        Some(map)
    }

    /// `Sessions::save_cursors` and `close_session`.
    pub fn save_cursors(&mut self, device: usize, fence: SessionFence, cursors: Cursors) -> bool {
        let session = self.fenced(device, fence);
        session.map(|session| session.cursors = cursors).is_some()
    }
}

/// Every stream of the world that a user could follow.
pub fn streams_of(me: UserId) -> impl Iterator<Item = Stream> {
    (0..CHATS).map(|n| Stream::Chat(chat(n))).chain([Stream::Personal(me)])
}

/// Which stream an id stands for.
pub fn stream_of(me: UserId, id: StreamId) -> Stream {
    streams_of(me).find(|stream| stream.id() == id).expect("a stream of the world")
}
