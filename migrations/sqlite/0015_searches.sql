-- Why: searches that are restricted by policy, outcome, decision or date should not walk over everything.

CREATE INDEX sightings_flagged ON sightings (outcome, item)
    WHERE gone_at IS NULL AND outcome <> 'allow';
CREATE INDEX verdicts_flagged ON verdicts (policy_version, item) WHERE outcome <> 'allow';
CREATE INDEX decisions_by_action ON decisions (action, item);
CREATE INDEX items_by_time ON items (first_seen);
