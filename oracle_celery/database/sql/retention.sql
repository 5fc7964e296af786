-- What is deleted because it is old, and the partitions that most of it goes by. Names in braces are identifiers and
-- literals that psycopg composes: PostgreSQL takes no parameters in them. Days are UTC's.

-- name: partitions
-- Of one partitioned table, the oldest first: name, whether it is the one for what no other is for, from when, up to when,
-- rows as the server estimates them, bytes.
SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT',
    (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''([^'']+)''\)'))[1]::timestamptz,
    (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \(''([^'']+)''\)'))[1]::timestamptz,
    greatest(c.reltuples, 0)::bigint, pg_total_relation_size(c.oid)
FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = ('oracle.' || %(table)s)::regclass
ORDER BY 4 NULLS LAST;

-- name: partition_clock
-- The server's time, and the beginning of its day.
SELECT clock_timestamp(), date_trunc('day', clock_timestamp() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';

-- name: make_partition
-- Not as PARTITION OF, which would lock the table against everybody; attached, it only waits for the default partition.
CREATE TABLE oracle.{partition} (LIKE oracle.{table} INCLUDING DEFAULTS)
    WITH (autovacuum_vacuum_insert_scale_factor = 0.1);

-- name: attach_partition
ALTER TABLE oracle.{table} ATTACH PARTITION oracle.{partition} FOR VALUES FROM ({start}) TO ({end});

-- name: attach_default
ALTER TABLE oracle.{table} ATTACH PARTITION oracle.{partition} DEFAULT;

-- name: has_rows
SELECT EXISTS (SELECT FROM oracle.{partition});

-- name: bound_partition
-- The days that a partition holds from now on; what it holds already is looked at next, while others write.
ALTER TABLE oracle.{partition} ADD CONSTRAINT days CHECK (stored_at >= {start} AND stored_at < {end}) NOT VALID;

-- name: check_bounds
ALTER TABLE oracle.{partition} VALIDATE CONSTRAINT days;

-- name: unbound_partition
ALTER TABLE oracle.{partition} DROP CONSTRAINT IF EXISTS days;

-- name: date_anew
-- Rows that the server's clock, when it was wrong, gave days that no partition will be for.
UPDATE oracle.{partition} SET stored_at = greatest(clock_timestamp(), {start})
WHERE stored_at < {start} OR stored_at >= {end};

-- name: rename_partition
ALTER TABLE oracle.{partition} RENAME TO {new};

-- name: detach_partition
-- Not concurrently: no table with a default partition can be left so. It needs a moment without anybody at the table.
ALTER TABLE oracle.{table} DETACH PARTITION oracle.{partition};

-- name: drop_partition
DROP TABLE IF EXISTS oracle.{partition};

-- name: detached_partitions
-- What an interrupted round has detached and not dropped.
SELECT c.relname FROM pg_class AS c
WHERE c.relnamespace = 'oracle'::regnamespace AND c.relkind = 'r' AND NOT c.relispartition
    AND c.relname ~ ('^' || %(table)s || '_(p[0-9]+(_[0-9]+)?|first)$');

-- name: last_transaction
-- Of a partition of the history.
SELECT max(txid)::text::bigint FROM oracle.{partition};

-- name: fold_cursors
-- How far the history is folded into failures, and into durations.
SELECT (SELECT cursor FROM oracle.failure_cursor), (SELECT cursor FROM oracle.duration_cursor);

-- name: raise_history_floor
-- Cursors of before the transaction have lost history from now on.
UPDATE oracle.history_floor SET txid = greatest(txid, %(txid)s::text::xid8),
    history_until = greatest(history_until, %(until)s);

-- name: raise_logs_floor
UPDATE oracle.history_floor SET logs_until = greatest(logs_until, %(until)s);

-- name: history_marks
-- See horizon.py.
SELECT txid::text::bigint, latest::text::bigint, at FROM oracle.history_mark ORDER BY txid;

-- name: mark_history
-- One an hour. What is marked with a time to come, by a clock that was wrong, is marked with now.
WITH late AS (
    UPDATE oracle.history_mark SET at = clock_timestamp() WHERE at > clock_timestamp() RETURNING 1
)
INSERT INTO oracle.history_mark (txid, latest, at)
SELECT pg_snapshot_xmax(pg_current_snapshot())::text::xid8,
    greatest('0', (SELECT max(latest) FROM oracle.history_mark),
        (SELECT max(txid) FROM oracle.task_transition WHERE stored_at >= %(marked_at)s)), clock_timestamp()
WHERE NOT EXISTS (
    SELECT FROM oracle.history_mark WHERE at > clock_timestamp() - interval '1 hour' AND at <= clock_timestamp())
ON CONFLICT (txid) DO UPDATE SET at = excluded.at, latest = excluded.latest;

-- name: thin_marks
-- Of days gone by one mark each is enough.
DELETE FROM oracle.history_mark AS m
WHERE m.at < clock_timestamp() - interval '2 days' AND EXISTS (
    SELECT FROM oracle.history_mark AS n
    WHERE n.at < m.at AND date_trunc('day', n.at, 'UTC') = date_trunc('day', m.at, 'UTC'));

-- name: under_way
-- Whether retry r may still be sent: it was promised, and not so long ago that nobody can be about to. What came of an
-- older promise will never be known.
(r.state = 'sending' AND r.claimed_at > now() - interval '1 day')

-- name: delete_tasks
-- Looks at the next tasks in order of creation and deletes those whose end is old enough (null: never), with what hangs
-- on them. A task that never ended (abandoned) leaves the gauges; one that was cancelled before its time stays until that
-- has come, because its message waits as long. Rows that somebody is changing are left for the next round, so is what is
-- being sent again; a cancel goes by itself (delete_cancellations). How many were looked at, the last one's creation, and
-- what was deleted by status.
WITH looked AS MATERIALIZED (
    SELECT task_id, created_at FROM oracle.task_state_record
    WHERE created_at > %(after)s AND created_at < now() - make_interval(secs => %(shortest)s)
    ORDER BY created_at FETCH FIRST %(limit)s ROWS WITH TIES
),
due AS MATERIALIZED (
    SELECT t.task_id FROM looked AS l JOIN oracle.task_state_record AS t USING (task_id)
    WHERE CASE t.status WHEN 2 THEN t.finished_at < now() - make_interval(secs => %(completed)s)
        WHEN 3 THEN t.finished_at < now() - make_interval(secs => %(failed)s)
        WHEN 4 THEN greatest(t.finished_at, t.eta) < now() - make_interval(secs => %(cancelled)s)
        ELSE greatest(t.changed_at, t.eta) < now() - make_interval(secs => %(abandoned)s) END
        AND NOT EXISTS (SELECT FROM oracle.retry AS r WHERE r.task_id = t.task_id AND {under_way})
    ORDER BY t.task_id FOR UPDATE OF t SKIP LOCKED
),
gone AS (
    DELETE FROM oracle.task_state_record AS t USING due AS d WHERE t.task_id = d.task_id
    RETURNING t.task_id, t.status, t.user_id, t.name, t.queue
),
uncounted AS (
    INSERT INTO oracle.statistic_delta (minute, runtime, tasks, timed, status, user_id, name, queue)
    SELECT 'epoch', 0, -count(*), 0, status, coalesce(user_id, ''), coalesce(name, ''), coalesce(queue, '')
    FROM gone WHERE status < 2 GROUP BY 5, 6, 7, 8
),
messages AS (
    DELETE FROM oracle.task_message AS m USING gone AS g WHERE m.task_id = g.task_id
),
retries AS (
    DELETE FROM oracle.retry AS r USING gone AS g WHERE r.task_id = g.task_id
)
SELECT (SELECT count(*) FROM looked), (SELECT max(created_at) FROM looked), g.status, count(g.task_id)
FROM (SELECT) AS one LEFT JOIN gone AS g ON true GROUP BY g.status;

-- name: delete_cancellations
-- Looks at the next cancels in order and deletes those whose tasks are gone: once they have been settled for a day, in
-- which a message may come again, or where none has come for %(horizon)s seconds. How many were looked at, the last of
-- them, and how many were deleted.
WITH looked AS MATERIALIZED (
    SELECT task_id, seq, settled_at, asked_at FROM oracle.cancellation
    WHERE seq > %(after)s AND seq < (SELECT max(seq) FROM oracle.cancellation)  -- workers ask what comes after the newest
    ORDER BY seq LIMIT %(limit)s
),
gone AS (
    DELETE FROM oracle.cancellation AS c USING looked AS l
    WHERE c.task_id = l.task_id AND c.seq = l.seq AND (l.settled_at < now() - interval '1 day'
            OR l.settled_at IS NULL AND l.asked_at < now() - make_interval(secs => %(horizon)s))
        AND NOT EXISTS (SELECT FROM oracle.task_state_record AS t WHERE t.task_id = l.task_id)
    RETURNING 1
)
SELECT (SELECT count(*) FROM looked), (SELECT max(seq) FROM looked), (SELECT count(*) FROM gone);

-- name: delete_messages
-- Kept messages: their tasks stay, and can no longer be retried. Not those that are being sent again.
DELETE FROM oracle.task_message WHERE task_id = ANY (ARRAY(
    SELECT m.task_id FROM oracle.task_message AS m
    WHERE m.at < now() - make_interval(secs => %(age)s)
        AND NOT EXISTS (SELECT FROM oracle.retry AS r WHERE r.task_id = m.task_id AND {under_way})
    ORDER BY m.at LIMIT %(limit)s FOR UPDATE SKIP LOCKED));

-- name: allow_audit_deletion
-- For this transaction; see oracle.refuse_change.
SELECT set_config('oracle.retention', 'on', true);

-- name: delete_audit
-- The oldest entries with their outcomes, and the bulk actions that they are of; none that is still under way.
WITH due AS MATERIALIZED (
    SELECT e.entry_id, e.bulk_id FROM oracle.audit_entry AS e
    WHERE e.at < now() - make_interval(secs => %(age)s)
        AND NOT EXISTS (SELECT FROM oracle.bulk AS b WHERE b.entry_id = e.entry_id AND b.finished_at IS NULL)
        AND NOT EXISTS (SELECT FROM oracle.queue_pause AS p WHERE p.entry_id = e.entry_id)
        AND NOT EXISTS (SELECT FROM oracle.retry AS r WHERE r.entry_id = e.entry_id AND {under_way})
        AND NOT EXISTS (SELECT FROM oracle.cancellation AS c WHERE c.entry_id = e.entry_id AND c.settled_at IS NULL)
    ORDER BY e.entry_id LIMIT %(limit)s
),
outcomes AS (
    DELETE FROM oracle.audit_outcome AS o USING due AS d WHERE o.entry_id = d.entry_id
),
items AS (
    DELETE FROM oracle.bulk_item AS i USING due AS d, oracle.bulk AS b
    WHERE b.entry_id = d.entry_id AND i.bulk_id = b.bulk_id
),
bulks AS (
    DELETE FROM oracle.bulk AS b USING due AS d WHERE b.entry_id = d.entry_id
)
DELETE FROM oracle.audit_entry AS e USING due AS d WHERE e.entry_id = d.entry_id;

-- name: delete_remains
-- What is left of processes and hosts that nobody has heard of for long: workers with their pauses' reports, and far
-- later the marks of journals and clocks, which a host that comes back would miss.
WITH workers AS (
    DELETE FROM oracle.worker AS w
    WHERE coalesce(w.stopped_at, w.lost_at) < now() - make_interval(secs => %(workers)s)
        AND NOT EXISTS (SELECT FROM oracle.task_state_record AS t WHERE t.status = 1 AND t.worker_id = w.worker_id)
    RETURNING worker_id
),
reports AS (
    DELETE FROM oracle.pause_report AS r USING workers AS w WHERE r.worker_id = w.worker_id
),
fences AS (
    DELETE FROM oracle.journal_fence WHERE applied_at < now() - make_interval(secs => %(hosts)s) RETURNING 1
),
clocks AS (
    DELETE FROM oracle.boot_clock WHERE used_at < now() - make_interval(secs => %(hosts)s) RETURNING 1
)
SELECT (SELECT count(*) FROM workers) + (SELECT count(*) FROM fences) + (SELECT count(*) FROM clocks);

-- name: alone
-- One round of retention at a time, of all sidecars and terminals.
SELECT pg_try_advisory_lock(%(key)s);

-- name: not_alone
SELECT pg_advisory_unlock(%(key)s);

-- name: table_size
-- Rows as the server estimates them, and bytes with indexes.
SELECT greatest(reltuples, 0)::bigint, pg_total_relation_size(oid) FROM pg_class WHERE oid = ('oracle.' || %(table)s)::regclass;

-- name: due_tasks
-- Only ever explained, for the planner's estimate.
SELECT FROM oracle.task_state_record WHERE status = {status} AND {moment} < now() - make_interval(secs => %(age)s)

-- name: due_messages
SELECT FROM oracle.task_message WHERE at < now() - make_interval(secs => %(age)s)

-- name: due_audit
SELECT FROM oracle.audit_entry WHERE at < now() - make_interval(secs => %(age)s)
