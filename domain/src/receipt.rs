//! Delivered and read: watermarks per member, from which the state of every message follows.

use crate::{
    account::UserView,
    ids::{ChatId, RowId, Seq, UserId},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How far a message got. SENT < DELIVERED < READ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// Stored.
    Sent,
    /// On a device of every member it counts for.
    Delivered,
    /// Seen by every member it counts for.
    Read,
}

/// Watermarks of one stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Whose.
    pub user: UserId,
    /// Where the stay began.
    pub joined_seq: Seq,
    /// Where it ended.
    pub left_seq: Option<Seq>,
    /// Everything up to here was delivered.
    pub delivered_seq: Seq,
    /// Everything up to here was read.
    pub read_seq: Seq,
}

impl Mark {
    /// How far the message at `seq` of `sender` got with this member; `None` if it does not count for them: their stay does
    /// not contain it, they sent it, or they left before it reached them.
    pub fn status_of(&self, sender: UserId, seq: Seq) -> Option<Status> {
        let contains = self.joined_seq < seq && self.left_seq.is_none_or(|left| seq <= left);
        if !contains || self.user == sender {
            return None;
        }
        if self.delivered_seq < seq {
            return self.left_seq.is_none().then_some(Status::Sent);
        }
        Some(if self.read_seq >= seq { Status::Read } else { Status::Delivered })
    }
}

/// Somebody for whom a message counts.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Recipient {
    /// Who.
    pub user: UserView,
    /// How far it got with them.
    pub status: Status,
}

/// Who has received and read a message, for its sender.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageInfo {
    /// Which message.
    pub message_id: RowId,
    /// Its place in the chat's log.
    pub seq: Seq,
    /// How far it got with all of them.
    pub status: Status,
    /// To how many it was delivered.
    pub delivered: u32,
    /// How many have read it.
    pub read: u32,
    /// For how many it counts.
    pub of: u32,
    /// Each of them, longest-standing first.
    pub recipients: Vec<Recipient>,
}

/// How many members a message counts for, and how many have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// To whom it was delivered.
    pub delivered: u32,
    /// Who has read it.
    pub read: u32,
    /// For how many it counts.
    pub of: u32,
}

impl Counts {
    /// Counts for the message at `seq` of `sender`: the members whose stay contains it, the sender and those who left
    /// before reaching it excepted.
    pub fn of_message(marks: &[Mark], sender: UserId, seq: Seq) -> Self {
        let mut counts = Self::default();
        for status in marks.iter().filter_map(|mark| mark.status_of(sender, seq)) {
            counts.of += 1;
            counts.delivered += u32::from(status >= Status::Delivered);
            counts.read += u32::from(status == Status::Read);
        }
        counts
    }
}

/// The state of the message at `seq` of `sender`. For each state the members who left before reaching *it* do not count;
/// when nobody is left the message is SENT.
pub fn status_of(marks: &[Mark], sender: UserId, seq: Seq) -> Status {
    let reached = |watermark: fn(&Mark) -> Seq| {
        let mut any = false;
        for mark in marks {
            let contains = mark.joined_seq < seq && mark.left_seq.is_none_or(|left| seq <= left);
            if !contains || mark.user == sender {
                continue;
            }
            if watermark(mark) >= seq {
                any = true;
            } else if mark.left_seq.is_none() {
                return false;
            }
        }
        any
    };
    if reached(|m| m.read_seq) {
        Status::Read
    } else if reached(|m| m.delivered_seq) {
        Status::Delivered
    } else {
        Status::Sent
    }
}

/// A wish to raise watermarks: clamped to the log's end and the stay; READ raises DELIVERED; never lowers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raise {
    /// In which chat.
    pub chat: ChatId,
    /// Whose.
    pub user: UserId,
    /// Up to where delivered. `Some(u64::MAX)` = the end as of the transaction.
    pub delivered: Option<Seq>,
    /// Up to where read. `Some(u64::MAX)` = the end as of the transaction.
    pub read: Option<Seq>,
}

/// What a [`Raise`] changed, as committed.
#[derive(Clone, Debug)]
pub struct Raised {
    /// In which chat.
    pub chat: ChatId,
    /// Whether it is a group.
    pub group: bool,
    /// Whose.
    pub user: UserId,
    /// DELIVERED before and after.
    pub delivered: (Seq, Seq),
    /// READ before and after.
    pub read: (Seq, Seq),
    /// What others are shown of DELIVERED, before and after: it stands still while a block is on the private chat.
    pub shown_delivered: (Seq, Seq),
    /// What others are shown of READ, before and after: it stands still, too, while privacy hides it.
    pub shown_read: (Seq, Seq),
    /// The user's unread messages afterwards, counted to 999, if READ moved; else 0.
    pub unread_count: u32,
    /// Whose messages lie in what is newly shown as DELIVERED.
    pub delivered_of: Vec<Concerned>,
    /// Whose messages lie in what is newly shown as READ.
    pub read_of: Vec<Concerned>,
    /// Watermarks of all stays of the chat afterwards, as shown; empty when nobody is concerned.
    pub marks: Vec<Mark>,
    /// Those concerned who do not show anybody what they have read: they are shown DELIVERED at most.
    pub hiding: Vec<UserId>,
}

/// A sender whose messages were newly covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concerned {
    /// Whose messages.
    pub sender: UserId,
    /// The newest of them.
    pub newest: Seq,
    /// How many.
    pub count: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn user(n: u128) -> UserId {
        Uuid::from_u128(n).into()
    }

    fn mark(n: u128, left_seq: Option<Seq>, delivered_seq: Seq, read_seq: Seq) -> Mark {
        Mark { user: user(n), joined_seq: 1, left_seq, delivered_seq, read_seq }
    }

    #[test]
    fn a_message_is_delivered_when_all_it_counts_for_have_it() {
        let marks = [mark(1, None, 9, 9), mark(2, None, 5, 4), mark(3, None, 4, 2)];
        assert_eq!(status_of(&marks, user(1), 4), Status::Delivered);
        assert_eq!(status_of(&marks, user(1), 5), Status::Sent);
        assert_eq!(status_of(&marks, user(1), 2), Status::Read);
        assert_eq!(Counts::of_message(&marks, user(1), 5), Counts { delivered: 1, read: 0, of: 2 });
    }

    #[test]
    fn those_who_left_before_reaching_a_message_do_not_count() {
        let marks = [mark(1, None, 9, 9), mark(2, None, 5, 5), mark(3, Some(5), 3, 2)];
        assert_eq!(status_of(&marks, user(1), 5), Status::Read);
        assert_eq!(Counts::of_message(&marks, user(1), 5).of, 1);
    }

    #[test]
    fn a_message_for_nobody_stays_sent() {
        assert_eq!(status_of(&[mark(1, None, 9, 9)], user(1), 5), Status::Sent);
        assert_eq!(status_of(&[mark(1, None, 9, 9), mark(2, Some(5), 1, 1)], user(1), 5), Status::Sent);
    }
}
