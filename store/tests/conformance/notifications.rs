//! Badges: counted right whatever happened before, held against a model.

use crate::{
    harness::{Fixture, code, new_user},
    on_both_engines,
};
use curlew_domain::{
    ErrorCode,
    contact::{RelationAction, SearchPosition, SearchQuery, ShownRelation},
    ids::{ChatId, RowId, Seq, UserId},
    message::Entry,
    notification::Badge,
    page::PageRequest,
    ports::store::{Accounts, AppendMessage, Chats, Contacts, Log, NewUser, Notifications},
    receipt::Raise,
    rules::{MembershipChange, MessageChange},
};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};
use std::collections::BTreeSet;
use uuid::Uuid;

on_both_engines!(
    badges_are_as_the_model_says,
    chats_with_a_badge_are_paged,
    clearing_is_told_once_and_is_not_reading,
    requests_are_new_until_they_were_viewed,
    people_are_found_by_the_beginning_of_their_names,
    a_search_is_paged_and_meets_everybody_once,
    badges_are_counted_to_999,
);

const USERS: usize = 3;

/// What can happen in the group. Users are 0 (who founded it and stays), 1 and 2; messages are the nth of all.
#[derive(Clone, Copy, Debug)]
enum Op {
    Send { user: usize, mentions: Option<usize> },
    Read { user: usize, message: usize },
    Clear { user: usize },
    Hide { user: usize, message: usize },
    Delete { message: usize },
    Edit { message: usize },
    Join { user: usize },
    Leave { user: usize },
}

fn op() -> impl Strategy<Value = Op> {
    let user = || 0..USERS;
    let guest = || 1..USERS;
    let message = || 0..20usize;
    prop_oneof![
        6 => (user(), proptest::option::of(user())).prop_map(|(user, mentions)| Op::Send { user, mentions }),
        3 => (user(), message()).prop_map(|(user, message)| Op::Read { user, message }),
        2 => user().prop_map(|user| Op::Clear { user }),
        2 => (user(), message()).prop_map(|(user, message)| Op::Hide { user, message }),
        2 => message().prop_map(|message| Op::Delete { message }),
        1 => message().prop_map(|message| Op::Edit { message }),
        2 => guest().prop_map(|user| Op::Join { user }),
        1 => guest().prop_map(|user| Op::Leave { user }),
    ]
}

/// A message as the model knows it.
#[derive(Debug)]
struct Message {
    id: RowId,
    seq: Seq,
    sender: usize,
    mentions: Option<usize>,
    deleted: bool,
    hidden_from: BTreeSet<usize>,
}

/// A stay as the model knows it.
#[derive(Clone, Copy, Debug)]
struct Stay {
    first: Seq,
    last: Option<Seq>,
    read: Seq,
    cleared: Seq,
}

/// The group as the model knows it.
struct Model {
    messages: Vec<Message>,
    stays: [Vec<Stay>; USERS],
    end: Seq,
}

impl Model {
    fn new() -> Self {
        let founded = Stay { first: 1, last: None, read: 1, cleared: 1 };
        Self { messages: Vec::new(), stays: [vec![founded], Vec::new(), Vec::new()], end: 1 }
    }

    fn present(&mut self, user: usize) -> Option<&mut Stay> {
        self.stays[user].last_mut().filter(|stay| stay.last.is_none())
    }

    fn badge(&self, user: usize) -> Option<Badge> {
        let stay = self.stays[user].last().filter(|stay| stay.last.is_none())?;
        let counts = |message: &&Message| {
            message.seq > stay.read.max(stay.cleared)
                && message.sender != user
                && !message.deleted
                && !message.hidden_from.contains(&user)
        };
        let waiting: Vec<&Message> = self.messages.iter().filter(counts).collect();
        let mentions = waiting.iter().filter(|message| message.mentions == Some(user)).count();
        let badge = Badge { unread: waiting.len() as u32, mentions: mentions as u32 };
        (badge.unread > 0).then_some(badge)
    }

    /// Whether the user may have a row.
    fn may_have(&self, user: usize, seq: Seq) -> bool {
        self.stays[user].iter().any(|stay| stay.first <= seq && stay.last.is_none_or(|last| seq <= last))
    }
}

struct World<'a> {
    f: &'a Fixture,
    users: [UserId; USERS],
    chat: ChatId,
    model: Model,
}

impl World<'_> {
    /// Does it in the store and in the model. What may not be done is left out; other tests see to that.
    async fn apply(&mut self, op: Op) {
        let Self { f, users, chat, model } = self;
        let chat = *chat;
        match op {
            Op::Send { user, mentions } => {
                let known = mentions.is_none_or(|mentioned| !model.stays[mentioned].is_empty());
                if model.present(user).is_none() || !known {
                    return;
                }
                let mentioned: Vec<UserId> = mentions.map(|mentioned| users[mentioned]).into_iter().collect();
                let message = AppendMessage { mentions: mentioned, ..f.message(chat, users[user], "hello") };
                let row = f.append(message).await.unwrap().row().clone();
                model.end = row.seq;
                model.messages.push(Message {
                    id: row.id,
                    seq: row.seq,
                    sender: user,
                    mentions,
                    deleted: false,
                    hidden_from: BTreeSet::new(),
                });
            }
            Op::Read { user, message } => {
                let Some(seq) = model.messages.get(message).map(|message| message.seq) else { return };
                let Some(stay) = model.present(user) else { return };
                stay.read = stay.read.max(seq);
                let raise = Raise { chat, user: users[user], delivered: None, read: Some(seq) };
                f.store.raise_watermarks(vec![raise], f.now()).await;
            }
            Op::Clear { user } => {
                let end = model.end;
                let Some(stay) = model.present(user) else { return };
                stay.cleared = end;
                f.store.clear_notifications(users[user], chat, f.now()).await.unwrap();
            }
            Op::Hide { user, message } => {
                let Some(seq) = model.messages.get(message).map(|message| message.seq) else { return };
                // Who has left deletes nothing any more.
                if model.present(user).is_some() && model.may_have(user, seq) {
                    let message = &mut model.messages[message];
                    message.hidden_from.insert(user);
                    f.hide(chat, users[user], message.id).await.unwrap();
                }
            }
            Op::Delete { message } => {
                let Some(Message { id, deleted, .. }) = model.messages.get_mut(message) else { return };
                // By the owner, who has been there all the time.
                f.alter(chat, users[0], *id, MessageChange::Delete).await.unwrap();
                if !std::mem::replace(deleted, true) {
                    model.end += 1;
                }
            }
            Op::Edit { message } => {
                let Some(Message { id, sender: 0, deleted: false, hidden_from, .. }) =
                    model.messages.get(message)
                else {
                    return;
                };
                // What its sender has deleted for themselves is not edited any more.
                if hidden_from.contains(&0) {
                    return;
                }
                let text = Uuid::now_v7().to_string();
                f.alter(chat, users[0], *id, MessageChange::Edit(text)).await.unwrap();
                model.end += 1;
            }
            Op::Join { user } => {
                if model.present(user).is_none() {
                    f.change(chat, users[0], MembershipChange::Add(vec![users[user]])).await.unwrap();
                    model.end += 1;
                    let (first, last) = (model.end, None);
                    model.stays[user].push(Stay { first, last, read: first, cleared: first });
                }
            }
            Op::Leave { user } => {
                let end = model.end + 1;
                let Some(stay) = model.present(user) else { return };
                stay.last = Some(end);
                model.end = end;
                f.change(chat, users[user], MembershipChange::Leave).await.unwrap();
            }
        }
    }

    async fn check(&self) -> Result<(), TestCaseError> {
        for (n, user) in self.users.iter().enumerate() {
            let counts = self.f.store.count_notifications(*user).await.unwrap();
            let badge = counts.chats.get(&self.chat).copied();
            prop_assert_eq!(badge, self.model.badge(n), "the badge of user {}", n);
            let again = self.f.store.count_notifications(*user).await.unwrap();
            prop_assert_eq!(&again, &counts, "another device");
            let page = PageRequest { limit: 200, after: None };
            let listed = self.f.store.list_chat_notifications(*user, page).await.unwrap();
            let listed = listed.items.iter().find(|of| of.chat_id == self.chat);
            let listed = listed.map(|of| Badge { unread: of.unread_count, mentions: of.mention_count });
            prop_assert_eq!(listed, badge, "the list of user {}", n);
        }
        Ok(())
    }
}

async fn badges_are_as_the_model_says(f: Fixture) {
    let users = f.contacts(["alice", "bob", "carol"]).await;
    let postgres = matches!(f.config.engine, curlew_store::Engine::Postgres(_));
    let cases = if postgres { 12 } else { 48 };
    let runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let run = |mut runner: TestRunner| {
        runner.run(&vec(op(), 1..30), |ops| {
            let case = async {
                let chat = f.group(users[0], &[]).await;
                let mut world = World { f: &f, users, chat, model: Model::new() };
                for op in ops {
                    world.apply(op).await;
                    world.check().await?;
                }
                Ok(())
            };
            tokio::runtime::Handle::current().block_on(case)
        })
    };
    tokio::task::block_in_place(|| run(runner)).unwrap();
}

async fn chats_with_a_badge_are_paged(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let mut expected = Vec::new();
    for n in 0..7 {
        let chat = f.group(alice, &[bob]).await;
        if n != 3 {
            f.send(chat, alice, "hello").await;
            expected.insert(0, chat);
        }
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = f.store.list_chat_notifications(bob, PageRequest { limit: 2, after }).await.unwrap();
        assert!(page.items.iter().all(|of| of.unread_count == 1 && of.last_message.is_some()));
        seen.extend(page.items.iter().map(|of| of.chat_id));
        let Some(cursor) = page.next_cursor else { break };
        after = PageRequest::parse(None, Some(&cursor)).unwrap().after;
    }
    assert_eq!(seen, expected);
    let counts = f.store.count_notifications(bob).await.unwrap();
    assert_eq!((counts.total, counts.chats.len()), (6, 6));
    assert_eq!(f.store.count_notifications(alice).await.unwrap().total, 0);
}

async fn clearing_is_told_once_and_is_not_reading(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    let mention = AppendMessage { mentions: vec![bob], ..f.message(chat, alice, "you") };
    f.append(mention).await.unwrap();
    let view = async || f.store.find_chat(bob, chat).await.unwrap().unwrap();
    assert_eq!((view().await.unread_count, view().await.mention_count), (1, 1));
    f.relay.take();
    for _ in 0..2 {
        f.store.clear_notifications(bob, chat, f.now()).await.unwrap();
    }
    let told: Vec<_> = f.relay.take().iter().map(|row| row.entry.clone()).collect();
    assert_eq!(told, [Entry::NotificationsCleared(chat)]);
    assert_eq!(f.store.count_notifications(bob).await.unwrap().total, 0);
    assert_eq!((view().await.unread_count, view().await.mention_count), (1, 1), "still unread");
    let stranger = f.user("stranger").await;
    assert_eq!(code(f.store.clear_notifications(stranger, chat, f.now()).await), ErrorCode::NotFound);
    let group = f.group(alice, &[bob]).await;
    f.change(group, bob, MembershipChange::Leave).await.unwrap();
    assert_eq!(code(f.store.clear_notifications(bob, group, f.now()).await), ErrorCode::NotMember);
}

async fn requests_are_new_until_they_were_viewed(f: Fixture) {
    let (alice, bob) = (f.user("alice").await, f.user("bob").await);
    let relate = async |a, b, action| f.store.relate(a, b, action, f.now()).await.map(drop).unwrap();
    let new = async || {
        let requests = f.store.list_new_requests(bob, 200).await.unwrap();
        let counts = f.store.count_notifications(bob).await.unwrap();
        assert_eq!(
            (counts.contact_requests as usize, counts.total as usize),
            (requests.len(), requests.len())
        );
        requests.len()
    };
    relate(alice, bob, RelationAction::Request).await;
    assert_eq!(new().await, 1);
    f.relay.take();
    for _ in 0..2 {
        f.store.mark_requests_viewed(bob, f.now()).await.unwrap();
    }
    let told: Vec<_> = f.relay.take().iter().map(|row| row.entry.clone()).collect();
    assert_eq!(told, [Entry::ContactRequestsViewed]);
    assert_eq!(new().await, 0);
    // One that is made anew is new.
    relate(bob, alice, RelationAction::Reject).await;
    relate(alice, bob, RelationAction::Request).await;
    assert_eq!(new().await, 1);
    relate(bob, alice, RelationAction::Accept).await;
    assert_eq!(new().await, 0);
}

async fn search(f: &Fixture, user: UserId, text: &str) -> Vec<(UserId, ShownRelation)> {
    let query = SearchQuery::parse(text).unwrap();
    let (found, next) = f.store.search_users(user, query, None, 200).await.unwrap();
    assert_eq!(next, None);
    found.into_iter().map(|found| (found.user.id, found.relation)).collect()
}

async fn people_are_found_by_the_beginning_of_their_names(f: Fixture) {
    // Display names are the user names in capitals.
    let [alice, alina, bob] = f.contacts(["alice", "alina", "bob"]).await;
    let (albert, mallory) = (f.user("albert").await, f.user("mallory").await);
    f.store.relate(mallory, alice, RelationAction::Request, f.now()).await.unwrap();
    f.store.relate(alice, bob, RelationAction::Block, f.now()).await.unwrap();
    assert_eq!(
        search(&f, alice, "Al").await,
        [(albert, ShownRelation::None), (alina, ShownRelation::Contact)]
    );
    assert_eq!(search(&f, alice, "mallory").await, [(mallory, ShownRelation::Incoming)]);
    assert_eq!(search(&f, mallory, "alice").await, [(alice, ShownRelation::Outgoing)]);
    assert_eq!(search(&f, alice, "BOB").await, [(bob, ShownRelation::Blocked)]);
    assert_eq!(search(&f, bob, "alice").await, [(alice, ShownRelation::Contact)], "a block is not told");
    for nobody in ["lice", "%", "_", "alicex", "\u{10FFFF}"] {
        assert_eq!(search(&f, bob, nobody).await, [], "{nobody}");
    }
}

async fn a_search_is_paged_and_meets_everybody_once(f: Fixture) {
    let me = f.user("searcher").await;
    let mut expected = Vec::new();
    for n in 0..5 {
        expected.push(f.user(&format!("zoe{n}")).await);
    }
    // Their display names match, their user names do not; two are called the same.
    let mut others = Vec::new();
    for (n, name) in ["Zoe B", "zoe a", "ZOE A"].iter().enumerate() {
        let id = UserId::from(Uuid::now_v7());
        let user = new_user(id, &format!("other{n}"), f.now());
        let user = NewUser { display_name: (*name).into(), ..user };
        f.store.create_user(user).await.unwrap();
        others.push((name.to_lowercase(), id));
    }
    others.sort();
    expected.extend(others.into_iter().map(|(_, id)| id));
    for limit in 1..=9 {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let query = SearchQuery::parse("zoe").unwrap();
            let (found, next) = f.store.search_users(me, query, after, limit).await.unwrap();
            seen.extend(found.into_iter().map(|found| found.user.id));
            let Some(next) = next else { break };
            after = Some(SearchPosition::decode(&next.encode()).unwrap());
        }
        assert_eq!(seen, expected, "{limit} at a time");
    }
}

// N1
async fn badges_are_counted_to_999(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    for expected in [998, 999, 999] {
        let before = f.store.find_chat(bob, chat).await.unwrap().unwrap().last_seq;
        let missing = if before == 0 { 998 } else { 1 };
        for first in (0..missing).step_by(200) {
            let batch: Vec<_> =
                (first..missing.min(first + 200)).map(|_| f.message(chat, alice, "!")).collect();
            f.one_batch(batch).await.into_iter().for_each(|sent| drop(sent.unwrap()));
        }
        assert_eq!(f.store.find_chat(bob, chat).await.unwrap().unwrap().unread_count, expected);
        let counts = f.store.count_notifications(bob).await.unwrap();
        assert_eq!(counts.total, expected);
    }
}
