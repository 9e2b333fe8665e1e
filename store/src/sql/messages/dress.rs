//! What rows of chats show of the present state: reactions, edited texts, a group's name. Looked up when they are read, so
//! that nobody catches up on what is gone.

use crate::sql::{
    log::{LOG_COLUMNS, log_columns, read_row},
    statement::statements,
    transaction::Tx,
    value::{Table, args},
};
use curlew_domain::{
    chat::{ChatBasics, HistoryVisible},
    ids::{ChatId, Seq, Stream, UserId},
    message::{Emoji, Entry, LogRow, Reaction},
};
use std::collections::{BTreeSet, HashMap};

statements! {
    FIND_REACTIONS = ["WITH r AS MATERIALIZED " rows(1: chat id, seq int) "
        SELECT x.chat_id, x.message_seq, x.user_id, x.emoji FROM r CROSS JOIN reactions x
        WHERE x.chat_id = r.chat AND x.message_seq = r.seq ORDER BY x.chat_id, x.message_seq, x.at, x.user_id"];
    FIND_MESSAGES = ["WITH r AS MATERIALIZED " rows(1: chat id, seq int) "
        SELECT " (log_columns!()) ", l.stream FROM r CROSS JOIN log l WHERE l.stream = r.chat AND l.seq = r.seq"];
    FIND_BASICS = ["WITH r AS MATERIALIZED " rows(1: chat id) "
        SELECT c.id, c.name, c.description, c.history_visible FROM r CROSS JOIN chats c WHERE c.id = r.chat"];
}

/// A row of a chat's log.
type Place = (ChatId, Seq);

/// Who reacted to each message and with what, first to last.
type Reactions = HashMap<Place, Vec<(UserId, Emoji)>>;

/// Completes rows of chats' logs. `may`: whether the reader may have a row; an edited message that they may not have is
/// left out. At most three statements, whatever the number of rows.
pub(in crate::sql) async fn dress(
    tx: &mut Tx,
    rows: &mut [LogRow],
    may: impl Fn(ChatId, Seq) -> bool,
) -> Result<(), sqlx::Error> {
    let mut messages = BTreeSet::new();
    let mut reacted = BTreeSet::new();
    let mut groups = BTreeSet::new();
    for row in rows.iter() {
        let Stream::Chat(chat) = row.stream else { continue };
        match &row.entry {
            Entry::Message(_) => {
                reacted.insert((chat, row.seq));
            }
            Entry::MessageEdited { target, .. } if may(chat, target.seq) => {
                messages.insert((chat, target.seq));
                reacted.insert((chat, target.seq));
            }
            Entry::MessageReaction { target, .. } => {
                reacted.insert((chat, target.seq));
            }
            Entry::ChatUpdated(_) => {
                groups.insert(chat);
            }
            _ => {}
        }
    }
    let reactions = find_reactions(tx, &reacted).await?;
    let mut messages = find_messages(tx, &messages).await?;
    for (place, message) in &mut messages {
        put_reactions(message, *place, &reactions);
    }
    let groups = find_basics(tx, groups).await?;
    for row in rows.iter_mut() {
        let Stream::Chat(chat) = row.stream else { continue };
        let (seq, sender) = (row.seq, row.sender);
        match &mut row.entry {
            Entry::Message(_) => put_reactions(row, (chat, seq), &reactions),
            Entry::MessageEdited { target, message } => {
                *message = messages.get(&(chat, target.seq)).cloned().map(Box::new);
            }
            Entry::MessageReaction { target, emoji } => {
                let of_message = reactions.get(&(chat, target.seq)).into_iter().flatten();
                *emoji =
                    of_message.filter(|(user, _)| *user == sender).map(|(_, emoji)| emoji.clone()).next();
            }
            Entry::ChatUpdated(basics) => {
                if let Some(present) = groups.get(&chat) {
                    basics.clone_from(present);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn places_table(places: &BTreeSet<Place>) -> Table {
    Table::of(places, |row, (chat, seq)| {
        row.id(chat.uuid()).seq(*seq);
    })
}

async fn find_reactions(tx: &mut Tx, of: &BTreeSet<Place>) -> Result<Reactions, sqlx::Error> {
    let mut reactions = Reactions::new();
    if of.is_empty() {
        return Ok(reactions);
    }
    for row in tx.fetch(&FIND_REACTIONS, args![places_table(of)]).await? {
        let reaction = (row.id(2)?, Emoji::stored(row.text(3)?));
        reactions.entry((row.id(0)?, row.seq(1)?)).or_default().push(reaction);
    }
    Ok(reactions)
}

async fn find_messages(tx: &mut Tx, of: &BTreeSet<Place>) -> Result<HashMap<Place, LogRow>, sqlx::Error> {
    let mut messages = HashMap::new();
    if of.is_empty() {
        return Ok(messages);
    }
    for row in tx.fetch(&FIND_MESSAGES, args![places_table(of)]).await? {
        let chat: ChatId = row.id(LOG_COLUMNS)?;
        let message = read_row(Stream::Chat(chat), &row)?;
        messages.insert((chat, message.seq), message);
    }
    Ok(messages)
}

async fn find_basics(
    tx: &mut Tx,
    of: BTreeSet<ChatId>,
) -> Result<HashMap<ChatId, Box<ChatBasics>>, sqlx::Error> {
    let mut groups = HashMap::new();
    if of.is_empty() {
        return Ok(groups);
    }
    for row in tx.fetch(&FIND_BASICS, args![Table::of_ids(of.into_iter().map(ChatId::uuid))]).await? {
        let basics = ChatBasics {
            id: row.id(0)?,
            name: row.text_or_null(1)?,
            description: row.text_or_null(2)?,
            picture_url: None,
            history_visible: row.named(3, HistoryVisible::parse)?,
        };
        groups.insert(basics.id, Box::new(basics));
    }
    Ok(groups)
}

fn put_reactions(message: &mut LogRow, place: Place, reactions: &Reactions) {
    let Entry::Message(content) = &mut message.entry else { return };
    content.reactions = Vec::new();
    for (user, emoji) in reactions.get(&place).into_iter().flatten() {
        match content.reactions.iter_mut().find(|reaction| reaction.emoji == *emoji) {
            Some(reaction) => reaction.user_ids.push(*user),
            None => content.reactions.push(Reaction { emoji: emoji.clone(), user_ids: vec![*user] }),
        }
    }
}
