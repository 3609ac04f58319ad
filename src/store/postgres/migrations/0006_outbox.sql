-- Whose request for a status is under way, and until when it certainly has ended, whatever became of its sender.
ALTER TABLE outbox ADD COLUMN taken_by TEXT;
ALTER TABLE outbox ADD COLUMN taken_until BIGINT;
-- In the order of sending: final words first.
DROP INDEX outbox_in_order;
CREATE INDEX outbox_in_order ON outbox (forge, (CASE WHEN state = 'pending' THEN 1 ELSE 0 END), id) WHERE fate = 'due';

-- A forge is left alone until the later of its own word and our caution; only the caution ends early.
ALTER TABLE pauses ADD COLUMN asked_until BIGINT NOT NULL DEFAULT 0;
UPDATE pauses SET asked_until = until;

-- What each host was sent lately, so that a budget holds across restarts and processes. The row of a host is what its
-- senders lock; it also counts.
CREATE TABLE hosts (
    host     TEXT PRIMARY KEY,
    requests BIGINT NOT NULL
);
CREATE TABLE host_requests (
    host TEXT    NOT NULL,
    at   BIGINT NOT NULL
);
CREATE INDEX host_requests_by_time ON host_requests (host, at);

-- When a forge's token ends, as the forge says (wall clock), and when that was last warned of.
CREATE TABLE forge_tokens (
    forge      TEXT PRIMARY KEY,
    expires_at BIGINT NOT NULL,
    warned_at  BIGINT NOT NULL DEFAULT 0
);
