-- Ids are UUIDv7 in 16 bytes, times milliseconds since 1970, flags 0 or 1, states the names that the domain gives them.
-- Search keys are compared byte by byte on both engines.

CREATE TABLE settings (
    key   TEXT COLLATE "C" PRIMARY KEY,
    value BYTEA NOT NULL
);

-- One row per writer lane of a process: the last transaction it committed. It answers whether a COMMIT whose
-- acknowledgement was lost has happened.
CREATE TABLE lanes (
    id          BYTEA PRIMARY KEY,
    last_commit BIGINT NOT NULL,
    at          BIGINT NOT NULL
);

CREATE TABLE users (
    id            BYTEA PRIMARY KEY,
    username      TEXT COLLATE "C" NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    display_name  TEXT NOT NULL,
    about         TEXT NOT NULL,
    email         TEXT,
    phone         TEXT,
    created_at    BIGINT NOT NULL,
    deleted_at    BIGINT,
    -- End of the personal log.
    personal_seq  BIGINT NOT NULL,
    personal_at   BIGINT NOT NULL
);
CREATE INDEX users_by_age ON users (created_at, id);

CREATE TABLE devices (
    id           BYTEA PRIMARY KEY,
    user_id      BYTEA NOT NULL REFERENCES users (id),
    name         TEXT COLLATE "C" NOT NULL,
    platform     TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL
);
CREATE INDEX devices_by_name ON devices (user_id, name);

CREATE TABLE logins (
    id            BYTEA PRIMARY KEY,
    user_id       BYTEA NOT NULL REFERENCES users (id),
    device_id     BYTEA NOT NULL REFERENCES devices (id),
    kind          TEXT NOT NULL,
    refresh_count BIGINT NOT NULL,
    refreshed_at  BIGINT NOT NULL,
    expires_at    BIGINT,
    ended_at      BIGINT,
    created_at    BIGINT NOT NULL
);
CREATE INDEX logins_not_ended ON logins (user_id, device_id) WHERE ended_at IS NULL;

-- One row per direction. `blocks`: user_id has blocked peer_id.
CREATE TABLE relations (
    user_id       BYTEA NOT NULL REFERENCES users (id),
    peer_id       BYTEA NOT NULL REFERENCES users (id),
    relation      TEXT COLLATE "C" NOT NULL,
    since         BIGINT NOT NULL,
    blocks        BIGINT NOT NULL,
    blocked_since BIGINT NOT NULL,
    PRIMARY KEY (user_id, peer_id)
);

CREATE TABLE chats (
    id              BYTEA PRIMARY KEY,
    kind            TEXT NOT NULL,
    -- Private chats: the lower and the higher user id.
    low             BYTEA REFERENCES users (id),
    high            BYTEA REFERENCES users (id),
    name            TEXT,
    description     TEXT,
    history_visible TEXT NOT NULL,
    created_by      BYTEA NOT NULL REFERENCES users (id),
    local_id        TEXT COLLATE "C",
    created_at      BIGINT NOT NULL,
    -- End of the log, and the time of its last row (of the chat while there is none).
    last_seq        BIGINT NOT NULL,
    last_at         BIGINT NOT NULL,
    UNIQUE (low, high)
);
CREATE UNIQUE INDEX chats_by_local_id ON chats (created_by, local_id) WHERE local_id IS NOT NULL;

-- One row per stay.
CREATE TABLE memberships (
    chat_id       BYTEA NOT NULL REFERENCES chats (id),
    user_id       BYTEA NOT NULL REFERENCES users (id),
    joined_seq    BIGINT NOT NULL,
    visible_from  BIGINT NOT NULL,
    -- Last row of the stay; NULL while it lasts.
    left_seq      BIGINT,
    role          TEXT NOT NULL,
    delivered_seq BIGINT NOT NULL,
    read_seq      BIGINT NOT NULL,
    -- What others are shown of them: they stand still while one of a private chat's two has blocked the other.
    shown_delivered_seq BIGINT NOT NULL,
    shown_read_seq BIGINT NOT NULL,
    cleared_seq   BIGINT NOT NULL,
    receipts_at   BIGINT NOT NULL,
    muted_until   BIGINT,
    pinned        BIGINT NOT NULL,
    archived      BIGINT NOT NULL,
    PRIMARY KEY (chat_id, user_id, joined_seq)
);
CREATE UNIQUE INDEX memberships_active ON memberships (chat_id, user_id) WHERE left_seq IS NULL;
CREATE INDEX memberships_by_standing ON memberships (chat_id, joined_seq, user_id) WHERE left_seq IS NULL;
CREATE INDEX memberships_of_user ON memberships (user_id, chat_id);

-- The logs of all chats and the personal logs of all users; `stream` is the chat's or the user's id.
CREATE TABLE log (
    stream       BYTEA NOT NULL,
    seq          BIGINT NOT NULL,
    id           BYTEA NOT NULL UNIQUE,
    kind         TEXT NOT NULL,
    sender       BYTEA NOT NULL,
    at           BIGINT NOT NULL,
    local_id     TEXT COLLATE "C",
    -- Keyed hash of what was sent; emptied with the row.
    content_hash BYTEA,
    text         TEXT,
    -- JSON: what rows other than messages say.
    body         TEXT,
    -- The row that this one is about.
    message_seq  BIGINT,
    edited_at    BIGINT,
    deleted_at   BIGINT,
    UNIQUE (stream, seq)
);
CREATE UNIQUE INDEX log_by_local_id ON log (stream, sender, local_id) WHERE local_id IS NOT NULL;

CREATE TABLE sessions (
    id              BYTEA PRIMARY KEY,
    device_id       BYTEA NOT NULL REFERENCES devices (id),
    user_id         BYTEA NOT NULL REFERENCES users (id),
    client_id       TEXT COLLATE "C" NOT NULL,
    mount           TEXT COLLATE "C" NOT NULL,
    -- Every CONNECT takes the next one; later writes name theirs.
    generation      BIGINT NOT NULL,
    filters         TEXT NOT NULL,
    -- 24 bytes per stream: its id, then the acknowledged seq, big-endian.
    cursors         BYTEA NOT NULL,
    expiry_secs     BIGINT NOT NULL,
    -- The process that holds the connection, or held it when it died.
    opened_by       BYTEA NOT NULL,
    opened_at       BIGINT NOT NULL,
    disconnected_at BIGINT,
    UNIQUE (device_id, client_id, mount)
);
