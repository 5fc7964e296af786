-- Bulk actions: what they are about, how far they are, and what came of each task.

-- name: count_outcomes
-- Adds to a bulk's counts; what falls to nought is left out.
UPDATE oracle.bulk AS b
SET done = done + %(done)s,
    outcomes = (
        SELECT coalesce(jsonb_object_agg(x.outcome, x.count), '{}')
        FROM (
            SELECT outcome, sum(count)::bigint AS count
            FROM (
                SELECT key AS outcome, value::bigint AS count FROM jsonb_each_text(b.outcomes)
                UNION ALL
                SELECT * FROM unnest(%(outcomes)s::text[], %(counts)s::bigint[])
            ) AS each
            GROUP BY outcome HAVING sum(count) <> 0
        ) AS x
    )
WHERE bulk_id = %(bulk_id)s::uuid;

-- name: move_items
-- Items whose messages were promised, to what has become of them. Returns how many went from which outcome to which.
WITH known AS (
    SELECT i.number, i.outcome AS was, x.outcome, x.detail
    FROM oracle.bulk_item AS i
    JOIN unnest(%(new_ids)s::text[], %(outcomes)s::text[], %(details)s::text[]) AS x (new_id, outcome, detail) USING (new_id)
    WHERE i.bulk_id = %(bulk_id)s::uuid AND i.outcome IN ('sending', 'unknown')
    ORDER BY i.number FOR UPDATE OF i
),
moved AS (
    UPDATE oracle.bulk_item AS i
    SET outcome = k.outcome, detail = k.detail, new_id = CASE WHEN k.outcome <> 'failed' THEN i.new_id END
    FROM known AS k
    WHERE i.bulk_id = %(bulk_id)s::uuid AND i.number = k.number AND k.outcome <> k.was
    RETURNING k.was, i.outcome
)
SELECT was, outcome, count(*)::integer FROM moved GROUP BY was, outcome;

-- name: bulk_of_ids
-- The tasks that were named, in that order. Those that the actor may not act on have no row t, as those that are not.
(SELECT id, min(n) AS n FROM unnest(%(ids)s::text[]) WITH ORDINALITY AS x (id, n) GROUP BY id) AS w
LEFT JOIN oracle.task_state_record AS t ON t.task_id = w.id AND {controllable}

-- name: bulk_of_filter
-- The tasks that a list with the same filter shows.
(SELECT NULL::text AS id, 0 AS n) AS w
JOIN oracle.task_state_record AS t ON {controllable} AND {where}

-- name: bulk_moment
-- Up to when a filter's tasks were made, as it is told: the given moment, or now; and whether that is still to come.
SELECT oracle.instant(m.at), m.at > clock_timestamp()
FROM (SELECT coalesce(%(at)s::timestamptz, clock_timestamp()) AS at) AS m;

-- name: preview_bulk
-- By what the rule says (null: it may be done), how many; and some of those that it may be done to.
WITH chosen AS MATERIALIZED (
    SELECT t.task_id, w.n, t.created_at, t.status, CASE WHEN t.task_id IS NULL THEN 'not_found' ELSE {rule} END AS code,
        {missing} AS missing
    FROM {source}
    LEFT JOIN oracle.cancellation AS c ON c.task_id = t.task_id
    LEFT JOIN oracle.retry AS r ON r.task_id = t.task_id
    LEFT JOIN oracle.task_message AS m ON m.task_id = t.task_id
)
SELECT code, CASE WHEN code IS NOT NULL THEN status END,
    CASE WHEN code = 'no_message' THEN missing END, count(*),
    CASE WHEN code IS NULL THEN ARRAY(
        SELECT task_id FROM chosen WHERE code IS NULL ORDER BY n, created_at, task_id LIMIT %(sample)s) END
FROM chosen GROUP BY 1, 2, 3 ORDER BY 4 DESC, 1, 2, 3;

-- name: add_bulk
-- Its items follow in the same transaction.
INSERT INTO oracle.bulk (bulk_id, action, entry_id, actor, is_admin, via, address, options, total, created_at)
VALUES (%(bulk_id)s::uuid, %(action)s, %(entry_id)s, %(actor)s, %(is_admin)s, %(via)s, %(address)s,
    %(options)s::json, %(total)s, clock_timestamp());

-- name: add_items
-- Whatever the rule says of them now: it is asked again when their turn comes.
WITH added AS (
    INSERT INTO oracle.bulk_item (bulk_id, number, task_id)
    SELECT %(bulk_id)s::uuid, row_number() OVER (ORDER BY w.n, t.created_at, t.task_id), coalesce(t.task_id, w.id)
    FROM {source}
    RETURNING 1
)
SELECT count(*) FROM added;

-- name: theirs
-- Whether bulk b is the owner's (null: whoever sees everything). What somebody did as an admin is not theirs as an owner.
(%(owner)s::text IS NULL OR b.actor = %(owner)s AND NOT b.is_admin)

-- name: bulks
-- Newest first; one, where its id is given.
SELECT bulk_id::text, action, CASE WHEN finished_at IS NULL THEN 'running' ELSE 'finished' END, total, done, outcomes,
    oracle.instant(created_at), oracle.instant(finished_at), actor, options ->> 'reason', entry_id,
    is_admin
FROM oracle.bulk AS b
WHERE {theirs} AND (%(bulk_id)s::uuid IS NULL OR bulk_id = %(bulk_id)s::uuid)
ORDER BY created_at DESC, bulk_id LIMIT %(limit)s;

-- name: watched_bulks
-- Everybody's, newest first: the newest, all that are running, and those that are asked for.
SELECT bulk_id::text, action, CASE WHEN finished_at IS NULL THEN 'running' ELSE 'finished' END, total, done, outcomes,
    oracle.instant(created_at), oracle.instant(finished_at), actor, options ->> 'reason', entry_id,
    is_admin
FROM oracle.bulk
WHERE bulk_id IN (
    (SELECT bulk_id FROM oracle.bulk ORDER BY created_at DESC, bulk_id LIMIT %(limit)s)
    UNION SELECT bulk_id FROM oracle.bulk WHERE finished_at IS NULL
    UNION SELECT unnest(%(bulk_ids)s::uuid[]))
ORDER BY created_at DESC, bulk_id;

-- name: bulk_items
-- A page of what came of a bulk's tasks.
SELECT number, task_id, outcome, detail, new_id FROM oracle.bulk_item
WHERE bulk_id = (SELECT b.bulk_id FROM oracle.bulk AS b WHERE b.bulk_id = %(bulk_id)s::uuid AND {theirs}) AND number > %(after)s AND (%(outcome)s::text IS NULL OR outcome = %(outcome)s)
ORDER BY number LIMIT %(limit)s;

-- name: open_bulks
-- The oldest first.
SELECT bulk_id::text, action, entry_id, actor, is_admin, via, address, options FROM oracle.bulk
WHERE finished_at IS NULL ORDER BY created_at, bulk_id;

-- name: try_run_bulk
-- Held as long as the connection lives.
SELECT pg_try_advisory_lock(hashtextextended(%(bulk_id)s, %(key)s));

-- name: next_items
-- Those whose turn it is.
SELECT number, task_id FROM oracle.bulk_item WHERE bulk_id = %(bulk_id)s::uuid AND outcome IS NULL
ORDER BY number LIMIT %(limit)s;

-- name: lock_items
-- Those that nobody has done meanwhile.
SELECT number, task_id FROM oracle.bulk_item
WHERE bulk_id = %(bulk_id)s::uuid AND number = ANY (%(numbers)s::bigint[]) AND outcome IS NULL
ORDER BY number FOR UPDATE;

-- name: set_items
-- What has come of them.
UPDATE oracle.bulk_item AS i SET outcome = x.outcome, detail = x.detail, new_id = x.new_id
FROM unnest(%(numbers)s::bigint[], %(outcomes)s::text[], %(details)s::text[], %(new_ids)s::text[])
    AS x (number, outcome, detail, new_id)
WHERE i.bulk_id = %(bulk_id)s::uuid AND i.number = x.number;

-- name: release_items
-- Promises taken back, and their items open again.
WITH gone AS (
    DELETE FROM oracle.retry WHERE new_id = ANY (%(new_ids)s::text[]) AND state = 'sending' RETURNING new_id
)
UPDATE oracle.bulk_item AS i SET outcome = NULL, detail = NULL, new_id = NULL
FROM gone AS g WHERE i.bulk_id = %(bulk_id)s::uuid AND i.new_id = g.new_id AND i.outcome = 'sending';

-- name: unsure_items
-- Items whose messages an earlier runner has promised and perhaps sent, and whether the new tasks have been heard of.
SELECT i.task_id, i.new_id, EXISTS (SELECT FROM oracle.task_state_record AS t WHERE t.task_id = i.new_id)
FROM oracle.bulk_item AS i WHERE i.bulk_id = %(bulk_id)s::uuid AND i.outcome = 'sending'
ORDER BY i.number;

-- name: bulks_of_entries
-- Whose audit entries these are.
SELECT bulk_id::text, entry_id FROM oracle.bulk WHERE entry_id = ANY (%(entries)s::bigint[]);

-- name: finish_bulk
-- Once.
UPDATE oracle.bulk SET finished_at = clock_timestamp() WHERE bulk_id = %(bulk_id)s::uuid AND finished_at IS NULL
RETURNING entry_id, outcomes;
