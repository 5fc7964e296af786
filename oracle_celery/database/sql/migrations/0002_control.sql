-- Control: what people want of tasks and queues, who asked for it and what came of it.
--
-- Commands are rare and workers follow them by number, so all of them are written one after another under one
-- advisory lock (statement "lock_control"): a number is never visible before a smaller one.

-- The order of desired states. Drawn under the lock.
CREATE SEQUENCE oracle.control_seq;

-- Who did what. Only appended to; what came of it is in audit_outcome.
CREATE TABLE oracle.audit_entry (
    entry_id bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor    text COLLATE "C" NOT NULL,
    is_admin boolean     NOT NULL,
    via      text        NOT NULL,              -- http, app, cli or oracle (by itself: a pause that ended)
    address  text,                              -- of an HTTP client
    action   text COLLATE "C" NOT NULL,         -- cancel, retry, pause, resume, bulk_cancel, bulk_retry
    task_id  text COLLATE "C",
    owner    text COLLATE "C",                  -- user_id of that task: they see the entry too
    queues   text[],                            -- {} means all queues
    bulk_id  uuid,
    filter   json,
    before   json,
    after    json,
    reason   text
);

CREATE INDEX audit_task ON oracle.audit_entry (task_id, entry_id) WHERE task_id IS NOT NULL;
CREATE INDEX audit_bulk ON oracle.audit_entry (bulk_id) WHERE bulk_id IS NOT NULL;
CREATE INDEX audit_actor ON oracle.audit_entry (actor, entry_id);
CREATE INDEX audit_owner ON oracle.audit_entry (owner, entry_id) WHERE owner IS NOT NULL;

-- What came of an entry, for a task or a worker. The newest one of a subject counts. Only appended to.
CREATE TABLE oracle.audit_outcome (
    outcome_id bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    entry_id   bigint      NOT NULL REFERENCES oracle.audit_entry,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    subject    text COLLATE "C" NOT NULL,       -- a task id, a worker's node name, or *: the action as a whole
    outcome    text        NOT NULL,
    detail     text
);

CREATE INDEX outcome_subject ON oracle.audit_outcome (entry_id, subject, outcome_id);

CREATE FUNCTION oracle.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'OR002', MESSAGE = format('%s is only ever appended to', TG_TABLE_NAME);
END
$$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON oracle.audit_entry
    FOR EACH STATEMENT EXECUTE FUNCTION oracle.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON oracle.audit_outcome
    FOR EACH STATEMENT EXECUTE FUNCTION oracle.refuse_change();

-- Tasks that shall not run (any more). Workers keep the ids that are not settled, and those settled of late: a message
-- may come again. run_at and retries: the run that was under way, where one was.
CREATE TABLE oracle.cancellation (
    task_id    text COLLATE "C" PRIMARY KEY,
    seq        bigint      NOT NULL,
    asked_at   timestamptz NOT NULL,
    entry_id   bigint      NOT NULL,
    was_status smallint    NOT NULL,            -- when it was asked for: pending or in_progress
    result_at  timestamptz,                     -- the application's result backend says REVOKED
    settled_at timestamptz,                     -- a worker has dropped the message, or the run has ended
    settled_as text                             -- cancelled or too_late
);

CREATE INDEX cancellation_seq ON oracle.cancellation (seq);
CREATE INDEX cancellation_open ON oracle.cancellation (seq) WHERE settled_at IS NULL;
CREATE INDEX cancellation_due ON oracle.cancellation (seq)
    WHERE settled_at IS NULL AND result_at IS NULL AND was_status = 0;

-- The newest word on each queue; the row '' speaks for all queues. Of a queue's own row and '' the larger seq counts.
CREATE TABLE oracle.queue_pause (
    queue     text COLLATE "C" PRIMARY KEY,
    seq       bigint      NOT NULL,
    is_paused boolean     NOT NULL,
    changed_at timestamptz NOT NULL,
    changed_by text       NOT NULL,
    entry_id  bigint      NOT NULL,
    reason    text,
    until     timestamptz                       -- of a pause that ends by itself
);

-- What workers have said of a pause or a resume, after the act. One row per worker and queue, the newest.
CREATE TABLE oracle.pause_report (
    worker_id    uuid        NOT NULL,
    queue        text COLLATE "C" NOT NULL,
    seq          bigint      NOT NULL,          -- of the word that it has acted on
    state        text        NOT NULL,          -- paused, consuming
    confirmed_at timestamptz NOT NULL,
    PRIMARY KEY (worker_id, queue)
);

ALTER TABLE oracle.worker
    ADD COLUMN control_seq   bigint NOT NULL DEFAULT 0,  -- desired states up to this one are known to it
    ADD COLUMN consuming     text[],                     -- the queues it consumes at this moment; queues: it is to
    ADD COLUMN rate_limits   json,                       -- {task name: "10/m"}
    ADD COLUMN interruptible boolean NOT NULL DEFAULT false;  -- its pool can interrupt a running task

-- The message of a task that may be retried, exactly as a worker received it. Read by the retry path alone.
CREATE TABLE oracle.task_message (
    task_id         text COLLATE "C" PRIMARY KEY,
    at              timestamptz NOT NULL,
    is_chord_member boolean     NOT NULL,
    missing         text,                       -- why there is none: too_large, opted_out, unreadable
    key_id          text,                       -- which key the envelope is encrypted with; null: it is not
    envelope        bytea                       -- kept_message.Envelope
) WITH (autovacuum_vacuum_insert_scale_factor = 0.1);
ALTER TABLE oracle.task_message ALTER COLUMN envelope SET STORAGE EXTERNAL;
CREATE INDEX task_message_at ON oracle.task_message (at);

-- What recorders bring of them. A task has one message: that of its newest run.
CREATE FUNCTION oracle.ingest_messages(
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
                key_id = excluded.key_id, envelope = excluded.envelope
            WHERE k.at <= excluded.at
    )
    SELECT count(*) INTO applied FROM line;
END
$$;

-- A task is retried once, as another task. sending: the new id is promised, and its message may have been sent.
CREATE TABLE oracle.retry (
    task_id    text COLLATE "C" PRIMARY KEY,
    new_id     text COLLATE "C" NOT NULL UNIQUE,
    entry_id   bigint      NOT NULL,
    state      text        NOT NULL CHECK (state IN ('sending', 'sent')),
    claimed_at timestamptz NOT NULL,
    sent_at    timestamptz
);

CREATE INDEX retry_sending ON oracle.retry (claimed_at) WHERE state = 'sending';

-- One action on many tasks.
CREATE TABLE oracle.bulk (
    bulk_id     uuid        PRIMARY KEY,
    action      text        NOT NULL CHECK (action IN ('cancel', 'retry')),
    entry_id    bigint      NOT NULL UNIQUE,
    actor       text COLLATE "C" NOT NULL,
    is_admin    boolean     NOT NULL,
    via         text        NOT NULL,
    address     text,
    options     json        NOT NULL,           -- {"include_cancelled": …, "force": …, "reason": …}
    total       bigint      NOT NULL,
    done        bigint      NOT NULL DEFAULT 0,
    outcomes    jsonb       NOT NULL DEFAULT '{}',  -- {outcome: count}
    created_at  timestamptz NOT NULL,
    finished_at timestamptz
);

CREATE INDEX bulk_open ON oracle.bulk (created_at) WHERE finished_at IS NULL;

CREATE TABLE oracle.bulk_item (
    bulk_id uuid   NOT NULL,                    -- no foreign key: it would be looked up for each of a million rows
    number  bigint NOT NULL,
    task_id text COLLATE "C" NOT NULL,
    outcome text,                               -- null: not yet; sending: its message may have been sent
    detail  text,
    new_id  text,
    PRIMARY KEY (bulk_id, number)
);

CREATE INDEX bulk_item_open ON oracle.bulk_item (bulk_id, number) WHERE outcome IS NULL;
CREATE INDEX bulk_item_unsure ON oracle.bulk_item (bulk_id, outcome) WHERE outcome IN ('sending', 'unknown');
CREATE INDEX bulk_item_task ON oracle.bulk_item (task_id);

-- What waits in each queue, oldest first. It costs a task's ingest about a fortieth of the server's CPU; without it the
-- oldest of a queue is found behind every other queue's backlog (of a million tasks: two seconds).
CREATE INDEX task_waiting ON oracle.task_state_record (queue, created_at) WHERE status = 0;

-- A point in time as the API tells it.
CREATE FUNCTION oracle.instant(at timestamptz) RETURNS text LANGUAGE sql STABLE
RETURN to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
