-- Why: every filter of the queue is answered from an index alone, without a look at the rows that
-- it leaves out; and the queue can be ordered by path. Closed tasks stay out of these indexes,
-- because history grows without end.

-- The path in lower case (ASCII only, as instr() is to find what was typed), and the policies
-- that flagged the task, each between spaces.
ALTER TABLE tasks ADD COLUMN path_text BLOB;
ALTER TABLE tasks ADD COLUMN policies TEXT;
UPDATE tasks SET
    path_text = (SELECT CAST(lower(CAST(s.path AS TEXT)) AS BLOB) FROM sightings AS s
                 WHERE s.id = tasks.sighting),
    policies = (SELECT ' ' || group_concat(p.policy, ' ') || ' ' FROM task_policies AS p
                WHERE p.task = tasks.id);

CREATE TRIGGER tasks_take_their_path AFTER INSERT ON tasks BEGIN
    UPDATE tasks SET path_text =
        (SELECT CAST(lower(CAST(s.path AS TEXT)) AS BLOB) FROM sightings AS s WHERE s.id = NEW.sighting)
    WHERE id = NEW.id;
END;
CREATE TRIGGER tasks_follow_their_sighting AFTER UPDATE OF sighting ON tasks BEGIN
    UPDATE tasks SET path_text =
        (SELECT CAST(lower(CAST(s.path AS TEXT)) AS BLOB) FROM sightings AS s WHERE s.id = NEW.sighting)
    WHERE id = NEW.id;
END;
-- Erasing takes a path back.
CREATE TRIGGER tasks_follow_their_path AFTER UPDATE OF path ON sightings BEGIN
    UPDATE tasks SET path_text = CAST(lower(CAST(NEW.path AS TEXT)) AS BLOB)
    WHERE item = NEW.item AND sighting = NEW.id;
END;
CREATE TRIGGER tasks_take_a_policy AFTER INSERT ON task_policies BEGIN
    UPDATE tasks SET policies =
        (SELECT ' ' || group_concat(p.policy, ' ') || ' ' FROM task_policies AS p WHERE p.task = NEW.task)
    WHERE id = NEW.task;
END;
CREATE TRIGGER tasks_lose_a_policy AFTER DELETE ON task_policies BEGIN
    UPDATE tasks SET policies =
        (SELECT ' ' || group_concat(p.policy, ' ') || ' ' FROM task_policies AS p WHERE p.task = OLD.task)
    WHERE id = OLD.task;
END;

CREATE INDEX undecided_by_weight
    ON tasks (state, severity DESC, score DESC, id, leader, outcome, reason, policies, path_text)
    WHERE state <> 'closed';
CREATE INDEX undecided_by_age
    ON tasks (state, opened_at, id, leader, outcome, reason, policies, path_text)
    WHERE state <> 'closed';
CREATE INDEX undecided_by_path
    ON tasks (state, path_text, id, leader, outcome, reason, policies)
    WHERE state <> 'closed';
