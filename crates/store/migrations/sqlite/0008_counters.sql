-- What was counted over the life of the database, also of records that are gone. Written in the transaction of what is
-- counted, so that no instance keeps a count of its own.
CREATE TABLE counters (
    name TEXT NOT NULL,
    label TEXT NOT NULL,
    value INTEGER NOT NULL,
    PRIMARY KEY (name, label)
) STRICT, WITHOUT ROWID;

-- Those that are kept from before.
INSERT INTO counters (name, label, value)
    SELECT 'finished', reason, count(*) FROM executions WHERE status = 'FINISHED' GROUP BY reason;
