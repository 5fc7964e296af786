-- The newest word on each queue, and what workers have said of it.

-- name: queue_words
-- Every word there is; a pause whose time has come is over whether or not somebody has ended it yet.
SELECT queue, seq, is_paused, is_paused AND coalesce(until <= clock_timestamp(), false) AS is_over, changed_by,
    oracle.instant(changed_at), reason, oracle.instant(until), entry_id
FROM oracle.queue_pause ORDER BY queue;

-- name: next_seq
-- Under the lock of control.
SELECT nextval('oracle.control_seq');

-- name: is_future
-- Whether a pause may end then.
SELECT %(until)s::timestamptz > clock_timestamp();

-- name: set_words
-- One word for several queues. None but an admin's: it is about everybody's tasks.
INSERT INTO oracle.queue_pause (queue, seq, is_paused, changed_at, changed_by, entry_id, reason, until)
SELECT queue, %(seq)s, %(is_paused)s, clock_timestamp(), %(by)s, %(entry_id)s, %(reason)s, %(until)s::timestamptz
FROM unnest(%(queues)s::text[]) AS queue
WHERE %(is_admin)s
ON CONFLICT (queue) DO UPDATE
SET seq = excluded.seq, is_paused = excluded.is_paused, changed_at = excluded.changed_at,
    changed_by = excluded.changed_by, entry_id = excluded.entry_id, reason = excluded.reason, until = excluded.until;

-- name: repeat_word
-- Says a queue's word again with a new number: its own, or that of another row.
INSERT INTO oracle.queue_pause (queue, seq, is_paused, changed_at, changed_by, entry_id, reason, until)
SELECT %(queue)s, %(seq)s, is_paused, changed_at, changed_by, entry_id, reason, until
FROM oracle.queue_pause WHERE queue = %(from_queue)s
ON CONFLICT (queue) DO UPDATE
SET seq = excluded.seq, is_paused = excluded.is_paused, changed_at = excluded.changed_at,
    changed_by = excluded.changed_by, entry_id = excluded.entry_id, reason = excluded.reason, until = excluded.until;

-- name: pause_reports
-- Each living worker with each of the queues that it consumes, is to consume or has paused, and what it has said of it.
-- A null queue: none of those that are asked for. No queues are all. A worker whose name another has taken is gone.
SELECT w.worker_id::text, w.node, extract(epoch FROM clock_timestamp() - w.beat_at)::float8 AS silence, q.queue, r.seq,
    r.state
FROM oracle.worker AS w
LEFT JOIN LATERAL (
    SELECT unnest(w.queues) COLLATE "C" AS queue
    UNION SELECT unnest(w.consuming)
    UNION SELECT p.queue FROM oracle.pause_report AS p WHERE p.worker_id = w.worker_id AND p.state = 'paused'
) AS q ON cardinality(%(queues)s::text[]) = 0 OR q.queue = ANY (%(queues)s::text[])
LEFT JOIN oracle.pause_report AS r ON r.worker_id = w.worker_id AND r.queue = q.queue
WHERE w.stopped_at IS NULL AND w.lost_at IS NULL
    AND NOT EXISTS (SELECT FROM oracle.worker AS n WHERE n.node = w.node AND n.started_at > w.started_at)
ORDER BY w.node, w.worker_id, q.queue;

-- name: lock_entry
-- One at a time says what came of an entry, so that nothing is said twice.
SELECT pg_advisory_xact_lock(%(key)s, (%(entry_id)s %% 2147483647)::integer);

-- name: add_new_outcomes
-- Those that the newest outcome of the same subject does not say already.
INSERT INTO oracle.audit_outcome (entry_id, subject, outcome, detail)
SELECT %(entry_id)s, x.*
FROM unnest(%(subjects)s::text[], %(outcomes)s::text[], %(details)s::text[]) AS x (subject, outcome, detail)
WHERE x.outcome IS DISTINCT FROM (
    SELECT o.outcome FROM oracle.audit_outcome AS o WHERE o.entry_id = %(entry_id)s AND o.subject = x.subject
    ORDER BY o.outcome_id DESC LIMIT 1);

-- name: recent_words
-- Commands whose words are in force and of which workers may still have something to say.
SELECT p.entry_id, min(p.seq), e.queues, bool_and(p.is_paused)
FROM oracle.queue_pause AS p JOIN oracle.audit_entry AS e USING (entry_id)
WHERE p.changed_at > clock_timestamp() - make_interval(secs => %(age)s)
GROUP BY p.entry_id, e.queues;
