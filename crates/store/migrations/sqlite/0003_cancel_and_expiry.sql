-- Canceling, and how long records are kept after their end.
-- While an execution is being canceled its `deadline_at` is NULL: a cancel has a bound of its own.
-- `cancel_claim_until` keeps others from carrying out the same cancel.
ALTER TABLE executions ADD COLUMN cancel_requested_at INTEGER;
ALTER TABLE executions ADD COLUMN stopping_since INTEGER;
ALTER TABLE executions ADD COLUMN cancel_claim_until INTEGER NOT NULL DEFAULT 0;
-- 30 days, for what was accepted before it could be said.
ALTER TABLE executions ADD COLUMN ttl_seconds INTEGER NOT NULL DEFAULT 2592000;

-- The cancels under way: few, however many executions are unfinished.
CREATE INDEX executions_canceling ON executions (cancel_claim_until, id)
    WHERE cancel_requested_at IS NOT NULL AND status <> 'FINISHED';

-- By the time at which a record may be forgotten, in microseconds since 1970. The status leads, else the planner
-- takes the index of all by status and sorts.
CREATE INDEX executions_expiry ON executions (status, finished_at + ttl_seconds * 1000000, id)
    WHERE status = 'FINISHED';
