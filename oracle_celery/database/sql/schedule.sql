-- What celery beat is to send, what it has sent and what it has missed. An entry is the app's, not an owner's: all of it
-- is for those who see everything.

-- name: report_beat
-- See oracle.report_beat.
SELECT oracle.report_beat(%(beat_id)s, %(origin)s, %(node)s, %(scheduler)s, %(names)s::text[], %(entries)s, %(runs)s,
    make_interval(secs => %(tolerance)s));

-- name: retire_beat
-- A beat says goodbye.
UPDATE oracle.beat SET stopped_at = clock_timestamp() WHERE beat_id = %(beat_id)s;

-- name: beats
-- The living, and those that have gone within a week, the newest first.
SELECT b.beat_id::text, b.origin, b.node, b.scheduler,
    CASE WHEN b.stopped_at IS NOT NULL THEN 'stopped'
        WHEN b.beat_at < clock_timestamp() - make_interval(secs => %(timeout)s) THEN 'silent' ELSE 'alive' END,
    oracle.instant(b.started_at), oracle.instant(b.beat_at), oracle.instant(b.stopped_at)
FROM oracle.beat AS b WHERE %(everyone)s
ORDER BY b.stopped_at IS NOT NULL, b.beat_at DESC LIMIT %(limit)s;

-- name: schedule
-- schedule_facts.ScheduleEntry as JSON, by name, and its arguments as they were told. Of each entry so many rows are read as are told, by primary keys. What
-- is due and did not run is missed as soon as its beat must have told otherwise: at its next report, or, where it has
-- fallen silent, when the tolerance is over.
SELECT json_build_object(
    'name', e.name, 'task', e.task, 'schedule', e.schedule, 'zone', e.zone, 'queue', e.queue,
    'total_runs', e.total_runs, 'beat_id', e.beat_id,
    'next_at', (SELECT oracle.instant(min(d)) FROM unnest(e.due) AS d WHERE d > clock_timestamp()),
    'due', (SELECT coalesce(json_agg(oracle.instant(d) ORDER BY d), '[]') FROM unnest(e.due) AS d
        WHERE d > clock_timestamp()),
    'last_run', newest.told[1],
    'runs', (SELECT coalesce(json_agg(r.told ORDER BY r.at), '[]') FROM unnest(newest.told, newest.at) AS r (told, at)
        WHERE r.at > clock_timestamp() - make_interval(secs => %(window)s)),
    'missed', (SELECT coalesce(json_agg(oracle.instant(due_at) ORDER BY due_at), '[]') FROM (
        SELECT due_at FROM (
            SELECT m.due_at FROM oracle.schedule_missed AS m WHERE m.name = e.name
            UNION
            SELECT d FROM unnest(e.due) AS d
            WHERE d + make_interval(secs => %(tolerance)s) < CASE
                    WHEN b.stopped_at IS NULL AND b.beat_at > clock_timestamp() - make_interval(secs => %(timeout)s)
                    THEN b.beat_at ELSE clock_timestamp() END
                AND NOT EXISTS (SELECT FROM oracle.schedule_run AS r WHERE r.name = e.name
                    AND r.ran_at BETWEEN d - interval '2 seconds' AND d + make_interval(secs => %(tolerance)s))
        ) AS either
        WHERE due_at > clock_timestamp() - make_interval(secs => %(missed_window)s)
        ORDER BY due_at DESC LIMIT %(runs)s) AS x)
)::text, CASE WHEN %(sees_payloads)s THEN e.arguments::text END
FROM oracle.schedule_entry AS e
LEFT JOIN oracle.beat AS b USING (beat_id)
CROSS JOIN LATERAL (
    SELECT array_agg(json_build_object('at', oracle.instant(r.ran_at), 'task_id', r.task_id, 'runtime', t.runtime,
        'status', oracle.status_word(t.status)) ORDER BY r.ran_at DESC) AS told,
        array_agg(r.ran_at ORDER BY r.ran_at DESC) AS at
    FROM (SELECT * FROM oracle.schedule_run AS n WHERE n.name = e.name ORDER BY n.ran_at DESC LIMIT %(runs)s) AS r
    LEFT JOIN oracle.task_state_record AS t USING (task_id)
) AS newest
WHERE %(everyone)s
ORDER BY e.name LIMIT %(limit)s;

-- name: trim_schedule
-- Forgets old runs and misses, but for the newest run of each entry that is still in the schedule: so many of each, and
-- the most that went of one.
WITH runs AS (
    DELETE FROM oracle.schedule_run WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM oracle.schedule_run AS r
        WHERE ran_at < now() - make_interval(secs => %(age)s)
            AND (EXISTS (SELECT FROM oracle.schedule_run AS n WHERE n.name = r.name AND n.ran_at > r.ran_at)
                OR NOT EXISTS (SELECT FROM oracle.schedule_entry AS e WHERE e.name = r.name))
        ORDER BY ran_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
    RETURNING 1
),
misses AS (
    DELETE FROM oracle.schedule_missed WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM oracle.schedule_missed WHERE due_at < now() - make_interval(secs => %(age)s)
        LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
    RETURNING 1
)
SELECT greatest((SELECT count(*) FROM runs), (SELECT count(*) FROM misses));

-- name: schedule_as_of
-- Now.
SELECT oracle.instant(clock_timestamp());
