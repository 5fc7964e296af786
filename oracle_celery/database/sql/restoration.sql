-- A database that was restored from a dump: its rows carry the transaction numbers of the server that wrote them, and this
-- one has not come so far. Readers would take each of those rows for new, and none of what comes after them.

-- name: restored_transaction
-- The next number of this server, where one of the history is larger already. Asked at every start, so only by indexes.
SELECT n.txid::text::bigint
FROM (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::xid8) AS n (txid),
    LATERAL (
        (SELECT txid FROM oracle.task_transition ORDER BY txid DESC LIMIT 1)
        UNION ALL (SELECT latest FROM oracle.history_mark ORDER BY txid DESC LIMIT 1)
        UNION ALL (SELECT txid FROM oracle.history_floor)
    ) AS r (txid)
WHERE r.txid >= n.txid LIMIT 1;

-- name: renumber_rows
-- Where one number of a table is of the future, brings all of its numbers into the past, evenly and in the order that they
-- had; several become one only where there are more of them than the past has. By their places, not by their distances:
-- else one old row makes all others one transaction, which no reader can take in parts. A task's history is no longer
-- found by them: see is_listed in migration 0013.
UPDATE oracle.{table} AS t SET {unlisted} txid = n.becomes
FROM (
    SELECT txid, (3 + div((row_number() OVER (ORDER BY txid) - 1)::numeric * (%(next)s - 4), count(*) OVER ()))
        ::text::xid8 AS becomes
    FROM (SELECT DISTINCT txid FROM oracle.{table}) AS known
) AS n
WHERE n.txid = t.txid AND EXISTS (SELECT FROM oracle.{table} WHERE txid >= %(from)s::text::xid8);

-- name: renumber_floor
-- Cursors of before mean another server; they are refused by its name.
UPDATE oracle.history_floor SET txid = (%(next)s - 1)::text::xid8;

-- name: renumber_marks
WITH gone AS (DELETE FROM oracle.history_mark)
INSERT INTO oracle.history_mark (txid, latest, at)
SELECT %(from)s::text::xid8, coalesce((SELECT txid FROM oracle.task_transition ORDER BY txid DESC LIMIT 1), '0'),
    clock_timestamp();
