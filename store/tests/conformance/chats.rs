//! Chats and stays.

use crate::{
    harness::{FIRST_PAGE, Fixture, LIMITS, OPEN, code, seqs},
    on_both_engines,
};
use curlew_domain::{
    ErrorCode,
    chat::{ChatKind, HistoryVisible, LeaveReason, Role, StayEnd},
    contact::RelationAction,
    ids::{ChatId, Stream, UserId},
    message::{Entry, LocalId, MembersChanged},
    page::{PageRequest, Position},
    ports::store::{Chats, Contacts, Log, NewGroup, NewPrivateChat},
    rules::{MembershipChange, MembershipLimits},
};
use std::collections::BTreeMap;
use uuid::Uuid;

on_both_engines!(
    a_private_chat_is_one_and_begins_empty,
    a_private_chat_needs_a_contact_and_no_block,
    a_group_begins_with_the_row_of_its_founders,
    a_group_is_founded_once_per_local_id,
    adding_somebody_appends_one_row_and_begins_a_stay,
    leaving_ends_the_stay_at_its_row,
    only_the_entitled_change_members,
    the_last_owner_hands_over,
    a_second_stay_leaves_a_hole,
    a_group_that_shows_all_shows_all,
    chats_are_listed_by_latest_activity,
    a_chat_shows_its_members_and_what_is_unread,
    a_former_member_keeps_the_chat_up_to_the_end_of_the_stay,
    strangers_see_nothing,
    members_are_paged_longest_standing_first,
);

fn entered(chat: ChatId, joined_seq: u64) -> Entry {
    Entry::NewChat { chat, joined_seq }
}

async fn a_private_chat_is_one_and_begins_empty(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    let rows = f.relay.take();
    let told: Vec<_> = rows.iter().map(|row| (row.stream, row.entry.clone())).collect();
    assert_eq!(told, [alice, bob].map(|user| (Stream::Personal(user), entered(chat, 0))));
    let again =
        NewPrivateChat { id: Uuid::now_v7().into(), creator: bob, peer: alice, limits: LIMITS, at: f.now() };
    assert_eq!(f.store.create_private_chat(again).await.unwrap(), (chat, false));
    assert!(f.relay.take().is_empty());
    for (user, other) in [(alice, bob), (bob, alice)] {
        let view = f.store.find_chat(user, chat).await.unwrap().unwrap();
        assert_eq!((view.kind, view.last_seq, view.role), (ChatKind::Private, 0, Some(Role::Member)));
        assert_eq!(view.peer.unwrap().id, other);
        assert!(view.members.is_none() && view.last_message.is_none() && view.name.is_none());
        let stays = f.store.list_stays(user).await.unwrap();
        assert_eq!(
            stays,
            [StayEnd { chat, first_joined: 0, last_joined: 0, left: None, end: 0, delivered: 0 }]
        );
        assert_eq!(f.read_all(user, Stream::Chat(chat)).await, []);
    }
    assert_eq!(f.send(chat, alice, "first").await.seq, 1);
}

async fn a_private_chat_needs_a_contact_and_no_block(f: Fixture) {
    let [alice, bob] = [f.user("alice").await, f.user("bob").await];
    let open = |creator, peer, limits| {
        f.store.create_private_chat(NewPrivateChat {
            id: Uuid::now_v7().into(),
            creator,
            peer,
            limits,
            at: f.now(),
        })
    };
    assert_eq!(code(open(alice, bob, LIMITS).await), ErrorCode::NotContact);
    assert_eq!(code(open(alice, alice, OPEN).await), ErrorCode::NotFound);
    assert_eq!(code(open(alice, Uuid::now_v7().into(), OPEN).await), ErrorCode::NotFound);
    f.store.relate(bob, alice, RelationAction::Block, f.now()).await.unwrap();
    assert_eq!(code(open(alice, bob, OPEN).await), ErrorCode::Blocked);
    f.store.relate(bob, alice, RelationAction::Unblock, f.now()).await.unwrap();
    let (chat, made) = open(alice, bob, OPEN).await.unwrap();
    assert!(made);
    f.store.relate(bob, alice, RelationAction::Block, f.now()).await.unwrap();
    assert_eq!(open(alice, bob, LIMITS).await.unwrap(), (chat, false), "an existing one is answered first");
}

async fn a_group_begins_with_the_row_of_its_founders(f: Fixture) {
    let [alice, bob, carol] = f.contacts(["alice", "bob", "carol"]).await;
    let group = f.new_group(alice, &[bob, carol]);
    let (row, at) = (group.row, group.at);
    let (chat, made) = f.store.create_group(group).await.unwrap();
    assert!(made);
    let rows = f.relay.take();
    let personal: Vec<_> = rows[..3].iter().map(|row| (row.stream, row.entry.clone())).collect();
    assert_eq!(personal, [alice, bob, carol].map(|user| (Stream::Personal(user), entered(chat, 1))));
    let roles = BTreeMap::from([(alice, Role::Owner), (bob, Role::Member), (carol, Role::Member)]);
    let first = &rows[3];
    assert_eq!(
        first.entry,
        Entry::MembersChanged(MembersChanged { added: vec![alice, bob, carol], removed: vec![], roles })
    );
    assert_eq!((first.id, first.seq, first.at, first.sender), (row, 1, at, alice));
    let view = f.store.find_chat(bob, chat).await.unwrap().unwrap();
    assert_eq!((view.kind, view.name.as_deref(), view.last_seq), (ChatKind::Group, Some("birds"), 1));
    assert_eq!((view.created_by, view.created_at, view.history_visible), (alice, at, HistoryVisible::Joined));
    assert_eq!((view.role, view.member_count, view.unread_count), (Some(Role::Member), Some(3), 0));
    assert_eq!(view.last_message.unwrap().id, row);
    assert_eq!(f.read_all(carol, Stream::Chat(chat)).await, [(**first).clone()]);
}

async fn a_group_is_founded_once_per_local_id(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let named = |creator, members: &[UserId]| NewGroup {
        local_id: Some(LocalId::parse("g1").unwrap()),
        ..f.new_group(creator, members)
    };
    let (one, two) =
        tokio::join!(f.store.create_group(named(alice, &[bob])), f.store.create_group(named(alice, &[bob])));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.0, two.0);
    assert_ne!(one.1, two.1, "exactly one has made it");
    let (other, made) = f.store.create_group(named(bob, &[alice])).await.unwrap();
    assert!(made && other != one.0, "a localId is its creator's");
    let tight =
        NewGroup { limits: MembershipLimits { group_members: 1, ..LIMITS }, ..f.new_group(alice, &[bob]) };
    assert_eq!(code(f.store.create_group(tight).await), ErrorCode::GroupFull);
    let stranger = f.user("stranger").await;
    assert_eq!(code(f.store.create_group(f.new_group(alice, &[bob, stranger])).await), ErrorCode::NotContact);
    assert_eq!(
        f.store.list_chats(bob, FIRST_PAGE).await.unwrap().items.len(),
        2,
        "a refusal leaves nothing behind"
    );
}

async fn adding_somebody_appends_one_row_and_begins_a_stay(f: Fixture) {
    let [alice, bob, carol] = f.contacts(["alice", "bob", "carol"]).await;
    let chat = f.group(alice, &[bob]).await;
    f.send(chat, bob, "before carol").await;
    f.relay.take();
    let row = f.change(chat, alice, MembershipChange::Add(vec![carol, bob, carol])).await.unwrap().unwrap();
    assert_eq!(row.seq, 3);
    let roles = BTreeMap::from([(carol, Role::Member)]);
    assert_eq!(
        row.entry,
        Entry::MembersChanged(MembersChanged { added: vec![carol], removed: vec![], roles })
    );
    let told = f.relay.take();
    assert_eq!((told[0].stream, told[0].entry.clone()), (Stream::Personal(carol), entered(chat, 3)));
    assert_eq!(*told[1], row);
    assert_eq!(told.len(), 2);
    assert_eq!(f.change(chat, alice, MembershipChange::Add(vec![carol])).await.unwrap(), None);
    f.send(chat, bob, "hello carol").await;
    assert_eq!(seqs(&f.read_all(carol, Stream::Chat(chat)).await), [3, 4]);
    assert_eq!(seqs(&f.read_all(bob, Stream::Chat(chat)).await), [1, 2, 3, 4]);
    assert_eq!(f.store.find_chat(carol, chat).await.unwrap().unwrap().unread_count, 1);
}

async fn leaving_ends_the_stay_at_its_row(f: Fixture) {
    let [alice, bob, carol] = f.contacts(["alice", "bob", "carol"]).await;
    let chat = f.group(alice, &[bob, carol]).await;
    f.relay.take();
    let left = f.change(chat, bob, MembershipChange::Leave).await.unwrap().unwrap();
    let removed = f.change(chat, alice, MembershipChange::Remove(carol)).await.unwrap().unwrap();
    assert_eq!((left.seq, removed.seq), (2, 3));
    let gone = |seq, reason| Entry::ChatLeft { chat, left_seq: seq, reason };
    let told: Vec<_> = f.relay.take().iter().map(|row| (row.stream, row.entry.clone())).collect();
    assert_eq!(told[0], (Stream::Personal(bob), gone(2, LeaveReason::Left)));
    assert_eq!(told[1].0, Stream::Chat(chat));
    assert_eq!(told[2], (Stream::Personal(carol), gone(3, LeaveReason::Removed)));
    f.send(chat, alice, "alone").await;
    assert_eq!(seqs(&f.read_all(bob, Stream::Chat(chat)).await), [1, 2]);
    assert_eq!(seqs(&f.read_all(carol, Stream::Chat(chat)).await), [1, 2, 3]);
    assert_eq!(f.change(chat, bob, MembershipChange::Leave).await.unwrap(), None, "leaving twice is leaving");
    assert_eq!(code(f.append(f.message(chat, bob, "too late")).await), ErrorCode::NotMember);
    let stays = f.store.list_stays(bob).await.unwrap();
    assert_eq!(
        stays,
        [StayEnd { chat, first_joined: 1, last_joined: 1, left: Some(2), end: 2, delivered: 2 }]
    );
}

async fn only_the_entitled_change_members(f: Fixture) {
    let [alice, bob, carol] = f.contacts(["alice", "bob", "carol"]).await;
    let chat = f.group(alice, &[bob]).await;
    let private = f.private_chat(alice, bob).await;
    f.relay.take();
    let add = || MembershipChange::Add(vec![carol]);
    assert_eq!(code(f.change(chat, bob, add()).await), ErrorCode::Forbidden);
    assert_eq!(code(f.change(chat, carol, add()).await), ErrorCode::NotFound);
    assert_eq!(code(f.change(Uuid::now_v7().into(), alice, add()).await), ErrorCode::NotFound);
    assert_eq!(code(f.change(private, alice, add()).await), ErrorCode::Forbidden);
    assert_eq!(code(f.change(chat, alice, MembershipChange::Remove(carol)).await), ErrorCode::NotFound);
    f.change(chat, bob, MembershipChange::Leave).await.unwrap();
    assert_eq!(code(f.change(chat, bob, add()).await), ErrorCode::NotMember);
    f.store.relate(carol, alice, RelationAction::Block, f.now()).await.unwrap();
    assert_eq!(code(f.change(chat, alice, add()).await), ErrorCode::Blocked);
    assert_eq!(seqs(&f.read_all(alice, Stream::Chat(chat)).await), [1, 2], "refusals append nothing");
}

async fn the_last_owner_hands_over(f: Fixture) {
    let [alice, bob, carol] = f.contacts(["alice", "bob", "carol"]).await;
    let chat = f.group(alice, &[bob]).await;
    f.change(chat, alice, MembershipChange::Add(vec![carol])).await.unwrap();
    let row = f.change(chat, alice, MembershipChange::Leave).await.unwrap().unwrap();
    let Entry::MembersChanged(change) = row.entry else { panic!("not a change of members") };
    assert_eq!(change.roles, BTreeMap::from([(bob, Role::Owner)]));
    assert_eq!(f.store.find_chat(bob, chat).await.unwrap().unwrap().role, Some(Role::Owner));
    assert_eq!(f.store.find_chat(carol, chat).await.unwrap().unwrap().role, Some(Role::Member));
}

async fn a_second_stay_leaves_a_hole(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.group(alice, &[bob]).await;
    f.send(chat, alice, "2").await;
    f.change(chat, bob, MembershipChange::Leave).await.unwrap();
    f.send(chat, alice, "4").await;
    f.change(chat, alice, MembershipChange::Add(vec![bob])).await.unwrap();
    f.send(chat, alice, "6").await;
    assert_eq!(seqs(&f.read_all(bob, Stream::Chat(chat)).await), [1, 2, 3, 5, 6]);
    let page = f.read_log(bob, Stream::Chat(chat), 2, 2).await.unwrap();
    assert_eq!((seqs(&page.rows), page.end), (vec![3, 5], 5));
    let page = f.read_log(bob, Stream::Chat(chat), 5, 2).await.unwrap();
    assert_eq!((seqs(&page.rows), page.end), (vec![6], 6));
    let stays = f.store.list_stays(bob).await.unwrap();
    assert_eq!(stays, [StayEnd { chat, first_joined: 1, last_joined: 5, left: None, end: 6, delivered: 5 }]);
    let messages =
        f.store.list_messages(bob, chat, curlew_domain::ports::store::MessagesFrom::Newest, 3).await.unwrap();
    assert_eq!(messages.unwrap().iter().map(|message| message.seq).collect::<Vec<_>>(), [6, 5, 3]);
}

async fn a_group_that_shows_all_shows_all(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let group = NewGroup { history_visible: HistoryVisible::All, ..f.new_group(alice, &[]) };
    let chat = f.store.create_group(group).await.unwrap().0;
    f.send(chat, alice, "2").await;
    f.change(chat, alice, MembershipChange::Add(vec![bob])).await.unwrap();
    assert_eq!(seqs(&f.read_all(bob, Stream::Chat(chat)).await), [1, 2, 3]);
    let view = f.store.find_chat(bob, chat).await.unwrap().unwrap();
    assert_eq!(
        (view.unread_count, view.history_visible),
        (0, HistoryVisible::All),
        "what was before is not unread"
    );
}

async fn chats_are_listed_by_latest_activity(f: Fixture) {
    let [alice, bob, carol] = f.contacts(["alice", "bob", "carol"]).await;
    let with_bob = f.private_chat(alice, bob).await;
    let group = f.group(alice, &[bob, carol]).await;
    let with_carol = f.private_chat(alice, carol).await;
    let left = f.group(alice, &[bob]).await;
    f.change(left, bob, MembershipChange::Leave).await.unwrap();
    f.send(with_bob, bob, "hi").await;
    let listed = async |user| -> Vec<ChatId> {
        f.store.list_chats(user, FIRST_PAGE).await.unwrap().items.iter().map(|chat| chat.id).collect()
    };
    assert_eq!(listed(alice).await, [with_bob, left, with_carol, group]);
    assert_eq!(listed(bob).await, [with_bob, group]);
    let mut found = Vec::new();
    let mut page = PageRequest { limit: 3, after: None };
    loop {
        let part = f.store.list_chats(alice, page).await.unwrap();
        found.extend(part.items.iter().map(|chat| chat.id));
        let Some(cursor) = part.next_cursor else { break };
        page.after = Some(Position::decode(&cursor).unwrap());
    }
    assert_eq!(found, listed(alice).await);
}

async fn a_chat_shows_its_members_and_what_is_unread(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let mut members = vec![bob];
    for n in 0..24 {
        let user = f.user(&format!("user{n:02}")).await;
        f.befriend(alice, user).await;
        members.push(user);
    }
    let chat = f.group(alice, &members).await;
    let private = f.private_chat(alice, bob).await;
    for n in 0..3 {
        f.send(chat, alice, &format!("{n}")).await;
    }
    f.send(private, bob, "psst").await;
    let mine = f.send(private, alice, "yes?").await;
    let page = f.store.list_chats(bob, FIRST_PAGE).await.unwrap();
    let [of_private, of_group] = page.items.as_slice() else { panic!("two chats") };
    assert_eq!((of_private.id, of_private.unread_count, of_private.last_seq), (private, 1, 2));
    assert_eq!(of_private.peer.as_ref().unwrap().id, alice);
    assert_eq!(of_private.last_message.as_ref().unwrap().id, mine.id);
    assert!(of_private.last_message.as_ref().unwrap().status.is_none());
    assert_eq!((of_group.id, of_group.unread_count, of_group.member_count), (chat, 3, Some(26)));
    assert_eq!(of_group.members.as_ref().unwrap().len(), 20);
    assert_eq!(of_group.last_message.as_ref().unwrap().text.as_deref(), Some("2"));
    let of_alice = f.store.find_chat(alice, private).await.unwrap().unwrap();
    assert!(of_alice.last_message.unwrap().status.is_some(), "the sender sees how far it got");
}

async fn a_former_member_keeps_the_chat_up_to_the_end_of_the_stay(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.group(alice, &[bob]).await;
    f.send(chat, alice, "2").await;
    f.change(chat, alice, MembershipChange::Remove(bob)).await.unwrap();
    f.send(chat, alice, "secret").await;
    let view = f.store.find_chat(bob, chat).await.unwrap().unwrap();
    assert_eq!((view.role, view.last_seq, view.last_message.unwrap().seq), (None, 3, 3));
    assert!(f.store.list_members(bob, chat, FIRST_PAGE).await.unwrap().is_none());
    let page = f.read_log(bob, Stream::Chat(chat), 0, 100).await.unwrap();
    assert_eq!((seqs(&page.rows), page.end), (vec![1, 2, 3], 3));
}

async fn strangers_see_nothing(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let eve = f.user("eve").await;
    let chat = f.private_chat(alice, bob).await;
    let sent = f.send(chat, alice, "secret").await;
    assert!(f.store.find_chat(eve, chat).await.unwrap().is_none());
    assert!(f.store.list_members(eve, chat, FIRST_PAGE).await.unwrap().is_none());
    assert!(f.read_log(eve, Stream::Chat(chat), 0, 9).await.is_none());
    assert!(f.read_log(eve, Stream::Personal(alice), 0, 9).await.is_none());
    let from = curlew_domain::ports::store::MessagesFrom::Newest;
    assert!(f.store.list_messages(eve, chat, from, 9).await.unwrap().is_none());
    assert!(f.store.find_message(eve, sent.id).await.unwrap().is_none());
    assert!(f.store.list_stays(eve).await.unwrap().is_empty());
    assert_eq!(code(f.append(f.message(chat, eve, "me too")).await), ErrorCode::NotFound);
    assert!(f.store.find_message(bob, sent.id).await.unwrap().is_some());
}

async fn members_are_paged_longest_standing_first(f: Fixture) {
    let [alice, bob, carol] = f.contacts(["alice", "bob", "carol"]).await;
    let chat = f.group(alice, &[carol]).await;
    f.change(chat, alice, MembershipChange::Add(vec![bob])).await.unwrap();
    let mut found = Vec::new();
    let mut page = PageRequest { limit: 1, after: None };
    loop {
        let part = f.store.list_members(bob, chat, page).await.unwrap().unwrap();
        found.extend(part.items.iter().map(|member| (member.user.id, member.joined_seq)));
        let Some(cursor) = part.next_cursor else { break };
        page.after = Some(Position::decode(&cursor).unwrap());
    }
    let mut founders = [(alice, 1), (carol, 1)];
    founders.sort_unstable();
    assert_eq!(found, [founders[0], founders[1], (bob, 2)]);
}
