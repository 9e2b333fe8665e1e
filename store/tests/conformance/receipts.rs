//! Watermarks.

use crate::{
    harness::{FIRST_PAGE, Fate, Fixture, code},
    on_both_engines,
};
use curlew_domain::{
    ErrorCode, Result,
    account::{PrivacyChange, Visibility},
    contact::RelationAction,
    ids::{ChatId, Seq, UserId},
    ports::store::{Chats, Contacts, Log, MessagesFrom, Profiles},
    receipt::{Concerned, Mark, Raise, Raised, Sight, Status},
    rules::MembershipChange,
};
use uuid::Uuid;

on_both_engines!(
    a_raise_tells_what_it_changed_and_whom_it_concerns,
    watermarks_only_grow_and_are_clamped,
    only_active_members_raise,
    own_and_system_rows_concern_nobody,
    a_raise_concerns_each_sender,
    raises_of_one_member_in_one_command_follow_each_other,
    commands_of_one_transaction_get_each_its_own_outcomes,
    unread_is_counted_to_999,
    a_new_stay_has_new_watermarks,
    a_block_hides_watermarks_in_the_private_chat,
    who_hides_what_they_read_hides_it_for_good,
    hiding_is_reciprocal_in_a_private_chat,
    receipts_for_contacts_end_with_the_contact,
    a_member_of_a_group_hides_alone,
    what_a_group_read_while_one_hid_stays_hidden_from_them,
);

fn concerned(sender: UserId, newest: Seq, count: u32) -> Concerned {
    Concerned { sender, sight: Sight::FULL, newest, count }
}

async fn marks(f: &Fixture, chat: ChatId) -> Vec<Mark> {
    f.store.list_marks(vec![chat]).await.unwrap().remove(&chat).unwrap()
}

async fn raise(f: &Fixture, raises: Vec<Raise>) -> Vec<Result<Raised>> {
    f.store.raise_watermarks(raises, f.now()).await
}

async fn raise_one(
    f: &Fixture,
    chat: ChatId,
    user: UserId,
    delivered: Option<Seq>,
    read: Option<Seq>,
) -> Raised {
    raise(f, vec![Raise { chat, user, delivered, read }]).await.remove(0).unwrap()
}

async fn a_raise_tells_what_it_changed_and_whom_it_concerns(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    for n in 0..3 {
        f.send(chat, alice, &n.to_string()).await;
    }
    let raised = raise_one(&f, chat, bob, Some(2), None).await;
    assert_eq!((raised.delivered, raised.read, raised.group), ((0, 2), (0, 0), false));
    assert_eq!(raised.delivered_of, [concerned(alice, 2, 2)]);
    assert_eq!(raised.read_of, []);
    let mut marks = marks(&f, chat).await;
    marks.sort_by_key(|mark| mark.delivered_seq);
    let mark = |user, delivered_seq| Mark { user, joined_seq: 0, left_seq: None, delivered_seq, read_seq: 0 };
    assert_eq!(marks, [mark(alice, 0), mark(bob, 2)]);
    let raised = raise_one(&f, chat, bob, None, Some(1)).await;
    assert_eq!((raised.delivered, raised.read, raised.unread_count), ((2, 2), (0, 1), 2));
    assert_eq!((raised.delivered_of.len(), raised.read_of), (0, vec![concerned(alice, 1, 1)]));
    let raised = raise_one(&f, chat, bob, None, Some(u64::MAX)).await;
    assert_eq!((raised.delivered, raised.read, raised.unread_count), ((2, 3), (1, 3), 0));
    assert_eq!(f.store.find_chat(bob, chat).await.unwrap().unwrap().unread_count, 0);
}

async fn watermarks_only_grow_and_are_clamped(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    let empty = raise_one(&f, chat, bob, Some(5), Some(5)).await;
    assert_eq!((empty.delivered, empty.read), ((0, 0), (0, 0)));
    for n in 0..3 {
        f.send(chat, alice, &n.to_string()).await;
    }
    assert_eq!(raise_one(&f, chat, bob, Some(99), None).await.delivered, (0, 3));
    let lower = raise_one(&f, chat, bob, Some(1), None).await;
    assert_eq!((lower.delivered, lower.delivered_of.len(), lower.read_of.len()), ((3, 3), 0, 0));
    let nothing = raise_one(&f, chat, bob, None, None).await;
    assert_eq!((nothing.delivered, nothing.read), ((3, 3), (0, 0)));
}

async fn only_active_members_raise(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.group(alice, &[bob]).await;
    f.send(chat, alice, "2").await;
    f.change(chat, alice, MembershipChange::Remove(bob)).await.unwrap();
    let of = |chat, user| Raise { chat, user, delivered: Some(9), read: None };
    let stranger = f.user("stranger").await;
    let raises = vec![of(chat, bob), of(chat, alice), of(chat, stranger), of(Uuid::now_v7().into(), alice)];
    let mut outcomes = raise(&f, raises).await;
    assert_eq!(code(outcomes.remove(3)), ErrorCode::NotFound);
    assert_eq!(code(outcomes.remove(2)), ErrorCode::NotFound);
    assert_eq!(outcomes.remove(1).unwrap().delivered, (1, 3));
    assert_eq!(code(outcomes.remove(0)), ErrorCode::NotMember);
    assert!(raise(&f, vec![]).await.is_empty());
}

async fn own_and_system_rows_concern_nobody(f: Fixture) {
    let [alice, bob, carol] = f.contacts(["alice", "bob", "carol"]).await;
    let chat = f.group(alice, &[bob]).await;
    f.change(chat, alice, MembershipChange::Add(vec![carol])).await.unwrap();
    f.send(chat, bob, "mine").await;
    let raised = raise_one(&f, chat, bob, None, Some(3)).await;
    assert_eq!((raised.delivered, raised.read, raised.group), ((1, 3), (1, 3), true));
    assert_eq!((raised.delivered_of.len(), raised.read_of.len()), (0, 0));
}

async fn a_raise_concerns_each_sender(f: Fixture) {
    let [alice, bob, carol] = f.contacts(["alice", "bob", "carol"]).await;
    let chat = f.group(alice, &[bob, carol]).await;
    for sender in [alice, carol, alice, bob, carol] {
        f.send(chat, sender, "x").await;
    }
    let raised = raise_one(&f, chat, bob, Some(6), Some(4)).await;
    let sorted = |mut of: Vec<Concerned>| {
        of.sort_by_key(|concerned| concerned.newest);
        of
    };
    let of = concerned;
    assert_eq!(sorted(raised.delivered_of), [of(alice, 4, 2), of(carol, 6, 2)]);
    assert_eq!(sorted(raised.read_of), [of(carol, 3, 1), of(alice, 4, 2)]);
    assert_eq!((marks(&f, chat).await.len(), raised.unread_count), (3, 1));
}

async fn raises_of_one_member_in_one_command_follow_each_other(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    for n in 0..3 {
        f.send(chat, alice, &n.to_string()).await;
    }
    let of = |delivered, read| Raise { chat, user: bob, delivered, read };
    let outcomes = raise(&f, vec![of(Some(1), None), of(Some(3), Some(2)), of(Some(2), None)]).await;
    let changes: Vec<_> =
        outcomes.into_iter().map(|raised| raised.map(|r| (r.delivered, r.read)).unwrap()).collect();
    assert_eq!(changes, [((0, 1), (0, 0)), ((1, 3), (0, 2)), ((3, 3), (2, 2))]);
    let after = raise_one(&f, chat, bob, None, None).await;
    assert_eq!((after.delivered, after.read), ((3, 3), (2, 2)));
}

async fn commands_of_one_transaction_get_each_its_own_outcomes(f: Fixture) {
    let [alice, bob, carol] = f.contacts(["alice", "bob", "carol"]).await;
    let chat = f.group(alice, &[bob, carol]).await;
    for n in 2..=3 {
        f.send(chat, alice, &n.to_string()).await;
    }
    let stranger = f.user("stranger").await;
    let of = |user, delivered| Raise { chat, user, delivered: Some(delivered), read: None };
    let came = f.gate.came();
    let held = f.stuck(Fate::Hold, f.message(chat, alice, "4")).await;
    // Polled in this order, so queued in this order.
    let (first, second, third, ()) = tokio::join!(
        raise(&f, vec![of(bob, 2)]),
        raise(&f, vec![of(stranger, 2), of(carol, 3)]),
        raise(&f, vec![of(bob, 3)]),
        async { f.gate.set(Fate::Pass) },
    );
    assert_eq!(held.await.unwrap().row().seq, 4);
    let delivered = |outcomes: Vec<Result<Raised>>| -> Vec<_> {
        outcomes.into_iter().map(|outcome| outcome.map(|raised| (raised.user, raised.delivered))).collect()
    };
    assert_eq!(delivered(first).remove(0).unwrap(), (bob, (1, 2)));
    let mut second = delivered(second);
    assert_eq!((second.len(), second.remove(1).unwrap()), (2, (carol, (1, 3))));
    assert_eq!(code(second.remove(0)), ErrorCode::NotFound);
    assert_eq!(delivered(third).remove(0).unwrap(), (bob, (2, 3)));
    assert_eq!(f.gate.came(), came + 2, "one transaction for all three");
}

async fn unread_is_counted_to_999(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    for _ in 0..5 {
        let messages: Vec<_> = (0..201).map(|_| f.message(chat, alice, "x")).collect();
        f.one_batch(messages).await;
    }
    assert_eq!(f.store.find_chat(bob, chat).await.unwrap().unwrap().unread_count, 999);
    assert_eq!(raise_one(&f, chat, bob, None, Some(2)).await.unread_count, 999);
    assert_eq!(raise_one(&f, chat, bob, None, Some(1000)).await.unread_count, 5);
    assert_eq!(f.store.find_chat(alice, chat).await.unwrap().unwrap().unread_count, 0);
}

async fn a_new_stay_has_new_watermarks(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.group(alice, &[bob]).await;
    f.send(chat, alice, "2").await;
    f.change(chat, bob, MembershipChange::Leave).await.unwrap();
    f.send(chat, alice, "4").await;
    f.change(chat, alice, MembershipChange::Add(vec![bob])).await.unwrap();
    f.send(chat, alice, "6").await;
    let raised = raise_one(&f, chat, bob, Some(6), None).await;
    assert_eq!((raised.delivered, raised.read), ((5, 6), (5, 5)));
    let mut marks = marks(&f, chat).await;
    marks.retain(|mark| mark.user == bob);
    assert_eq!(
        marks.iter().map(|mark| (mark.joined_seq, mark.left_seq)).collect::<Vec<_>>(),
        [(1, Some(3)), (5, None)]
    );
}

async fn a_block_hides_watermarks_in_the_private_chat(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    let status = async || {
        let messages = f.store.list_messages(alice, chat, MessagesFrom::Newest, 1).await.unwrap().unwrap();
        messages[0].status
    };
    f.send(chat, alice, "hello").await;
    f.store.relate(alice, bob, RelationAction::Block, f.now()).await.unwrap();
    let raised = raise_one(&f, chat, bob, None, Some(1)).await;
    assert_eq!((raised.read, raised.shown_read, raised.unread_count), ((0, 1), (0, 0), 0));
    assert!(raised.delivered_of.is_empty() && raised.read_of.is_empty());
    assert_eq!(status().await, Some(Status::Sent));
    f.store.relate(alice, bob, RelationAction::Unblock, f.now()).await.unwrap();
    f.send(chat, alice, "again").await;
    let raised = raise_one(&f, chat, bob, Some(2), None).await;
    assert_eq!((raised.shown_delivered, raised.shown_read), ((0, 2), (0, 1)));
    assert_eq!(raised.delivered_of, [concerned(alice, 2, 2)]);
    assert_eq!(status().await, Some(Status::Delivered));
}

async fn show_read_to(f: &Fixture, user: UserId, to: Visibility) {
    let change = PrivacyChange { read_receipts: Some(to), ..PrivacyChange::default() };
    f.store.update_privacy(user, change).await.unwrap();
}

async fn status(f: &Fixture, sender: UserId, chat: ChatId) -> Option<Status> {
    let messages = f.store.list_messages(sender, chat, MessagesFrom::Newest, 1).await.unwrap().unwrap();
    messages[0].status
}

async fn who_hides_what_they_read_hides_it_for_good(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    f.send(chat, alice, "1").await;
    show_read_to(&f, bob, Visibility::Nobody).await;
    let raised = raise_one(&f, chat, bob, None, Some(1)).await;
    assert_eq!((raised.read, raised.shown_read, raised.shown_delivered), ((0, 1), (0, 0), (0, 1)));
    assert!(raised.read_of.is_empty() && raised.delivered_of.len() == 1);
    assert_eq!(status(&f, alice, chat).await, Some(Status::Delivered));
    show_read_to(&f, bob, Visibility::Everyone).await;
    f.send(chat, alice, "2").await;
    for (delivered, read) in [(Some(2), None), (None, Some(1)), (None, None)] {
        assert_eq!(raise_one(&f, chat, bob, delivered, read).await.shown_read, (0, 0), "it stays hidden");
    }
    let raised = raise_one(&f, chat, bob, None, Some(2)).await;
    assert_eq!((raised.shown_read, raised.read_of.len()), ((0, 2), 1));
    assert_eq!(status(&f, alice, chat).await, Some(Status::Read));
}

async fn hiding_is_reciprocal_in_a_private_chat(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    f.send(chat, alice, "1").await;
    raise_one(&f, chat, bob, None, Some(1)).await;
    assert_eq!(status(&f, alice, chat).await, Some(Status::Read));
    show_read_to(&f, alice, Visibility::Nobody).await;
    assert_eq!(status(&f, alice, chat).await, Some(Status::Delivered));
    f.send(chat, alice, "2").await;
    let raised = raise_one(&f, chat, bob, None, Some(2)).await;
    assert_eq!((raised.shown_read, raised.read_of.len()), ((1, 1), 0));
    assert_eq!(raised.delivered_of[0].sight, Sight::Nothing);
    show_read_to(&f, alice, Visibility::Contacts).await;
    assert_eq!(status(&f, alice, chat).await, Some(Status::Delivered), "what happened meanwhile");
}

async fn receipts_for_contacts_end_with_the_contact(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    show_read_to(&f, bob, Visibility::Contacts).await;
    f.send(chat, alice, "1").await;
    raise_one(&f, chat, bob, None, Some(1)).await;
    assert_eq!(status(&f, alice, chat).await, Some(Status::Read));
    f.store.relate(alice, bob, RelationAction::Remove, f.now()).await.unwrap();
    f.send(chat, alice, "2").await;
    assert_eq!(raise_one(&f, chat, bob, None, Some(2)).await.shown_read, (1, 1));
    assert_eq!(status(&f, alice, chat).await, Some(Status::Delivered));
}

async fn a_member_of_a_group_hides_alone(f: Fixture) {
    let [alice, bob, carol] = f.contacts(["alice", "bob", "carol"]).await;
    let chat = f.group(alice, &[bob, carol]).await;
    show_read_to(&f, bob, Visibility::Nobody).await;
    show_read_to(&f, carol, Visibility::Contacts).await;
    f.send(chat, alice, "2").await;
    let raised = raise_one(&f, chat, bob, None, Some(2)).await;
    assert_eq!((raised.shown_read, raised.read_of.len(), raised.delivered_of.len()), ((1, 1), 0, 1));
    let raised = raise_one(&f, chat, carol, None, Some(2)).await;
    assert_eq!((raised.shown_read, raised.read_of.len()), ((1, 2), 1));
    let read = async |viewer| {
        let page = f.store.list_members(viewer, chat, FIRST_PAGE).await.unwrap().unwrap();
        let listed: Vec<_> = page.items.iter().map(|member| (member.user.id, member.read_seq)).collect();
        let chat = f.store.find_chat(viewer, chat).await.unwrap().unwrap();
        let shown: Vec<_> = chat.members.unwrap().iter().map(|m| (m.user.id, m.read_seq)).collect();
        assert_eq!(listed, shown);
        listed.into_iter().find(|(user, _)| *user == carol).unwrap().1
    };
    assert_eq!((read(alice).await, read(bob).await), (2, 1), "who hides is not shown it");
    show_read_to(&f, bob, Visibility::Everyone).await;
    f.send(chat, alice, "3").await;
    for user in [bob, carol] {
        raise_one(&f, chat, user, None, Some(3)).await;
    }
    assert_eq!(status(&f, alice, chat).await, Some(Status::Read));
    show_read_to(&f, alice, Visibility::Nobody).await;
    assert_eq!(status(&f, alice, chat).await, Some(Status::Delivered));
}

async fn what_a_group_read_while_one_hid_stays_hidden_from_them(f: Fixture) {
    let [alice, bob, carol] = f.contacts(["alice", "bob", "carol"]).await;
    let chat = f.group(alice, &[bob, carol]).await;
    f.send(chat, alice, "2").await;
    show_read_to(&f, alice, Visibility::Nobody).await;
    for user in [bob, carol] {
        raise_one(&f, chat, user, None, Some(2)).await;
    }
    show_read_to(&f, alice, Visibility::Everyone).await;
    let read = async || {
        let page = f.store.list_members(alice, chat, FIRST_PAGE).await.unwrap().unwrap();
        page.items.iter().find(|member| member.user.id == bob).unwrap().read_seq
    };
    let known = async |seq| {
        let recipients = f.store.list_recipients(chat, alice, seq).await.unwrap();
        recipients.iter().filter(|recipient| recipient.status == Status::Read).count()
    };
    assert_eq!(
        (status(&f, alice, chat).await, read().await, known(2).await),
        (Some(Status::Delivered), 1, 0)
    );
    f.send(chat, alice, "3").await;
    let raised = raise_one(&f, chat, bob, None, Some(3)).await;
    assert_eq!(raised.read_of[0].sight, Sight::Beyond(2));
    assert_eq!(
        (read().await, known(2).await, known(3).await),
        (3, 1, 1),
        "of who reads on it is shown again"
    );
    raise_one(&f, chat, carol, None, Some(3)).await;
    assert_eq!(status(&f, alice, chat).await, Some(Status::Read));
}
