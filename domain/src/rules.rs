//! Who may do what: pure functions over facts that the store reads inside the transaction that writes.
//! Each is written once and holds on every surface.

use crate::{
    chat::{ChatKind, LeaveReason, Role, Standing},
    clock::Timestamp,
    contact::{Relation, RelationAction, Relations},
    error::{ErrorCode, FieldError, Refusal},
    ids::{Seq, UserId},
    message::{ContactEvent, Emoji, MembersChanged},
};
use std::time::Duration;

/// What a send depends on.
#[derive(Clone, Copy, Debug)]
pub struct SendFacts {
    /// Private or group.
    pub kind: ChatKind,
    /// The sender's standing.
    pub standing: Standing,
    /// Private chats: whether either has blocked the other.
    pub blocked: bool,
    /// Private chats: whether the account of either was deleted.
    pub deleted: bool,
}

/// Whether the sender may append a message. `None`: the chat does not exist.
pub fn may_send(facts: Option<&SendFacts>) -> Result<(), Refusal> {
    let facts = require_chat(facts)?;
    require_member(facts.standing)?;
    if facts.kind == ChatKind::Private && facts.deleted {
        return Err(Refusal::new(ErrorCode::UserDeleted, "the other has deleted their account"));
    }
    if facts.kind == ChatKind::Private && facts.blocked {
        return Err(Refusal::new(ErrorCode::Blocked, "one of the two has blocked the other"));
    }
    Ok(())
}

/// Whether somebody of this standing may write at all; a stranger learns nothing.
pub fn require_member(standing: Standing) -> Result<Role, Refusal> {
    match standing {
        Standing::Active(role) => Ok(role),
        Standing::Former => {
            Err(Refusal::new(ErrorCode::NotMember, "you are no longer a member of this chat"))
        }
        Standing::Stranger => Err(Refusal::not_found("chat")),
    }
}

fn require_chat<T>(facts: Option<&T>) -> Result<&T, Refusal> {
    facts.ok_or_else(|| Refusal::not_found("chat"))
}

/// Whether what a message quotes may be quoted: the message it answers is one that the sender may have in this chat, and
/// everybody mentioned is or was in the chat. `known` are those of the mentioned who are or were.
pub fn may_quote(answers: Option<bool>, mentions: &[UserId], known: &[UserId]) -> Result<(), Refusal> {
    if answers == Some(false) {
        return Err(Refusal::not_found("message"));
    }
    let stranger = |(at, _): (usize, &UserId)| {
        FieldError::new(format!("mentions[{at}]"), "not-a-member", "is not a member of this chat")
    };
    let strangers: Vec<FieldError> =
        mentions.iter().enumerate().filter(|(_, user)| !known.contains(user)).map(stranger).collect();
    if strangers.is_empty() { Ok(()) } else { Err(Refusal::invalid(strangers)) }
}

/// A wished change of a message that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageChange {
    /// Replace its text.
    Edit(String),
    /// Set my reaction, or take it back.
    React(Option<Emoji>),
    /// Empty it for everyone.
    Delete,
}

/// What a change of a message depends on.
#[derive(Clone, Copy, Debug)]
pub struct MessageFacts {
    /// Of the chat, as for a send by the actor.
    pub send: SendFacts,
    /// Whether the actor sent it.
    pub mine: bool,
    /// Whether the server made it.
    pub system: bool,
    /// Whether it was deleted for everyone.
    pub deleted: bool,
    /// When it was sent.
    pub sent_at: Timestamp,
}

/// Decides a change of a message. `None`: it is none that the actor may have. `window`: for how long a sender may delete a
/// message for everyone; `None`: for ever.
pub fn may_change_message(
    change: &MessageChange,
    facts: Option<&MessageFacts>,
    window: Option<Duration>,
    at: Timestamp,
) -> Result<(), Refusal> {
    let facts = facts.ok_or_else(|| Refusal::not_found("message"))?;
    let role = require_member(facts.send.standing)?;
    if facts.system {
        return Err(Refusal::new(ErrorCode::Forbidden, "a SYSTEM message cannot be changed"));
    }
    match change {
        MessageChange::Edit(_) if !facts.mine => {
            Err(Refusal::new(ErrorCode::Forbidden, "only its sender edits a message"))
        }
        MessageChange::Edit(_) | MessageChange::React(Some(_)) => {
            may_send(Some(&facts.send))?;
            require_present(facts)
        }
        MessageChange::React(None) => Ok(()),
        MessageChange::Delete => {
            let moderates = facts.send.kind == ChatKind::Group && role >= Role::Admin;
            if !facts.mine && !moderates {
                let detail = "only its sender and a group's admins delete a message for everyone";
                return Err(Refusal::new(ErrorCode::Forbidden, detail));
            }
            // Deleting twice is deleting.
            let late = !facts.deleted && window.is_some_and(|window| facts.sent_at.until(at) > window);
            if late && !moderates {
                let detail = "the time in which a message can be deleted for everyone is over";
                return Err(Refusal::new(ErrorCode::TooLate, detail));
            }
            Ok(())
        }
    }
}

fn require_present(facts: &MessageFacts) -> Result<(), Refusal> {
    if facts.deleted {
        return Err(Refusal::new(ErrorCode::MessageDeleted, "the message was deleted"));
    }
    Ok(())
}

/// Whether somebody of this standing may rename a group, describe it, or say what those who join may read.
pub fn may_update_chat(facts: Option<(ChatKind, Standing)>) -> Result<(), Refusal> {
    let (kind, standing) = facts.ok_or_else(|| Refusal::not_found("chat"))?;
    let role = require_member(standing)?;
    require_group(kind)?;
    require_role(role, Role::Admin, "only admins and owners change a group")
}

fn require_group(kind: ChatKind) -> Result<(), Refusal> {
    if kind == ChatKind::Group {
        return Ok(());
    }
    let detail = "a private chat has neither name nor members to change; block the contact instead";
    Err(Refusal::new(ErrorCode::Forbidden, detail))
}

/// Limits that membership rules know.
#[derive(Clone, Copy, Debug)]
pub struct MembershipLimits {
    /// Most members of a group.
    pub group_members: u32,
    /// Whether adding somebody needs an accepted contact.
    pub require_contact: bool,
}

/// A wished change of a group's members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipChange {
    /// Add these as members.
    Add(Vec<UserId>),
    /// Remove this one.
    Remove(UserId),
    /// Give this one another role.
    SetRole(UserId, Role),
    /// Leave.
    Leave,
}

/// A user that a membership change is about.
#[derive(Clone, Copy, Debug)]
pub struct TargetFacts {
    /// Who.
    pub user: UserId,
    /// Whether there is such an account (not deleted).
    pub exists: bool,
    /// Role, if active in the chat.
    pub role: Option<Role>,
    /// Whether a stay of theirs in the chat has ended.
    pub former: bool,
    /// Relation to the actor, seen from the actor.
    pub relations: Relations,
}

/// What a membership change depends on.
#[derive(Clone, Debug)]
pub struct MembershipFacts {
    /// Private or group.
    pub kind: ChatKind,
    /// Who asks.
    pub actor: UserId,
    /// The actor's standing.
    pub standing: Standing,
    /// Those named by the change, in its order. Empty for `Leave`.
    pub targets: Vec<TargetFacts>,
    /// Active members.
    pub members: u32,
    /// Active owners.
    pub owners: u32,
    /// Who becomes owner when the last one goes: the longest-standing admin, else member, other than the one who goes.
    pub heir: Option<UserId>,
}

/// What a membership change comes to; nothing to do when all three of the change are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MembershipPlan {
    /// The row to append.
    pub change: MembersChanged,
    /// Why those removed go.
    pub reason: Option<LeaveReason>,
}

/// Decides a membership change.
pub fn change_members(
    change: &MembershipChange,
    facts: Option<&MembershipFacts>,
    limits: MembershipLimits,
) -> Result<MembershipPlan, Refusal> {
    let facts = require_chat(facts)?;
    let role = match (change, facts.standing) {
        // Leaving twice is leaving.
        (MembershipChange::Leave, Standing::Former) => return Ok(MembershipPlan::default()),
        (_, standing) => require_member(standing)?,
    };
    require_group(facts.kind)?;
    match change {
        MembershipChange::Add(_) => add_members(role, facts, limits),
        MembershipChange::SetRole(_, wished) => set_role(role, *wished, facts),
        MembershipChange::Remove(user) if *user == facts.actor => {
            Ok(departure(facts, facts.actor, role, LeaveReason::Left))
        }
        MembershipChange::Remove(_) => remove_member(role, facts),
        MembershipChange::Leave => Ok(departure(facts, facts.actor, role, LeaveReason::Left)),
    }
}

fn add_members(
    role: Role,
    facts: &MembershipFacts,
    limits: MembershipLimits,
) -> Result<MembershipPlan, Refusal> {
    require_role(role, Role::Admin, "only admins and owners add members")?;
    let mut change = MembersChanged::default();
    for target in facts.targets.iter().filter(|t| t.role.is_none()) {
        may_gather(target, limits)?;
        change.added.push(target.user);
        change.roles.insert(target.user, Role::Member);
    }
    if facts.members as usize + change.added.len() > limits.group_members as usize {
        return Err(group_full(limits));
    }
    Ok(MembershipPlan { change, reason: None })
}

fn group_full(limits: MembershipLimits) -> Refusal {
    Refusal::new(ErrorCode::GroupFull, format!("a group has at most {} members", limits.group_members))
}

fn remove_member(role: Role, facts: &MembershipFacts) -> Result<MembershipPlan, Refusal> {
    require_role(role, Role::Admin, "only admins and owners remove members")?;
    let target = facts.targets.first().ok_or_else(|| Refusal::not_found("member"))?;
    let Some(target_role) = target.role else {
        // Removing twice is removing.
        return if target.former { Ok(MembershipPlan::default()) } else { Err(Refusal::not_found("member")) };
    };
    if target_role >= role && role != Role::Owner {
        return Err(Refusal::new(ErrorCode::Forbidden, "admins remove members only; ask an owner"));
    }
    Ok(departure(facts, target.user, target_role, LeaveReason::Removed))
}

fn set_role(role: Role, wished: Role, facts: &MembershipFacts) -> Result<MembershipPlan, Refusal> {
    require_role(role, Role::Owner, "only owners give roles")?;
    let target = facts.targets.first().ok_or_else(|| Refusal::not_found("member"))?;
    let Some(present) = target.role else { return Err(Refusal::not_found("member")) };
    let mut plan = MembershipPlan::default();
    if present == wished {
        return Ok(plan);
    }
    if present == Role::Owner && facts.owners == 1 {
        let detail = "a group needs an owner; make somebody else one first";
        return Err(Refusal::new(ErrorCode::Forbidden, detail));
    }
    plan.change.roles.insert(target.user, wished);
    Ok(plan)
}

/// The last owner's going hands the group over.
fn departure(facts: &MembershipFacts, user: UserId, role: Role, reason: LeaveReason) -> MembershipPlan {
    let mut change = MembersChanged { removed: vec![user], ..MembersChanged::default() };
    if let (Role::Owner, 1, Some(heir)) = (role, facts.owners, facts.heir) {
        change.roles.insert(heir, Role::Owner);
    }
    MembershipPlan { change, reason: Some(reason) }
}

fn require_role(has: Role, needs: Role, detail: &'static str) -> Result<(), Refusal> {
    if has >= needs { Ok(()) } else { Err(Refusal::new(ErrorCode::Forbidden, detail)) }
}

/// Whether the actor may put `target` into a chat. A blocked or unknown target and a stranger look the same.
fn may_gather(target: &TargetFacts, limits: MembershipLimits) -> Result<(), Refusal> {
    if !target.exists {
        return Err(Refusal::not_found("user"));
    }
    if target.relations.blocked() {
        return Err(Refusal::new(ErrorCode::Blocked, "one of the two has blocked the other"));
    }
    if limits.require_contact && target.relations.relation != Relation::Contact {
        return Err(Refusal::new(
            ErrorCode::NotContact,
            format!("user {} is not an accepted contact", target.user),
        ));
    }
    Ok(())
}

/// Whether the actor may open a private chat with, or found a group together with, these users. `group` counts the founder.
pub fn may_open_chat(
    kind: ChatKind,
    targets: &[TargetFacts],
    limits: MembershipLimits,
) -> Result<(), Refusal> {
    targets.iter().try_for_each(|target| may_gather(target, limits))?;
    if kind == ChatKind::Group && targets.len() + 1 > limits.group_members as usize {
        return Err(group_full(limits));
    }
    Ok(())
}

/// What a relation action comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationPlan {
    /// The relation afterwards.
    pub relations: Relations,
    /// For the actor's personal log.
    pub to_actor: Option<ContactEvent>,
    /// For the peer's personal log.
    pub to_peer: Option<ContactEvent>,
}

/// Decides what `action` does to a relation seen from the actor. `None`: there is no such peer.
pub fn relate(action: RelationAction, before: Option<Relations>) -> Result<RelationPlan, Refusal> {
    use ContactEvent as E;
    use Relation as R;
    let before = before.ok_or_else(|| Refusal::not_found("user"))?;
    let plan = |relation, to_actor, to_peer| {
        Ok(RelationPlan { relations: Relations { relation, ..before }, to_actor, to_peer })
    };
    match (action, before.relation) {
        (RelationAction::Request | RelationAction::Accept, _) if before.blocked() => {
            Err(Refusal::new(ErrorCode::Blocked, "one of the two has blocked the other"))
        }
        // Idempotent by state.
        (RelationAction::Request, R::Outgoing | R::Contact) | (RelationAction::Accept, R::Contact) => {
            plan(before.relation, None, None)
        }
        (RelationAction::Request, R::None) => plan(R::Outgoing, None, Some(E::NewContactRequest)),
        // Two who ask each other agree.
        (RelationAction::Request | RelationAction::Accept, R::Incoming) => {
            plan(R::Contact, Some(E::ContactRequestAccepted), Some(E::ContactRequestAccepted))
        }
        (RelationAction::Reject, R::Incoming | R::Outgoing) => {
            plan(R::None, None, Some(E::ContactRequestRejected))
        }
        (RelationAction::Accept | RelationAction::Reject, _) => Err(Refusal::not_found("contact request")),
        (RelationAction::Remove, R::Contact) => plan(R::None, None, Some(E::ContactRemoved)),
        (RelationAction::Remove, _) => Err(Refusal::not_found("contact")),
        (RelationAction::Block, relation) => Ok(block(before, relation)),
        (RelationAction::Unblock, relation) => {
            let to_peer = (before.i_block && relation == R::Contact).then_some(E::UnblockedByContact);
            Ok(RelationPlan { relations: Relations { i_block: false, ..before }, to_actor: None, to_peer })
        }
    }
}

/// A block ends requests either way, keeps a contact for the time after it, and tells contacts only.
fn block(before: Relations, relation: Relation) -> RelationPlan {
    let kept = if relation == Relation::Contact { relation } else { Relation::None };
    let to_peer =
        (!before.i_block && relation == Relation::Contact).then_some(ContactEvent::BlockedByContact);
    RelationPlan { relations: Relations { relation: kept, i_block: true, ..before }, to_actor: None, to_peer }
}

/// First row a new stay may read.
pub fn visible_from(history: crate::chat::HistoryVisible, joined_seq: Seq) -> Seq {
    match history {
        crate::chat::HistoryVisible::Joined => joined_seq.max(1),
        crate::chat::HistoryVisible::All => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const LIMITS: MembershipLimits = MembershipLimits { group_members: 3, require_contact: true };

    fn user(n: u128) -> UserId {
        Uuid::from_u128(n).into()
    }

    fn facts(standing: Standing, targets: Vec<TargetFacts>) -> MembershipFacts {
        MembershipFacts {
            kind: ChatKind::Group,
            actor: user(1),
            standing,
            targets,
            members: 2,
            owners: 1,
            heir: Some(user(9)),
        }
    }

    fn target(n: u128, role: Option<Role>) -> TargetFacts {
        let relations = Relations { relation: Relation::Contact, ..Relations::default() };
        TargetFacts { user: user(n), exists: true, role, former: false, relations }
    }

    #[test]
    fn strangers_learn_nothing_and_former_members_are_told() {
        let send = |standing| {
            let facts = SendFacts { kind: ChatKind::Group, standing, blocked: false, deleted: false };
            may_send(Some(&facts)).map_err(|r| r.code)
        };
        assert_eq!(
            may_send(None).unwrap_err(),
            may_send(Some(&SendFacts {
                kind: ChatKind::Group,
                standing: Standing::Stranger,
                blocked: false,
                deleted: false
            }))
            .unwrap_err()
        );
        assert_eq!(send(Standing::Former), Err(ErrorCode::NotMember));
        assert_eq!(send(Standing::Active(Role::Member)), Ok(()));
    }

    #[test]
    fn a_block_and_a_deletion_stop_private_sends_only() {
        let send = |kind, blocked, deleted| {
            may_send(Some(&SendFacts { kind, standing: Standing::Active(Role::Member), blocked, deleted }))
                .map_err(|r| r.code)
        };
        assert_eq!(send(ChatKind::Private, true, false), Err(ErrorCode::Blocked));
        assert_eq!(send(ChatKind::Private, true, true), Err(ErrorCode::UserDeleted));
        assert_eq!(send(ChatKind::Group, true, true), Ok(()));
    }

    #[test]
    fn only_admins_add_and_the_group_has_an_end() {
        let add = |role, targets| {
            let facts = facts(Standing::Active(role), targets);
            change_members(&MembershipChange::Add(vec![]), Some(&facts), LIMITS).map_err(|r| r.code)
        };
        assert_eq!(add(Role::Member, vec![target(2, None)]), Err(ErrorCode::Forbidden));
        assert_eq!(add(Role::Admin, vec![target(2, None), target(3, None)]), Err(ErrorCode::GroupFull));
        assert_eq!(add(Role::Admin, vec![target(2, None)]).unwrap().change.added, vec![user(2)]);
        assert!(add(Role::Admin, vec![target(2, Some(Role::Member))]).unwrap().change.added.is_empty());
    }

    #[test]
    fn the_last_owner_hands_over() {
        let facts = facts(Standing::Active(Role::Owner), vec![]);
        let plan = change_members(&MembershipChange::Leave, Some(&facts), LIMITS).unwrap();
        assert_eq!(plan.change.removed, vec![user(1)]);
        assert_eq!(plan.change.roles.get(&user(9)), Some(&Role::Owner));
    }

    fn message(standing: Standing) -> MessageFacts {
        let send = SendFacts { kind: ChatKind::Group, standing, blocked: false, deleted: false };
        MessageFacts { send, mine: true, system: false, deleted: false, sent_at: Timestamp(0) }
    }

    #[test]
    fn a_sender_deletes_for_everyone_within_the_window_and_an_admin_at_any_time() {
        let delete = |facts: MessageFacts, at| {
            let window = Some(Duration::from_secs(10));
            may_change_message(&MessageChange::Delete, Some(&facts), window, Timestamp(at))
                .map_err(|r| r.code)
        };
        let mine = message(Standing::Active(Role::Member));
        assert_eq!(delete(mine, 10_000), Ok(()));
        assert_eq!(delete(mine, 10_001), Err(ErrorCode::TooLate));
        assert_eq!(delete(MessageFacts { deleted: true, ..mine }, 10_001), Ok(()), "twice");
        assert_eq!(delete(MessageFacts { mine: false, ..mine }, 0), Err(ErrorCode::Forbidden));
        let admin = message(Standing::Active(Role::Admin));
        assert_eq!(delete(MessageFacts { mine: false, ..admin }, 10_001), Ok(()));
        assert_eq!(delete(MessageFacts { system: true, ..admin }, 0), Err(ErrorCode::Forbidden));
        assert_eq!(delete(message(Standing::Former), 0), Err(ErrorCode::NotMember));
        let private = SendFacts { kind: ChatKind::Private, ..admin.send };
        assert_eq!(
            delete(MessageFacts { send: private, mine: false, ..admin }, 0),
            Err(ErrorCode::Forbidden)
        );
    }

    #[test]
    fn a_deleted_message_takes_no_text_and_no_reaction() {
        let change = |change, facts: MessageFacts| {
            may_change_message(&change, Some(&facts), None, Timestamp(0)).map_err(|r| r.code)
        };
        let facts = message(Standing::Active(Role::Member));
        let gone = MessageFacts { deleted: true, ..facts };
        let thumb = || MessageChange::React(Emoji::parse("👍").ok());
        assert_eq!(change(MessageChange::Edit("x".into()), facts), Ok(()));
        assert_eq!(change(MessageChange::Edit("x".into()), gone), Err(ErrorCode::MessageDeleted));
        assert_eq!(change(thumb(), gone), Err(ErrorCode::MessageDeleted));
        assert_eq!(change(MessageChange::React(None), gone), Ok(()));
        let others = MessageFacts { mine: false, ..facts };
        assert_eq!(change(MessageChange::Edit("x".into()), others), Err(ErrorCode::Forbidden));
        assert_eq!(change(thumb(), others), Ok(()));
    }

    #[test]
    fn only_owners_give_roles_and_one_owner_stays() {
        let set = |role, present, wished| {
            let facts = facts(Standing::Active(role), vec![target(1, Some(present))]);
            change_members(&MembershipChange::SetRole(user(1), wished), Some(&facts), LIMITS)
                .map(|plan| plan.change.roles.len())
                .map_err(|r| r.code)
        };
        assert_eq!(set(Role::Admin, Role::Member, Role::Admin), Err(ErrorCode::Forbidden));
        assert_eq!(set(Role::Owner, Role::Member, Role::Admin), Ok(1));
        assert_eq!(set(Role::Owner, Role::Admin, Role::Admin), Ok(0));
        assert_eq!(set(Role::Owner, Role::Owner, Role::Member), Err(ErrorCode::Forbidden));
    }

    #[test]
    fn requests_that_cross_become_a_contact() {
        let incoming = Relations { relation: Relation::Incoming, ..Relations::default() };
        let plan = relate(RelationAction::Request, Some(incoming)).unwrap();
        assert_eq!(plan.relations.relation, Relation::Contact);
        assert_eq!(plan.to_peer, Some(ContactEvent::ContactRequestAccepted));
    }

    #[test]
    fn a_block_tells_contacts_only_and_once() {
        let contact = Relations { relation: Relation::Contact, ..Relations::default() };
        let first = relate(RelationAction::Block, Some(contact)).unwrap();
        assert_eq!(first.to_peer, Some(ContactEvent::BlockedByContact));
        assert_eq!(relate(RelationAction::Block, Some(first.relations)).unwrap().to_peer, None);
        assert_eq!(relate(RelationAction::Block, Some(Relations::default())).unwrap().to_peer, None);
    }
}
