-- Retries. The row of an execution is about the attempt that it is at; what is kept of those before is in tables of their own.
-- `due_at` is 0 for a first attempt, which is due from the acceptance on. An older program leaves alone what waits for a
-- later attempt: it looks in the queue for the status QUEUED.
ALTER TABLE executions ADD COLUMN attempt INTEGER NOT NULL DEFAULT 1;
ALTER TABLE executions ADD COLUMN due_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE executions ADD COLUMN retry_limit INTEGER NOT NULL DEFAULT 0;
-- The outcomes that are retried, separated by commas.
ALTER TABLE executions ADD COLUMN retry_on TEXT NOT NULL DEFAULT 'ERROR';

-- The attempts that were followed by another one.
CREATE TABLE attempts (
    execution_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    dispatched_at INTEGER,
    started_at INTEGER,
    finished_at INTEGER,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL,
    message TEXT NOT NULL,
    exit_code INTEGER,
    signal INTEGER,
    log_bytes INTEGER NOT NULL,
    log_lost_bytes INTEGER NOT NULL,
    log_complete INTEGER NOT NULL,
    PRIMARY KEY (execution_id, number)
) STRICT, WITHOUT ROWID;

-- Their logs, apart since they are large. That of the attempt that an execution is at is in `logs`.
CREATE TABLE attempt_logs (
    execution_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    head BLOB NOT NULL,
    tail BLOB NOT NULL,
    PRIMARY KEY (execution_id, number)
) STRICT;

-- The queue has in it what waits for a later attempt, whose status may be RUNNING. What the conditions ask of a row is in
-- the index, so that what is not due yet is passed over without reading it.
DROP INDEX executions_queue;
CREATE INDEX executions_queue ON executions (dispatched_at, rank, created_at, id, due_at, status)
    WHERE dispatched_at IS NULL AND status <> 'FINISHED';

-- So does what waits for its container.
DROP INDEX executions_starting;
CREATE INDEX executions_starting ON executions (started_at, dispatched_at, id)
    WHERE started_at IS NULL AND dispatched_at IS NOT NULL AND job_uid IS NOT NULL AND status <> 'FINISHED';
