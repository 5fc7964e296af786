-- What one sidecar of many does for all: the one that holds the lock.

-- name: try_lead
-- Held as long as the connection lives.
SELECT pg_try_advisory_lock(%(key)s);

-- name: silent_workers
-- Workers whose beats are missing, by the database's clock; none before the database itself has been up as long.
SELECT w.worker_id::text, w.node, extract(epoch FROM clock_timestamp() - w.beat_at)::float8,
    EXISTS (SELECT FROM oracle.worker AS n WHERE n.node = w.node AND n.started_at > w.started_at)
FROM oracle.worker AS w
WHERE w.stopped_at IS NULL AND w.lost_at IS NULL
    AND w.beat_at < clock_timestamp() - make_interval(secs => %(timeout)s)
    AND pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => %(timeout)s)
ORDER BY w.beat_at;

-- name: mark_lost
-- Gives a worker up unless it beat in the meantime.
SELECT task_id, name, user_id FROM oracle.mark_lost(%(worker_id)s::uuid, make_interval(secs => %(timeout)s));

-- name: stranded_workers
-- Workers that are gone or were never known, for which tasks are under way: their facts came after the giving up, from
-- a journal that was found later. As many rows are read as tasks run.
SELECT t.worker_id::text FROM oracle.task_state_record AS t LEFT JOIN oracle.worker AS w USING (worker_id)
WHERE t.status = 1 AND t.worker_id IS NOT NULL
    AND (w.worker_id IS NULL OR w.stopped_at IS NOT NULL OR w.lost_at IS NOT NULL)
GROUP BY t.worker_id;

-- name: fail_stranded
-- What mark_lost would have done. The file is as in expire_overdue.
WITH stranded AS MATERIALIZED (
    SELECT t.task_id, t.retries, t.run_at, t.run_id, t.worker
    FROM oracle.task_state_record AS t LEFT JOIN oracle.worker AS w USING (worker_id)
    WHERE t.status = 1 AND t.worker_id = ANY (%(workers)s::uuid[])
        AND (w.worker_id IS NULL OR w.stopped_at IS NOT NULL OR w.lost_at IS NOT NULL)
    LIMIT %(limit)s FOR UPDATE OF t SKIP LOCKED
),
told AS (
    SELECT '[' || string_agg(json_build_object(
            'i', task_id, 's', 3, 'k', 30, 'e', 'worker_lost', 'r', retries, 'v', run_id,
            'm', (extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 1000,
            'u', (extract(epoch FROM nullif(run_at, 'epoch')) * 1000000)::bigint * 1000,
            'g', 'WorkerLostError', 'f', format('Worker %%s is gone.', worker))::text, ',') || ']' AS body
    FROM stranded HAVING count(*) > 0
)
SELECT i.applied FROM told, oracle.ingest(ARRAY[%(file)s::uuid], '{0}', '{0}', '{0}', '{0}', '{NULL}', '{NULL}',
    '{oracle}', told.body, 'transactional') AS i;

-- name: expire_overdue
-- Tasks whose time was over before a worker had them, or whose worker is gone with them unstarted: the broker drops
-- such messages in silence. A newer run beats this. Rows that are being changed now are left for the next call.
-- The file stands for the journal that nobody wrote; it is to be forgotten in the same transaction.
WITH overdue AS MATERIALIZED (
    SELECT t.task_id, t.retries, t.run_at, t.run_id FROM oracle.task_state_record AS t
    WHERE t.status = 0 AND t.expires < now() - make_interval(secs => %(grace)s)
        AND (t.rank = 0 OR t.rank = 10 AND EXISTS (SELECT FROM oracle.worker AS w
            WHERE w.worker_id = t.worker_id
                AND coalesce(w.stopped_at, w.lost_at) < now() - make_interval(secs => %(grace)s)))
    ORDER BY t.expires LIMIT %(limit)s FOR UPDATE OF t SKIP LOCKED
),
told AS (
    SELECT '[' || string_agg(json_build_object('i', task_id, 's', 4, 'k', 30, 'e', 'expired', 'r', retries, 'v', run_id,
            'm', (extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 1000,
            'u', (extract(epoch FROM nullif(run_at, 'epoch')) * 1000000)::bigint * 1000)::text, ',') || ']' AS body
    FROM overdue HAVING count(*) > 0
)
SELECT i.applied FROM told, oracle.ingest(ARRAY[%(file)s::uuid], '{0}', '{0}', '{0}', '{0}', '{NULL}', '{NULL}',
    '{oracle}', told.body, 'transactional') AS i;

-- name: fold_statistics
-- Deltas become minutes, for their users and for everyone.
WITH gone AS (
    DELETE FROM oracle.statistic_delta WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM oracle.statistic_delta LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
    RETURNING *
),
folded AS (
    INSERT INTO oracle.statistic_minute AS m (minute, runtime, tasks, timed, status, everyone, user_id, name, queue)
    SELECT minute, sum(runtime), sum(tasks), sum(timed), status, grouping(user_id) = 1, coalesce(user_id, ''), name,
        queue
    FROM gone
    GROUP BY minute, status, name, queue, GROUPING SETS ((user_id), ())
    ORDER BY 6, 7, 1, 8, 9, 5
    ON CONFLICT (everyone, user_id, minute, name, queue, status) DO UPDATE
    SET runtime = m.runtime + excluded.runtime, tasks = m.tasks + excluded.tasks, timed = m.timed + excluded.timed
)
SELECT count(*) FROM gone;

-- name: forget_messages
-- Messages of long runs that were kept in case their worker dies, and that have ended well.
DELETE FROM oracle.task_message WHERE task_id = ANY (ARRAY(
    SELECT m.task_id FROM oracle.task_message AS m JOIN oracle.task_state_record AS t USING (task_id)
    WHERE t.status = 2 AND m.at > now() - make_interval(secs => %(age)s)
    LIMIT %(limit)s));

-- name: trim_statistics
-- Removes gauges that stand at zero and minutes that nobody looks at any more.
DELETE FROM oracle.statistic_minute
WHERE minute = 'epoch' AND tasks = 0
    OR minute > 'epoch' AND minute < now() - make_interval(secs => %(age)s);
