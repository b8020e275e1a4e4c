-- Priorities. `rank` is the priority turned round: the lowest rank is in front. So the queue's order ascends in each
-- column, and one comparison of rows tells a place in it. An older program writes 0 and reads on without it.
ALTER TABLE executions ADD COLUMN rank INTEGER NOT NULL DEFAULT 0;

-- The queue in its new order takes the place of the old one: an older program finds its rows in it too, and sorts them.
DROP INDEX executions_queue;
CREATE INDEX executions_queue ON executions (status, dispatched_at, rank, created_at, id)
    WHERE status = 'QUEUED' AND dispatched_at IS NULL;
