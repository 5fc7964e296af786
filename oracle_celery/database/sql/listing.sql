-- What `is:` asks of row t of oracle.task_state_record; see query_fields.py. Nothing is computed per task that other
-- tasks would have to be read for: "usual" is the mean runtime of what completed within a day, by name, from the folded
-- half-hours of the tasks that the asking one may see.

-- name: is_stuck
-- Under way for a minute and ten times the usual (an hour where nothing usual is known); or held, unstarted, by a worker
-- that is gone; or waiting for a minute, not for a later moment, in a queue that no living worker is to consume.
t.status = 1 AND now() - t.started_at > greatest(interval '1 minute', make_interval(secs => 10 * coalesce(
    ((SELECT jsonb_object_agg(m.name, m.mean) FROM (
        SELECT name, sum(runtime) / sum(timed) AS mean FROM oracle.statistic_half_hour
        WHERE everyone = %(asks_for_everyone)s AND user_id = %(asking)s AND start > now() - interval '24 hours'
            AND status = 2 GROUP BY name HAVING sum(timed) > 0) AS m) ->> t.name)::float8, 360)))
OR t.status = 0 AND t.rank = 10 AND t.worker_id IN (
    SELECT w.worker_id FROM oracle.worker AS w WHERE w.stopped_at IS NOT NULL OR w.lost_at IS NOT NULL)
OR t.status = 0 AND t.rank = 0 AND now() - greatest(t.changed_at, t.eta) > interval '1 minute' AND t.queue NOT IN (
    SELECT unnest(w.queues) FROM oracle.worker AS w WHERE w.stopped_at IS NULL AND w.lost_at IS NULL)

-- name: is_slow
-- Over three times the usual, and a second longer: so far, where it still runs.
t.status IN (1, 2, 3) AND coalesce(t.runtime, CASE WHEN t.status = 1 THEN extract(epoch FROM now() - t.started_at) END)
    > ((SELECT jsonb_object_agg(m.name, greatest(3 * m.mean, m.mean + 1)) FROM (
        SELECT name, sum(runtime) / sum(timed) AS mean FROM oracle.statistic_half_hour
        WHERE everyone = %(asks_for_everyone)s AND user_id = %(asking)s AND start > now() - interval '24 hours'
            AND status = 2 GROUP BY name HAVING sum(timed) > 0) AS m) ->> t.name)::float8
