-- Trends: what the minutes of statistics add up to, so that a chart of thirty days reads as little as one of an hour;
-- how many tasks waited and ran at each minute; and how long they took. Written by the sidecar that leads, from the same
-- deltas and the same history as everything else; nothing here costs a worker anything.

-- Minutes and half-hours of all tasks, whatever their name, queue and user.
CREATE TABLE oracle.statistic_total (
    start   timestamptz      NOT NULL,
    runtime double precision NOT NULL,
    tasks   bigint           NOT NULL,
    timed   bigint           NOT NULL,
    minutes smallint         NOT NULL,  -- how long it is: 1 or 30
    status  smallint         NOT NULL,
    PRIMARY KEY (minutes, start, status)
) WITH (fillfactor = 70);

-- Half-hours of each name, of every user and of everyone.
CREATE TABLE oracle.statistic_half_hour (
    start    timestamptz      NOT NULL,
    runtime  double precision NOT NULL,
    tasks    bigint           NOT NULL,
    timed    bigint           NOT NULL,
    status   smallint         NOT NULL,
    everyone boolean          NOT NULL,
    user_id  text COLLATE "C" NOT NULL,
    name     text COLLATE "C" NOT NULL,
    PRIMARY KEY (everyone, user_id, start, name, status)
) WITH (fillfactor = 70);

-- No fold in between: what it adds would be in the minutes and not in their sums.
LOCK TABLE oracle.statistic_minute IN SHARE ROW EXCLUSIVE MODE;

INSERT INTO oracle.statistic_total (start, runtime, tasks, timed, minutes, status)
SELECT date_bin(make_interval(mins => minutes), minute, 'epoch'), sum(runtime), sum(tasks), sum(timed), minutes, status
FROM oracle.statistic_minute, (VALUES (1), (30)) AS m (minutes)
WHERE everyone AND minute > 'epoch' GROUP BY 1, minutes, status;

INSERT INTO oracle.statistic_half_hour (start, runtime, tasks, timed, status, everyone, user_id, name)
SELECT date_bin('30 minutes', minute, 'epoch'), sum(runtime), sum(tasks), sum(timed), status, everyone, user_id, name
FROM oracle.statistic_minute WHERE minute > 'epoch' GROUP BY 1, status, everyone, user_id, name;

-- The gauges of users: few columns that never change, so that counting stays a change in place.
CREATE INDEX statistic_gauge ON oracle.statistic_minute (user_id) WHERE NOT everyone AND minute = 'epoch';

-- How many tasks waited and ran, minute by minute: the most that was seen in it. A user without a row had none, where
-- the row of everyone says that all users were written down.
CREATE TABLE oracle.gauge_sample (
    at       timestamptz      NOT NULL,
    queued   bigint           NOT NULL,
    active   bigint           NOT NULL,
    everyone boolean          NOT NULL,
    is_whole boolean          NOT NULL,
    user_id  text COLLATE "C" NOT NULL,
    PRIMARY KEY (everyone, user_id, at)
);

-- The same of each queue, of all users.
CREATE TABLE oracle.queue_sample (
    at     timestamptz      NOT NULL,
    queued bigint           NOT NULL,
    active bigint           NOT NULL,
    queue  text COLLATE "C" NOT NULL,
    PRIMARY KEY (at, queue)
);

-- How long runs took and how long tasks waited for theirs, of all users: counts by the logarithm. Bucket b holds what
-- lasted from 2^(b/6) up to 2^((b+1)/6) seconds, so its middle is within 6 % of everything in it.
CREATE TABLE oracle.duration_histogram (
    hour    timestamptz      NOT NULL,
    tasks   bigint           NOT NULL,
    bucket  smallint         NOT NULL,
    is_wait boolean          NOT NULL,
    name    text COLLATE "C" NOT NULL,
    PRIMARY KEY (hour, name, is_wait, bucket)
) WITH (fillfactor = 70);

-- How far the history is in the histogram: a cursor's text (see cursor.py), null before the first fold. One row.
CREATE TABLE oracle.duration_cursor (cursor text);
INSERT INTO oracle.duration_cursor VALUES (NULL);
