-- What the recorder says, besides migrations the only statements that change tasks, fences and workers.

-- name: ingest
-- Facts of several journal files, at most one range of each: fence, history, one upsert per task, statistics and
-- notifications in one statement.
SELECT applied, skipped::text[], notified, notifications
FROM oracle.ingest(%(files)s::uuid[], %(starts)s::bigint[], %(ends)s::bigint[], %(offsets)s::bigint[],
    %(run_offsets)s::bigint[], %(nodes)s::text[], %(workers)s::uuid[], %(origins)s::text[], %(bodies)s, %(notify)s);

-- name: ingest_logs
-- Log lines of several journal files, behind the same fence.
SELECT applied, skipped::text[], notified, notifications
FROM oracle.ingest_logs(%(files)s::uuid[], %(starts)s::bigint[], %(ends)s::bigint[], %(offsets)s::bigint[],
    %(bodies)s, %(notify)s);

-- name: ingest_messages
-- Kept messages of several journal files, behind the same fence.
SELECT applied, skipped::text[], 0, NULL::text[]
FROM oracle.ingest_messages(%(files)s::uuid[], %(starts)s::bigint[], %(ends)s::bigint[], %(offsets)s::bigint[],
    %(bodies)s);

-- name: notify
-- The doorbell after a commit.
SELECT count(pg_notify('oracle_channel', payload)) FROM unnest(%(payloads)s::text[]) AS payload;

-- name: fence_positions
-- How far the named files are in.
SELECT file_id::text, position FROM oracle.journal_fence WHERE file_id = ANY (%(files)s::uuid[]);

-- name: forget_files
-- The named files are deleted.
DELETE FROM oracle.journal_fence WHERE file_id = ANY (%(files)s::uuid[]);

-- name: clock
-- The database's time in microseconds since the epoch.
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;

-- name: pin_clock
-- The offset between a host's monotonic clock and the database's time by which the runs of one boot of that host are
-- ordered: whoever comes first says it, for everybody.
WITH pinned AS (
    INSERT INTO oracle.boot_clock (boot_id, offset_ns) VALUES (%(boot_id)s, %(offset_ns)s)
    ON CONFLICT (boot_id) DO UPDATE SET used_at = clock_timestamp()
    RETURNING offset_ns
)
SELECT offset_ns FROM pinned;

-- name: register_worker
-- A worker starts, or comes back after it was given up.
INSERT INTO oracle.worker AS w (worker_id, node, origin, pool, concurrency, queues, versions, interruptible,
    started_at, beat_at)
VALUES (%(worker_id)s, %(node)s, %(origin)s, %(pool)s, %(concurrency)s, %(queues)s::text[], %(versions)s::json,
    %(interruptible)s, clock_timestamp(), clock_timestamp())
ON CONFLICT (worker_id) DO UPDATE
SET node = excluded.node, origin = excluded.origin, pool = excluded.pool, concurrency = excluded.concurrency,
    queues = excluded.queues, versions = excluded.versions, interruptible = excluded.interruptible,
    beat_at = excluded.beat_at, stopped_at = NULL, lost_at = NULL;

-- name: beat
-- A worker is alive. Returns no row for an unknown one, which must register again.
UPDATE oracle.worker
SET beat_at = clock_timestamp(), active = %(active)s, reserved = %(reserved)s, cpu = %(cpu)s, memory = %(memory)s,
    queues = coalesce(%(queues)s::text[], queues), counts = coalesce(%(counts)s::json, counts),
    rate_limits = coalesce(%(rate_limits)s::json, rate_limits), stopped_at = NULL, lost_at = NULL
WHERE worker_id = %(worker_id)s
RETURNING worker_id;

-- name: retire_worker
-- A worker says goodbye.
UPDATE oracle.worker SET stopped_at = clock_timestamp(), active = 0, reserved = 0 WHERE worker_id = %(worker_id)s;

-- name: control_changes
-- What is wanted of tasks and queues since a number, or all of it. The first row tells the newest number, and
-- whether this is all. Numbers become visible in their order, so nothing comes in later below the newest one. A task
-- that was cancelled too late is no longer wanted gone; one that was dropped may come again, delivered twice.
WITH newest AS (
    SELECT greatest((SELECT max(seq) FROM oracle.cancellation), (SELECT max(seq) FROM oracle.queue_pause), 0) AS seq
),
known AS (
    SELECT CASE WHEN %(after)s::bigint <= newest.seq THEN %(after)s::bigint END AS seq, newest.seq AS newest FROM newest
)
SELECT '' AS kind, '' AS key, known.newest AS seq, known.seq IS NULL AS flag, NULL::double precision AS remaining
FROM known
UNION ALL
SELECT 'cancel', c.task_id, c.seq, NULL, NULL
FROM known JOIN oracle.cancellation AS c ON c.seq > coalesce(known.seq, 0) AND c.seq <= known.newest
WHERE c.settled_at IS NULL OR c.settled_as = 'cancelled' AND c.settled_at > clock_timestamp() - interval '1 day'
UNION ALL
SELECT 'pause', p.queue, p.seq, p.is_paused, extract(epoch FROM p.until - clock_timestamp())::double precision
FROM known JOIN oracle.queue_pause AS p ON p.seq > coalesce(known.seq, 0) AND p.seq <= known.newest
ORDER BY kind, seq;

-- name: report_control
-- A worker has acted. Returns no row for an unknown one, of which nothing is noted.
WITH w AS (
    UPDATE oracle.worker SET control_seq = %(seq)s, consuming = %(consuming)s::text[]
    WHERE worker_id = %(worker_id)s RETURNING worker_id
),
report AS (
    INSERT INTO oracle.pause_report AS r (worker_id, queue, seq, state, confirmed_at)
    SELECT w.worker_id, x.queue, x.seq, x.state, clock_timestamp()
    FROM w, unnest(%(queues)s::text[], %(seqs)s::bigint[], %(states)s::text[]) AS x (queue, seq, state)
    ON CONFLICT (worker_id, queue) DO UPDATE
        SET seq = excluded.seq, state = excluded.state, confirmed_at = excluded.confirmed_at
)
SELECT worker_id, pg_notify('oracle_control', json_build_object('kind', 'report', 'id', worker_id)::text) FROM w;

-- name: bound_transaction
-- What a writer's session is told at its start, for one transaction of a pooler's.
SELECT set_config('statement_timeout', %(statement_timeout)s, true), set_config('lock_timeout', %(lock_timeout)s, true),
    CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'local', true) END;

-- name: synchronous_commit
-- A cursor may promise only what a crash of the server keeps.
SELECT set_config('synchronous_commit', 'local', false) WHERE current_setting('synchronous_commit') = 'off';

-- name: keepalives
-- The server, too, finds out within seconds that a client has vanished, and gives up its session with what that holds
-- locked. By itself it asks after two hours.
SELECT set_config('tcp_keepalives_idle', '5', false), set_config('tcp_keepalives_interval', '3', false),
    set_config('tcp_keepalives_count', '3', false), set_config('tcp_user_timeout', '10000', false);
