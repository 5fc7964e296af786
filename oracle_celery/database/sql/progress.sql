-- How far running tasks say that they are. The table holds as many rows as tasks run, and a minute of those that have
-- ended: it is read as a whole.

-- name: progress_news
-- What a cursor has not seen, in order of txid, of tasks that have not ended; a task whose start is still on its way is
-- one of them.
{snapshot}
SELECT s.*, n.*
FROM snapshot AS s
LEFT JOIN (
    SELECT p.txid::text::bigint AS txid, t.user_id, p.task_id, p.run_id, p.state, p.meta::text,
        p.at AT TIME ZONE 'UTC' AS at
    FROM oracle.task_progress AS p JOIN oracle.task_state_record AS t USING (task_id)
    WHERE (p.txid >= %(xmax)s::text::xid8 OR p.txid = ANY (%(xip)s::text[]::xid8[]))
        AND (t.status = 0 OR t.status = 1 AND t.run_id = p.run_id)
    ORDER BY p.txid FETCH FIRST %(limit)s ROWS WITH TIES
) AS n ON true
ORDER BY n.txid;

-- name: progress_cursor
-- The cursor of now.
{snapshot}
SELECT s.*, (SELECT max(txid)::text::bigint FROM oracle.task_progress) FROM snapshot AS s;

-- name: progress
-- Of the tasks that run now, the newest word first.
SELECT p.task_id, p.run_id, p.state, p.meta::text, p.at AT TIME ZONE 'UTC'
FROM oracle.task_progress AS p JOIN oracle.task_state_record AS t ON t.task_id = p.task_id AND t.run_id = p.run_id
WHERE t.status = 1 AND %(sees_payloads)s AND {visible}
ORDER BY p.at DESC LIMIT %(limit)s;
