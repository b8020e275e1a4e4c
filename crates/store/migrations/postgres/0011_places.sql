-- As on SQLite, with one difference. All who accept at once would wait for each other to write one counter of what is queued. So
-- what comes into the queue is counted by a sequence, which nobody waits for, and the counter has what goes and comes back, less
-- what the sequence had counted before. A transaction that is undone leaves the sequence too high; a full list mends that.
CREATE SEQUENCE queue_arrivals;
SELECT setval('queue_arrivals', 1);
INSERT INTO counters (name, label, value)
    SELECT 'places', 'dispatched', count(*) FROM executions WHERE dispatched_at IS NOT NULL AND status <> 'FINISHED';
INSERT INTO counters (name, label, value)
    SELECT 'places', 'queued', count(*) - 1 FROM executions WHERE dispatched_at IS NULL AND status <> 'FINISHED';

CREATE FUNCTION executions_count_places() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'INSERT' AND NEW.dispatched_at IS NULL THEN
            PERFORM nextval('queue_arrivals');
            RETURN NULL;
        END IF;
        INSERT INTO counters (name, label, value)
            VALUES ('places', 'dispatched',
                ((NEW.dispatched_at IS NOT NULL AND NEW.status <> 'FINISHED') IS TRUE)::INTEGER
                - ((OLD.dispatched_at IS NOT NULL AND OLD.status <> 'FINISHED') IS TRUE)::INTEGER),
                ('places', 'queued',
                ((NEW.dispatched_at IS NULL AND NEW.status <> 'FINISHED') IS TRUE)::INTEGER
                - ((OLD.dispatched_at IS NULL AND OLD.status <> 'FINISHED') IS TRUE)::INTEGER)
            ON CONFLICT (name, label) DO UPDATE SET value = counters.value + excluded.value;
        RETURN NULL;
    END
    $$;

CREATE TRIGGER executions_places_insert AFTER INSERT ON executions
    FOR EACH ROW WHEN (NEW.status <> 'FINISHED')
    EXECUTE FUNCTION executions_count_places();

CREATE TRIGGER executions_places_update AFTER UPDATE OF dispatched_at, status ON executions
    FOR EACH ROW WHEN ((OLD.dispatched_at IS NULL) <> (NEW.dispatched_at IS NULL)
    OR (OLD.status = 'FINISHED') <> (NEW.status = 'FINISHED'))
    EXECUTE FUNCTION executions_count_places();

CREATE TRIGGER executions_places_delete AFTER DELETE ON executions
    FOR EACH ROW WHEN (OLD.status <> 'FINISHED')
    EXECUTE FUNCTION executions_count_places();

DROP INDEX executions_queue;
CREATE INDEX executions_queue ON executions (rank, created_at, id)
    WHERE dispatched_at IS NULL AND status <> 'FINISHED' AND not_before = 0;
CREATE INDEX executions_postponed ON executions (due_at, not_before)
    WHERE dispatched_at IS NULL AND status <> 'FINISHED' AND not_before > 0;
