-- As on SQLite, but for what many write at once.
-- How often Jobs were asked for, counted in the transaction that decides it, whoever does.
INSERT INTO counters (name, label, value)
    SELECT 'dispatches', '', (SELECT count(*) FROM executions WHERE dispatched_at IS NOT NULL)
    + (SELECT count(*) FROM attempts WHERE dispatched_at IS NOT NULL);

CREATE FUNCTION executions_count_dispatch() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO counters (name, label, value) VALUES ('dispatches', '', 1)
            ON CONFLICT (name, label) DO UPDATE SET value = counters.value + excluded.value;
        RETURN NULL;
    END
    $$;

CREATE TRIGGER executions_dispatches_insert AFTER INSERT ON executions
    FOR EACH ROW WHEN (NEW.dispatched_at IS NOT NULL)
    EXECUTE FUNCTION executions_count_dispatch();

CREATE TRIGGER executions_dispatches_update AFTER UPDATE OF dispatched_at ON executions
    FOR EACH ROW WHEN (OLD.dispatched_at IS NULL AND NEW.dispatched_at IS NOT NULL)
    EXECUTE FUNCTION executions_count_dispatch();

-- What was accepted is what the sequence of arrivals has counted, and what came before it was there. Nobody waits for a sequence: so
-- what is refused is counted by one too.
INSERT INTO counters (name, label, value)
    SELECT 'arrived_before', '', (SELECT count(*) FROM executions WHERE status <> 'FINISHED')
    + (SELECT coalesce(sum(value), 0) FROM counters WHERE name = 'finished') - (SELECT last_value FROM queue_arrivals);
CREATE SEQUENCE queue_refusals;

-- Histograms: a row for each, with what it has counted, the sum of it in microseconds, and how many of it are in each bucket,
-- not in those below. Where the buckets end is the program's to know. Instances gather such counts and add them now and then.
CREATE TABLE timings (
    name TEXT COLLATE "C" NOT NULL,
    label TEXT COLLATE "C" NOT NULL,
    total BIGINT NOT NULL,
    micros BIGINT NOT NULL,
    bucket_1 BIGINT NOT NULL,
    bucket_2 BIGINT NOT NULL,
    bucket_3 BIGINT NOT NULL,
    bucket_4 BIGINT NOT NULL,
    bucket_5 BIGINT NOT NULL,
    bucket_6 BIGINT NOT NULL,
    bucket_7 BIGINT NOT NULL,
    bucket_8 BIGINT NOT NULL,
    bucket_9 BIGINT NOT NULL,
    bucket_10 BIGINT NOT NULL,
    bucket_11 BIGINT NOT NULL,
    bucket_12 BIGINT NOT NULL,
    PRIMARY KEY (name, label)
);

-- What its holders have spent, noted by each as it gives the lease back: so that costs no row.
ALTER TABLE leases ADD COLUMN terms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE leases ADD COLUMN micros BIGINT NOT NULL DEFAULT 0;
ALTER TABLE leases ADD COLUMN statements BIGINT NOT NULL DEFAULT 0;
ALTER TABLE leases ADD COLUMN requests BIGINT NOT NULL DEFAULT 0;
ALTER TABLE leases ADD COLUMN watches BIGINT NOT NULL DEFAULT 0;
ALTER TABLE leases ADD COLUMN failures BIGINT NOT NULL DEFAULT 0;

-- What the caller's request said of its trace; NULL where it said nothing.
ALTER TABLE executions ADD COLUMN traceparent TEXT;
