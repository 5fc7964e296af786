-- The history of a task is found by its record, not by an index of task ids. Ids are random: each fact touched a page of
-- that index somewhere, and after a checkpoint wrote it to the log as a whole. With a quarter of a million tasks, ingest
-- costs the server a sixth less without it and writes half the log; now it only appends to the history and to its index.

-- The transactions that told something of the task, up to 64, so that a task that is retried for ever has no row that
-- grows for ever. Its history is (is_listed AND txid = ANY (txids) OR is_listed IS NULL), by one index or the other: what
-- was there before this migration is not listed, nor is what came after the first 64.
-- In the order in which ingest takes them: the other way round the two would wait for each other.
LOCK TABLE oracle.task_transition, oracle.task_state_record IN ACCESS EXCLUSIVE MODE;
ALTER TABLE oracle.task_state_record ADD COLUMN txids xid8[];
ALTER TABLE oracle.task_transition ADD COLUMN is_listed boolean;  -- true or null

DROP INDEX oracle.transition_txid;
DROP INDEX oracle.transition_task;
-- A transaction tells its facts sorted by task, so that both columns only grow.
CREATE INDEX transition_txid ON oracle.task_transition (txid, task_id);
CREATE INDEX transition_task ON oracle.task_transition (task_id) WHERE is_listed IS NULL;

-- Each recorder takes 32 numbers at a time. They order the facts of one transaction, and tell facts apart.
ALTER SEQUENCE oracle.task_transition_history_id_seq CACHE 32;

-- As in 0010, and the record tells where its history is.
CREATE OR REPLACE FUNCTION oracle.ingest(
    p_files uuid[], p_starts bigint[], p_ends bigint[], p_offsets bigint[], p_run_offsets bigint[],
    p_nodes text[], p_workers uuid[], p_origins text[], p_bodies text, p_notify text,
    OUT applied integer, OUT skipped uuid[], OUT notified integer, OUT notifications text[]
) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET jit = off SET enable_nestloop = off SET work_mem = '32MB'
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

    -- Parsed, in the database's time, each with the clock and the node of its file.
    WITH line AS (
        SELECT x.i AS task_id, x.s AS status, x.k AS rank, x.e AS reason, coalesce(x.r, 0) AS retries, x.v AS run_id,
            -- exact to the microsecond: the quotient has 51 bits
            to_timestamp((x.m + f.o) / 1000 / 1e6::float8) AS at,
            coalesce(to_timestamp((x.u + f.ro) / 1000 / 1e6::float8), 'epoch') AS run_at,
            x.d AS runtime, x.n AS name, x.q AS queue, nullif(x.o, '') AS user_id, x.a AS arguments,
            x.p AS result_payload, x.g AS error_type, x.f AS error_message, x.b AS traceback,
            x.h AS eta, x.x AS expires, x.ro AS root_id, x.pa AS parent_id, x.gr AS group_id, x.co AS correlation_id,
            CASE WHEN x.t IS NOT NULL THEN
                lpad(to_hex(coalesce(x.r, 0)), 8, '0') || lpad(to_hex(coalesce((x.u + f.ro) / 1000, 0)), 16, '0')
                || rpad(coalesce(left(x.w, 18), '0'), 18, '-') || x.t || chr(31) || coalesce(substr(x.w, 19), '')
            END COLLATE "C" AS trace_word,
            CASE WHEN left(x.w, 1) = '1' THEN x.t END AS run_trace_id,
            CASE WHEN left(x.w, 1) = '1' THEN substr(x.w, 3, 16) END AS run_span_id,
            -- a task may be sent from within another one: that worker is not this task's
            CASE WHEN x.k > 0 THEN f.node END AS node, CASE WHEN x.k > 0 THEN f.worker END AS worker, f.origin
        FROM unnest(p_files, p_offsets, p_run_offsets, p_nodes, p_workers, p_origins,
                string_to_array(p_bodies, chr(30))) AS f (file_id, o, ro, node, worker, origin, body),
            json_to_recordset(f.body::json) AS x (
                i text COLLATE "C", s smallint, k smallint, m bigint, e text COLLATE "C", r integer,
                v text COLLATE "C", u bigint, n text COLLATE "C", q text COLLATE "C", o text COLLATE "C",
                a text COLLATE "C", p json, g text, f text, b text, t text COLLATE "C", d double precision,
                h double precision, x double precision, ro text COLLATE "C", pa text COLLATE "C", gr text COLLATE "C",
                w text COLLATE "C", co text COLLATE "C")
        WHERE f.file_id = ANY (v_files)
    ),
    -- Each task's facts in the order of their versions; the last one wins the batch.
    fact AS MATERIALIZED (
        SELECT line.*, lead(true) OVER task IS NULL AS wins,
            retries = last_value(retries) OVER task AND run_at = last_value(run_at) OVER task AS of_winning_run
        FROM line
        WINDOW task AS (PARTITION BY task_id ORDER BY retries, run_at, rank, status, at
                        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
    ),
    -- What any fact of a task may tell: least and greatest, so that their order does not matter.
    merged AS (
        SELECT task_id, min(at) AS created_at, max(eta) AS eta, max(expires) AS expires,
            min(name) AS name, min(queue) AS queue, min(user_id) AS user_id,
            max(trace_word) AS trace_word, min(correlation_id) AS correlation_id,
            min(root_id) AS root_id, min(parent_id) AS parent_id, min(group_id) AS group_id,
            min(arguments) AS arguments,
            min(at) FILTER (WHERE of_winning_run AND rank = 10) AS received_at,
            min(at) FILTER (WHERE of_winning_run AND rank = 20) AS started_at,
            min(run_id) FILTER (WHERE of_winning_run) AS run_id,
            min(node) FILTER (WHERE of_winning_run) AS worker
        FROM fact GROUP BY task_id
    ),
    -- The same fold again, of the batch's outcome with the row's. Sorted, so that two recorders never wait for each
    -- other; was_* tell the version that was there before.
    changed AS (
        INSERT INTO oracle.task_state_record AS t (
            created_at, received_at, started_at, finished_at, changed_at, run_at, runtime, eta, expires,
            retries, status, rank, worker_id, task_id, name, queue, user_id, worker, reason, run_id, origin, trace_id,
            root_id, parent_id, group_id, error_type, error_message, traceback, arguments, result_payload,
            trace_word, correlation_id, txids)
        SELECT m.created_at, m.received_at, m.started_at, CASE WHEN w.status > 1 THEN w.at END, w.at, w.run_at,
            w.runtime, to_timestamp(m.eta), to_timestamp(m.expires), w.retries, w.status, w.rank, w.worker, m.task_id,
            m.name, m.queue, m.user_id, m.worker, w.reason, m.run_id, w.origin,
            split_part(substr(m.trace_word, 43), chr(31), 1), m.root_id, m.parent_id,
            m.group_id, w.error_type, w.error_message, w.traceback, m.arguments::json, w.result_payload,
            m.trace_word, m.correlation_id, ARRAY[v_txid]
        FROM merged AS m JOIN fact AS w ON w.task_id = m.task_id AND w.wins
        ORDER BY m.task_id
        ON CONFLICT (task_id) DO UPDATE SET
            txids = CASE WHEN cardinality(t.txids) >= 64 THEN t.txids ELSE t.txids || v_txid END,
            was_status = t.status,
            was_rank = t.rank,
            was_retries = t.retries,
            was_run_at = t.run_at,
            was_changed_at = t.changed_at,
            -- only where it does not follow from was_status and the new row: the task was final, or changes its key
            was_counted = CASE
                WHEN t.status > 1
                    OR least(t.name, excluded.name) IS DISTINCT FROM t.name
                    OR least(t.queue, excluded.queue) IS DISTINCT FROM t.queue
                    OR least(t.user_id, excluded.user_id) IS DISTINCT FROM t.user_id
                THEN ROW (coalesce(date_bin('1 minute', t.finished_at, 'epoch'), 'epoch'), t.user_id, t.name, t.queue,
                    CASE WHEN t.status > 1 THEN t.runtime END)::oracle.contribution
            END,
            created_at = least(t.created_at, excluded.created_at),
            eta = greatest(t.eta, excluded.eta),
            expires = greatest(t.expires, excluded.expires),
            name = least(t.name, excluded.name),
            queue = least(t.queue, excluded.queue),
            user_id = least(t.user_id, excluded.user_id),
            -- equal words have equal traces; a row of before this migration has a trace and no word
            trace_id = CASE WHEN t.trace_word IS NULL OR excluded.trace_word > t.trace_word
                THEN coalesce(excluded.trace_id, t.trace_id) ELSE t.trace_id END,
            trace_word = greatest(t.trace_word, excluded.trace_word),
            correlation_id = least(t.correlation_id, excluded.correlation_id),
            root_id = least(t.root_id, excluded.root_id),
            parent_id = least(t.parent_id, excluded.parent_id),
            group_id = least(t.group_id, excluded.group_id),
            arguments = CASE
                WHEN t.arguments IS NULL OR excluded.arguments::text COLLATE "C" < t.arguments::text
                THEN excluded.arguments ELSE t.arguments
            END,
            (received_at, started_at, worker, worker_id, run_id,
             finished_at, changed_at, run_at, runtime, retries, status, rank, reason, origin,
             error_type, error_message, traceback, result_payload) = (
                SELECT
                    -- of the current run
                    CASE WHEN same_run THEN least(t.received_at, excluded.received_at)
                        WHEN newer THEN excluded.received_at ELSE t.received_at END,
                    CASE WHEN same_run THEN least(t.started_at, excluded.started_at)
                        WHEN newer THEN excluded.started_at ELSE t.started_at END,
                    CASE WHEN same_run THEN least(t.worker, excluded.worker)
                        WHEN newer THEN excluded.worker ELSE t.worker END,
                    CASE WHEN same_run THEN least(t.worker_id, excluded.worker_id)
                        WHEN newer THEN excluded.worker_id ELSE t.worker_id END,
                    CASE WHEN same_run THEN least(t.run_id, excluded.run_id)
                        WHEN newer THEN excluded.run_id ELSE t.run_id END,
                    -- of the current version
                    CASE WHEN newer THEN excluded.finished_at ELSE t.finished_at END,
                    CASE WHEN newer THEN excluded.changed_at ELSE t.changed_at END,
                    CASE WHEN newer THEN excluded.run_at ELSE t.run_at END,
                    CASE WHEN newer THEN excluded.runtime ELSE t.runtime END,
                    CASE WHEN newer THEN excluded.retries ELSE t.retries END,
                    CASE WHEN newer THEN excluded.status ELSE t.status END,
                    CASE WHEN newer THEN excluded.rank ELSE t.rank END,
                    CASE WHEN newer THEN excluded.reason ELSE t.reason END,
                    CASE WHEN newer THEN excluded.origin ELSE t.origin END,
                    CASE WHEN newer THEN excluded.error_type ELSE t.error_type END,
                    CASE WHEN newer THEN excluded.error_message ELSE t.error_message END,
                    CASE WHEN newer THEN excluded.traceback ELSE t.traceback END,
                    CASE WHEN newer THEN excluded.result_payload ELSE t.result_payload END
                FROM (SELECT
                    (excluded.retries, excluded.run_at, excluded.rank, excluded.status, excluded.changed_at)
                        > (t.retries, t.run_at, t.rank, t.status, t.changed_at),
                    (excluded.retries, excluded.run_at) = (t.retries, t.run_at)
                    OFFSET 0  -- once a row, not once a column
                ) AS c (newer, same_run))
        RETURNING t.task_id, t.status, t.name, t.queue, t.user_id, t.finished_at, t.runtime, t.changed_at,
            t.was_status, t.was_rank, t.was_retries, t.was_run_at, t.was_changed_at, t.was_counted,
            t.txids[cardinality(t.txids)] = v_txid AS is_listed
    ),
    history AS (
        INSERT INTO oracle.task_transition (txid, at, run_at, runtime, retries, status, rank, task_id, reason, run_id,
            worker, origin, error_type, error_message, trace_id, span_id, is_listed)
        SELECT v_txid, at, run_at, runtime, retries, status, rank, task_id, reason, run_id,
            node, origin, error_type, error_message, run_trace_id, run_span_id,
            CASE WHEN task_id = ANY ((SELECT array_agg(c.task_id) FROM changed AS c WHERE NOT c.is_listed)::text[])
                THEN NULL ELSE true END
        FROM fact
    ),
    -- What each row counts now, less what it counted before. (A composite IS NOT NULL only if all its parts are.)
    counted AS (
        INSERT INTO oracle.statistic_delta (minute, runtime, tasks, timed, status, user_id, name, queue)
        SELECT minute, coalesce(sum(runtime * sign), 0), sum(sign),
            coalesce(sum(sign) FILTER (WHERE runtime IS NOT NULL), 0), status, user_id, name, queue
        FROM (
            SELECT 1 AS sign, coalesce(date_bin('1 minute', finished_at, 'epoch'), 'epoch') AS minute, status,
                CASE WHEN status > 1 THEN runtime END AS runtime,
                coalesce(user_id, '') AS user_id, coalesce(name, '') AS name, coalesce(queue, '') AS queue
            FROM changed
            UNION ALL
            SELECT -1, 'epoch', was_status, NULL, coalesce(user_id, ''), coalesce(name, ''), coalesce(queue, '')
            FROM changed WHERE was_status IS NOT NULL AND was_counted IS NOT DISTINCT FROM NULL
            UNION ALL
            SELECT -1, (was_counted).minute, was_status, (was_counted).runtime, coalesce((was_counted).user_id, ''),
                coalesce((was_counted).name, ''), coalesce((was_counted).queue, '')
            FROM changed WHERE was_counted IS DISTINCT FROM NULL
        ) AS x
        GROUP BY minute, status, user_id, name, queue
        HAVING sum(sign) <> 0 OR coalesce(sum(runtime * sign), 0) <> 0
            OR coalesce(sum(sign) FILTER (WHERE runtime IS NOT NULL), 0) <> 0
    ),
    -- The facts that were news, with the status before each of them.
    news AS (
        SELECT f.task_id, f.status, f.at, lag(f.status, 1, c.was_status) OVER (
            PARTITION BY f.task_id ORDER BY f.retries, f.run_at, f.rank, f.status, f.at) AS before
        FROM fact AS f JOIN changed AS c USING (task_id)
        WHERE c.was_status IS NULL OR (f.retries, f.run_at, f.rank, f.status, f.at)
            > (c.was_retries, c.was_run_at, c.was_rank, c.was_status, c.was_changed_at)
    ),
    -- Every change of status; where there is none, one ring for all, so that readers look.
    rung AS (
        SELECT task_id, status, at FROM news WHERE status IS DISTINCT FROM before
        UNION ALL
        (SELECT task_id, status, changed_at FROM changed
         WHERE NOT EXISTS (SELECT FROM news WHERE status IS DISTINCT FROM before) LIMIT 1)
    ),
    payload AS (
        SELECT oracle.notification(task_id, status, at) AS payload FROM rung WHERE p_notify <> 'never'
    )
    SELECT (SELECT count(*) FROM fact),
        CASE p_notify WHEN 'transactional'
            THEN (SELECT count(pg_notify('oracle_channel', payload)) FROM payload) ELSE 0 END,
        CASE p_notify WHEN 'after_commit' THEN (SELECT array_agg(payload) FROM payload) END
    INTO applied, notified, notifications;
END
$$;
