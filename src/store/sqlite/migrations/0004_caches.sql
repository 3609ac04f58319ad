-- Why a step's cache did what it did; whose verdict a build took over; what it left for later builds (a JSON list).
ALTER TABLE steps ADD COLUMN cache_note TEXT;
ALTER TABLE builds ADD COLUMN same_as INTEGER;
ALTER TABLE builds ADD COLUMN kept TEXT;

-- Scopes whose pull request was closed or whose branch was deleted. Every agent removes what their builds left, up to
-- last_build: what a later push or a reopened pull request makes has a higher number and stays.
CREATE TABLE dropped_scopes (
    id         INTEGER PRIMARY KEY,
    forge      TEXT    NOT NULL,
    repo       TEXT    NOT NULL,              -- folded
    repo_shown TEXT    NOT NULL,
    trust      TEXT    NOT NULL,
    git_ref    TEXT    NOT NULL,
    last_build INTEGER NOT NULL,              -- the highest number that was given at that moment
    at         INTEGER NOT NULL
) STRICT;
CREATE INDEX dropped_scopes_by_time ON dropped_scopes (at);
CREATE INDEX dropped_scopes_by_ref  ON dropped_scopes (forge, repo, git_ref);
