-- Why: `status` names what waits for too long, and allowed files are read again in the background,
-- because a file that is written through a shared mapping may change without a new time.

-- The files that wait longest: a JSON array of [path in hexadecimal digits, waiting since].
ALTER TABLE watchers ADD COLUMN stuck TEXT NOT NULL DEFAULT '[]';

-- When the bytes were last compared with the item's hash since they were judged.
ALTER TABLE sightings ADD COLUMN checked_at INTEGER;
CREATE INDEX sightings_to_check ON sightings (coalesce(checked_at, judged_at))
    WHERE gone_at IS NULL AND outcome = 'allow';
