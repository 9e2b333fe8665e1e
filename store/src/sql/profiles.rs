//! The port `Profiles`: what users change about themselves. The end of an account is in [`super::deletion`].

use super::{
    SqlStore, deletion,
    log::{append_personal, lock_users},
    logins::end_other_sign_ins,
    read,
    statement::{Sql, statements},
    transaction::Tx,
    users::find_user,
    value::args,
    writer::{Place, Scope, Write},
};
use crate::trouble::Failed;
use async_trait::async_trait;
use curlew_domain::{
    ErrorCode, Refusal, Result,
    account::{Privacy, PrivacyChange, User, Visibility, invalid_credentials},
    contact::{Relation, search_key},
    ids::{LoginId, UserId},
    message::Entry,
    ports::{
        relay::Committed,
        store::{DeleteUser, EndDeletedStay, Profiles, UpdatePassword, UpdateProfile},
    },
};
use std::collections::BTreeSet;
use uuid::Uuid;

statements! {
    FIND_HASH = ["SELECT u.password_hash FROM users u WHERE u.id = $1 AND u.deleted_at IS NULL"];
    SET_HASH = ["UPDATE users SET password_hash = $2 WHERE id = $1"];
    SET_PROFILE = ["UPDATE users SET display_name = $2, about = $3, email = $4, phone = $5, search_name = $6 WHERE id = $1"];
    SET_PRIVACY = ["UPDATE users SET last_seen_to_at = CASE WHEN last_seen_to = $2 THEN last_seen_to_at ELSE $5 END,
            last_seen_to = $2, picture_to = $3, read_receipts_to = $4 WHERE id = $1"];
    // In private chats what is shown stands still on the reader's side.
    SEE_FROM_NOW_ON = ["UPDATE memberships SET unseen_read_seq = COALESCE(left_seq, (SELECT c.last_seq FROM chats c WHERE c.id = memberships.chat_id))
        WHERE user_id = $1 AND EXISTS (SELECT 1 FROM chats g WHERE g.id = memberships.chat_id AND g.kind = 'group')"];
    LIST_CONTACTS_UNBLOCKED = ["SELECT r.peer_id, r.relation FROM relations r
        WHERE r.user_id = $1 AND r.relation = 'contact' AND r.blocks = 0 AND NOT EXISTS (SELECT 1 FROM relations b
            WHERE b.user_id = r.peer_id AND b.peer_id = r.user_id AND b.blocks = 1)"];
}

async fn find_hash(tx: &mut Tx, user: UserId) -> Result<Option<String>, sqlx::Error> {
    tx.find(&FIND_HASH, args![user]).await?.map(|row| row.text(0)).transpose()
}

/// Refuses when the hash that a password was held against is not the user's any more. Their user must be locked.
pub(super) async fn require_hash(tx: &mut Tx, user: UserId, verified: &str) -> Result<(), Failed> {
    if find_hash(tx, user).await?.as_deref() == Some(verified) {
        return Ok(());
    }
    Err(invalid_credentials().into())
}

/// The user, not deleted, under lock.
async fn require_user(tx: &mut Tx, user: UserId) -> Result<User, Failed> {
    let found = find_user(tx, user).await?.filter(|user| !user.deleted);
    Ok(found.ok_or_else(|| Refusal::new(ErrorCode::Unauthenticated, "the account was deleted"))?)
}

/// Locks a user and those whom `list` names: the other and the relation. Whoever comes to it between the two statements
/// would not be locked: then the transaction is tried again.
pub(super) async fn lock_with_peers(
    tx: &mut Tx,
    user: UserId,
    list: &Sql,
) -> Result<Vec<(UserId, Relation)>, sqlx::Error> {
    let seen: BTreeSet<UserId> =
        list_peers(tx, user, list).await?.into_iter().map(|(peer, _)| peer).collect();
    let all: Vec<UserId> = seen.iter().copied().chain([user]).collect();
    lock_users(tx, &all).await?;
    let present = list_peers(tx, user, list).await?;
    if present.iter().any(|(peer, _)| !seen.contains(peer)) {
        return Err(sqlx::Error::Io(std::io::Error::other("a relation was being made")));
    }
    Ok(present)
}

async fn list_peers(tx: &mut Tx, user: UserId, list: &Sql) -> Result<Vec<(UserId, Relation)>, sqlx::Error> {
    let rows = tx.fetch(list, args![user]).await?;
    rows.iter().map(|row| Ok((row.id(0)?, row.named(1, Relation::parse)?))).collect()
}

#[async_trait]
impl Write for UpdateProfile {
    type Answer = User;
    const PLACE: Place = Place::InTurn;

    fn key(&self) -> Uuid {
        self.user.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<User, Failed> {
        let Self { user, change, at } = self;
        let user = *user;
        let contacts = lock_with_peers(scope.tx, user, &LIST_CONTACTS_UNBLOCKED).await?;
        let before = require_user(scope.tx, user).await?;
        let mut after = before.clone();
        after.display_name = change.display_name.clone().unwrap_or(after.display_name);
        after.about = change.about.clone().unwrap_or(after.about);
        after.email = change.email.clone().unwrap_or(after.email);
        after.phone = change.phone.clone().unwrap_or(after.phone);
        let User { display_name, about, email, phone, .. } = &after;
        let args = args![
            user,
            display_name.as_str(),
            about.as_str(),
            email.as_deref(),
            phone.as_deref(),
            search_key(display_name)
        ];
        scope.tx.execute(&SET_PROFILE, args).await?;
        if (display_name, about) != (&before.display_name, &before.about) {
            let told = contacts.into_iter().map(|(peer, _)| peer).chain([user]);
            let entries = told.map(|reader| (reader, Entry::ProfileUpdated(user))).collect();
            append_personal(scope, user, *at, entries).await?;
        }
        Ok(after)
    }
}

#[async_trait]
impl Write for UpdatePassword {
    type Answer = Vec<LoginId>;
    const PLACE: Place = Place::InTurn;

    fn key(&self) -> Uuid {
        self.user.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Vec<LoginId>, Failed> {
        lock_users(scope.tx, &[self.user]).await?;
        require_hash(scope.tx, self.user, &self.verified).await?;
        scope.tx.execute(&SET_HASH, args![self.user, self.password_hash.as_str()]).await?;
        Ok(end_other_sign_ins(scope, self.user, self.keep, self.at).await?)
    }
}

struct UpdatePrivacy {
    user: UserId,
    change: PrivacyChange,
}

#[async_trait]
impl Write for UpdatePrivacy {
    type Answer = Privacy;
    const PLACE: Place = Place::Accounts;

    fn key(&self) -> Uuid {
        self.user.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Privacy, Failed> {
        lock_users(scope.tx, &[self.user]).await?;
        let before = require_user(scope.tx, self.user).await?.privacy;
        let privacy = before.with(self.change);
        let Privacy { last_seen, picture, read_receipts } = privacy;
        let now = scope.process.clock.now();
        let args = args![self.user, last_seen.as_str(), picture.as_str(), read_receipts.as_str(), now];
        scope.tx.execute(&SET_PRIVACY, args).await?;
        if before.read_receipts == Visibility::Nobody && read_receipts != Visibility::Nobody {
            scope.tx.execute(&SEE_FROM_NOW_ON, args![self.user]).await?;
        }
        if before.last_seen != last_seen {
            scope.committed.push(Committed::VisibilityChanged(vec![self.user]));
        }
        Ok(privacy)
    }
}

#[async_trait]
impl Profiles for SqlStore {
    async fn find_password_hash(&self, user: UserId) -> Result<Option<String>> {
        read!(self, single | tx | find_hash(tx, user).await?)
    }

    async fn update_profile(&self, update: UpdateProfile) -> Result<User> {
        self.writer.write(update).await
    }

    async fn update_password(&self, update: UpdatePassword) -> Result<Vec<LoginId>> {
        self.writer.write(update).await
    }

    async fn update_privacy(&self, user: UserId, change: PrivacyChange) -> Result<Privacy> {
        self.writer.write(UpdatePrivacy { user, change }).await
    }

    async fn delete_user(&self, delete: DeleteUser) -> Result<Vec<LoginId>> {
        self.writer.write(delete).await
    }

    async fn list_departing(&self, limit: u32) -> Result<Vec<UserId>> {
        read!(self, single | tx | deletion::list_departing(tx, limit).await?)
    }

    async fn end_deleted_stay(&self, end: EndDeletedStay) -> Result<()> {
        self.writer.write(end).await
    }

    async fn forget_departing(&self, user: UserId) -> Result<()> {
        self.writer.write(deletion::ForgetDeparting { user }).await
    }
}
