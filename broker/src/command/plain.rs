//! Publications in the plain lane, and answers to commands that name a response topic.

use super::{Done, Publisher, Started, done};
use crate::{
    connection::Edge,
    format::Format,
    packet::PublishProperties,
    plain::Routes,
    session::{Command, Outcome},
    topic::{Space, own_prefix},
};
use bytes::Bytes;
use curlew_domain::{
    Error,
    clock::Timestamp,
    ids::ChatId,
    plain::{PlainMessage, PlainProperties, PublishedPlain, Qos},
    services::plain::{Plain, Publication},
};
use futures_util::{FutureExt, future::ready};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// What a PUBLISH says, as the plain lane keeps it. `topic`: in full. Its expiry is counted from `now`.
pub fn plain_message(
    space: &Space,
    topic: String,
    (payload, qos, retain): (Bytes, Qos, bool),
    properties: &PublishProperties,
    now: Timestamp,
) -> PlainMessage {
    let PublishProperties {
        payload_is_utf8,
        message_expiry,
        response_topic,
        correlation_data,
        user_properties,
        content_type,
        ..
    } = properties.clone();
    PlainMessage {
        topic,
        payload,
        qos,
        retain,
        properties: PlainProperties {
            payload_is_utf8,
            content_type,
            response_topic: response_topic.map(|topic| space.expand(&topic).into_owned()),
            correlation_data,
            user_properties,
        },
        expires_at: message_expiry.map(|secs| now.plus(Duration::from_secs(secs.into()))),
    }
}

fn message_of(edge: &Edge, publisher: &Publisher, command: &Command, topic: String) -> PlainMessage {
    let Command { payload, qos, retain, properties, .. } = command;
    let body = (payload.clone(), *qos, *retain);
    plain_message(&publisher.space, topic, body, properties, edge.clock.now())
}

/// A publication in the user's own lane. What must be kept is stored before it is acknowledged and passed on; everything
/// else is passed on at once.
pub(super) async fn publish(edge: &Edge, publisher: &Publisher, command: &Command, topic: String) -> Started {
    let plain = Arc::clone(&edge.services.plain);
    let message = Arc::new(message_of(edge, publisher, command, topic));
    Plain::check(&message)?;
    let lane = &publisher.lane;
    lane.load(&plain).await?;
    let retaining = if message.retain { Some(Arc::clone(&lane.retaining).read_owned().await) } else { None };
    let Routes { queue, live } = lane.route(&message, Some(publisher.session));
    let exchange =
        (message.qos == Qos::ExactlyOnce && publisher.lasting).then_some(command.packet_id).flatten();
    let received = exchange.map(|id| (publisher.session, id.get()));
    let keeps = message.retain || !queue.is_empty() || received.is_some();
    if !keeps && publisher.storing.load(Ordering::Acquire) == 0 {
        lane.pass_on(&message, live);
        return Ok(ready(Ok::<Done, Error>((done(Vec::new()), None))).boxed());
    }
    let recorded = received.is_some();
    let publication = Publication { message, queue, live, received, will: None };
    let storing = Storing::begin(&publisher.storing);
    let commit = plain.publish(lane.user(), publication).await?;
    let published = async move {
        let _: PublishedPlain = commit.await?;
        drop((retaining, storing));
        Ok((Outcome::Done { properties: Vec::new(), recorded }, None))
    };
    Ok(published.boxed())
}

/// A publication that is being stored.
struct Storing(Arc<AtomicUsize>);

impl Storing {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(count))
    }
}

impl Drop for Storing {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A publication to those who are in the chat now.
pub(super) async fn signal(
    edge: &Edge,
    publisher: &Publisher,
    command: &Command,
    chat: ChatId,
    topic: String,
) -> Started {
    let message = PlainMessage { retain: false, ..message_of(edge, publisher, command, topic) };
    Plain::check(&message)?;
    edge.services.plain.may_signal(publisher.user, chat).await?;
    edge.registry.signal(chat, &Arc::new(message), publisher.session);
    Ok(ready(Ok::<Done, Error>((done(Vec::new()), None))).boxed())
}

/// Where the result of a command goes.
pub(super) struct Reply {
    topic: String,
    correlation_data: Option<Bytes>,
    qos: Qos,
}

/// Where the publisher wants the whole result of a command (MQTT 5, section 4.10): in their own plain lane or nowhere.
pub(super) fn reply_to(publisher: &Publisher, command: &Command) -> Option<Reply> {
    let topic = command.properties.response_topic.as_ref()?;
    let topic = publisher.space.expand(topic).into_owned();
    let own = topic.starts_with(&own_prefix(publisher.user)) && !publisher.space.is_mounted();
    let correlation_data = command.properties.correlation_data.clone();
    own.then_some(Reply { topic, correlation_data, qos: command.qos.min(Qos::AtLeastOnce) })
}

impl Reply {
    /// The result, or the refusal, in the format of the publisher; nothing for what may pass, which is not answered either.
    pub(super) fn with(
        self,
        format: Format,
        outcome: &Outcome,
        result: Option<Value>,
    ) -> Option<PlainMessage> {
        let value = match outcome {
            Outcome::Done { .. } => result.unwrap_or_else(|| json!({})),
            Outcome::Refused { code, detail, local_id, .. } => {
                json!({ "code": code.as_str(), "detail": detail, "localId": local_id })
            }
            Outcome::TryLater => return None,
        };
        let Self { topic, correlation_data, qos } = self;
        Some(PlainMessage {
            topic,
            payload: format.encode_value(&value),
            qos,
            retain: false,
            properties: PlainProperties {
                payload_is_utf8: format.is_text(),
                content_type: Some(format.content_type().to_owned()),
                correlation_data,
                ..PlainProperties::default()
            },
            expires_at: None,
        })
    }
}
