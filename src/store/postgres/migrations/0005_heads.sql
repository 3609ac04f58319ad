-- Where branches and tags stand and which pull requests are open, by the last word of a delivery or of the sweep. What the
-- forge says differently was missed.
CREATE TABLE heads (
    forge      TEXT   NOT NULL,
    repo       TEXT   NOT NULL,               -- folded
    repo_shown TEXT   NOT NULL,
    name       TEXT   NOT NULL,               -- a branch or tag; refs/pull/N/head for every pull request, a branch's own too
    git_ref    TEXT   NOT NULL,               -- the ref under which its builds run
    sha        TEXT,                          -- none: it was deleted or closed
    changes    BIGINT NOT NULL,               -- rises with every word on it, so that an older list is told from a newer word
    seen_at    BIGINT NOT NULL,
    PRIMARY KEY (forge, repo, name)
);

-- What is known from before this table: nothing of it was missed.
INSERT INTO heads (forge, repo, repo_shown, name, git_ref, sha, changes, seen_at)
    SELECT forge, repo, repo_shown, git_ref, git_ref, sha, 1, created_at FROM builds
    WHERE id IN (SELECT max(id) FROM builds WHERE pushed = 1 GROUP BY forge, repo, git_ref);

-- When a repository is looked at again, and by which process: several share one store.
CREATE TABLE sweeps (
    forge       TEXT   NOT NULL,
    repo        TEXT   NOT NULL,              -- folded
    branches_at BIGINT,                       -- the last look; none: the next one is the first, and builds nothing old
    tags_at     BIGINT,
    pulls_at    BIGINT,
    next_at     BIGINT NOT NULL,
    holder      TEXT   NOT NULL,              -- the process that looks, until lease_until
    lease_until BIGINT NOT NULL,
    PRIMARY KEY (forge, repo)
);
