-- What `celery -A app oracle doctor` asks of a server.

-- name: examine_server
-- Version, the server's clock, connections that may still be made, whether it only replays another server, whether it
-- takes no writes, whether commits wait for a standby and none is there, and how full the queue of notifications is.
SELECT current_setting('server_version_num')::int, extract(epoch FROM clock_timestamp())::float8,
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
        - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::int,
    pg_is_in_recovery(),
    current_setting('transaction_read_only')::bool AND NOT pg_is_in_recovery(),
    current_setting('synchronous_standby_names') <> ''
        AND current_setting('synchronous_commit') NOT IN ('local', 'off')
        AND NOT pg_is_in_recovery() AND NOT EXISTS (SELECT FROM pg_stat_replication),
    CASE WHEN pg_is_in_recovery() THEN 0.0 ELSE pg_notification_queue_usage() END

-- name: examine_transactions
-- Seconds for which the oldest transaction of this database has been open, and whose it is: autovacuum waits for it. What
-- belongs to no user is the server's own: autovacuum takes as long as it takes, and does not wait for itself.
SELECT extract(epoch FROM clock_timestamp() - xact_start)::float8, coalesce(nullif(application_name, ''), usename, '?'), pid
FROM pg_stat_activity
WHERE datname = current_database() AND xact_start IS NOT NULL AND usesysid IS NOT NULL
    AND pid <> pg_backend_pid()
ORDER BY xact_start LIMIT 1

-- name: examine_slots
-- Replication slots, whether somebody uses them, and bytes of WAL that they keep.
SELECT slot_name, active, coalesce(pg_wal_lsn_diff(
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, restart_lsn), 0)::bigint
FROM pg_replication_slots
ORDER BY 3 DESC

-- name: examine_blockers
-- Tables of ours on which somebody else holds a lock that keeps others from writing, and who that is. Not the
-- server itself, known by having no user: autovacuum gives way, and a standby locks what it replays.
SELECT DISTINCT ON (l.pid) c.relname, coalesce(nullif(a.application_name, ''), a.usename, '?'), l.pid
FROM pg_locks AS l
JOIN pg_class AS c ON c.oid = l.relation
JOIN pg_stat_activity AS a ON a.pid = l.pid
WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND c.relnamespace = to_regnamespace('oracle') AND l.granted AND l.pid <> pg_backend_pid()
    AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
    AND a.usesysid IS NOT NULL AND NOT starts_with(a.application_name, 'oracle-')
ORDER BY l.pid

-- name: examine_writing
-- Rolled back by whoever asks.
CREATE TEMPORARY TABLE oracle_examination ON COMMIT DROP AS
SELECT repeat('x', 1000) AS padding FROM generate_series(1, 1000)

-- name: examine_default_partitions
-- Tables of ours with a default partition, and that.
SELECT parent.relname, child.relname
FROM pg_inherits AS i
JOIN pg_class AS parent ON parent.oid = i.inhparent
JOIN pg_class AS child ON child.oid = i.inhrelid
WHERE child.relnamespace = to_regnamespace('oracle') AND pg_get_expr(child.relpartbound, child.oid) = 'DEFAULT'
ORDER BY 1

-- name: examine_recorders
-- What living workers' recorders have told.
SELECT node, counts FROM oracle.worker
WHERE stopped_at IS NULL AND lost_at IS NULL AND counts IS NOT NULL
ORDER BY node

-- name: examine_waits
-- Seconds: until the last eta of a pending task, and of the longest run under way.
SELECT coalesce(extract(epoch FROM max(eta) FILTER (WHERE status = 0) - clock_timestamp()), 0)::float8,
    coalesce(extract(epoch FROM clock_timestamp() - min(started_at) FILTER (WHERE status = 1)), 0)::float8
FROM oracle.task_state_record
WHERE status < 2
