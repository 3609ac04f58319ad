-- Who changed what. It outlives the builds that it speaks of, so it refers to none. Never a value of a setting.
CREATE TABLE audit (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    who        TEXT    NOT NULL,
    via        TEXT    NOT NULL,              -- token | session | process
    address    TEXT,                          -- that a request came from, as the listener saw it
    forge      TEXT,                          -- of the build that it was done to
    repo       TEXT,                          -- folded
    repo_shown TEXT,
    build_id   INTEGER,
    act        TEXT    NOT NULL               -- what was done, as JSON
) STRICT;
CREATE INDEX audit_by_time ON audit (at);
CREATE INDEX audit_by_repo ON audit (forge, repo, id);

-- An approval holds for its commit as long as that is the head of its pull request, and not for ever.
ALTER TABLE builds ADD COLUMN approved_at INTEGER;
