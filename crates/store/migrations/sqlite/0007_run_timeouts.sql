-- What runs too long is ended as a cancel is, step by step, and has no deadline either while it is.
ALTER TABLE executions ADD COLUMN timed_out_at INTEGER;

-- What is being ended, for either reason, takes the place of the cancels under way. An older program does without the
-- index, and ends what it knows of.
DROP INDEX executions_canceling;
CREATE INDEX executions_stopping ON executions (cancel_claim_until, id)
    WHERE (cancel_requested_at IS NOT NULL OR timed_out_at IS NOT NULL) AND status <> 'FINISHED';
