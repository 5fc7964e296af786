-- The family of a task. {visible} is the owner's predicate on row t: a relative whom the viewer may not see is not
-- there, and neither is whoever is known only through them.

-- name: lineage
-- lineage.Lineage, as JSON; no row where the viewer may not see the task. Ancestors by primary key, children and group
-- by task_child and task_member: as much is read as is told, and of a group a thousand rows.
WITH RECURSIVE me AS MATERIALIZED (
    SELECT t.task_id, t.parent_id, t.root_id, t.group_id FROM oracle.task_state_record AS t
    WHERE t.task_id = %(task_id)s AND {visible}
),
above AS (
    SELECT 1 AS distance, {relative} FROM me JOIN oracle.task_state_record AS t ON t.task_id = me.parent_id
    WHERE {visible}
    UNION ALL
    SELECT a.distance + 1, {relative} FROM above AS a JOIN oracle.task_state_record AS t ON t.task_id = a.parent_id
    WHERE a.distance < %(height)s AND {visible}
),
below AS (
    SELECT 1 AS distance, child.* FROM me CROSS JOIN LATERAL (
        SELECT {relative} FROM oracle.task_state_record AS t
        WHERE t.parent_id = me.task_id AND {visible} ORDER BY t.created_at LIMIT %(width)s + 1
    ) AS child
    UNION ALL
    SELECT b.distance + 1, child.* FROM below AS b CROSS JOIN LATERAL (
        SELECT {relative} FROM oracle.task_state_record AS t
        WHERE t.parent_id = b.task_id AND {visible} ORDER BY t.created_at LIMIT %(width)s + 1
    ) AS child
    WHERE b.distance < %(depth)s
),
-- one more than is told: whether there are more. A recursion without an order ends where enough is read.
told AS MATERIALIZED (SELECT * FROM below LIMIT %(descendants)s + 1),
crew AS MATERIALIZED (
    SELECT member.* FROM me CROSS JOIN LATERAL (
        SELECT {relative} FROM oracle.task_state_record AS t
        WHERE t.group_id = me.group_id AND {visible} ORDER BY t.created_at LIMIT %(counted)s + 1
    ) AS member
)
SELECT json_build_object(
    'ancestors', (SELECT coalesce(json_agg(above ORDER BY distance DESC), '[]') FROM above),
    'descendants', (SELECT coalesce(json_agg(x ORDER BY distance, created_at), '[]')
        FROM (SELECT * FROM told LIMIT %(descendants)s) AS x),
    'has_more', (SELECT count(*) > %(descendants)s OR bool_or(family > %(width)s) IS TRUE
        OR coalesce(max(distance) >= %(depth)s, false)
        FROM (SELECT distance, count(*) OVER (PARTITION BY parent_id) AS family FROM told) AS x),
    'group', CASE WHEN me.group_id IS NOT NULL THEN json_build_object(
        'group_id', me.group_id,
        'members', (SELECT json_agg(x) FROM (SELECT * FROM crew LIMIT %(members)s) AS x),
        'total', (SELECT least(count(*), %(counted)s) FROM crew),
        'is_counted_whole', (SELECT count(*) <= %(counted)s FROM crew),
        'statuses', (SELECT json_object_agg(status, tasks)
            FROM (SELECT status, count(*) AS tasks FROM (SELECT status FROM crew LIMIT %(counted)s) AS y
                GROUP BY status) AS x)) END
)::text
FROM me;

-- name: relative
-- lineage.Relative.
t.task_id, t.parent_id, t.name, oracle.status_word(t.status) AS status, oracle.instant(t.created_at) AS created_at,
    t.runtime
