-- Why: copies that were resized, saved again or mirrored should be found, grouped and matched.
-- An item that was stored before this has no row; it gets one the next time it is decoded.

CREATE TABLE perceptual_hashes (
    item    INTEGER PRIMARY KEY REFERENCES items (id),
    quality INTEGER NOT NULL,             -- 0 to 100; below 50 the hash says nothing
    forms   BLOB    NOT NULL              -- PDQ: upright, then seven turned or mirrored forms, 32 bytes each
) STRICT;
