-- Who sent whom, and who belongs together. Only tasks that have a parent or a group are in them, which never change
-- afterwards: a task that somebody sent from outside, alone, costs nothing.
CREATE INDEX task_child ON oracle.task_state_record (parent_id, created_at) WHERE parent_id IS NOT NULL;
CREATE INDEX task_member ON oracle.task_state_record (group_id, created_at) WHERE group_id IS NOT NULL;
