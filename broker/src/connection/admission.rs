//! CONNECT: who is it, which session, and what it begins with.

use super::Edge;
use crate::{
    alias,
    command::{check_text, plain_message},
    format::Format,
    packet::{ConnAckProperties, Connect, Out, PacketId, Publish, PublishProperties, Reason, Version, Will},
    registry::{Registration, SessionKey},
    session::{MAX_COMMANDS, MAX_EXPIRY_SECS, Start, TOKEN_METHOD},
    topic::{self, Command, Space},
};
use curlew_domain::{
    Error,
    account::Principal,
    chat::StayEnd,
    services::{
        Plain,
        sessions::{SessionWish, WillWish},
    },
    session::{OpenedSession, SessionFence},
};
use std::{borrow::Cow, sync::Arc, time::Instant};

/// Longest client identifier.
const MAX_CLIENT_ID: usize = 512;

/// A CONNECT that was let in.
pub struct Admitted {
    pub principal: Principal,
    pub fence: SessionFence,
    pub version: Version,
    pub registration: Registration,
    pub connack: Out,
    pub start: Start,
    pub stays: Vec<StayEnd>,
}

/// A CONNECT that was not.
pub struct Refused {
    pub reason: Reason,
    pub detail: &'static str,
}

impl Refused {
    const fn new(reason: Reason, detail: &'static str) -> Self {
        Self { reason, detail }
    }

    /// The answer, after which the connection closes.
    pub fn connack(&self) -> Out {
        let reason_string = Some(self.detail.to_owned());
        let properties = Box::new(ConnAckProperties { reason_string, ..ConnAckProperties::default() });
        Out::ConnAck { session_present: false, reason: self.reason, properties }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(_) => {
                Self::new(Reason::BadUserNameOrPassword, "the password is not valid (any more)")
            }
            Error::Unavailable(_) | Error::Internal(_) => {
                tracing::warn!(%error, "CONNECT failed");
                Self::new(Reason::ServerUnavailable, "try again later")
            }
        }
    }
}

/// Lets a client in: authenticate, take the generation, enter the registry (events begin to queue), read what it needs.
/// Registering before reading leaves no window in which an event can be missed.
pub async fn admit(edge: &Arc<Edge>, connect: Connect) -> Result<Box<Admitted>, Refused> {
    let principal = authenticate(edge, &connect).await?;
    let span = tracing::Span::current();
    span.record("user", tracing::field::display(principal.user));
    let (client_id, assigned) = client_id(edge, &connect)?;
    span.record("client_id", client_id.as_str());
    let expiry_secs = match (connect.version, connect.session_expiry) {
        (Version::V3, _) if connect.clean_start => 0,
        (Version::V3, _) => MAX_EXPIRY_SECS,
        (Version::V5, wish) => wish.unwrap_or(0).min(MAX_EXPIRY_SECS),
    };

    let UserName { mount, format, .. } = user_name(&connect)?;
    let space = Space::mounted(principal.user, &mount)
        .map_err(|_| Refused::new(Reason::BadUserNameOrPassword, "`mount` is not `x` or below `x/`"))?;
    let will = connect.will.as_ref().map(|will| testament(edge, &space, will)).transpose()?;
    let key = SessionKey { device: principal.device, client_id: client_id.clone(), mount: mount.clone() };
    edge.registry.claim(&key).await;
    let clean_start = connect.clean_start;
    let wish = SessionWish { client_id, mount, clean_start, expiry_secs, will };
    let OpenedSession { fence, present, left_at, filters, cursors, sent, received } =
        edge.services.sessions.open(&principal, wish).await?;
    // The will of an earlier connection may be due.
    edge.wills.look();
    let registration = edge.registry.register(principal.user, principal.login, fence, key);
    if !present {
        // What a Clean Start discards must not outlive it, not even if this connection fails.
        registration.unpark();
    }
    // A logout that was answered before the line above found no connection to end.
    if !edge.services.accounts.is_live(&principal).await? {
        return Err(Refused::new(Reason::BadUserNameOrPassword, "the login was ended"));
    }
    let messaging = &edge.services.messaging;
    if edge.registry.needs_stays(principal.user) {
        edge.registry.learn_stays(principal.user, &messaging.list_stays(principal.user).await?);
    }
    // Read (again) after the registry knows the stays: rows from here on are in the inbox.
    let stays = messaging.list_stays(principal.user).await?;
    let parked = registration.unpark();
    if !space.is_mounted() {
        edge.opened(principal.user, &stays);
    }

    let connack = connack(edge, &connect, &space, present, expiry_secs, assigned);
    let start = Start {
        me: principal.user,
        space,
        version: connect.version,
        format,
        filters,
        cursors,
        left_at,
        parked,
        sent,
        received: received.into_iter().filter_map(PacketId::new).collect(),
        window: connect.receive_maximum.min(edge.in_flight),
        keep_alive: server_keep_alive(edge, &connect).unwrap_or(connect.keep_alive),
        expiry_secs,
        named_method: connect.authentication_method.is_some(),
        rates: edge.rates.of(principal.user, Instant::now()),
    };
    let version = connect.version;
    Ok(Box::new(Admitted { principal, fence, version, registration, connack, start, stays }))
}

async fn authenticate(edge: &Edge, connect: &Connect) -> Result<Principal, Refused> {
    let secret = match connect.authentication_method.as_deref() {
        None => connect.password.as_ref(),
        Some(TOKEN_METHOD) => connect.authentication_data.as_ref(),
        Some(_) => return Err(Refused::new(Reason::BadAuthenticationMethod, "the only method is `token`")),
    };
    let Some(secret) = secret else {
        return Err(Refused::new(
            Reason::NotAuthorized,
            "a password is needed: mqtt.password of the login answer, or a token",
        ));
    };
    let secret = std::str::from_utf8(secret)
        .map_err(|_| Refused::new(Reason::BadUserNameOrPassword, "the password is not valid (any more)"))?;
    let UserName { name, .. } = user_name(connect)?;
    Ok(edge.services.accounts.authenticate_mqtt(&name, secret).await?)
}

/// What a user name says, with the options at its end; the format may also stand in a user property (5).
#[derive(Debug, Default, PartialEq, Eq)]
struct UserName {
    name: String,
    mount: String,
    format: Format,
}

/// `name?mount=x&format=cbor`
fn user_name(connect: &Connect) -> Result<UserName, Refused> {
    let given = connect.username.as_deref().unwrap_or_default();
    let (name, options) = given.split_once('?').unwrap_or((given, ""));
    let mut mount = String::new();
    let properties = connect.user_properties.iter().filter(|(property, _)| property == "format");
    let mut formats: Vec<Cow<'_, str>> = properties.map(|(_, value)| value.into()).collect();
    for (option, value) in form_urlencoded::parse(options.as_bytes()) {
        match &*option {
            "mount" => mount = value.into_owned(),
            "format" => formats.push(value),
            _ => {
                let detail = "the options in the user name are `mount` and `format`";
                return Err(Refused::new(Reason::BadUserNameOrPassword, detail));
            }
        }
    }
    Ok(UserName { name: name.to_owned(), mount, format: agreed(&formats)? })
}

/// The one format that all of these name; JSON, if there are none.
fn agreed(names: &[Cow<'_, str>]) -> Result<Format, Refused> {
    let refused = |detail| Refused::new(Reason::ImplementationSpecificError, detail);
    let mut agreed = None;
    for name in names {
        let format = Format::named(name).ok_or_else(|| refused("`format` is `json` or `cbor`"))?;
        if agreed.replace(format).is_some_and(|earlier| earlier != format) {
            return Err(refused("one `format` is asked for here, another one there"));
        }
    }
    Ok(agreed.unwrap_or_default())
}

/// The will: into the user's own plain lane, since nobody is told of a refusal later.
fn testament(edge: &Edge, space: &Space, will: &Will) -> Result<WillWish, Refused> {
    let refused =
        |reason| Err(Refused::new(reason, "the will is not one for `users/{me}/x/…` of at most 64 KiB"));
    let Publish { topic, payload, qos, retain, properties, .. } = &will.publish;
    let topic = match space.command(topic) {
        Ok((Command::Own, topic)) => topic.into_owned(),
        _ => return refused(Reason::TopicNameInvalid),
    };
    let expiry_secs = properties.message_expiry;
    let properties = PublishProperties { message_expiry: None, ..properties.clone() };
    let body = (payload.clone(), *qos, *retain);
    let message = plain_message(space, topic, body, &properties, edge.clock.now());
    match check_text(&properties, &message.payload).and_then(|()| Plain::check(&message)) {
        Ok(()) => Ok(WillWish { message, expiry_secs, delay_secs: will.delay }),
        Err(_) => refused(Reason::PayloadFormatInvalid),
    }
}

/// The client identifier, and the one that was assigned, if it was.
fn client_id(edge: &Edge, connect: &Connect) -> Result<(String, Option<String>), Refused> {
    if connect.client_id.len() > MAX_CLIENT_ID {
        return Err(Refused::new(
            Reason::ClientIdentifierNotValid,
            "the client identifier is longer than 512 bytes",
        ));
    }
    if !connect.client_id.is_empty() {
        return Ok((connect.client_id.clone(), None));
    }
    if connect.version == Version::V3 && !connect.clean_start {
        let detail = "a session that lasts needs a client identifier [MQTT-3.1.3-8]";
        return Err(Refused::new(Reason::ClientIdentifierNotValid, detail));
    }
    let assigned = format!("auto-{}", edge.entropy.uuid().simple());
    Ok((assigned.clone(), Some(assigned)))
}

/// The Keep Alive that counts instead of the client's, if it asks for more than the operator allows, or for none
/// `[MQTT-3.1.2-21]`. 3.1.1 cannot tell a client, which would then be sent away for keeping its own word: there what the
/// client asks for counts.
fn server_keep_alive(edge: &Edge, connect: &Connect) -> Option<u16> {
    let max = edge.keep_alive_max;
    let exceeds = max > 0 && (connect.keep_alive == 0 || connect.keep_alive > max);
    (connect.version == Version::V5 && exceeds).then_some(max)
}

fn connack(
    edge: &Edge,
    connect: &Connect,
    space: &Space,
    session_present: bool,
    expiry_secs: u32,
    assigned: Option<String>,
) -> Out {
    let properties = ConnAckProperties {
        session_expiry: connect.session_expiry.filter(|wish| *wish != expiry_secs).map(|_| expiry_secs),
        receive_maximum: Some(MAX_COMMANDS),
        maximum_packet_size: Some(edge.max_packet_bytes),
        assigned_client_id: assigned,
        topic_alias_maximum: Some(alias::MAX_INBOUND),
        server_keep_alive: server_keep_alive(edge, connect),
        // [MQTT-3.1.2-28]. A mounted session does not see the prefix, and any topic of its own will do.
        response_information: (connect.request_response_information && !space.is_mounted())
            .then(|| topic::own_prefix(space.me())),
        authentication_method: connect.authentication_method.clone(),
        ..ConnAckProperties::default()
    };
    Out::ConnAck { session_present, reason: Reason::Success, properties: Box::new(properties) }
}
