-- What others may read: a comment on a table or a column makes it a part of the public read model, which changes with an
-- announcement only. docs/schema.md is made of these comments. What has none is Oracle's own.
-- compatible with: 13

COMMENT ON SCHEMA oracle IS 'Oracle for Celery. What has a comment may be read by everybody; nothing may be written.';

COMMENT ON FUNCTION oracle.status_word(smallint) IS
    'The word for a status: pending, in_progress, completed, failed or cancelled.';

COMMENT ON TABLE oracle.schema_version IS 'Which version this schema has: one row.';
COMMENT ON COLUMN oracle.schema_version.version IS 'The number of the newest migration.';
COMMENT ON COLUMN oracle.schema_version.compatible_with IS 'The oldest version whose code may go on writing here.';
COMMENT ON COLUMN oracle.schema_version.migrated_at IS 'When it was brought to this version.';

COMMENT ON TABLE oracle.task_state_record IS 'Every task, as it is now: one row.';
COMMENT ON COLUMN oracle.task_state_record.task_id IS 'Celery''s id.';
COMMENT ON COLUMN oracle.task_state_record.name IS 'Of the task; null where nobody has told it.';
COMMENT ON COLUMN oracle.task_state_record.status IS
    '0 pending, 1 in_progress, 2 completed, 3 failed, 4 cancelled: see status_word().';
COMMENT ON COLUMN oracle.task_state_record.reason IS 'Finer than the status, like retry_scheduled or worker_lost.';
COMMENT ON COLUMN oracle.task_state_record.user_id IS 'Its owner; null: it has none.';
COMMENT ON COLUMN oracle.task_state_record.queue IS 'It was sent to.';
COMMENT ON COLUMN oracle.task_state_record.worker IS 'Celery''s node name of the worker of the current run.';
COMMENT ON COLUMN oracle.task_state_record.created_at IS 'When it was sent, or the first that was heard of it.';
COMMENT ON COLUMN oracle.task_state_record.received_at IS 'When a worker received the current run.';
COMMENT ON COLUMN oracle.task_state_record.started_at IS 'When the current run started.';
COMMENT ON COLUMN oracle.task_state_record.finished_at IS 'When it ended; null while it has not.';
COMMENT ON COLUMN oracle.task_state_record.changed_at IS 'When what the row says now happened.';
COMMENT ON COLUMN oracle.task_state_record.runtime IS 'Seconds that the last run took.';
COMMENT ON COLUMN oracle.task_state_record.retries IS 'How often it was tried again by its own wish.';
COMMENT ON COLUMN oracle.task_state_record.eta IS 'Not to be run before.';
COMMENT ON COLUMN oracle.task_state_record.expires IS 'Not to be run after.';
COMMENT ON COLUMN oracle.task_state_record.error_type IS 'Class of the exception.';
COMMENT ON COLUMN oracle.task_state_record.error_message IS 'Its text, masked and cut.';
COMMENT ON COLUMN oracle.task_state_record.traceback IS 'The traceback, masked and cut.';
COMMENT ON COLUMN oracle.task_state_record.arguments IS 'What it was given, masked and cut.';
COMMENT ON COLUMN oracle.task_state_record.result_payload IS 'What it returned, masked and cut.';
COMMENT ON COLUMN oracle.task_state_record.trace_id IS 'Its trace, 32 hex digits.';
COMMENT ON COLUMN oracle.task_state_record.correlation_id IS 'What it shares with the request that caused it.';
COMMENT ON COLUMN oracle.task_state_record.root_id IS 'The first task of its chain of causes.';
COMMENT ON COLUMN oracle.task_state_record.parent_id IS 'The task that sent it.';
COMMENT ON COLUMN oracle.task_state_record.group_id IS 'Celery''s id of the group that it is a member of.';

COMMENT ON TABLE oracle.task_transition IS
    'Every fact about a task as it was told: a row for each, none is ever changed. In partitions of a day.';
COMMENT ON COLUMN oracle.task_transition.history_id IS 'Names the fact. No order of time or of commits.';
COMMENT ON COLUMN oracle.task_transition.task_id IS 'Whose it is.';
COMMENT ON COLUMN oracle.task_transition.at IS 'When it happened.';
COMMENT ON COLUMN oracle.task_transition.stored_at IS
    'When it was stored: what partitions go by. A question that bounds it reads few of them.';
COMMENT ON COLUMN oracle.task_transition.status IS 'As in task_state_record.';
COMMENT ON COLUMN oracle.task_transition.reason IS 'As in task_state_record.';
COMMENT ON COLUMN oracle.task_transition.retries IS 'As in task_state_record.';
COMMENT ON COLUMN oracle.task_transition.runtime IS 'Seconds, of a fact that ends a run.';
COMMENT ON COLUMN oracle.task_transition.worker IS 'Node name of the worker that told it; null: whoever sent the task.';
COMMENT ON COLUMN oracle.task_transition.run_id IS 'Of one execution.';
COMMENT ON COLUMN oracle.task_transition.error_type IS 'Of a run that failed.';
COMMENT ON COLUMN oracle.task_transition.error_message IS 'Of a run that failed.';

COMMENT ON TABLE oracle.task_log IS 'What running tasks logged: a row for each line. In partitions of a day.';
COMMENT ON COLUMN oracle.task_log.line_id IS 'Names the line.';
COMMENT ON COLUMN oracle.task_log.task_id IS 'Who logged it.';
COMMENT ON COLUMN oracle.task_log.run_id IS 'In which execution.';
COMMENT ON COLUMN oracle.task_log.number IS 'Its place within the execution.';
COMMENT ON COLUMN oracle.task_log.at IS 'When.';
COMMENT ON COLUMN oracle.task_log.stored_at IS 'When it was stored: what partitions go by.';
COMMENT ON COLUMN oracle.task_log.level IS 'Of Python''s logging: 20 is INFO, 40 ERROR.';
COMMENT ON COLUMN oracle.task_log.logger IS 'Name of the logger.';
COMMENT ON COLUMN oracle.task_log.message IS 'The line; null: it was not kept, and counts for as many as level says.';

COMMENT ON TABLE oracle.worker IS 'Workers: a row for each incarnation, from start to stop.';
COMMENT ON COLUMN oracle.worker.worker_id IS 'Names the incarnation.';
COMMENT ON COLUMN oracle.worker.node IS 'Celery''s node name.';
COMMENT ON COLUMN oracle.worker.pool IS 'prefork, threads, gevent, eventlet or solo.';
COMMENT ON COLUMN oracle.worker.concurrency IS 'Tasks that it can run at once.';
COMMENT ON COLUMN oracle.worker.queues IS 'It is to consume.';
COMMENT ON COLUMN oracle.worker.consuming IS 'It consumes at this moment.';
COMMENT ON COLUMN oracle.worker.versions IS 'Of Python, Celery and Oracle.';
COMMENT ON COLUMN oracle.worker.started_at IS 'When it started.';
COMMENT ON COLUMN oracle.worker.beat_at IS 'Its last sign of life.';
COMMENT ON COLUMN oracle.worker.active IS 'Tasks that it ran at its last sign of life.';
COMMENT ON COLUMN oracle.worker.stopped_at IS 'When it said goodbye.';
COMMENT ON COLUMN oracle.worker.lost_at IS 'When it was given up.';

COMMENT ON TABLE oracle.queue_pause IS
    'The newest word on each queue; the row with an empty name speaks for all queues. Of the two the newer one counts.';
COMMENT ON COLUMN oracle.queue_pause.queue IS 'Its name.';
COMMENT ON COLUMN oracle.queue_pause.is_paused IS 'Whether it is to be paused.';
COMMENT ON COLUMN oracle.queue_pause.changed_at IS 'Since when.';
COMMENT ON COLUMN oracle.queue_pause.changed_by IS 'By whom.';
COMMENT ON COLUMN oracle.queue_pause.reason IS 'Why.';
COMMENT ON COLUMN oracle.queue_pause.until IS 'When it ends by itself.';

COMMENT ON TABLE oracle.audit_entry IS 'Who did what: a row for each command, none is ever changed.';
COMMENT ON COLUMN oracle.audit_entry.entry_id IS 'Names the entry.';
COMMENT ON COLUMN oracle.audit_entry.at IS 'When.';
COMMENT ON COLUMN oracle.audit_entry.actor IS 'The user_id of whoever asked.';
COMMENT ON COLUMN oracle.audit_entry.is_admin IS 'Whether they asked as an admin.';
COMMENT ON COLUMN oracle.audit_entry.via IS 'http, app, cli, or oracle: by itself.';
COMMENT ON COLUMN oracle.audit_entry.action IS 'cancel, retry, pause, resume, bulk_cancel or bulk_retry.';
COMMENT ON COLUMN oracle.audit_entry.task_id IS 'Of the task that it is about.';
COMMENT ON COLUMN oracle.audit_entry.queues IS 'That it is about; an empty array: all.';
COMMENT ON COLUMN oracle.audit_entry.reason IS 'In the words of whoever asked.';

COMMENT ON TABLE oracle.audit_outcome IS 'What came of a command: the newest row of a subject counts.';
COMMENT ON COLUMN oracle.audit_outcome.entry_id IS 'Of the command.';
COMMENT ON COLUMN oracle.audit_outcome.at IS 'When.';
COMMENT ON COLUMN oracle.audit_outcome.subject IS 'A task''s id, a worker''s node name, or *: the command as a whole.';
COMMENT ON COLUMN oracle.audit_outcome.outcome IS 'In a word.';
COMMENT ON COLUMN oracle.audit_outcome.detail IS 'In more words.';
