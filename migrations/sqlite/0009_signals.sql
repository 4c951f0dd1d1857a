-- Why: a file can be a picture and something else as well (an archive, a page); whoever hands it on
-- should know. Names with commas between them, empty for nothing odd.
ALTER TABLE items ADD COLUMN signals TEXT NOT NULL DEFAULT '';
