//! Finding people by the beginning of a name, by ranges of two indexes.

use crate::sql::{
    statement::statements,
    transaction::Tx,
    users::{USER_COLUMNS, read_user, user_columns},
    value::{Table, args},
};
use curlew_domain::{
    account::User,
    contact::{FoundUser, Relation, SearchPosition, SearchQuery, ShownRelation},
    ids::UserId,
};
use std::collections::HashMap;
use uuid::Uuid;

statements! {
    BY_USERNAME = ["SELECT " (user_columns!()) " FROM users u
        WHERE u.username >= $1 AND u.username < $2 AND u.username > $3 AND u.id <> $4 AND u.deleted_at IS NULL
        ORDER BY u.username LIMIT $5"];
    // Those whose user name matches were met before.
    BY_DISPLAY_NAME = ["SELECT " (user_columns!()) ", u.search_name FROM users u
        WHERE u.search_name >= $1 AND u.search_name < $2 AND (u.search_name > $3 OR (u.search_name = $3 AND u.id > $6))
            AND NOT (u.username >= $1 AND u.username < $2) AND u.id <> $4 AND u.deleted_at IS NULL
        ORDER BY u.search_name, u.id LIMIT $5"];
    RELATIONS = ["WITH r AS MATERIALIZED " rows(1: usr id) "
        SELECT x.peer_id, x.relation, x.blocks FROM r CROSS JOIN relations x WHERE x.user_id = $2 AND x.peer_id = r.usr"];
}

/// A page of people, and where the next one begins.
pub(super) async fn search(
    tx: &mut Tx,
    me: UserId,
    query: &SearchQuery,
    after: Option<&SearchPosition>,
    limit: u32,
) -> Result<(Vec<FoundUser>, Option<SearchPosition>), sqlx::Error> {
    let first = query.as_str();
    // Behind every text that begins with it: no text has a character after this one.
    let end = format!("{first}\u{10FFFF}");
    let wanted = limit as usize + 1;
    let mut found: Vec<(User, SearchPosition)> = Vec::new();
    if !matches!(after, Some(SearchPosition::DisplayName(..))) {
        let after = match after {
            Some(SearchPosition::Username(name)) => name.as_str(),
            _ => "",
        };
        for row in tx.fetch(&BY_USERNAME, args![first, end.as_str(), after, me, limit + 1]).await? {
            let user = read_user(&row, 0)?;
            let position = SearchPosition::Username(user.username.as_str().to_owned());
            found.push((user, position));
        }
    }
    if found.len() < wanted {
        let (name, id) = match after {
            Some(SearchPosition::DisplayName(name, user)) => (name.as_str(), user.uuid()),
            _ => ("", Uuid::nil()),
        };
        let missing = limit + 1 - u32::try_from(found.len()).unwrap_or(limit);
        let args = args![first, end.as_str(), name, me, missing, id];
        for row in tx.fetch(&BY_DISPLAY_NAME, args).await? {
            let user = read_user(&row, 0)?;
            let position = SearchPosition::DisplayName(row.text(USER_COLUMNS)?, user.id);
            found.push((user, position));
        }
    }
    let more = found.len() > limit as usize;
    found.truncate(limit as usize);
    let next = found.last().filter(|_| more).map(|(_, position)| position.clone());
    let relations = find_relations(tx, me, found.iter().map(|(user, _)| user.id)).await?;
    let show = |(user, _): (User, SearchPosition)| FoundUser {
        relation: relations.get(&user.id).copied().unwrap_or(ShownRelation::None),
        user: user.into(),
    };
    Ok((found.into_iter().map(show).collect(), next))
}

async fn find_relations(
    tx: &mut Tx,
    me: UserId,
    users: impl Iterator<Item = UserId>,
) -> Result<HashMap<UserId, ShownRelation>, sqlx::Error> {
    let rows = tx.fetch(&RELATIONS, args![Table::of_ids(users.map(UserId::uuid)), me]).await?;
    rows.iter()
        .map(|row| Ok((row.id(0)?, ShownRelation::of(row.named(1, Relation::parse)?, row.flag(2)?))))
        .collect()
}
