//! Receipts as state: for a new subscription, and for a session that comes back.

use crate::{harness::Fixture, on_both_engines};
use curlew_domain::{
    account::{PrivacyChange, Visibility},
    clock::Timestamp,
    contact::RelationAction,
    ids::{ChatId, Seq, UserId},
    ports::store::{Contacts, Log, Profiles},
    receipt::{Raise, ReceiptState, ReceiptsQuery, Sight},
    rules::MembershipChange,
    session::FollowChats,
};

on_both_engines!(
    the_present_state_names_the_newest_message_and_what_others_have_come_to,
    what_changed_since_a_time_is_told_once_per_chat,
    what_is_hidden_or_blocked_is_no_change,
    ones_own_reading_is_a_change,
    a_groups_state_is_of_the_newest_message_concerned,
    only_chats_that_are_asked_for_and_ones_own,
    states_come_in_pages,
);

const LATER: Timestamp = Timestamp(i64::MAX / 4);

async fn raise(f: &Fixture, chat: ChatId, user: UserId, delivered: Seq, read: Seq, at: Timestamp) {
    let raise = Raise { chat, user, delivered: Some(delivered), read: Some(read) };
    f.store.raise_watermarks(vec![raise], at).await.remove(0).unwrap();
}

async fn states(f: &Fixture, user: UserId, since: Option<Timestamp>) -> Vec<ReceiptState> {
    let query = ReceiptsQuery { chats: FollowChats::All, since, after: None, limit: 100 };
    f.store.list_receipts(user, query).await.unwrap().states
}

fn after(at: Timestamp, ms: i64) -> Timestamp {
    Timestamp(at.0 + ms)
}

async fn the_present_state_names_the_newest_message_and_what_others_have_come_to(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    for n in 1..=4 {
        f.send(chat, alice, &n.to_string()).await;
    }
    f.send(chat, bob, "5").await;
    raise(&f, chat, bob, 3, 1, f.now()).await;
    let found = states(&f, alice, None).await;
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].chat, found[0].group, &found[0].messages), (chat, false, &vec![1, 3, 4]));
    assert_eq!((found[0].sight, found[0].read), (Sight::FULL, None));
    assert_eq!(states(&f, bob, None).await[0].messages, [5]);
}

async fn what_changed_since_a_time_is_told_once_per_chat(f: Fixture) {
    let [alice, bob, carol] = f.contacts(["alice", "bob", "carol"]).await;
    let (with_bob, with_carol) = (f.private_chat(alice, bob).await, f.private_chat(alice, carol).await);
    for chat in [with_bob, with_carol] {
        for n in 1..=3 {
            f.send(chat, alice, &n.to_string()).await;
        }
    }
    let left = after(f.now(), 10);
    raise(&f, with_carol, carol, 3, 3, left).await;
    assert!(states(&f, alice, Some(left)).await.is_empty(), "not what was so when one left");
    raise(&f, with_bob, bob, 1, 1, after(left, 1)).await;
    raise(&f, with_bob, bob, 3, 2, after(left, 2)).await;
    let found = states(&f, alice, Some(left)).await;
    assert_eq!((found.len(), found[0].chat, &found[0].messages), (1, with_bob, &vec![2, 3]));
    let found = states(&f, alice, Some(after(left, 1))).await;
    assert_eq!(found[0].messages, [2, 3]);
    raise(&f, with_carol, carol, 3, 3, after(left, 9)).await;
    assert_eq!(states(&f, alice, Some(after(left, 5))).await.len(), 0, "what was so already is no change");
    assert!(states(&f, alice, Some(LATER)).await.is_empty());
}

async fn what_is_hidden_or_blocked_is_no_change(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    f.send(chat, alice, "1").await;
    raise(&f, chat, bob, 1, 0, f.now()).await;
    let left = after(f.now(), 10);
    let change = PrivacyChange { read_receipts: Some(Visibility::Nobody), ..PrivacyChange::default() };
    f.store.update_privacy(bob, change).await.unwrap();
    raise(&f, chat, bob, 1, 1, after(left, 1)).await;
    assert!(states(&f, alice, Some(left)).await.is_empty());
    f.send(chat, alice, "2").await;
    f.store.relate(bob, alice, RelationAction::Block, f.now()).await.unwrap();
    raise(&f, chat, bob, 2, 2, after(left, 2)).await;
    assert!(states(&f, alice, Some(left)).await.is_empty());
    assert_eq!(states(&f, alice, None).await[0].messages, [1, 2]);
}

async fn ones_own_reading_is_a_change(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    for n in 1..=3 {
        f.send(chat, alice, &n.to_string()).await;
    }
    let left = after(f.now(), 10);
    raise(&f, chat, bob, 2, 2, after(left, 1)).await;
    let found = states(&f, bob, Some(left)).await;
    assert_eq!((found.len(), found[0].read, found[0].messages.len()), (1, Some((2, 1)), 0));
    assert!(states(&f, bob, None).await.iter().all(|state| state.read.is_none()));
}

async fn a_groups_state_is_of_the_newest_message_concerned(f: Fixture) {
    let [alice, bob, carol] = f.contacts(["alice", "bob", "carol"]).await;
    let chat = f.group(alice, &[bob, carol]).await;
    for n in 2..=4 {
        f.send(chat, alice, &n.to_string()).await;
    }
    let left = after(f.now(), 10);
    raise(&f, chat, bob, 3, 0, after(left, 1)).await;
    let found = states(&f, alice, Some(left)).await;
    assert_eq!((found[0].group, &found[0].messages, found[0].marks.len()), (true, &vec![3], 3));
    assert_eq!(states(&f, alice, None).await[0].messages, [4]);
    // What concerns nobody's messages of one's own is nothing to be told.
    assert!(states(&f, carol, Some(left)).await[0].messages.is_empty());
}

async fn only_chats_that_are_asked_for_and_ones_own(f: Fixture) {
    let [alice, bob, carol] = f.contacts(["alice", "bob", "carol"]).await;
    let (with_bob, with_carol) = (f.private_chat(alice, bob).await, f.private_chat(alice, carol).await);
    let of_others = f.private_chat(bob, carol).await;
    let group = f.group(bob, &[alice]).await;
    for (chat, sender) in [(with_bob, alice), (with_carol, alice), (of_others, bob), (group, alice)] {
        f.send(chat, sender, "hello").await;
    }
    f.change(group, alice, MembershipChange::Leave).await.unwrap();
    let chats = FollowChats::Only(vec![with_bob, of_others, group]);
    let query = ReceiptsQuery { chats, since: None, after: None, limit: 100 };
    let found = f.store.list_receipts(alice, query).await.unwrap().states;
    assert_eq!(found.iter().map(|state| state.chat).collect::<Vec<_>>(), [with_bob]);
}

async fn states_come_in_pages(f: Fixture) {
    let [alice, bob, carol, dave] = f.contacts(["alice", "bob", "carol", "dave"]).await;
    let mut expected = Vec::new();
    for peer in [bob, carol, dave] {
        let chat = f.private_chat(alice, peer).await;
        f.send(chat, alice, "hello").await;
        expected.push(chat);
    }
    expected.sort_unstable();
    let (mut found, mut next) = (Vec::new(), None);
    loop {
        let query = ReceiptsQuery { chats: FollowChats::All, since: None, after: next, limit: 2 };
        let page = f.store.list_receipts(alice, query).await.unwrap();
        found.extend(page.states.iter().map(|state| state.chat));
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    assert_eq!(found, expected);
}
