-- As on SQLite. Who submitted an execution, by what name of its token, and from which address; NULL in what was accepted before. The
-- record of an acceptance is the execution's own row, so that it costs no other.
ALTER TABLE executions ADD COLUMN created_by TEXT;
ALTER TABLE executions ADD COLUMN created_by_name TEXT;
ALTER TABLE executions ADD COLUMN created_from TEXT;

-- What else was done and refused, and the acceptances of what is forgotten. Ids are UUIDs of version 7, so they are in the order of time.
-- What is refused is noted once a minute for each kind, by what stands in `once`.
CREATE TABLE audit (
    id TEXT COLLATE "C" PRIMARY KEY NOT NULL,
    at BIGINT NOT NULL,
    actor TEXT,
    actor_name TEXT,
    address TEXT,
    tenant TEXT COLLATE "C",
    action TEXT NOT NULL,
    target TEXT,
    problem TEXT,
    traceparent TEXT,
    once TEXT COLLATE "C"
);
CREATE UNIQUE INDEX audit_once ON audit (once) WHERE once IS NOT NULL;

-- Records before that time are not kept any more. It only moves forward.
CREATE TABLE audit_retention (
    one BIGINT PRIMARY KEY NOT NULL CHECK (one = 1),
    before BIGINT NOT NULL
);
INSERT INTO audit_retention (one, before) VALUES (1, 0);

-- Nothing is changed, and nothing goes before its time.
CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'records of the audit log are not changed, and kept until their time is over';
    END
    $$;

CREATE FUNCTION audit_keep() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF OLD.at >= (SELECT before FROM audit_retention) THEN
            RAISE EXCEPTION 'records of the audit log are kept until their time is over';
        END IF;
        RETURN OLD;
    END
    $$;

CREATE TRIGGER audit_unchanged BEFORE UPDATE ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_refuse();

CREATE TRIGGER audit_kept BEFORE DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_keep();

CREATE TRIGGER audit_not_emptied BEFORE TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();

CREATE TRIGGER audit_retention_forward BEFORE UPDATE ON audit_retention
    FOR EACH ROW WHEN (NEW.before < OLD.before)
    EXECUTE FUNCTION audit_refuse();

CREATE TRIGGER audit_retention_kept BEFORE DELETE OR TRUNCATE ON audit_retention
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();

-- What is forgotten was accepted by somebody all the same, whoever forgets it.
CREATE FUNCTION executions_audit() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO audit (id, at, actor, actor_name, address, tenant, action, target, traceparent)
            SELECT OLD.id, OLD.created_at, OLD.created_by, OLD.created_by_name, OLD.created_from, OLD.tenant,
            'execution.create', OLD.id, OLD.traceparent
            FROM audit_retention WHERE OLD.created_at >= before;
        RETURN NULL;
    END
    $$;

CREATE TRIGGER executions_audit_delete AFTER DELETE ON executions
    FOR EACH ROW WHEN (OLD.created_by IS NOT NULL)
    EXECUTE FUNCTION executions_audit();
