-- Times are milliseconds since 1970 (see domain::time); names are stored folded for comparing and as given for showing.
-- Partial indexes repeat the exact words of the queries they serve, since SQLite proves no more than that.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

-- Numbers that are never used again, not even after the rows that bore them are gone.
CREATE TABLE counters (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT;
INSERT INTO counters (name, value) VALUES ('build', 0);

CREATE TABLE deliveries (
    id          INTEGER PRIMARY KEY,
    forge       TEXT    NOT NULL,
    repo        TEXT    NOT NULL,             -- folded; empty when the delivery named none
    repo_shown  TEXT    NOT NULL,
    delivery    TEXT    NOT NULL,             -- the forge's own id
    event       TEXT    NOT NULL,
    received_at INTEGER NOT NULL,
    body_bytes  INTEGER NOT NULL,
    body_sha256 BLOB    NOT NULL,
    answer      TEXT    NOT NULL,             -- what the forge was answered, as JSON
    UNIQUE (forge, repo, delivery)
) STRICT;
CREATE INDEX deliveries_by_time ON deliveries (received_at);

CREATE TABLE builds (
    id              INTEGER PRIMARY KEY,
    forge           TEXT    NOT NULL,
    repo            TEXT    NOT NULL,         -- folded
    repo_shown      TEXT    NOT NULL,
    sha             TEXT    NOT NULL,
    built_sha       TEXT,
    base_sha        TEXT,
    before_sha      TEXT,                     -- where the ref stood before the push that made this
    git_ref         TEXT    NOT NULL,
    branch          TEXT,
    pull_request    INTEGER,
    cause           TEXT    NOT NULL,
    pushed          INTEGER NOT NULL,         -- 1: a push wants this build; 0: so far only a pull request does
    trust           TEXT    NOT NULL,
    attempt         INTEGER NOT NULL,
    rerun_of        INTEGER,
    superseded_by   INTEGER,
    state           TEXT    NOT NULL,
    outcome         TEXT,
    reason          TEXT,
    approved_by     TEXT,
    created_at      INTEGER NOT NULL,
    started_at      INTEGER,
    finished_at     INTEGER,
    sandbox         TEXT    NOT NULL DEFAULT '',
    base_branch     TEXT,
    default_branch  TEXT,
    title           TEXT,
    author          TEXT,
    use_cache       INTEGER NOT NULL,
    context         TEXT    NOT NULL,         -- of its status; kept here, so that a changed setting leaves no status pending
    agent           TEXT,                     -- who holds the lease
    lease_until     INTEGER,
    fence           INTEGER NOT NULL DEFAULT 0,  -- rises with every claim; a holder with an older one writes nothing
    claims          INTEGER NOT NULL DEFAULT 0,  -- claims that were not given back on purpose
    cancel_reason   TEXT,                     -- set while running: its holder is asked to end it
    cancel_sentence TEXT,
    CHECK (state IN ('waiting', 'queued', 'running', 'finished')),
    CHECK ((state = 'finished') = (outcome IS NOT NULL) AND (state = 'finished') = (finished_at IS NOT NULL)),
    CHECK ((state = 'running') = (lease_until IS NOT NULL))
) STRICT;
-- Each index whose keys come in no order costs a written page for every delivery, so there are few of them.
CREATE INDEX builds_by_sha     ON builds (sha);
CREATE INDEX builds_by_ref     ON builds (forge, repo, git_ref);
CREATE INDEX builds_by_repo    ON builds (forge, repo);
CREATE INDEX builds_unfinished ON builds (state) WHERE finished_at IS NULL;
CREATE INDEX builds_by_outcome ON builds (outcome) WHERE outcome IS NOT NULL;
CREATE INDEX builds_by_end     ON builds (finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE steps (
    build_id    INTEGER NOT NULL REFERENCES builds (id) ON DELETE CASCADE,
    position    INTEGER NOT NULL,
    name        TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    state       TEXT    NOT NULL,
    outcome     TEXT,
    exit_code   INTEGER,
    signal      TEXT,
    cache       TEXT    NOT NULL,
    started_at  INTEGER,
    finished_at INTEGER,
    reason      TEXT,
    PRIMARY KEY (build_id, position),
    UNIQUE (build_id, name)
) STRICT;

CREATE TABLE outbox (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    build_id     INTEGER NOT NULL REFERENCES builds (id) ON DELETE CASCADE,
    forge        TEXT    NOT NULL,
    repo         TEXT    NOT NULL,            -- folded
    sha          TEXT    NOT NULL,
    context      TEXT    NOT NULL,
    state        TEXT    NOT NULL,
    sentence     TEXT    NOT NULL,
    fate         TEXT    NOT NULL,            -- due | sent | dropped (a newer build owns the commit) | dead (given up)
    created_at   INTEGER NOT NULL,
    next_attempt INTEGER NOT NULL,
    attempts     INTEGER NOT NULL DEFAULT 0,
    last_error   TEXT,
    sent_at      INTEGER,
    CHECK (fate IN ('due', 'sent', 'dropped', 'dead'))
) STRICT;
CREATE INDEX outbox_by_commit ON outbox (sha);
CREATE INDEX outbox_in_order  ON outbox (id) WHERE fate = 'due';
CREATE INDEX outbox_dead      ON outbox (id) WHERE fate = 'dead';
CREATE INDEX outbox_by_build  ON outbox (build_id);

-- Forges that asked to be left alone (Retry-After, rate limits); kept, so that a restart does not ask again too soon.
CREATE TABLE pauses (
    forge  TEXT PRIMARY KEY,
    until  INTEGER NOT NULL,
    reason TEXT    NOT NULL
) STRICT;
