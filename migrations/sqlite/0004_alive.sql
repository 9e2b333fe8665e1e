-- Receipts as state, and last seen.

-- `receipts_at`: when what others are shown of a stay's watermarks last moved. Of each alone, and of the true READ:
ALTER TABLE memberships ADD COLUMN shown_delivered_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE memberships ADD COLUMN shown_read_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE memberships ADD COLUMN read_at INTEGER NOT NULL DEFAULT 0;
-- The member was not shown what others had read up to here, and is shown it of each once they have read beyond.
ALTER TABLE memberships ADD COLUMN unseen_read_seq INTEGER NOT NULL DEFAULT 0;

-- The newest message of somebody in a chat.
CREATE INDEX log_by_sender ON log (stream, sender, seq) WHERE kind = 'message';

-- When the user was last active; NULL: never.
ALTER TABLE users ADD COLUMN last_seen_at INTEGER;
-- When the user last changed who sees that.
ALTER TABLE users ADD COLUMN last_seen_to_at INTEGER NOT NULL DEFAULT 0;

-- When the process that held the connection died, as far as that is known.
ALTER TABLE sessions ADD COLUMN lost_at INTEGER;
-- From when on it must ask how things stand when it comes back.
ALTER TABLE sessions ADD COLUMN left_at INTEGER;
