-- What is read. {visible} is the owner's predicate, {where} the filters, {after} the page, {order} the sort: built in
-- queries.py from constants; every value is a parameter. A statement is one snapshot: the cursor that comes with rows
-- has seen exactly them. What a task was given and what it returned, failed with and logged are its payloads.

-- name: snapshot
-- The parts of a cursor's snapshot, as a CTE that other statements begin with.
WITH snapshot AS MATERIALIZED (
    SELECT c.system_identifier # ((d.oid::bigint << 31) | d.oid::bigint) AS system_id,
        CASE WHEN pg_is_in_recovery() THEN (SELECT timeline_id FROM pg_control_checkpoint())
            ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint END AS timeline,
        pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS xmin,
        pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS xmax,
        ARRAY(SELECT x::text::bigint FROM pg_snapshot_xip(pg_current_snapshot()) AS x) AS xip,
        (SELECT txid::text::bigint FROM oracle.history_floor) AS floor,
        pg_is_in_recovery() AS is_standby
    FROM pg_control_system() AS c, pg_database AS d WHERE d.datname = current_database()
)

-- name: latest_transaction
-- The last one of the history; a mark (see horizon.py) says where to look.
greatest(%(marked)s::bigint, (
        SELECT max(txid)::text::bigint FROM oracle.task_transition WHERE stored_at >= %(marked_at)s::timestamptz))

-- name: task_columns
-- Facts.Task, in its order, with the version last. A moment that a sender chose may be of a year that Python has not got:
-- what was stored before message.seconds_since_epoch had its bounds is told within them.
t.task_id, t.name, t.status, t.reason, t.user_id, t.queue, t.worker, t.retries,
t.created_at AT TIME ZONE 'UTC', coalesce(t.received_at, CASE WHEN t.run_id IS NOT NULL THEN t.run_at END) AT TIME ZONE 'UTC', t.started_at AT TIME ZONE 'UTC',
t.finished_at AT TIME ZONE 'UTC', t.runtime,
CASE WHEN t.eta IS NOT NULL THEN greatest('0001-01-02T00:00:00Z', least('9999-12-31T00:00:00Z', t.eta)) END AT TIME ZONE 'UTC',
CASE WHEN t.expires IS NOT NULL THEN greatest('0001-01-02T00:00:00Z', least('9999-12-31T00:00:00Z', t.expires)) END AT TIME ZONE 'UTC',
t.trace_id, nullif(substr(t.trace_word, 27, 16), '----------------'),
CASE substr(t.trace_word, 26, 1) WHEN '1' THEN true WHEN '0' THEN false END,
nullif(split_part(t.trace_word, chr(31), 2), ''), t.correlation_id,
t.root_id, t.parent_id, t.group_id, t.error_type, t.run_at AT TIME ZONE 'UTC', t.rank

-- name: start_cursor
-- The cursor of now.
{snapshot}
SELECT s.*, {latest} FROM snapshot AS s;

-- name: summaries
-- The same of many owners at once, a row for each, in their order.
WITH counted AS (
    SELECT t.user_id, t.minute, t.status, t.tasks, t.timed, t.runtime FROM oracle.statistic_minute AS t
    WHERE NOT t.everyone AND {visible} AND t.minute >= now() - interval '24 hours'
    UNION ALL
    SELECT t.user_id, t.minute, t.status, t.tasks, t.timed, t.runtime FROM oracle.statistic_minute AS t
    WHERE NOT t.everyone AND {visible} AND t.minute = 'epoch'
    UNION ALL
    SELECT t.user_id, t.minute, t.status, t.tasks, t.timed, t.runtime FROM oracle.statistic_delta AS t
    WHERE {visible} AND (t.minute > now() - interval '24 hours' OR t.minute = 'epoch')
),
summed AS (
    SELECT user_id,
        sum(tasks) FILTER (WHERE status = 0) AS queued,
        sum(tasks) FILTER (WHERE status = 1) AS active,
        sum(tasks) FILTER (WHERE status = 2) AS completed,
        sum(tasks) FILTER (WHERE status = 3) AS failed,
        sum(timed) FILTER (WHERE status IN (2, 3)) AS timed,
        sum(runtime) FILTER (WHERE status IN (2, 3)) AS runtime,
        sum(tasks) FILTER (WHERE status = 2 AND minute >= date_bin('1 minute', now(), 'epoch')) AS completed_minute,
        sum(tasks) FILTER (WHERE status = 3 AND minute >= date_bin('1 minute', now(), 'epoch')) AS failed_minute
    FROM counted GROUP BY user_id
)
SELECT coalesce(s.queued, 0)::bigint, coalesce(s.active, 0)::bigint, coalesce(s.completed, 0)::bigint,
    coalesce(s.failed, 0)::bigint, coalesce(s.timed, 0)::bigint, coalesce(s.runtime, 0)::double precision,
    coalesce(s.completed_minute, 0)::bigint, coalesce(s.failed_minute, 0)::bigint, w.workers,
    NULL::bigint AS slots, 0::bigint AS dropped, 0::bigint AS quarantined,
    clock_timestamp() AT TIME ZONE 'UTC' AS as_of
FROM unnest(%(owners)s::text[]) WITH ORDINALITY AS o (user_id, number)
LEFT JOIN summed AS s ON s.user_id = o.user_id COLLATE "C"
CROSS JOIN (SELECT count(*) AS workers FROM oracle.worker WHERE stopped_at IS NULL AND lost_at IS NULL) AS w
ORDER BY o.number;

-- name: earlier_cursor
-- The transaction of the transition that so many others came after, or null where there are not so many. By the column,
-- which an index has in order: a bare txid would be the number that is told, and all of the history would be sorted.
{snapshot}
SELECT s.*, (SELECT h.txid::text::bigint FROM oracle.task_transition AS h
    ORDER BY h.txid DESC OFFSET %(transitions)s LIMIT 1)
FROM snapshot AS s;

-- name: changes
-- What a cursor has not seen, whole transactions in order of txid. One row with nulls where there is nothing, and nulls
-- in the place of a task that is deleted by now or not {visible}.
{snapshot}
SELECT s.*, n.txid::text::bigint, n.history_id, n.status, n.reason, n.at AT TIME ZONE 'UTC', {task}
FROM snapshot AS s
LEFT JOIN (
    SELECT * FROM (
        SELECT txid, history_id, task_id, status, reason, at FROM oracle.task_transition
        WHERE txid = ANY (%(xip)s::text[]::xid8[]) AND stored_at >= %(since)s::timestamptz
        UNION ALL
        SELECT * FROM (
            SELECT txid, history_id, task_id, status, reason, at FROM oracle.task_transition
            WHERE txid >= %(xmax)s::text::xid8 AND stored_at >= %(since)s::timestamptz
            ORDER BY txid FETCH FIRST %(limit)s ROWS WITH TIES
        ) AS later
    ) AS unseen
    ORDER BY txid FETCH FIRST %(limit)s ROWS WITH TIES
) AS n ON true
-- each by its key, however few tasks there are: reading them all for a few hundred costs more than it is said to
LEFT JOIN LATERAL (
    SELECT t.* FROM oracle.task_state_record AS t WHERE t.task_id = n.task_id AND {visible} LIMIT 1
) AS t ON true
ORDER BY n.txid, n.history_id;

-- name: list_tasks
-- One page, and the cursor of its snapshot. {source} is the table, or those of its newest rows that match. One row with nulls where there is nothing.
{snapshot}
SELECT s.*, {latest}, page.*
FROM snapshot AS s
LEFT JOIN (
    SELECT {task}, {key}::text AS key FROM {source}
    WHERE {visible} AND {where} AND {after}
    ORDER BY {order} LIMIT %(limit)s
) AS page ON true;

-- name: sorted_tasks
-- Of the newest that are {found}, those of one page by an order that no index has.
(
    SELECT t.task_id FROM (
        SELECT * FROM oracle.task_state_record AS t WHERE {found} ORDER BY t.created_at DESC LIMIT {sorted_tasks}
    ) AS t WHERE {after} ORDER BY {order} LIMIT %(limit)s
) AS chosen JOIN oracle.task_state_record AS t USING (task_id)

-- name: told_since
-- Nothing of the task was stored before; asked for by itself, so that what reads its history or its log is planned for
-- the partitions since then alone: of those of a month, planning costs more than all else.
SELECT t.created_at - interval '1 day' FROM oracle.task_state_record AS t WHERE t.task_id = %(task_id)s AND {visible};

-- name: task
-- One task, and the cursor of its snapshot.
{snapshot}
SELECT s.*, {latest},
    {task}, CASE WHEN %(sees_payloads)s THEN t.arguments::text END,
    CASE WHEN %(sees_payloads)s THEN t.result_payload::text END, CASE WHEN %(sees_payloads)s THEN t.error_message END,
    CASE WHEN %(sees_payloads)s THEN t.traceback END, t.origin,
    (SELECT oracle.instant(f.history_until) FROM oracle.history_floor AS f WHERE t.created_at < f.history_until),
    ARRAY(
        SELECT json_build_array(h.history_id, h.status, h.reason,
            to_char(h.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), h.retries, h.run_id, h.worker, h.origin,
            extract(epoch FROM lead(h.at) OVER told - h.at), h.error_type,
            CASE WHEN %(sees_payloads)s THEN h.error_message END, h.trace_id, h.span_id)::text
        FROM (
            SELECT DISTINCT ON (retries, run_at, rank, status, reason) *
            FROM oracle.task_transition
            WHERE task_id = t.task_id AND stored_at >= %(since)s::timestamptz
                AND (is_listed AND txid = ANY (t.txids) OR is_listed IS NULL)
            ORDER BY retries, run_at, rank, status, reason, at, history_id
        ) AS h
        WINDOW told AS (ORDER BY h.at, h.history_id)
        ORDER BY h.at, h.history_id LIMIT %(limit)s
    )
FROM snapshot AS s, oracle.task_state_record AS t
WHERE t.task_id = %(task_id)s AND {visible};

-- name: summary
-- The header's numbers from folded minutes and what is not folded yet; tasks are not touched.
WITH counted AS (
    {source}
    UNION ALL
    SELECT t.minute, t.status, t.tasks, t.timed, t.runtime FROM oracle.statistic_minute AS t
    WHERE t.everyone = %(everyone)s AND t.user_id = %(scope)s AND {visible} AND t.minute = 'epoch'
    UNION ALL
    SELECT t.minute, t.status, t.tasks, t.timed, t.runtime FROM oracle.statistic_delta AS t
    WHERE {visible} AND (t.minute > now() - interval '24 hours' OR t.minute = 'epoch')
)
SELECT coalesce(sum(tasks) FILTER (WHERE status = 0), 0)::bigint AS queued,
    coalesce(sum(tasks) FILTER (WHERE status = 1), 0)::bigint AS active,
    coalesce(sum(tasks) FILTER (WHERE status = 2), 0)::bigint AS completed,
    coalesce(sum(tasks) FILTER (WHERE status = 3), 0)::bigint AS failed,
    coalesce(sum(timed) FILTER (WHERE status IN (2, 3)), 0)::bigint AS timed,
    coalesce(sum(runtime) FILTER (WHERE status IN (2, 3)), 0) AS runtime,
    coalesce(sum(tasks) FILTER (WHERE status = 2 AND minute >= date_bin('1 minute', now(), 'epoch')), 0)::bigint
        AS completed_minute,
    coalesce(sum(tasks) FILTER (WHERE status = 3 AND minute >= date_bin('1 minute', now(), 'epoch')), 0)::bigint
        AS failed_minute,
    (SELECT count(*) FROM oracle.worker WHERE stopped_at IS NULL AND lost_at IS NULL) AS workers,
    (SELECT sum(concurrency)::bigint FROM oracle.worker
        WHERE %(everyone)s AND stopped_at IS NULL AND lost_at IS NULL) AS slots,
    (SELECT coalesce(sum((counts ->> 'dropped')::bigint), 0)::bigint FROM oracle.worker
        WHERE %(everyone)s AND stopped_at IS NULL AND lost_at IS NULL) AS dropped,
    (SELECT coalesce(sum((counts ->> 'quarantined')::bigint), 0)::bigint FROM oracle.worker
        WHERE %(everyone)s AND stopped_at IS NULL AND lost_at IS NULL) AS quarantined,
    clock_timestamp() AT TIME ZONE 'UTC' AS as_of
FROM counted;
