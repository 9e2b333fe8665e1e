//! What a message says of others: the message it answers, the people it mentions.

use crate::sql::{
    statement::statements,
    transaction::Tx,
    value::{Table, args},
};
use curlew_domain::{
    Refusal,
    ids::{Stream, UserId},
    message::{Entry, LogRow, Reply, preview_of},
    ports::store::AppendMessage,
    rules::may_quote,
};
use std::collections::HashMap;

statements! {
    FIND_ANSWERED = ["WITH r AS MATERIALIZED " rows(1: n int, chat id, usr id, message id) "
        SELECT r.n, l.id, l.seq, l.sender, l.text FROM r CROSS JOIN log l
        WHERE l.id = r.message AND l.stream = r.chat AND l.kind = 'message' AND EXISTS (SELECT 1 FROM memberships m
            WHERE m.chat_id = r.chat AND m.user_id = r.usr AND m.visible_from <= l.seq
                AND (m.left_seq IS NULL OR m.left_seq >= l.seq))"];
    FIND_MENTIONED = ["WITH r AS MATERIALIZED " rows(1: n int, chat id, usr id) "
        SELECT r.n, r.usr FROM r
        WHERE EXISTS (SELECT 1 FROM memberships m WHERE m.chat_id = r.chat AND m.user_id = r.usr)"];
    INSERT_MENTIONS = ["WITH r AS MATERIALIZED " rows(1: chat id, usr id, seq int) "
        INSERT INTO mentions (chat_id, user_id, message_seq) SELECT r.chat, r.usr, r.seq FROM r"];
}

/// What the messages of a run quote, as far as it is theirs to quote, by their places in the run. Messages that quote
/// nothing cost nothing.
#[derive(Default)]
pub(super) struct Quotes {
    replies: HashMap<usize, Reply>,
    mentioned: HashMap<usize, Vec<UserId>>,
}

impl Quotes {
    pub async fn find<'a>(
        tx: &mut Tx,
        run: impl Iterator<Item = &'a AppendMessage> + Clone + Send,
    ) -> Result<Self, sqlx::Error> {
        let mut quotes = Self::default();
        let answers =
            run.clone().enumerate().filter_map(|(n, message)| Some((n, message, message.reply_to?)));
        let answers: Vec<_> = answers.collect();
        if !answers.is_empty() {
            let table = Table::of(answers, |row, (n, message, answered)| {
                let AppendMessage { chat, sender, .. } = message;
                row.int(n as i64).id(chat.uuid()).id(sender.uuid()).id(answered.uuid());
            });
            for row in tx.fetch(&FIND_ANSWERED, args![table]).await? {
                let preview = row.text_or_null(4)?.as_deref().map(preview_of);
                let reply = Reply { id: row.id(1)?, seq: row.seq(2)?, sender_id: row.id(3)?, preview };
                quotes.replies.insert(row.count(0)? as usize, reply);
            }
        }
        let mentions = run
            .enumerate()
            .flat_map(|(n, message)| message.mentions.iter().map(move |user| (n, message, user)));
        let mentions: Vec<_> = mentions.collect();
        if !mentions.is_empty() {
            let table = Table::of(mentions, |row, (n, message, user)| {
                row.int(n as i64).id(message.chat.uuid()).id(user.uuid());
            });
            for row in tx.fetch(&FIND_MENTIONED, args![table]).await? {
                quotes.mentioned.entry(row.count(0)? as usize).or_default().push(row.id(1)?);
            }
        }
        Ok(quotes)
    }

    /// Whether the message at this place may quote what it quotes.
    pub fn judge(&self, place: usize, message: &AppendMessage) -> Result<(), Refusal> {
        let answers = message.reply_to.map(|_| self.replies.contains_key(&place));
        let known = self.mentioned.get(&place).map(Vec::as_slice).unwrap_or_default();
        may_quote(answers, &message.mentions, known)
    }

    /// What the message at this place answers.
    pub fn reply(&self, place: usize) -> Option<Reply> {
        self.replies.get(&place).cloned()
    }
}

/// Notes who is mentioned where, to be counted.
pub(super) async fn store_mentions<'a>(
    tx: &mut Tx,
    rows: impl Iterator<Item = &'a LogRow> + Send,
) -> Result<(), sqlx::Error> {
    let mentions = rows.filter_map(|row| match (row.stream, &row.entry) {
        (Stream::Chat(chat), Entry::Message(content)) => Some((chat, row.seq, &content.mentions)),
        _ => None,
    });
    let mentions: Vec<_> =
        mentions.flat_map(|(chat, seq, users)| users.iter().map(move |user| (chat, *user, seq))).collect();
    if mentions.is_empty() {
        return Ok(());
    }
    let table = Table::of(mentions, |row, (chat, user, seq)| {
        row.id(chat.uuid()).id(user.uuid()).seq(seq);
    });
    tx.execute(&INSERT_MENTIONS, args![table]).await.map(drop)
}
