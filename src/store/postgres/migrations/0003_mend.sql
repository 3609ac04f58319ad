-- The lines that mend a step's failure, where its cause is a known one.
ALTER TABLE steps ADD COLUMN mend TEXT;
