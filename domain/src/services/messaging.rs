//! Sending messages, reading logs.

use super::{Base, Limits, credentials::mac};
use crate::{
    chat::StayEnd,
    contact::{ContactState, ContactView},
    error::{Error, ErrorCode, FieldError, Refusal, Result},
    event::{Audience, DeletionScope, Event, EventBody},
    ids::{ChatId, RowId, Seq, Stream, UserId},
    message::{
        ContactEvent, Emoji, Entry, LocalId, LogRow, MAX_MENTIONS, MessageView, Origin, Target, parse_text,
    },
    page::{Page, PageRequest},
    ports::store::{AppendMessage, Appended, ChangeMessage, Commit, LogPage, MessagesFrom},
    receipt::{MessageInfo, Status},
    rules::{MessageChange, may_send},
};
use serde::Deserialize;
use std::{borrow::Cow, collections::HashMap, str::FromStr};
use utoipa::ToSchema;
use uuid::Uuid;

/// Most chats that one message is forwarded to at once.
const MAX_FORWARDS: usize = 20;

/// `POST …/messages` and `chats/{chat}/send`: the same body on both surfaces.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SendRequest {
    /// The client's own id of the send.
    #[serde(default)]
    #[schema(value_type = Option<LocalId>, example = "0192f0c1-7a10-7000-8000-0000000000aa")]
    pub local_id: Option<String>,
    /// TEXT, the only type so far.
    #[serde(rename = "type")]
    pub kind: SendType,
    /// The text.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 16384, pattern = "^[^\\u0000]*$", example = "See you at seven")]
    pub text: Option<String>,
    /// The message that it answers, of the same chat.
    #[serde(default)]
    #[schema(value_type = Option<RowId>)]
    pub reply_to_id: Option<String>,
    /// Who is mentioned: people who are or were in the chat.
    #[serde(default)]
    #[schema(value_type = Option<Vec<UserId>>, max_items = 64)]
    pub mentions: Option<Vec<String>>,
    /// Only `null`: messages with media are not there yet.
    #[serde(default)]
    #[schema(value_type = Option<RowId>)]
    pub media_id: Option<String>,
}

/// Types that a client may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum SendType {
    /// Text.
    Text,
}

/// A [`SendRequest`] that was checked.
#[derive(Debug)]
struct Send {
    local_id: Option<LocalId>,
    text: String,
    reply_to: Option<RowId>,
    mentions: Vec<UserId>,
}

impl SendRequest {
    fn parse(self, max_bytes: usize) -> Result<Send> {
        let mut errors = Vec::new();
        let mut keep = |error: FieldError| errors.push(error);
        let local_id = self.local_id.as_deref().map(LocalId::parse).transpose();
        let local_id = local_id.map_err(&mut keep).unwrap_or_default();
        let text = parse_text(self.text.unwrap_or_default(), max_bytes);
        let text = text.map_err(&mut keep).unwrap_or_default();
        let reply_to = self.reply_to_id.map(|id| parse_id("replyToId", &id)).transpose();
        let reply_to = reply_to.map_err(&mut keep).unwrap_or_default();
        let mentions = parse_mentions(&self.mentions.unwrap_or_default());
        let mentions = mentions.map_err(|found| found.into_iter().for_each(keep)).unwrap_or_default();
        if self.media_id.is_some() {
            errors.push(FieldError::new("mediaId", "unsupported", "must be null in a TEXT message"));
        }
        if errors.is_empty() {
            Ok(Send { local_id, text, reply_to, mentions })
        } else {
            Err(Refusal::invalid(errors).into())
        }
    }
}

fn parse_id<T: FromStr>(field: impl Into<Cow<'static, str>>, text: &str) -> Result<T, FieldError> {
    text.parse().map_err(|_| FieldError::new(field, "invalid", "is not a UUID"))
}

/// Each once, in their order.
fn parse_mentions(texts: &[String]) -> Result<Vec<UserId>, Vec<FieldError>> {
    if texts.len() > MAX_MENTIONS {
        let detail = format!("{} people, at most {MAX_MENTIONS} are mentioned in one message", texts.len());
        return Err(vec![FieldError::new("mentions", "too-many", detail)]);
    }
    let (mut mentions, mut errors) = (Vec::with_capacity(texts.len()), Vec::new());
    for (at, text) in texts.iter().enumerate() {
        match parse_id(format!("mentions[{at}]"), text) {
            Ok(user) if mentions.contains(&user) => {}
            Ok(user) => mentions.push(user),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(mentions) } else { Err(errors) }
}

/// A page of a log as events.
#[derive(Debug)]
pub struct EventPage {
    /// In `seq` order.
    pub events: Vec<Event>,
    /// Everything the user may have up to here is in `events` or before it.
    pub end: Seq,
    /// Whether there is more.
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
        let send = request.parse(self.limits.text_bytes)?;
        let content_hash = self.hash(&send);
        let Send { local_id, text, reply_to, mentions } = send;
        let message = AppendMessage {
            chat,
            sender,
            id: self.base.new_id(),
            local_id,
            content_hash,
            text,
            reply_to,
            mentions,
            forwarded_from: None,
            at: self.base.now(),
        };
        self.base.store.append_message(message).await
    }

    fn hash(&self, send: &Send) -> [u8; 32] {
        let ids = |parts: &mut Vec<Vec<u8>>, name: &str, ids: &[Uuid]| {
            if !ids.is_empty() {
                parts.push(name.into());
                parts.push(ids.iter().flat_map(|id| *id.as_bytes()).collect());
            }
        };
        let mut parts: Vec<Vec<u8>> = vec![b"TEXT".into(), send.text.as_bytes().into()];
        ids(&mut parts, "reply", &send.reply_to.map(RowId::uuid).into_iter().collect::<Vec<_>>());
        ids(&mut parts, "mentions", &send.mentions.iter().map(|user| user.uuid()).collect::<Vec<_>>());
        mac(&self.content_key, &parts.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    /// Queues the replacement of an own message's text. What is refused for its form is refused at once.
    pub async fn edit(
        &self,
        actor: UserId,
        chat: ChatId,
        message: RowId,
        text: String,
    ) -> Result<Commit<Target>> {
        let text = parse_text(text, self.limits.text_bytes).map_err(|field| Refusal::invalid(vec![field]))?;
        self.change(actor, chat, message, MessageChange::Edit(text)).await
    }

    /// Queues a reaction, or with `None` taking it back.
    pub async fn react(
        &self,
        actor: UserId,
        chat: ChatId,
        message: RowId,
        emoji: Option<&str>,
    ) -> Result<Commit<Target>> {
        let emoji = emoji.map(Emoji::parse).transpose().map_err(|field| Refusal::invalid(vec![field]))?;
        self.change(actor, chat, message, MessageChange::React(emoji)).await
    }

    /// Queues a deletion. For the user alone it needs the right to have the message; for everyone it empties it.
    pub async fn delete(
        &self,
        actor: UserId,
        chat: ChatId,
        message: RowId,
        scope: DeletionScope,
    ) -> Result<Commit<Target>> {
        match scope {
            DeletionScope::Me => self.base.store.hide_message(actor, chat, message, self.base.now()).await,
            DeletionScope::Everyone => self.change(actor, chat, message, MessageChange::Delete).await,
        }
    }

    async fn change(
        &self,
        actor: UserId,
        chat: ChatId,
        message: RowId,
        change: MessageChange,
    ) -> Result<Commit<Target>> {
        let delete_window = self.limits.delete_window;
        let (row, at) = (self.base.new_id(), self.base.now());
        let change = ChangeMessage { chat, message, actor, change, delete_window, row, at };
        self.base.store.change_message(change).await
    }

    /// The chat of a message that the user may have.
    pub async fn chat_of(&self, user: UserId, message: RowId) -> Result<ChatId> {
        self.base.store.locate_message(user, message).await?.ok_or_else(|| Error::not_found("message"))
    }

    /// Copies a message into chats; answers the copies in the order of the chats. With `local_id` those made before are
    /// answered as they are, whatever has become of the original or of the chats, and the others are made: nothing is sent
    /// when the user may not send to one of these.
    pub async fn forward(
        &self,
        actor: UserId,
        message: RowId,
        chats: &[ChatId],
        local_id: Option<LocalId>,
    ) -> Result<Vec<Appended>> {
        if !(1..=MAX_FORWARDS).contains(&chats.len()) {
            let detail = format!("{} chats, 1 to {MAX_FORWARDS} may be named", chats.len());
            return Err(Error::invalid("chatIds", "length", detail));
        }
        let content_hash = mac(&self.content_key, &[b"FORWARD", message.uuid().as_bytes()]);
        let mut made = match &local_id {
            Some(local_id) => self.base.store.find_sent(actor, chats, local_id, &content_hash).await?,
            None => HashMap::new(),
        };
        let missing: Vec<ChatId> = chats.iter().copied().filter(|chat| !made.contains_key(chat)).collect();
        if !missing.is_empty() {
            let (text, forwarded_from) = self.find_original(actor, message).await?;
            for chat in &missing {
                may_send(self.base.store.find_send_facts(actor, *chat).await?.as_ref())?;
            }
            for chat in missing {
                let copy = AppendMessage {
                    chat,
                    sender: actor,
                    id: self.base.new_id(),
                    local_id: local_id.clone(),
                    content_hash,
                    text: text.clone(),
                    reply_to: None,
                    mentions: Vec::new(),
                    forwarded_from: Some(forwarded_from),
                    at: self.base.now(),
                };
                made.insert(chat, self.base.store.append_message(copy).await?.await?);
            }
        }
        Ok(chats.iter().filter_map(|chat| made.get(chat).cloned()).collect())
    }

    /// What a copy of a message consists of.
    async fn find_original(&self, actor: UserId, message: RowId) -> Result<(String, Origin)> {
        let original = self.find(actor, message).await?;
        let Some(text) = original.text else {
            let (code, detail) = match original.deleted_at {
                Some(_) => (ErrorCode::MessageDeleted, "the message was deleted"),
                None => (ErrorCode::Forbidden, "a SYSTEM message cannot be forwarded"),
            };
            return Err(Error::refused(code, detail));
        };
        let origin = Origin { id: original.id, sender_id: original.sender_id };
        Ok((text, original.forwarded_from.unwrap_or(origin)))
    }

    /// Who has received and read an own message.
    pub async fn info(&self, user: UserId, message: RowId) -> Result<MessageInfo> {
        let message = self.find(user, message).await?;
        if message.sender_id != user {
            return Err(Error::refused(ErrorCode::Forbidden, "only its sender is told who has a message"));
        }
        let recipients =
            self.base.store.list_recipients(message.chat_id, message.sender_id, message.seq).await?;
        let reached = |status| recipients.iter().filter(|recipient| recipient.status >= status).count();
        let count = |status| u32::try_from(reached(status)).unwrap_or(u32::MAX);
        Ok(MessageInfo {
            message_id: message.id,
            seq: message.seq,
            status: message.status.unwrap_or(Status::Sent),
            delivered: count(Status::Delivered),
            read: count(Status::Read),
            of: count(Status::Sent),
            recipients,
        })
    }

    /// Messages that answer one which the user may have, oldest first.
    pub async fn list_replies(
        &self,
        user: UserId,
        message: RowId,
        page: PageRequest,
    ) -> Result<Page<MessageView>> {
        let replies = self.base.store.list_replies(user, message, page).await?;
        replies.ok_or_else(|| Error::not_found("message"))
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

    /// A sent message as its sender sees it. A new one is SENT; of one stored before the present state is read.
    pub async fn show_sent(&self, sender: UserId, appended: &Appended) -> Result<MessageView> {
        let row = appended.row();
        if matches!(appended, Appended::Existing(_))
            && let Some(message) = self.base.store.find_message(sender, row.id).await?
        {
            return Ok(message);
        }
        let message = row.message_for(sender);
        let message = message.ok_or_else(|| Error::Internal(format!("row {} is no message", row.id)))?;
        Ok(MessageView { status: Some(Status::Sent), ..message })
    }

    /// Rows of logs, each after a row, as events, which the user may have; of all together at most `limit`. A page for each
    /// log, in that order; `None`: the user never had a stay there.
    pub async fn read_events(
        &self,
        user: UserId,
        wanted: &[(Stream, Seq)],
        limit: u32,
    ) -> Result<Vec<Option<EventPage>>> {
        let mut pages = Vec::with_capacity(wanted.len());
        for page in self.base.store.read_logs(user, wanted, limit).await? {
            pages.push(match page {
                Some(LogPage { rows, end, more }) => {
                    Some(EventPage { events: self.events(user, &rows).await?, end, more })
                }
                None => None,
            });
        }
        Ok(pages)
    }

    async fn events(&self, user: UserId, rows: &[LogRow]) -> Result<Vec<Event>> {
        let mut events = Vec::with_capacity(rows.len());
        for row in rows {
            let audience = if row.sender == user { Audience::Sender } else { Audience::Others };
            match Event::of_chat_row(row, audience) {
                Some(event) => events.push(event),
                None => events.extend(self.personal_event(user, row).await?),
            }
        }
        Ok(events)
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
                let Some(mut view) = self.base.store.find_chat(user, *chat).await? else { return Ok(None) };
                // Events carry no status: it would be old when it is read.
                if let Some(message) = &mut view.last_message {
                    message.status = None;
                }
                (Some(*chat), EventBody::NewChat { chat: Box::new(view) })
            }
            Entry::ChatLeft { chat, reason, .. } => (Some(*chat), EventBody::ChatLeft { reason: *reason }),
            Entry::Contact { event, peer } => {
                let Some(body) = self.contact_event(*event, *peer, row).await? else { return Ok(None) };
                (None, body)
            }
            Entry::ContactRequestsViewed => (None, EventBody::ContactRequestsViewed),
            Entry::NotificationsCleared(chat) => (Some(*chat), EventBody::NotificationsCleared),
            Entry::DevicesUpdated => {
                let devices = self.base.store.list_devices(user, self.base.now()).await?;
                let online = self.base.relay.online_devices(user).await;
                let devices = devices.into_iter().map(|device| device.view(None, &online)).collect();
                (None, EventBody::DevicesUpdated { devices })
            }
            Entry::MessageHidden { message, chat } => {
                (Some(*chat), EventBody::MessageHidden { message_id: *message, scope: DeletionScope::Me })
            }
            Entry::ChatSettingsChanged(chat) => {
                let Some(view) = self.base.store.find_chat(user, *chat).await? else { return Ok(None) };
                (Some(*chat), EventBody::ChatSettingsChanged { settings: view.settings })
            }
            Entry::ProfileUpdated(of) => {
                let Some(found) = self.base.store.find_user(*of).await? else { return Ok(None) };
                (None, EventBody::ProfileUpdated { user: Box::new(found.into()) })
            }
            Entry::Message(_)
            | Entry::MembersChanged(_)
            | Entry::ChatUpdated(_)
            | Entry::MessageEdited { .. }
            | Entry::MessageDeleted(_)
            | Entry::MessageReaction { .. } => return Ok(None),
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
