-- Counters for metrics: what finished and how long it took, since they were made. Unlike minutes and histograms of the
-- last day these only grow, through restarts of sidecars and whichever sidecar is asked, and they have a bounded number
-- of labels. Written by the sidecar that leads, from what it folds anyway; nothing here costs a worker anything.

-- Which names of tasks and which queues are counted by themselves. All others are counted together, under the label ''.
CREATE TABLE oracle.metric_label (
    since   timestamptz      NOT NULL DEFAULT now(),  -- its counters began at zero
    used_at timestamptz      NOT NULL DEFAULT now(),  -- within some minutes
    kind    text COLLATE "C" NOT NULL,  -- 'name' or 'queue'
    label   text COLLATE "C" NOT NULL,
    PRIMARY KEY (kind, label)
) WITH (fillfactor = 70);

-- What was counted together has begun now.
INSERT INTO oracle.metric_label (kind, label) VALUES ('name', ''), ('queue', '');

-- Tasks that finished.
CREATE TABLE oracle.metric_finished (
    tasks  bigint           NOT NULL,
    status smallint         NOT NULL,
    kind   text COLLATE "C" NOT NULL,
    label  text COLLATE "C" NOT NULL,
    PRIMARY KEY (kind, label, status)
) WITH (fillfactor = 50);

-- How long runs took, and how long tasks waited for theirs. Octave b holds what lasted from 2^b up to 2^(b+1) seconds.
CREATE TABLE oracle.metric_duration (
    tasks   bigint           NOT NULL,
    seconds double precision NOT NULL,  -- their sum
    octave  smallint         NOT NULL,
    is_wait boolean          NOT NULL,
    label   text COLLATE "C" NOT NULL,  -- of kind 'name'
    PRIMARY KEY (label, is_wait, octave)
) WITH (fillfactor = 50);
