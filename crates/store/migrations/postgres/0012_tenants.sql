-- As on SQLite. Tenants: whose an execution is. All that was there before is the default tenant's, as is what an older program accepts meanwhile.
-- An idempotency key is in its column with the name of its tenant before it, unless that is the default one.
ALTER TABLE executions ADD COLUMN tenant TEXT COLLATE "C" NOT NULL DEFAULT 'default';
ALTER TABLE labels ADD COLUMN execution_tenant TEXT COLLATE "C" NOT NULL DEFAULT 'default';

-- The namespace that its Jobs run in, where its tenant has one of its own; NULL for the one of all others.
ALTER TABLE executions ADD COLUMN namespace TEXT COLLATE "C";

-- Where Jobs are or will be, besides in that one: few namespaces, each found by one step in this index.
CREATE INDEX executions_elsewhere ON executions (namespace, id)
    WHERE namespace IS NOT NULL AND status <> 'FINISHED';

-- Lists are of one tenant, so their indexes begin with it. An older program does without them, and reads more.
DROP INDEX executions_created;
CREATE INDEX executions_created ON executions (tenant, created_at, id);
CREATE INDEX executions_status_of ON executions (tenant, status, created_at, id);
DROP INDEX executions_outcome;
CREATE INDEX executions_outcome ON executions (tenant, outcome, created_at, id)
    WHERE outcome IS NOT NULL;
DROP INDEX executions_reason;
CREATE INDEX executions_reason ON executions (tenant, reason, created_at, id)
    WHERE reason IS NOT NULL;
DROP INDEX labels_value;
CREATE INDEX labels_value ON labels (execution_tenant, name, value, execution_created_at, execution_id);

-- What operators count is unfinished, and of all tenants.
DROP INDEX executions_status;
CREATE INDEX executions_status ON executions (status, created_at, id)
    WHERE status <> 'FINISHED';

-- Each tenant has a queue of its own.
DROP INDEX executions_queue;
CREATE INDEX executions_queue ON executions (tenant, rank, created_at, id)
    WHERE dispatched_at IS NULL AND status <> 'FINISHED' AND not_before = 0;
CREATE INDEX executions_postponed_of ON executions (tenant, due_at)
    WHERE dispatched_at IS NULL AND status <> 'FINISHED' AND not_before > 0;

-- How many places each tenant has, as a counter beside that of all. Of the default tenant it is what is left of those, so that nothing is
-- written for it. Whoever changes one has changed that of all before, by the trigger whose name comes first, and so has the turn.
CREATE FUNCTION executions_count_tenants() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO counters (name, label, value) VALUES ('tenant dispatched',
            CASE WHEN TG_OP = 'DELETE' THEN OLD.tenant ELSE NEW.tenant END,
            ((NEW.dispatched_at IS NOT NULL AND NEW.status <> 'FINISHED') IS TRUE)::INTEGER
            - ((OLD.dispatched_at IS NOT NULL AND OLD.status <> 'FINISHED') IS TRUE)::INTEGER)
            ON CONFLICT (name, label) DO UPDATE SET value = counters.value + excluded.value;
        RETURN NULL;
    END
    $$;

CREATE TRIGGER executions_tenants_insert AFTER INSERT ON executions
    FOR EACH ROW WHEN (NEW.tenant <> 'default' AND NEW.dispatched_at IS NOT NULL AND NEW.status <> 'FINISHED')
    EXECUTE FUNCTION executions_count_tenants();

CREATE TRIGGER executions_tenants_update AFTER UPDATE OF dispatched_at, status ON executions
    FOR EACH ROW WHEN (NEW.tenant <> 'default' AND (OLD.dispatched_at IS NOT NULL AND OLD.status <> 'FINISHED')
    <> (NEW.dispatched_at IS NOT NULL AND NEW.status <> 'FINISHED'))
    EXECUTE FUNCTION executions_count_tenants();

CREATE TRIGGER executions_tenants_delete AFTER DELETE ON executions
    FOR EACH ROW WHEN (OLD.tenant <> 'default' AND OLD.dispatched_at IS NOT NULL AND OLD.status <> 'FINISHED')
    EXECUTE FUNCTION executions_count_tenants();

-- Tokens that were made by the API: the SHA-256 of each, in hex, never itself.
CREATE TABLE tokens (
    id TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    hash TEXT COLLATE "C" NOT NULL UNIQUE,
    name TEXT NOT NULL,
    tenant TEXT NOT NULL,
    role TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    expires_at BIGINT
);

-- Until when a tenant has used up what it may submit: a bucket that is empty a minute from now at most.
CREATE TABLE rates (
    tenant TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    busy_until BIGINT NOT NULL
);
