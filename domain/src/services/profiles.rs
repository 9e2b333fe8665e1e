//! What users change about themselves: profile, password, privacy, the end of their account.

use super::{Base, accounts::unauthenticated, bcrypt::Bcrypt};
use crate::{
    account::{
        Password, Principal, Privacy, PrivacyChange, ProfileChange, ProfileView, Username,
        invalid_credentials,
    },
    error::{Error, Result},
    ids::UserId,
    ports::store::{DeleteUser, EndDeletedStay, UpdatePassword, UpdateProfile},
};
use std::{sync::Arc, time::Duration};

/// So long nobody gets the name of a deleted user.
const NAME_RESERVED: Duration = Duration::from_hours(30 * 24);
/// Deleted users whose stays are ended in one go.
const DEPARTING: u32 = 100;

/// What users change about themselves.
pub struct Profiles {
    base: Base,
    bcrypt: Arc<Bcrypt>,
}

impl Profiles {
    /// The service.
    pub fn new(base: Base, bcrypt: Arc<Bcrypt>) -> Self {
        Self { base, bcrypt }
    }

    /// Changes the user's own profile. Their devices and their contacts are told of what is public.
    pub async fn update(&self, user: UserId, change: ProfileChange) -> Result<ProfileView> {
        let update = UpdateProfile { user, change, at: self.base.now() };
        Ok(self.base.store.update_profile(update).await?.into())
    }

    /// Replaces the password and ends every other sign-in; device tokens stay (an operator revokes them). When it returns
    /// nothing more is written to the connections concerned, and nobody signs in with the old password.
    pub async fn change_password(&self, asking: &Principal, current: String, new: Password) -> Result<()> {
        let verified = match self.verify(asking.user, current).await {
            // Said again because its answer was lost: the password is the new one already.
            Err(Error::Refused(refusal)) => {
                let repeated = self.verify(asking.user, new.expose().to_owned()).await;
                return repeated.map(drop).map_err(|_| refusal.into());
            }
            verified => verified?,
        };
        let update = UpdatePassword {
            user: asking.user,
            verified,
            password_hash: self.bcrypt.hash(new).await?,
            keep: asking.login,
            at: self.base.now(),
        };
        let ended = self.base.store.update_password(update).await?;
        self.base.relay.end_logins(&ended).await;
        Ok(())
    }

    /// Who sees what of the user.
    pub async fn privacy(&self, user: UserId) -> Result<Privacy> {
        let found = self.base.store.find_user(user).await?.filter(|user| !user.deleted);
        found.map(|user| user.privacy).ok_or_else(unauthenticated)
    }

    /// Changes who sees what of the user.
    pub async fn update_privacy(&self, user: UserId, change: PrivacyChange) -> Result<Privacy> {
        self.base.store.update_privacy(user, change).await
    }

    /// Deletes the account. When it returns nothing more is written to its connections, and no private chat with it takes a
    /// message any more. What the user has sent stays.
    pub async fn delete(&self, asking: &Principal, password: String) -> Result<()> {
        let at = self.base.now();
        let delete = DeleteUser {
            user: asking.user,
            verified: self.verify(asking.user, password).await?,
            alias: self.alias(),
            reserved_until: at.plus(NAME_RESERVED),
            at,
        };
        let ended = self.base.store.delete_user(delete).await?;
        self.base.relay.end_logins(&ended).await;
        // The account is gone, whatever comes of this.
        if let Err(error) = self.depart(asking.user).await {
            tracing::warn!(%error, user = %asking.user, "stays of a deleted user are ended later");
        }
        Ok(())
    }

    /// Ends what stays of deleted users a failure or a crash has left. To be called at the start and now and then.
    pub async fn finish_deletions(&self) -> Result<()> {
        for user in self.base.store.list_departing(DEPARTING).await? {
            // One that cannot be finished keeps no other waiting.
            if let Err(error) = self.depart(user).await {
                tracing::warn!(%error, %user, "stays of a deleted user are ended later");
            }
        }
        Ok(())
    }

    /// Ends the stays of a deleted user, chat by chat.
    async fn depart(&self, user: UserId) -> Result<()> {
        let stays = self.base.store.list_stays(user).await?;
        for stay in stays.into_iter().filter(|stay| stay.left.is_none()) {
            let (row, at) = (self.base.new_id(), self.base.now());
            self.base.store.end_deleted_stay(EndDeletedStay { chat: stay.chat, user, row, at }).await?;
        }
        self.base.store.forget_departing(user).await
    }

    /// The hash that the password was held against. Takes the same time whatever is wrong.
    async fn verify(&self, user: UserId, password: String) -> Result<String> {
        let hash = self.base.store.find_password_hash(user).await?;
        let matches = self.bcrypt.verify(password, hash.clone()).await?;
        Ok(hash.filter(|_| matches).ok_or_else(invalid_credentials)?)
    }

    /// A name that nobody has.
    fn alias(&self) -> Username {
        let mut random = [0; 16];
        self.base.entropy.fill(&mut random);
        // As many digits as a user name has room for.
        Username::stored(format!("deleted.{:024x}", u128::from_be_bytes(random) >> 32))
    }
}
