//! Chats as a member sees them: a fixed number of statements for any number of chats.

use super::Mine;
use crate::sql::{
    log::{LOG_COLUMNS, log_columns, message_kinds, read_row},
    messages::dress::dress,
    receipts::{count_mentions, count_unread},
    statement::statements,
    stays::find_marks,
    transaction::Tx,
    users::{USER_COLUMNS, find_views, read_user, user_columns},
    value::{Row, Table, args},
};
use curlew_domain::{
    chat::{ChatKind, ChatView, MemberView, Role},
    ids::{ChatId, Seq, Stream, UserId},
    message::{LogRow, MessageType, MessageView},
    receipt::{Sight, status_of},
};
use std::collections::{BTreeSet, HashMap};

statements! {
    LAST_MESSAGES = ["WITH r AS MATERIALIZED " rows(1: chat id, first int, last int) "
        SELECT " (log_columns!()) ", r.chat FROM r CROSS JOIN log l WHERE l.stream = r.chat AND l.seq = (SELECT x.seq FROM log x
            WHERE x.stream = r.chat AND x.seq >= r.first AND x.seq <= r.last AND x.kind IN " (message_kinds!()) "
                AND NOT EXISTS (SELECT 1 FROM hidden_messages h
                    WHERE h.chat_id = x.stream AND h.user_id = $2 AND h.message_seq = x.seq)
            ORDER BY x.seq DESC LIMIT 1)"];
    FIRST_MEMBERS = ["WITH r AS MATERIALIZED " rows(1: chat id) "
        SELECT " (user_columns!()) ", m.role, m.joined_seq, m.shown_delivered_seq, m.shown_read_seq, m.chat_id
        FROM r CROSS JOIN memberships m CROSS JOIN users u
        WHERE m.chat_id = r.chat AND m.left_seq IS NULL AND u.id = m.user_id AND m.user_id IN (SELECT f.user_id FROM memberships f
            WHERE f.chat_id = r.chat AND f.left_seq IS NULL ORDER BY f.joined_seq, f.user_id LIMIT 20)
        ORDER BY m.chat_id, m.joined_seq, m.user_id"];
    SIGHTS = ["WITH r AS MATERIALIZED " rows(1: chat id) "
        SELECT r.chat, MAX(m.unseen_read_seq), CASE WHEN EXISTS (SELECT 1 FROM users u WHERE u.id = $2 AND u.read_receipts_to = 'nobody')
            THEN CAST(1 AS BIGINT) ELSE 0 END
        FROM r CROSS JOIN memberships m WHERE m.chat_id = r.chat AND m.user_id = $2 GROUP BY r.chat"];
    HIDES_READ = ["SELECT u.id FROM users u WHERE u.id = $1 AND u.read_receipts_to = 'nobody'"];
    WITHHELD = ["WITH r AS MATERIALIZED " rows(1: usr id) "
        SELECT u.id FROM r CROSS JOIN users u WHERE u.id = r.usr AND u.read_receipts_to = 'contacts' AND NOT EXISTS
            (SELECT 1 FROM relations f WHERE f.user_id = u.id AND f.peer_id = $2 AND f.relation = 'contact')"];
    MEMBER_COUNTS = ["WITH r AS MATERIALIZED " rows(1: chat id) "
        SELECT r.chat, (SELECT COUNT(*) FROM memberships m WHERE m.chat_id = r.chat AND m.left_seq IS NULL) FROM r"];
}

/// Completes the chats, in their order.
pub(super) async fn complete(
    tx: &mut Tx,
    viewer: UserId,
    chats: Vec<Mine>,
) -> Result<Vec<ChatView>, sqlx::Error> {
    if chats.is_empty() {
        return Ok(Vec::new());
    }
    let groups: Vec<ChatId> = chats.iter().filter(|c| shows_members(&c.view)).map(|c| c.view.id).collect();
    let mut last =
        last_messages(tx, viewer, chats.iter().map(|c| (c.view.id, c.visible_from, c.view.last_seq))).await?;
    let above = chats.iter().map(|c| (c.view.id, viewer, c.read_seq, c.view.last_seq));
    let unread = count_unread(tx, above.clone().filter(|(.., read, end)| read < end)).await?;
    let has_unread = |chat| unread.get(&(chat, viewer)).is_some_and(|count| *count > 0);
    let mentions = count_mentions(tx, above.filter(|(chat, ..)| has_unread(*chat))).await?;
    let mut peers = find_views(tx, chats.iter().filter_map(|c| c.peer)).await?;
    let mut members = first_members(tx, viewer, &groups).await?;
    let counts = member_counts(tx, &groups).await?;
    let views = chats.into_iter().map(|Mine { mut view, peer, .. }| {
        view.last_message = last.remove(&view.id);
        view.unread_count = unread.get(&(view.id, viewer)).copied().unwrap_or(0);
        view.mention_count = mentions.get(&(view.id, viewer)).copied().unwrap_or(0);
        view.peer = peer.and_then(|peer| peers.remove(&peer));
        if shows_members(&view) {
            view.members = Some(members.remove(&view.id).unwrap_or_default());
            view.member_count = Some(counts.get(&view.id).copied().unwrap_or(0));
        }
        view
    });
    Ok(views.collect())
}

/// Whether the viewer is told who is in the chat: those are who are in it themselves.
fn shows_members(view: &ChatView) -> bool {
    view.kind == ChatKind::Group && view.role.is_some()
}

/// The newest message of each chat between two rows of it, as `viewer` sees it.
pub(in crate::sql) async fn last_messages(
    tx: &mut Tx,
    viewer: UserId,
    chats: impl IntoIterator<Item = (ChatId, Seq, Seq)>,
) -> Result<HashMap<ChatId, MessageView>, sqlx::Error> {
    let table = Table::of(chats, |row, (chat, first, last)| {
        row.id(chat.uuid()).seq(first).seq(last);
    });
    let mut rows = Vec::new();
    for row in tx.fetch(&LAST_MESSAGES, args![table, viewer]).await? {
        rows.push(read_row(Stream::Chat(row.id(LOG_COLUMNS)?), &row)?);
    }
    Ok(show(tx, viewer, rows).await?.into_iter().map(|message| (message.chat_id, message)).collect())
}

/// Rows as `viewer` sees them, own messages with their status; rows that are no messages are left out.
pub(in crate::sql) async fn show(
    tx: &mut Tx,
    viewer: UserId,
    mut rows: Vec<LogRow>,
) -> Result<Vec<MessageView>, sqlx::Error> {
    dress(tx, &mut rows, |_, _| true).await?;
    let mut messages: Vec<MessageView> = rows.iter().filter_map(|row| row.message_for(viewer)).collect();
    let mine = |message: &MessageView| message.sender_id == viewer && message.kind == MessageType::Text;
    let mut chats: Vec<ChatId> = messages.iter().filter(|m| mine(m)).map(|m| m.chat_id).collect();
    chats.sort_unstable();
    chats.dedup();
    if chats.is_empty() {
        return Ok(messages);
    }
    let sights = find_sights(tx, viewer, &chats).await?;
    let marks = find_marks(tx, chats).await?;
    for message in messages.iter_mut().filter(|message| mine(message)) {
        let of_chat = marks.get(&message.chat_id).map(Vec::as_slice).unwrap_or_default();
        let sight = sights.get(&message.chat_id).copied().unwrap_or(Sight::Nothing);
        message.status = Some(status_of(of_chat, viewer, sight, message.seq));
    }
    Ok(messages)
}

/// What the viewer is shown of READ in the chats that are or were theirs.
pub(in crate::sql) async fn find_sights(
    tx: &mut Tx,
    viewer: UserId,
    chats: &[ChatId],
) -> Result<HashMap<ChatId, Sight>, sqlx::Error> {
    let table = Table::of_ids(chats.iter().map(|chat| chat.uuid()));
    let sight = |row: &Row| Ok((row.id(0)?, Sight::of(row.flag(2)?, row.seq(1)?)));
    tx.fetch(&SIGHTS, args![table, viewer]).await?.iter().map(sight).collect()
}

/// Whether the viewer shows nobody what they have read, and so is not shown it either.
pub(in crate::sql) async fn hides_read(tx: &mut Tx, viewer: UserId) -> Result<bool, sqlx::Error> {
    Ok(tx.find(&HIDES_READ, args![viewer]).await?.is_some())
}

/// Of these others those of whom the viewer is not shown what they have read: all if the viewer hides the same, else who
/// shows it to contacts only, of whom the viewer is none.
pub(in crate::sql) async fn withheld_from(
    tx: &mut Tx,
    viewer: UserId,
    others: impl Iterator<Item = UserId>,
) -> Result<BTreeSet<UserId>, sqlx::Error> {
    let people: BTreeSet<UserId> = others.collect();
    if people.is_empty() || hides_read(tx, viewer).await? {
        return Ok(people);
    }
    let table = Table::of_ids(people.into_iter().map(UserId::uuid));
    tx.fetch(&WITHHELD, args![table, viewer]).await?.iter().map(|row| row.id(0)).collect()
}

/// Takes from the members how far they have read, where the viewer is not shown it.
pub(super) async fn hide_read(
    tx: &mut Tx,
    viewer: UserId,
    mut others: Vec<(ChatId, &mut MemberView)>,
) -> Result<(), sqlx::Error> {
    others.retain(|(_, member)| member.user.id != viewer);
    let ids: Vec<UserId> = others.iter().map(|(_, member)| member.user.id).collect();
    let withheld = withheld_from(tx, viewer, ids.into_iter()).await?;
    let chats: BTreeSet<ChatId> = others.iter().map(|(chat, _)| *chat).collect();
    let sights = find_sights(tx, viewer, &chats.into_iter().collect::<Vec<_>>()).await?;
    for (chat, member) in others {
        let sight = sights.get(&chat).copied().filter(|_| !withheld.contains(&member.user.id));
        member.read_seq = sight.unwrap_or(Sight::Nothing).read_after(member.joined_seq, member.read_seq);
    }
    Ok(())
}

async fn first_members(
    tx: &mut Tx,
    viewer: UserId,
    groups: &[ChatId],
) -> Result<HashMap<ChatId, Vec<MemberView>>, sqlx::Error> {
    let mut members: HashMap<ChatId, Vec<MemberView>> = HashMap::new();
    if groups.is_empty() {
        return Ok(members);
    }
    for row in tx.fetch(&FIRST_MEMBERS, args![Table::of_ids(groups.iter().map(|chat| chat.uuid()))]).await? {
        members.entry(row.id(USER_COLUMNS + 4)?).or_default().push(read_member(&row)?);
    }
    let mut shown = Vec::new();
    for (chat, members) in &mut members {
        shown.extend(members.iter_mut().map(|member| (*chat, member)));
    }
    hide_read(tx, viewer, shown).await?;
    Ok(members)
}

/// Reads a member from the columns of a user, then role, `joined_seq`, `delivered_seq`, `read_seq`.
pub(super) fn read_member(row: &Row) -> Result<MemberView, sqlx::Error> {
    Ok(MemberView {
        user: read_user(row, 0)?.into(),
        role: row.named(USER_COLUMNS, Role::parse)?,
        joined_seq: row.seq(USER_COLUMNS + 1)?,
        delivered_seq: row.seq(USER_COLUMNS + 2)?,
        read_seq: row.seq(USER_COLUMNS + 3)?,
    })
}

async fn member_counts(tx: &mut Tx, groups: &[ChatId]) -> Result<HashMap<ChatId, u32>, sqlx::Error> {
    if groups.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = tx.fetch(&MEMBER_COUNTS, args![Table::of_ids(groups.iter().map(|chat| chat.uuid()))]).await?;
    rows.iter().map(|row| Ok((row.id(0)?, row.count(1)?))).collect()
}
