-- Why: after a change of the model `status` tells how many pictures are still to be judged again.

ALTER TABLE watchers ADD COLUMN again INTEGER NOT NULL DEFAULT 0;
