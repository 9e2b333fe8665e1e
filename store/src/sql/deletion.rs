//! The end of an account. Its stays end afterwards, each in the order of its chat's log: see [`super::chats::departure`].

use super::{
    log::append_personal,
    logins::publish_ended,
    profiles::{lock_with_peers, require_hash},
    statement::statements,
    transaction::Tx,
    users::find_user,
    value::{Table, args},
    writer::{Place, Scope, Write},
};
use crate::trouble::Failed;
use async_trait::async_trait;
use curlew_domain::{
    account::invalid_credentials,
    contact::Relation,
    ids::{LoginId, UserId},
    message::{ContactEvent, Entry},
    ports::{relay::Committed, store::DeleteUser},
};
use uuid::Uuid;

statements! {
    LIST_RELATIONS = ["SELECT r.peer_id, r.relation FROM relations r WHERE r.user_id = $1"];
    FORGET_RELATIONS = ["DELETE FROM relations WHERE user_id = $1"];
    FORGET_MIRRORED = ["WITH r AS MATERIALIZED " rows(1: usr id) "
        DELETE FROM relations WHERE peer_id = $2 AND user_id IN (SELECT usr FROM r)"];
    RESERVE_NAME = ["INSERT INTO reserved_usernames (username, until) VALUES ($1, $2)
        ON CONFLICT (username) DO UPDATE SET until = excluded.until"];
    EMPTY_USER = ["UPDATE users SET deleted_at = $2, username = $3, display_name = 'Deleted user', about = '', email = NULL,
            phone = NULL, password_hash = '', last_seen_to = 'everyone', picture_to = 'everyone', read_receipts_to = 'everyone',
            search_name = '', last_seen_at = NULL WHERE id = $1"];
    END_ALL_LOGINS = ["UPDATE logins SET ended_at = $2 WHERE user_id = $1 AND ended_at IS NULL RETURNING id"];
    TAKE_DEVICES = ["SELECT d.id FROM devices d WHERE d.user_id = $1 AND d.removed_at IS NULL ORDER BY d.id" take(d)];
    REMOVE_DEVICES = ["UPDATE devices SET removed_at = $2 WHERE user_id = $1 AND removed_at IS NULL"];
    FORGET_SESSIONS = ["DELETE FROM sessions WHERE user_id = $1"];
    FORGET_WILLS = ["DELETE FROM wills WHERE user_id = $1"];
    FORGET_RETAINED = ["DELETE FROM plain_retained WHERE user_id = $1"];
    ADD_DEPARTING = ["INSERT INTO departing (user_id) VALUES ($1)"];
    LIST_DEPARTING = ["SELECT d.user_id FROM departing d ORDER BY d.user_id LIMIT $1"];
    FORGET_DEPARTING = ["DELETE FROM departing WHERE user_id = $1
        AND NOT EXISTS (SELECT 1 FROM memberships m WHERE m.user_id = $1 AND m.left_seq IS NULL)"];
}

pub(super) async fn list_departing(tx: &mut Tx, limit: u32) -> Result<Vec<UserId>, sqlx::Error> {
    tx.fetch(&LIST_DEPARTING, args![limit]).await?.iter().map(|row| row.id(0)).collect()
}

#[async_trait]
impl Write for DeleteUser {
    type Answer = Vec<LoginId>;
    const PLACE: Place = Place::InTurn;

    fn key(&self) -> Uuid {
        self.user.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Vec<LoginId>, Failed> {
        let Self { user, at, .. } = *self;
        let relations = lock_with_peers(scope.tx, user, &LIST_RELATIONS).await?;
        require_hash(scope.tx, user, &self.verified).await?;
        let before = find_user(scope.tx, user).await?.ok_or_else(invalid_credentials)?;
        let name = before.username.as_str();
        scope.tx.execute(&RESERVE_NAME, args![name, self.reserved_until]).await?;
        scope.tx.execute(&EMPTY_USER, args![user, at, self.alias.as_str()]).await?;
        let ended = forget_devices(scope, self).await?;
        part(scope, self, &relations).await?;
        scope.tx.execute(&ADD_DEPARTING, args![user]).await?;
        Ok(ended)
    }
}

/// Logins, devices, sessions, and what the plain lane keeps. No will is published any more.
async fn forget_devices(scope: &mut Scope<'_>, delete: &DeleteUser) -> Result<Vec<LoginId>, sqlx::Error> {
    let DeleteUser { user, at, .. } = *delete;
    let tx = &mut *scope.tx;
    let ended = tx.fetch(&END_ALL_LOGINS, args![user, at]).await?;
    // A session that is being opened is there afterwards, and forgotten, or finds its device removed.
    tx.fetch(&TAKE_DEVICES, args![user]).await?;
    tx.execute(&REMOVE_DEVICES, args![user, at]).await?;
    for forget in [&FORGET_SESSIONS, &FORGET_WILLS, &FORGET_RETAINED] {
        tx.execute(forget, args![user]).await?;
    }
    publish_ended(scope, &ended)
}

/// Ends every relation, and tells those who knew of one.
async fn part(
    scope: &mut Scope<'_>,
    delete: &DeleteUser,
    relations: &[(UserId, Relation)],
) -> Result<(), sqlx::Error> {
    let peers = Table::of_ids(relations.iter().map(|(peer, _)| peer.uuid()));
    scope.tx.execute(&FORGET_RELATIONS, args![delete.user]).await?;
    scope.tx.execute(&FORGET_MIRRORED, args![peers, delete.user]).await?;
    let told = relations.iter().filter_map(|(peer, relation)| {
        let event = match relation {
            Relation::Contact => ContactEvent::ContactRemoved,
            Relation::Incoming | Relation::Outgoing => ContactEvent::ContactRequestRejected,
            Relation::None => return None,
        };
        Some((*peer, Entry::Contact { event, peer: delete.user }))
    });
    let peers = relations.iter().map(|(peer, _)| *peer).collect();
    scope.committed.push(Committed::VisibilityChanged(peers));
    append_personal(scope, delete.user, delete.at, told.collect()).await
}

/// All stays of a deleted user have ended.
pub(super) struct ForgetDeparting {
    pub user: UserId,
}

#[async_trait]
impl Write for ForgetDeparting {
    type Answer = ();
    const PLACE: Place = Place::Accounts;

    fn key(&self) -> Uuid {
        self.user.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<(), Failed> {
        scope.tx.execute(&FORGET_DEPARTING, args![self.user]).await?;
        Ok(())
    }
}
