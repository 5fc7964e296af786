-- What keeps the tables of upkeep small for years: deltas whose file can be emptied, indexes by age for whatever goes by
-- its age, and messages that are looked at until their task has ended, not for a week.
-- compatible with: 13

-- Deltas that were there when their table was changed for an empty one: a part of it for whoever reads, but nothing is
-- ever added. See statistic_deltas.py.
CREATE TABLE oracle.statistic_delta_rest (LIKE oracle.statistic_delta INCLUDING ALL)
    WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
        autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 50000, vacuum_truncate = off);
ALTER TABLE oracle.statistic_delta_rest INHERIT oracle.statistic_delta;

-- A BRIN index says where rows were when its pages were new: once rows go and others take their place, every page may
-- hold old ones, and each look reads all.
DROP INDEX oracle.statistic_age;
CREATE INDEX statistic_age ON oracle.statistic_minute (minute) WHERE minute > 'epoch';
CREATE INDEX half_hour_age ON oracle.statistic_half_hour (everyone, start);
CREATE INDEX gauge_age ON oracle.gauge_sample (at);
DROP INDEX oracle.failure_at;
CREATE INDEX failure_at ON oracle.task_failure (at);
CREATE INDEX failure_count_age ON oracle.failure_count (slot);
CREATE INDEX schedule_run_age ON oracle.schedule_run (ran_at);

-- Whether its task had not ended when it was last looked at. Of those that are there, the ones of tasks that have failed
-- or were cancelled stay as they are; whatever comes is looked at.
ALTER TABLE oracle.task_message ADD COLUMN awaits_end boolean NOT NULL DEFAULT false;
ALTER TABLE oracle.task_message ALTER COLUMN awaits_end SET DEFAULT true;
CREATE INDEX message_awaiting ON oracle.task_message (task_id) WHERE awaits_end;
UPDATE oracle.task_message AS m SET awaits_end = true
WHERE NOT EXISTS (SELECT FROM oracle.task_state_record AS t WHERE t.task_id = m.task_id AND t.status IN (3, 4));
ANALYZE oracle.task_message (awaits_end);  -- without it the planner takes half of them to be waiting

-- As in 0002; a message that comes anew, with a new run, is looked at anew.
CREATE OR REPLACE FUNCTION oracle.ingest_messages(
    p_files uuid[], p_starts bigint[], p_ends bigint[], p_offsets bigint[], p_bodies text,
    OUT applied integer, OUT skipped uuid[]
) LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET jit = off
AS $$
DECLARE
    v_files uuid[] := oracle.move_fence(p_files, p_starts, p_ends);
BEGIN
    applied := 0;
    skipped := oracle.already_in(p_files, p_starts, p_ends, v_files);
    IF v_files = '{}' THEN
        RETURN;
    END IF;
    WITH line AS MATERIALIZED (
        SELECT x.i AS task_id, to_timestamp((x.m + f.o) / 1000 / 1e6::float8) AS at, coalesce(x.c, false) AS member,
            x.w AS missing, x.y AS key_id, x.b AS body
        FROM unnest(p_files, p_offsets, string_to_array(p_bodies, chr(30))) AS f (file_id, o, body),
            json_to_recordset(f.body::json) AS x (
                i text COLLATE "C", m bigint, c boolean, w text, y text, b text)
        WHERE f.file_id = ANY (v_files)
    ),
    kept AS (
        INSERT INTO oracle.task_message AS k (task_id, at, is_chord_member, missing, key_id, envelope)
        SELECT DISTINCT ON (task_id) task_id, at, member, missing, key_id, decode(body, 'base64')
        FROM line ORDER BY task_id, at DESC
        ON CONFLICT (task_id) DO UPDATE
            SET at = excluded.at, is_chord_member = excluded.is_chord_member, missing = excluded.missing,
                key_id = excluded.key_id, envelope = excluded.envelope, awaits_end = true
            WHERE k.at <= excluded.at
    )
    SELECT count(*) INTO applied FROM line;
END
$$;
