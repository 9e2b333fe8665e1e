//! CONNECT: who is it, which session, and what it begins with.

use super::Edge;
use crate::{
    alias,
    packet::{ConnAckProperties, Connect, Out, Reason, Version},
    registry::{Registration, SessionKey},
    session::{MAX_COMMANDS, MAX_EXPIRY_SECS, Start, TOKEN_METHOD},
    topic,
};
use curlew_domain::{
    Error,
    account::Principal,
    chat::StayEnd,
    ids::UserId,
    services::sessions::SessionWish,
    session::{OpenedSession, SessionFence},
};
use std::sync::Arc;

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

    let key = SessionKey { device: principal.device, client_id: client_id.clone(), mount: String::new() };
    edge.registry.claim(&key).await;
    let wish = SessionWish { client_id, mount: String::new(), clean_start: connect.clean_start, expiry_secs };
    let OpenedSession { fence, present, filters, cursors } =
        edge.services.sessions.open(&principal, wish).await?;
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

    let start = Start {
        me: principal.user,
        version: connect.version,
        filters,
        cursors,
        parked,
        window: connect.receive_maximum.min(edge.in_flight),
        keep_alive: server_keep_alive(edge, &connect).unwrap_or(connect.keep_alive),
        expiry_secs,
        named_method: connect.authentication_method.is_some(),
        rates: registration.rates(edge.rates),
    };
    let connack = connack(edge, &connect, principal.user, present, expiry_secs, assigned);
    Ok(Box::new(Admitted { principal, fence, version: connect.version, registration, connack, start, stays }))
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
    let username = connect.username.as_deref().unwrap_or_default();
    if username.contains('?') {
        return Err(Refused::new(
            Reason::ImplementationSpecificError,
            "options in the user name are not supported yet",
        ));
    }
    Ok(edge.services.accounts.authenticate_mqtt(username, secret).await?)
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
    me: UserId,
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
        shared_available: Some(false),
        server_keep_alive: server_keep_alive(edge, connect),
        // [MQTT-3.1.2-28]
        response_information: connect.request_response_information.then(|| topic::own_prefix(me)),
        authentication_method: connect.authentication_method.clone(),
        ..ConnAckProperties::default()
    };
    Out::ConnAck { session_present, reason: Reason::Success, properties: Box::new(properties) }
}
