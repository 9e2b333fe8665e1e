-- Ids are UUIDv7 in 16 bytes, times milliseconds since 1970, flags 0 or 1, states the names that the domain gives them.

CREATE TABLE settings (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

-- One row per writer lane of a process: the last transaction it committed. It answers whether a COMMIT whose
-- acknowledgement was lost has happened.
CREATE TABLE lanes (
    id          BLOB PRIMARY KEY,
    last_commit INTEGER NOT NULL,
    at          INTEGER NOT NULL
) STRICT;

CREATE TABLE users (
    id            BLOB PRIMARY KEY,
    username      TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    display_name  TEXT NOT NULL,
    about         TEXT NOT NULL,
    email         TEXT,
    phone         TEXT,
    created_at    INTEGER NOT NULL,
    deleted_at    INTEGER,
    -- End of the personal log.
    personal_seq  INTEGER NOT NULL,
    personal_at   INTEGER NOT NULL
) STRICT;
CREATE INDEX users_by_age ON users (created_at, id);

CREATE TABLE devices (
    id           BLOB PRIMARY KEY,
    user_id      BLOB NOT NULL REFERENCES users (id),
    name         TEXT NOT NULL,
    platform     TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    last_seen_at INTEGER NOT NULL
) STRICT;
CREATE INDEX devices_by_name ON devices (user_id, name);

CREATE TABLE logins (
    id            BLOB PRIMARY KEY,
    user_id       BLOB NOT NULL REFERENCES users (id),
    device_id     BLOB NOT NULL REFERENCES devices (id),
    kind          TEXT NOT NULL,
    refresh_count INTEGER NOT NULL,
    refreshed_at  INTEGER NOT NULL,
    expires_at    INTEGER,
    ended_at      INTEGER,
    created_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX logins_not_ended ON logins (user_id, device_id) WHERE ended_at IS NULL;

-- One row per direction. `blocks`: user_id has blocked peer_id.
CREATE TABLE relations (
    user_id       BLOB NOT NULL REFERENCES users (id),
    peer_id       BLOB NOT NULL REFERENCES users (id),
    relation      TEXT NOT NULL,
    since         INTEGER NOT NULL,
    blocks        INTEGER NOT NULL,
    blocked_since INTEGER NOT NULL,
    PRIMARY KEY (user_id, peer_id)
) STRICT;

CREATE TABLE chats (
    id              BLOB PRIMARY KEY,
    kind            TEXT NOT NULL,
    -- Private chats: the lower and the higher user id.
    low             BLOB REFERENCES users (id),
    high            BLOB REFERENCES users (id),
    name            TEXT,
    description     TEXT,
    history_visible TEXT NOT NULL,
    created_by      BLOB NOT NULL REFERENCES users (id),
    local_id        TEXT,
    created_at      INTEGER NOT NULL,
    -- End of the log, and the time of its last row (of the chat while there is none).
    last_seq        INTEGER NOT NULL,
    last_at         INTEGER NOT NULL,
    UNIQUE (low, high)
) STRICT;
CREATE UNIQUE INDEX chats_by_local_id ON chats (created_by, local_id) WHERE local_id IS NOT NULL;

-- One row per stay.
CREATE TABLE memberships (
    chat_id       BLOB NOT NULL REFERENCES chats (id),
    user_id       BLOB NOT NULL REFERENCES users (id),
    joined_seq    INTEGER NOT NULL,
    visible_from  INTEGER NOT NULL,
    -- Last row of the stay; NULL while it lasts.
    left_seq      INTEGER,
    role          TEXT NOT NULL,
    delivered_seq INTEGER NOT NULL,
    read_seq      INTEGER NOT NULL,
    -- What others are shown of them: they stand still while one of a private chat's two has blocked the other.
    shown_delivered_seq INTEGER NOT NULL,
    shown_read_seq INTEGER NOT NULL,
    cleared_seq   INTEGER NOT NULL,
    receipts_at   INTEGER NOT NULL,
    muted_until   INTEGER,
    pinned        INTEGER NOT NULL,
    archived      INTEGER NOT NULL,
    PRIMARY KEY (chat_id, user_id, joined_seq)
) STRICT;
CREATE UNIQUE INDEX memberships_active ON memberships (chat_id, user_id) WHERE left_seq IS NULL;
CREATE INDEX memberships_by_standing ON memberships (chat_id, joined_seq, user_id) WHERE left_seq IS NULL;
CREATE INDEX memberships_of_user ON memberships (user_id, chat_id);

-- The logs of all chats and the personal logs of all users; `stream` is the chat's or the user's id.
CREATE TABLE log (
    stream       BLOB NOT NULL,
    seq          INTEGER NOT NULL,
    id           BLOB NOT NULL UNIQUE,
    kind         TEXT NOT NULL,
    sender       BLOB NOT NULL,
    at           INTEGER NOT NULL,
    local_id     TEXT,
    -- Keyed hash of what was sent; emptied with the row.
    content_hash BLOB,
    text         TEXT,
    -- JSON: what rows other than messages say.
    body         TEXT,
    -- The row that this one is about.
    message_seq  INTEGER,
    edited_at    INTEGER,
    deleted_at   INTEGER,
    UNIQUE (stream, seq)
) STRICT;
CREATE UNIQUE INDEX log_by_local_id ON log (stream, sender, local_id) WHERE local_id IS NOT NULL;

CREATE TABLE sessions (
    id              BLOB PRIMARY KEY,
    device_id       BLOB NOT NULL REFERENCES devices (id),
    user_id         BLOB NOT NULL REFERENCES users (id),
    client_id       TEXT NOT NULL,
    mount           TEXT NOT NULL,
    -- Every CONNECT takes the next one; later writes name theirs.
    generation      INTEGER NOT NULL,
    filters         TEXT NOT NULL,
    -- 24 bytes per stream: its id, then the acknowledged seq, big-endian.
    cursors         BLOB NOT NULL,
    expiry_secs     INTEGER NOT NULL,
    -- The process that holds the connection, or held it when it died.
    opened_by       BLOB NOT NULL,
    opened_at       INTEGER NOT NULL,
    disconnected_at INTEGER,
    UNIQUE (device_id, client_id, mount)
) STRICT;
