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
    SELECT t.task_id, t.retries, t.run_at, t.run_id, t.worker, t.worker_id
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
),
counted AS (
    UPDATE oracle.worker AS w SET lost_tasks = coalesce(w.lost_tasks, 0) + s.tasks
    FROM (SELECT worker_id, count(*) AS tasks FROM stranded GROUP BY worker_id) AS s WHERE w.worker_id = s.worker_id
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

-- name: delta_files
-- Bytes of the table of deltas; of what is left of the former one, which file that is and how many blocks it has.
SELECT pg_relation_size('oracle.statistic_delta'), pg_relation_filenode('oracle.statistic_delta_rest')::bigint,
    pg_relation_size('oracle.statistic_delta_rest') / current_setting('block_size')::integer;

-- name: lock_deltas
-- And with it what is left of the former one.
LOCK TABLE oracle.statistic_delta IN ACCESS EXCLUSIVE MODE;

-- name: exchange_deltas
-- The table of deltas becomes what is left of it, and what was left, which is empty, takes its place. No row is touched.
ALTER TABLE oracle.statistic_delta_rest NO INHERIT oracle.statistic_delta;
ALTER TABLE oracle.statistic_delta RENAME TO statistic_delta_former;
ALTER TABLE oracle.statistic_delta_rest RENAME TO statistic_delta;
ALTER TABLE oracle.statistic_delta_former RENAME TO statistic_delta_rest;
ALTER TABLE oracle.statistic_delta_rest INHERIT oracle.statistic_delta;

-- name: lock_rest_of_deltas
LOCK TABLE ONLY oracle.statistic_delta_rest IN ACCESS EXCLUSIVE MODE;

-- name: empty_rest_of_deltas
TRUNCATE ONLY oracle.statistic_delta_rest;

-- name: fold_statistics
-- Deltas become minutes, for their users and for everyone, what minutes add up to, and the counters of metrics. Of the
-- table of deltas some, and of what is left of the former one the rows of some blocks.
WITH new AS (
    DELETE FROM ONLY oracle.statistic_delta WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM ONLY oracle.statistic_delta LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
    RETURNING *
),
rest AS (
    DELETE FROM ONLY oracle.statistic_delta_rest WHERE ctid >= %(rest_from)s::tid AND ctid < %(rest_to)s::tid
    RETURNING *
),
gone AS MATERIALIZED (
    SELECT * FROM new UNION ALL SELECT * FROM rest
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
),
totals AS (
    INSERT INTO oracle.statistic_total AS m (start, runtime, tasks, timed, minutes, status)
    SELECT date_bin(make_interval(mins => minutes), minute, 'epoch'), sum(runtime), sum(tasks), sum(timed), minutes,
        status
    FROM gone, (VALUES (1), (30)) AS m (minutes) WHERE minute > 'epoch'
    GROUP BY 1, minutes, status ORDER BY 5, 1, 6
    ON CONFLICT (minutes, start, status) DO UPDATE
    SET runtime = m.runtime + excluded.runtime, tasks = m.tasks + excluded.tasks, timed = m.timed + excluded.timed
),
half_hours AS (
    INSERT INTO oracle.statistic_half_hour AS m (start, runtime, tasks, timed, status, everyone, user_id, name)
    SELECT start, sum(runtime), sum(tasks), sum(timed), status, grouping(user_id) = 1, coalesce(user_id, ''), name
    FROM (SELECT date_bin('30 minutes', minute, 'epoch') AS start, * FROM gone WHERE minute > 'epoch') AS x
    GROUP BY start, status, name, GROUPING SETS ((user_id), ())
    ORDER BY 6, 7, 1, 8, 5
    ON CONFLICT (everyone, user_id, start, name, status) DO UPDATE
    SET runtime = m.runtime + excluded.runtime, tasks = m.tasks + excluded.tasks, timed = m.timed + excluded.timed
),
-- What metrics count never falls: a correction takes nothing off, but where it meets what it corrects.
finished AS MATERIALIZED (
    SELECT kind, label, status, sum(tasks) AS tasks
    FROM (
        SELECT minute, name, queue, status, sum(tasks) AS tasks FROM gone WHERE minute > 'epoch' AND status > 1
        GROUP BY minute, name, queue, status HAVING sum(tasks) > 0
    ) AS x, LATERAL (VALUES ('name' COLLATE "C", x.name), ('queue', x.queue)) AS l (kind, label)
    GROUP BY kind, label, status
),
-- Labels that are new, those with most tasks first, as long as there is room.
admitted AS (
    INSERT INTO oracle.metric_label (kind, label)
    SELECT kind, label FROM (
        SELECT f.kind, f.label, row_number() OVER (PARTITION BY f.kind ORDER BY sum(f.tasks) DESC, f.label) AS place
        FROM finished AS f WHERE f.label NOT IN ('', %(others)s) AND length(f.label) <= %(length)s
            AND NOT EXISTS (SELECT FROM oracle.metric_label AS l WHERE (l.kind, l.label) = (f.kind, f.label))
        GROUP BY f.kind, f.label
    ) AS n
    WHERE n.place <= %(labels)s - (SELECT count(*) FROM oracle.metric_label AS l WHERE l.kind = n.kind AND l.label <> '')
    ON CONFLICT DO NOTHING
    RETURNING kind, label
),
used AS (
    UPDATE oracle.metric_label AS l SET used_at = now() FROM finished AS f
    WHERE (l.kind, l.label) = (f.kind, f.label) AND l.used_at < now() - interval '10 minutes'
),
counters AS (
    INSERT INTO oracle.metric_finished AS m (tasks, status, kind, label)
    SELECT sum(f.tasks), f.status, f.kind, coalesce(l.label, '')
    FROM finished AS f
    LEFT JOIN (SELECT kind, label FROM oracle.metric_label UNION SELECT kind, label FROM admitted) AS l
        ON (l.kind, l.label) = (f.kind, f.label)
    GROUP BY f.kind, coalesce(l.label, ''), f.status ORDER BY 3, 4, 2
    ON CONFLICT (kind, label, status) DO UPDATE SET tasks = m.tasks + excluded.tasks
)
SELECT (SELECT count(*) FROM new), (SELECT count(*) FROM rest);

-- name: sample_gauges
-- How many tasks wait and run at this moment: of all, of each queue, and of the users who have most; of a minute the
-- larger sample stays. Users beyond the limit are left out, and the row of everyone says so.
WITH moment AS (SELECT date_bin('1 minute', clock_timestamp(), 'epoch') AS at),
gauge AS (
    SELECT queue, status, tasks FROM oracle.statistic_minute
    WHERE everyone AND user_id = '' AND minute = 'epoch' AND status < 2 AND tasks <> 0
    UNION ALL
    SELECT queue, status, tasks FROM oracle.statistic_delta WHERE minute = 'epoch' AND status < 2
),
user_gauge AS (
    SELECT user_id, status, tasks FROM oracle.statistic_minute
    WHERE NOT everyone AND minute = 'epoch' AND status < 2 AND tasks <> 0
    UNION ALL
    SELECT user_id, status, tasks FROM oracle.statistic_delta WHERE minute = 'epoch' AND status < 2
),
queues AS (
    INSERT INTO oracle.queue_sample AS s (at, queued, active, queue)
    SELECT at, coalesce(sum(tasks) FILTER (WHERE status = 0), 0), coalesce(sum(tasks) FILTER (WHERE status = 1), 0),
        queue
    FROM gauge, moment GROUP BY at, queue HAVING sum(tasks) <> 0 ORDER BY at, queue
    ON CONFLICT (at, queue) DO UPDATE
    SET queued = greatest(s.queued, excluded.queued), active = greatest(s.active, excluded.active)
),
of_user AS MATERIALIZED (
    SELECT user_id, coalesce(sum(tasks) FILTER (WHERE status = 0), 0) AS queued,
        coalesce(sum(tasks) FILTER (WHERE status = 1), 0) AS active, count(*) OVER () AS users
    FROM user_gauge WHERE user_id <> '' GROUP BY user_id HAVING sum(tasks) <> 0
    ORDER BY sum(tasks) DESC LIMIT %(users)s
)
INSERT INTO oracle.gauge_sample AS s (at, queued, active, everyone, is_whole, user_id)
SELECT at, queued, active, everyone, is_whole, user_id FROM (
    SELECT coalesce(sum(tasks) FILTER (WHERE status = 0), 0) AS queued,
        coalesce(sum(tasks) FILTER (WHERE status = 1), 0) AS active, true AS everyone,
        coalesce((SELECT max(users) FROM of_user), 0) <= %(users)s AS is_whole, '' AS user_id
    FROM gauge
    UNION ALL
    SELECT queued, active, false, true, user_id FROM of_user
) AS x, moment
ORDER BY everyone, user_id
ON CONFLICT (everyone, user_id, at) DO UPDATE
SET queued = greatest(s.queued, excluded.queued), active = greatest(s.active, excluded.active),
    is_whole = s.is_whole AND excluded.is_whole;

-- name: trim_gauges
-- Gauges of users that stand at zero: they would be read with every sample.
DELETE FROM oracle.statistic_minute WHERE NOT everyone AND minute = 'epoch' AND tasks = 0;

-- name: lock_durations
-- How far the history is in the histogram. Two who lead at once fold one after another.
SELECT cursor FROM oracle.duration_cursor FOR UPDATE;

-- name: move_durations
UPDATE oracle.duration_cursor SET cursor = %(cursor)s;

-- name: fold_durations
-- Of what a cursor has not seen, whole transactions in order of txid, the runs that ended and are their tasks' current
-- version; for the histogram of the day, and for that of metrics, which never falls. A wait is that for the first run,
-- from when it was sent or was to begin.
{snapshot},
unseen AS MATERIALIZED (
    SELECT * FROM (
        SELECT txid, task_id, at, run_at, retries, rank, status, runtime FROM oracle.task_transition
        WHERE txid = ANY (%(xip)s::text[]::xid8[]) AND stored_at >= %(since)s::timestamptz
        UNION ALL
        SELECT * FROM (
            SELECT txid, task_id, at, run_at, retries, rank, status, runtime FROM oracle.task_transition
            WHERE txid >= %(xmax)s::text::xid8 AND stored_at >= %(since)s::timestamptz
            ORDER BY txid FETCH FIRST %(limit)s ROWS WITH TIES
        ) AS later
    ) AS x
    ORDER BY txid FETCH FIRST %(limit)s ROWS WITH TIES
),
ended AS (
    SELECT DISTINCT ON (t.task_id) coalesce(t.name, '') AS name, h.at, h.runtime,
        CASE WHEN t.retries = 0 THEN extract(epoch FROM t.started_at - greatest(t.created_at, t.eta)) END AS wait
    FROM unseen AS h JOIN oracle.task_state_record AS t ON t.task_id = h.task_id
        AND (t.retries, t.run_at, t.rank, t.status, t.changed_at) = (h.retries, h.run_at, h.rank, h.status, h.at)
    WHERE h.status IN (2, 3) AND h.runtime IS NOT NULL AND h.at > now() - make_interval(secs => %(age)s)
),
told AS (
    INSERT INTO oracle.duration_histogram AS m (hour, tasks, bucket, is_wait, name)
    SELECT date_bin('1 hour', at, 'epoch'), count(*),
        floor(%(per_octave)s * ln(least(greatest(seconds, %(shortest)s), %(longest)s)) / ln(2::float8))::smallint,
        is_wait, name
    FROM ended, LATERAL (VALUES (false, runtime), (true, wait::float8)) AS x (is_wait, seconds)
    WHERE seconds IS NOT NULL
    GROUP BY 1, 3, is_wait, name ORDER BY 1, 5, 4, 3
    ON CONFLICT (hour, name, is_wait, bucket) DO UPDATE SET tasks = m.tasks + excluded.tasks
),
counters AS (
    INSERT INTO oracle.metric_duration AS m (tasks, seconds, octave, is_wait, label)
    SELECT count(*), sum(greatest(seconds, 0)),
        floor(ln(least(greatest(seconds, %(shortest)s), %(longest)s)) / ln(2::float8))::smallint,
        is_wait, coalesce(l.label, '')
    FROM ended LEFT JOIN oracle.metric_label AS l ON l.kind = 'name' AND l.label = ended.name,
        LATERAL (VALUES (false, runtime), (true, wait::float8)) AS x (is_wait, seconds)
    WHERE seconds IS NOT NULL
    GROUP BY 3, is_wait, coalesce(l.label, '') ORDER BY 5, 4, 3
    ON CONFLICT (label, is_wait, octave) DO UPDATE
    SET tasks = m.tasks + excluded.tasks, seconds = m.seconds + excluded.seconds
)
SELECT s.*, (SELECT count(*) FROM unseen), (SELECT max(txid::text::bigint) FROM unseen) FROM snapshot AS s;

-- name: forget_messages
-- Messages of long runs were kept in case their worker dies: those of runs that have ended well go, and those of others
-- are not looked at again, unless another run brings them. As many rows are read as tasks run and have ended since. How
-- many were looked at, and how many went.
WITH ended AS MATERIALIZED (
    SELECT m.task_id, t.status = 2 AS is_well
    FROM oracle.task_message AS m JOIN oracle.task_state_record AS t USING (task_id)
    WHERE m.awaits_end AND t.status > 1 LIMIT %(limit)s FOR UPDATE OF m SKIP LOCKED
),
kept AS (
    UPDATE oracle.task_message AS m SET awaits_end = false FROM ended AS e WHERE m.task_id = e.task_id AND NOT e.is_well
),
gone AS (
    DELETE FROM oracle.task_message AS m USING ended AS e WHERE m.task_id = e.task_id AND e.is_well RETURNING 1
)
SELECT (SELECT count(*) FROM ended), (SELECT count(*) FROM gone);

-- name: forget_progress
-- How far tasks were that have ended since, or whose record is gone.
DELETE FROM oracle.task_progress WHERE task_id = ANY (ARRAY(
    SELECT p.task_id FROM oracle.task_progress AS p LEFT JOIN oracle.task_state_record AS t USING (task_id)
    WHERE t.status > 1 OR t.task_id IS NULL AND p.at < now() - interval '1 day'
    LIMIT %(limit)s));

-- name: trim_statistics
-- Removes gauges of all that stand at zero and what nobody looks at any more: what charts of days are made of when it is
-- as old as `age`, minutes of all after two days, all else after a day. Of each so many rows, the oldest first, by an
-- index: the most that went of one.
WITH totals AS (
    DELETE FROM oracle.statistic_total WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM oracle.statistic_total
        WHERE start < now() - make_interval(secs => CASE WHEN minutes = 1 THEN 2 * %(day)s ELSE %(age)s END)
        LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
    RETURNING 1
),
half_hours AS (
    DELETE FROM oracle.statistic_half_hour WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM oracle.statistic_half_hour
        WHERE everyone AND start < now() - make_interval(secs => %(day)s)
        ORDER BY start LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
    RETURNING 1
),
user_half_hours AS (
    DELETE FROM oracle.statistic_half_hour WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM oracle.statistic_half_hour
        WHERE NOT everyone AND start < now() - make_interval(secs => %(age)s)
        ORDER BY start LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
    RETURNING 1
),
samples AS (
    DELETE FROM oracle.gauge_sample WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM oracle.gauge_sample
        WHERE at < now() - make_interval(secs => %(day)s)
        ORDER BY at LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
    RETURNING 1
),
queues AS (
    DELETE FROM oracle.queue_sample WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM oracle.queue_sample
        WHERE at < now() - make_interval(secs => %(day)s)
        ORDER BY at LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
    RETURNING 1
),
durations AS (
    DELETE FROM oracle.duration_histogram WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM oracle.duration_histogram
        WHERE hour < now() - make_interval(secs => %(day)s)
        ORDER BY hour LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
    RETURNING 1
),
gauges AS (
    DELETE FROM oracle.statistic_minute WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM oracle.statistic_minute
        WHERE everyone AND user_id = '' AND minute = 'epoch' AND tasks = 0
        LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
    RETURNING 1
),
minutes AS (
    DELETE FROM oracle.statistic_minute WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM oracle.statistic_minute
        WHERE minute > 'epoch' AND minute < now() - make_interval(secs => %(age)s)
        ORDER BY minute LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
    RETURNING 1
)
SELECT greatest((SELECT count(*) FROM totals), (SELECT count(*) FROM half_hours), (SELECT count(*) FROM user_half_hours), (SELECT count(*) FROM samples),
    (SELECT count(*) FROM queues), (SELECT count(*) FROM durations), (SELECT count(*) FROM gauges), (SELECT count(*) FROM minutes));

-- name: trim_metrics
-- Where all labels of a kind are taken, those unused for a day give way; their counters begin anew should they return.
WITH gone AS (
    DELETE FROM oracle.metric_label AS l
    WHERE l.label <> '' AND l.used_at < now() - make_interval(secs => %(age)s)
        AND (SELECT count(*) FROM oracle.metric_label AS k WHERE k.kind = l.kind AND k.label <> '') >= %(labels)s
    RETURNING l.kind, l.label
),
durations AS (
    DELETE FROM oracle.metric_duration AS m USING gone WHERE gone.kind = 'name' AND m.label = gone.label
)
DELETE FROM oracle.metric_finished AS m USING gone WHERE (m.kind, m.label) = (gone.kind, gone.label);
