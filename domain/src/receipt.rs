//! Delivered and read: watermarks per member, from which the state of every message follows.

use crate::{
    account::UserView,
    clock::Timestamp,
    ids::{ChatId, RowId, Seq, UserId},
    session::FollowChats,
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

/// When a message counts as delivered to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveredOn {
    /// Once one of their sessions has acknowledged it.
    Ack,
    /// Once the app is open on one of their devices: connected and active. All that waits is delivered by opening it; what a
    /// device in the background acknowledges is not.
    Open,
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
    /// How far the message at `seq` of `sender`, whose sight this is, got with this member; `None` if it does not count for
    /// them: their stay does not contain it, they sent it, or they left before it reached them.
    pub fn status_of(&self, sender: UserId, sight: Sight, seq: Seq) -> Option<Status> {
        let contains = self.joined_seq < seq && self.left_seq.is_none_or(|left| seq <= left);
        if !contains || self.user == sender {
            return None;
        }
        if self.delivered_seq < seq {
            return self.left_seq.is_none().then_some(Status::Sent);
        }
        Some(if sight.read_of(self) >= seq { Status::Read } else { Status::Delivered })
    }
}

/// What somebody is shown of how far others have read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Nothing: they do not show it themselves.
    Nothing,
    /// Of each member, once they have read beyond this row: what was read while the viewer showed nothing stays hidden. 0 but
    /// in groups of those who once showed nothing.
    Beyond(Seq),
}

impl Sight {
    /// All of it.
    pub const FULL: Self = Self::Beyond(0);

    /// Of somebody who `hides` what they read, or was not shown what others had read up to `floor`.
    pub fn of(hides: bool, floor: Seq) -> Self {
        if hides { Self::Nothing } else { Self::Beyond(floor) }
    }

    /// How far the member has read, as shown.
    pub fn read_of(self, mark: &Mark) -> Seq {
        self.read_after(mark.joined_seq, mark.read_seq)
    }

    /// How far somebody has read who joined at `joined_seq`, as shown.
    pub fn read_after(self, joined_seq: Seq, read_seq: Seq) -> Seq {
        match self {
            Self::Beyond(floor) if read_seq > floor => read_seq,
            Self::Nothing | Self::Beyond(_) => joined_seq,
        }
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
    pub fn of_message(marks: &[Mark], sender: UserId, sight: Sight, seq: Seq) -> Self {
        let mut counts = Self::default();
        for status in marks.iter().filter_map(|mark| mark.status_of(sender, sight, seq)) {
            counts.of += 1;
            counts.delivered += u32::from(status >= Status::Delivered);
            counts.read += u32::from(status == Status::Read);
        }
        counts
    }
}

/// The state of the message at `seq` of `sender`. For each state the members who left before reaching *it* do not count;
/// when nobody is left the message is SENT.
pub fn status_of(marks: &[Mark], sender: UserId, sight: Sight, seq: Seq) -> Status {
    let reached = |watermark: &dyn Fn(&Mark) -> Seq| {
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
    if reached(&|m| sight.read_of(m)) {
        Status::Read
    } else if reached(&|m| m.delivered_seq) {
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
}

/// A sender, still a member, whose messages were newly covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concerned {
    /// Whose messages.
    pub sender: UserId,
    /// What they are shown of READ.
    pub sight: Sight,
    /// The newest of them.
    pub newest: Seq,
    /// How many.
    pub count: u32,
}

/// Which receipts a user asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptsQuery {
    /// Of which chats, as far as the user is in them.
    pub chats: FollowChats,
    /// Of those that changed since; `None`: of those with an unfinished message of the user.
    pub since: Option<Timestamp>,
    /// The chat that ended the page before.
    pub after: Option<ChatId>,
    /// Most chats.
    pub limit: u32,
}

/// How the receipts of a chat stand, for one user.
#[derive(Clone, Debug)]
pub struct ReceiptState {
    /// Which chat.
    pub chat: ChatId,
    /// Whether it is a group.
    pub group: bool,
    /// What the user is shown of READ.
    pub sight: Sight,
    /// Messages of the user whose state is to be told, oldest first.
    pub messages: Vec<Seq>,
    /// Watermarks of all stays, as shown to others.
    pub marks: Vec<Mark>,
    /// How far the user has read, and what is left, if that is to be told.
    pub read: Option<(Seq, u32)>,
}

/// A page of them.
#[derive(Clone, Debug, Default)]
pub struct ReceiptsPage {
    /// By chat.
    pub states: Vec<ReceiptState>,
    /// From where the next page goes on; `None`: there is none.
    pub next: Option<ChatId>,
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
        assert_eq!(status_of(&marks, user(1), Sight::FULL, 4), Status::Delivered);
        assert_eq!(status_of(&marks, user(1), Sight::FULL, 5), Status::Sent);
        assert_eq!(status_of(&marks, user(1), Sight::FULL, 2), Status::Read);
        assert_eq!(
            Counts::of_message(&marks, user(1), Sight::FULL, 5),
            Counts { delivered: 1, read: 0, of: 2 }
        );
    }

    #[test]
    fn those_who_left_before_reaching_a_message_do_not_count() {
        let marks = [mark(1, None, 9, 9), mark(2, None, 5, 5), mark(3, Some(5), 3, 2)];
        assert_eq!(status_of(&marks, user(1), Sight::FULL, 5), Status::Read);
        assert_eq!(Counts::of_message(&marks, user(1), Sight::FULL, 5).of, 1);
    }

    #[test]
    fn a_message_for_nobody_stays_sent() {
        assert_eq!(status_of(&[mark(1, None, 9, 9)], user(1), Sight::FULL, 5), Status::Sent);
        assert_eq!(
            status_of(&[mark(1, None, 9, 9), mark(2, Some(5), 1, 1)], user(1), Sight::FULL, 5),
            Status::Sent
        );
    }

    #[test]
    fn what_was_read_while_one_hid_stays_hidden() {
        let marks = [mark(1, None, 9, 9), mark(2, None, 8, 7)];
        assert_eq!(status_of(&marks, user(1), Sight::Nothing, 5), Status::Delivered);
        assert_eq!(status_of(&marks, user(1), Sight::Beyond(7), 5), Status::Delivered);
        assert_eq!(status_of(&marks, user(1), Sight::Beyond(6), 5), Status::Read);
        assert_eq!(Counts::of_message(&marks, user(1), Sight::Beyond(7), 5).read, 0);
    }
}
