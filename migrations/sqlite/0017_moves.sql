-- Why: what an interrupted removal left stands in the database, never in a file's name, which an
-- uploader could choose; and a restore says what it could not give back.

-- A file that is being removed, from just before it leaves its path until its removal is written
-- down. Only a file of this path, device and number is exempt from being judged.
CREATE TABLE moves (
    placement INTEGER PRIMARY KEY REFERENCES placements (id) ON DELETE CASCADE,
    path      BLOB    NOT NULL,         -- absolute; where it stands meanwhile
    device    INTEGER NOT NULL,
    inode     INTEGER NOT NULL,
    begun_at  INTEGER NOT NULL
) STRICT;

-- What a restore could not give back: the owner, attributes.
ALTER TABLE placements ADD COLUMN note TEXT;
CREATE INDEX placements_noted ON placements (changed_at, state) WHERE note IS NOT NULL;
