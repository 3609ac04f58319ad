-- Why a build's plan is as it is. A table of its own, so that lists of builds read none of it.
CREATE TABLE explanations (
    build_id  BIGINT PRIMARY KEY REFERENCES builds (id) ON DELETE CASCADE,
    notices   TEXT NOT NULL,                  -- a JSON list of sentences
    decisions TEXT NOT NULL                   -- a JSON list of what was seen, decided and why
);
