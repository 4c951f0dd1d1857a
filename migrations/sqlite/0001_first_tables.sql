-- Why: the first tables. Items are bytes, sightings are paths, verdicts belong to
-- (item, policy version, model), tasks ask people, decisions answer, audit events seal it all.
-- Times are milliseconds since 1970, UTC. Hashes and paths are raw bytes.

CREATE TABLE items (
    id         INTEGER PRIMARY KEY,
    hash       BLOB    NOT NULL UNIQUE,   -- SHA-256 of the bytes
    bytes      INTEGER NOT NULL,
    format     TEXT,                      -- NULL when it could not be told
    width      INTEGER,
    height     INTEGER,
    frames     INTEGER,
    reason     TEXT,                      -- why it can't be judged; NULL for a good picture
    first_seen INTEGER NOT NULL
) STRICT;

-- One row for each path at which an item was seen. `gone_at` is set when other bytes took the path.
CREATE TABLE sightings (
    id         INTEGER PRIMARY KEY,
    item       INTEGER NOT NULL REFERENCES items (id),
    path       BLOB    NOT NULL,          -- absolute
    root       BLOB    NOT NULL,          -- the watched folder
    size       INTEGER NOT NULL,
    mtime_ns   INTEGER NOT NULL,
    ctime_ns   INTEGER NOT NULL,
    inode      INTEGER NOT NULL,
    outcome    TEXT    NOT NULL CHECK (outcome IN ('allow', 'review', 'block')),
    reason     TEXT,
    model      INTEGER REFERENCES models (id),
    policy_set BLOB    NOT NULL,          -- hash over the policies that judged it
    first_seen INTEGER NOT NULL,
    judged_at  INTEGER NOT NULL,
    gone_at    INTEGER
) STRICT;
CREATE UNIQUE INDEX sightings_by_path ON sightings (path) WHERE gone_at IS NULL;
CREATE INDEX sightings_by_item ON sightings (item);

CREATE TABLE models (
    id          INTEGER PRIMARY KEY,
    fingerprint TEXT NOT NULL UNIQUE,     -- SHA-256 of model.yaml
    name        TEXT NOT NULL
) STRICT;

-- Unit vectors, two little-endian bytes a component; one row for each view of the item.
CREATE TABLE embeddings (
    item   INTEGER NOT NULL REFERENCES items (id),
    model  INTEGER NOT NULL REFERENCES models (id),
    view   INTEGER NOT NULL,
    vector BLOB    NOT NULL,
    PRIMARY KEY (item, model, view)
) STRICT;

-- Prompts as a model sees them, so that the dashboard can explain a score without the model.
CREATE TABLE text_embeddings (
    model  INTEGER NOT NULL REFERENCES models (id),
    text   TEXT    NOT NULL,
    vector BLOB    NOT NULL,
    PRIMARY KEY (model, text)
) STRICT, WITHOUT ROWID;

CREATE TABLE policy_versions (
    id       INTEGER PRIMARY KEY,
    hash     BLOB    NOT NULL UNIQUE,     -- over everything that can change a verdict
    policy   TEXT    NOT NULL,            -- its id
    severity INTEGER NOT NULL,            -- 0 low, 1 medium, 2 high
    mode     TEXT    NOT NULL
) STRICT;

-- One effective verdict for each (item, policy version, model).
CREATE TABLE verdicts (
    item           INTEGER NOT NULL REFERENCES items (id),
    policy_version INTEGER NOT NULL REFERENCES policy_versions (id),
    model          INTEGER NOT NULL REFERENCES models (id),
    score          REAL    NOT NULL,
    outcome        TEXT    NOT NULL CHECK (outcome IN ('allow', 'review', 'block')),
    prompt         TEXT    NOT NULL,      -- the violating prompt with the largest share
    PRIMARY KEY (item, policy_version, model)
) STRICT, WITHOUT ROWID;

-- Which versions judged a sighting: `policy_set` names the set.
CREATE TABLE policy_sets (
    hash           BLOB    NOT NULL,
    policy_version INTEGER NOT NULL REFERENCES policy_versions (id),
    position       INTEGER NOT NULL,      -- the policies' order
    PRIMARY KEY (hash, policy_version)
) STRICT, WITHOUT ROWID;

CREATE TABLE tasks (
    id        INTEGER PRIMARY KEY,
    item      INTEGER NOT NULL REFERENCES items (id),
    sighting  INTEGER NOT NULL REFERENCES sightings (id),
    policy    TEXT,                       -- the one that weighs most; NULL: could not be judged
    severity  INTEGER NOT NULL,
    score     REAL    NOT NULL,           -- 0 where there is none, so that the queue can be ordered
    outcome   TEXT    NOT NULL CHECK (outcome IN ('review', 'block')),
    reason    TEXT,
    state     TEXT    NOT NULL CHECK (state IN ('open', 'escalated', 'closed')),
    opened_at INTEGER NOT NULL,
    closed_at INTEGER
) STRICT;
CREATE UNIQUE INDEX one_undecided_task_an_item ON tasks (item) WHERE state <> 'closed';
CREATE INDEX tasks_in_order ON tasks (state, severity DESC, score DESC, id);
CREATE INDEX tasks_by_item ON tasks (item);

-- The policies that flagged a task, for filters.
CREATE TABLE task_policies (
    task   INTEGER NOT NULL REFERENCES tasks (id),
    policy TEXT    NOT NULL,
    PRIMARY KEY (policy, task)
) STRICT, WITHOUT ROWID;
CREATE INDEX task_policies_by_task ON task_policies (task);

-- An event log: undo marks nothing, it is one more row that names what it takes back.
CREATE TABLE decisions (
    id       INTEGER PRIMARY KEY,
    task     INTEGER NOT NULL REFERENCES tasks (id),
    item     INTEGER NOT NULL REFERENCES items (id),
    action   TEXT    NOT NULL CHECK (action IN ('approve', 'remove', 'escalate', 'undo')),
    undoes   INTEGER UNIQUE REFERENCES decisions (id),
    reviewer TEXT    NOT NULL,
    reason   TEXT,                        -- a policy id
    note     TEXT,
    at       INTEGER NOT NULL,
    CHECK ((action = 'undo') = (undoes IS NOT NULL))
) STRICT;
CREATE INDEX decisions_by_task ON decisions (task);
CREATE INDEX decisions_by_item ON decisions (item);
CREATE INDEX decisions_by_reviewer ON decisions (reviewer, id);
CREATE INDEX decisions_by_time ON decisions (at);

-- Append-only, each row sealed with the hash of all before it.
CREATE TABLE audit_events (
    sequence INTEGER PRIMARY KEY,
    at       INTEGER NOT NULL,
    kind     TEXT    NOT NULL,
    actor    TEXT    NOT NULL,
    detail   TEXT    NOT NULL,            -- one JSON object
    hash     BLOB    NOT NULL
) STRICT;
CREATE TRIGGER audit_events_never_change BEFORE UPDATE ON audit_events
BEGIN SELECT RAISE(ABORT, 'audit events are append-only'); END;
CREATE TRIGGER audit_events_are_never_deleted BEFORE DELETE ON audit_events
BEGIN SELECT RAISE(ABORT, 'audit events are append-only'); END;

-- How the running watchers are doing; a row is replaced at every beat.
CREATE TABLE watchers (
    root        BLOB    PRIMARY KEY,
    pid         INTEGER NOT NULL,
    started_at  INTEGER NOT NULL,
    beat_at     INTEGER NOT NULL,
    stopped_at  INTEGER,                  -- set by a clean end
    engine      TEXT    NOT NULL,
    model       TEXT    NOT NULL,
    judged      INTEGER NOT NULL,         -- since the start
    rate        REAL    NOT NULL,         -- pictures a second, lately
    waiting     INTEGER NOT NULL,         -- files seen and not judged yet
    lag_ms      INTEGER NOT NULL,         -- age of the oldest of them
    skipped     INTEGER NOT NULL,         -- files that are no pictures, at the last full scan
    last_error  TEXT,
    error_at    INTEGER
) STRICT;
