//! Stays as rows of a chat: what the rules want to know of them, beginning and ending them.

use crate::sql::{
    statement::statements,
    transaction::Tx,
    value::{Table, args},
};
use curlew_domain::{
    chat::Role,
    contact::{Relation, Relations},
    ids::{ChatId, Seq, UserId},
    rules::TargetFacts,
};
use std::collections::HashMap;

statements! {
    FIND_TARGETS = ["WITH r AS MATERIALIZED " rows(1: usr id) "
        SELECT r.usr, m.role, mine.relation, COALESCE(mine.blocks, 0), COALESCE(theirs.blocks, 0),
            CASE WHEN EXISTS (SELECT 1 FROM memberships f WHERE f.chat_id = $2 AND f.user_id = r.usr AND f.left_seq IS NOT NULL)
                THEN CAST(1 AS BIGINT) ELSE 0 END
        FROM r CROSS JOIN users u
        LEFT JOIN memberships m ON m.chat_id = $2 AND m.user_id = r.usr AND m.left_seq IS NULL
        LEFT JOIN relations mine ON mine.user_id = $3 AND mine.peer_id = r.usr
        LEFT JOIN relations theirs ON theirs.user_id = r.usr AND theirs.peer_id = $3
        WHERE u.id = r.usr AND u.deleted_at IS NULL"];
    INSERT_STAYS = ["WITH r AS MATERIALIZED " rows(1: usr id, role text) "
        INSERT INTO memberships (chat_id, user_id, joined_seq, visible_from, role, delivered_seq, read_seq, shown_delivered_seq,
            shown_read_seq, cleared_seq, receipts_at, pinned, archived)
        SELECT $2, r.usr, $3, $4, r.role, $3, $3, $3, $3, $3, 0, 0, 0 FROM r"];
    END_STAYS = ["WITH r AS MATERIALIZED " rows(1: usr id) "
        UPDATE memberships SET left_seq = $3 WHERE chat_id = $2 AND user_id IN (SELECT usr FROM r) AND left_seq IS NULL"];
    SET_ROLE = ["UPDATE memberships SET role = $3 WHERE chat_id = $1 AND user_id = $2 AND left_seq IS NULL"];
}

/// What the rules want to know of users whom `actor` would put into a chat, or out of it; in the order given, each once.
pub(super) async fn find_targets(
    tx: &mut Tx,
    chat: ChatId,
    actor: UserId,
    users: &[UserId],
) -> Result<Vec<TargetFacts>, sqlx::Error> {
    let mut known = HashMap::new();
    let table = Table::of_ids(users.iter().map(|user| user.uuid()));
    for row in tx.fetch(&FIND_TARGETS, args![table, chat, actor]).await? {
        let relations = Relations {
            relation: row.named_or_null(2, Relation::parse)?.unwrap_or_default(),
            i_block: row.flag(3)?,
            blocks_me: row.flag(4)?,
        };
        let user: UserId = row.id(0)?;
        known.insert(
            user,
            TargetFacts {
                user,
                exists: true,
                role: row.named_or_null(1, Role::parse)?,
                former: row.flag(5)?,
                relations,
            },
        );
    }
    let mut facts: Vec<TargetFacts> = Vec::with_capacity(users.len());
    for user in users {
        if facts.iter().any(|target| target.user == *user) {
            continue;
        }
        let relations = Relations::default();
        let unknown = TargetFacts { user: *user, exists: false, role: None, former: false, relations };
        facts.push(known.get(user).copied().unwrap_or(unknown));
    }
    Ok(facts)
}

/// Begins stays at a row of the chat; watermarks start there.
pub(super) async fn begin_stays(
    tx: &mut Tx,
    chat: ChatId,
    joined_seq: Seq,
    visible_from: Seq,
    members: &[(UserId, Role)],
) -> Result<(), sqlx::Error> {
    let table = Table::of(members, |row, (user, role)| {
        row.id(user.uuid()).text(role.as_str());
    });
    tx.execute(&INSERT_STAYS, args![table, chat, joined_seq, visible_from]).await.map(drop)
}

/// Ends the active stays of these users at a row of the chat.
pub(super) async fn end_stays(
    tx: &mut Tx,
    chat: ChatId,
    left_seq: Seq,
    users: &[UserId],
) -> Result<(), sqlx::Error> {
    let table = Table::of_ids(users.iter().map(|user| user.uuid()));
    tx.execute(&END_STAYS, args![table, chat, left_seq]).await.map(drop)
}

/// Gives an active member another role.
pub(super) async fn set_role(tx: &mut Tx, chat: ChatId, user: UserId, role: Role) -> Result<(), sqlx::Error> {
    tx.execute(&SET_ROLE, args![chat, user, role.as_str()]).await.map(drop)
}
