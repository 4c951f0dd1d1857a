-- Why: near-duplicates as one row of the queue, several reviewers at once, redo, what reviewers
-- had to look at, and charts that need no walk over all verdicts.

-- The task that stands for this one in the queue; NULL: it stands for itself.
ALTER TABLE tasks ADD COLUMN leader INTEGER REFERENCES tasks (id);
CREATE INDEX tasks_by_leader ON tasks (leader) WHERE leader IS NOT NULL;
CREATE INDEX tasks_leading ON tasks (state, severity DESC, score DESC, id) WHERE leader IS NULL;
CREATE INDEX tasks_leading_by_age ON tasks (state, opened_at, id) WHERE leader IS NULL;
CREATE INDEX tasks_by_age ON tasks (state, opened_at, id);
-- What could not be read or decoded.
CREATE INDEX tasks_unjudged ON tasks (state, severity DESC, score DESC, id)
    WHERE reason >= 'un' AND reason < 'uo';
CREATE INDEX tasks_opened ON tasks (opened_at);
CREATE INDEX tasks_closed ON tasks (closed_at) WHERE closed_at IS NOT NULL;

-- The upright hash of every item that was put before a person, cut into 16 words of 16 bits: of
-- two hashes that differ in at most 31 bits, one word at least differs in at most one bit.
CREATE TABLE hash_words (
    word INTEGER NOT NULL,                -- place · 65536 + value
    item INTEGER NOT NULL REFERENCES items (id),
    PRIMARY KEY (word, item)
) STRICT, WITHOUT ROWID;

-- A task that is open on someone's screen. Numbers only grow, so that others see a new lease.
CREATE TABLE leases (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    task     INTEGER NOT NULL UNIQUE REFERENCES tasks (id),
    reviewer TEXT    NOT NULL,
    until    INTEGER NOT NULL
) STRICT;
CREATE INDEX leases_by_reviewer ON leases (reviewer);

-- Decisions that were made with one key; NULL: alone.
ALTER TABLE decisions ADD COLUMN batch INTEGER;
CREATE INDEX decisions_by_batch ON decisions (batch) WHERE batch IS NOT NULL;
-- The undo that this decision takes back.
ALTER TABLE decisions ADD COLUMN redoes INTEGER REFERENCES decisions (id);
CREATE UNIQUE INDEX one_redo_an_undo ON decisions (redoes) WHERE redoes IS NOT NULL;

-- What a reviewer chose to look at, step by step.
CREATE TABLE exposures (
    id       INTEGER PRIMARY KEY,
    reviewer TEXT    NOT NULL,
    item     INTEGER NOT NULL REFERENCES items (id),
    step     TEXT    NOT NULL,            -- tiny, blur, grey or full
    at       INTEGER NOT NULL
) STRICT;
CREATE INDEX exposures_by_reviewer ON exposures (reviewer, at);
CREATE INDEX exposures_by_time ON exposures (at);

-- How many items have a score in each thousandth.
CREATE TABLE score_bins (
    policy_version INTEGER NOT NULL REFERENCES policy_versions (id),
    model          INTEGER NOT NULL REFERENCES models (id),
    bin            INTEGER NOT NULL,      -- 0 to 999
    items          INTEGER NOT NULL,
    PRIMARY KEY (policy_version, model, bin)
) STRICT, WITHOUT ROWID;
INSERT INTO score_bins (policy_version, model, bin, items)
    SELECT policy_version, model, min(999, CAST(score * 1000 AS INTEGER)) AS bin, count(*)
    FROM verdicts GROUP BY policy_version, model, bin;
