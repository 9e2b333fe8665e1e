-- The plain lane: what must outlive a connection or a process. `properties` is JSON.

-- The retained message of each topic.
CREATE TABLE plain_retained (
    user_id    BLOB NOT NULL REFERENCES users (id),
    topic      TEXT NOT NULL,
    size       INTEGER NOT NULL,
    expires_at INTEGER,
    qos        INTEGER NOT NULL,
    properties TEXT NOT NULL,
    payload    BLOB NOT NULL,
    PRIMARY KEY (user_id, topic)
) STRICT;
CREATE INDEX plain_retained_expiring ON plain_retained (expires_at) WHERE expires_at IS NOT NULL;

-- One row per session that ever had something in its queue.
CREATE TABLE plain_queues (
    session_id BLOB PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
    -- Place of the newest message ever.
    last_seq   INTEGER NOT NULL,
    -- Everything up to here has been sent at least once.
    sent       INTEGER NOT NULL,
    -- How much is in it, and how many messages it lost.
    messages   INTEGER NOT NULL,
    bytes      INTEGER NOT NULL,
    dropped    INTEGER NOT NULL
) STRICT;

-- What waits for a session that lasts, until it is acknowledged to the end.
CREATE TABLE plain_queue (
    session_id       BLOB NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    seq              INTEGER NOT NULL,
    size             INTEGER NOT NULL,
    -- QoS 2: PUBREC has come.
    released         INTEGER NOT NULL,
    -- As the session gets it, and as it was published.
    qos              INTEGER NOT NULL,
    published_qos    INTEGER NOT NULL,
    retain           INTEGER NOT NULL,
    expires_at       INTEGER,
    subscription_ids TEXT NOT NULL,
    topic            TEXT NOT NULL,
    properties       TEXT NOT NULL,
    payload          BLOB NOT NULL,
    PRIMARY KEY (session_id, seq)
) STRICT;

-- Publications at QoS 2 of sessions that last, from their commit to PUBREL.
CREATE TABLE plain_received (
    session_id BLOB NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    packet_id  INTEGER NOT NULL,
    PRIMARY KEY (session_id, packet_id)
) STRICT;

-- A will outlives its session.
CREATE TABLE wills (
    id          BLOB PRIMARY KEY,
    user_id     BLOB NOT NULL REFERENCES users (id),
    session_id  BLOB NOT NULL,
    -- The connection that it belongs to, and the process that holds it.
    generation  INTEGER NOT NULL,
    opened_by   BLOB NOT NULL,
    -- As the CONNECT said; the end of the session ends it.
    delay_secs  INTEGER NOT NULL,
    -- NULL while the connection lasts.
    due         INTEGER,
    expiry_secs INTEGER,
    qos         INTEGER NOT NULL,
    retain      INTEGER NOT NULL,
    topic       TEXT NOT NULL,
    properties  TEXT NOT NULL,
    payload     BLOB NOT NULL
) STRICT;
CREATE INDEX wills_of_session ON wills (session_id);
CREATE INDEX wills_due ON wills (due, id) WHERE due IS NOT NULL;

-- The plain lane asks for the sessions of a user.
CREATE INDEX sessions_of_user ON sessions (user_id);
