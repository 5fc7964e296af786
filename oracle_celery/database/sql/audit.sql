-- Reading the audit.

-- name: audit
-- Newest first. An owner (null: whoever sees everything) sees what they did as an owner, and what was done to tasks of
-- theirs: of an admin's bulk action just that it was done to the task that is asked for. That another owner has tried is
-- nothing that was done to it. Outcomes of a bulk's many tasks are with its items. Changed arguments are payloads.
-- A task's entries are found first, by an index each: those of its own and those of bulk actions that it was in.
SELECT e.entry_id, oracle.instant(e.at), e.actor, e.is_admin, e.via, CASE WHEN f.is_full THEN e.address END, e.action,
    e.task_id, e.queues, e.bulk_id::text, CASE WHEN f.is_full THEN e.filter END,
    CASE WHEN f.is_full OR e.bulk_id IS NULL THEN e.before END,
    CASE WHEN NOT (f.is_full OR e.bulk_id IS NULL) THEN NULL
        WHEN %(sees_payloads)s OR e.action <> 'retry' THEN e.after
        ELSE json_build_object('new_id', e.after -> 'new_id',
            'changes', json_strip_nulls(json_build_object('queue', e.after #> ARRAY['changes', 'queue']))) END, e.reason,
    (SELECT coalesce(json_agg(json_build_array(o.subject, o.outcome, o.detail, oracle.instant(o.at))
            ORDER BY o.outcome_id), '[]')
     FROM (
        SELECT * FROM oracle.audit_outcome AS o
        WHERE o.entry_id = e.entry_id
            AND (e.bulk_id IS NULL OR o.subject = %(task_id)s OR f.is_full AND o.subject = '*')
        ORDER BY o.outcome_id DESC LIMIT %(outcomes)s
     ) AS o)
FROM oracle.audit_entry AS e
CROSS JOIN LATERAL (SELECT %(owner)s::text IS NULL OR e.actor = %(owner)s AND NOT e.is_admin) AS f (is_full)
WHERE (f.is_full OR (e.bulk_id IS NULL OR e.is_admin) AND (e.owner = %(owner)s OR EXISTS (
        SELECT FROM oracle.task_state_record AS t WHERE t.task_id = %(task_id)s AND t.user_id = %(owner)s)))
    AND (%(actor)s::text IS NULL OR e.actor = %(actor)s)
    AND (%(action)s::text IS NULL OR e.action = %(action)s)
    AND (%(task_id)s::text IS NULL OR e.entry_id = ANY (ARRAY(
        SELECT o.entry_id FROM oracle.audit_entry AS o WHERE o.task_id = %(task_id)s
        UNION
        SELECT o.entry_id FROM oracle.bulk_item AS i JOIN oracle.audit_entry AS o USING (bulk_id)
        WHERE i.task_id = %(task_id)s)))
    AND (%(before)s::bigint IS NULL OR e.entry_id < %(before)s)
ORDER BY e.entry_id DESC LIMIT %(limit)s;
