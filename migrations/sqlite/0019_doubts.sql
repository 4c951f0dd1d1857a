-- Why a person has to see a picture whatever its scores are, as names joined by commas; and what made
-- the pixels that were judged (decoder version, limits, frames). What was judged before this has no
-- recipe, so it is decoded and judged again.
ALTER TABLE items ADD COLUMN doubts TEXT NOT NULL DEFAULT '';
ALTER TABLE embeddings ADD COLUMN recipe TEXT NOT NULL DEFAULT '';
ALTER TABLE sightings ADD COLUMN recipe TEXT NOT NULL DEFAULT '';

-- The newest vector that took the place of one made by another recipe: a file of vectors that was
-- filled before is begun anew.
CREATE TABLE replaced_vectors (
    model  INTEGER PRIMARY KEY REFERENCES models (id),
    number INTEGER NOT NULL
) STRICT;
