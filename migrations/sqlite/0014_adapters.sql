-- Why: a verdict says what was learned from examples when it was not the words of a policy alone.
-- NULL for a policy as it is written.

ALTER TABLE policy_versions ADD COLUMN adapter TEXT;
