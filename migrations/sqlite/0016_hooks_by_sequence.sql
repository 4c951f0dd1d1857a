-- Why: hooks stood at the change counter, which also counts leases, instead of at an audit event; so
-- they passed over every event that came after the first lease.

-- Events after this one, up to `sequence`, may not have been told. The next look at the audit log
-- delivers those that the hook listens to, and clears it. NULL: nothing is in doubt.
ALTER TABLE hooks ADD COLUMN doubted_after INTEGER;

-- What was delivered left no trace. Nothing was missed before the first lease, and there was none
-- before a task was open; an event whose detail was erased may have opened one.
UPDATE hooks SET doubted_after = (
        SELECT e.sequence FROM audit_events AS e
        LEFT JOIN audit_details AS d ON d.sequence = e.sequence
        WHERE e.kind IN ('verdict', 'opened')
          AND coalesce(json_extract(coalesce(d.detail, e.detail), '$.task_opened'), 1)
        ORDER BY e.sequence LIMIT 1)
    WHERE EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'leases' AND seq > 0);
UPDATE hooks SET sequence = min(sequence, (SELECT coalesce(max(sequence), 0) FROM audit_events));
UPDATE hooks SET doubted_after = NULL WHERE doubted_after >= sequence;
