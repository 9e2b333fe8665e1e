//! Users as rows.

use super::{
    statement::statements,
    transaction::Tx,
    value::{Row, Table, args},
    writer::{Place, Scope, Write},
};
use crate::trouble::Failed;
use async_trait::async_trait;
use curlew_domain::{
    ErrorCode, Refusal,
    account::{Privacy, User, UserView, Username, Visibility},
    contact::search_key,
    ids::UserId,
    page::{Page, PageRequest, Position},
    ports::store::NewUser,
};
use std::collections::HashMap;
use uuid::Uuid;

/// The columns that [`read_user`] expects, of a table `u`.
macro_rules! user_columns {
    () => {
        "u.id, u.username, u.display_name, u.about, u.email, u.phone, u.created_at, u.deleted_at, u.last_seen_to, u.picture_to,
            u.read_receipts_to"
    };
}
pub(crate) use user_columns;

/// How many columns [`user_columns`] has.
pub(crate) const USER_COLUMNS: usize = 11;

statements! {
    INSERT_USER = ["INSERT INTO users (id, username, password_hash, display_name, about, email, phone, created_at, personal_seq,
            personal_at, search_name)
        VALUES ($1, $2, $3, $4, '', $5, $6, $7, 0, $7, $8) ON CONFLICT (username) DO NOTHING"];
    LOCK_NAME = ["SELECT u.id FROM users u WHERE u.username = $1" lock(u)];
    FORGET_RESERVED = ["DELETE FROM reserved_usernames WHERE until <= $1"];
    FIND_RESERVED = ["SELECT r.until FROM reserved_usernames r WHERE r.username = $1 AND r.until > $2"];
    FIND_USER = ["SELECT " (user_columns!()) " FROM users u WHERE u.id = $1"];
    FIND_USERS = ["WITH r AS MATERIALIZED " rows(1: usr id) "
        SELECT " (user_columns!()) " FROM r CROSS JOIN users u WHERE u.id = r.usr"];
    FIND_USER_BY_NAME = ["SELECT " (user_columns!()) ", u.password_hash FROM users u
        WHERE u.username = $1 AND u.deleted_at IS NULL"];
    LIST_USERS = ["SELECT " (user_columns!()) " FROM users u
        WHERE u.created_at > $1 OR (u.created_at = $1 AND u.id > $2) ORDER BY u.created_at, u.id LIMIT $3"];
}

/// Reads a user from [`user_columns`] that begin at column `first`.
pub(crate) fn read_user(row: &Row, first: usize) -> Result<User, sqlx::Error> {
    Ok(User {
        id: row.id(first)?,
        username: Username::stored(row.text(first + 1)?),
        display_name: row.text(first + 2)?,
        about: row.text(first + 3)?,
        email: row.text_or_null(first + 4)?,
        phone: row.text_or_null(first + 5)?,
        created_at: row.at(first + 6)?,
        deleted: row.int_or_null(first + 7)?.is_some(),
        privacy: Privacy {
            last_seen: row.named(first + 8, Visibility::parse)?,
            picture: row.named(first + 9, Visibility::parse)?,
            read_receipts: row.named(first + 10, Visibility::parse)?,
        },
    })
}

pub(super) async fn find_user(tx: &mut Tx, user: UserId) -> Result<Option<User>, sqlx::Error> {
    tx.find(&FIND_USER, args![user]).await?.map(|row| read_user(&row, 0)).transpose()
}

/// The public side of several users.
pub(super) async fn find_views(
    tx: &mut Tx,
    users: impl IntoIterator<Item = UserId>,
) -> Result<HashMap<UserId, UserView>, sqlx::Error> {
    let table = Table::of_ids(users.into_iter().map(UserId::uuid));
    let rows = tx.fetch(&FIND_USERS, args![table]).await?;
    rows.iter()
        .map(|row| {
            let user = read_user(row, 0)?;
            Ok((user.id, user.into()))
        })
        .collect()
}

/// By name, not deleted, with the password hash.
pub(super) async fn find_by_name(
    tx: &mut Tx,
    name: &Username,
) -> Result<Option<(User, String)>, sqlx::Error> {
    let row = tx.find(&FIND_USER_BY_NAME, args![name.as_str()]).await?;
    row.map(|row| Ok((read_user(&row, 0)?, row.text(USER_COLUMNS)?))).transpose()
}

pub(super) async fn list_users(tx: &mut Tx, page: PageRequest) -> Result<Page<User>, sqlx::Error> {
    let after = page.after.unwrap_or(Position { key: i64::MIN, id: Uuid::nil() });
    let rows = tx.fetch(&LIST_USERS, args![after.key, after.id, page.limit + 1]).await?;
    let users = rows.iter().map(|row| read_user(row, 0)).collect::<Result<Vec<_>, _>>()?;
    Ok(as_page(users, page, |user| Position { key: user.created_at.0, id: user.id.uuid() }))
}

/// Cuts a page from one item more than was asked for.
pub(super) fn as_page<T>(mut items: Vec<T>, page: PageRequest, position: impl Fn(&T) -> Position) -> Page<T> {
    let more = items.len() > page.limit as usize;
    items.truncate(page.limit as usize);
    let next_cursor = items.last().filter(|_| more).map(|last| position(last).encode());
    Page { items, next_cursor }
}

#[async_trait]
impl Write for NewUser {
    type Answer = ();
    const PLACE: Place = Place::Accounts;

    fn key(&self) -> Uuid {
        self.id.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<(), Failed> {
        let Self { id, username, password_hash, display_name, email, phone, at } = self;
        // First, and locked: one that is being deleted has reserved its name when the lock is ours.
        let taken = scope.tx.find(&LOCK_NAME, args![username.as_str()]).await?.is_some()
            || scope.tx.find(&FIND_RESERVED, args![username.as_str(), *at]).await?.is_some();
        if taken {
            return Err(username_taken(username).into());
        }
        scope.tx.execute(&FORGET_RESERVED, args![*at]).await?;
        let made = scope
            .tx
            .execute(
                &INSERT_USER,
                args![
                    *id,
                    username.as_str(),
                    password_hash.as_str(),
                    display_name.as_str(),
                    email.as_deref(),
                    phone.as_deref(),
                    *at,
                    search_key(display_name)
                ],
            )
            .await?;
        if made == 0 {
            return Err(username_taken(username).into());
        }
        Ok(())
    }
}

fn username_taken(username: &Username) -> Refusal {
    Refusal::new(ErrorCode::UsernameTaken, format!("user name {username} is taken"))
}
