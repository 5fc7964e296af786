-- Log lines in the order in which they became known, and the progress that running tasks tell.

-- Readers that follow a task need its lines by transaction (see cursor.py), and pages go by the same order: one index
-- serves both. A line without a message is a count: so many of its run's numbers are not there.
CREATE INDEX log_arrival ON oracle.task_log (task_id, txid, line_id);
DROP INDEX oracle.log_task;

-- How far a task says that it is: one row, rewritten in place, while it runs. Rows of finished tasks are swept away.
CREATE TABLE oracle.task_progress (
    at      timestamptz      NOT NULL,
    txid    xid8             NOT NULL,
    task_id text COLLATE "C" PRIMARY KEY,
    run_id  text COLLATE "C",
    state   text,
    meta    json
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

-- As in 0001, and what has no level is a task's progress: the newest of a batch and of the row wins.
CREATE OR REPLACE FUNCTION oracle.ingest_logs(
    p_files uuid[], p_starts bigint[], p_ends bigint[], p_offsets bigint[], p_bodies text, p_notify text,
    OUT applied integer, OUT skipped uuid[], OUT notified integer, OUT notifications text[]
) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET jit = off
AS $$
DECLARE
    v_txid  xid8;
    v_files uuid[] := oracle.move_fence(p_files, p_starts, p_ends);
BEGIN
    applied := 0;
    notified := 0;
    skipped := oracle.already_in(p_files, p_starts, p_ends, v_files);
    IF v_files = '{}' THEN
        RETURN;
    END IF;
    v_txid := pg_current_xact_id();
    WITH told AS MATERIALIZED (
        SELECT to_timestamp((x.m + f.o) / 1000 / 1e6::float8) AS at, x.l AS level, coalesce(x.z, 0) AS number,
            x.i AS task_id, x.v AS run_id, x.g AS logger, x.f AS message, x.s AS state, x.p AS meta
        FROM unnest(p_files, p_offsets, string_to_array(p_bodies, chr(30))) AS f (file_id, o, body),
            json_to_recordset(f.body::json) AS x (
                i text COLLATE "C", v text COLLATE "C", m bigint, z integer, l integer, g text, f text, s text, p json)
        WHERE f.file_id = ANY (v_files)
    ),
    line AS (
        INSERT INTO oracle.task_log (txid, at, level, number, task_id, run_id, logger, message)
        SELECT v_txid, at, level, number, task_id, run_id, logger, message FROM told
        WHERE level IS NOT NULL
    ),
    -- Sorted, so that two recorders never wait for each other.
    progress AS (
        INSERT INTO oracle.task_progress AS p (at, txid, task_id, run_id, state, meta)
        SELECT DISTINCT ON (task_id) at, v_txid, task_id, run_id, state, meta FROM told WHERE level IS NULL
        ORDER BY task_id, at DESC
        ON CONFLICT (task_id) DO UPDATE
            SET at = excluded.at, txid = excluded.txid, run_id = excluded.run_id, state = excluded.state,
                meta = excluded.meta
            WHERE excluded.at > p.at
    ),
    payload AS (
        SELECT oracle.notification(t.task_id, t.status, t.changed_at) AS payload
        FROM oracle.task_state_record AS t
        WHERE t.task_id IN (SELECT task_id FROM told) AND p_notify <> 'never' LIMIT 1
    )
    SELECT (SELECT count(*) FROM told),
        CASE p_notify WHEN 'transactional'
            THEN (SELECT count(pg_notify('oracle_channel', payload)) FROM payload) ELSE 0 END,
        CASE p_notify WHEN 'after_commit' THEN (SELECT array_agg(payload) FROM payload) END
    INTO applied, notified, notifications;
END
$$;
