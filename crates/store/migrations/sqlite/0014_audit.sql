-- Who submitted an execution, by what name of its token, and from which address; NULL in what was accepted before. The record of an
-- acceptance is the execution's own row, so that it costs no other.
ALTER TABLE executions ADD COLUMN created_by TEXT;
ALTER TABLE executions ADD COLUMN created_by_name TEXT;
ALTER TABLE executions ADD COLUMN created_from TEXT;

-- What else was done and refused, and the acceptances of what is forgotten. Ids are UUIDs of version 7, so they are in the order of time.
-- What is refused is noted once a minute for each kind, by what stands in `once`.
CREATE TABLE audit (
    id TEXT PRIMARY KEY NOT NULL,
    at INTEGER NOT NULL,
    actor TEXT,
    actor_name TEXT,
    address TEXT,
    tenant TEXT,
    action TEXT NOT NULL,
    target TEXT,
    problem TEXT,
    traceparent TEXT,
    once TEXT
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX audit_once ON audit (once) WHERE once IS NOT NULL;

-- Records before that time are not kept any more. It only moves forward.
CREATE TABLE audit_retention (
    one INTEGER PRIMARY KEY NOT NULL CHECK (one = 1),
    before INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO audit_retention (one, before) VALUES (1, 0);

-- Nothing is changed, and nothing goes before its time.
CREATE TRIGGER audit_unchanged BEFORE UPDATE ON audit
    BEGIN
        SELECT RAISE(ABORT, 'records of the audit log are not changed');
    END;
CREATE TRIGGER audit_kept BEFORE DELETE ON audit
    WHEN OLD.at >= (SELECT before FROM audit_retention)
    BEGIN
        SELECT RAISE(ABORT, 'records of the audit log are kept until their time is over');
    END;
CREATE TRIGGER audit_retention_forward BEFORE UPDATE ON audit_retention
    WHEN NEW.before < OLD.before
    BEGIN
        SELECT RAISE(ABORT, 'what the audit log has let go does not come back');
    END;
CREATE TRIGGER audit_retention_kept BEFORE DELETE ON audit_retention
    BEGIN
        SELECT RAISE(ABORT, 'the retention of the audit log is not deleted');
    END;

-- What is forgotten was accepted by somebody all the same, whoever forgets it.
CREATE TRIGGER executions_audit_delete AFTER DELETE ON executions
    WHEN OLD.created_by IS NOT NULL AND OLD.created_at >= (SELECT before FROM audit_retention)
    BEGIN
        INSERT INTO audit (id, at, actor, actor_name, address, tenant, action, target, traceparent)
            VALUES (OLD.id, OLD.created_at, OLD.created_by, OLD.created_by_name, OLD.created_from, OLD.tenant,
            'execution.create', OLD.id, OLD.traceparent);
    END;
