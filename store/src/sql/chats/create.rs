//! New chats.

use super::members::{begin_stays, find_targets};
use crate::{
    sql::{
        contacts::{find_pair_chat, pair_of},
        log::{NewRow, append_personal, insert_rows, lock_users},
        statement::statements,
        transaction::Tx,
        value::args,
        writer::{Place, Scope, Write},
    },
    trouble::Failed,
};
use async_trait::async_trait;
use curlew_domain::{
    Refusal,
    chat::{ChatKind, HistoryVisible, Role},
    ids::{ChatId, Stream, UserId},
    message::{Entry, LocalId, LogRow, MembersChanged},
    ports::{
        relay::Committed,
        store::{NewGroup, NewPrivateChat},
    },
    rules::{MembershipLimits, may_open_chat, visible_from},
};
use std::sync::Arc;
use uuid::Uuid;

statements! {
    INSERT_CHAT = ["INSERT INTO chats (id, kind, low, high, name, history_visible, created_by, local_id, created_at, last_seq, last_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $9)"];
    FIND_CHAT_BY_LOCAL_ID = ["SELECT c.id FROM chats c WHERE c.created_by = $1 AND c.local_id = $2"];
}

/// Asks the rules whether the creator may open a chat with these.
async fn judge(
    tx: &mut Tx,
    kind: ChatKind,
    chat: ChatId,
    creator: UserId,
    others: &[UserId],
    limits: MembershipLimits,
) -> Result<(), Failed> {
    let targets = find_targets(tx, chat, creator, others).await?;
    Ok(may_open_chat(kind, &targets, limits)?)
}

#[async_trait]
impl Write for NewPrivateChat {
    type Answer = (ChatId, bool);
    const PLACE: Place = Place::InTurn;

    fn key(&self) -> Uuid {
        pair_of(self.creator, self.peer).0.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Self::Answer, Failed> {
        let Self { id, creator, peer, limits, at } = *self;
        if creator == peer {
            return Err(Refusal::not_found("user").into());
        }
        // The users' locks make the second of two creators find the chat of the first.
        lock_users(scope.tx, &[creator, peer]).await?;
        if let Some(existing) = find_pair_chat(scope.tx, creator, peer).await? {
            return Ok((existing, false));
        }
        judge(scope.tx, ChatKind::Private, id, creator, &[peer], limits).await?;
        let (low, high) = pair_of(creator, peer);
        scope
            .tx
            .execute(
                &INSERT_CHAT,
                args![
                    id,
                    ChatKind::Private.as_str(),
                    Some(low.uuid()),
                    Some(high.uuid()),
                    None::<&str>,
                    HistoryVisible::All.as_str(),
                    creator,
                    None::<&str>,
                    at,
                    0_i64
                ],
            )
            .await?;
        begin_stays(scope.tx, id, 0, 1, &[(creator, Role::Member), (peer, Role::Member)]).await?;
        let entered = |user| (user, Entry::NewChat { chat: id, joined_seq: 0 });
        append_personal(scope, creator, at, vec![entered(creator), entered(peer)]).await?;
        Ok((id, true))
    }
}

#[async_trait]
impl Write for NewGroup {
    type Answer = (ChatId, bool);
    const PLACE: Place = Place::InTurn;

    fn key(&self) -> Uuid {
        self.creator.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Self::Answer, Failed> {
        let (id, creator, at) = (self.id, self.creator, self.at);
        let founders: Vec<UserId> = std::iter::once(creator).chain(self.members.iter().copied()).collect();
        // The creator's lock makes a second founding under one `localId` find the first.
        lock_users(scope.tx, &founders).await?;
        if let Some(local) = &self.local_id {
            let found = scope.tx.find(&FIND_CHAT_BY_LOCAL_ID, args![creator, local.as_str()]).await?;
            if let Some(row) = found {
                return Ok((row.id(0)?, false));
            }
        }
        judge(scope.tx, ChatKind::Group, id, creator, &self.members, self.limits).await?;
        self.insert(scope.tx).await?;
        let role = |user| if user == creator { Role::Owner } else { Role::Member };
        let roles: Vec<(UserId, Role)> = founders.iter().map(|user| (*user, role(*user))).collect();
        begin_stays(scope.tx, id, 1, visible_from(self.history_visible, 1), &roles).await?;
        let entered = founders.iter().map(|user| (*user, Entry::NewChat { chat: id, joined_seq: 1 }));
        append_personal(scope, creator, at, entered.collect()).await?;
        let change =
            MembersChanged { added: founders, removed: Vec::new(), roles: roles.into_iter().collect() };
        let first = LogRow {
            stream: Stream::Chat(id),
            seq: 1,
            id: self.row,
            sender: creator,
            at,
            local_id: None,
            entry: Entry::MembersChanged(change),
        };
        insert_rows(scope.tx, &[NewRow::from(&first)]).await?;
        scope.committed.push(Committed::Row(Arc::new(first)));
        Ok((id, true))
    }
}

/// The chat's own row.
trait InsertGroup {
    async fn insert(&self, tx: &mut Tx) -> Result<(), sqlx::Error>;
}

impl InsertGroup for NewGroup {
    async fn insert(&self, tx: &mut Tx) -> Result<(), sqlx::Error> {
        tx.execute(
            &INSERT_CHAT,
            args![
                self.id,
                ChatKind::Group.as_str(),
                None::<Uuid>,
                None::<Uuid>,
                Some(self.name.as_str()),
                self.history_visible.as_str(),
                self.creator,
                self.local_id.as_ref().map(LocalId::as_str),
                self.at,
                1_i64
            ],
        )
        .await
        .map(drop)
    }
}
