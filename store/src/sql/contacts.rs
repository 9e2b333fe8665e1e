//! Relations between users: one row per direction, written together.

pub(super) mod search;

use super::{
    SqlStore,
    log::{append_personal, lock_users},
    read,
    statement::statements,
    transaction::Tx,
    users::{USER_COLUMNS, as_page, find_views, read_user, user_columns},
    value::{Arg, Row, Table, args},
    writer::{Place, Scope, Write},
};
use crate::trouble::Failed;
use async_trait::async_trait;
use curlew_domain::{
    Result,
    clock::Timestamp,
    contact::{
        ContactFilter, ContactState, ContactView, FoundUser, Relation, RelationAction, Relations,
        SearchPosition, SearchQuery,
    },
    ids::{ChatId, UserId},
    message::Entry,
    page::{Page, PageRequest, Position},
    ports::{relay::Committed, store::Contacts},
    presence::PresenceContact,
    rules,
};
use search::search;
use std::collections::BTreeMap;
use uuid::Uuid;

statements! {
    FIND_PAIR_CHAT = ["SELECT c.id FROM chats c WHERE c.low = $1 AND c.high = $2"];
    LOCK_PAIR_CHAT = ["SELECT c.id FROM chats c WHERE c.low = $1 AND c.high = $2" lock(c)];
    FIND_RELATION = ["SELECT r.relation, r.since, r.blocks, r.blocked_since FROM relations r WHERE r.user_id = $1 AND r.peer_id = $2"];
    PUT_RELATION = ["INSERT INTO relations (user_id, peer_id, relation, since, blocks, blocked_since) VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (user_id, peer_id) DO UPDATE SET relation = excluded.relation, since = excluded.since,
            blocks = excluded.blocks, blocked_since = excluded.blocked_since,
            viewed = CASE WHEN excluded.relation = 'incoming' AND relations.relation <> 'incoming' THEN 0 ELSE relations.viewed END"];
    LIST_NEW = ["SELECT " (user_columns!()) ", r.relation, r.since FROM relations r JOIN users u ON u.id = r.peer_id
        WHERE r.user_id = $1 AND r.relation = 'incoming' AND r.viewed = 0 AND r.blocks = 0
        ORDER BY r.since DESC, r.peer_id DESC LIMIT $2"];
    // Those who were contacts are there, too: that nothing is known of them any more is told once.
    PRESENCE_CONTACTS = ["SELECT r.peer_id, CASE WHEN r.relation = 'contact' AND r.blocks = 0 AND u.last_seen_to <> 'nobody'
                AND EXISTS (SELECT 1 FROM users me WHERE me.id = r.user_id AND me.last_seen_to <> 'nobody')
                AND NOT EXISTS (SELECT 1 FROM relations b WHERE b.user_id = r.peer_id AND b.peer_id = r.user_id AND b.blocks = 1)
                THEN CAST(1 AS BIGINT) ELSE 0 END, u.last_seen_at, r.since, r.blocked_since, u.last_seen_to_at,
            (SELECT me.last_seen_to_at FROM users me WHERE me.id = r.user_id),
            COALESCE((SELECT b.blocked_since FROM relations b WHERE b.user_id = r.peer_id AND b.peer_id = r.user_id), 0)
        FROM relations r JOIN users u ON u.id = r.peer_id
        WHERE r.user_id = $1 AND r.relation IN ('contact', 'none') ORDER BY r.peer_id"];
    NOTE_SEEN = ["WITH r AS MATERIALIZED " rows(1: usr id, at int) "
        UPDATE users SET last_seen_at = r.at FROM r
        WHERE users.id = r.usr AND deleted_at IS NULL AND (last_seen_at IS NULL OR last_seen_at < r.at)"];
    LIST_CONTACTS = ["SELECT " (user_columns!()) ", r.relation, r.since FROM relations r JOIN users u ON u.id = r.peer_id
        WHERE r.user_id = $1 AND r.relation = 'contact' AND r.blocks = 0
            AND (r.since < $2 OR (r.since = $2 AND r.peer_id < $3)) ORDER BY r.since DESC, r.peer_id DESC LIMIT $4"];
    LIST_PENDING = ["SELECT " (user_columns!()) ", r.relation, r.since FROM relations r JOIN users u ON u.id = r.peer_id
        WHERE r.user_id = $1 AND r.relation IN ('incoming', 'outgoing') AND r.blocks = 0
            AND (r.since < $2 OR (r.since = $2 AND r.peer_id < $3)) ORDER BY r.since DESC, r.peer_id DESC LIMIT $4"];
    LIST_BLOCKED = ["SELECT " (user_columns!()) ", 'blocked', r.blocked_since FROM relations r JOIN users u ON u.id = r.peer_id
        WHERE r.user_id = $1 AND r.blocks = 1
            AND (r.blocked_since < $2 OR (r.blocked_since = $2 AND r.peer_id < $3))
        ORDER BY r.blocked_since DESC, r.peer_id DESC LIMIT $4"];
}

/// One direction as stored.
#[derive(Clone, Copy, Default)]
struct Side {
    relation: Relation,
    since: i64,
    blocks: bool,
    blocked_since: i64,
}

impl Side {
    async fn find(tx: &mut Tx, user: UserId, peer: UserId) -> Result<Self, sqlx::Error> {
        let Some(row) = tx.find(&FIND_RELATION, args![user, peer]).await? else { return Ok(Self::default()) };
        Ok(Self {
            relation: row.named(0, Relation::parse)?,
            since: row.int(1)?,
            blocks: row.flag(2)?,
            blocked_since: row.int(3)?,
        })
    }

    /// The same with another state; what does not change keeps its time.
    fn become_of(self, relation: Relation, blocks: bool, at: Timestamp) -> Self {
        Self {
            relation,
            since: if relation == self.relation { self.since } else { at.0 },
            blocks,
            blocked_since: if blocks == self.blocks { self.blocked_since } else { at.0 },
        }
    }

    async fn put(&self, tx: &mut Tx, user: UserId, peer: UserId) -> Result<(), sqlx::Error> {
        let args: Vec<Arg> =
            args![user, peer, self.relation.as_str(), self.since, self.blocks, self.blocked_since];
        tx.execute(&PUT_RELATION, args).await.map(drop)
    }

    /// State and since when, as shown; a block hides what is beneath it.
    fn shown(&self) -> Option<(ContactState, Timestamp)> {
        if self.blocks {
            return Some((ContactState::Blocked, Timestamp(self.blocked_since)));
        }
        state_of(self.relation).map(|state| (state, Timestamp(self.since)))
    }
}

fn state_of(relation: Relation) -> Option<ContactState> {
    match relation {
        Relation::None => None,
        Relation::Outgoing => Some(ContactState::Outgoing),
        Relation::Incoming => Some(ContactState::Incoming),
        Relation::Contact => Some(ContactState::Contact),
    }
}

/// The lower and the higher id.
pub(super) fn pair_of(a: UserId, b: UserId) -> (UserId, UserId) {
    (a.min(b), a.max(b))
}

/// The private chat of two users.
pub(super) async fn find_pair_chat(tx: &mut Tx, a: UserId, b: UserId) -> Result<Option<ChatId>, sqlx::Error> {
    let (low, high) = pair_of(a, b);
    tx.find(&FIND_PAIR_CHAT, args![low, high]).await?.map(|row| row.id(0)).transpose()
}

/// A user does something to the relation with another.
struct Relate {
    actor: UserId,
    peer: UserId,
    action: RelationAction,
    at: Timestamp,
}

#[async_trait]
impl Write for Relate {
    type Answer = (Option<ContactView>, bool);
    const PLACE: Place = Place::InTurn;

    fn key(&self) -> Uuid {
        pair_of(self.actor, self.peer).0.uuid()
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<Self::Answer, Failed> {
        let Self { actor, peer, action, at } = *self;
        let alive = self.lock(scope.tx).await?;
        let mine = Side::find(scope.tx, actor, peer).await?;
        let theirs = Side::find(scope.tx, peer, actor).await?;
        let before = Relations { relation: mine.relation, i_block: mine.blocks, blocks_me: theirs.blocks };
        let plan = rules::relate(action, alive.then_some(before))?;
        let after = mine.become_of(plan.relations.relation, plan.relations.i_block, at);
        let changed = plan.relations != before;
        if changed {
            after.put(scope.tx, actor, peer).await?;
            theirs
                .become_of(plan.relations.relation.mirrored(), theirs.blocks, at)
                .put(scope.tx, peer, actor)
                .await?;
        }
        let to_actor = plan.to_actor.map(|event| (actor, Entry::Contact { event, peer }));
        let to_peer = plan.to_peer.map(|event| (peer, Entry::Contact { event, peer: actor }));
        if changed {
            scope.committed.push(Committed::VisibilityChanged(vec![actor, peer]));
        }
        append_personal(scope, actor, at, to_actor.into_iter().chain(to_peer).collect()).await?;
        let Some((state, since)) = after.shown() else { return Ok((None, changed)) };
        let user = find_views(scope.tx, [peer]).await?.remove(&peer);
        Ok((user.map(|user| ContactView { user, state, since }), changed))
    }
}

impl Relate {
    /// Locks the private chat of the two, so that a send is either before a block or sees it, then both users. Answers
    /// whether there are two.
    async fn lock(&self, tx: &mut Tx) -> Result<bool, sqlx::Error> {
        let (low, high) = pair_of(self.actor, self.peer);
        let locked = tx.find(&LOCK_PAIR_CHAT, args![low, high]).await?.is_some();
        let alive = lock_users(tx, &[self.actor, self.peer]).await?.len();
        if !locked && find_pair_chat(tx, low, high).await?.is_some() {
            // It was made between the two statements: lock it the next time.
            return Err(sqlx::Error::Io(std::io::Error::other("the private chat was being made")));
        }
        Ok(alive == 2)
    }
}

struct NoteSeen {
    seen: Vec<(UserId, Timestamp)>,
}

#[async_trait]
impl Write for NoteSeen {
    type Answer = ();
    const PLACE: Place = Place::Accounts;

    fn key(&self) -> Uuid {
        self.seen.first().map_or(Uuid::nil(), |(user, _)| user.uuid())
    }

    async fn apply(&self, scope: &mut Scope<'_>) -> Result<(), Failed> {
        Ok(note_seen(scope.tx, &self.seen).await?)
    }
}

/// Keeps when users were last active; what is later stays.
pub(super) async fn note_seen(tx: &mut Tx, seen: &[(UserId, Timestamp)]) -> Result<(), sqlx::Error> {
    // Each once, and in one order, so that two such transactions do not wait for each other.
    let mut latest: BTreeMap<UserId, Timestamp> = BTreeMap::new();
    for (user, at) in seen {
        let known = latest.entry(*user).or_insert(*at);
        *known = (*known).max(*at);
    }
    lock_users(tx, &latest.keys().copied().collect::<Vec<_>>()).await?;
    let table = Table::of(&latest, |row, (user, at)| {
        row.id(user.uuid()).int(at.0);
    });
    tx.execute(&NOTE_SEEN, args![table]).await.map(drop)
}

#[async_trait]
impl Contacts for SqlStore {
    async fn relate(
        &self,
        actor: UserId,
        peer: UserId,
        action: RelationAction,
        at: Timestamp,
    ) -> Result<(Option<ContactView>, bool)> {
        self.writer.write(Relate { actor, peer, action, at }).await
    }

    async fn search_users(
        &self,
        user: UserId,
        query: SearchQuery,
        after: Option<SearchPosition>,
        limit: u32,
    ) -> Result<(Vec<FoundUser>, Option<SearchPosition>)> {
        read!(self, |tx| search(tx, user, &query, after.as_ref(), limit).await?)
    }

    async fn list_presence_contacts(&self, user: UserId) -> Result<Vec<PresenceContact>> {
        read!(
            self,
            single | tx | {
                let rows = tx.fetch(&PRESENCE_CONTACTS, args![user]).await?;
                rows.iter().map(read_presence).collect::<Result<Vec<_>, _>>()?
            }
        )
    }

    async fn note_seen(&self, seen: Vec<(UserId, Timestamp)>) -> Result<()> {
        if seen.is_empty() {
            return Ok(());
        }
        self.writer.write(NoteSeen { seen }).await
    }

    async fn list_contacts(
        &self,
        user: UserId,
        filter: ContactFilter,
        page: PageRequest,
    ) -> Result<Page<ContactView>> {
        let sql = match filter {
            ContactFilter::Contacts => &LIST_CONTACTS,
            ContactFilter::Pending => &LIST_PENDING,
            ContactFilter::Blocked => &LIST_BLOCKED,
        };
        let after = page.after.unwrap_or(Position { key: i64::MAX, id: Uuid::max() });
        read!(
            self,
            single | tx | {
                let rows = tx.fetch(sql, args![user, after.key, after.id, page.limit + 1]).await?;
                let contacts = rows.iter().map(read_contact).collect::<Result<Vec<_>, _>>()?;
                as_page(contacts, page, |contact| Position {
                    key: contact.since.0,
                    id: contact.user.id.uuid(),
                })
            }
        )
    }
}

/// Incoming requests not yet viewed, newest first.
pub(super) async fn list_new_requests(
    tx: &mut Tx,
    user: UserId,
    limit: u32,
) -> Result<Vec<ContactView>, sqlx::Error> {
    tx.fetch(&LIST_NEW, args![user, limit]).await?.iter().map(read_contact).collect()
}

fn read_presence(row: &Row) -> Result<PresenceContact, sqlx::Error> {
    let mut changed_at = Timestamp(0);
    for column in 3..=7 {
        changed_at = changed_at.max(row.at(column)?);
    }
    Ok(PresenceContact {
        user: row.id(0)?,
        visible: row.flag(1)?,
        changed_at,
        last_seen_at: row.at_or_null(2)?,
    })
}

fn read_contact(row: &Row) -> Result<ContactView, sqlx::Error> {
    let state = |name: &str| match name {
        "blocked" => Some(ContactState::Blocked),
        name => Relation::parse(name).and_then(state_of),
    };
    Ok(ContactView {
        user: read_user(row, 0)?.into(),
        state: row.named(USER_COLUMNS, state)?,
        since: row.at(USER_COLUMNS + 1)?,
    })
}
