-- What is accepted is stored by one statement, which is its own transaction: each one more would be one more call of the host, while whoever else
-- wants to write waits. A row of this view is an execution with what belongs to it (`crates/store/src/accept.rs`), and writing it stores them. There
-- is nothing to read in it.
--
-- A later step that adds a column of new executions makes both anew.
CREATE VIEW new_executions (
    id, generation, status, created_at, dispatched_at, job_uid, started_at, finished_at, outcome, reason, message, exit_code, signal,
    waiting_kind, waiting_message, image, cpu, memory, ephemeral_storage, queue_seconds, start_seconds, run_seconds, grace_seconds,
    labels, log_bytes, log_lost_bytes, log_complete, deadline_at, digest, idempotency_key, rank, cancel_requested_at, stopping_since,
    ttl_seconds, attempt, due_at, retry_limit, retry_on, timed_out_at, tenant, namespace, traceparent, created_by, created_by_name, created_from,
    claim_until, body, label_rows,
    webhook_url, webhook_secret_ref, event_at, event_last_at, event_count, event_kind, event_source, event_message, events) AS
    SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL;

-- `events` is a JSON array of what the timeline says after it is accepted.
CREATE TRIGGER new_executions_insert INSTEAD OF INSERT ON new_executions
    BEGIN
        INSERT INTO executions (
            id, generation, status, created_at, dispatched_at, job_uid, started_at, finished_at, outcome, reason, message, exit_code,
            signal, waiting_kind, waiting_message, image, cpu, memory, ephemeral_storage, queue_seconds, start_seconds, run_seconds,
            grace_seconds, labels, log_bytes, log_lost_bytes, log_complete, deadline_at, digest, idempotency_key, rank,
            cancel_requested_at, stopping_since, ttl_seconds, attempt, due_at, retry_limit, retry_on, timed_out_at, tenant,
            namespace, traceparent, created_by, created_by_name, created_from, claim_until)
            VALUES (
            NEW.id, NEW.generation, NEW.status, NEW.created_at, NEW.dispatched_at, NEW.job_uid, NEW.started_at, NEW.finished_at,
            NEW.outcome, NEW.reason, NEW.message, NEW.exit_code, NEW.signal, NEW.waiting_kind, NEW.waiting_message, NEW.image,
            NEW.cpu, NEW.memory, NEW.ephemeral_storage, NEW.queue_seconds, NEW.start_seconds, NEW.run_seconds, NEW.grace_seconds,
            NEW.labels, NEW.log_bytes, NEW.log_lost_bytes, NEW.log_complete, NEW.deadline_at, NEW.digest, NEW.idempotency_key,
            NEW.rank, NEW.cancel_requested_at, NEW.stopping_since, NEW.ttl_seconds, NEW.attempt, NEW.due_at, NEW.retry_limit,
            NEW.retry_on, NEW.timed_out_at, NEW.tenant, NEW.namespace, NEW.traceparent,
            NEW.created_by, NEW.created_by_name, NEW.created_from, coalesce(NEW.claim_until, 0));
        INSERT INTO payloads (execution_id, body) VALUES (NEW.id, NEW.body);
        INSERT INTO labels (execution_id, name, value, execution_created_at, execution_tenant)
            SELECT NEW.id, key, value, NEW.created_at, NEW.tenant FROM json_each(NEW.label_rows);
        INSERT INTO webhooks (execution_id, url, secret_ref)
            SELECT NEW.id, NEW.webhook_url, NEW.webhook_secret_ref WHERE NEW.webhook_url IS NOT NULL;
        INSERT INTO events (execution_id, sequence, at, last_at, count, kind, source, message)
            VALUES (NEW.id, 1, NEW.event_at, NEW.event_last_at, NEW.event_count, NEW.event_kind, NEW.event_source, NEW.event_message);
        INSERT INTO events (execution_id, sequence, at, last_at, count, kind, source, message)
            SELECT NEW.id, key + 2, json_extract(value, '$.at'), json_extract(value, '$.at'), 1, json_extract(value, '$.kind'),
            json_extract(value, '$.source'), json_extract(value, '$.message') FROM json_each(NEW.events);
    END;
