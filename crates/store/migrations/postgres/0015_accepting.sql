-- What is accepted is stored by a function. A host prepares each statement anew, and to plan one that writes five tables costs several times what
-- writing them does; within a function PostgreSQL keeps the plans for as long as the connection lasts. An older program goes on without it.
--
-- `given` is an array of rows of the type `new_execution`, each with the columns of its execution and of what belongs to that, in its text form: that is
-- read three times as fast as JSON (measured, 500 rows). A later step that adds a column makes another type and another function beside these, which
-- older programs go on with. All rows
-- are of the tenant `whose`, and there are `many`. It is written only where `newest` is a step of the schema that was made, as many fit into the queue
-- (`queue_most`, and `tenants_most` of the tenant's own), no key from `first_key` up to `behind_keys` is taken, and the tenant has so much of its
-- rate left (`cost`, in microseconds at the time `at_time`). A limit that is NULL does not hold anybody back. The first of them has `earlier`
-- others before it in the queue, counted where no more than `most_earlier` wait in all. `room` tells whether fewer than `most_running` were dispatched: as a rule more are,
-- and then nobody need ask again for a place.
--
-- `labeled` and `hooked` say how many have labels or a webhook: each statement has its cost, also where it writes nothing, and so has each question that
-- is not asked only for being NULL.
--
-- It answers with one row always, whose first columns are those that every answer has (`crates/store/src/sent.rs`).
--
-- A plan is made once, whatever is given, and for when there is much in the tables, whatever PostgreSQL believes to be in them then: so no table is
-- read from end to end, and what has an order is read in it. What cannot be read otherwise, as a sequence, is no reason to compile.
CREATE TYPE new_execution AS (
    id TEXT, tenant TEXT, namespace TEXT, created_at BIGINT, image TEXT, cpu TEXT, memory TEXT, ephemeral_storage TEXT, queue_seconds BIGINT,
    start_seconds BIGINT, run_seconds BIGINT, grace_seconds BIGINT, rank BIGINT, labels TEXT, ttl_seconds BIGINT,
    retry_limit BIGINT, retry_on TEXT, traceparent TEXT, created_by TEXT, created_by_name TEXT, created_from TEXT, digest TEXT,
    idempotency_key TEXT, body TEXT, label_rows TEXT, webhook_url TEXT, webhook_secret_ref TEXT, event_at BIGINT,
    event_last_at BIGINT, event_count BIGINT, event_kind TEXT, event_source TEXT, event_message TEXT, generation BIGINT,
    status TEXT, dispatched_at BIGINT, job_uid TEXT, started_at BIGINT, finished_at BIGINT, waiting_kind TEXT, waiting_message TEXT,
    log_bytes BIGINT, log_lost_bytes BIGINT, log_complete BIGINT, deadline_at BIGINT, cancel_requested_at BIGINT,
    timed_out_at BIGINT, stopping_since BIGINT, attempt BIGINT, due_at BIGINT, outcome TEXT, reason TEXT, message TEXT,
    exit_code BIGINT, signal BIGINT);

CREATE FUNCTION accept_executions(
    newest BIGINT, given TEXT, many BIGINT, whose TEXT, queue_most BIGINT, tenants_most BIGINT, first_key TEXT, behind_keys TEXT,
    cost BIGINT, at_time BIGINT, most_earlier BIGINT, most_running BIGINT, labeled BIGINT, hooked BIGINT, OUT begun INTEGER,
    OUT written INTEGER, OUT stored_generation BIGINT, OUT earlier BIGINT, OUT room INTEGER)
    LANGUAGE plpgsql SET enable_seqscan = off SET enable_sort = off SET jit = off
    SET plan_cache_mode = force_generic_plan AS $$
    DECLARE
        rows new_execution[];
        waiting BIGINT;
    BEGIN
        begun := (current_setting('transaction_deferrable') = 'on'
            AND current_setting('default_transaction_deferrable') = 'off')::INTEGER;
        PERFORM 1 FROM schema_migrations WHERE version = newest;
        IF NOT FOUND THEN
            RETURN;
        END IF;
        waiting := (SELECT last_value FROM queue_arrivals)
            + coalesce((SELECT value FROM counters WHERE name = 'places' AND label = 'queued'), 0);
        IF many > queue_most - waiting THEN
            RETURN;
        END IF;
        IF tenants_most IS NOT NULL THEN
            IF many > tenants_most
                - (SELECT count(*) FROM (SELECT 1 FROM executions WHERE dispatched_at IS NULL AND status <> 'FINISHED'
                AND not_before = 0 AND tenant = whose LIMIT tenants_most) AS ready)
                - (SELECT count(*) FROM (SELECT 1 FROM executions WHERE dispatched_at IS NULL AND status <> 'FINISHED'
                AND not_before > 0 AND tenant = whose LIMIT tenants_most) AS postponed) THEN
                RETURN;
            END IF;
        END IF;
        -- Of two at once with one key, the later is refused by the index.
        IF first_key IS NOT NULL THEN
            PERFORM 1 FROM executions WHERE idempotency_key IS NOT NULL
                AND idempotency_key >= first_key AND idempotency_key < behind_keys LIMIT 1;
            IF FOUND THEN
                RETURN;
            END IF;
        END IF;
        IF cost IS NOT NULL THEN
            INSERT INTO rates (tenant, busy_until) SELECT whose, at_time + cost WHERE cost <= 60000000
                ON CONFLICT (tenant) DO UPDATE SET busy_until = greatest(rates.busy_until, at_time) + cost
                WHERE greatest(rates.busy_until, at_time) + cost <= at_time + 60000000;
            IF NOT FOUND THEN
                RETURN;
            END IF;
        END IF;
        rows := given;
        INSERT INTO executions (
            id, generation, status, created_at, dispatched_at, job_uid, started_at, finished_at, outcome, reason, message,
            exit_code, signal, waiting_kind, waiting_message, image, cpu, memory, ephemeral_storage, queue_seconds,
            start_seconds, run_seconds, grace_seconds, labels, log_bytes, log_lost_bytes, log_complete, deadline_at, digest,
            idempotency_key, rank, cancel_requested_at, stopping_since, ttl_seconds, attempt, due_at, retry_limit, retry_on,
            timed_out_at, tenant, namespace, traceparent, created_by, created_by_name, created_from)
            SELECT
            id, generation, status, created_at, dispatched_at, job_uid, started_at, finished_at, outcome, reason, message,
            exit_code, signal, waiting_kind, waiting_message, image, cpu, memory, ephemeral_storage, queue_seconds,
            start_seconds, run_seconds, grace_seconds, labels, log_bytes, log_lost_bytes, log_complete, deadline_at, digest,
            idempotency_key, rank, cancel_requested_at, stopping_since, ttl_seconds, attempt, due_at, retry_limit, retry_on,
            timed_out_at, tenant, namespace, traceparent, created_by, created_by_name, created_from
            FROM unnest(rows);
        INSERT INTO payloads (execution_id, body) SELECT id, body FROM unnest(rows);
        IF labeled > 0 THEN
            INSERT INTO labels (execution_id, name, value, execution_created_at, execution_tenant)
                SELECT id, label.key, label.value, created_at, tenant
                FROM unnest(rows) CROSS JOIN LATERAL json_each_text(label_rows::JSON) AS label;
        END IF;
        IF hooked > 0 THEN
            INSERT INTO webhooks (execution_id, url, secret_ref)
                SELECT id, webhook_url, webhook_secret_ref FROM unnest(rows) WHERE webhook_url IS NOT NULL;
        END IF;
        INSERT INTO events (execution_id, sequence, at, last_at, count, kind, source, message)
            SELECT id, 1, event_at, event_last_at, event_count, event_kind, event_source, event_message FROM unnest(rows);
        stored_generation := rows[1].generation;
        IF waiting <= most_earlier THEN
            SELECT count(*) INTO earlier FROM (SELECT 1 FROM executions WHERE dispatched_at IS NULL AND status <> 'FINISHED'
                AND not_before = 0 AND executions.tenant = whose
                AND (executions.rank, executions.created_at, executions.id) < (rows[1].rank, rows[1].created_at, rows[1].id)
                ORDER BY rank, created_at, id LIMIT most_earlier) AS before_it;
        END IF;
        room := (coalesce((SELECT value FROM counters WHERE name = 'places' AND label = 'dispatched'), 0) < most_running)::INTEGER;
        written := 1;
    END
    $$
