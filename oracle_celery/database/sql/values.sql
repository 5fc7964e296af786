-- What a person may look for: values of tasks' fields, and how many tasks each status has within a query. {visible} is
-- the owner's predicate on row t. Nothing here reads tasks but bounded_count, and that no more than %(most)s + 1.

-- name: counted_values
-- Names or queues with their tasks of the last day and those that are not final, from the newest minutes; the most
-- frequent first. {field} is name or queue.
SELECT value, sum(tasks)::bigint AS tasks FROM (
    (SELECT t.{field} AS value, t.tasks FROM oracle.statistic_minute AS t
        WHERE t.everyone = %(everyone)s AND t.user_id = %(counted_user)s AND t.minute > now() - interval '24 hours'
            AND {visible} ORDER BY t.minute DESC LIMIT %(rows)s)
    UNION ALL
    (SELECT t.{field}, t.tasks FROM oracle.statistic_minute AS t
        WHERE t.everyone = %(everyone)s AND t.user_id = %(counted_user)s AND t.minute = 'epoch' AND {visible}
        LIMIT %(rows)s)
    UNION ALL
    (SELECT t.{field}, t.tasks::bigint FROM oracle.statistic_delta AS t
        WHERE (t.minute > now() - interval '24 hours' OR t.minute = 'epoch') AND {visible} LIMIT %(rows)s)
) AS counted
WHERE value <> ''
GROUP BY value HAVING sum(tasks) > 0
ORDER BY 2 DESC, 1 LIMIT %(limit)s;

-- name: counted_users
-- The first users whose id begins with a text, in order, each found by one step through the key, and not one more; their
-- tasks of the last day, or null where that would read too many minutes. {before} is true, or that t comes before what
-- begins otherwise.
WITH RECURSIVE found (user_id, number) AS (
    (SELECT t.user_id, 1 FROM oracle.statistic_minute AS t
        WHERE NOT t.everyone AND t.user_id >= %(part)s AND t.user_id > '' AND {before} AND {visible}
        ORDER BY t.user_id LIMIT 1)
    UNION ALL
    SELECT (SELECT t.user_id FROM oracle.statistic_minute AS t
        WHERE NOT t.everyone AND t.user_id > found.user_id AND {before} AND {visible} ORDER BY t.user_id LIMIT 1),
        found.number + 1
    FROM found WHERE found.user_id IS NOT NULL AND found.number < %(limit)s
)
SELECT f.user_id, (SELECT CASE WHEN count(*) <= %(rows)s THEN sum(m.tasks)::bigint END FROM (
    (SELECT m.tasks FROM oracle.statistic_minute AS m
        WHERE NOT m.everyone AND m.user_id = f.user_id AND m.minute > now() - interval '24 hours' LIMIT %(rows)s + 1)
    UNION ALL
    (SELECT m.tasks FROM oracle.statistic_minute AS m
        WHERE NOT m.everyone AND m.user_id = f.user_id AND m.minute = 'epoch' LIMIT %(rows)s)
) AS m)
FROM found AS f WHERE f.user_id IS NOT NULL ORDER BY 1;

-- name: counted_workers
-- Nodes with what they run now, for those who may see it; the living first.
SELECT w.node, CASE WHEN %(everyone)s THEN sum(w.active) FILTER (WHERE w.stopped_at IS NULL AND w.lost_at IS NULL) END
FROM (SELECT * FROM oracle.worker ORDER BY started_at DESC LIMIT %(rows)s) AS w
WHERE position(%(part)s IN w.node) > 0
GROUP BY w.node ORDER BY bool_or(w.stopped_at IS NULL AND w.lost_at IS NULL) DESC, w.node LIMIT %(limit)s;

-- name: counted_gauges
-- How many tasks are pending and in progress, from the gauges; {where} asks of t.name and t.queue only, which a task
-- without them has not got: '' in the statistics.
SELECT t.status, sum(t.tasks)::bigint FROM (
    SELECT t.status, t.tasks, nullif(t.name, '') AS name, nullif(t.queue, '') AS queue FROM oracle.statistic_minute AS t
    WHERE t.everyone = %(everyone)s AND t.user_id = %(counted_user)s AND t.minute = 'epoch' AND {visible}
    UNION ALL
    SELECT t.status, t.tasks, nullif(t.name, ''), nullif(t.queue, '') FROM oracle.statistic_delta AS t
    WHERE t.minute = 'epoch' AND {visible}
) AS t WHERE {where} GROUP BY t.status;

-- name: bounded_count
-- How many tasks of one status match, at most one more than said.
SELECT count(*) FROM (
    SELECT FROM oracle.task_state_record AS t WHERE t.status = {status} AND {visible} AND {where} LIMIT %(most)s + 1
) AS found;
