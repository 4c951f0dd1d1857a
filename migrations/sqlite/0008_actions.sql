-- Why: verdicts and decisions move files, tell other programs and are sampled; audit details can be
-- erased without breaking the chain.

-- What an audit event says. `audit_events.detail` holds only `{"sealed": SHA-256(salt ‖ detail)}`,
-- so the chain still verifies when an item is erased and its rows here are deleted.
CREATE TABLE audit_details (
    sequence INTEGER PRIMARY KEY REFERENCES audit_events (sequence),
    salt     BLOB NOT NULL,
    detail   TEXT NOT NULL              -- one JSON object
) STRICT;

-- Random bytes that no uploader may know.
CREATE TABLE secrets (
    name  TEXT PRIMARY KEY,
    bytes BLOB NOT NULL
) STRICT;
INSERT INTO secrets (name, bytes) VALUES ('audit_lane', randomblob(32));

-- Where the bytes that lay at a path should be. A worker moves them until `state` is what is
-- `wanted`; it can be ended at any moment and goes on from there.
CREATE TABLE placements (
    id         INTEGER PRIMARY KEY,
    item       INTEGER NOT NULL REFERENCES items (id),
    path       BLOB    NOT NULL,         -- absolute
    root       BLOB    NOT NULL,         -- the watched folder
    task       INTEGER NOT NULL REFERENCES tasks (id),
    held       INTEGER NOT NULL,         -- an armed Block put it there before anyone decided
    wanted     TEXT    NOT NULL CHECK (wanted IN ('in_place', 'quarantined', 'purged')),
    state      TEXT    NOT NULL CHECK (state IN ('in_place', 'quarantined', 'purged')),
    due_at     INTEGER NOT NULL,
    asked_at   INTEGER NOT NULL,
    changed_at INTEGER,                  -- when `state` last became what it is
    attempts   INTEGER NOT NULL DEFAULT 0,
    problem    TEXT                      -- why it could not be done
) STRICT;
CREATE UNIQUE INDEX placements_by_item ON placements (item, path);
CREATE INDEX placements_by_task ON placements (task);
CREATE INDEX placements_undone ON placements (due_at) WHERE wanted <> state;
CREATE INDEX placements_held ON placements (asked_at) WHERE held;

-- Whether `on_block: hold` of a policy version is armed, as of the last look.
CREATE TABLE arming (
    policy_version INTEGER NOT NULL REFERENCES policy_versions (id),
    model          INTEGER NOT NULL REFERENCES models (id),
    armed          INTEGER NOT NULL,
    min_precision  REAL    NOT NULL,
    min_decisions  INTEGER NOT NULL,
    PRIMARY KEY (policy_version, model)
) STRICT, WITHOUT ROWID;

-- How far each hook has read the audit log.
CREATE TABLE hooks (
    name     TEXT PRIMARY KEY,
    sequence INTEGER NOT NULL
) STRICT;

-- What a hook is still to be told; a row goes when it was delivered.
CREATE TABLE hook_deliveries (
    hook        TEXT    NOT NULL REFERENCES hooks (name),
    sequence    INTEGER NOT NULL,
    attempts    INTEGER NOT NULL DEFAULT 0,
    next_try_at INTEGER NOT NULL,
    dead        INTEGER NOT NULL DEFAULT 0,
    problem     TEXT,
    PRIMARY KEY (hook, sequence)
) STRICT, WITHOUT ROWID;
CREATE INDEX hook_deliveries_due ON hook_deliveries (next_try_at) WHERE NOT dead;

-- Set for a random sample of what no policy flagged: the chance with which it was drawn.
ALTER TABLE tasks ADD COLUMN audit_rate REAL;
