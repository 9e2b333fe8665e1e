//! Chats, stays (memberships) and their views.

use crate::{
    account::UserView,
    clock::Timestamp,
    ids::{ChatId, Seq, UserId},
    message::MessageView,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Private (two people) or group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChatKind {
    /// Two people, once per pair.
    Private,
    /// Any number up to the limit.
    Group,
}

impl ChatKind {
    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Group => "group",
        }
    }

    /// From the store.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Private, Self::Group].into_iter().find(|k| k.as_str() == text)
    }
}

/// What of a group's history somebody who joins may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HistoryVisible {
    /// From joining.
    #[default]
    Joined,
    /// All of it.
    All,
}

impl HistoryVisible {
    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::All => "all",
        }
    }

    /// From the store.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Joined, Self::All].into_iter().find(|k| k.as_str() == text)
    }
}

/// Role in a group. In a private chat both are `Member`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// No more than a member.
    Member,
    /// May add and remove members.
    Admin,
    /// May also name admins and owners.
    Owner,
}

impl Role {
    /// As stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Admin => "admin",
            Self::Owner => "owner",
        }
    }

    /// From the store.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Member, Self::Admin, Self::Owner].into_iter().find(|k| k.as_str() == text)
    }
}

/// How a user stands to a chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Never was in it.
    Stranger,
    /// Was in it.
    Former,
    /// Is in it.
    Active(Role),
}

/// Why a stay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LeaveReason {
    /// The member left.
    Left,
    /// Somebody removed the member.
    Removed,
}

/// What everybody in a group sees of the group itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChatBasics {
    /// Id.
    pub id: ChatId,
    /// Name.
    pub name: Option<String>,
    /// Description.
    pub description: Option<String>,
    /// Picture.
    pub picture_url: Option<String>,
    /// What those who join may read.
    pub history_visible: HistoryVisible,
}

/// A chat as one of its members, present or former, sees it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChatView {
    /// Id.
    pub id: ChatId,
    /// Private or group.
    #[serde(rename = "type")]
    pub kind: ChatKind,
    /// Group name.
    pub name: Option<String>,
    /// Group description.
    pub description: Option<String>,
    /// Group picture.
    pub picture_url: Option<String>,
    /// What those who join may read (groups).
    pub history_visible: HistoryVisible,
    /// Who made it.
    pub created_by: UserId,
    /// When.
    pub created_at: Timestamp,
    /// End of the log as far as the viewer may see.
    pub last_seq: Seq,
    /// Newest message row that the viewer may see.
    pub last_message: Option<MessageView>,
    /// Messages of others after the viewer's READ watermark, counted to 999.
    pub unread_count: u32,
    /// Those of them that mention the viewer.
    pub mention_count: u32,
    /// The viewer's role; `null` for a former member.
    pub role: Option<Role>,
    /// The viewer's settings.
    pub settings: ChatSettings,
    /// The other (private chats).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub peer: Option<UserView>,
    /// The first 20 members (groups).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub members: Option<Vec<MemberView>>,
    /// How many members (groups).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub member_count: Option<u32>,
}

/// A member's own settings of a chat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChatSettings {
    /// Not to be announced until then; it counts all the same.
    pub muted_until: Option<Timestamp>,
    /// Shown on top.
    pub pinned: bool,
    /// Shown apart.
    pub archived: bool,
}

/// A member as other members see them.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberView {
    /// The user.
    pub user: UserView,
    /// Role.
    pub role: Role,
    /// Where the present stay began.
    pub joined_seq: Seq,
    /// DELIVERED watermark.
    pub delivered_seq: Seq,
    /// READ watermark.
    pub read_seq: Seq,
}

/// A stay, reduced to what delivery needs: one per chat in which the user has or ever had a stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StayEnd {
    /// Which chat.
    pub chat: ChatId,
    /// `joined_seq` of the first stay.
    pub first_joined: Seq,
    /// `joined_seq` of the last stay.
    pub last_joined: Seq,
    /// `left_seq` of the last stay; `None` = still in.
    pub left: Option<Seq>,
    /// The last row the user may have: the log's end, or `left`.
    pub end: Seq,
    /// What was delivered to the user, if they are still in; else `end`.
    pub delivered: Seq,
}
