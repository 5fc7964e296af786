-- What charts read. {visible} is the owner's predicate; every value is a parameter. Sums that are folded and deltas that
-- are not yet are read together, in one snapshot: a figure never waits for the leader.

-- name: minutes_of_all
-- Of those who may see every task.
SELECT t.start AS minute, t.status, t.tasks, t.timed, t.runtime FROM oracle.statistic_total AS t
WHERE t.minutes = 1 AND t.start >= {since}

-- name: half_hours_of_all
-- For ranges of days, whose buckets are whole half-hours.
SELECT t.start AS minute, t.status, t.tasks, t.timed, t.runtime FROM oracle.statistic_total AS t
WHERE t.minutes = 30 AND t.start >= {since}

-- name: minutes_of_owner
SELECT t.minute, t.status, t.tasks, t.timed, t.runtime FROM oracle.statistic_minute AS t
WHERE NOT t.everyone AND {visible} AND t.minute >= {since}

-- name: half_hours_of_owner
SELECT t.start AS minute, t.status, t.tasks, t.timed, t.runtime FROM oracle.statistic_half_hour AS t
WHERE NOT t.everyone AND {visible} AND t.start >= {since}

-- name: range_start
-- The first bucket of `count`, the last of which is the one of now.
(date_bin(make_interval(secs => %(width)s), now(), 'epoch') - make_interval(secs => %(width)s * (%(count)s - 1)))

-- name: trend
-- Finished tasks by bucket; bucket -1 is the same length of time before the first one, where it is asked for. One row
-- with nulls where there is nothing.
WITH counted AS (
    {source}
    UNION ALL
    SELECT t.minute, t.status, t.tasks, t.timed, t.runtime FROM oracle.statistic_delta AS t
    WHERE {visible} AND t.minute >= {since}
),
-- Few before their places are reckoned. Buckets are counted from the epoch, as their range is.
binned AS (
    SELECT date_bin(make_interval(secs => %(width)s), minute, 'epoch') AS start, minute >= date_bin('1 minute', now(), 'epoch') AS is_now,
        status,
        sum(tasks) AS tasks, sum(timed) AS timed, sum(runtime) AS runtime
    FROM counted WHERE minute > 'epoch' GROUP BY 1, 2, 3
)
SELECT r.start AT TIME ZONE 'UTC', clock_timestamp() AT TIME ZONE 'UTC', b.*
FROM (SELECT {start} AS start) AS r
LEFT JOIN (
    SELECT greatest(-1, least(%(count)s - 1, floor(extract(epoch FROM start - {start}) / %(width)s)))::integer AS bucket,
        coalesce(sum(tasks) FILTER (WHERE status = 2), 0)::bigint,
        coalesce(sum(tasks) FILTER (WHERE status = 3), 0)::bigint,
        coalesce(sum(tasks) FILTER (WHERE status = 4), 0)::bigint,
        coalesce(sum(timed) FILTER (WHERE status IN (2, 3)), 0)::bigint,
        coalesce(sum(runtime) FILTER (WHERE status IN (2, 3)), 0)::float8,
        coalesce(sum(tasks) FILTER (WHERE status = 2 AND is_now), 0)::bigint,
        coalesce(sum(tasks) FILTER (WHERE status = 3 AND is_now), 0)::bigint
    FROM binned GROUP BY 1
) AS b ON true
ORDER BY b.bucket;

-- name: gauges_of_all
-- The most that waited and ran in each bucket that has samples.
SELECT floor(extract(epoch FROM s.start - {start}) / %(width)s)::integer, s.queued, s.active
FROM (
    SELECT date_bin(make_interval(secs => %(width)s), at, 'epoch') AS start, max(queued) AS queued, max(active) AS active
    FROM oracle.gauge_sample WHERE everyone AND user_id = '' AND at >= {start} GROUP BY 1
) AS s;

-- name: gauges_of_owner
-- The same; where an owner has no row, they had no task if all users were written down, and else it is not known.
SELECT floor(extract(epoch FROM s.start - {start}) / %(width)s)::integer, s.queued, s.active
FROM (
    SELECT date_bin(make_interval(secs => %(width)s), e.at, 'epoch') AS start,
        max(coalesce(own.queued, CASE WHEN e.is_whole THEN 0 END)) AS queued,
        max(coalesce(own.active, CASE WHEN e.is_whole THEN 0 END)) AS active
    FROM oracle.gauge_sample AS e
    LEFT JOIN (
        SELECT t.at, t.queued, t.active FROM oracle.gauge_sample AS t
        WHERE NOT t.everyone AND {visible} AND t.at >= {start}
    ) AS own ON own.at = e.at
    WHERE e.everyone AND e.user_id = '' AND e.at >= {start} GROUP BY 1
) AS s;

-- name: queue_history
-- Tasks that waited and ran in each queue, by bucket. For those who see everything.
SELECT s.queue, floor(extract(epoch FROM s.start - {start}) / %(width)s)::integer, s.queued, s.active
FROM (
    SELECT queue, date_bin(make_interval(secs => %(width)s), at, 'epoch') AS start, max(queued) AS queued,
        max(active) AS active
    FROM oracle.queue_sample WHERE at >= {start} GROUP BY 1, 2
) AS s ORDER BY 1, 2;

-- name: watched_buckets
-- The range's start, and its buckets in which everything that waits and runs was sampled: a queue without a row was
-- empty then.
SELECT ({start}) AT TIME ZONE 'UTC', array(
    SELECT DISTINCT floor(extract(epoch FROM date_bin(make_interval(secs => %(width)s), at, 'epoch') - {start})
        / %(width)s)::integer
    FROM oracle.gauge_sample WHERE everyone AND user_id = '' AND at >= {start}
);

-- name: type_counts
-- Finished tasks by name and half-hour, the commonest names first, with what finished in the last ten whole minutes.
WITH counted AS (
    SELECT t.name, t.start, t.status, t.tasks, t.timed, t.runtime FROM oracle.statistic_half_hour AS t
    WHERE t.everyone = %(everyone)s AND t.user_id = %(scope)s AND {visible} AND t.start >= {start}
    UNION ALL
    SELECT t.name, date_bin('30 minutes', t.minute, 'epoch'), t.status, t.tasks, t.timed, t.runtime
    FROM oracle.statistic_delta AS t
    WHERE {visible} AND t.minute >= {start}
),
recent AS (
    SELECT name, sum(tasks) AS tasks FROM (
        SELECT t.name, t.tasks, t.minute FROM oracle.statistic_minute AS t
        WHERE t.everyone = %(everyone)s AND t.user_id = %(scope)s AND {visible}
            AND t.minute >= date_bin('1 minute', now(), 'epoch') - interval '10 minutes'
        UNION ALL
        SELECT t.name, t.tasks, t.minute FROM oracle.statistic_delta AS t
        WHERE {visible} AND t.minute >= date_bin('1 minute', now(), 'epoch') - interval '10 minutes'
    ) AS x
    WHERE minute < date_bin('1 minute', now(), 'epoch')
    GROUP BY name
),
named AS (
    SELECT name, coalesce(sum(tasks) FILTER (WHERE status = 2), 0) AS completed,
        coalesce(sum(tasks) FILTER (WHERE status = 3), 0) AS failed,
        coalesce(sum(tasks) FILTER (WHERE status = 4), 0) AS cancelled, sum(timed) FILTER (WHERE status IN (2, 3)) AS timed,
        sum(runtime) FILTER (WHERE status IN (2, 3)) AS runtime, count(*) OVER () AS names
    FROM counted GROUP BY name HAVING sum(tasks) > 0
    ORDER BY sum(tasks) DESC, name LIMIT %(limit)s
)
SELECT {start} AT TIME ZONE 'UTC', clock_timestamp() AT TIME ZONE 'UTC', n.*
FROM (VALUES (1)) AS one (row)
LEFT JOIN (
    SELECT n.names, n.name, n.completed::bigint, n.failed::bigint, n.cancelled::bigint,
        coalesce(n.timed, 0)::bigint, coalesce(n.runtime, 0)::float8,
        coalesce(r.tasks, 0)::bigint, h.places, h.tasks
    FROM named AS n LEFT JOIN recent AS r ON r.name = n.name
    LEFT JOIN (
        SELECT name, array_agg(floor(extract(epoch FROM start - {start}) / %(width)s)::integer) AS places,
            array_agg(tasks::bigint) AS tasks
        FROM (SELECT name, start, sum(tasks) AS tasks FROM counted GROUP BY 1, 2) AS x GROUP BY name
    ) AS h ON h.name = n.name
    ORDER BY n.completed + n.failed + n.cancelled DESC, n.name
) AS n ON true;

-- name: durations_of_all
-- The buckets that hold the medians and the 95th percentiles of a day.
SELECT name, is_wait, counted::bigint, min(bucket) FILTER (WHERE reached >= 0.5 * counted),
    min(bucket) FILTER (WHERE reached >= 0.95 * counted)
FROM (
    SELECT name, is_wait, bucket, sum(sum(tasks)) OVER (PARTITION BY name, is_wait ORDER BY bucket) AS reached,
        sum(sum(tasks)) OVER (PARTITION BY name, is_wait) AS counted
    FROM oracle.duration_histogram WHERE hour >= date_bin('1 hour', now(), 'epoch') - interval '23 hours'
    GROUP BY name, is_wait, bucket
) AS x
GROUP BY name, is_wait, counted;

-- name: durations_of_owner
-- The same of the owner's newest tasks, exactly and in seconds.
SELECT name, x.is_wait, count(*), percentile_disc(0.5) WITHIN GROUP (ORDER BY x.seconds),
    percentile_disc(0.95) WITHIN GROUP (ORDER BY x.seconds)
FROM (
    SELECT coalesce(t.name, '') AS name, t.status, t.runtime,
        CASE WHEN t.retries = 0 THEN greatest(0, extract(epoch FROM t.started_at - greatest(t.created_at, t.eta))) END
            AS wait
    FROM oracle.task_state_record AS t
    WHERE {visible} AND t.created_at > now() - interval '24 hours'
    ORDER BY t.created_at DESC LIMIT %(newest)s
) AS t, LATERAL (VALUES (false, t.runtime), (true, t.wait::float8)) AS x (is_wait, seconds)
WHERE t.status IN (2, 3) AND t.runtime IS NOT NULL AND x.seconds IS NOT NULL
GROUP BY name, x.is_wait;
