//! Changes of stored messages and of groups: editing, reacting, deleting, quoting, renaming.

use crate::{
    harness::{FIRST_PAGE, Fixture, code, seqs},
    on_both_engines,
};
use curlew_domain::{
    ErrorCode,
    chat::{ChatSettings, HistoryVisible, Role},
    clock::Timestamp,
    ids::{ChatId, RowId, Stream, UserId},
    message::{Emoji, Entry, LogRow, MessageView},
    page::PageRequest,
    ports::store::{
        AppendMessage, ChangeMessage, ChatChange, Chats, Log, MessagesFrom, SettingsChange, UpdateChat,
    },
    receipt::{Raise, Status},
    rules::{MembershipChange, MessageChange},
};
use std::time::Duration;
use uuid::Uuid;

on_both_engines!(
    an_edit_replaces_the_text_wherever_it_is_read,
    the_same_edit_again_changes_nothing,
    an_edit_is_shown_to_those_who_may_have_the_message,
    a_reaction_is_one_per_user_and_shown_as_it_is_now,
    a_deletion_leaves_nothing_but_the_place,
    a_deletion_has_its_time,
    a_retry_of_a_deleted_message_finds_it,
    hiding_is_for_one_user_on_every_surface,
    what_a_stranger_names_does_not_exist,
    a_reply_keeps_what_it_quotes,
    replies_are_paged_oldest_first,
    only_people_of_the_chat_are_mentioned,
    recipients_are_those_for_whom_it_counts,
    a_group_is_changed_by_its_admins,
    settings_are_ones_own,
    a_role_is_one_row,
);

fn edit(text: &str) -> MessageChange {
    MessageChange::Edit(text.into())
}

fn react(emoji: &str) -> MessageChange {
    MessageChange::React(Some(Emoji::parse(emoji).unwrap()))
}

async fn message(f: &Fixture, user: UserId, id: RowId) -> MessageView {
    f.store.find_message(user, id).await.unwrap().expect("it is there")
}

async fn last(f: &Fixture, user: UserId, chat: ChatId) -> LogRow {
    f.read_all(user, Stream::Chat(chat)).await.pop().expect("a row")
}

async fn an_edit_replaces_the_text_wherever_it_is_read(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    let sent = f.send(chat, alice, "teh").await;
    f.relay.take();
    let target = f.alter(chat, alice, sent.id, edit("the")).await.unwrap();
    assert_eq!((target.id, target.seq), (sent.id, 1));
    let edited = message(&f, bob, sent.id).await;
    assert_eq!(edited.text.as_deref(), Some("the"));
    assert!(edited.edited_at.is_some_and(|at| at > sent.at) && edited.created_at == sent.at);
    let rows = f.read_all(bob, Stream::Chat(chat)).await;
    assert_eq!(rows[0].message().unwrap().text, edited.text);
    let Entry::MessageEdited { target: about, message: Some(shown) } = &rows[1].entry else {
        panic!("{rows:?}")
    };
    assert_eq!((*about, shown.message().unwrap().text), (target, edited.text.clone()));
    // What the relay carries is what is read.
    let relayed: Vec<_> = f.relay.take().iter().map(|row| (**row).clone()).collect();
    assert_eq!(relayed, rows[1..]);
    let chats = f.store.list_chats(bob, FIRST_PAGE).await.unwrap();
    assert_eq!(chats.items[0].last_message.as_ref().unwrap().text, edited.text);
}

async fn the_same_edit_again_changes_nothing(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    let sent = f.send(chat, alice, "one").await;
    for change in [edit("two"), react("👍"), MessageChange::React(None), MessageChange::Delete] {
        let once = f.alter(chat, alice, sent.id, change.clone()).await.unwrap();
        let after = seqs(&f.read_all(alice, Stream::Chat(chat)).await);
        assert_eq!(f.alter(chat, alice, sent.id, change.clone()).await.unwrap(), once, "{change:?}");
        assert_eq!(seqs(&f.read_all(alice, Stream::Chat(chat)).await), after, "{change:?}");
    }
}

async fn an_edit_is_shown_to_those_who_may_have_the_message(f: Fixture) {
    let [alice, bob, carol] = f.contacts(["alice", "bob", "carol"]).await;
    let chat = f.group(alice, &[bob]).await;
    let sent = f.send(chat, alice, "before carol").await;
    f.change(chat, alice, MembershipChange::Add(vec![carol])).await.unwrap();
    f.alter(chat, alice, sent.id, edit("edited")).await.unwrap();
    let shown = async |user| match last(&f, user, chat).await.entry {
        Entry::MessageEdited { message, .. } => message.is_some(),
        other => panic!("{other:?}"),
    };
    assert!(shown(bob).await && !shown(carol).await);
}

async fn a_reaction_is_one_per_user_and_shown_as_it_is_now(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    let sent = f.send(chat, alice, "hello").await;
    for (user, emoji) in [(bob, "👍"), (alice, "👍"), (bob, "🎉")] {
        f.alter(chat, user, sent.id, react(emoji)).await.unwrap();
    }
    let shown = |message: MessageView| -> Vec<_> {
        message.reactions.into_iter().map(|r| (r.emoji.as_str().to_owned(), r.user_ids)).collect()
    };
    let now = shown(message(&f, bob, sent.id).await);
    assert_eq!(now, [("👍".to_owned(), vec![alice]), ("🎉".to_owned(), vec![bob])]);
    // Rows that are caught up on show what is so now, not what was said then.
    let caught_up: Vec<_> = f.read_all(alice, Stream::Chat(chat)).await.split_off(1);
    let emoji = |row: &LogRow| match &row.entry {
        Entry::MessageReaction { emoji, .. } => emoji.clone().map(|emoji| emoji.as_str().to_owned()),
        other => panic!("{other:?}"),
    };
    let emoji: Vec<_> = caught_up.iter().map(emoji).collect();
    assert_eq!(emoji, [Some("🎉".into()), Some("👍".into()), Some("🎉".into())]);
    f.alter(chat, bob, sent.id, MessageChange::React(None)).await.unwrap();
    assert_eq!(shown(message(&f, bob, sent.id).await), [("👍".to_owned(), vec![alice])]);
}

async fn a_deletion_leaves_nothing_but_the_place(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    let first = f.send(chat, alice, "first").await;
    let secret = AppendMessage {
        reply_to: Some(first.id),
        mentions: vec![bob],
        ..f.message_with(chat, alice, "secret", "l1")
    };
    let secret = f.append(secret).await.unwrap().row().clone();
    f.alter(chat, bob, secret.id, react("👍")).await.unwrap();
    f.alter(chat, alice, secret.id, edit("secret too")).await.unwrap();
    f.alter(chat, alice, secret.id, MessageChange::Delete).await.unwrap();
    let rows = f.read_all(bob, Stream::Chat(chat)).await;
    assert!(!format!("{rows:?}").contains("secret") && !format!("{rows:?}").contains('👍'), "{rows:?}");
    let tombstone = message(&f, bob, secret.id).await;
    assert_eq!((tombstone.text, tombstone.reply_to, tombstone.mentions), (None, None, Vec::new()));
    assert!(tombstone.reactions.is_empty() && tombstone.deleted_at.is_some());
    let Entry::MessageDeleted(target) = rows[4].entry else { panic!("{rows:?}") };
    assert_eq!((target.id, target.seq, rows[4].sender), (secret.id, secret.seq, alice));
    assert_eq!(code(f.alter(chat, alice, secret.id, edit("x")).await), ErrorCode::MessageDeleted);
    assert_eq!(code(f.alter(chat, bob, secret.id, react("👍")).await), ErrorCode::MessageDeleted);
}

async fn a_deletion_has_its_time(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    let sent = f.send(chat, alice, "hello").await;
    let delete = async |at| {
        let change = ChangeMessage {
            chat,
            message: sent.id,
            actor: alice,
            change: MessageChange::Delete,
            delete_window: Some(Duration::from_secs(5)),
            row: Uuid::now_v7().into(),
            at,
        };
        f.store.change_message(change).await.unwrap().await
    };
    assert_eq!(code(delete(Timestamp(sent.at.0 + 5_001)).await), ErrorCode::TooLate);
    assert!(delete(Timestamp(sent.at.0 + 5_000)).await.is_ok());
    assert!(delete(Timestamp(sent.at.0 + 5_001)).await.is_ok(), "deleting twice is deleting");
}

async fn a_retry_of_a_deleted_message_finds_it(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    let sent = f.append(f.message_with(chat, alice, "hello", "l1")).await.unwrap().row().clone();
    f.alter(chat, alice, sent.id, MessageChange::Delete).await.unwrap();
    for text in ["hello", "something else"] {
        let again = f.append(f.message_with(chat, alice, text, "l1")).await.unwrap();
        assert_eq!((again.row().id, again.row().seq), (sent.id, sent.seq), "{text}");
    }
}

async fn hiding_is_for_one_user_on_every_surface(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    let kept = f.send(chat, alice, "kept").await;
    let hidden = f.send(chat, alice, "hidden").await;
    f.relay.take();
    f.hide(chat, bob, hidden.id).await.unwrap();
    let told = f.relay.take();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].stream, Stream::Personal(bob));
    assert_eq!(told[0].entry, Entry::MessageHidden { message: hidden.id, chat });
    f.hide(chat, bob, hidden.id).await.unwrap();
    assert!(f.relay.take().is_empty(), "hiding twice is hiding");
    assert!(f.store.find_message(bob, hidden.id).await.unwrap().is_none());
    assert_eq!(f.store.locate_message(bob, hidden.id).await.unwrap(), Some(chat));
    assert_eq!(seqs(&f.read_all(bob, Stream::Chat(chat)).await), [kept.seq]);
    for from in [MessagesFrom::Newest, MessagesFrom::After(0)] {
        let list = f.store.list_messages(bob, chat, from, 10).await.unwrap().unwrap();
        assert_eq!(list.iter().map(|message| message.seq).collect::<Vec<_>>(), [kept.seq]);
    }
    let list = f.store.list_chats(bob, FIRST_PAGE).await.unwrap();
    assert_eq!(list.items[0].last_message.as_ref().unwrap().id, kept.id);
    assert_eq!(message(&f, alice, hidden.id).await.text.as_deref(), Some("hidden"));
}

async fn what_a_stranger_names_does_not_exist(f: Fixture) {
    let [alice, bob, carol] = f.contacts(["alice", "bob", "carol"]).await;
    let (chat, other) = (f.private_chat(alice, bob).await, f.private_chat(alice, carol).await);
    let sent = f.send(chat, alice, "hello").await;
    let nothing: RowId = Uuid::now_v7().into();
    for (chat, user, message) in [(chat, carol, sent.id), (other, alice, sent.id), (chat, alice, nothing)] {
        for change in [edit("x"), react("👍"), MessageChange::React(None), MessageChange::Delete] {
            assert_eq!(code(f.alter(chat, user, message, change).await), ErrorCode::NotFound);
        }
        assert_eq!(code(f.hide(chat, user, message).await), ErrorCode::NotFound);
        let reply = AppendMessage { reply_to: Some(message), ..f.message(chat, user, "re") };
        assert_eq!(code(f.append(reply).await), ErrorCode::NotFound);
    }
    assert!(f.store.list_replies(carol, sent.id, FIRST_PAGE).await.unwrap().is_none());
    assert!(f.store.locate_message(carol, sent.id).await.unwrap().is_none());
}

async fn a_reply_keeps_what_it_quotes(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    let sent = f.send(chat, alice, "question").await;
    let reply = AppendMessage { reply_to: Some(sent.id), ..f.message(chat, bob, "answer") };
    let reply = f.append(reply).await.unwrap().row().clone();
    f.alter(chat, alice, sent.id, MessageChange::Delete).await.unwrap();
    let shown = message(&f, alice, reply.id).await.reply_to.unwrap();
    assert_eq!((shown.id, shown.seq, shown.sender_id), (sent.id, sent.seq, alice));
    assert_eq!(shown.preview.as_deref(), Some("question"));
    let late = AppendMessage { reply_to: Some(sent.id), ..f.message(chat, bob, "what was it?") };
    let late = f.append(late).await.unwrap().row().clone();
    assert_eq!(message(&f, alice, late.id).await.reply_to.unwrap().preview, None);
}

async fn replies_are_paged_oldest_first(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.private_chat(alice, bob).await;
    let sent = f.send(chat, alice, "question").await;
    let mut replies = Vec::new();
    for n in 0..5 {
        let reply = AppendMessage { reply_to: Some(sent.id), ..f.message(chat, bob, &n.to_string()) };
        replies.push(f.append(reply).await.unwrap().row().id);
        f.send(chat, alice, "between").await;
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = PageRequest { limit: 2, after };
        let page = f.store.list_replies(alice, sent.id, page).await.unwrap().unwrap();
        seen.extend(page.items.iter().map(|reply| reply.id));
        let Some(cursor) = page.next_cursor else { break };
        after = PageRequest::parse(None, Some(&cursor)).unwrap().after;
    }
    assert_eq!(seen, replies);
}

async fn only_people_of_the_chat_are_mentioned(f: Fixture) {
    let [alice, bob, carol] = f.contacts(["alice", "bob", "carol"]).await;
    let chat = f.group(alice, &[bob]).await;
    let mention = async |users: Vec<UserId>| {
        f.append(AppendMessage { mentions: users, ..f.message(chat, alice, "look") }).await
    };
    assert_eq!(mention(vec![bob]).await.unwrap().row().message().unwrap().mentions, [bob]);
    assert_eq!(code(mention(vec![bob, carol]).await), ErrorCode::InvalidRequest);
    f.change(chat, bob, MembershipChange::Leave).await.unwrap();
    assert!(mention(vec![bob]).await.is_ok(), "who was in it when it was written");
}

async fn recipients_are_those_for_whom_it_counts(f: Fixture) {
    let [alice, bob, carol, dan] = f.contacts(["alice", "bob", "carol", "dan"]).await;
    let chat = f.group(alice, &[bob, carol]).await;
    let sent = f.send(chat, alice, "hello").await;
    f.change(chat, alice, MembershipChange::Add(vec![dan])).await.unwrap();
    let raise = Raise { chat, user: bob, delivered: Some(sent.seq), read: Some(sent.seq) };
    f.store.raise_watermarks(vec![raise], f.now()).await;
    let recipients = f.store.list_recipients(chat, alice, sent.seq).await.unwrap();
    let recipients: Vec<_> = recipients.iter().map(|r| (r.user.id, r.status)).collect();
    let mut expected = [(bob, Status::Read), (carol, Status::Sent)];
    expected.sort_unstable_by_key(|(user, _)| *user);
    assert_eq!(recipients, expected);
}

async fn a_group_is_changed_by_its_admins(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.group(alice, &[bob]).await;
    let update = async |actor, change| {
        let (row, at) = (Uuid::now_v7().into(), f.now());
        f.store.update_chat(UpdateChat { chat, actor, change, row, at }).await
    };
    let named = ChatChange { name: Some("terns".into()), ..ChatChange::default() };
    assert_eq!(code(update(bob, named.clone()).await), ErrorCode::Forbidden);
    assert!(update(alice, named.clone()).await.unwrap());
    assert!(!update(alice, named).await.unwrap(), "the same again");
    let described = ChatChange {
        description: Some(Some("seabirds".into())),
        history_visible: Some(HistoryVisible::All),
        ..ChatChange::default()
    };
    assert!(update(alice, described).await.unwrap());
    let row = last(&f, bob, chat).await;
    let Entry::ChatUpdated(basics) = &row.entry else { panic!("{row:?}") };
    assert_eq!(basics.name.as_deref(), Some("terns"));
    assert_eq!(basics.description.as_deref(), Some("seabirds"));
    assert_eq!(basics.history_visible, HistoryVisible::All);
    let undescribed = ChatChange { description: Some(None), ..ChatChange::default() };
    assert!(update(alice, undescribed).await.unwrap());
    assert_eq!(f.store.find_chat(bob, chat).await.unwrap().unwrap().description, None);
    let private = f.private_chat(alice, bob).await;
    let (row, at) = (Uuid::now_v7().into(), f.now());
    let change = ChatChange { name: Some("us".into()), ..ChatChange::default() };
    let refused = f.store.update_chat(UpdateChat { chat: private, actor: alice, change, row, at }).await;
    assert_eq!(code(refused), ErrorCode::Forbidden);
}

async fn settings_are_ones_own(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.group(alice, &[bob]).await;
    f.relay.take();
    let pin = SettingsChange { pinned: Some(true), ..SettingsChange::default() };
    let mute = SettingsChange { muted_until: Some(Some(Timestamp(7))), ..SettingsChange::default() };
    for change in [pin, pin, mute] {
        f.store.update_settings(bob, chat, change, f.now()).await.unwrap();
    }
    let told: Vec<_> = f.relay.take().iter().map(|row| row.entry.clone()).collect();
    assert_eq!(told, [Entry::ChatSettingsChanged(chat), Entry::ChatSettingsChanged(chat)]);
    let settings = async |user| f.store.find_chat(user, chat).await.unwrap().unwrap().settings;
    assert_eq!((settings(bob).await.pinned, settings(bob).await.muted_until), (true, Some(Timestamp(7))));
    assert_eq!(settings(alice).await, ChatSettings::default());
    f.change(chat, bob, MembershipChange::Leave).await.unwrap();
    assert_eq!(code(f.store.update_settings(bob, chat, pin, f.now()).await), ErrorCode::NotMember);
    let stranger = f.user("stranger").await;
    assert_eq!(code(f.store.update_settings(stranger, chat, pin, f.now()).await), ErrorCode::NotFound);
}

async fn a_role_is_one_row(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let chat = f.group(alice, &[bob]).await;
    let set = async |role| f.change(chat, alice, MembershipChange::SetRole(bob, role)).await;
    let row = set(Role::Admin).await.unwrap().expect("a row");
    let Entry::MembersChanged(change) = row.entry else { panic!("{row:?}") };
    assert_eq!(change.roles.into_iter().collect::<Vec<_>>(), [(bob, Role::Admin)]);
    assert!(change.added.is_empty() && change.removed.is_empty());
    assert!(set(Role::Admin).await.unwrap().is_none());
    assert_eq!(f.store.find_chat(bob, chat).await.unwrap().unwrap().role, Some(Role::Admin));
}
