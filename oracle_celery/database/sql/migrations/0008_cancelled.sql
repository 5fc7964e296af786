-- The tab "cancelled" of the list: few tasks are, and finding them among millions read the whole table. Only a cancelled
-- task pays for the index; every other one is tested against its condition, as for task_failed.

CREATE INDEX task_cancelled ON oracle.task_state_record (created_at) WHERE status = 4;
