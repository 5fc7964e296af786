-- What all commands share. {visible} and {controllable} are the owner's predicate on ``t.user_id`` for whoever looks and
-- for whoever acts, built in visibility.py.

-- name: lock_control
-- Held to the end of the transaction by whoever numbers desired states, so that their order is that of commits.
SELECT pg_advisory_xact_lock(%(key)s);

-- name: lock_tasks
-- In the order in which everybody locks tasks.
SELECT t.task_id FROM oracle.task_state_record AS t
WHERE t.task_id = ANY (%(ids)s::text[]) AND {controllable}
ORDER BY t.task_id FOR UPDATE;

-- name: ring_control
-- Sidecars listen to this channel.
SELECT pg_notify('oracle_control', %(payload)s);

-- name: add_entry
-- The one audit entry of an action. None for whoever may change nothing: then the action must not be.
INSERT INTO oracle.audit_entry
    (actor, is_admin, via, address, action, task_id, owner, queues, bulk_id, filter, before, after, reason)
SELECT %(actor)s, %(is_admin)s, %(via)s, %(address)s, %(action)s, %(task_id)s,
    (SELECT user_id FROM oracle.task_state_record WHERE task_id = %(task_id)s), %(queues)s::text[],
    %(bulk_id)s::uuid, %(filter)s::json, %(before)s::json, %(after)s::json, %(reason)s
WHERE %(may_control)s
RETURNING entry_id;

-- name: add_outcomes
-- What came of an entry, for each of its subjects.
INSERT INTO oracle.audit_outcome (entry_id, subject, outcome, detail)
SELECT %(entry_id)s, x.* FROM unnest(%(subjects)s::text[], %(outcomes)s::text[], %(details)s::text[]) AS x;

-- name: task_control
-- What has been done with one task, and what its rules say of what may be. A retry's state is unknown where its message
-- may have been sent and nothing has been heard of the new task for %(patience)s seconds.
SELECT t.status, w.interruptible,
    CASE WHEN {controllable} THEN {cancel_rule} ELSE 'read_only' END AS cancel_code,
    CASE WHEN {controllable} THEN {retry_rule} ELSE 'read_only' END AS retry_code, {missing} AS missing, r.new_id,
    CASE WHEN c.settled_at IS NULL AND t.status < 2 OR t.status = 4 THEN oracle.instant(c.asked_at) END,
    e.actor, e.reason,
    (SELECT task_id FROM oracle.retry WHERE new_id = t.task_id),
    CASE WHEN r.state = 'sending' THEN
        CASE WHEN EXISTS (SELECT FROM oracle.task_state_record WHERE task_id = r.new_id) THEN 'sent'
            WHEN r.claimed_at < clock_timestamp() - make_interval(secs => %(patience)s) THEN 'unknown'
            ELSE 'sending' END
        ELSE r.state END
FROM oracle.task_state_record AS t
LEFT JOIN oracle.cancellation AS c USING (task_id)
LEFT JOIN oracle.audit_entry AS e ON e.entry_id = c.entry_id
LEFT JOIN oracle.retry AS r ON r.task_id = t.task_id
LEFT JOIN oracle.task_message AS m ON m.task_id = t.task_id
LEFT JOIN oracle.worker AS w ON w.worker_id = t.worker_id AND t.status = 1
WHERE t.task_id = %(task_id)s AND {visible};
