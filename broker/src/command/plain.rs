//! Publications in the plain lane, and answers to commands that name a response topic.

use super::{Done, Ended, Passing, Publisher, Started, done};
use crate::{
    connection::Edge,
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
use std::{sync::Arc, time::Duration};

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
/// else is passed on when its turn comes.
pub(super) async fn publish(edge: &Edge, publisher: &Publisher, command: &Command, topic: String) -> Started {
    let plain = Arc::clone(&edge.services.plain);
    let message = Arc::new(message_of(edge, publisher, command, topic));
    Plain::check(&message)?;
    let lane = &publisher.lane;
    lane.load(&plain).await?;
    let retaining = match message.retain {
        true => Some(Arc::clone(&lane.retaining).read_owned().await),
        false => None,
    };
    let Routes { queue, live } = lane.route(&message, Some(publisher.session));
    let exchange =
        (message.qos == Qos::ExactlyOnce && publisher.lasting).then_some(command.packet_id).flatten();
    let received = exchange.map(|id| (publisher.session, id.get()));
    if !message.retain && queue.is_empty() && received.is_none() {
        let ended = Ended { passing: Some(Passing::Own(message)), ..done(Vec::new()) };
        return Ok(ready(Ok::<Done, Error>((ended, None))).boxed());
    }
    let recorded = received.is_some();
    let publication = Publication { message, queue, live, received, will: None };
    let commit = plain.publish(lane.user(), publication).await?;
    let published = async move {
        let _: PublishedPlain = commit.await?;
        drop(retaining);
        Ok((Outcome::Done { properties: Vec::new(), recorded }.into(), None))
    };
    Ok(published.boxed())
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
    let ended = Ended { passing: Some(Passing::Signal(chat, Arc::new(message))), ..done(Vec::new()) };
    Ok(ready(Ok::<Done, Error>((ended, None))).boxed())
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
    /// The result, or the refusal; nothing for what may pass, which is not answered either.
    pub(super) fn with(self, outcome: &Outcome, result: Option<Value>) -> Option<Passing> {
        let value = match outcome {
            Outcome::Done { .. } => result.unwrap_or_else(|| json!({})),
            Outcome::Refused { code, detail, local_id, .. } => {
                json!({ "code": code.as_str(), "detail": detail, "localId": local_id })
            }
            Outcome::TryLater => return None,
        };
        let Self { topic, correlation_data, qos } = self;
        let message = PlainMessage {
            topic,
            payload: value.to_string().into(),
            qos,
            retain: false,
            properties: PlainProperties {
                payload_is_utf8: true,
                content_type: Some("application/json".to_owned()),
                correlation_data,
                ..PlainProperties::default()
            },
            expires_at: None,
        };
        Some(Passing::Own(Arc::new(message)))
    }
}
