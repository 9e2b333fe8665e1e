//! Stays: who may have which rows.

use super::{
    statement::statements,
    transaction::Tx,
    value::{Row, Table, args},
};
use curlew_domain::{
    chat::{Role, StayEnd},
    clock::Timestamp,
    ids::{ChatId, Seq, UserId},
    receipt::Mark,
};
use std::collections::HashMap;
use uuid::Uuid;

statements! {
    STAYS_IN_CHATS = ["WITH r AS MATERIALIZED " rows(1: chat id) "
        SELECT m.chat_id, m.visible_from, m.left_seq, m.role, c.last_seq
        FROM r"
        each(memberships m: "m.chat_id = r.chat AND m.user_id = $2")
        " JOIN chats c ON c.id = m.chat_id ORDER BY m.chat_id, m.joined_seq"];
    STAY_ENDS = ["SELECT m.chat_id, MIN(m.joined_seq), MAX(m.joined_seq), MAX(m.left_seq),
            MAX(CASE WHEN m.left_seq IS NULL THEN CAST(1 AS BIGINT) ELSE 0 END), MAX(c.last_seq),
            MAX(CASE WHEN m.left_seq IS NULL THEN m.delivered_seq ELSE 0 END)
        FROM memberships m JOIN chats c ON c.id = m.chat_id WHERE m.user_id = $1 GROUP BY m.chat_id"];
    MARKS = ["WITH r AS MATERIALIZED " rows(1: chat id) "
        SELECT m.chat_id, m.user_id, m.joined_seq, m.left_seq, m.shown_delivered_seq, m.shown_read_seq, m.shown_delivered_at, m.shown_read_at
        FROM r CROSS JOIN memberships m WHERE m.chat_id = r.chat ORDER BY m.chat_id, m.joined_seq, m.user_id"];
}

/// What a user may have of a chat's log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Entitlement {
    /// Disjoint ranges of rows, both ends included, ascending.
    pub ranges: Vec<(Seq, Seq)>,
    /// The last row: the log's end, or the end of the last stay.
    pub end: Seq,
    /// The role of the active stay.
    pub role: Option<Role>,
}

impl Entitlement {
    /// Whether the user may have this row.
    pub fn contains(&self, seq: Seq) -> bool {
        self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&seq))
    }

    /// A log of which everything is the user's.
    pub fn whole(end: Seq) -> Self {
        Self { ranges: vec![(1, end)], end, role: None }
    }

    /// What of it lies after this row.
    pub fn after(&self, seq: Seq) -> impl Iterator<Item = (Seq, Seq)> {
        let next = seq.saturating_add(1);
        let clipped = self.ranges.iter().map(move |(first, last)| ((*first).max(next), *last));
        clipped.filter(|(first, last)| first <= last)
    }

    /// The user's stays in the chat; `None`: there never was one.
    pub async fn find(tx: &mut Tx, user: UserId, chat: ChatId) -> Result<Option<Self>, sqlx::Error> {
        Ok(Self::find_all(tx, user, [chat]).await?.remove(&chat))
    }

    /// The user's stays in each chat where there ever was one.
    pub async fn find_all(
        tx: &mut Tx,
        user: UserId,
        chats: impl IntoIterator<Item = ChatId>,
    ) -> Result<HashMap<ChatId, Self>, sqlx::Error> {
        let mut entitlements = HashMap::new();
        let chats: Vec<Uuid> = chats.into_iter().map(ChatId::uuid).collect();
        if chats.is_empty() {
            return Ok(entitlements);
        }
        for row in tx.fetch(&STAYS_IN_CHATS, args![Table::of_ids(chats), user]).await? {
            let entitlement = entitlements.entry(row.id(0)?).or_insert_with(Self::default);
            let (visible_from, left, log_end) = (row.seq(1)?, row.seq_or_null(2)?, row.seq(4)?);
            let end = left.unwrap_or(log_end);
            entitlement.end = entitlement.end.max(end);
            entitlement.add(visible_from, end);
            if left.is_none() {
                entitlement.role = Some(row.named(3, Role::parse)?);
            }
        }
        Ok(entitlements)
    }

    /// Adds a range; an overlapping or touching one becomes one with it. A later stay may see further back.
    fn add(&mut self, first: Seq, last: Seq) {
        if first > last {
            return;
        }
        let (mut first, mut last) = (first, last);
        self.ranges.retain(|(from, to)| {
            let apart = *to + 1 < first || last + 1 < *from;
            if !apart {
                first = first.min(*from);
                last = last.max(*to);
            }
            apart
        });
        self.ranges.push((first, last));
        self.ranges.sort_unstable();
    }
}

/// Every chat in which the user has or ever had a stay.
pub(super) async fn list_stay_ends(tx: &mut Tx, user: UserId) -> Result<Vec<StayEnd>, sqlx::Error> {
    let rows = tx.fetch(&STAY_ENDS, args![user]).await?;
    rows.iter()
        .map(|row| {
            let left = if row.flag(4)? { None } else { row.seq_or_null(3)? };
            Ok(StayEnd {
                chat: row.id(0)?,
                first_joined: row.seq(1)?,
                last_joined: row.seq(2)?,
                left,
                end: left.unwrap_or(row.seq(5)?),
                delivered: left.unwrap_or(row.seq(6)?),
            })
        })
        .collect()
}

/// Watermarks of all stays of the chats.
pub(super) async fn find_marks(
    tx: &mut Tx,
    chats: impl IntoIterator<Item = ChatId>,
) -> Result<HashMap<ChatId, Vec<Mark>>, sqlx::Error> {
    find_by_chat(tx, chats, read_mark).await
}

/// Watermarks of a stay, as shown to others, and when they last moved.
pub(super) struct MovedMark {
    pub mark: Mark,
    /// DELIVERED.
    pub delivered_at: Timestamp,
    /// READ.
    pub read_at: Timestamp,
}

/// Watermarks of all stays of the chats, and when they last moved.
pub(super) async fn find_moved_marks(
    tx: &mut Tx,
    chats: impl IntoIterator<Item = ChatId>,
) -> Result<HashMap<ChatId, Vec<MovedMark>>, sqlx::Error> {
    let read =
        |row: &Row| Ok(MovedMark { mark: read_mark(row)?, delivered_at: row.at(6)?, read_at: row.at(7)? });
    find_by_chat(tx, chats, read).await
}

async fn find_by_chat<T>(
    tx: &mut Tx,
    chats: impl IntoIterator<Item = ChatId>,
    read: impl Fn(&Row) -> Result<T, sqlx::Error>,
) -> Result<HashMap<ChatId, Vec<T>>, sqlx::Error> {
    let mut marks: HashMap<ChatId, Vec<T>> = HashMap::new();
    for row in tx.fetch(&MARKS, args![Table::of_ids(chats.into_iter().map(ChatId::uuid))]).await? {
        marks.entry(row.id(0)?).or_default().push(read(&row)?);
    }
    Ok(marks)
}

fn read_mark(row: &Row) -> Result<Mark, sqlx::Error> {
    Ok(Mark {
        user: row.id(1)?,
        joined_seq: row.seq(2)?,
        left_seq: row.seq_or_null(3)?,
        delivered_seq: row.seq(4)?,
        read_seq: row.seq(5)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(stays: &[(Seq, Seq)]) -> Vec<(Seq, Seq)> {
        let mut entitlement = Entitlement::default();
        for (first, last) in stays {
            entitlement.add(*first, *last);
        }
        entitlement.ranges
    }

    #[test]
    fn stays_become_disjoint_ranges() {
        assert_eq!(of(&[(1, 5), (9, 12)]), [(1, 5), (9, 12)]);
        assert_eq!(of(&[(3, 5), (6, 12)]), [(3, 12)]);
        assert_eq!(of(&[(3, 5), (9, 12), (1, 20)]), [(1, 20)], "a later stay in a group that shows all");
        assert_eq!(of(&[(1, 0)]), [], "a private chat without a row");
    }
}
