-- What has a place and what waits for one, as counters: counting rows would cost the more the more there are, several times a
-- second. They are kept by triggers, in the transaction of each change, so that no statement can forget them, of
-- this program or of an older one.
INSERT INTO counters (name, label, value)
    SELECT 'places', 'dispatched', count(*) FROM executions WHERE dispatched_at IS NOT NULL AND status <> 'FINISHED';
INSERT INTO counters (name, label, value)
    SELECT 'places', 'queued', count(*) FROM executions WHERE dispatched_at IS NULL AND status <> 'FINISHED';

CREATE TRIGGER executions_places_insert AFTER INSERT ON executions
    WHEN NEW.status <> 'FINISHED'
    BEGIN
        INSERT INTO counters (name, label, value)
            VALUES ('places', 'dispatched', NEW.dispatched_at IS NOT NULL), ('places', 'queued', NEW.dispatched_at IS NULL)
            ON CONFLICT (name, label) DO UPDATE SET value = counters.value + excluded.value;
    END;

CREATE TRIGGER executions_places_update AFTER UPDATE OF dispatched_at, status ON executions
    WHEN (OLD.dispatched_at IS NULL) <> (NEW.dispatched_at IS NULL) OR (OLD.status = 'FINISHED') <> (NEW.status = 'FINISHED')
    BEGIN
        INSERT INTO counters (name, label, value)
            VALUES ('places', 'dispatched', (NEW.dispatched_at IS NOT NULL AND NEW.status <> 'FINISHED')
                - (OLD.dispatched_at IS NOT NULL AND OLD.status <> 'FINISHED')),
                ('places', 'queued', (NEW.dispatched_at IS NULL AND NEW.status <> 'FINISHED')
                - (OLD.dispatched_at IS NULL AND OLD.status <> 'FINISHED'))
            ON CONFLICT (name, label) DO UPDATE SET value = counters.value + excluded.value;
    END;

CREATE TRIGGER executions_places_delete AFTER DELETE ON executions
    WHEN OLD.status <> 'FINISHED'
    BEGIN
        INSERT INTO counters (name, label, value)
            VALUES ('places', 'dispatched', -(OLD.dispatched_at IS NOT NULL)), ('places', 'queued', -(OLD.dispatched_at IS NULL))
            ON CONFLICT (name, label) DO UPDATE SET value = counters.value + excluded.value;
    END;

-- The queue in two: what can be taken now, and what waits for its time, so that the one is found without passing the other over.
-- `not_before` is 0 for the first; a tick sets it to that when the time has come. An older program does without the indexes.
DROP INDEX executions_queue;
CREATE INDEX executions_queue ON executions (dispatched_at, rank, created_at, id, not_before, status)
    WHERE dispatched_at IS NULL AND status <> 'FINISHED' AND not_before = 0;
CREATE INDEX executions_postponed ON executions (dispatched_at, due_at, not_before, status)
    WHERE dispatched_at IS NULL AND status <> 'FINISHED' AND not_before > 0;
