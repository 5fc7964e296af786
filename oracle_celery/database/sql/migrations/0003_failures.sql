-- Failures in groups: which are the same one (oracle_celery.fingerprint), when each was seen, and how often.
--
-- Folded by the leading sidecar from the history; a failure is one run of a task that ended in failure, whatever became
-- of the task later. Whether a task is still failed, its record says.

-- One row: how far the history is folded, as a cursor (cursor.py); '' at first, which is its beginning.
CREATE TABLE oracle.failure_cursor (cursor text NOT NULL);
INSERT INTO oracle.failure_cursor VALUES ('');

-- What is said of a group. The same for everybody who has one failure of it: it is made of nothing else.
CREATE TABLE oracle.failure_group (
    fingerprint text COLLATE "C" PRIMARY KEY,
    name        text COLLATE "C",
    error_type  text,
    message     text NOT NULL                   -- its normal form; a payload
);

-- Every failure: a run that ended so, as the highest rank tells it.
CREATE TABLE oracle.task_failure (
    at          timestamptz NOT NULL,
    run_at      timestamptz NOT NULL,
    retries     integer     NOT NULL,
    rank        smallint    NOT NULL,
    fingerprint text COLLATE "C" NOT NULL,
    task_id     text COLLATE "C" NOT NULL,
    user_id     text COLLATE "C" NOT NULL,      -- '' for none
    PRIMARY KEY (task_id, retries, run_at)
);

CREATE INDEX failure_of_group ON oracle.task_failure (fingerprint, at);
CREATE INDEX failure_of_owner ON oracle.task_failure (user_id, fingerprint, at) WHERE user_id <> '';
-- For those too old to be kept.
CREATE INDEX failure_at ON oracle.task_failure USING brin (at);

-- How many of a group fell into each slot of time. everyone: the sum over all users, as in statistic_minute.
CREATE TABLE oracle.failure_count (
    slot        timestamptz NOT NULL,
    failures    bigint      NOT NULL,
    everyone    boolean     NOT NULL,
    user_id     text COLLATE "C" NOT NULL,
    fingerprint text COLLATE "C" NOT NULL,
    PRIMARY KEY (everyone, user_id, fingerprint, slot)
) WITH (fillfactor = 70);

-- When a group was seen, by everyone and by each user.
CREATE TABLE oracle.failure_span (
    first_at    timestamptz NOT NULL,
    last_at     timestamptz NOT NULL,
    back_at     timestamptz,                    -- the last time that it came back after a long silence
    everyone    boolean     NOT NULL,
    user_id     text COLLATE "C" NOT NULL,
    fingerprint text COLLATE "C" NOT NULL,
    last_id     text COLLATE "C" NOT NULL,      -- the task of last_at
    PRIMARY KEY (everyone, user_id, fingerprint)
) WITH (fillfactor = 70);

-- How many users a group has hurt since when.
CREATE INDEX span_users ON oracle.failure_span (fingerprint, last_at) WHERE NOT everyone;
