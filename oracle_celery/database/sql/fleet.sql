-- Workers and queues, and why a task waits. {visible} is the owner's predicate on row t; {state} is worker_state.

-- name: worker_state
-- Of row w: gone, or silent for longer than beats may be late.
CASE WHEN w.lost_at IS NOT NULL THEN 'lost' WHEN w.stopped_at IS NOT NULL THEN 'stopped'
    WHEN w.beat_at < clock_timestamp() - make_interval(secs => %(timeout)s) THEN 'silent' ELSE 'alive' END

-- name: fleet_workers
-- The living, and those that have gone of late and were not replaced, the newest first, each with what it runs, the
-- longest first: what may be seen of it. As many rows are read as tasks run, up to a limit.
WITH running AS MATERIALIZED (
    SELECT worker_id, json_agg(json_build_object('task_id', task_id, 'name', name, 'user_id', user_id, 'queue', queue,
        'started_at', oracle.instant(started_at)) ORDER BY started_at, task_id) AS tasks
    FROM (
        SELECT x.*, row_number() OVER (PARTITION BY worker_id ORDER BY started_at, task_id) AS place
        FROM (
            SELECT t.worker_id, t.task_id, t.name, t.user_id, t.queue, t.started_at
            FROM oracle.task_state_record AS t WHERE t.status = 1 AND {visible}
            ORDER BY t.created_at LIMIT %(running_limit)s
        ) AS x
    ) AS placed
    WHERE place <= %(running_each)s GROUP BY worker_id
)
SELECT worker_id::text, w.node, w.pool, w.concurrency, w.interruptible, {state},
    CASE WHEN %(everyone)s THEN w.active END, CASE WHEN %(everyone)s THEN w.reserved END,
    w.queues, coalesce(w.consuming, w.queues), oracle.instant(w.started_at), oracle.instant(w.beat_at),
    oracle.instant(coalesce(w.stopped_at, w.lost_at)), w.versions::text, coalesce(w.rate_limits::text, '{{}}'),
    CASE WHEN %(everyone)s THEN w.cpu::float8 END, CASE WHEN %(everyone)s THEN w.memory END,
    CASE WHEN %(everyone)s THEN w.lost_tasks END, coalesce(r.tasks::text, '[]')
FROM oracle.worker AS w LEFT JOIN running AS r USING (worker_id)
WHERE w.stopped_at IS NULL AND w.lost_at IS NULL
    OR coalesce(w.stopped_at, w.lost_at) > clock_timestamp() - make_interval(secs => %(gone)s)
        AND NOT EXISTS (SELECT FROM oracle.worker AS n WHERE n.node = w.node AND n.started_at > w.started_at)
ORDER BY coalesce(w.stopped_at, w.lost_at) DESC NULLS FIRST, w.node, w.started_at
LIMIT %(limit)s;

-- name: fleet_queues
-- Every queue that is consumed, paused or waited in, and '' for all of them together. The numbers come from the gauges,
-- the oldest task from an index: no backlog is read.
WITH living AS MATERIALIZED (
    SELECT w.node, w.queues, coalesce(w.consuming, w.queues) AS consuming, {state} AS state,
        CASE w.pool WHEN 'solo' THEN 1 ELSE w.concurrency END AS slots
    FROM oracle.worker AS w WHERE w.stopped_at IS NULL AND w.lost_at IS NULL
),
whole AS MATERIALIZED (
    SELECT date_trunc('minute', now()) - make_interval(mins => %(flow_minutes)s) AS since,
        date_trunc('minute', now()) AS until
),
counted AS MATERIALIZED (
    SELECT queue, sum(tasks)::bigint AS waiting FROM (
        SELECT t.queue, t.tasks FROM oracle.statistic_minute AS t
        WHERE t.everyone = %(everyone)s AND t.user_id = %(counted_user)s AND t.minute = 'epoch' AND t.status = 0
            AND {visible}
        UNION ALL
        SELECT t.queue, t.tasks FROM oracle.statistic_delta AS t
        WHERE t.minute = 'epoch' AND t.status = 0 AND {visible}
    ) AS x
    WHERE queue <> '' GROUP BY queue HAVING sum(tasks) > 0
),
-- What ended in whole minutes, the running one apart.
ended AS MATERIALIZED (
    SELECT queue, greatest(sum(tasks), 0) / %(flow_minutes)s::float8 AS a_minute FROM (
        SELECT t.queue, t.tasks FROM oracle.statistic_minute AS t, whole
        WHERE t.everyone = %(everyone)s AND t.user_id = %(counted_user)s AND t.minute >= whole.since
            AND t.minute < whole.until AND t.status > 1 AND {visible}
        UNION ALL
        SELECT t.queue, t.tasks FROM oracle.statistic_delta AS t, whole
        WHERE t.minute >= whole.since AND t.minute < whole.until AND t.status > 1 AND {visible}
    ) AS x
    GROUP BY queue
),
-- By how much a queue has grown in them, waiting and running together, as the leader has written it down.
grown AS MATERIALIZED (
    SELECT s.queue, sum((s.queued + s.active) * CASE WHEN s.at < whole.since THEN -1 ELSE 1 END) AS tasks
    FROM whole, oracle.queue_sample AS s
    WHERE %(everyone)s AND s.at IN (whole.since - interval '1 minute', whole.until - interval '1 minute')
    GROUP BY s.queue
),
watched AS MATERIALIZED (
    SELECT count(*) = 2 AS is_so FROM whole, oracle.gauge_sample AS s
    WHERE %(everyone)s AND s.everyone AND s.user_id = ''
        AND s.at IN (whole.since - interval '1 minute', whole.until - interval '1 minute')
),
name AS (
    SELECT '' COLLATE "C" AS queue
    UNION SELECT queue FROM counted
    UNION SELECT unnest(queues || consuming) FROM living
    UNION SELECT queue FROM oracle.queue_pause WHERE is_paused
)
SELECT name.queue, coalesce(counted.waiting, 0), oracle.instant(oldest.created_at), oldest.task_id,
    CASE WHEN word.is_paused THEN json_build_object('by', word.changed_by, 'at', oracle.instant(word.changed_at),
        'reason', word.reason, 'until', oracle.instant(word.until), 'everything', word.queue = '')::text END,
    (SELECT coalesce(json_agg(json_build_object('node', l.node, 'state', l.state, 'slots', l.slots,
            'is_consuming', name.queue = ANY (l.consuming)) ORDER BY l.node), '[]')::text
        FROM living AS l WHERE name.queue = ANY (l.queues) OR name.queue = ANY (l.consuming)),
    coalesce(ended.a_minute, 0),
    CASE WHEN watched.is_so
        THEN greatest(0, coalesce(ended.a_minute, 0) + coalesce(grown.tasks, 0) / %(flow_minutes)s::float8) END
FROM name CROSS JOIN watched
LEFT JOIN counted USING (queue)
LEFT JOIN ended USING (queue)
LEFT JOIN grown USING (queue)
LEFT JOIN LATERAL (
    SELECT p.* FROM oracle.queue_pause AS p WHERE p.queue IN (name.queue, '') ORDER BY p.seq DESC LIMIT 1
) AS word ON true
LEFT JOIN LATERAL (
    SELECT t.created_at, t.task_id FROM oracle.task_state_record AS t
    WHERE t.queue = counted.queue AND t.status = 0 AND {visible} ORDER BY t.created_at LIMIT 1
) AS oldest ON true
ORDER BY name.queue;

-- name: why_waiting
-- situation.Situation of a pending task, as JSON. No row where the viewer may not see it, or it is not pending. As in
-- task_columns, moments that a sender chose are told within bounds.
WITH task AS MATERIALIZED (
    SELECT t.task_id, t.name, t.queue, t.reason, t.worker, t.worker_id, t.retries, t.created_at, t.changed_at,
        CASE WHEN t.eta IS NOT NULL THEN greatest('0001-01-02T00:00:00Z', least('9999-12-31T00:00:00Z', t.eta)) END AS eta,
        CASE WHEN t.expires IS NOT NULL THEN greatest('0001-01-02T00:00:00Z', least('9999-12-31T00:00:00Z', t.expires)) END AS expires,
        t.rank = 10 AND t.worker_id IS NOT NULL AS is_held FROM oracle.task_state_record AS t
    WHERE t.task_id = %(task_id)s AND t.status = 0 AND {visible}
),
running AS MATERIALIZED (
    SELECT worker_id, count(*) AS tasks FROM oracle.task_state_record WHERE status = 1 GROUP BY worker_id
),
known AS MATERIALIZED (
    SELECT w.*, {state} AS state,
        coalesce(task.queue = ANY (coalesce(w.consuming, w.queues)), false) AS is_consuming,
        coalesce(task.queue = ANY (w.queues), false) AS is_configured,
        task.is_held AND w.worker_id = task.worker_id AS is_holder,
        w.rate_limits ->> task.name AS rate_limit
    FROM task, oracle.worker AS w
),
worker AS (
    SELECT k.node, k.is_holder, k.stopped_at IS NULL AND k.lost_at IS NULL AND (k.is_consuming OR k.is_configured)
            AS is_at_queue,
        json_build_object('node', k.node, 'state', k.state, 'at', oracle.instant(coalesce(k.stopped_at, k.beat_at)),
            'slots', CASE k.pool WHEN 'solo' THEN 1 ELSE k.concurrency END, 'running', coalesce(r.tasks, 0),
            'is_consuming', k.is_consuming, 'rate_limit', k.rate_limit) AS told
    FROM known AS k LEFT JOIN running AS r USING (worker_id)
    WHERE k.is_holder OR k.stopped_at IS NULL AND k.lost_at IS NULL AND (k.is_consuming OR k.is_configured)
)
SELECT json_build_object(
    'name', task.name, 'queue', task.queue, 'reason', task.reason, 'worker', task.worker, 'retries', task.retries,
    'is_held', task.is_held, 'waited', extract(epoch FROM clock_timestamp() - task.changed_at)::float8,
    'eta', oracle.instant(task.eta), 'eta_in', extract(epoch FROM task.eta - clock_timestamp())::float8,
    'expires', oracle.instant(task.expires),
    'expires_in', extract(epoch FROM task.expires - clock_timestamp())::float8,
    -- an id stays cancelled, unless the run was over before its end was asked for
    'cancelled', (
        SELECT json_build_object('at', oracle.instant(c.asked_at), 'by', a.actor, 'reason', a.reason)
        FROM oracle.cancellation AS c JOIN oracle.audit_entry AS a USING (entry_id)
        WHERE c.task_id = task.task_id AND c.settled_as IS DISTINCT FROM 'too_late'),
    'pause', (
        SELECT CASE WHEN p.is_paused THEN json_build_object('by', p.changed_by, 'at', oracle.instant(p.changed_at),
            'reason', p.reason, 'until', oracle.instant(p.until), 'everything', p.queue = '') END
        FROM oracle.queue_pause AS p WHERE p.queue IN (task.queue, '') ORDER BY p.seq DESC LIMIT 1),
    'holder', (SELECT told FROM worker WHERE is_holder),
    'workers', (SELECT coalesce(json_agg(told ORDER BY node), '[]') FROM worker WHERE is_at_queue),
    'last_worker', (
        SELECT json_build_object('node', k.node, 'at', oracle.instant(coalesce(k.stopped_at, k.beat_at)))
        FROM known AS k WHERE k.is_configured AND (k.stopped_at IS NOT NULL OR k.lost_at IS NOT NULL)
        ORDER BY coalesce(k.stopped_at, k.lost_at) DESC LIMIT 1),
    'ahead', (SELECT count(*) FROM (
        SELECT FROM oracle.task_state_record AS t
        WHERE t.queue = task.queue AND t.status = 0 AND t.created_at < task.created_at
            AND (t.eta IS NULL OR t.eta <= clock_timestamp()) AND {visible}
        LIMIT %(ahead_limit)s + 1) AS earlier),
    'of', CASE WHEN %(everyone)s THEN 'all' ELSE 'own' END
)::text
FROM task;
