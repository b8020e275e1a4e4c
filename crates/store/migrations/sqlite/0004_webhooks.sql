-- Webhooks: where an end is to be told, the outbox, and what became of each attempt.

-- Written with the execution. The URL may be as good as a secret.
CREATE TABLE webhooks (
    execution_id TEXT PRIMARY KEY NOT NULL,
    url TEXT NOT NULL,
    secret_ref TEXT NOT NULL
) STRICT;

-- The outbox. The first delivery is written by the transaction that stores the outcome, further ones are asked for.
-- `next_at` is set exactly while the delivery is pending: when it is to be tried, or, while somebody tries it, when
-- that claim ends. `tries` counts the claims, so it tells one claim from the next.
CREATE TABLE deliveries (
    execution_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    state TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    next_at INTEGER,
    tries INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (execution_id, number)
) STRICT, WITHOUT ROWID;

CREATE INDEX deliveries_next ON deliveries (next_at, execution_id, number)
    WHERE next_at IS NOT NULL;

-- One row for each attempt whose end was seen.
CREATE TABLE delivery_attempts (
    execution_id TEXT NOT NULL,
    delivery INTEGER NOT NULL,
    number INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    duration_micros INTEGER NOT NULL,
    status_code INTEGER,
    error TEXT,
    PRIMARY KEY (execution_id, delivery, number)
) STRICT, WITHOUT ROWID;
