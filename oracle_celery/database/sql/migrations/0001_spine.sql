-- The spine: the record of every task, its history, statistics, workers and the fence of their journals; and
-- oracle.ingest, the only statement that changes a task.
--
-- Written for the server's CPU, which tasks share: C collation on every compared text, no column default computed per
-- row, only the indexes that a page needs, and one upsert per task and batch however many facts it holds.

CREATE SCHEMA oracle;

-- One row, replaced by every migration. Older code may go on writing to a newer database while its own version is at
-- least compatible_with.
CREATE TABLE oracle.schema_version (
    version         integer     NOT NULL,
    compatible_with integer     NOT NULL,
    name            text        NOT NULL,
    migrated_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What an earlier contribution of a task to the statistics was, where it cannot be told from its row any more.
CREATE TYPE oracle.contribution AS (
    minute  timestamptz,
    user_id text,
    name    text,
    queue   text,
    runtime double precision
);

-- The record of a task: TaskStateRecord. Its version is (retries, run_at, rank, status, changed_at), larger wins.
CREATE TABLE oracle.task_state_record (
    -- fixed width first: what every update rewrites
    created_at      timestamptz      NOT NULL,  -- the earliest fact
    received_at     timestamptz,                -- of the current run, as started_at
    started_at      timestamptz,
    finished_at     timestamptz,
    changed_at      timestamptz      NOT NULL,  -- the current version's own time
    run_at          timestamptz      NOT NULL,  -- when the current run was minted; 'epoch': no run yet
    runtime         double precision,           -- seconds
    eta             timestamptz,
    expires         timestamptz,
    retries         integer          NOT NULL,
    status          smallint         NOT NULL CHECK (status BETWEEN 0 AND 4),  -- oracle_celery.states.Status
    rank            smallint         NOT NULL,  -- oracle_celery.states.Rank
    -- the version before the last upsert: tells what changed to the statement that changed it
    was_status      smallint,
    was_rank        smallint,
    was_retries     integer,
    was_run_at      timestamptz,
    was_changed_at  timestamptz,
    worker_id       uuid,
    task_id         text COLLATE "C" PRIMARY KEY,
    name            text COLLATE "C",
    queue           text COLLATE "C",
    user_id         text COLLATE "C",
    worker          text COLLATE "C",           -- Celery's node name
    reason          text COLLATE "C",
    run_id          text COLLATE "C",
    origin          text COLLATE "C",           -- pid@host of whoever told the current version
    trace_id        text COLLATE "C",
    root_id         text COLLATE "C",
    parent_id       text COLLATE "C",
    group_id        text COLLATE "C",
    error_type      text,
    error_message   text,
    traceback       text,
    arguments       json,
    result_payload  json,
    was_counted     oracle.contribution
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

CREATE INDEX task_created ON oracle.task_state_record (created_at);
CREATE INDEX task_owner ON oracle.task_state_record (user_id, created_at) WHERE user_id IS NOT NULL;
CREATE INDEX task_active ON oracle.task_state_record (status, created_at) WHERE status < 2;
CREATE INDEX task_failed ON oracle.task_state_record (created_at) WHERE status = 3;
-- What a broker may have dropped: tasks that were sent with a last moment. Few have one, and it never changes.
CREATE INDEX task_expiring ON oracle.task_state_record (expires) WHERE status = 0 AND expires IS NOT NULL;

-- Every fact as it was told. Readers follow txid (see cursor.py): history_id is not commit order.
CREATE TABLE oracle.task_transition (
    history_id    bigint           GENERATED ALWAYS AS IDENTITY,
    txid          xid8             NOT NULL,
    at            timestamptz      NOT NULL,
    run_at        timestamptz      NOT NULL,
    runtime       double precision,
    retries       integer          NOT NULL,
    status        smallint         NOT NULL,
    rank          smallint         NOT NULL,
    task_id       text COLLATE "C" NOT NULL,
    reason        text COLLATE "C",
    run_id        text COLLATE "C",
    worker        text COLLATE "C",
    origin        text COLLATE "C",
    error_type    text,
    error_message text
) WITH (autovacuum_vacuum_insert_scale_factor = 0.1);

CREATE INDEX transition_txid ON oracle.task_transition (txid);
CREATE INDEX transition_task ON oracle.task_transition (task_id);

-- Exactly once: how far each journal file is in.
CREATE TABLE oracle.journal_fence (
    file_id     uuid        PRIMARY KEY,
    range_start bigint      NOT NULL,  -- of the last range applied
    position    bigint      NOT NULL,  -- its end
    applied_at  timestamptz NOT NULL
) WITH (fillfactor = 50);

-- One offset per boot of a host, for the order of runs: measured again, it would differ by a little, and facts of one
-- run that two recorders send would no longer belong together.
CREATE TABLE oracle.boot_clock (
    boot_id   text        PRIMARY KEY,
    offset_ns bigint      NOT NULL,
    used_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row per change of what a key counts; folded into statistic_minute, so that no counter is ever a hot row.
-- minute is 'epoch' for tasks that are not final: those sums are the gauges "queued" and "active".
CREATE TABLE oracle.statistic_delta (
    minute  timestamptz      NOT NULL,
    runtime double precision NOT NULL,  -- sum of seconds
    tasks   integer          NOT NULL,
    timed   integer          NOT NULL,  -- of them with a runtime
    status  smallint         NOT NULL,
    user_id text COLLATE "C" NOT NULL,  -- '' for none, as name and queue
    name    text COLLATE "C" NOT NULL,
    queue   text COLLATE "C" NOT NULL
);

-- The same sums per minute. everyone: the sum over all users, for those who may see every task.
CREATE TABLE oracle.statistic_minute (
    minute   timestamptz      NOT NULL,
    runtime  double precision NOT NULL,
    tasks    bigint           NOT NULL,
    timed    bigint           NOT NULL,
    status   smallint         NOT NULL,
    everyone boolean          NOT NULL,
    user_id  text COLLATE "C" NOT NULL,
    name     text COLLATE "C" NOT NULL,
    queue    text COLLATE "C" NOT NULL,
    PRIMARY KEY (everyone, user_id, minute, name, queue, status)
) WITH (fillfactor = 70);

-- What running tasks logged.
CREATE TABLE oracle.task_log (
    line_id bigint           GENERATED ALWAYS AS IDENTITY,
    txid    xid8             NOT NULL,
    at      timestamptz      NOT NULL,
    level   integer          NOT NULL,  -- of Python's logging
    number  integer          NOT NULL,  -- within its run
    task_id text COLLATE "C" NOT NULL,
    run_id  text COLLATE "C",
    logger  text,
    message text
) WITH (autovacuum_vacuum_insert_scale_factor = 0.1);

CREATE INDEX log_task ON oracle.task_log (task_id, line_id);

-- One incarnation of a worker.
CREATE TABLE oracle.worker (
    worker_id   uuid             PRIMARY KEY,
    node        text COLLATE "C" NOT NULL,
    origin      text             NOT NULL,  -- pid@host
    pool        text             NOT NULL,
    concurrency integer          NOT NULL,
    queues      text[]           NOT NULL,
    versions    json             NOT NULL,  -- of Python, Celery and Oracle
    started_at  timestamptz      NOT NULL,
    beat_at     timestamptz      NOT NULL,
    active      integer          NOT NULL DEFAULT 0,  -- runs under way, as of beat_at
    reserved    integer          NOT NULL DEFAULT 0,  -- messages held, likewise
    counts      json,                       -- what its recorder has done
    stopped_at  timestamptz,                -- it said goodbye
    lost_at     timestamptz                 -- it was given up
) WITH (fillfactor = 50);

CREATE INDEX worker_alive ON oracle.worker (beat_at) WHERE stopped_at IS NULL AND lost_at IS NULL;

-- Cursors below this have lost history to retention. One row.
CREATE TABLE oracle.history_floor (txid xid8 NOT NULL);
INSERT INTO oracle.history_floor VALUES ('0');

CREATE FUNCTION oracle.status_word(status smallint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (ARRAY ['pending', 'in_progress', 'completed', 'failed', 'cancelled'])[status + 1];

-- What is said on oracle_channel.
CREATE FUNCTION oracle.notification(task_id text, status smallint, at timestamptz) RETURNS text LANGUAGE sql STABLE
RETURN '{"task_id":' || to_json(task_id) || ',"new_status":"' || oracle.status_word(status)
    || '","timestamp":"' || to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') || '"}';

-- The fence: the files whose next range this is. Their position is moved to the range's end, so that the same range
-- sent again, after a COMMIT whose answer was lost, applies nothing.
CREATE FUNCTION oracle.move_fence(p_files uuid[], p_starts bigint[], p_ends bigint[]) RETURNS uuid[]
LANGUAGE plpgsql AS $$
DECLARE
    v_files uuid[];
BEGIN
    WITH moved AS (
        INSERT INTO oracle.journal_fence AS j (file_id, range_start, position, applied_at)
        SELECT f, s, e, clock_timestamp() FROM unnest(p_files, p_starts, p_ends) AS x (f, s, e) ORDER BY f
        ON CONFLICT (file_id) DO UPDATE
            SET range_start = excluded.range_start, position = excluded.position, applied_at = excluded.applied_at
            WHERE j.position = excluded.range_start
        RETURNING j.file_id
    )
    SELECT coalesce(array_agg(file_id), '{}') INTO v_files FROM moved;
    RETURN v_files;
END
$$;

-- The files that move_fence left out, because their ranges are in already. A range that begins after its file's
-- position, or ends after it without beginning there, is an error: facts between them would be lost, or told twice.
CREATE FUNCTION oracle.already_in(p_files uuid[], p_starts bigint[], p_ends bigint[], p_moved uuid[])
RETURNS uuid[] LANGUAGE plpgsql AS $$
DECLARE
    v_gap  record;
    v_left uuid[];
BEGIN
    IF cardinality(p_moved) = cardinality(p_files) THEN
        RETURN '{}';
    END IF;
    SELECT x.f, x.s, x.e, j.position INTO v_gap
    FROM unnest(p_files, p_starts, p_ends) AS x (f, s, e) JOIN oracle.journal_fence AS j ON j.file_id = x.f
    WHERE x.f <> ALL (p_moved) AND j.position < x.e LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'OR001',
            MESSAGE = format('file %s is in up to %s, not to %s where the range up to %s begins',
                             v_gap.f, v_gap.position, v_gap.s, v_gap.e);
    END IF;
    v_left := ARRAY(SELECT x.f FROM unnest(p_files) AS x (f) WHERE x.f <> ALL (p_moved));
    RETURN v_left;
END
$$;

-- What a recorder sends: at most one range of each file. p_bodies holds a JSON array for each, separated by a control
-- character that no JSON text contains.
CREATE FUNCTION oracle.ingest(
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
            x.p AS result_payload, x.g AS error_type, x.f AS error_message, x.b AS traceback, x.t AS trace_id,
            x.h AS eta, x.x AS expires, x.ro AS root_id, x.pa AS parent_id, x.gr AS group_id,
            -- a task may be sent from within another one: that worker is not this task's
            CASE WHEN x.k > 0 THEN f.node END AS node, CASE WHEN x.k > 0 THEN f.worker END AS worker, f.origin
        FROM unnest(p_files, p_offsets, p_run_offsets, p_nodes, p_workers, p_origins,
                string_to_array(p_bodies, chr(30))) AS f (file_id, o, ro, node, worker, origin, body),
            json_to_recordset(f.body::json) AS x (
                i text COLLATE "C", s smallint, k smallint, m bigint, e text COLLATE "C", r integer,
                v text COLLATE "C", u bigint, n text COLLATE "C", q text COLLATE "C", o text COLLATE "C",
                a text COLLATE "C", p json, g text, f text, b text, t text COLLATE "C", d double precision,
                h double precision, x double precision, ro text COLLATE "C", pa text COLLATE "C", gr text COLLATE "C")
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
    history AS (
        INSERT INTO oracle.task_transition (txid, at, run_at, runtime, retries, status, rank, task_id, reason, run_id,
            worker, origin, error_type, error_message)
        SELECT v_txid, at, run_at, runtime, retries, status, rank, task_id, reason, run_id,
            node, origin, error_type, error_message
        FROM fact
    ),
    -- What any fact of a task may tell: least and greatest, so that their order does not matter.
    merged AS (
        SELECT task_id, min(at) AS created_at, max(eta) AS eta, max(expires) AS expires,
            min(name) AS name, min(queue) AS queue, min(user_id) AS user_id, min(trace_id) AS trace_id,
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
            root_id, parent_id, group_id, error_type, error_message, traceback, arguments, result_payload)
        SELECT m.created_at, m.received_at, m.started_at, CASE WHEN w.status > 1 THEN w.at END, w.at, w.run_at,
            w.runtime, to_timestamp(m.eta), to_timestamp(m.expires), w.retries, w.status, w.rank, w.worker, m.task_id,
            m.name, m.queue, m.user_id, m.worker, w.reason, m.run_id, w.origin, m.trace_id, m.root_id, m.parent_id,
            m.group_id, w.error_type, w.error_message, w.traceback, m.arguments::json, w.result_payload
        FROM merged AS m JOIN fact AS w ON w.task_id = m.task_id AND w.wins
        ORDER BY m.task_id
        ON CONFLICT (task_id) DO UPDATE SET
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
            trace_id = least(t.trace_id, excluded.trace_id),
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
            t.was_status, t.was_rank, t.was_retries, t.was_run_at, t.was_changed_at, t.was_counted
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

-- Facts that nobody journalled: the sidecar's own inferences, by the same fold. p_lines is a JSON array; times in it
-- are the database's, in nanoseconds since the epoch.
CREATE FUNCTION oracle.infer(p_node text, p_worker uuid, p_lines text) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_file    uuid := gen_random_uuid();
    v_applied integer;
BEGIN
    v_applied := applied FROM oracle.ingest(ARRAY[v_file], '{0}', '{0}', '{0}', '{0}', ARRAY[p_node], ARRAY[p_worker],
        '{oracle}', p_lines, 'transactional');
    DELETE FROM oracle.journal_fence WHERE file_id = v_file;
    RETURN v_applied;
END
$$;

-- A worker is given up: what it runs has failed, as far as anybody can tell. Whatever its own processes report after
-- all, or a newer run, has a higher version. Tasks that it only held are left alone: the broker gives them to another.
CREATE FUNCTION oracle.mark_lost(p_worker uuid, p_silence interval)
RETURNS TABLE (task_id text, name text, user_id text) LANGUAGE plpgsql AS $$
DECLARE
    v_worker oracle.worker;
    v_tasks  text[];
    v_lines  text;
BEGIN
    UPDATE oracle.worker AS w SET lost_at = clock_timestamp(), active = 0, reserved = 0
    WHERE w.worker_id = p_worker AND w.stopped_at IS NULL AND w.beat_at <= clock_timestamp() - p_silence
    RETURNING w.* INTO v_worker;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT array_agg(r.task_id), string_agg(json_build_object(
            'i', r.task_id, 's', 3, 'k', 30, 'e', 'worker_lost', 'r', r.retries, 'v', r.run_id,
            'm', (extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 1000,
            'u', (extract(epoch FROM nullif(r.run_at, 'epoch')) * 1000000)::bigint * 1000,
            'g', 'WorkerLostError', 'f', format('Worker %s fell silent.', v_worker.node))::text, ',')
    INTO v_tasks, v_lines
    FROM (
        SELECT t.* FROM oracle.task_state_record AS t
        WHERE t.status = 1 AND t.worker_id = p_worker ORDER BY t.task_id FOR UPDATE
    ) AS r;
    IF v_tasks IS NULL THEN
        RETURN;
    END IF;
    PERFORM oracle.infer(v_worker.node, p_worker, '[' || v_lines || ']');
    RETURN QUERY SELECT t.task_id, t.name, t.user_id FROM oracle.task_state_record AS t
        WHERE t.task_id = ANY (v_tasks) ORDER BY t.task_id;
END
$$;

CREATE FUNCTION oracle.ingest_logs(
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
    WITH line AS (
        INSERT INTO oracle.task_log (txid, at, level, number, task_id, run_id, logger, message)
        SELECT v_txid, to_timestamp((x.m + f.o) / 1000 / 1e6::float8), x.l, coalesce(x.z, 0), x.i, x.v, x.g, x.f
        FROM unnest(p_files, p_offsets, string_to_array(p_bodies, chr(30))) AS f (file_id, o, body),
            json_to_recordset(f.body::json) AS x (
                i text COLLATE "C", v text COLLATE "C", m bigint, z integer, l integer, g text, f text)
        WHERE f.file_id = ANY (v_files)
        RETURNING task_id
    ),
    payload AS (
        SELECT oracle.notification(t.task_id, t.status, t.changed_at) AS payload
        FROM oracle.task_state_record AS t
        WHERE t.task_id = (SELECT task_id FROM line LIMIT 1) AND p_notify <> 'never'
    )
    SELECT (SELECT count(*) FROM line),
        CASE p_notify WHEN 'transactional'
            THEN (SELECT count(pg_notify('oracle_channel', payload)) FROM payload) ELSE 0 END,
        CASE p_notify WHEN 'after_commit' THEN (SELECT array_agg(payload) FROM payload) END
    INTO applied, notified, notifications;
END
$$;
