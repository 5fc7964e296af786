-- A worker tells what it costs its machine, and what was lost with it is counted when it is given up: to find those
-- tasks later, by a worker, no index leads.

ALTER TABLE oracle.worker
    ADD COLUMN cpu        real,     -- cores that its processes kept busy between its last two beats
    ADD COLUMN memory     bigint,   -- bytes resident in them
    ADD COLUMN lost_tasks integer;  -- tasks that count as failed because it is gone

-- A worker is given up: what it runs has failed, as far as anybody can tell. Whatever its own processes report after
-- all, or a newer run, has a higher version. Tasks that it only held are left alone: the broker gives them to another.
CREATE OR REPLACE FUNCTION oracle.mark_lost(p_worker uuid, p_silence interval)
RETURNS TABLE (task_id text, name text, user_id text) LANGUAGE plpgsql AS $$
DECLARE
    v_worker oracle.worker;
    v_tasks  text[];
    v_lines  text;
BEGIN
    UPDATE oracle.worker AS w SET lost_at = clock_timestamp(), active = 0, reserved = 0, lost_tasks = 0
    WHERE w.worker_id = p_worker AND w.stopped_at IS NULL AND w.beat_at <= clock_timestamp() - p_silence
    RETURNING w.* INTO v_worker;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT array_agg(r.task_id), string_agg(json_build_object(
            'i', r.task_id, 's', 3, 'k', 30, 'e', 'worker_lost', 'r', r.retries, 'v', r.run_id,
            'm', (extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 1000,
            'u', (extract(epoch FROM nullif(r.run_at, 'epoch')) * 1000000)::bigint * 1000,
            'g', 'WorkerLostError', 'f', format('Worker %s fell silent.', v_worker.node))::text, ',')
    INTO v_tasks, v_lines
    FROM (
        SELECT t.* FROM oracle.task_state_record AS t
        WHERE t.status = 1 AND t.worker_id = p_worker ORDER BY t.task_id FOR UPDATE
    ) AS r;
    IF v_tasks IS NULL THEN
        RETURN;
    END IF;
    UPDATE oracle.worker AS w SET lost_tasks = cardinality(v_tasks) WHERE w.worker_id = p_worker;
    PERFORM oracle.infer(v_worker.node, p_worker, '[' || v_lines || ']');
    RETURN QUERY SELECT t.task_id, t.name, t.user_id FROM oracle.task_state_record AS t
        WHERE t.task_id = ANY (v_tasks) ORDER BY t.task_id;
END
$$;
