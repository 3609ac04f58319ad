-- The hosts that a step asked for at its gate, with their bytes (a JSON list); NULL where there was none.
ALTER TABLE steps ADD COLUMN reached TEXT;
