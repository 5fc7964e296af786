-- What metrics tell of everybody's tasks. Nothing here reads tasks: sums, counters and workers, each statement's cost is
-- bounded by how many names, queues and workers there are. Label '' stands for all that have none of their own.

-- name: metric_standing
-- Tasks that wait and that run: of all, and of the names and queues that have most.
WITH counted AS MATERIALIZED (
    SELECT name, queue, status, sum(tasks) AS tasks FROM (
        SELECT t.name, t.queue, t.status, t.tasks FROM oracle.statistic_minute AS t
        WHERE t.everyone AND t.user_id = '' AND t.minute = 'epoch' AND t.status < 2
        UNION ALL
        SELECT t.name, t.queue, t.status, t.tasks FROM oracle.statistic_delta AS t
        WHERE t.minute = 'epoch' AND t.status < 2
    ) AS x
    GROUP BY name, queue, status HAVING sum(tasks) <> 0
),
labelled AS MATERIALIZED (
    SELECT l.kind, l.label, c.status, sum(c.tasks) AS tasks
    FROM counted AS c, LATERAL (VALUES ('name' COLLATE "C", c.name), ('queue', c.queue)) AS l (kind, label)
    GROUP BY l.kind, l.label, c.status
),
chosen AS (
    SELECT kind, label FROM (
        SELECT kind, label, row_number() OVER (PARTITION BY kind ORDER BY sum(tasks) DESC, label) AS place
        FROM labelled WHERE label NOT IN ('', %(others)s) AND length(label) <= %(length)s GROUP BY kind, label
    ) AS x
    WHERE place <= %(labels)s
)
SELECT l.kind, coalesce(c.label, ''), l.status, greatest(sum(l.tasks), 0)::bigint
FROM labelled AS l LEFT JOIN chosen AS c ON (c.kind, c.label) = (l.kind, l.label)
GROUP BY l.kind, coalesce(c.label, ''), l.status
UNION ALL
SELECT 'all', '', status, greatest(sum(tasks), 0)::bigint FROM counted GROUP BY status
ORDER BY 1, 2, 3;

-- name: metric_finished
-- Counters, each with the moment it began at zero. Two who lead at once may have let in more labels than they should.
SELECT l.kind, l.label, m.status, m.tasks, extract(epoch FROM l.since)::float8
FROM (
    SELECT kind, label, since, row_number() OVER (PARTITION BY kind ORDER BY label <> '', since, label) AS place
    FROM oracle.metric_label
) AS l JOIN oracle.metric_finished AS m ON (m.kind, m.label) = (l.kind, l.label)
WHERE l.place <= %(labels)s + 1
ORDER BY l.kind, l.label, m.status;

-- name: metric_durations
-- Histograms, by octave.
SELECT m.is_wait, m.label, m.octave, m.tasks, m.seconds, extract(epoch FROM l.since)::float8
FROM (
    SELECT label, since, row_number() OVER (ORDER BY label <> '', since, label) AS place
    FROM oracle.metric_label WHERE kind = 'name'
) AS l JOIN oracle.metric_duration AS m ON m.label = l.label
WHERE l.place <= %(labels)s + 1
ORDER BY m.is_wait, m.label, m.octave;

-- name: metric_workers
-- Workers by state, those that have gone within a day and were not replaced among them, and what the recorders of the
-- living have told with their last beat.
WITH known AS MATERIALIZED (
    SELECT {state} AS state, w.stopped_at IS NULL AND w.lost_at IS NULL AS is_living,
        CASE w.pool WHEN 'solo' THEN 1 ELSE w.concurrency END AS slots, w.counts
    FROM oracle.worker AS w
    WHERE w.stopped_at IS NULL AND w.lost_at IS NULL
        OR coalesce(w.stopped_at, w.lost_at) > clock_timestamp() - make_interval(secs => %(gone)s)
            AND NOT EXISTS (SELECT FROM oracle.worker AS n WHERE n.node = w.node AND n.started_at > w.started_at)
)
SELECT count(*) FILTER (WHERE state = 'alive'), count(*) FILTER (WHERE state = 'silent'),
    count(*) FILTER (WHERE state = 'lost'), count(*) FILTER (WHERE state = 'stopped'),
    coalesce(sum(slots) FILTER (WHERE is_living), 0)::bigint,
    coalesce(sum((counts ->> 'dropped')::bigint) FILTER (WHERE is_living), 0)::bigint,
    coalesce(sum((counts ->> 'quarantined')::bigint) FILTER (WHERE is_living), 0)::bigint,
    coalesce(sum((counts ->> 'torn')::bigint) FILTER (WHERE is_living), 0)::bigint,
    coalesce(sum((counts ->> 'unconfirmed')::bigint) FILTER (WHERE is_living), 0)::bigint,
    (sum((counts ->> 'journal_bytes')::bigint) FILTER (WHERE is_living))::bigint,
    max((counts ->> 'journal_bytes')::bigint) FILTER (WHERE is_living),
    max((counts ->> 'lag')::float8) FILTER (WHERE is_living),
    (sum((counts ->> 'recent_batches')::bigint) FILTER (WHERE is_living))::bigint,
    (sum((counts ->> 'recent_bytes')::bigint) FILTER (WHERE is_living))::bigint,
    (sum((counts ->> 'recent_records')::bigint) FILTER (WHERE is_living))::bigint
FROM known;
