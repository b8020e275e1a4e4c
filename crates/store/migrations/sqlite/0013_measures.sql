-- How often Jobs were asked for, counted in the transaction that decides it, whoever does.
INSERT INTO counters (name, label, value)
    SELECT 'dispatches', '', (SELECT count(*) FROM executions WHERE dispatched_at IS NOT NULL)
    + (SELECT count(*) FROM attempts WHERE dispatched_at IS NOT NULL);

CREATE TRIGGER executions_dispatches_insert AFTER INSERT ON executions
    WHEN NEW.dispatched_at IS NOT NULL
    BEGIN
        INSERT INTO counters (name, label, value) VALUES ('dispatches', '', 1)
            ON CONFLICT (name, label) DO UPDATE SET value = counters.value + excluded.value;
    END;

CREATE TRIGGER executions_dispatches_update AFTER UPDATE OF dispatched_at ON executions
    WHEN OLD.dispatched_at IS NULL AND NEW.dispatched_at IS NOT NULL
    BEGIN
        INSERT INTO counters (name, label, value) VALUES ('dispatches', '', 1)
            ON CONFLICT (name, label) DO UPDATE SET value = counters.value + excluded.value;
    END;

-- Histograms: a row for each, with what it has counted, the sum of it in microseconds, and how many of it are in each bucket,
-- not in those below. Where the buckets end is the program's to know. Instances gather such counts and add them now and then.
CREATE TABLE timings (
    name TEXT NOT NULL,
    label TEXT NOT NULL,
    total INTEGER NOT NULL,
    micros INTEGER NOT NULL,
    bucket_1 INTEGER NOT NULL,
    bucket_2 INTEGER NOT NULL,
    bucket_3 INTEGER NOT NULL,
    bucket_4 INTEGER NOT NULL,
    bucket_5 INTEGER NOT NULL,
    bucket_6 INTEGER NOT NULL,
    bucket_7 INTEGER NOT NULL,
    bucket_8 INTEGER NOT NULL,
    bucket_9 INTEGER NOT NULL,
    bucket_10 INTEGER NOT NULL,
    bucket_11 INTEGER NOT NULL,
    bucket_12 INTEGER NOT NULL,
    PRIMARY KEY (name, label)
) STRICT, WITHOUT ROWID;

-- What its holders have spent, noted by each as it gives the lease back: so that costs no row.
ALTER TABLE leases ADD COLUMN terms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE leases ADD COLUMN micros INTEGER NOT NULL DEFAULT 0;
ALTER TABLE leases ADD COLUMN statements INTEGER NOT NULL DEFAULT 0;
ALTER TABLE leases ADD COLUMN requests INTEGER NOT NULL DEFAULT 0;
ALTER TABLE leases ADD COLUMN watches INTEGER NOT NULL DEFAULT 0;
ALTER TABLE leases ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;

-- What the caller's request said of its trace; NULL where it said nothing.
ALTER TABLE executions ADD COLUMN traceparent TEXT;
