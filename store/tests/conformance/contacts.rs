//! Relations between users.

use crate::{
    harness::{FIRST_PAGE, Fixture, code},
    on_both_engines,
};
use curlew_domain::{
    ErrorCode,
    contact::{ContactFilter, ContactState, RelationAction},
    ids::{Stream, UserId},
    message::{ContactEvent, Entry},
    page::{PageRequest, Position},
    ports::store::Contacts,
};
use uuid::Uuid;

on_both_engines!(
    a_request_that_is_accepted_makes_a_contact_on_both_sides,
    repeating_changes_nothing_and_tells_nobody,
    requests_that_cross_become_a_contact,
    a_block_hides_the_contact_and_unblocking_brings_it_back,
    nobody_relates_to_strangers_or_to_oneself,
    contacts_are_paged_newest_first,
);

async fn states(f: &Fixture, user: UserId, filter: ContactFilter) -> Vec<(UserId, ContactState)> {
    let page = f.store.list_contacts(user, filter, FIRST_PAGE).await.unwrap();
    page.items.into_iter().map(|contact| (contact.user.id, contact.state)).collect()
}

async fn act(
    f: &Fixture,
    actor: UserId,
    peer: UserId,
    action: RelationAction,
) -> (Option<ContactState>, bool) {
    let (contact, changed) = f.store.relate(actor, peer, action, f.now()).await.unwrap();
    assert!(contact.as_ref().is_none_or(|contact| contact.user.id == peer));
    (contact.map(|contact| contact.state), changed)
}

async fn a_request_that_is_accepted_makes_a_contact_on_both_sides(f: Fixture) {
    let [alice, bob] = [f.user("alice").await, f.user("bob").await];
    assert_eq!(act(&f, alice, bob, RelationAction::Request).await, (Some(ContactState::Outgoing), true));
    assert_eq!(states(&f, alice, ContactFilter::Pending).await, [(bob, ContactState::Outgoing)]);
    assert_eq!(states(&f, bob, ContactFilter::Pending).await, [(alice, ContactState::Incoming)]);
    assert_eq!(act(&f, bob, alice, RelationAction::Accept).await, (Some(ContactState::Contact), true));
    for (user, other) in [(alice, bob), (bob, alice)] {
        assert_eq!(states(&f, user, ContactFilter::Contacts).await, [(other, ContactState::Contact)]);
        assert_eq!(states(&f, user, ContactFilter::Pending).await, []);
    }
    let to_bob = f.read_all(bob, Stream::Personal(bob)).await;
    let event = |event, peer| Entry::Contact { event, peer };
    assert_eq!(to_bob[0].entry, event(ContactEvent::NewContactRequest, alice));
    assert_eq!((to_bob[0].seq, to_bob[0].sender), (1, alice));
    assert_eq!(to_bob[1].entry, event(ContactEvent::ContactRequestAccepted, alice));
    let relayed: Vec<_> = f
        .relay
        .take()
        .iter()
        .filter(|row| row.stream == Stream::Personal(bob))
        .map(|row| (**row).clone())
        .collect();
    assert_eq!(relayed, to_bob, "the relay gets what is stored");
    assert_eq!(act(&f, alice, bob, RelationAction::Remove).await, (None, true));
    assert_eq!(states(&f, bob, ContactFilter::Contacts).await, []);
}

async fn repeating_changes_nothing_and_tells_nobody(f: Fixture) {
    let [alice, bob] = [f.user("alice").await, f.user("bob").await];
    act(&f, alice, bob, RelationAction::Request).await;
    f.relay.take();
    assert_eq!(act(&f, alice, bob, RelationAction::Request).await, (Some(ContactState::Outgoing), false));
    act(&f, bob, alice, RelationAction::Accept).await;
    f.relay.take();
    assert_eq!(act(&f, bob, alice, RelationAction::Accept).await, (Some(ContactState::Contact), false));
    assert!(f.relay.take().is_empty());
    act(&f, bob, alice, RelationAction::Remove).await;
    assert_eq!(code(f.store.relate(bob, alice, RelationAction::Remove, f.now()).await), ErrorCode::NotFound);
}

async fn requests_that_cross_become_a_contact(f: Fixture) {
    let [alice, bob] = [f.user("alice").await, f.user("bob").await];
    let ask = |a, b| f.store.relate(a, b, RelationAction::Request, f.now());
    let (one, other) = tokio::join!(ask(alice, bob), ask(bob, alice));
    assert!(one.unwrap().1 && other.unwrap().1);
    assert_eq!(states(&f, alice, ContactFilter::Contacts).await, [(bob, ContactState::Contact)]);
    assert_eq!(states(&f, bob, ContactFilter::Contacts).await, [(alice, ContactState::Contact)]);
}

async fn a_block_hides_the_contact_and_unblocking_brings_it_back(f: Fixture) {
    let [alice, bob] = f.contacts(["alice", "bob"]).await;
    let since =
        f.store.list_contacts(alice, ContactFilter::Contacts, FIRST_PAGE).await.unwrap().items[0].since;
    assert_eq!(act(&f, alice, bob, RelationAction::Block).await, (Some(ContactState::Blocked), true));
    assert_eq!(states(&f, alice, ContactFilter::Contacts).await, []);
    assert_eq!(states(&f, alice, ContactFilter::Blocked).await, [(bob, ContactState::Blocked)]);
    assert_eq!(states(&f, bob, ContactFilter::Contacts).await, [(alice, ContactState::Contact)]);
    assert_eq!(act(&f, alice, bob, RelationAction::Block).await, (Some(ContactState::Blocked), false));
    assert_eq!(code(f.store.relate(bob, alice, RelationAction::Request, f.now()).await), ErrorCode::Blocked);
    assert_eq!(act(&f, alice, bob, RelationAction::Unblock).await, (Some(ContactState::Contact), true));
    let again =
        f.store.list_contacts(alice, ContactFilter::Contacts, FIRST_PAGE).await.unwrap().items[0].since;
    assert_eq!(again, since);
    let told: Vec<_> = f.relay.take().iter().map(|row| row.entry.clone()).collect();
    let event = |event| Entry::Contact { event, peer: alice };
    assert_eq!(told, [event(ContactEvent::BlockedByContact), event(ContactEvent::UnblockedByContact)]);
}

async fn nobody_relates_to_strangers_or_to_oneself(f: Fixture) {
    let alice = f.user("alice").await;
    for peer in [alice, Uuid::now_v7().into()] {
        assert_eq!(
            code(f.store.relate(alice, peer, RelationAction::Request, f.now()).await),
            ErrorCode::NotFound
        );
    }
}

async fn contacts_are_paged_newest_first(f: Fixture) {
    let alice = f.user("alice").await;
    let mut others = Vec::new();
    for n in 0..5 {
        let other = f.user(&format!("user{n}")).await;
        f.befriend(alice, other).await;
        others.push(other);
    }
    others.reverse();
    let mut found = Vec::new();
    let mut page = PageRequest { limit: 2, after: None };
    loop {
        let part = f.store.list_contacts(alice, ContactFilter::Contacts, page).await.unwrap();
        found.extend(part.items.iter().map(|contact| contact.user.id));
        let Some(cursor) = part.next_cursor else { break };
        page.after = Some(Position::decode(&cursor).unwrap());
    }
    assert_eq!(found, others);
}
