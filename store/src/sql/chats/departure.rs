//! The stays of users whose accounts are deleted.

use super::members::end_stays;
use crate::{
    sql::{
        statement::statements,
        value::args,
        writer::{Place, Scope, Write},
    },
    trouble::Failed,
};
use async_trait::async_trait;
use curlew_domain::{
    chat::ChatKind,
    ports::store::{ChangeMembers, EndDeletedStay},
    rules::{MembershipChange, MembershipLimits},
};
use uuid::Uuid;

statements! {
    LOCK_CHAT_LEFT = ["SELECT c.kind, c.last_seq FROM chats c WHERE c.id = $1" lock(c)];
    FIND_DELETED_STAY = ["SELECT m.joined_seq FROM memberships m JOIN users u ON u.id = m.user_id
        WHERE m.chat_id = $1 AND m.user_id = $2 AND m.left_seq IS NULL AND u.deleted_at IS NOT NULL"];
}

/// Leaving asks for no limit.
const NO_LIMITS: MembershipLimits = MembershipLimits { group_members: u32::MAX, require_contact: false };

#[async_trait]
impl Write for EndDeletedStay {
    type Answer = ();
    const PLACE: Place = Place::InTurn;

    fn key(&self) -> Uuid {
        self.chat.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<(), Failed> {
        let Self { chat, user, row, at } = *self;
        let Some(locked) = scope.tx.find(&LOCK_CHAT_LEFT, args![chat]).await? else { return Ok(()) };
        if scope.tx.find(&FIND_DELETED_STAY, args![chat, user]).await?.is_none() {
            return Ok(());
        }
        match locked.named(0, ChatKind::parse)? {
            ChatKind::Private => end_stays(scope.tx, chat, locked.seq(1)?, &[user]).await?,
            ChatKind::Group => {
                let change = MembershipChange::Leave;
                let leave = ChangeMembers { chat, actor: user, change, row, limits: NO_LIMITS, at };
                leave.apply(scope).await?;
            }
        }
        Ok(())
    }
}
