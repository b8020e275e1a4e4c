-- The first tables. Times are microseconds since 1970, statuses and reasons are text.
-- Migrations only add, so that an older program goes on working during a rolling update.
-- No foreign keys: whether they are held depends on how the host's SQLite was built.

-- One row per execution. `deadline_at` is set exactly while the execution is unfinished,
-- `claim_until` keeps other instances from creating its Job, `not_before` keeps it in the queue.
CREATE TABLE executions (
    id TEXT PRIMARY KEY NOT NULL,
    generation INTEGER NOT NULL,
    status TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    dispatched_at INTEGER,
    job_uid TEXT,
    started_at INTEGER,
    finished_at INTEGER,
    outcome TEXT,
    reason TEXT,
    message TEXT,
    exit_code INTEGER,
    signal INTEGER,
    waiting_kind TEXT,
    waiting_message TEXT,
    image TEXT NOT NULL,
    cpu TEXT NOT NULL,
    memory TEXT NOT NULL,
    ephemeral_storage TEXT,
    queue_seconds INTEGER NOT NULL,
    start_seconds INTEGER NOT NULL,
    run_seconds INTEGER NOT NULL,
    grace_seconds INTEGER NOT NULL,
    labels TEXT NOT NULL,
    log_bytes INTEGER,
    log_lost_bytes INTEGER,
    log_complete INTEGER,
    deadline_at INTEGER,
    claim_until INTEGER NOT NULL DEFAULT 0,
    not_before INTEGER NOT NULL DEFAULT 0,
    digest TEXT NOT NULL,
    idempotency_key TEXT
) STRICT;

CREATE UNIQUE INDEX executions_idempotency_key ON executions (idempotency_key)
    WHERE idempotency_key IS NOT NULL;

-- The queue, oldest first. The columns of the condition lead, else the planner takes the index of
-- all by status, and reads those that are dispatched and not started too.
CREATE INDEX executions_queue ON executions (status, dispatched_at, created_at, id)
    WHERE status = 'QUEUED' AND dispatched_at IS NULL;

-- What counts against the limit of executions running at once. The columns of the condition are
-- in it so that counting reads the index alone.
CREATE INDEX executions_dispatched ON executions (id, status, dispatched_at)
    WHERE dispatched_at IS NOT NULL AND status <> 'FINISHED';

-- What was dispatched, but whether its Job exists is not known.
CREATE INDEX executions_unconfirmed ON executions (claim_until, id)
    WHERE dispatched_at IS NOT NULL AND status <> 'FINISHED' AND job_uid IS NULL;

CREATE INDEX executions_deadline ON executions (deadline_at, id)
    WHERE deadline_at IS NOT NULL;

-- The list of all, and by each filter.
CREATE INDEX executions_created ON executions (created_at, id);
CREATE INDEX executions_status ON executions (status, created_at, id);
CREATE INDEX executions_outcome ON executions (outcome, created_at, id)
    WHERE outcome IS NOT NULL;
CREATE INDEX executions_reason ON executions (reason, created_at, id)
    WHERE reason IS NOT NULL;

-- What was asked for in full, as JSON: large, and read only to create the Job.
CREATE TABLE payloads (
    execution_id TEXT PRIMARY KEY NOT NULL,
    body TEXT NOT NULL
) STRICT;

-- Labels for filtering; for reading they are in the execution's row.
CREATE TABLE labels (
    execution_id TEXT NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    execution_created_at INTEGER NOT NULL,
    PRIMARY KEY (execution_id, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX labels_value ON labels (name, value, execution_created_at, execution_id);

-- The kept log of a finished execution; its sizes are in the execution's row.
CREATE TABLE logs (
    execution_id TEXT PRIMARY KEY NOT NULL,
    head BLOB NOT NULL,
    tail BLOB NOT NULL
) STRICT;

-- Who may do what only one may do. The fence grows with each new holder.
CREATE TABLE leases (
    name TEXT PRIMARY KEY NOT NULL,
    holder TEXT NOT NULL,
    fence INTEGER NOT NULL,
    acquired_at INTEGER NOT NULL,
    renewed_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Small facts of the reconciler, such as resource versions.
CREATE TABLE state (
    name TEXT PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
