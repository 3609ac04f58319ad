-- Which rules moved a build, and why: the history on its page.
CREATE TABLE rulings (
    id          INTEGER PRIMARY KEY,
    build_id    INTEGER NOT NULL REFERENCES builds (id) ON DELETE CASCADE,
    at          INTEGER NOT NULL,
    rule        TEXT    NOT NULL,
    because     TEXT    NOT NULL,
    other_build INTEGER,
    delivery    TEXT                          -- the forge's own id
) STRICT;
CREATE INDEX rulings_by_build ON rulings (build_id);

-- When the forge says that the push was made; forges do not promise the order of their deliveries.
ALTER TABLE builds ADD COLUMN pushed_at INTEGER;

-- Branches and tags whose end was heard, for the pushes that are delivered after it.
CREATE TABLE deletions (
    id        INTEGER PRIMARY KEY,
    forge     TEXT    NOT NULL,
    repo      TEXT    NOT NULL,               -- folded
    git_ref   TEXT    NOT NULL,
    tip       TEXT,                           -- what was deleted, where the forge says it
    pushed_at INTEGER,                        -- when, where the forge says it
    at        INTEGER NOT NULL                -- when it was heard
) STRICT;
CREATE INDEX deletions_by_ref  ON deletions (forge, repo, git_ref);
CREATE INDEX deletions_by_time ON deletions (at);

-- When a repository's builds were claimed last, as a count of claims: repositories take turns.
CREATE TABLE turns (
    forge  TEXT    NOT NULL,
    repo   TEXT    NOT NULL,                  -- folded
    served INTEGER NOT NULL,
    PRIMARY KEY (forge, repo)
) STRICT;
CREATE INDEX turns_by_served ON turns (served);
-- The state leads it although it is the same in all of it: so it is preferred to builds_unfinished.
CREATE INDEX builds_queue    ON builds (state, forge, repo, id) WHERE state = 'queued';
