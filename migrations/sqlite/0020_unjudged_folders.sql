-- Why: films, documents and links are not judged, and not passed over in silence either: a person
-- gets one row for each folder and kind, and everybody the numbers.

-- The row of a folder and kind. Its sighting's path is the folder's with as many `/.` behind it as
-- the kind's place, because a path has one item.
CREATE TABLE unjudged_folders (
    path   BLOB    PRIMARY KEY,           -- as its sighting spells it
    root   BLOB    NOT NULL,
    item   BLOB    NOT NULL,              -- stands in for the bytes
    files  INTEGER NOT NULL,
    newest INTEGER NOT NULL,              -- when the latest of them changed, nanoseconds
    names  BLOB    NOT NULL               -- of the first of them, with `/` between
) STRICT, WITHOUT ROWID;
CREATE INDEX unjudged_folders_by_item ON unjudged_folders (item);

-- How many files of a kind there were below a root at its last full scan.
CREATE TABLE media_counts (
    root  BLOB    NOT NULL,
    kind  TEXT    NOT NULL,
    files INTEGER NOT NULL,
    PRIMARY KEY (root, kind)
) STRICT, WITHOUT ROWID;
