-- The plain lane: what must outlive a connection or a process. `properties` is JSON.

-- The retained message of each topic.
CREATE TABLE plain_retained (
    user_id    BYTEA NOT NULL REFERENCES users (id),
    topic      TEXT COLLATE "C" NOT NULL,
    size       BIGINT NOT NULL,
    expires_at BIGINT,
    qos        BIGINT NOT NULL,
    properties TEXT NOT NULL,
    payload    BYTEA NOT NULL,
    PRIMARY KEY (user_id, topic)
);
CREATE INDEX plain_retained_expiring ON plain_retained (expires_at) WHERE expires_at IS NOT NULL;

-- One row per session that ever had something in its queue.
CREATE TABLE plain_queues (
    session_id BYTEA PRIMARY KEY REFERENCES sessions (id) ON DELETE CASCADE,
    -- Place of the newest message ever.
    last_seq   BIGINT NOT NULL,
    -- Everything up to here has been sent at least once.
    sent       BIGINT NOT NULL,
    -- How much is in it, and how many messages it lost.
    messages   BIGINT NOT NULL,
    bytes      BIGINT NOT NULL,
    dropped    BIGINT NOT NULL
);

-- What waits for a session that lasts, until it is acknowledged to the end.
CREATE TABLE plain_queue (
    session_id       BYTEA NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    seq              BIGINT NOT NULL,
    size             BIGINT NOT NULL,
    -- QoS 2: PUBREC has come.
    released         BIGINT NOT NULL,
    -- As the session gets it, and as it was published.
    qos              BIGINT NOT NULL,
    published_qos    BIGINT NOT NULL,
    retain           BIGINT NOT NULL,
    expires_at       BIGINT,
    subscription_ids TEXT NOT NULL,
    topic            TEXT COLLATE "C" NOT NULL,
    properties       TEXT NOT NULL,
    payload          BYTEA NOT NULL,
    PRIMARY KEY (session_id, seq)
);

-- Publications at QoS 2 of sessions that last, from their commit to PUBREL.
CREATE TABLE plain_received (
    session_id BYTEA NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    packet_id  BIGINT NOT NULL,
    PRIMARY KEY (session_id, packet_id)
);

-- A will outlives its session.
CREATE TABLE wills (
    id          BYTEA PRIMARY KEY,
    user_id     BYTEA NOT NULL REFERENCES users (id),
    session_id  BYTEA NOT NULL,
    -- The connection that it belongs to, and the process that holds it.
    generation  BIGINT NOT NULL,
    opened_by   BYTEA NOT NULL,
    -- As the CONNECT said; the end of the session ends it.
    delay_secs  BIGINT NOT NULL,
    -- NULL while the connection lasts.
    due         BIGINT,
    expiry_secs BIGINT,
    qos         BIGINT NOT NULL,
    retain      BIGINT NOT NULL,
    topic       TEXT COLLATE "C" NOT NULL,
    properties  TEXT NOT NULL,
    payload     BYTEA NOT NULL
);
CREATE INDEX wills_of_session ON wills (session_id);
CREATE INDEX wills_due ON wills (due, id) WHERE due IS NOT NULL;

-- The plain lane asks for the sessions of a user.
CREATE INDEX sessions_of_user ON sessions (user_id);
