-- Whether a request for a Job of it was ever left without an answer. An older program leaves it as it is.
ALTER TABLE executions ADD COLUMN creation_in_doubt INTEGER NOT NULL DEFAULT 0;
