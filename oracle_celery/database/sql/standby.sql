-- How a standby is compared with its primary.

-- name: primary_mark
-- Where the primary is: its snapshot, the newest rows in it, and how far its log is flushed. All that the snapshot sees
-- is in the log before that place, because Oracle's commits wait for the flush.
{snapshot}
SELECT s.*, pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint,
    (SELECT max(txid)::text::bigint FROM oracle.task_transition), (SELECT max(txid)::text::bigint FROM oracle.task_log)
FROM snapshot AS s;

-- name: standby_place
-- What this server replays, and how far it is: what a later statement sees is that, or newer. A standby's control file
-- learns of a new timeline some time after the standby has followed it, never before. An address may also lead to a
-- primary, after a failover.
SELECT c.system_identifier # ((d.oid::bigint << 31) | d.oid::bigint),
    CASE WHEN pg_is_in_recovery()
        THEN (SELECT greatest(k.timeline_id, r.min_recovery_end_timeline)::bigint
            FROM pg_control_checkpoint() AS k, pg_control_recovery() AS r)
        ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint END,
    CASE WHEN pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint
        ELSE pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint END
FROM pg_control_system() AS c, pg_database AS d WHERE d.datname = current_database();
