//! Watermarks: raising them, and what follows from it.

use super::{
    chats::view::hides_read,
    messages::append::{pair_blocked, standing},
    statement::{Sql, statements},
    stays::{MovedMark, find_moved_marks},
    transaction::Tx,
    value::{Table, args},
    writer::{Reply, Scope},
};
use curlew_domain::{
    Result,
    chat::ChatKind,
    clock::Timestamp,
    ids::{ChatId, Seq, UserId},
    receipt::{Concerned, Raise, Raised, ReceiptState, ReceiptsPage, ReceiptsQuery, Sight},
    rules::require_member,
    session::FollowChats,
};
use std::collections::{BTreeSet, HashMap, HashSet};
use uuid::Uuid;

/// Unread messages are counted up to here.
pub(crate) const MOST_UNREAD: i64 = 999;

/// Whether READ of a stay `m` in a chat `c` is not shown: 0 or 1. In a private chat neither sees it as long as one of the two
/// does not show it to the other; in a group it follows the member's own setting alone.
macro_rules! read_hidden {
    () => {
        "CASE WHEN EXISTS (SELECT 1 FROM users h WHERE h.id = m.user_id AND h.read_receipts_to = 'nobody')
                OR EXISTS (SELECT 1 FROM users h WHERE h.id IN (c.low, c.high) AND (h.read_receipts_to = 'nobody'
                    OR (h.read_receipts_to = 'contacts' AND NOT EXISTS (SELECT 1 FROM relations f
                        WHERE f.user_id = c.low AND f.peer_id = c.high AND f.relation = 'contact'))))
                THEN CAST(1 AS BIGINT) ELSE 0 END"
    };
}

statements! {
    LOCK_STAYS = ["WITH r AS MATERIALIZED " rows(1: chat id, usr id) "
        SELECT m.chat_id, m.user_id, m.delivered_seq, m.read_seq, c.kind, c.last_seq, m.shown_delivered_seq, m.shown_read_seq,
            " (pair_blocked!()) ", m.hidden_read_seq, " (read_hidden!()) "
        FROM r CROSS JOIN memberships m CROSS JOIN chats c
        WHERE m.chat_id = r.chat AND m.user_id = r.usr AND m.left_seq IS NULL AND c.id = m.chat_id
        ORDER BY m.chat_id, m.user_id" lock(m)];
    FORMER_STAYS = ["WITH r AS MATERIALIZED " rows(1: chat id, usr id) "
        SELECT r.chat, r.usr FROM r
        WHERE EXISTS (SELECT 1 FROM memberships m WHERE m.chat_id = r.chat AND m.user_id = r.usr)"];
    RAISE_STAYS = ["WITH r AS MATERIALIZED " rows(1: chat id, usr id, delivered int, seen int, shown_delivered int, shown_seen int, hidden int) "
        UPDATE memberships SET delivered_seq = r.delivered, read_seq = r.seen, shown_delivered_seq = r.shown_delivered,
            shown_read_seq = r.shown_seen, hidden_read_seq = r.hidden,
            receipts_at = CASE WHEN shown_delivered_seq < r.shown_delivered OR shown_read_seq < r.shown_seen THEN $2 ELSE receipts_at END,
            shown_delivered_at = CASE WHEN shown_delivered_seq < r.shown_delivered THEN $2 ELSE shown_delivered_at END,
            shown_read_at = CASE WHEN shown_read_seq < r.shown_seen THEN $2 ELSE shown_read_at END,
            read_at = CASE WHEN read_seq < r.seen THEN $2 ELSE read_at END
        FROM r
        WHERE memberships.chat_id = r.chat AND memberships.user_id = r.usr AND memberships.left_seq IS NULL"];
    // The kind is spelt so that it is not looked up in an index of messages by sender, where all of a chat would be read.
    CONCERNED = ["WITH r AS MATERIALIZED " rows(1: n int, chat id, usr id, above int, upto int) "
        SELECT r.n, l.sender, MAX(l.seq), COUNT(*),
            CASE WHEN EXISTS (SELECT 1 FROM users h WHERE h.id = l.sender AND h.read_receipts_to = 'nobody')
                THEN CAST(1 AS BIGINT) ELSE 0 END, MAX(s.unseen_read_seq)
        FROM r"
        each(log l: "l.stream = r.chat AND l.seq > r.above AND l.seq <= r.upto AND l.kind || '' = 'message' AND l.sender <> r.usr")
        each(memberships s: "s.chat_id = r.chat AND s.user_id = l.sender AND s.left_seq IS NULL")
        " GROUP BY r.n, l.sender"];
    RECEIPT_CHATS = ["WITH r AS MATERIALIZED " rows(1: chat id) "
        SELECT m.chat_id, c.kind, c.last_seq, m.read_seq, m.read_at, m.unseen_read_seq
        FROM memberships m JOIN chats c ON c.id = m.chat_id
        WHERE m.user_id = $2 AND m.left_seq IS NULL AND m.chat_id > $3 AND ($4 = 1 OR m.chat_id IN (SELECT chat FROM r))
            AND (m.read_at > $5 OR EXISTS (SELECT 1 FROM memberships o
                WHERE o.chat_id = m.chat_id AND o.user_id <> m.user_id AND o.receipts_at > $5))
        ORDER BY m.chat_id LIMIT $6"];
    NEWEST_OWN = ["WITH r AS MATERIALIZED " rows(1: chat id, upto int) "
        SELECT r.chat, (SELECT MAX(l.seq) FROM log l
            WHERE l.stream = r.chat AND l.sender = $2 AND l.kind = 'message' AND l.seq <= r.upto) FROM r"];
    COUNT_UNREAD = ["WITH r AS MATERIALIZED " rows(1: chat id, usr id, above int, upto int) "
        SELECT r.chat, r.usr, (SELECT COUNT(*) FROM (SELECT 1 AS one FROM log l
            WHERE l.stream = r.chat AND l.seq > r.above AND l.seq <= r.upto AND l.kind = 'message' AND l.sender <> r.usr
                AND l.deleted_at IS NULL AND NOT EXISTS (SELECT 1 FROM hidden_messages h
                    WHERE h.chat_id = r.chat AND h.user_id = r.usr AND h.message_seq = l.seq) LIMIT $2) unread)
        FROM r"];
    COUNT_MENTIONS = ["WITH r AS MATERIALIZED " rows(1: chat id, usr id, above int, upto int) "
        SELECT r.chat, r.usr, (SELECT COUNT(*) FROM (SELECT 1 AS one FROM mentions n CROSS JOIN log l
            WHERE l.stream = n.chat_id AND l.seq = n.message_seq AND n.chat_id = r.chat AND n.user_id = r.usr AND n.message_seq > r.above AND n.message_seq <= r.upto
                AND l.sender <> r.usr AND l.deleted_at IS NULL AND NOT EXISTS (SELECT 1 FROM hidden_messages h
                    WHERE h.chat_id = r.chat AND h.user_id = r.usr AND h.message_seq = l.seq) LIMIT $2) unread)
        FROM r"];
}

/// A member of a chat, a watermark, and the end of what the member may have.
pub(super) type Above = (ChatId, UserId, Seq, Seq);

/// Messages of others above a watermark, neither deleted nor hidden, counted to 999.
pub(super) async fn count_unread(
    tx: &mut Tx,
    of: impl IntoIterator<Item = Above>,
) -> Result<HashMap<(ChatId, UserId), u32>, sqlx::Error> {
    count(tx, &COUNT_UNREAD, of).await
}

/// Those of them that mention the member.
pub(super) async fn count_mentions(
    tx: &mut Tx,
    of: impl IntoIterator<Item = Above>,
) -> Result<HashMap<(ChatId, UserId), u32>, sqlx::Error> {
    count(tx, &COUNT_MENTIONS, of).await
}

async fn count(
    tx: &mut Tx,
    sql: &Sql,
    of: impl IntoIterator<Item = Above>,
) -> Result<HashMap<(ChatId, UserId), u32>, sqlx::Error> {
    let mut any = false;
    let table = Table::of(of, |row, (chat, user, above, end)| {
        any = true;
        row.id(chat.uuid()).id(user.uuid()).seq(above).seq(end);
    });
    if !any {
        return Ok(HashMap::new());
    }
    let rows = tx.fetch(sql, args![table, MOST_UNREAD]).await?;
    rows.iter().map(|row| Ok(((row.id(0)?, row.id(1)?), row.count(2)?))).collect()
}

/// Watermarks of an active member, under lock.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stay {
    delivered: Seq,
    read: Seq,
    /// What others are shown of DELIVERED and READ.
    shown: (Seq, Seq),
    /// A private chat in which one has blocked the other: nothing more is shown.
    blocked: bool,
    /// READ is not shown.
    read_hidden: bool,
    /// Up to here it was read while that was not shown, and is not shown afterwards either.
    hidden: Seq,
    group: bool,
    end: Seq,
}

impl Stay {
    /// Raises by a wish: clamped to the log's end, never lowered, READ raising DELIVERED.
    fn raise(&mut self, wish: &Raise) {
        let clamped = |wish: Option<Seq>| wish.unwrap_or(0).min(self.end);
        let read_before = self.read;
        self.read = self.read.max(clamped(wish.read));
        self.delivered = self.delivered.max(clamped(wish.delivered)).max(self.read);
        if self.read_hidden && self.read > read_before {
            self.hidden = self.read;
        }
        if !self.blocked {
            self.shown.0 = self.delivered;
            if !self.read_hidden && self.read > self.hidden {
                self.shown.1 = self.read;
            }
        }
    }
}

type Member = (ChatId, UserId);

/// Watermarks to be raised, in the queue.
pub(crate) struct RaiseWatermarks {
    pub raises: Vec<Raise>,
    pub at: Timestamp,
    pub reply: Reply<Vec<Result<Raised>>>,
}

/// Raises the watermarks of all commands at once, in their order; each gets its outcomes.
pub(crate) async fn raise_watermarks(
    scope: &mut Scope<'_>,
    run: &mut [&mut RaiseWatermarks],
) -> Result<(), sqlx::Error> {
    let Some(at) = run.iter().map(|command| command.at).max() else { return Ok(()) };
    let tx = &mut *scope.tx;
    let raises = || run.iter().flat_map(|command| &command.raises);
    let members: BTreeSet<Member> = raises().map(|raise| (raise.chat, raise.user)).collect();
    let mut stays = lock_stays(tx, &members).await?;
    let former = find_former(tx, members.iter().filter(|member| !stays.contains_key(member))).await?;
    let mut changed = HashSet::new();
    let mut outcomes: Vec<Result<Raised>> = Vec::new();
    for wish in raises() {
        let member = (wish.chat, wish.user);
        outcomes.push(match stays.get_mut(&member) {
            Some(stay) => {
                let before = *stay;
                stay.raise(wish);
                if *stay != before {
                    changed.insert(member);
                }
                Ok(raised(wish, before, *stay))
            }
            None => Err(require_member(standing(None, former.contains(&member)))
                .expect_err("somebody without an active stay is no member")
                .into()),
        });
    }
    store(tx, &stays, &changed, at).await?;
    complete(tx, &mut outcomes, &stays).await?;
    let mut outcomes = outcomes.into_iter();
    for command in run {
        command.reply.set(Ok(outcomes.by_ref().take(command.raises.len()).collect()));
    }
    Ok(())
}

fn raised(wish: &Raise, before: Stay, after: Stay) -> Raised {
    Raised {
        chat: wish.chat,
        group: after.group,
        user: wish.user,
        delivered: (before.delivered, after.delivered),
        read: (before.read, after.read),
        shown_delivered: (before.shown.0, after.shown.0),
        shown_read: (before.shown.1, after.shown.1),
        unread_count: 0,
        delivered_of: Vec::new(),
        read_of: Vec::new(),
    }
}

fn members_table<'a>(members: impl IntoIterator<Item = &'a Member>) -> Table {
    Table::of(members, |row, (chat, user)| {
        row.id(chat.uuid()).id(user.uuid());
    })
}

async fn lock_stays(tx: &mut Tx, members: &BTreeSet<Member>) -> Result<HashMap<Member, Stay>, sqlx::Error> {
    let rows = tx.fetch(&LOCK_STAYS, args![members_table(members)]).await?;
    rows.iter()
        .map(|row| {
            let group = row.named(4, ChatKind::parse)? == ChatKind::Group;
            let stay = Stay {
                delivered: row.seq(2)?,
                read: row.seq(3)?,
                shown: (row.seq(6)?, row.seq(7)?),
                blocked: row.flag(8)?,
                hidden: row.seq(9)?,
                read_hidden: row.flag(10)?,
                group,
                end: row.seq(5)?,
            };
            Ok(((row.id(0)?, row.id(1)?), stay))
        })
        .collect()
}

async fn find_former<'a>(
    tx: &mut Tx,
    missing: impl Iterator<Item = &'a Member>,
) -> Result<HashSet<Member>, sqlx::Error> {
    let missing: Vec<&Member> = missing.collect();
    if missing.is_empty() {
        return Ok(HashSet::new());
    }
    let rows = tx.fetch(&FORMER_STAYS, args![members_table(missing)]).await?;
    rows.iter().map(|row| Ok((row.id(0)?, row.id(1)?))).collect()
}

async fn store(
    tx: &mut Tx,
    stays: &HashMap<Member, Stay>,
    changed: &HashSet<Member>,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    if changed.is_empty() {
        return Ok(());
    }
    let changed = stays.iter().filter(|(member, _)| changed.contains(member));
    let table = Table::of(changed, |row, ((chat, user), stay)| {
        row.id(chat.uuid())
            .id(user.uuid())
            .seq(stay.delivered)
            .seq(stay.read)
            .seq(stay.shown.0)
            .seq(stay.shown.1)
            .seq(stay.hidden);
    });
    tx.execute(&RAISE_STAYS, args![table, at]).await.map(drop)
}

/// Adds whom each raise concerns, the watermarks of chats in which it concerns somebody, and, where READ moved, what is
/// left unread.
async fn complete(
    tx: &mut Tx,
    outcomes: &mut [Result<Raised>],
    stays: &HashMap<Member, Stay>,
) -> Result<(), sqlx::Error> {
    let mut ranges = Vec::new();
    for (n, raised) in
        outcomes.iter().enumerate().filter_map(|(n, outcome)| Some((n, outcome.as_ref().ok()?)))
    {
        for (kind, (above, upto)) in [(0, raised.shown_delivered), (1, raised.shown_read)] {
            if above < upto {
                ranges.push((2 * n + kind, raised.chat, raised.user, above, upto));
            }
        }
    }
    let nobody = ranges.is_empty();
    let table = Table::of(ranges, |row, (n, chat, user, above, upto)| {
        row.int(n as i64).id(chat.uuid()).id(user.uuid()).seq(above).seq(upto);
    });
    let concerned = if nobody { Vec::new() } else { tx.fetch(&CONCERNED, args![table]).await? };
    for row in concerned {
        let n = usize::try_from(row.int(0)?).unwrap_or(usize::MAX);
        let Some(Ok(raised)) = outcomes.get_mut(n / 2) else { continue };
        let sight = Sight::of(row.flag(4)?, row.seq(5)?);
        // Who does not show whether they have read is not shown it.
        if sight == Sight::Nothing && n % 2 == 1 {
            continue;
        }
        let of = if n % 2 == 0 { &mut raised.delivered_of } else { &mut raised.read_of };
        of.push(Concerned { sender: row.id(1)?, sight, newest: row.seq(2)?, count: row.count(3)? });
    }
    let read = outcomes.iter().flatten().filter(|raised| raised.read.0 < raised.read.1);
    let unread = count_unread(
        tx,
        read.filter_map(|raised| {
            let stay = stays.get(&(raised.chat, raised.user))?;
            Some((raised.chat, raised.user, stay.read, stay.end))
        }),
    )
    .await?;
    for raised in outcomes.iter_mut().flatten() {
        raised.unread_count = unread.get(&(raised.chat, raised.user)).copied().unwrap_or(0);
    }
    Ok(())
}

/// A chat whose receipts are asked for.
struct Asked {
    chat: ChatId,
    group: bool,
    end: Seq,
    /// Read by the user, and when.
    read: (Seq, Timestamp),
    sight: Sight,
}

/// How the receipts of a user's chats stand.
pub(super) async fn list_receipts(
    tx: &mut Tx,
    user: UserId,
    query: &ReceiptsQuery,
) -> Result<ReceiptsPage, sqlx::Error> {
    let asked = list_asked(tx, user, query).await?;
    let full = asked.len() >= query.limit as usize;
    let next = asked.last().map(|asked| asked.chat).filter(|_| full);
    let moved = find_moved_marks(tx, asked.iter().map(|asked| asked.chat)).await?;
    let marks_of = |chat: &ChatId| moved.get(chat).map(Vec::as_slice).unwrap_or_default();
    let ends = asked.iter().flat_map(|asked| {
        let ends = ends(user, asked, marks_of(&asked.chat), query.since);
        ends.into_iter().map(|end| (asked.chat, end))
    });
    let mut messages = find_newest(tx, user, ends).await?;
    let was_read = |asked: &&Asked| query.since.is_some_and(|since| asked.read.1 > since);
    let left = asked.iter().filter(was_read).map(|asked| (asked.chat, user, asked.read.0, asked.end));
    let unread = count_unread(tx, left).await?;
    let states = asked.iter().map(|asked| ReceiptState {
        chat: asked.chat,
        group: asked.group,
        sight: asked.sight,
        messages: messages.remove(&asked.chat).unwrap_or_default().into_iter().collect(),
        marks: marks_of(&asked.chat).iter().map(|moved| moved.mark).collect(),
        read: was_read(&asked)
            .then(|| (asked.read.0, unread.get(&(asked.chat, user)).copied().unwrap_or_default())),
    });
    Ok(ReceiptsPage { states: states.collect(), next })
}

async fn list_asked(tx: &mut Tx, user: UserId, query: &ReceiptsQuery) -> Result<Vec<Asked>, sqlx::Error> {
    let (all, chats) = match &query.chats {
        FollowChats::All => (true, [].as_slice()),
        FollowChats::Only(chats) => (false, chats.as_slice()),
    };
    let chats = Table::of_ids(chats.iter().map(|chat| chat.uuid()));
    let after = query.after.map_or(Uuid::nil(), ChatId::uuid);
    // Before every time there is.
    let since = query.since.unwrap_or(Timestamp(-1));
    let rows =
        tx.fetch(&RECEIPT_CHATS, args![chats, user, after, i64::from(all), since, query.limit]).await?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let hides = hides_read(tx, user).await?;
    rows.iter()
        .map(|row| {
            Ok(Asked {
                chat: row.id(0)?,
                group: row.named(1, ChatKind::parse)? == ChatKind::Group,
                end: row.seq(2)?,
                read: (row.seq(3)?, row.at(4)?),
                sight: Sight::of(hides, row.seq(5)?),
            })
        })
        .collect()
}

/// Rows of a chat up to which the user's newest message is one whose state is to be told: what others have come to, since a
/// time if one is given, else also the end.
fn ends(user: UserId, asked: &Asked, marks: &[MovedMark], since: Option<Timestamp>) -> Vec<Seq> {
    let others = || marks.iter().filter(|moved| moved.mark.user != user);
    let moved = |at: Timestamp| since.is_none_or(|since| at > since);
    let delivered =
        others().filter(|other| moved(other.delivered_at)).map(|other| other.mark.delivered_seq).max();
    let may_see = |_: &&MovedMark| asked.sight != Sight::Nothing;
    let read = others()
        .filter(may_see)
        .filter(|other| moved(other.read_at))
        .map(|other| asked.sight.read_of(&other.mark))
        .max();
    let ends = match since {
        Some(_) => [read, delivered, None],
        // Of a group's messages the newest one has the least of each count.
        None if asked.group => [None, None, Some(asked.end)],
        None => [read, delivered, Some(asked.end)],
    };
    ends.into_iter().flatten().filter(|end| *end > 0).collect()
}

/// The user's newest messages up to these rows.
async fn find_newest(
    tx: &mut Tx,
    user: UserId,
    ends: impl Iterator<Item = (ChatId, Seq)>,
) -> Result<HashMap<ChatId, BTreeSet<Seq>>, sqlx::Error> {
    let mut newest: HashMap<ChatId, BTreeSet<Seq>> = HashMap::new();
    let table = Table::of(ends, |row, (chat, end)| {
        row.id(chat.uuid()).seq(end);
    });
    for row in tx.fetch(&NEWEST_OWN, args![table, user]).await? {
        if let Some(seq) = row.seq_or_null(1)? {
            newest.entry(row.id(0)?).or_default().insert(seq);
        }
    }
    Ok(newest)
}
