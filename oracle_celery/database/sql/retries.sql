-- Retrying: what may be, the promise of one new id, and what came of it. Nobody else reads kept messages.

-- name: retry_rule
-- Why row t, with its retry r and its kept message m, may not be retried; null where it may.
CASE WHEN t.status NOT IN (3, 4) THEN 'not_failed'
    WHEN r.task_id IS NOT NULL THEN 'already_retried'
    WHEN m.envelope IS NULL THEN 'no_message'
    WHEN t.status = 4 AND NOT %(include_cancelled)s THEN 'cancelled'
    WHEN m.is_chord_member AND NOT %(force)s THEN 'chord_member' END

-- name: missing_message
-- Why there is no message of row t.
CASE WHEN m.envelope IS NULL THEN coalesce(m.missing,
    CASE WHEN t.run_id IS NULL AND t.received_at IS NULL THEN 'never_received' ELSE 'not_kept' END) END

-- name: retryable
-- The rule of each of the tasks, and the bytes of its message.
SELECT t.task_id, t.status, {rule} AS code, {missing} AS missing, r.new_id, coalesce(octet_length(m.envelope), 0)
FROM oracle.task_state_record AS t
LEFT JOIN oracle.retry AS r USING (task_id)
LEFT JOIN oracle.task_message AS m USING (task_id)
WHERE t.task_id = ANY (%(ids)s::text[])
ORDER BY t.task_id;

-- name: add_retries
-- From here on the messages may have been sent, as far as anybody can tell. Returns them.
WITH added AS (
    INSERT INTO oracle.retry (task_id, new_id, entry_id, state, claimed_at)
    SELECT x.task_id, x.new_id, %(entry_id)s, 'sending', clock_timestamp()
    FROM unnest(%(ids)s::text[], %(new_ids)s::text[]) AS x (task_id, new_id)
    RETURNING task_id, new_id
)
SELECT a.task_id, a.new_id, m.envelope, m.key_id FROM added AS a JOIN oracle.task_message AS m USING (task_id)
ORDER BY a.task_id;

-- name: confirm_retries
-- The broker has the messages. The new tasks are told as a producer would have (rank 0), with what is known of the old
-- ones; where arguments or queue were changed, whoever receives them says what they are.
WITH claimed AS MATERIALIZED (
    SELECT new_id FROM oracle.retry WHERE new_id = ANY (%(new_ids)s::text[]) AND state = 'sending'
    ORDER BY new_id FOR UPDATE
),
sent AS (
    UPDATE oracle.retry AS r SET state = 'sent', sent_at = clock_timestamp()
    FROM claimed AS c WHERE r.new_id = c.new_id
    RETURNING r.task_id, r.new_id, r.entry_id, r.claimed_at
),
told AS (
    INSERT INTO oracle.audit_outcome (entry_id, subject, outcome, detail)
    SELECT entry_id, task_id, 'sent', new_id FROM sent
)
SELECT oracle.infer(NULL, NULL, '[' || string_agg(json_build_object(
        'i', s.new_id, 's', 0, 'k', 0, 'e', 'retry_of', 'n', t.name, 'o', t.user_id,
        'q', coalesce(e.after #>> ARRAY['changes', 'queue'], t.queue),
        'a', CASE WHEN e.after #> ARRAY['changes', 'args'] IS NULL AND e.after #> ARRAY['changes', 'kwargs'] IS NULL
            THEN t.arguments END,
        'm', (extract(epoch FROM s.claimed_at) * 1000000)::bigint * 1000,
        't', coalesce(n.trace_id, t.trace_id), 'w', n.span, 'co', t.correlation_id, 'ro', t.root_id, 'pa', t.parent_id, 'gr', t.group_id)::text, ',' ORDER BY s.new_id) || ']')
FROM sent AS s
JOIN unnest(%(new_ids)s::text[], %(trace_ids)s::text[], %(spans)s::text[]) AS n (new_id, trace_id, span)
    ON n.new_id = s.new_id
JOIN oracle.task_state_record AS t ON t.task_id = s.task_id
JOIN oracle.audit_entry AS e ON e.entry_id = s.entry_id
HAVING count(*) > 0;

-- name: fail_retries
-- The messages were certainly not sent: the tasks may be retried again.
WITH gone AS (
    DELETE FROM oracle.retry AS r USING unnest(%(new_ids)s::text[], %(details)s::text[]) AS x (new_id, detail)
    WHERE r.new_id = x.new_id AND r.state = 'sending'
    RETURNING r.entry_id, r.task_id, x.detail
)
INSERT INTO oracle.audit_outcome (entry_id, subject, outcome, detail)
SELECT entry_id, task_id, 'failed', detail FROM gone;

-- name: unsure_retries
-- Promised some time ago and neither confirmed nor taken back: whoever sent them is gone. What is known by now, where
-- it is news.
SELECT r.task_id, r.new_id, r.entry_id, n.task_id IS NOT NULL AS is_there
FROM oracle.retry AS r LEFT JOIN oracle.task_state_record AS n ON n.task_id = r.new_id
WHERE r.state = 'sending' AND r.claimed_at < clock_timestamp() - make_interval(secs => %(patience)s)
    AND (n.task_id IS NOT NULL OR NOT EXISTS (
        SELECT FROM oracle.audit_outcome AS o
        WHERE o.entry_id = r.entry_id AND o.subject = r.task_id AND o.outcome = 'unknown'))
ORDER BY r.claimed_at LIMIT %(limit)s;
