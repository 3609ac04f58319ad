-- Who runs builds. A row is written at an agent's start and with every heartbeat.
CREATE TABLE agents (
    name        TEXT PRIMARY KEY,
    identity    TEXT   NOT NULL,              -- of its data directory: nobody else may bear the name while it lives
    version     TEXT   NOT NULL,
    sandbox     TEXT   NOT NULL,
    slots       BIGINT NOT NULL,
    busy        BIGINT NOT NULL,
    asked       TEXT   NOT NULL,              -- run | pause | drain
    started_at  BIGINT NOT NULL,
    seen_at     BIGINT NOT NULL,
    alive_until BIGINT NOT NULL,              -- steady time, as that of leases
    CHECK (asked IN ('run', 'pause', 'drain'))
);

-- Who claimed a build last; where its log is, unless that is shared.
ALTER TABLE builds ADD COLUMN ran_on TEXT;
