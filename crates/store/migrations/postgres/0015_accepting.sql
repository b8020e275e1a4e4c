-- What is accepted is stored by a function. A host prepares each statement anew, and to plan one that writes five tables costs several times what
-- writing them does; within a function PostgreSQL keeps the plans for as long as the connection lasts. An older program goes on without it.
--
-- A later step that adds a column of new executions replaces the function: what an older program does not give is NULL there.
--
-- `given` is a JSON array of rows, each with the columns of its execution and of what belongs to that (`crates/store/src/accept.rs`). All of them
-- are of the tenant `whose`, and there are `many`. It is written only where `newest` is a step of the schema that was made, as many fit into the queue
-- (`queue_most`, and `tenants_most` of the tenant's own), no key from `first_key` up to `behind_keys` is taken, and the tenant has so much of its
-- rate left (`cost`, in microseconds at the time `at_time`). A limit that is NULL does not hold anybody back. The first of them has `earlier`
-- others before it in the queue, counted up to `most_earlier`.
--
-- It answers with one row always, whose first columns are those that every answer has (`crates/store/src/sent.rs`).
--
-- A plan is made once, whatever is given, and for when there is much in the tables, whatever PostgreSQL believes to be in them then: so no table is
-- read from end to end, and what has an order is read in it. What cannot be read otherwise, as a sequence, is no reason to compile.
CREATE FUNCTION accept_executions(
    newest BIGINT, given TEXT, many BIGINT, whose TEXT, queue_most BIGINT, tenants_most BIGINT, first_key TEXT, behind_keys TEXT,
    cost BIGINT, at_time BIGINT, most_earlier BIGINT, OUT begun INTEGER, OUT written INTEGER, OUT stored_generation BIGINT,
    OUT earlier BIGINT)
    LANGUAGE plpgsql SET enable_seqscan = off SET enable_sort = off SET jit = off
    SET plan_cache_mode = force_generic_plan AS $$
    DECLARE
        place RECORD;
    BEGIN
        begun := (current_setting('transaction_deferrable') = 'on'
            AND current_setting('default_transaction_deferrable') = 'off')::INTEGER;
        IF NOT EXISTS (SELECT 1 FROM schema_migrations WHERE version = newest) THEN
            RETURN;
        END IF;
        IF queue_most IS NOT NULL AND many > queue_most - (SELECT last_value FROM queue_arrivals)
            - coalesce((SELECT value FROM counters WHERE name = 'places' AND label = 'queued'), 0) THEN
            RETURN;
        END IF;
        IF tenants_most IS NOT NULL AND many > tenants_most
            - (SELECT count(*) FROM (SELECT 1 FROM executions WHERE dispatched_at IS NULL AND status <> 'FINISHED' AND not_before = 0
            AND tenant = whose LIMIT tenants_most) AS ready)
            - (SELECT count(*) FROM (SELECT 1 FROM executions WHERE dispatched_at IS NULL AND status <> 'FINISHED' AND not_before > 0
            AND tenant = whose LIMIT tenants_most) AS postponed) THEN
            RETURN;
        END IF;
        -- Of two at once with one key, the later is refused by the index.
        IF first_key IS NOT NULL AND EXISTS (SELECT 1 FROM executions WHERE idempotency_key IS NOT NULL
            AND idempotency_key >= first_key AND idempotency_key < behind_keys) THEN
            RETURN;
        END IF;
        IF cost IS NOT NULL THEN
            INSERT INTO rates (tenant, busy_until) SELECT whose, at_time + cost WHERE cost <= 60000000
                ON CONFLICT (tenant) DO UPDATE SET busy_until = greatest(rates.busy_until, at_time) + cost
                WHERE greatest(rates.busy_until, at_time) + cost <= at_time + 60000000;
            IF NOT FOUND THEN
                RETURN;
            END IF;
        END IF;
        WITH new AS MATERIALIZED (SELECT * FROM json_to_recordset(given::JSON) AS new (
            id TEXT, generation BIGINT, status TEXT, created_at BIGINT, dispatched_at BIGINT, job_uid TEXT, started_at BIGINT,
            finished_at BIGINT, outcome TEXT, reason TEXT, message TEXT, exit_code BIGINT, signal BIGINT, waiting_kind TEXT,
            waiting_message TEXT, image TEXT, cpu TEXT, memory TEXT, ephemeral_storage TEXT, queue_seconds BIGINT,
            start_seconds BIGINT, run_seconds BIGINT, grace_seconds BIGINT, labels TEXT, log_bytes BIGINT, log_lost_bytes BIGINT,
            log_complete BIGINT, deadline_at BIGINT, digest TEXT, idempotency_key TEXT, rank BIGINT, cancel_requested_at BIGINT,
            stopping_since BIGINT, ttl_seconds BIGINT, attempt BIGINT, due_at BIGINT, retry_limit BIGINT, retry_on TEXT,
            timed_out_at BIGINT, tenant TEXT, namespace TEXT, traceparent TEXT, created_by TEXT, created_by_name TEXT, created_from TEXT,
            body TEXT, label_rows TEXT, webhook_url TEXT, webhook_secret_ref TEXT, event_at BIGINT, event_last_at BIGINT,
            event_count BIGINT, event_kind TEXT, event_source TEXT, event_message TEXT)),
        stored AS (INSERT INTO executions (id, generation, status, created_at, dispatched_at, job_uid, started_at, finished_at, outcome,
            reason, message, exit_code, signal, waiting_kind, waiting_message, image, cpu, memory, ephemeral_storage, queue_seconds,
            start_seconds, run_seconds, grace_seconds, labels, log_bytes, log_lost_bytes, log_complete, deadline_at, digest,
            idempotency_key, rank, cancel_requested_at, stopping_since, ttl_seconds, attempt, due_at, retry_limit, retry_on,
            timed_out_at, tenant, namespace, traceparent, created_by, created_by_name, created_from)
            SELECT id, generation, status, created_at, dispatched_at, job_uid, started_at, finished_at, outcome,
            reason, message, exit_code, signal, waiting_kind, waiting_message, image, cpu, memory, ephemeral_storage, queue_seconds,
            start_seconds, run_seconds, grace_seconds, labels, log_bytes, log_lost_bytes, log_complete, deadline_at, digest,
            idempotency_key, rank, cancel_requested_at, stopping_since, ttl_seconds, attempt, due_at, retry_limit, retry_on,
            timed_out_at, tenant, namespace, traceparent, created_by, created_by_name, created_from FROM new),
        bodies AS (INSERT INTO payloads (execution_id, body) SELECT id, body FROM new),
        named AS (INSERT INTO labels (execution_id, name, value, execution_created_at, execution_tenant)
            SELECT id, label.key, label.value, created_at, tenant FROM new CROSS JOIN LATERAL json_each_text(label_rows::JSON) AS label),
        hooks AS (INSERT INTO webhooks (execution_id, url, secret_ref)
            SELECT id, webhook_url, webhook_secret_ref FROM new WHERE webhook_url IS NOT NULL),
        told AS (INSERT INTO events (execution_id, sequence, at, last_at, count, kind, source, message)
            SELECT id, 1, event_at, event_last_at, event_count, event_kind, event_source, event_message FROM new)
        SELECT id, rank, created_at, generation INTO place FROM new LIMIT 1;
        IF most_earlier IS NOT NULL THEN
            SELECT count(*) INTO earlier FROM (SELECT 1 FROM executions WHERE dispatched_at IS NULL AND status <> 'FINISHED'
                AND not_before = 0 AND executions.tenant = whose
                AND (executions.rank, executions.created_at, executions.id) < (place.rank, place.created_at, place.id)
                ORDER BY rank, created_at, id LIMIT most_earlier) AS before_it;
        END IF;
        written := 1;
        stored_generation := place.generation;
    END
    $$
