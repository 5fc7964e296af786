-- The schedule of celery beat: what is to be sent, what was, and what was missed. Beat tells it; nobody else writes.

-- One incarnation of a beat.
CREATE TABLE oracle.beat (
    beat_id    uuid        PRIMARY KEY,
    origin     text        NOT NULL,            -- pid@host
    node       text COLLATE "C",                -- of the worker that it is part of (celery worker -B)
    scheduler  text        NOT NULL,            -- the class
    started_at timestamptz NOT NULL,
    beat_at    timestamptz NOT NULL,
    stopped_at timestamptz                      -- it said goodbye
) WITH (fillfactor = 50);

-- An entry as its beat told it last. due: from last_run_at on, by the schedule itself; some of it may have passed.
CREATE TABLE oracle.schedule_entry (
    name        text COLLATE "C" PRIMARY KEY,
    beat_id     uuid        NOT NULL,
    task        text COLLATE "C",
    schedule    json        NOT NULL,           -- facts: see beat_schedule.describe_schedule
    zone        text,                           -- in which its hours are meant
    arguments   json,
    queue       text COLLATE "C",
    last_run_at timestamptz,                    -- what beat counts from: a run, or its own start
    total_runs  bigint      NOT NULL,
    due         timestamptz[] NOT NULL
) WITH (fillfactor = 50);

-- Which task came of an entry.
CREATE TABLE oracle.schedule_run (
    name    text COLLATE "C" NOT NULL,
    ran_at  timestamptz      NOT NULL,          -- by beat's clock, as its due times
    task_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (name, ran_at)
);

CREATE INDEX schedule_run_task ON oracle.schedule_run (task_id);

-- Due times that passed without a run.
CREATE TABLE oracle.schedule_missed (
    name   text COLLATE "C" NOT NULL,
    due_at timestamptz      NOT NULL,
    PRIMARY KEY (name, due_at)
);

-- What a beat has to say since its last report; false where it was not known. p_entries: those that have changed.
CREATE FUNCTION oracle.report_beat(p_beat uuid, p_origin text, p_node text, p_scheduler text, p_names text[],
    p_entries text, p_runs text, p_tolerance interval) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_known boolean := EXISTS (SELECT FROM oracle.beat WHERE beat_id = p_beat);
BEGIN
    INSERT INTO oracle.beat (beat_id, origin, node, scheduler, started_at, beat_at)
    VALUES (p_beat, p_origin, p_node, p_scheduler, clock_timestamp(), clock_timestamp())
    ON CONFLICT (beat_id) DO UPDATE SET beat_at = excluded.beat_at, stopped_at = NULL;
    DELETE FROM oracle.beat WHERE beat_at < clock_timestamp() - interval '7 days';

    INSERT INTO oracle.schedule_run (name, ran_at, task_id)
    SELECT r.name, to_timestamp(r.at), r.task_id FROM json_to_recordset(p_runs::json)
        AS r (name text, at double precision, task_id text)
    ON CONFLICT DO NOTHING;

    -- What was due up to where the entry counts from now, and did not run.
    INSERT INTO oracle.schedule_missed (name, due_at)
    SELECT e.name, d
    FROM json_to_recordset(p_entries::json) AS n (name text, last_run_at double precision)
    JOIN oracle.schedule_entry AS e ON e.name = n.name
    CROSS JOIN unnest(e.due) AS d
    WHERE d <= to_timestamp(n.last_run_at)
        AND NOT EXISTS (SELECT FROM oracle.schedule_run AS r WHERE r.name = e.name
            AND r.ran_at BETWEEN d - interval '2 seconds' AND d + p_tolerance)
    ON CONFLICT DO NOTHING;

    INSERT INTO oracle.schedule_entry AS e (name, beat_id, task, schedule, zone, arguments, queue, last_run_at,
        total_runs, due)
    SELECT n.name, p_beat, n.task, n.schedule, n.zone, n.arguments, n.queue, to_timestamp(n.last_run_at),
        n.total_runs, ARRAY(SELECT to_timestamp(d::text::double precision) FROM json_array_elements(n.due) AS d)
    FROM json_to_recordset(p_entries::json) AS n (name text, task text, schedule json, zone text, arguments json,
        queue text, last_run_at double precision, total_runs bigint, due json)
    ORDER BY n.name
    ON CONFLICT (name) DO UPDATE SET beat_id = excluded.beat_id, task = excluded.task, schedule = excluded.schedule,
        zone = excluded.zone, arguments = excluded.arguments, queue = excluded.queue,
        last_run_at = excluded.last_run_at, total_runs = excluded.total_runs, due = excluded.due;

    -- What is not in the schedule any more; another living beat may have entries of its own.
    DELETE FROM oracle.schedule_entry AS e
    WHERE e.name <> ALL (p_names) AND NOT EXISTS (
        SELECT FROM oracle.beat AS b WHERE b.beat_id = e.beat_id AND b.beat_id <> p_beat AND b.stopped_at IS NULL
            AND b.beat_at > clock_timestamp() - interval '1 minute');
    RETURN v_known;
END
$$;
