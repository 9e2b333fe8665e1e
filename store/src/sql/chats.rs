//! The port `Chats`: making, changing and showing them.

pub(super) mod change;
pub(super) mod create;
pub(super) mod departure;
pub(super) mod lock;
pub(super) mod members;
pub(super) mod update;
pub(super) mod view;

use super::{
    SqlStore, read,
    statement::statements,
    stays::{Entitlement, list_stay_ends},
    transaction::Tx,
    users::{as_page, user_columns},
    value::{Row, args},
};
use async_trait::async_trait;
use curlew_domain::{
    Result,
    chat::{ChatKind, ChatSettings, ChatView, HistoryVisible, MemberView, Role, StayEnd},
    clock::Timestamp,
    ids::{ChatId, Seq, UserId},
    message::LogRow,
    page::{Page, PageRequest, Position},
    ports::store::{ChangeMembers, Chats, NewGroup, NewPrivateChat, SettingsChange, UpdateChat},
};
use update::UpdateSettings;
use uuid::Uuid;

/// The columns that [`read_mine`] expects, of tables `c` and `m`.
macro_rules! chat_columns {
    () => {
        "c.id, c.kind, c.low, c.high, c.name, c.description, c.history_visible, c.created_by, c.created_at, c.last_seq, c.last_at,
            m.visible_from, m.left_seq, m.role, m.read_seq, m.muted_until, m.pinned, m.archived"
    };
}

statements! {
    // The last of the stays.
    FIND_CHAT = ["SELECT " (chat_columns!()) " FROM memberships m JOIN chats c ON c.id = m.chat_id
        WHERE m.user_id = $1 AND m.chat_id = $2 ORDER BY m.joined_seq DESC LIMIT 1"];
    LIST_CHATS = ["SELECT " (chat_columns!()) " FROM memberships m JOIN chats c ON c.id = m.chat_id
        WHERE m.user_id = $1 AND m.left_seq IS NULL AND (c.last_at < $2 OR (c.last_at = $2 AND c.id < $3))
        ORDER BY c.last_at DESC, c.id DESC LIMIT $4"];
    LIST_MEMBERS = ["SELECT " (user_columns!()) ", m.role, m.joined_seq, m.shown_delivered_seq, m.shown_read_seq
        FROM memberships m JOIN users u ON u.id = m.user_id
        WHERE m.chat_id = $1 AND m.left_seq IS NULL AND (m.joined_seq > $2 OR (m.joined_seq = $2 AND m.user_id > $3))
        ORDER BY m.joined_seq, m.user_id LIMIT $4"];
}

/// A chat joined with the viewer's last stay, the rest still empty.
pub(super) struct Mine {
    view: ChatView,
    /// Sort key of lists.
    last_at: i64,
    visible_from: Seq,
    read_seq: Seq,
    /// The other, in a private chat.
    peer: Option<UserId>,
}

fn read_mine(viewer: UserId, row: &Row) -> Result<Mine, sqlx::Error> {
    let pair: [Option<UserId>; 2] = [row.id_or_null(2)?, row.id_or_null(3)?];
    let left = row.seq_or_null(12)?;
    let role = row.named(13, Role::parse)?;
    let view = ChatView {
        id: row.id(0)?,
        kind: row.named(1, ChatKind::parse)?,
        name: row.text_or_null(4)?,
        description: row.text_or_null(5)?,
        picture_url: None,
        history_visible: row.named(6, HistoryVisible::parse)?,
        created_by: row.id(7)?,
        created_at: row.at(8)?,
        last_seq: left.unwrap_or(row.seq(9)?),
        last_message: None,
        unread_count: 0,
        mention_count: 0,
        role: left.is_none().then_some(role),
        settings: ChatSettings {
            muted_until: row.at_or_null(15)?,
            pinned: row.flag(16)?,
            archived: row.flag(17)?,
        },
        peer: None,
        members: None,
        member_count: None,
    };
    Ok(Mine {
        view,
        last_at: row.int(10)?,
        visible_from: row.seq(11)?,
        read_seq: row.seq(14)?,
        peer: pair.into_iter().flatten().find(|user| *user != viewer),
    })
}

async fn find_chat(tx: &mut Tx, user: UserId, chat: ChatId) -> Result<Option<ChatView>, sqlx::Error> {
    let Some(row) = tx.find(&FIND_CHAT, args![user, chat]).await? else { return Ok(None) };
    let mine = read_mine(user, &row)?;
    Ok(view::complete(tx, user, vec![mine]).await?.pop())
}

async fn list_chats(tx: &mut Tx, user: UserId, page: PageRequest) -> Result<Page<ChatView>, sqlx::Error> {
    let after = page.after.unwrap_or(Position { key: i64::MAX, id: Uuid::max() });
    let rows = tx.fetch(&LIST_CHATS, args![user, after.key, after.id, page.limit + 1]).await?;
    let mine = rows.iter().map(|row| read_mine(user, row)).collect::<Result<Vec<_>, _>>()?;
    let Page { items, next_cursor } =
        as_page(mine, page, |chat| Position { key: chat.last_at, id: chat.view.id.uuid() });
    Ok(Page { items: view::complete(tx, user, items).await?, next_cursor })
}

async fn list_members(
    tx: &mut Tx,
    user: UserId,
    chat: ChatId,
    page: PageRequest,
) -> Result<Option<Page<MemberView>>, sqlx::Error> {
    let entitlement = Entitlement::find(tx, user, chat).await?;
    if entitlement.is_none_or(|entitlement| entitlement.role.is_none()) {
        return Ok(None);
    }
    let after = page.after.unwrap_or(Position { key: -1, id: Uuid::nil() });
    let rows = tx.fetch(&LIST_MEMBERS, args![chat, after.key, after.id, page.limit + 1]).await?;
    let mut members = rows.iter().map(view::read_member).collect::<Result<Vec<_>, _>>()?;
    view::hide_read(tx, user, members.iter_mut().map(|member| (chat, member)).collect()).await?;
    let position = |member: &MemberView| Position {
        key: i64::try_from(member.joined_seq).unwrap_or(i64::MAX),
        id: member.user.id.uuid(),
    };
    Ok(Some(as_page(members, page, position)))
}

#[async_trait]
impl Chats for SqlStore {
    async fn create_private_chat(&self, chat: NewPrivateChat) -> Result<(ChatId, bool)> {
        self.writer.write(chat).await
    }

    async fn create_group(&self, group: NewGroup) -> Result<(ChatId, bool)> {
        self.writer.write(group).await
    }

    async fn change_members(&self, change: ChangeMembers) -> Result<Option<LogRow>> {
        self.writer.write(change).await
    }

    async fn update_chat(&self, update: UpdateChat) -> Result<bool> {
        self.writer.write(update).await
    }

    async fn update_settings(
        &self,
        user: UserId,
        chat: ChatId,
        change: SettingsChange,
        at: Timestamp,
    ) -> Result<ChatSettings> {
        self.writer.write(UpdateSettings { user, chat, change, at }).await
    }

    async fn find_chat(&self, user: UserId, chat: ChatId) -> Result<Option<ChatView>> {
        read!(self, |tx| find_chat(tx, user, chat).await?)
    }

    async fn list_chats(&self, user: UserId, page: PageRequest) -> Result<Page<ChatView>> {
        read!(self, |tx| list_chats(tx, user, page).await?)
    }

    async fn list_members(
        &self,
        user: UserId,
        chat: ChatId,
        page: PageRequest,
    ) -> Result<Option<Page<MemberView>>> {
        read!(self, |tx| list_members(tx, user, chat, page).await?)
    }

    async fn list_stays(&self, user: UserId) -> Result<Vec<StayEnd>> {
        read!(self, single | tx | list_stay_ends(tx, user).await?)
    }
}
