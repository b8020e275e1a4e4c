-- The tables as SQLite has them after ten steps; what each is for is said in those. What differs:
-- whole numbers are BIGINT, and bytes BYTEA.
-- Texts that are compared or sorted are in the order of their bytes (COLLATE "C"), whatever the database's language.
-- An index does not begin with a column that its condition pins: unlike SQLite, PostgreSQL knows what a partial index holds,
-- but takes no order from a column that IS NULL.

CREATE TABLE executions (
    id TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    generation BIGINT NOT NULL,
    status TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    dispatched_at BIGINT,
    job_uid TEXT,
    started_at BIGINT,
    finished_at BIGINT,
    outcome TEXT COLLATE "C",
    reason TEXT COLLATE "C",
    message TEXT,
    exit_code BIGINT,
    signal BIGINT,
    waiting_kind TEXT,
    waiting_message TEXT,
    image TEXT NOT NULL,
    cpu TEXT NOT NULL,
    memory TEXT NOT NULL,
    ephemeral_storage TEXT,
    queue_seconds BIGINT NOT NULL,
    start_seconds BIGINT NOT NULL,
    run_seconds BIGINT NOT NULL,
    grace_seconds BIGINT NOT NULL,
    labels TEXT NOT NULL,
    log_bytes BIGINT,
    log_lost_bytes BIGINT,
    log_complete BIGINT,
    deadline_at BIGINT,
    claim_until BIGINT NOT NULL DEFAULT 0,
    not_before BIGINT NOT NULL DEFAULT 0,
    digest TEXT NOT NULL,
    idempotency_key TEXT COLLATE "C",
    rank BIGINT NOT NULL DEFAULT 0,
    cancel_requested_at BIGINT,
    stopping_since BIGINT,
    cancel_claim_until BIGINT NOT NULL DEFAULT 0,
    ttl_seconds BIGINT NOT NULL DEFAULT 2592000,
    attempt BIGINT NOT NULL DEFAULT 1,
    due_at BIGINT NOT NULL DEFAULT 0,
    retry_limit BIGINT NOT NULL DEFAULT 0,
    retry_on TEXT NOT NULL DEFAULT 'ERROR',
    timed_out_at BIGINT,
    creation_in_doubt BIGINT NOT NULL DEFAULT 0
);

CREATE UNIQUE INDEX executions_idempotency_key ON executions (idempotency_key)
    WHERE idempotency_key IS NOT NULL;

CREATE INDEX executions_queue ON executions (rank, created_at, id)
    WHERE dispatched_at IS NULL AND status <> 'FINISHED';

CREATE INDEX executions_dispatched ON executions (id)
    WHERE dispatched_at IS NOT NULL AND status <> 'FINISHED';

CREATE INDEX executions_unconfirmed ON executions (claim_until, id)
    WHERE dispatched_at IS NOT NULL AND status <> 'FINISHED' AND job_uid IS NULL;

CREATE INDEX executions_starting ON executions (dispatched_at, id)
    WHERE started_at IS NULL AND dispatched_at IS NOT NULL AND job_uid IS NOT NULL AND status <> 'FINISHED';

CREATE INDEX executions_stopping ON executions (cancel_claim_until, id)
    WHERE (cancel_requested_at IS NOT NULL OR timed_out_at IS NOT NULL) AND status <> 'FINISHED';

CREATE INDEX executions_deadline ON executions (deadline_at, id)
    WHERE deadline_at IS NOT NULL;

CREATE INDEX executions_expiry ON executions ((finished_at + ttl_seconds * 1000000), id)
    WHERE status = 'FINISHED';

CREATE INDEX executions_created ON executions (created_at, id);
CREATE INDEX executions_status ON executions (status, created_at, id);
CREATE INDEX executions_outcome ON executions (outcome, created_at, id)
    WHERE outcome IS NOT NULL;
CREATE INDEX executions_reason ON executions (reason, created_at, id)
    WHERE reason IS NOT NULL;

CREATE TABLE payloads (
    execution_id TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    body TEXT NOT NULL
);

CREATE TABLE labels (
    execution_id TEXT COLLATE "C" NOT NULL,
    name TEXT COLLATE "C" NOT NULL,
    value TEXT COLLATE "C" NOT NULL,
    execution_created_at BIGINT NOT NULL,
    PRIMARY KEY (execution_id, name)
);

CREATE INDEX labels_value ON labels (name, value, execution_created_at, execution_id);

CREATE TABLE logs (
    execution_id TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    head BYTEA NOT NULL,
    tail BYTEA NOT NULL
);

CREATE TABLE followed_logs (
    execution_id TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    pod TEXT NOT NULL,
    pod_uid TEXT NOT NULL,
    head BYTEA NOT NULL,
    head_is_closed BIGINT NOT NULL,
    tail BYTEA NOT NULL,
    bytes BIGINT NOT NULL,
    stamp TEXT,
    stamp_bytes BIGINT NOT NULL,
    stamp_check BIGINT NOT NULL
);

CREATE TABLE attempts (
    execution_id TEXT COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    dispatched_at BIGINT,
    started_at BIGINT,
    finished_at BIGINT,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL,
    message TEXT NOT NULL,
    exit_code BIGINT,
    signal BIGINT,
    log_bytes BIGINT NOT NULL,
    log_lost_bytes BIGINT NOT NULL,
    log_complete BIGINT NOT NULL,
    PRIMARY KEY (execution_id, number)
);

CREATE TABLE attempt_logs (
    execution_id TEXT COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    head BYTEA NOT NULL,
    tail BYTEA NOT NULL,
    PRIMARY KEY (execution_id, number)
);

CREATE TABLE events (
    execution_id TEXT COLLATE "C" NOT NULL,
    sequence BIGINT NOT NULL,
    at BIGINT NOT NULL,
    last_at BIGINT NOT NULL,
    count BIGINT NOT NULL,
    kind TEXT NOT NULL,
    source TEXT NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (execution_id, sequence)
);

CREATE TABLE webhooks (
    execution_id TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    url TEXT NOT NULL,
    secret_ref TEXT NOT NULL
);

CREATE TABLE deliveries (
    execution_id TEXT COLLATE "C" NOT NULL,
    number BIGINT NOT NULL,
    state TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    next_at BIGINT,
    tries BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (execution_id, number)
);

CREATE INDEX deliveries_next ON deliveries (next_at, execution_id, number)
    WHERE next_at IS NOT NULL;

CREATE TABLE delivery_attempts (
    execution_id TEXT COLLATE "C" NOT NULL,
    delivery BIGINT NOT NULL,
    number BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    duration_micros BIGINT NOT NULL,
    status_code BIGINT,
    error TEXT,
    PRIMARY KEY (execution_id, delivery, number)
);

CREATE TABLE counters (
    name TEXT COLLATE "C" NOT NULL,
    label TEXT COLLATE "C" NOT NULL,
    value BIGINT NOT NULL,
    PRIMARY KEY (name, label)
);

CREATE TABLE leases (
    name TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    holder TEXT NOT NULL,
    fence BIGINT NOT NULL,
    acquired_at BIGINT NOT NULL,
    renewed_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE TABLE state (
    name TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    value TEXT NOT NULL
)
