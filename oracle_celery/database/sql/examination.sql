-- What `celery -A app oracle doctor` asks of a server.

-- name: examine_server
-- Version, the server's clock, connections that may still be made, and whether it only replays another server.
SELECT current_setting('server_version_num')::int, extract(epoch FROM clock_timestamp())::float8,
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
        - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::int,
    pg_is_in_recovery()

-- name: examine_transactions
-- Seconds for which the oldest transaction of this database has been open, and whose it is: autovacuum waits for it.
SELECT extract(epoch FROM clock_timestamp() - xact_start)::float8, coalesce(nullif(application_name, ''), usename, '?'), pid
FROM pg_stat_activity
WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
ORDER BY xact_start LIMIT 1
