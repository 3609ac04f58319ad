-- Why an agent's disk holds builds back, and since when (wall clock): empty and null while there is room.
ALTER TABLE agents ADD COLUMN disk_low TEXT NOT NULL DEFAULT '';
ALTER TABLE agents ADD COLUMN disk_low_since BIGINT;
