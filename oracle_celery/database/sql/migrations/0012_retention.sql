-- Retention: the history and the log in partitions of a day each, so that what is too old goes by dropping tables; how
-- transactions follow time, so that readers look into a few partitions only; and what has gone already.

-- A partition is chosen by the server's time of storing a row, never by a worker's clock. The tables of before become
-- the first partitions: they are read once, to be sure of their bounds, and not copied. What no partition is for goes
-- into the default one; the sidecar that leads makes partitions ahead, and gives what is in the default one its place.
DO $$
DECLARE
    v_end     timestamptz := date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + interval '2 days';
    v_table   text;
    v_key     text;
    v_next    bigint;
    v_index   record;
    v_indexes text[];
BEGIN
    FOR v_table, v_key IN VALUES ('task_transition', 'history_id'), ('task_log', 'line_id') LOOP
        EXECUTE format('LOCK TABLE oracle.%I IN ACCESS EXCLUSIVE MODE', v_table);
        EXECUTE format('SELECT last_value + is_called::integer FROM %s',
            pg_get_serial_sequence('oracle.' || v_table, v_key)) INTO v_next;
        -- the same for every row that is there, so that none is written again
        EXECUTE format('ALTER TABLE oracle.%I ADD COLUMN stored_at timestamptz NOT NULL DEFAULT now(),'
            ' ALTER COLUMN %I DROP IDENTITY', v_table, v_key);
        EXECUTE format('ALTER TABLE oracle.%I ALTER COLUMN stored_at SET DEFAULT clock_timestamp()', v_table);

        v_indexes := '{}';
        FOR v_index IN SELECT c.relname AS name, pg_get_indexdef(c.oid) AS definition
            FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
            WHERE i.indrelid = ('oracle.' || v_table)::regclass
        LOOP
            v_indexes := v_indexes || v_index.definition;
            EXECUTE format('ALTER INDEX oracle.%I RENAME TO %I', v_index.name, v_index.name || '_first');
        END LOOP;
        EXECUTE format('ALTER TABLE oracle.%I RENAME TO %I', v_table, v_table || '_first');

        -- not an identity: before PostgreSQL 17 partitions cannot have one
        EXECUTE format('CREATE SEQUENCE oracle.%I START %s', v_table || '_' || v_key || '_seq', v_next);
        EXECUTE format('CREATE TABLE oracle.%I (LIKE oracle.%I INCLUDING DEFAULTS) PARTITION BY RANGE (stored_at)',
            v_table, v_table || '_first');
        EXECUTE format('ALTER TABLE oracle.%I ALTER COLUMN %I SET DEFAULT nextval(%L)',
            v_table, v_key, 'oracle.' || v_table || '_' || v_key || '_seq');
        EXECUTE format('ALTER SEQUENCE oracle.%I OWNED BY oracle.%I.%I',
            v_table || '_' || v_key || '_seq', v_table, v_key);
        FOR i IN 1 .. cardinality(v_indexes) LOOP
            EXECUTE v_indexes[i];
        END LOOP;
        EXECUTE format('ALTER TABLE oracle.%I ATTACH PARTITION oracle.%I FOR VALUES FROM (MINVALUE) TO (%L)',
            v_table, v_table || '_first', v_end);
        EXECUTE format('CREATE TABLE oracle.%I (LIKE oracle.%I INCLUDING DEFAULTS)'
            ' WITH (autovacuum_vacuum_insert_scale_factor = 0.1)', v_table || '_default', v_table);
        EXECUTE format('ALTER TABLE oracle.%I ATTACH PARTITION oracle.%I DEFAULT', v_table, v_table || '_default');
    END LOOP;
END
$$;

-- What was stored before has been deleted, as far as it went by partitions; null: nothing has.
ALTER TABLE oracle.history_floor
    ADD COLUMN history_until timestamptz,
    ADD COLUMN logs_until timestamptz;

-- How transactions follow time: what transactions from txid on have stored, they stored after `at`, by the server's
-- clock; and the latest transaction of the history that was known by then. Written by the leader, one an hour.
CREATE TABLE oracle.history_mark (
    txid   xid8        PRIMARY KEY,
    latest xid8        NOT NULL,
    at     timestamptz NOT NULL
);
INSERT INTO oracle.history_mark
SELECT pg_snapshot_xmax(pg_current_snapshot())::text::xid8, coalesce((SELECT max(txid) FROM oracle.task_transition), '0'),
    clock_timestamp();

-- As in 0002, but retention may delete: it says so for its own transaction.
CREATE OR REPLACE FUNCTION oracle.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('oracle.retention', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION USING ERRCODE = 'OR002', MESSAGE = format('%s is only ever appended to', TG_TABLE_NAME);
END
$$;

-- Vacuum comes by a count of rows where a table is small and changes without end, so that it stays small; it gives no
-- pages back where that would have to lock recorders out.
ALTER TABLE oracle.statistic_delta SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 50000, vacuum_truncate = off);
ALTER TABLE oracle.journal_fence SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
ALTER TABLE oracle.worker SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
ALTER TABLE oracle.task_progress SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
ALTER TABLE oracle.statistic_minute SET (autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE oracle.task_message SET (autovacuum_vacuum_scale_factor = 0.05);

-- The few tasks that took long, for whoever looks for them: found among millions that did not. A task that took less
-- costs no entry.
CREATE INDEX task_slow ON oracle.task_state_record (runtime) WHERE runtime >= 5;

-- Minutes that are too old are the first ones of their table: found without reading all of it, every hour.
CREATE INDEX statistic_age ON oracle.statistic_minute USING brin (minute);
