-- What REST and its events need beyond the conversation itself.

ALTER TABLE users ADD COLUMN last_seen_to TEXT NOT NULL DEFAULT 'everyone';
ALTER TABLE users ADD COLUMN picture_to TEXT NOT NULL DEFAULT 'everyone';
ALTER TABLE users ADD COLUMN read_receipts_to TEXT NOT NULL DEFAULT 'everyone';
-- The display name as it is searched: lower case.
ALTER TABLE users ADD COLUMN search_name TEXT NOT NULL DEFAULT '';
UPDATE users SET search_name = lower(display_name);
CREATE INDEX users_by_search_name ON users (search_name, id) WHERE deleted_at IS NULL;

-- User names of deleted accounts, until they may be taken again.
CREATE TABLE reserved_usernames (
    username TEXT PRIMARY KEY,
    until    INTEGER NOT NULL
) STRICT;
CREATE INDEX reserved_usernames_until ON reserved_usernames (until);

-- Deleted users who may still have stays that last.
CREATE TABLE departing (
    user_id BLOB PRIMARY KEY REFERENCES users (id)
) STRICT;
-- Whatever a deleted user leaves.
CREATE INDEX wills_of_user ON wills (user_id);

-- READ as far as it came while it was not to be seen: it is shown again from the next row on that is read.
ALTER TABLE memberships ADD COLUMN hidden_read_seq INTEGER NOT NULL DEFAULT 0;

ALTER TABLE devices ADD COLUMN removed_at INTEGER;

-- Whether user_id has seen that peer_id asks.
ALTER TABLE relations ADD COLUMN viewed INTEGER NOT NULL DEFAULT 0;

CREATE TABLE reactions (
    chat_id     BLOB NOT NULL REFERENCES chats (id),
    message_seq INTEGER NOT NULL,
    user_id     BLOB NOT NULL REFERENCES users (id),
    emoji       TEXT NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (chat_id, message_seq, user_id)
) STRICT;

-- Messages that a user has deleted for themselves.
CREATE TABLE hidden_messages (
    chat_id     BLOB NOT NULL REFERENCES chats (id),
    user_id     BLOB NOT NULL REFERENCES users (id),
    message_seq INTEGER NOT NULL,
    PRIMARY KEY (chat_id, user_id, message_seq)
) STRICT;

CREATE TABLE mentions (
    chat_id     BLOB NOT NULL REFERENCES chats (id),
    user_id     BLOB NOT NULL REFERENCES users (id),
    message_seq INTEGER NOT NULL,
    PRIMARY KEY (chat_id, user_id, message_seq)
) STRICT;

-- Of a message, `message_seq` is what it answers.
CREATE INDEX log_replies ON log (stream, message_seq, seq) WHERE kind = 'message' AND message_seq IS NOT NULL;
