-- What running tasks have logged and how far they say that they are, as it is read. {snapshot} and {visible} are as in
-- queries.sql. Lines are in the order (txid, line_id), which one index has: that of their arrival, near enough that of
-- their making, and within a run the same, because one recorder sends a run's lines one batch after the other.

-- name: log_page
-- Lines of one task, and the cursor of their snapshot: what it has not seen comes over a stream. Exactly one row for a
-- task without lines, with nulls; none where the viewer may not see the task. {position} says from where, {order} which
-- way.
{snapshot}
SELECT s.*, last.txid::text::bigint,
    (SELECT oracle.instant(f.logs_until) FROM oracle.history_floor AS f WHERE t.created_at < f.logs_until), l.line_id, l.at AT TIME ZONE 'UTC', l.level, l.logger, l.message, l.run_id, l.number,
    l.span_id
FROM snapshot AS s CROSS JOIN oracle.task_state_record AS t
LEFT JOIN LATERAL (
    SELECT max(g.txid) AS txid FROM oracle.task_log AS g
    WHERE g.task_id = t.task_id AND g.stored_at >= %(since)s::timestamptz
) AS last ON true
LEFT JOIN LATERAL (
    SELECT g.* FROM oracle.task_log AS g
    WHERE g.task_id = t.task_id AND g.stored_at >= %(since)s::timestamptz
        AND %(sees_payloads)s AND {position} AND {where}
    ORDER BY {order} LIMIT %(limit)s
) AS l ON true
WHERE t.task_id = %(task_id)s AND {visible}
ORDER BY l.txid, l.line_id;

-- name: log_after
-- From a line on; from the beginning where it is none of this task's.
(g.txid, g.line_id) > (
    coalesce((SELECT txid FROM oracle.task_log
        WHERE task_id = %(task_id)s AND line_id = %(line_id)s AND stored_at >= %(since)s::timestamptz), '0'),
    %(line_id)s)

-- name: log_before
-- Up to a line; up to the end where it is none of this task's.
(g.txid, g.line_id) < (
    coalesce((SELECT txid FROM oracle.task_log
        WHERE task_id = %(task_id)s AND line_id = %(line_id)s AND stored_at >= %(since)s::timestamptz),
        '18446744073709551615'),
    %(line_id)s)

-- name: log_runs
-- The runs of a task that have begun, in their order: which attempt each is, the lines that are there of each, and how many
-- are not: a run gives every line a number, kept or not.
SELECT r.run_id, r.attempt, coalesce(l.lines, 0), coalesce(l.numbers - l.lines, 0),
    coalesce(l.reasons, '{{}}'::text[]), r.trace_id, r.span_id
FROM oracle.task_state_record AS t
CROSS JOIN LATERAL (
    SELECT h.run_id, max(h.retries) + 1 AS attempt, min(h.run_at) AS run_at,
        max(h.trace_id) AS trace_id, max(h.span_id) AS span_id
    FROM oracle.task_transition AS h
    WHERE h.task_id = t.task_id AND h.stored_at >= %(since)s::timestamptz
        AND (h.is_listed AND h.txid = ANY (t.txids) OR h.is_listed IS NULL)
        AND h.run_id IS NOT NULL AND h.rank >= 20
    GROUP BY h.run_id
) AS r
LEFT JOIN (
    SELECT g.run_id, count(g.message) AS lines, max(g.number) + 1 AS numbers,
        array_agg(DISTINCT g.logger) FILTER (WHERE g.message IS NULL) AS reasons
    FROM (
        SELECT run_id, number, message, logger FROM oracle.task_log
        WHERE task_id = %(task_id)s AND stored_at >= %(since)s::timestamptz AND %(sees_payloads)s LIMIT %(limit)s
    ) AS g
    GROUP BY g.run_id
) AS l ON l.run_id = r.run_id
WHERE t.task_id = %(task_id)s AND {visible}
ORDER BY r.run_at, r.run_id;

-- name: log_news
-- For each of those who follow a task, what their cursor has not seen: whole transactions in order of txid. One
-- statement for all of them. The owner is asked for every time, because whose a task is may become known late.
{snapshot}
SELECT s.*, n.*
FROM snapshot AS s
LEFT JOIN (
    SELECT w.follower, l.txid::text::bigint, l.line_id, l.at AT TIME ZONE 'UTC', l.level, l.logger, l.message, l.run_id,
        l.number, l.span_id
    FROM unnest(%(followers)s::integer[], %(task_ids)s::text[], %(owners)s::text[], %(see_payloads)s::boolean[],
            %(xmaxs)s::text[], %(xips)s::text[]) AS w (follower, task_id, owner, sees_payloads, xmax, xip)
    JOIN oracle.task_state_record AS t
        ON t.task_id = w.task_id AND (w.owner IS NULL OR t.user_id = w.owner) AND w.sees_payloads
    CROSS JOIN LATERAL (
        SELECT * FROM (
            SELECT g.* FROM oracle.task_log AS g
            WHERE g.task_id = w.task_id AND g.txid = ANY (string_to_array(w.xip, ',')::xid8[])
                AND g.stored_at >= %(since)s::timestamptz
            UNION ALL
            SELECT * FROM (
                SELECT g.* FROM oracle.task_log AS g
                WHERE g.task_id = w.task_id AND g.txid >= w.xmax::xid8 AND g.stored_at >= %(since)s::timestamptz
                ORDER BY g.txid FETCH FIRST %(limit)s ROWS WITH TIES
            ) AS later
        ) AS unseen
        ORDER BY txid FETCH FIRST %(limit)s ROWS WITH TIES
    ) AS l
) AS n ON true
ORDER BY n.follower, n.txid, n.line_id;
