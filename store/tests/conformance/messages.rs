//! Appending messages and reading logs.

use crate::{
    harness::{Fixture, code, hash, seqs},
    on_both_engines,
};
use curlew_domain::{
    ErrorCode,
    chat::{ChatKind, Role, Standing},
    clock::Timestamp,
    contact::RelationAction,
    ids::Stream,
    message::{Content, Entry, MessageType},
    ports::store::{AppendMessage, Appended, Contacts, Log, LogPage, MessagesFrom},
    receipt::{Raise, Status},
    rules::{MembershipChange, SendFacts},
};
use uuid::Uuid;

on_both_engines!(
    rows_are_numbered_without_gaps_and_time_never_runs_backwards,
    the_relay_gets_what_is_stored,
    a_retry_gets_the_first_result_for_ever,
    another_content_under_a_known_local_id_is_a_conflict,
    a_local_id_belongs_to_chat_and_sender,
    two_equal_local_ids_in_one_batch_make_one_message,
    a_send_is_judged_in_its_batch,
    a_block_stops_sends_in_the_private_chat_only,
    what_a_send_is_judged_by_can_be_asked,
    a_log_is_read_in_pages_to_its_end,
    logs_are_read_together_as_far_as_there_is_room,
    a_personal_log_is_its_owners,
    messages_are_listed_both_ways,
    only_the_sender_sees_local_id_and_status,
    any_text_comes_back_as_it_was,
    many_sizes_of_batches_store_every_row,
);

async fn rows_are_numbered_without_gaps_and_time_never_runs_backwards(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    let first = f.send(chat, alice, "1").await;
    let early = AppendMessage { at: Timestamp(5), ..f.message(chat, bob, "2") };
    let second = f.append(early).await.unwrap().row().clone();
    assert_eq!((first.seq, second.seq, second.at), (1, 2, first.at));
    let third = f.send(chat, alice, "3").await;
    assert!(third.at > second.at);
    assert_eq!(f.read_all(bob, Stream::Chat(chat)).await, [first, second, third]);
}

async fn the_relay_gets_what_is_stored(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    f.relay.take();
    let mut commits = Vec::new();
    for n in 0..100 {
        let message = f.message_with(chat, alice, &format!("{n}"), &format!("l{n}"));
        commits.push(f.store.append_message(message).await.unwrap());
    }
    for commit in commits {
        commit.await.unwrap();
    }
    let relayed: Vec<_> = f.relay.take().iter().map(|row| (**row).clone()).collect();
    assert_eq!(relayed.len(), 100);
    assert_eq!(relayed, f.read_all(bob, Stream::Chat(chat)).await);
    assert_eq!(relayed[7].entry, Entry::Message(Content::of_text("7")));
}

async fn a_retry_gets_the_first_result_for_ever(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.group(alice, &[bob]).await;
    let Appended::New(first) = f.append(f.message_with(chat, bob, "hello", "l1")).await.unwrap() else {
        panic!("it is new")
    };
    f.change(chat, alice, MembershipChange::Remove(bob)).await.unwrap();
    f.relay.take();
    let f = f.restart().await;
    let retry = f.append(f.message_with(chat, bob, "hello", "l1")).await.unwrap();
    assert!(matches!(&retry, Appended::Existing(row) if *row == first), "{retry:?}");
    assert!(f.relay.take().is_empty());
    assert_eq!(code(f.append(f.message_with(chat, bob, "hello", "l2")).await), ErrorCode::NotMember);
    assert_eq!(seqs(&f.read_all(alice, Stream::Chat(chat)).await), [1, 2, 3]);
}

async fn another_content_under_a_known_local_id_is_a_conflict(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    f.append(f.message_with(chat, alice, "one", "l1")).await.unwrap();
    assert_eq!(code(f.append(f.message_with(chat, alice, "two", "l1")).await), ErrorCode::LocalIdConflict);
    assert_eq!(f.read_all(bob, Stream::Chat(chat)).await.len(), 1);
}

async fn a_local_id_belongs_to_chat_and_sender(f: Fixture) {
    let [alice, bob, carol] = f.contacts(["alice", "bob", "carol"]).await;
    let (one, other) = (f.private_chat(alice, bob).await, f.private_chat(alice, carol).await);
    for (chat, sender) in [(one, alice), (one, bob), (other, alice)] {
        let appended = f.append(f.message_with(chat, sender, "x", "l'\"\\1")).await.unwrap();
        assert!(matches!(appended, Appended::New(_)));
        let again = f.append(f.message_with(chat, sender, "x", "l'\"\\1")).await.unwrap();
        assert!(matches!(again, Appended::Existing(_)));
    }
}

async fn two_equal_local_ids_in_one_batch_make_one_message(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    let messages = [
        f.message_with(chat, alice, "same", "l1"),
        f.message_with(chat, alice, "same", "l1"),
        f.message_with(chat, alice, "other", "l1"),
        f.message(chat, alice, "between"),
        f.message_with(chat, alice, "same", "l1"),
    ];
    let came = f.gate.came();
    let outcomes = f.one_batch(messages).await;
    // Seen in memory: had the unique index to find it, the batch would have been split.
    assert_eq!(f.gate.came() - came, 2, "one transaction, after the one that was held back");
    let new = outcomes[0].as_ref().unwrap().row().clone();
    assert!(matches!(&outcomes[0], Ok(Appended::New(_))));
    assert!(matches!(&outcomes[1], Ok(Appended::Existing(row)) if *row == new));
    assert_eq!(outcomes[2].as_ref().err().unwrap().code(), ErrorCode::LocalIdConflict);
    assert!(matches!(&outcomes[3], Ok(Appended::New(row)) if row.seq == 2));
    assert!(matches!(&outcomes[4], Ok(Appended::Existing(row)) if *row == new));
}

async fn a_send_is_judged_in_its_batch(f: Fixture) {
    let [alice, bob, carol] = f.contacts(["alice", "bob", "carol"]).await;
    let chat = f.private_chat(alice, bob).await;
    let nowhere = Uuid::now_v7().into();
    let messages = [
        f.message(chat, alice, "1"),
        f.message(chat, carol, "a stranger's"),
        f.message(nowhere, alice, "nowhere"),
        f.message(chat, bob, "2"),
        f.message(chat, Uuid::now_v7().into(), "nobody's"),
    ];
    let outcomes = f.one_batch(messages).await;
    let codes: Vec<_> = outcomes
        .iter()
        .map(|o| o.as_ref().map(|a| a.row().seq).map_err(curlew_domain::Error::code))
        .collect();
    let missing = Err(ErrorCode::NotFound);
    assert_eq!(codes, [Ok(1), missing, missing, Ok(2), missing]);
}

async fn a_block_stops_sends_in_the_private_chat_only(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let (private, group) = (f.private_chat(alice, bob).await, f.group(alice, &[bob]).await);
    f.store.relate(bob, alice, RelationAction::Block, f.now()).await.unwrap();
    for sender in [alice, bob] {
        assert_eq!(code(f.append(f.message(private, sender, "?")).await), ErrorCode::Blocked);
        f.send(group, sender, "!").await;
    }
    f.store.relate(bob, alice, RelationAction::Unblock, f.now()).await.unwrap();
    assert_eq!(f.send(private, alice, "!").await.seq, 1);
}

async fn what_a_send_is_judged_by_can_be_asked(f: Fixture) {
    let [alice, bob, carol] = f.contacts(["alice", "bob", "carol"]).await;
    let (private, group) = (f.private_chat(alice, bob).await, f.group(alice, &[bob]).await);
    let facts = async |user, chat| {
        let facts = f.store.find_send_facts(user, chat).await.unwrap();
        facts.map(|SendFacts { kind, standing, blocked, .. }| (kind, standing, blocked))
    };
    let of = |kind, standing, blocked| Some((kind, standing, blocked));
    let member = Standing::Active(Role::Member);
    assert_eq!(facts(alice, Uuid::now_v7().into()).await, None);
    assert_eq!(facts(bob, private).await, of(ChatKind::Private, member, false));
    assert_eq!(facts(carol, private).await, of(ChatKind::Private, Standing::Stranger, false));
    assert_eq!(facts(alice, group).await, of(ChatKind::Group, Standing::Active(Role::Owner), false));
    f.change(group, bob, MembershipChange::Leave).await.unwrap();
    f.store.relate(bob, alice, RelationAction::Block, f.now()).await.unwrap();
    assert_eq!(facts(bob, group).await, of(ChatKind::Group, Standing::Former, false));
    for user in [alice, bob] {
        assert_eq!(facts(user, private).await, of(ChatKind::Private, member, true));
    }
}

async fn a_log_is_read_in_pages_to_its_end(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    for n in 1..=7 {
        f.send(chat, alice, &n.to_string()).await;
    }
    let read = async |after, limit| {
        let page = f.read_log(bob, Stream::Chat(chat), after, limit).await.unwrap();
        (seqs(&page.rows), page.end, page.more)
    };
    assert_eq!(read(0, 3).await, (vec![1, 2, 3], 3, true));
    assert_eq!(read(3, 3).await, (vec![4, 5, 6], 6, true));
    assert_eq!(read(4, 3).await, (vec![5, 6, 7], 7, false));
    assert_eq!(read(6, 3).await, (vec![7], 7, false));
    assert_eq!(read(7, 3).await, (vec![], 7, false));
    assert_eq!(read(u64::MAX, 3).await, (vec![], 7, false));
}

async fn logs_are_read_together_as_far_as_there_is_room(f: Fixture) {
    let [alice, bob, carol] = f.contacts(["alice", "bob", "carol"]).await;
    let chats = [f.private_chat(alice, bob).await, f.group(alice, &[bob, carol]).await];
    let foreign = f.private_chat(alice, carol).await;
    for chat in chats.into_iter().chain([foreign]) {
        for n in 1..=4 {
            f.send(chat, alice, &n.to_string()).await;
        }
    }
    let hidden = f.send(chats[1], alice, "hidden").await;
    f.hide(chats[1], bob, hidden.id).await.unwrap();
    let wanted = [
        (Stream::Chat(chats[0]), 1),
        (Stream::Personal(alice), 0),
        (Stream::Chat(foreign), 0),
        (Stream::Chat(chats[1]), 2),
        (Stream::Personal(bob), 0),
        (Stream::Chat(Uuid::now_v7().into()), 0),
    ];
    let read = async |limit| {
        let pages = f.store.read_logs(bob, &wanted, limit).await.unwrap().into_iter();
        let of = |page: LogPage| (seqs(&page.rows), page.end, page.more);
        pages.map(|page| page.map(of)).collect::<Vec<_>>()
    };
    let personal = f.read_all(bob, Stream::Personal(bob)).await.len() as u64;
    let all = (1..=personal).collect();
    let first = Some((vec![2, 3, 4], 4, false));
    let group = Some((vec![3, 4, 5], 6, false));
    assert_eq!(read(100).await, [first.clone(), None, None, group, Some((all, personal, false)), None]);
    // What is hidden takes room, and is passed.
    let some = Some((vec![3, 4, 5], 6, false));
    assert_eq!(read(7).await, [first.clone(), None, None, some, Some((vec![], 0, true)), None]);
    let some = Some((vec![3, 4], 4, true));
    assert_eq!(read(5).await, [first, None, None, some, Some((vec![], 0, true)), None]);
    let some = Some((vec![2], 2, true));
    assert_eq!(read(1).await, [some, None, None, Some((vec![], 2, true)), Some((vec![], 0, true)), None]);
}

async fn a_personal_log_is_its_owners(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    let page = f.read_log(alice, Stream::Personal(alice), 0, 100).await.unwrap();
    assert_eq!((seqs(&page.rows), page.end), (vec![1, 2], 2));
    assert_eq!(page.rows[1].entry, Entry::NewChat { chat, joined_seq: 0 });
    assert!(f.read_log(bob, Stream::Personal(alice), 0, 100).await.is_none());
    let nobody = Uuid::now_v7().into();
    assert!(f.read_log(nobody, Stream::Personal(nobody), 0, 100).await.is_none());
}

async fn messages_are_listed_both_ways(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.group(alice, &[bob]).await;
    for n in 2..=6 {
        f.send(chat, alice, &n.to_string()).await;
    }
    let list = async |from, limit| -> Vec<u64> {
        let messages = f.store.list_messages(bob, chat, from, limit).await.unwrap().unwrap();
        messages.iter().map(|message| message.seq).collect()
    };
    assert_eq!(list(MessagesFrom::Newest, 3).await, [6, 5, 4]);
    assert_eq!(list(MessagesFrom::Before(4), 10).await, [3, 2, 1]);
    assert_eq!(list(MessagesFrom::Before(1), 10).await, [0_u64; 0]);
    assert_eq!(list(MessagesFrom::Before(0), 10).await, [0_u64; 0]);
    assert_eq!(list(MessagesFrom::After(3), 2).await, [4, 5]);
    assert_eq!(list(MessagesFrom::After(6), 2).await, [0_u64; 0]);
    let system =
        f.store.list_messages(bob, chat, MessagesFrom::Before(2), 1).await.unwrap().unwrap().remove(0);
    assert_eq!((system.kind, system.text), (MessageType::System, None));
}

async fn only_the_sender_sees_local_id_and_status(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    let id = f.append(f.message_with(chat, alice, "hello", "l1")).await.unwrap().row().id;
    let status = async || f.store.find_message(alice, id).await.unwrap().unwrap().status;
    assert_eq!(status().await, Some(Status::Sent));
    let raise = async |delivered, read| {
        let raise = Raise { chat, user: bob, delivered, read };
        f.store.raise_watermarks(vec![raise], f.now()).await;
    };
    raise(Some(1), None).await;
    assert_eq!(status().await, Some(Status::Delivered));
    raise(None, Some(1)).await;
    assert_eq!(status().await, Some(Status::Read));
    let of_bob = f.store.find_message(bob, id).await.unwrap().unwrap();
    assert_eq!((of_bob.local_id, of_bob.status), (None, None));
    let of_alice =
        f.store.list_messages(alice, chat, MessagesFrom::Newest, 9).await.unwrap().unwrap().remove(0);
    assert_eq!(of_alice.local_id.unwrap().as_str(), "l1");
    assert_eq!(of_alice.status, Some(Status::Read));
}

async fn any_text_comes_back_as_it_was(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    let texts = ["'; DROP TABLE log; --", "ünï😀\u{202e}\n\t\u{1}\u{fffd}", "$1 ? :x {}", "\u{10ffff}", " "];
    let long = "ø".repeat(8 * 1024);
    for text in texts.into_iter().chain([long.as_str()]) {
        f.send(chat, alice, text).await;
    }
    let rows = f.read_all(bob, Stream::Chat(chat)).await;
    for (row, text) in rows.iter().zip(texts.into_iter().chain([long.as_str()])) {
        assert_eq!(row.entry, Entry::Message(Content::of_text(text)));
    }
    assert_eq!(rows.len(), 6);
}

/// The sizes of the inserts on SQLite, and what lies between them.
async fn many_sizes_of_batches_store_every_row(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    let mut total = 0;
    for size in [1, 3, 4, 5, 16, 17, 31, 32, 33, 63, 64, 250] {
        let messages: Vec<_> = (0..size)
            .map(|n| AppendMessage {
                content_hash: hash("x"),
                ..f.message_with(chat, alice, "x", &format!("{size}-{n}"))
            })
            .collect();
        for outcome in f.one_batch(messages).await {
            outcome.unwrap();
        }
        total += size;
    }
    let rows = f.read_all(bob, Stream::Chat(chat)).await;
    assert_eq!(seqs(&rows), (1..=total).collect::<Vec<u64>>());
}
