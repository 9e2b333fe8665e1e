//! A publication of which something must be kept.

use super::{
    queue::{enter_queues, insert_queued, trim_queue},
    retained::retain,
};
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
    plain::{PlainDelivery, PublishPlain, PublishedPlain},
    ports::relay::Committed,
};
use std::sync::Arc;
use uuid::Uuid;

statements! {
    TAKE_WILL = ["DELETE FROM wills WHERE id = $1"];
    FIND_RECEIVED = ["SELECT p.packet_id FROM plain_received p WHERE p.session_id = $1 AND p.packet_id = $2"];
    // A session that is gone has nothing to be recorded for.
    NOTE_RECEIVED = ["INSERT INTO plain_received (session_id, packet_id)
        SELECT s.id, CAST($2 AS BIGINT) FROM sessions s WHERE s.id = $1" hold(s)];
}

#[async_trait]
impl Write for PublishPlain {
    type Answer = PublishedPlain;
    const PLACE: Place = Place::Sessions;

    /// One user's publications share a lane, so that they commit in order.
    fn key(&self) -> Uuid {
        self.user.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<PublishedPlain, Failed> {
        if !self.is_fresh(scope).await? {
            return Ok(PublishedPlain::Before);
        }
        if self.retain {
            retain(scope.tx, self.user, &self.message, self.at).await?;
        }
        if let Some(will) = self.will {
            scope.tx.execute(&TAKE_WILL, args![will]).await?;
        }
        if let Some((session, packet_id)) = self.received {
            scope.tx.execute(&NOTE_RECEIVED, args![session, u32::from(packet_id)]).await?;
        }
        let delivery = self.enter(scope).await?;
        if !(delivery.queued.is_empty() && delivery.live.is_empty() && delivery.gone.is_empty()) {
            scope.committed.push(Committed::Plain(Arc::new(delivery)));
        }
        Ok(PublishedPlain::Now)
    }
}

/// Parts of publishing.
trait Publishing {
    async fn is_fresh(&self, scope: &mut Scope<'_>) -> Result<bool, sqlx::Error>;
    async fn enter(&self, scope: &mut Scope<'_>) -> Result<PlainDelivery, sqlx::Error>;
}

impl Publishing for PublishPlain {
    /// Whether it was not published before. Writes nothing, since it may be refused yet.
    async fn is_fresh(&self, scope: &mut Scope<'_>) -> Result<bool, sqlx::Error> {
        if let Some(will) = self.will
            && !super::wills::is_due(scope.tx, will, self.at).await?
        {
            return Ok(false);
        }
        if let Some((session, packet_id)) = self.received {
            let known = scope.tx.find(&FIND_RECEIVED, args![session, u32::from(packet_id)]).await?;
            return Ok(known.is_none());
        }
        Ok(true)
    }

    /// Puts it into every queue.
    async fn enter(&self, scope: &mut Scope<'_>) -> Result<PlainDelivery, sqlx::Error> {
        let mut delivery = PlainDelivery {
            user: self.user,
            message: Arc::clone(&self.message),
            queued: Vec::new(),
            live: self.live.clone(),
            gone: Vec::new(),
        };
        if self.queue.is_empty() || self.message.is_expired(self.at) {
            return Ok(delivery);
        }
        let mut queues = enter_queues(scope.tx, &self.queue, self.message.size()).await?;
        for recipient in &self.queue {
            match queues.get_mut(&recipient.session) {
                Some(queue) => delivery.queued.push((recipient.clone(), queue.take())),
                None => delivery.gone.push(recipient.session),
            }
        }
        if !delivery.queued.is_empty() {
            insert_queued(scope.tx, &delivery.queued, &self.message).await?;
        }
        for queue in queues.into_values() {
            trim_queue(scope.tx, queue).await?;
        }
        Ok(delivery)
    }
}
