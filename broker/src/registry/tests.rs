//! Who is told what, and who has to go.

use super::*;
use crate::format::Format;
use curlew_domain::{
    chat::LeaveReason,
    clock::Timestamp,
    event::{Audience, EventBody},
    message::{Content, LocalId, MembersChanged, Target},
};
use futures_util::FutureExt;
use std::future::Future;
use uuid::Uuid;

fn id<T: From<Uuid>>(n: u128) -> T {
    Uuid::from_u128(n).into()
}

const ALICE: u128 = 1;
const BOB: u128 = 2;
const CHAT: u128 = 0x100;

fn key(n: u128) -> SessionKey {
    SessionKey { device: id(n), client_id: "c".into(), mount: String::new() }
}

fn fence(n: u128, generation: i64) -> SessionFence {
    SessionFence { session: id(n), generation }
}

/// Connects the user's only device; the login has the same number.
fn connect(registry: &Arc<Registry>, user: u128) -> Registration {
    registry.register(id(user), id(user), fence(user, 1), key(user))
}

fn row(stream: Stream, seq: Seq, entry: Entry) -> Arc<LogRow> {
    let local_id = Some(LocalId::parse("local").unwrap());
    let at = Timestamp(0);
    Arc::new(LogRow { stream, seq, id: id(0x1000 + u128::from(seq)), sender: id(ALICE), at, local_id, entry })
}

/// What a commit tells the registry.
fn tell(registry: &Registry, rows: Vec<Arc<LogRow>>) {
    registry.committed(rows.into_iter().map(Committed::Row).collect());
}

fn message(seq: Seq) -> Arc<LogRow> {
    row(Stream::Chat(id(CHAT)), seq, Entry::Message(Content::of_text("hello")))
}

fn changed(seq: Seq, added: &[u128], removed: &[u128]) -> Arc<LogRow> {
    let users = |users: &[u128]| users.iter().map(|user| id(*user)).collect();
    let change = MembersChanged { added: users(added), removed: users(removed), ..MembersChanged::default() };
    row(Stream::Chat(id(CHAT)), seq, Entry::MembersChanged(change))
}

fn entered(user: u128, joined_seq: Seq) -> Arc<LogRow> {
    row(Stream::Personal(id(user)), joined_seq, Entry::NewChat { chat: id(CHAT), joined_seq })
}

fn left(user: u128, left_seq: Seq) -> Arc<LogRow> {
    let reason = LeaveReason::Removed;
    row(Stream::Personal(id(user)), left_seq, Entry::ChatLeft { chat: id(CHAT), left_seq, reason })
}

fn stay(joined: Seq, left: Option<Seq>) -> StayEnd {
    let end = left.unwrap_or(joined);
    StayEnd { chat: id(CHAT), first_joined: 1, last_joined: joined, left, end, delivered: end }
}

/// Rows of the chat that arrived.
fn rows(registration: &mut Registration) -> Vec<Seq> {
    told(registration)
        .iter()
        .filter_map(|delivery| match delivery {
            Delivery::Row(shared) => Some(shared.row().seq),
            _ => None,
        })
        .collect()
}

fn told(registration: &mut Registration) -> Vec<Delivery> {
    std::iter::from_fn(|| registration.inbox.try_recv().ok()).collect()
}

fn is_pending(future: &mut (impl Future<Output = ()> + Unpin)) -> bool {
    future.now_or_never().is_none()
}

#[test]
fn members_get_the_rows_of_their_chats_and_others_do_not() {
    let registry = Registry::new(Duration::ZERO);
    let (mut alice, mut bob) = (connect(&registry, ALICE), connect(&registry, BOB));
    registry.learn_stays(id(ALICE), &[stay(1, None)]);
    registry.learn_stays(id(BOB), &[]);
    tell(&registry, vec![message(2)]);
    assert_eq!((rows(&mut alice), rows(&mut bob)), (vec![2], vec![]));
}

#[test]
fn a_new_member_is_told_of_the_stay_and_gets_the_row_that_begins_it() {
    let registry = Registry::new(Duration::ZERO);
    let mut bob = connect(&registry, BOB);
    registry.learn_stays(id(BOB), &[]);
    tell(&registry, vec![message(4), entered(BOB, 5), changed(5, &[BOB], &[]), message(6)]);
    let told = told(&mut bob);
    let [
        Delivery::Joined(chat, 5),
        Delivery::Hint(Stream::Personal(_), 5),
        Delivery::Row(first),
        Delivery::Row(second),
    ] = &told[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!((*chat, first.row().seq, second.row().seq), (id(CHAT), 5, 6));
}

#[test]
fn a_removed_member_gets_the_row_at_left_seq_and_nothing_after_it() {
    let registry = Registry::new(Duration::ZERO);
    let mut bob = connect(&registry, BOB);
    registry.learn_stays(id(BOB), &[stay(1, None)]);
    tell(&registry, vec![message(7), changed(8, &[], &[BOB]), left(BOB, 8), message(9)]);
    tell(&registry, vec![message(10)]);
    assert_eq!(rows(&mut bob), [7, 8]);
}

#[test]
fn who_returns_within_one_batch_gets_nothing_of_the_time_between() {
    let registry = Registry::new(Duration::ZERO);
    let mut bob = connect(&registry, BOB);
    registry.learn_stays(id(BOB), &[stay(1, None)]);
    let away = [changed(8, &[], &[BOB]), left(BOB, 8), message(9)];
    let back = [entered(BOB, 10), changed(10, &[BOB], &[]), message(11)];
    tell(&registry, away.into_iter().chain(back).collect());
    assert_eq!(rows(&mut bob), [8, 10, 11]);
}

#[test]
fn a_later_fact_about_a_stay_is_not_undone_by_an_earlier_one() {
    let registry = Registry::new(Duration::ZERO);
    let mut bob = connect(&registry, BOB);
    registry.learn_stays(id(BOB), &[stay(1, None)]);
    tell(&registry, vec![changed(8, &[], &[BOB])]);
    registry.learn_stays(id(BOB), &[stay(1, None)]);
    tell(&registry, vec![message(9)]);
    assert_eq!(rows(&mut bob), [8], "the list was read before the removal");

    tell(&registry, vec![entered(BOB, 12), changed(12, &[BOB], &[])]);
    registry.learn_stays(id(BOB), &[stay(1, Some(8))]);
    tell(&registry, vec![message(13)]);
    assert_eq!(rows(&mut bob), [12, 13], "the list was read before the return");
}

#[test]
fn a_stay_known_before_its_rows_come_does_not_let_earlier_rows_in() {
    let registry = Registry::new(Duration::ZERO);
    let mut bob = connect(&registry, BOB);
    registry.learn_stays(id(BOB), &[stay(1, Some(8))]);
    registry.learn_stays(id(BOB), &[stay(10, None)]);
    tell(&registry, vec![message(9), entered(BOB, 10), changed(10, &[BOB], &[])]);
    assert_eq!(rows(&mut bob), [10]);
}

#[test]
fn who_learns_of_a_removal_before_its_row_comes_is_told_to_read_up_to_it() {
    let registry = Registry::new(Duration::ZERO);
    let mut bob = connect(&registry, BOB);
    registry.learn_stays(id(BOB), &[stay(1, None)]);
    registry.learn_stays(id(BOB), &[stay(1, Some(8))]);
    tell(&registry, vec![message(7), changed(8, &[], &[BOB])]);
    let told = told(&mut bob);
    assert!(matches!(told[..], [Delivery::Hint(Stream::Chat(chat), 8)] if chat == id(CHAT)), "{told:?}");
}

#[test]
fn who_learns_of_a_whole_stay_before_its_rows_come_is_told_to_read_it() {
    let registry = Registry::new(Duration::ZERO);
    let mut bob = connect(&registry, BOB);
    registry.learn_stays(id(BOB), &[]);
    // Another connection of his has listed the stays meanwhile.
    registry.learn_stays(id(BOB), &[stay(5, Some(6))]);
    let joined = vec![entered(BOB, 5), changed(5, &[BOB], &[])];
    tell(&registry, joined.into_iter().chain([changed(6, &[], &[BOB]), left(BOB, 6)]).collect());
    let told = told(&mut bob);
    let [Delivery::Joined(_, 5), Delivery::Hint(Stream::Chat(chat), 6), ..] = told[..] else {
        panic!("{told:?}")
    };
    assert_eq!(chat, id(CHAT));
}

#[test]
fn who_has_gone_is_in_no_chat() {
    let registry = Registry::new(Duration::ZERO);
    let bob = connect(&registry, BOB);
    registry.learn_stays(id(BOB), &[stay(1, None)]);
    assert!(!registry.needs_stays(id(BOB)));
    drop(bob);
    assert!(registry.needs_stays(id(BOB)));
    assert!(registry.lock().chats.is_empty());
    assert!(registry.lock().keys.is_empty());
}

#[test]
fn an_inbox_that_overflows_makes_its_connection_lag() {
    let registry = Registry::new(Duration::ZERO);
    let mut bob = connect(&registry, BOB);
    registry.learn_stays(id(BOB), &[stay(1, None)]);
    let many = INBOX as Seq;
    tell(&registry, (2..many + 2).map(message).collect());
    assert!(!bob.take_lag());
    tell(&registry, vec![message(many + 2)]);
    assert!(bob.take_lag() && !bob.take_lag(), "told once");
    assert_eq!(rows(&mut bob).len(), INBOX);
}

#[test]
fn only_the_sender_sees_their_local_id() {
    let shared = SharedRow::new(message(1));
    let text = |user| String::from_utf8(shared.payload(id(user), Format::Json).to_vec()).unwrap();
    let value =
        |user| Format::Cbor.decode::<serde_json::Value>(&shared.payload(id(user), Format::Cbor)).unwrap();
    assert!(text(ALICE).contains(r#""localId":"local""#));
    assert!(!text(BOB).contains("localId"));
    let event = Event::of_chat_row(&message(1), Audience::Others).unwrap();
    assert_eq!(text(BOB).into_bytes(), event.to_json());
    for user in [ALICE, BOB] {
        assert_eq!(value(user), serde_json::from_str::<serde_json::Value>(&text(user)).unwrap());
    }
}

#[test]
fn a_state_event_does_not_go_to_the_session_it_came_from() {
    let registry = Registry::new(Duration::ZERO);
    let mut one = connect(&registry, ALICE);
    let mut two = registry.register(id(ALICE), id(7), fence(7, 1), key(7));
    let body = EventBody::ReadElsewhere { read_seq: 3, unread_count: 0 };
    let event = Event::live(Uuid::nil(), Timestamp(0), Some(id(CHAT)), body);
    registry.notify(id(ALICE), Arc::new(event), Some(id(7)));
    assert_eq!((told(&mut one).len(), told(&mut two).len()), (1, 0));
}

#[test]
fn the_later_generation_of_a_session_keeps_it() {
    for newer_first in [false, true] {
        let registry = Registry::new(Duration::ZERO);
        let register =
            |generation| registry.register(id(ALICE), id(ALICE), fence(ALICE, generation), key(ALICE));
        let (older, newer) = if newer_first {
            let newer = register(2);
            (register(1), newer)
        } else {
            (register(1), register(2))
        };
        assert_eq!((*older.end.borrow(), *newer.end.borrow()), (Some(Ending::TakenOver), None));
        drop(older);
        assert!(registry.lock().keys.contains_key(&key(ALICE)));
    }
}

#[test]
fn a_connection_that_was_replaced_neither_parks_nor_takes_what_is_parked() {
    let parked = || Parked { received: vec![std::num::NonZeroU16::MIN], ..Parked::default() };
    let registry = Registry::new(Duration::ZERO);
    let register = |generation| registry.register(id(ALICE), id(ALICE), fence(ALICE, generation), key(ALICE));
    let older = register(1);
    older.park(parked());
    let newer = register(2);
    assert!(older.unpark().received.is_empty());
    assert_eq!(newer.unpark().received.len(), 1);
    older.park(parked());
    assert!(newer.unpark().received.is_empty());
}

#[test]
fn the_oldest_parked_session_makes_room() {
    let registry = Registry::new(Duration::ZERO);
    let park = |n: u128| {
        let registration = registry.register(id(n), id(n), fence(n, 1), key(n));
        registration.park(Parked { received: vec![std::num::NonZeroU16::MIN], ..Parked::default() });
    };
    (0..=MAX_PARKED as u128).for_each(park);
    let take = |n: u128| registry.register(id(n), id(n), fence(n, 2), key(n)).unpark().received.len();
    assert_eq!((take(0), take(1), take(MAX_PARKED as u128)), (0, 1, 1));
}

#[tokio::test]
async fn a_new_connection_waits_until_the_old_one_has_stored_its_session() {
    let registry = Registry::new(Duration::ZERO);
    let old = connect(&registry, ALICE);
    let key = key(ALICE);
    let mut claim = Box::pin(registry.claim(&key));
    assert!(is_pending(&mut claim));
    assert_eq!(*old.end.borrow(), Some(Ending::TakenOver));
    old.writing_stopped();
    assert!(is_pending(&mut claim), "it may not be stored yet");
    drop(old);
    claim.await;
    registry.claim(&key).now_or_never().expect("nobody has it");
}

#[tokio::test]
async fn ending_a_login_returns_when_nothing_more_is_written() {
    let registry = Registry::new(Duration::ZERO);
    let (alice, bob) = (connect(&registry, ALICE), connect(&registry, BOB));
    let logins = [id(ALICE)];
    let mut ending = registry.end_logins(&logins);
    assert!(is_pending(&mut ending));
    assert_eq!((*alice.end.borrow(), *bob.end.borrow()), (Some(Ending::LoginEnded), None));
    alice.writing_stopped();
    ending.await;
}

#[tokio::test]
async fn a_connection_ends_with_the_login_it_lives_by_now() {
    let registry = Registry::new(Duration::ZERO);
    let alice = connect(&registry, ALICE);
    alice.held_login().replace(id(9));
    registry.end_logins(&[id(ALICE)]).await;
    assert_eq!(*alice.end.borrow(), None);
    alice.writing_stopped();
    registry.end_logins(&[id(9)]).await;
    assert_eq!(*alice.end.borrow(), Some(Ending::LoginEnded));
}

#[test]
fn who_comes_after_the_shutdown_began_is_sent_away_too() {
    let registry = Registry::new(Duration::ZERO);
    let early = connect(&registry, ALICE);
    registry.shut_down();
    let late = connect(&registry, BOB);
    let endings = [early, late].map(|registration| *registration.end.borrow());
    assert_eq!(endings, [Some(Ending::ShuttingDown); 2]);
}

#[test]
fn what_the_log_decides_is_read_from_it() {
    let registry = Registry::new(Duration::ZERO);
    let mut bob = connect(&registry, BOB);
    registry.learn_stays(id(BOB), &[stay(1, None)]);
    let (chat, message) = (Stream::Chat(id(CHAT)), Uuid::from_u128(9).into());
    let target = Target { id: message, seq: 1 };
    tell(&registry, vec![row(chat, 2, Entry::MessageEdited { target, message: None })]);
    assert!(matches!(told(&mut bob)[..], [Delivery::Hint(stream, 2)] if stream == chat));
    // What waits of the chat may show what was hidden.
    let hidden = Entry::MessageHidden { message, chat: id(CHAT) };
    tell(&registry, vec![row(Stream::Personal(id(BOB)), 1, hidden)]);
    assert!(matches!(told(&mut bob)[..], [Delivery::Stale(stream), Delivery::Hint(_, 1)] if stream == chat));
}

#[test]
fn the_commit_that_ends_a_login_ends_its_connections() {
    let registry = Registry::new(Duration::ZERO);
    let bob = connect(&registry, BOB);
    let login = *bob.handle.login();
    registry.committed(vec![Committed::LoginsEnded(vec![Uuid::from_u128(99).into()])]);
    assert_eq!(*bob.end.borrow(), None);
    registry.committed(vec![Committed::LoginsEnded(vec![login])]);
    assert_eq!(*bob.end.borrow(), Some(Ending::LoginEnded));
}
