-- Cancelling: what may be, the facts it tells, the ids that shall not run, and what came of them.

-- name: cancel_rule
-- Why row t, with its cancellation c, may not be cancelled; null where it may.
CASE WHEN t.status > 1 THEN 'not_active'
    WHEN t.status = 1 AND c.task_id IS NOT NULL AND c.settled_at IS NULL THEN 'already_requested' END

-- name: cancellable
-- The rule of each of the tasks.
SELECT t.task_id, t.status, {rule} AS code, w.interruptible
FROM oracle.task_state_record AS t
LEFT JOIN oracle.cancellation AS c USING (task_id)
LEFT JOIN oracle.worker AS w ON w.worker_id = t.worker_id AND t.status = 1
WHERE t.task_id = ANY (%(ids)s::text[])
ORDER BY t.task_id;

-- name: tell_cancels
-- The facts of tasks that are called off before they start (15: CALLED_OFF) or whose end is requested (25: CANCELLING),
-- one step above what is known. A run that has started meanwhile, or a newer one, wins over the first kind.
SELECT oracle.infer(NULL, NULL, '[' || string_agg(json_build_object(
        'i', t.task_id, 'r', t.retries, 'v', t.run_id,
        's', CASE t.status WHEN 0 THEN 4 ELSE 1 END,
        'k', greatest(t.rank + 1, CASE t.status WHEN 0 THEN 15 ELSE 25 END),
        'e', CASE t.status WHEN 0 THEN 'cancelled' ELSE 'cancel_requested' END,
        'm', (extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 1000,
        'u', (extract(epoch FROM nullif(t.run_at, 'epoch')) * 1000000)::bigint * 1000)::text, ',') || ']')
FROM oracle.task_state_record AS t
WHERE t.task_id = ANY (%(ids)s::text[]);

-- name: add_cancellations
-- Under the lock of control: each has a number of its own.
INSERT INTO oracle.cancellation AS c (task_id, seq, asked_at, entry_id, was_status)
SELECT x.task_id, nextval('oracle.control_seq'), clock_timestamp(), %(entry_id)s, x.status
FROM unnest(%(ids)s::text[], %(statuses)s::smallint[]) AS x (task_id, status)
ON CONFLICT (task_id) DO UPDATE
SET seq = excluded.seq, asked_at = excluded.asked_at, entry_id = excluded.entry_id, was_status = excluded.was_status,
    result_at = NULL, settled_at = NULL, settled_as = NULL;

-- name: living_workers
-- How many there are to obey.
SELECT count(*)::integer FROM oracle.worker WHERE stopped_at IS NULL AND lost_at IS NULL;

-- name: ended
-- Row t has come to its end, and not merely by the command's own word, nor because its worker fell silent (30: LOST): the
-- broker may give the message to another one, which is to drop it.
(t.status IN (2, 3) AND t.rank > 30 OR t.status = 4 AND t.rank >= 50 AND t.origin IS DISTINCT FROM 'oracle')

-- name: ended_cancellations
-- Which of the next open cancellations can be settled: how many were looked at, the last of them, and the tasks.
WITH open AS MATERIALIZED (
    SELECT task_id, seq FROM oracle.cancellation WHERE settled_at IS NULL AND seq > %(after)s
    ORDER BY seq LIMIT %(window)s
)
SELECT count(*)::integer, max(o.seq), coalesce(array_agg(o.task_id ORDER BY o.task_id) FILTER (WHERE {ended}), ARRAY[]::text[])
FROM open AS o LEFT JOIN oracle.task_state_record AS t USING (task_id);

-- name: settle_cancellations
-- A run that ended by itself says that the cancel came too late, where it has no reason of its own; the history tells it
-- too, so that readers look. Returns the moves between outcomes of bulk items.
WITH ended AS MATERIALIZED (
    SELECT t.task_id, t.reason, c.entry_id, CASE t.status WHEN 4 THEN 'cancelled' ELSE 'too_late' END AS outcome,
        CASE t.status WHEN 4 THEN NULL ELSE format('It had %%s by then.', oracle.status_word(t.status)) END AS detail,
        b.bulk_id, i.number, i.outcome AS was
    FROM oracle.task_state_record AS t
    JOIN oracle.cancellation AS c USING (task_id)
    LEFT JOIN oracle.bulk AS b ON b.entry_id = c.entry_id
    LEFT JOIN oracle.bulk_item AS i ON i.bulk_id = b.bulk_id AND i.task_id = t.task_id AND i.outcome IS NOT NULL
    WHERE t.task_id = ANY (%(ids)s::text[]) AND c.settled_at IS NULL AND {ended}
),
settled AS (
    UPDATE oracle.cancellation AS c SET settled_at = clock_timestamp(), settled_as = e.outcome
    FROM ended AS e WHERE c.task_id = e.task_id
),
explained AS (
    UPDATE oracle.task_state_record AS t SET reason = 'cancel_too_late'
    FROM ended AS e WHERE t.task_id = e.task_id AND e.outcome = 'too_late' AND e.reason IS NULL
    RETURNING t.*
),
history AS (
    INSERT INTO oracle.task_transition (txid, at, run_at, runtime, retries, status, rank, task_id, reason, run_id,
        worker, origin, error_type, error_message)
    SELECT pg_current_xact_id(), changed_at, run_at, runtime, retries, status, rank, task_id, reason, run_id,
        worker, 'oracle', error_type, error_message
    FROM explained
),
told AS (
    INSERT INTO oracle.audit_outcome (entry_id, subject, outcome, detail)
    SELECT e.entry_id, e.task_id, e.outcome, e.detail FROM ended AS e
    WHERE e.outcome IS DISTINCT FROM (
        SELECT o.outcome FROM oracle.audit_outcome AS o WHERE o.entry_id = e.entry_id AND o.subject = e.task_id
        ORDER BY o.outcome_id DESC LIMIT 1)
),
moved AS (
    UPDATE oracle.bulk_item AS i SET outcome = e.outcome, detail = e.detail
    FROM ended AS e
    WHERE i.bulk_id = e.bulk_id AND i.number = e.number AND i.outcome IS DISTINCT FROM e.outcome
    RETURNING i.bulk_id, e.was, i.outcome
),
rung AS (
    SELECT pg_notify('oracle_channel', oracle.notification(task_id, status, changed_at)) FROM explained LIMIT 1
)
SELECT m.bulk_id::text, m.was, m.outcome, count(*)::integer, (SELECT count(*) FROM rung)
FROM (SELECT) AS one LEFT JOIN moved AS m ON true
GROUP BY m.bulk_id, m.was, m.outcome ORDER BY m.bulk_id;

-- name: results_due
-- Tasks that were called off and that every living worker knows to drop: nobody runs them, nobody else says so.
SELECT c.task_id FROM oracle.cancellation AS c JOIN oracle.task_state_record AS t USING (task_id)
WHERE c.settled_at IS NULL AND c.result_at IS NULL AND c.was_status = 0 AND t.status = 4
    AND c.seq <= (SELECT coalesce(min(control_seq), 9223372036854775807) FROM oracle.worker
                  WHERE stopped_at IS NULL AND lost_at IS NULL)
ORDER BY c.seq LIMIT %(limit)s;

-- name: results_revoked
-- The application's result backend has been told.
UPDATE oracle.cancellation SET result_at = clock_timestamp() WHERE task_id = ANY (%(ids)s::text[]);
