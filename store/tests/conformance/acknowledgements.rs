//! What clients acknowledge, as the services store it, when the store fails or nobody waits any longer.

use crate::{
    harness::{Fate, Fixture, code},
    on_both_engines,
    sessions::{connect, open},
};
use curlew_domain::{
    ErrorCode,
    clock::Timestamp,
    ids::{ChatId, Seq, UserId},
    plain::Settle,
    ports::store::{Log, Sessions as _},
    receipt::Raise,
    services::{Base, Receipts, Sessions, sessions::SessionEnd},
    session::Cursors,
};
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

on_both_engines!(
    senders_are_told_though_the_caller_has_gone,
    no_cursor_is_stored_before_what_follows_from_it,
    raises_of_chats_in_many_lanes_get_each_its_own_outcome,
);

fn services(f: &Fixture) -> (Arc<Receipts>, Sessions) {
    let base = Base::new(f.store.clone(), f.relay.clone());
    let receipts = Arc::new(Receipts::new(base.clone()));
    (receipts.clone(), Sessions::new(base, receipts))
}

async fn delivered(f: &Fixture, chat: ChatId, user: UserId) -> Seq {
    let marks = f.store.list_marks(vec![chat]).await.unwrap().remove(&chat).unwrap();
    marks.iter().find(|mark| mark.user == user).unwrap().delivered_seq
}

async fn senders_are_told_though_the_caller_has_gone(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    f.send(chat, alice, "hello").await;
    let (receipts, _) = services(&f);
    f.gate.set(Fate::Hold);
    let came = f.gate.came();
    tokio::select! {
        _ = receipts.raise(bob, chat, None, Some(1), None) => panic!("the commit is held"),
        () = f.gate.reached_by(came + 1) => {}
    }
    f.gate.set(Fate::Pass);
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (receipts, stop) = (receipts.clone(), stop.clone());
        async move { receipts.run(stop).await }
    });
    f.relay.told(alice).await;
    stop.cancel();
    running.await.unwrap();
}

async fn no_cursor_is_stored_before_what_follows_from_it(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    f.send(chat, alice, "hello").await;
    let f = f.reopen(|config| config.patience = Duration::from_secs(1)).await;
    let owner = (bob, f.login(bob, "phone").await.1.id);
    let fence = open(&f, owner, "c").await.fence;
    let (receipts, sessions) = services(&f);
    let before: Cursors = [(chat.into(), 0)].into();
    assert!(sessions.save_cursors(fence, bob, before.clone()).await.unwrap());

    receipts.acknowledged(bob, chat, 1);
    let acknowledged: Cursors = [(chat.into(), 1)].into();
    f.gate.set(Fate::Fail);
    assert_eq!(code(sessions.save_cursors(fence, bob, acknowledged.clone()).await), ErrorCode::Unavailable);
    let end = SessionEnd {
        cursors: acknowledged.clone(),
        settle: Settle::default(),
        expiry_secs: 200,
        left_at: Timestamp(7),
        discard_will: false,
    };
    let (closed, ()) = tokio::join!(sessions.close(fence, bob, end), async {
        f.relay.uncertain(2).await;
        f.gate.set(Fate::Pass);
    });
    assert!(closed.unwrap(), "its end is stored all the same");
    let opened = f.store.open_session(connect(&f, owner, "c")).await.unwrap();
    assert_eq!((opened.present, opened.left_at), (true, Some(Timestamp(7))));
    assert_eq!(opened.cursors, before, "the client is sent it again");
    assert_eq!(delivered(&f, chat, bob).await, 0);

    assert!(sessions.save_cursors(opened.fence, bob, acknowledged).await.unwrap());
    assert_eq!(delivered(&f, chat, bob).await, 1, "it waited");
}

async fn raises_of_chats_in_many_lanes_get_each_its_own_outcome(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let mut chats = Vec::new();
    for _ in 0..16 {
        let chat = f.group(alice, &[bob]).await;
        f.send(chat, alice, "hello").await;
        chats.push(chat);
    }
    let raise = |chat: &ChatId, user| Raise { chat: *chat, user, delivered: Some(2), read: None };
    let stranger = f.user("stranger").await;
    let raises = chats.iter().flat_map(|chat| [raise(chat, bob), raise(chat, stranger)]);
    let outcomes = f.store.raise_watermarks(raises.collect(), f.now()).await;
    assert_eq!(outcomes.len(), 32);
    for (n, outcome) in outcomes.into_iter().enumerate() {
        if n % 2 == 0 {
            let raised = outcome.unwrap();
            assert_eq!((raised.chat, raised.user, raised.delivered), (chats[n / 2], bob, (1, 2)));
        } else {
            assert_eq!(code(outcome), ErrorCode::NotFound);
        }
    }
}
