-- Why: what was decided about a picture should speak for its twins, and lists of hashes that others
-- exchange should too; and histograms forget scores that are erased or too old.

CREATE TABLE bank (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,   -- verdicts name it, so it is never given twice
    source       TEXT    NOT NULL CHECK (source IN ('decision', 'hand', 'list')),
    action       TEXT    NOT NULL CHECK (action IN ('approve', 'remove')),
    state        TEXT    NOT NULL CHECK (state IN ('on', 'on_hold', 'off', 'withdrawn')),
    sha256       BLOB,                    -- of the bytes; NULL in lists
    looks        BLOB,                    -- PDQ, 32 bytes; NULL where it says nothing
    policies     TEXT    NOT NULL,        -- ids with commas between them
    reviewer     TEXT    NOT NULL,        -- who decided or added it
    list         TEXT,                    -- the list's name
    note         TEXT,
    since        INTEGER NOT NULL,        -- the last decision before it: whoever decided later knew of it
    added_at     INTEGER NOT NULL,
    changed      INTEGER NOT NULL,        -- grows with every change of what matches
    hits         INTEGER NOT NULL DEFAULT 0,
    last_hit_at  INTEGER,
    hour_start   INTEGER NOT NULL DEFAULT 0,   -- of the hour that `hour_hits` are counted in
    hour_hits    INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX bank_by_bytes ON bank (sha256, source) WHERE sha256 IS NOT NULL;
CREATE UNIQUE INDEX bank_by_list ON bank (list, looks, action) WHERE list IS NOT NULL;
CREATE INDEX bank_by_change ON bank (changed);
CREATE INDEX bank_on_hold ON bank (id) WHERE state = 'on_hold';

-- Which entries an item was a twin of when it was judged.
CREATE TABLE bank_matches (
    item  INTEGER NOT NULL REFERENCES items (id),
    entry INTEGER NOT NULL REFERENCES bank (id),
    bits  INTEGER,                        -- of 256 that differ; NULL: the same bytes
    at    INTEGER NOT NULL,
    PRIMARY KEY (item, entry)
) STRICT, WITHOUT ROWID;
CREATE INDEX bank_matches_by_entry ON bank_matches (entry);

-- What was decided so far: each item's latest decision that stands.
INSERT INTO bank (source, action, state, sha256, looks, policies, reviewer, since, added_at, changed)
    SELECT 'decision', d.action, 'on', i.hash,
        (SELECT substr(h.forms, 1, 32) FROM perceptual_hashes AS h
         WHERE h.item = i.id AND h.quality >= 50),
        coalesce(CASE
            WHEN d.action = 'remove' AND d.reason IS NOT NULL THEN d.reason
            WHEN d.action = 'remove' THEN
                (SELECT max(p.policy) FROM task_policies AS p WHERE p.task = d.task
                 HAVING count(*) = 1)
            ELSE (SELECT group_concat(p.policy) FROM task_policies AS p WHERE p.task = d.task)
        END, ''),
        d.reviewer, d.id - 1, d.at, d.id
    FROM decisions AS d JOIN items AS i ON i.id = d.item
    WHERE d.id IN (SELECT max(l.id) FROM decisions AS l WHERE l.action IN ('approve', 'remove')
                     AND NOT EXISTS (SELECT 1 FROM decisions AS u WHERE u.undoes = l.id)
                   GROUP BY l.item)
      AND coalesce(i.reason, '') <> 'erased' AND coalesce(i.reason, '') NOT LIKE 'unreadable%';

-- A score that goes leaves its bin, whoever deletes it.
CREATE TRIGGER verdicts_leave_their_bins AFTER DELETE ON verdicts
BEGIN
    UPDATE score_bins SET items = items - 1
    WHERE policy_version = old.policy_version AND model = old.model
      AND bin = min(999, CAST(old.score * 1000 AS INTEGER)) AND items > 0;
END;
-- Those that went before left their bins as they were.
DELETE FROM score_bins
    WHERE EXISTS (SELECT 1 FROM audit_events WHERE kind IN ('erased', 'expired'));
INSERT OR IGNORE INTO score_bins (policy_version, model, bin, items)
    SELECT policy_version, model, min(999, CAST(score * 1000 AS INTEGER)) AS bin, count(*)
    FROM verdicts WHERE EXISTS (SELECT 1 FROM audit_events WHERE kind IN ('erased', 'expired'))
    GROUP BY policy_version, model, bin;
