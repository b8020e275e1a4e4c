-- The timeline of each execution: what happened once or several times, in the order in which it happened first.
-- `sequence` counts from 1 in each execution. `count` and `last_at` grow when the same thing happens again.
CREATE TABLE events (
    execution_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    at INTEGER NOT NULL,
    last_at INTEGER NOT NULL,
    count INTEGER NOT NULL,
    kind TEXT NOT NULL,
    source TEXT NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (execution_id, sequence)
) STRICT, WITHOUT ROWID;

-- What waits for its container, the longest first: after some seconds the cluster is asked why. The status leads, else the
-- planner takes the index of all by status, and sorts.
CREATE INDEX executions_starting ON executions (status, dispatched_at, id)
    WHERE status = 'QUEUED' AND dispatched_at IS NOT NULL AND job_uid IS NOT NULL;
