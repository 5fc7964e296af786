-- Failures in groups: how the leader folds them from the history, and how they are read.

-- name: fold_alone
-- Two that fold at once take turns. Not by a row's lock, which would write every second.
SELECT pg_advisory_xact_lock(%(key)s);

-- name: failure_cursor
-- How far the history is folded.
SELECT cursor FROM oracle.failure_cursor;

-- name: move_failure_cursor
-- In the transaction that folds.
UPDATE oracle.failure_cursor SET cursor = %(cursor)s;

-- name: unfolded_failures
-- Of the next transactions of the history, whole and in order of txid: the last one, how many facts they are, and those
-- that are failures; one row with nulls where none is. A message's beginning is enough.
{snapshot},
unseen AS MATERIALIZED (
    SELECT * FROM (
        SELECT txid, at, run_at, retries, status, rank, task_id, reason, error_type, error_message
        FROM oracle.task_transition
        WHERE txid = ANY (%(xip)s::text[]::xid8[]) AND stored_at >= %(since)s::timestamptz
        UNION ALL
        SELECT * FROM (
            SELECT txid, at, run_at, retries, status, rank, task_id, reason, error_type, error_message
            FROM oracle.task_transition
            WHERE txid >= %(xmax)s::text::xid8 AND stored_at >= %(since)s::timestamptz
            ORDER BY txid FETCH FIRST %(limit)s ROWS WITH TIES
        ) AS later
    ) AS either
    ORDER BY txid FETCH FIRST %(limit)s ROWS WITH TIES
)
SELECT s.*, (SELECT txid::text::bigint FROM unseen ORDER BY txid DESC LIMIT 1), (SELECT count(*) FROM unseen),
    f.task_id, f.retries, f.run_at, f.rank, f.at, coalesce(t.user_id, ''), t.name, coalesce(f.error_type, f.reason),
    left(f.error_message, %(message_limit)s)
FROM snapshot AS s LEFT JOIN unseen AS f ON f.status = 3 LEFT JOIN oracle.task_state_record AS t USING (task_id);

-- name: keep_groups
-- What is said of groups that are new.
INSERT INTO oracle.failure_group (fingerprint, name, error_type, message)
SELECT DISTINCT ON (fingerprint) fingerprint, name, error_type, message
FROM unnest(%(fingerprints)s::text[], %(names)s::text[], %(types)s::text[], %(messages)s::text[])
    AS x (fingerprint, name, error_type, message)
ORDER BY fingerprint
ON CONFLICT (fingerprint) DO NOTHING;

-- name: keep_failures
-- Failures that are not in yet, and those that are told by a higher rank now: these leave their old place. The same
-- failure given again changes nothing.
WITH told AS MATERIALIZED (
    SELECT DISTINCT ON (task_id, retries, run_at) *
    FROM unnest(%(tasks)s::text[], %(retries)s::integer[], %(runs)s::timestamptz[], %(ranks)s::smallint[],
        %(ats)s::timestamptz[], %(users)s::text[], %(fingerprints)s::text[])
        AS x (task_id, retries, run_at, rank, at, user_id, fingerprint)
    ORDER BY task_id, retries, run_at, rank DESC, at
),
news AS MATERIALIZED (
    SELECT t.*, k.at AS was_at, k.user_id AS was_user, k.fingerprint AS was_fingerprint
    FROM told AS t LEFT JOIN oracle.task_failure AS k USING (task_id, retries, run_at)
    WHERE k.task_id IS NULL OR k.rank < t.rank
),
kept AS (
    INSERT INTO oracle.task_failure AS k (at, run_at, retries, rank, fingerprint, task_id, user_id)
    SELECT at, run_at, retries, rank, fingerprint, task_id, user_id FROM news
    ON CONFLICT (task_id, retries, run_at) DO UPDATE
    SET at = excluded.at, rank = excluded.rank, fingerprint = excluded.fingerprint, user_id = excluded.user_id
),
counted AS (
    INSERT INTO oracle.failure_count AS c (slot, failures, everyone, user_id, fingerprint)
    SELECT slot, sum(sign), grouping(user_id) = 1, coalesce(user_id, ''), fingerprint
    FROM (
        SELECT 1 AS sign, date_bin(%(slot)s, at, 'epoch') AS slot, user_id, fingerprint FROM news
        UNION ALL
        SELECT -1, date_bin(%(slot)s, was_at, 'epoch'), was_user, was_fingerprint FROM news
        WHERE was_fingerprint IS NOT NULL
    ) AS x
    GROUP BY slot, fingerprint, GROUPING SETS ((user_id), ())
    HAVING sum(sign) <> 0 AND (grouping(user_id) = 1 OR user_id <> '')
    ORDER BY 3, 4, 5, 1
    ON CONFLICT (everyone, user_id, fingerprint, slot) DO UPDATE SET failures = c.failures + excluded.failures
),
seen AS (
    SELECT n.at, n.task_id, n.fingerprint, s.everyone, s.user_id,
        n.at - coalesce(lag(n.at) OVER (PARTITION BY s.everyone, s.user_id, n.fingerprint ORDER BY n.at), p.last_at)
            AS silence
    FROM news AS n
    CROSS JOIN LATERAL (VALUES (true, ''), (false, n.user_id)) AS s (everyone, user_id)
    LEFT JOIN oracle.failure_span AS p
        ON p.everyone = s.everyone AND p.user_id = s.user_id AND p.fingerprint = n.fingerprint
    WHERE s.everyone OR s.user_id <> ''
)
INSERT INTO oracle.failure_span AS p (first_at, last_at, back_at, everyone, user_id, fingerprint, last_id)
SELECT min(at), max(at), max(at) FILTER (WHERE silence >= %(silence)s), everyone, user_id, fingerprint,
    (array_agg(task_id ORDER BY at DESC))[1]
FROM seen GROUP BY everyone, user_id, fingerprint
ORDER BY 4, 5, 6
ON CONFLICT (everyone, user_id, fingerprint) DO UPDATE
SET first_at = least(p.first_at, excluded.first_at), last_at = greatest(p.last_at, excluded.last_at),
    back_at = greatest(p.back_at, excluded.back_at),
    last_id = CASE WHEN excluded.last_at >= p.last_at THEN excluded.last_id ELSE p.last_id END;

-- name: trim_failure_counts
-- Counts of slots that nobody looks at any more, so many at once; how many.
WITH gone AS (
    DELETE FROM oracle.failure_count WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM oracle.failure_count WHERE slot < now() - make_interval(secs => %(age)s)
        ORDER BY slot LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: trim_failures
-- Failures that are too old, so many at once; how many.
WITH gone AS (
    DELETE FROM oracle.task_failure WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM oracle.task_failure WHERE at < now() - make_interval(secs => %(age)s)
        ORDER BY at LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
    RETURNING 1
)
SELECT count(*) FROM gone;

-- name: trim_failure_groups
-- Groups that have not been seen for as long, so many spans at once: seen again they are new. How many. Few rows and no
-- index: that would have to be changed with every failure.
WITH gone AS (
    DELETE FROM oracle.failure_span WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM oracle.failure_span WHERE last_at < now() - make_interval(secs => %(age)s)
        LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
    RETURNING everyone, fingerprint
),
groups AS (
    DELETE FROM oracle.failure_group AS g USING gone WHERE gone.everyone AND g.fingerprint = gone.fingerprint
)
SELECT count(*) FROM gone;

-- name: failure_groups
-- Groups that {visible} and the sums over all of them, from counts and spans alone; one row with nulls where there are
-- none. A range begins with the slot that its beginning falls into. user_id: as in the counts, '' for everyone.
WITH moment AS MATERIALIZED (SELECT now() AS at),
edge AS MATERIALIZED (
    SELECT date_bin(%(slot)s, at - interval '1 hour', 'epoch') AS in_1h,
        date_bin(%(slot)s, at - interval '3 hours', 'epoch') AS in_3h,
        date_bin(%(slot)s, at - interval '24 hours', 'epoch') AS in_24h,
        date_bin(%(slot)s, at - interval '3 days', 'epoch') AS in_3d,
        date_bin(%(slot)s, at - interval '7 days', 'epoch') AS in_7d
    FROM moment
),
counted AS MATERIALIZED (
    SELECT t.fingerprint, sum(t.failures) FILTER (WHERE t.slot >= in_1h) AS in_1h,
        sum(t.failures) FILTER (WHERE t.slot >= in_3h) AS in_3h,
        sum(t.failures) FILTER (WHERE t.slot >= in_24h) AS in_24h,
        sum(t.failures) FILTER (WHERE t.slot >= in_3d) AS in_3d, sum(t.failures) AS in_7d
    FROM oracle.failure_count AS t, edge
    WHERE t.everyone = %(everyone)s AND t.user_id = %(user_id)s AND {visible} AND {group} AND t.slot >= edge.in_7d
    GROUP BY t.fingerprint
),
told AS MATERIALIZED (
    SELECT c.*, t.first_at, t.last_at, t.last_id, CASE WHEN t.first_at > moment.at - interval '24 hours' THEN 'new'
        WHEN t.back_at > moment.at - interval '24 hours' THEN 'regressed' ELSE 'recurring' END AS state
    FROM counted AS c JOIN oracle.failure_span AS t USING (fingerprint), moment
    WHERE t.everyone = %(everyone)s AND t.user_id = %(user_id)s AND {visible} AND c.in_7d > 0
),
page AS MATERIALIZED (
    SELECT * FROM told AS p WHERE coalesce({range}, 0) > 0 ORDER BY {order}, p.fingerprint LIMIT %(limit)s
),
mark AS (
    SELECT fingerprint, json_agg(json_build_array(place, failures) ORDER BY place)::text AS marks
    FROM (
        SELECT t.fingerprint, floor(extract(epoch FROM t.slot - edge.{range}) / %(step)s)::integer AS place,
            sum(t.failures) AS failures
        FROM page JOIN oracle.failure_count AS t USING (fingerprint), edge
        WHERE t.everyone = %(everyone)s AND t.user_id = %(user_id)s AND {visible} AND t.slot >= edge.{range}
        GROUP BY 1, 2 HAVING sum(t.failures) > 0
    ) AS placed
    GROUP BY fingerprint
)
SELECT oracle.instant(moment.at), oracle.instant(edge.in_1h), oracle.instant(edge.in_3h), oracle.instant(edge.in_24h),
    oracle.instant(edge.in_3d), oracle.instant(edge.in_7d),
    (SELECT coalesce(sum({range}), 0)::bigint FROM told), (SELECT count(*) FROM told WHERE {range} > 0),
    (SELECT count(*) FROM told WHERE state = 'new'), (SELECT count(*) FROM told WHERE state = 'regressed'),
    p.fingerprint, p.state, g.name, g.error_type, CASE WHEN %(sees_payloads)s THEN g.message END,
    coalesce(p.in_1h, 0)::bigint, coalesce(p.in_3h, 0)::bigint, coalesce(p.in_24h, 0)::bigint,
    coalesce(p.in_3d, 0)::bigint, p.in_7d::bigint, oracle.instant(p.first_at), oracle.instant(p.last_at), p.last_id,
    CASE WHEN %(everyone)s THEN (SELECT count(*) FROM oracle.failure_span AS u
        WHERE NOT u.everyone AND u.fingerprint = p.fingerprint AND u.last_at >= edge.{range}) END,
    m.marks
FROM moment, edge LEFT JOIN (page AS p JOIN oracle.failure_group AS g USING (fingerprint)) ON true
LEFT JOIN mark AS m ON m.fingerprint = p.fingerprint
ORDER BY {order}, p.fingerprint;

-- name: failed_tasks
-- The tasks of a group that failed last, as they are now, and the traceback where it is the failure's own.
SELECT {task}, oracle.instant(f.at),
    CASE WHEN %(sees_payloads)s AND (t.retries, t.run_at, t.status) = (f.retries, f.run_at, 3) THEN t.traceback END
FROM (
    SELECT t.* FROM oracle.task_failure AS t WHERE t.fingerprint = %(fingerprint)s AND {visible}
    ORDER BY t.at DESC LIMIT %(limit)s
) AS f JOIN oracle.task_state_record AS t ON t.task_id = f.task_id AND {visible}
ORDER BY f.at DESC;

-- name: failures_alike
-- The group of a failed task's last run, and how many failures it has within 24 hours.
SELECT f.fingerprint, (
    SELECT coalesce(sum(t.failures), 0)::bigint FROM oracle.failure_count AS t
    WHERE t.everyone = %(everyone)s AND t.user_id = %(user_id)s AND {visible} AND t.fingerprint = f.fingerprint
        AND t.slot >= now() - interval '24 hours')
FROM oracle.task_state_record AS t JOIN oracle.task_failure AS f USING (task_id, retries, run_at)
WHERE t.task_id = %(task_id)s AND t.status = 3 AND {visible};
