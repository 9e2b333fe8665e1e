//! Sending messages, reading logs.

use super::{Base, Limits, credentials::mac};
use crate::{
    chat::StayEnd,
    contact::{ContactState, ContactView},
    error::{Error, Refusal, Result},
    event::{Audience, Event, EventBody},
    ids::{ChatId, RowId, Seq, Stream, UserId},
    message::{ContactEvent, Entry, LocalId, LogRow, MessageView, parse_text},
    ports::store::{AppendMessage, Appended, Commit, MessagesFrom},
};
use serde::Deserialize;

/// `POST …/messages` and `chats/{chat}/send`: the same body on both surfaces.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SendRequest {
    /// The client's own id of the send.
    #[serde(default)]
    pub local_id: Option<String>,
    /// TEXT, the only type so far.
    #[serde(rename = "type")]
    pub kind: SendType,
    /// The text.
    #[serde(default)]
    pub text: Option<String>,
}

/// Types that a client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum SendType {
    /// Text.
    Text,
}

/// A page of a log as events.
#[derive(Debug)]
pub struct EventPage {
    /// In `seq` order.
    pub events: Vec<Event>,
    /// Everything the user may have up to here is in `events` or before it.
    pub end: Seq,
    /// Whether the page was full: there may be more.
    pub more: bool,
}

/// Sending messages, reading logs.
pub struct Messaging {
    base: Base,
    limits: Limits,
    content_key: [u8; 32],
}

impl Messaging {
    /// The service.
    pub fn new(base: Base, limits: Limits, content_key: [u8; 32]) -> Self {
        Self { base, limits, content_key }
    }

    /// Queues a send. Sends queued one after the other to one chat commit in that order; the returned [`Commit`] resolves
    /// when the message is durable. Waits only for room in the queue.
    pub async fn send(&self, sender: UserId, chat: ChatId, request: SendRequest) -> Result<Commit<Appended>> {
        let local_id = request.local_id.as_deref().map(LocalId::parse);
        let text = parse_text(request.text.unwrap_or_default(), self.limits.text_bytes);
        let (local_id, text) = match (local_id.transpose(), text) {
            (Ok(local_id), Ok(text)) => (local_id, text),
            (local_id, text) => {
                let fields = local_id.err().into_iter().chain(text.err()).collect();
                return Err(Refusal::invalid(fields).into());
            }
        };
        let message = AppendMessage {
            chat,
            sender,
            id: self.base.new_id(),
            local_id,
            content_hash: mac(&self.content_key, &[b"TEXT", text.as_bytes()]),
            text,
            at: self.base.now(),
        };
        self.base.store.append_message(message).await
    }

    /// Messages of a chat as the user sees them.
    pub async fn list(
        &self,
        user: UserId,
        chat: ChatId,
        from: MessagesFrom,
        limit: u32,
    ) -> Result<Vec<MessageView>> {
        let messages = self.base.store.list_messages(user, chat, from, limit).await?;
        messages.ok_or_else(|| Error::not_found("chat"))
    }

    /// A message that the user may have.
    pub async fn find(&self, user: UserId, message: RowId) -> Result<MessageView> {
        self.base.store.find_message(user, message).await?.ok_or_else(|| Error::not_found("message"))
    }

    /// Rows of a log after `after`, as events, which the user may have.
    pub async fn read_events(
        &self,
        user: UserId,
        stream: Stream,
        after: Seq,
        limit: u32,
    ) -> Result<EventPage> {
        let page = self.base.store.read_log(user, stream, after, limit).await?;
        let page = page.ok_or_else(|| Error::not_found("chat"))?;
        let mut events = Vec::with_capacity(page.rows.len());
        for row in &page.rows {
            let audience = if row.sender == user { Audience::Sender } else { Audience::Others };
            match Event::of_chat_row(row, audience) {
                Some(event) => events.push(event),
                None => events.extend(self.personal_event(user, row).await?),
            }
        }
        Ok(EventPage { events, end: page.end, more: page.rows.len() >= limit as usize })
    }

    /// Every chat in which the user has or ever had a stay, reduced to what delivery needs.
    pub async fn list_stays(&self, user: UserId) -> Result<Vec<StayEnd>> {
        self.base.store.list_stays(user).await
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        self.base.store.ping().await
    }

    /// The event of a row of the personal log, rendered from the present state.
    async fn personal_event(&self, user: UserId, row: &LogRow) -> Result<Option<Event>> {
        let (chat, body) = match &row.entry {
            Entry::NewChat { chat, .. } => {
                let Some(view) = self.base.store.find_chat(user, *chat).await? else { return Ok(None) };
                (Some(*chat), EventBody::NewChat { chat: Box::new(view) })
            }
            Entry::ChatLeft { chat, reason, .. } => (Some(*chat), EventBody::ChatLeft { reason: *reason }),
            Entry::Contact { event, peer } => {
                let Some(body) = self.contact_event(*event, *peer, row).await? else { return Ok(None) };
                (None, body)
            }
            Entry::Message { .. } | Entry::MembersChanged(_) => return Ok(None),
        };
        Ok(Some(Event::durable(row, chat, body)))
    }

    async fn contact_event(
        &self,
        event: ContactEvent,
        peer: UserId,
        row: &LogRow,
    ) -> Result<Option<EventBody>> {
        let contact = async |state| -> Result<Option<Box<ContactView>>> {
            let user = self.base.store.find_user(peer).await?;
            Ok(user.map(|user| Box::new(ContactView { user: user.into(), state, since: row.at })))
        };
        Ok(match event {
            ContactEvent::NewContactRequest => {
                contact(ContactState::Incoming).await?.map(|contact| EventBody::NewContactRequest { contact })
            }
            ContactEvent::ContactRequestAccepted => contact(ContactState::Contact)
                .await?
                .map(|contact| EventBody::ContactRequestAccepted { contact }),
            ContactEvent::ContactRequestRejected => Some(EventBody::ContactRequestRejected { user_id: peer }),
            ContactEvent::ContactRemoved => Some(EventBody::ContactRemoved { user_id: peer }),
            ContactEvent::BlockedByContact => Some(EventBody::BlockedByContact { user_id: peer }),
            ContactEvent::UnblockedByContact => Some(EventBody::UnblockedByContact { user_id: peer }),
        })
    }
}
