//! Wills: published when their time has come, whoever ended the session, this process or an earlier one.

use super::Routes;
use crate::connection::Edge;
use curlew_domain::{
    Error, Result,
    plain::{DueWill, PlainMessage},
    services::plain::Publication,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How often it is looked for wills whose delay is over.
const LOOK: Duration = Duration::from_secs(1);

/// Tells that a connection has ended, so that its will is not waited for.
#[derive(Debug, Default)]
pub struct Wills(Notify);

impl Wills {
    /// A will may be due now.
    pub fn look(&self) {
        self.0.notify_one();
    }

    /// Publishes wills as they fall due, until `stop`.
    pub async fn run(&self, edge: &Edge, stop: CancellationToken) {
        loop {
            if let Err(error) = publish_due(edge).await {
                tracing::warn!(%error, "wills could not be published; they are tried again");
            }
            tokio::select! {
                () = self.0.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => return,
            }
        }
    }
}

async fn publish_due(edge: &Edge) -> Result<()> {
    loop {
        let due = edge.services.plain.list_due_wills().await?;
        if due.is_empty() {
            return Ok(());
        }
        for will in due {
            publish(edge, will).await?;
        }
    }
}

/// Publishes a will as the session would have; that it is done is stored in the same transaction.
async fn publish(edge: &Edge, will: DueWill) -> Result<()> {
    let DueWill { id, user, session, message, expiry_secs } = will;
    let now = edge.clock.now();
    let expires_at = expiry_secs.map(|secs| now.plus(Duration::from_secs(secs.into())));
    let message = Arc::new(PlainMessage { expires_at, ..message });
    let lane = edge.registry.lane(user);
    lane.load(&edge.services.plain).await?;
    let _retaining = if message.retain { Some(lane.retaining.read().await) } else { None };
    let Routes { queue, live } = lane.route(&message, Some(session));
    let mut publication = Publication { message, queue, live, received: None, will: Some(id) };
    let published = edge.services.plain.publish(user, publication.clone()).await?.await;
    if let Err(Error::Refused(refusal)) = published {
        tracing::info!(%user, %refusal, "a will is published without being retained");
        publication.message = Arc::new(PlainMessage { retain: false, ..(*publication.message).clone() });
        edge.services.plain.publish(user, publication).await?.await?;
    } else {
        published?;
    }
    Ok(())
}
