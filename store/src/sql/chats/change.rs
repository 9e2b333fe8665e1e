//! Changes of a group's members.

use super::{
    lock::{LockedChat, publish},
    members::{begin_stays, end_stays, find_targets, set_role},
};
use crate::{
    sql::{
        log::{append_personal, lock_users},
        messages::append::standing,
        statement::statements,
        transaction::Tx,
        value::args,
        writer::{Place, Scope, Write},
    },
    trouble::Failed,
};
use async_trait::async_trait;
use curlew_domain::{
    chat::{ChatKind, LeaveReason, Role},
    ids::{ChatId, Seq, UserId},
    message::{Entry, LogRow, MembersChanged},
    ports::store::ChangeMembers,
    rules::{self, MembershipChange, MembershipFacts, MembershipPlan},
};
use uuid::Uuid;

statements! {
    FIND_ROLE = ["SELECT MAX(CASE WHEN m.left_seq IS NULL THEN m.role END) FROM memberships m
        WHERE m.chat_id = $1 AND m.user_id = $2 HAVING COUNT(*) > 0"];
    COUNT_MEMBERS = ["SELECT COUNT(*), COUNT(CASE WHEN m.role = 'owner' THEN 1 END) FROM memberships m
        WHERE m.chat_id = $1 AND m.left_seq IS NULL"];
    FIND_HEIR = ["SELECT m.user_id FROM memberships m WHERE m.chat_id = $1 AND m.user_id <> $2 AND m.left_seq IS NULL
        ORDER BY CASE m.role WHEN 'admin' THEN 0 ELSE 1 END, m.joined_seq, m.user_id LIMIT 1"];
}

/// Whom a change names.
fn named(change: &MembershipChange) -> &[UserId] {
    match change {
        MembershipChange::Add(users) => users,
        MembershipChange::Remove(user) | MembershipChange::SetRole(user, _) => std::slice::from_ref(user),
        MembershipChange::Leave => &[],
    }
}

#[async_trait]
impl Write for ChangeMembers {
    type Answer = Option<LogRow>;
    const PLACE: Place = Place::InTurn;

    fn key(&self) -> Uuid {
        self.chat.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Self::Answer, Failed> {
        let Some(group) = LockedChat::lock(scope.tx, self.chat, self.actor).await? else {
            rules::change_members(&self.change, None, self.limits)?;
            return Ok(None);
        };
        let concerned: Vec<UserId> =
            std::iter::once(self.actor).chain(named(&self.change).iter().copied()).collect();
        lock_users(scope.tx, &concerned).await?;
        let facts = find_facts(scope.tx, self, group.kind).await?;
        let plan = rules::change_members(&self.change, Some(&facts), self.limits)?;
        if plan.change == MembersChanged::default() {
            return Ok(None);
        }
        let entry = Entry::MembersChanged(plan.change.clone());
        let row = group.append(scope.tx, self.row, self.actor, self.at, entry).await?;
        move_members(scope.tx, self.chat, &group, row.seq, &plan.change).await?;
        append_personal(scope, self.actor, self.at, personal_entries(self.chat, row.seq, plan)).await?;
        publish(scope, row.clone());
        Ok(Some(row))
    }
}

async fn find_facts(
    tx: &mut Tx,
    wish: &ChangeMembers,
    kind: ChatKind,
) -> Result<MembershipFacts, sqlx::Error> {
    let (chat, actor) = (wish.chat, wish.actor);
    let role = tx.find(&FIND_ROLE, args![chat, actor]).await?;
    let standing = match role {
        Some(row) => standing(row.named_or_null(0, Role::parse)?, true),
        None => standing(None, false),
    };
    let counts = tx.find(&COUNT_MEMBERS, args![chat]).await?.ok_or(sqlx::Error::RowNotFound)?;
    let leaver = match wish.change {
        MembershipChange::Remove(user) => user,
        MembershipChange::Add(_) | MembershipChange::SetRole(..) | MembershipChange::Leave => actor,
    };
    let heir = tx.find(&FIND_HEIR, args![chat, leaver]).await?;
    Ok(MembershipFacts {
        kind,
        actor,
        standing,
        targets: find_targets(tx, chat, actor, named(&wish.change)).await?,
        members: counts.count(0)?,
        owners: counts.count(1)?,
        heir: heir.map(|row| row.id(0)).transpose()?,
    })
}

async fn move_members(
    tx: &mut Tx,
    chat: ChatId,
    group: &LockedChat,
    seq: Seq,
    change: &MembersChanged,
) -> Result<(), sqlx::Error> {
    if !change.removed.is_empty() {
        end_stays(tx, chat, seq, &change.removed).await?;
    }
    let role = |user: &UserId| change.roles.get(user).copied().unwrap_or(Role::Member);
    let added: Vec<(UserId, Role)> = change.added.iter().map(|user| (*user, role(user))).collect();
    if !added.is_empty() {
        begin_stays(tx, chat, seq, rules::visible_from(group.history_visible, seq), &added).await?;
    }
    for (user, role) in change.roles.iter().filter(|(user, _)| !change.added.contains(user)) {
        set_role(tx, chat, *user, *role).await?;
    }
    Ok(())
}

fn personal_entries(chat: ChatId, seq: Seq, plan: MembershipPlan) -> Vec<(UserId, Entry)> {
    let reason = plan.reason.unwrap_or(LeaveReason::Removed);
    let entered = |user| (user, Entry::NewChat { chat, joined_seq: seq });
    let left = |user| (user, Entry::ChatLeft { chat, left_seq: seq, reason });
    plan.change.added.into_iter().map(entered).chain(plan.change.removed.into_iter().map(left)).collect()
}
