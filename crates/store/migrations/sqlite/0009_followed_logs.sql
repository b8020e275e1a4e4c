-- What was read of the logs of running scripts, and the place to read on from: the time of the last line as Kubernetes
-- wrote it, how many bytes of lines with that time were read, and a check of them. One row while an execution runs, at most; its kept log
-- is in `logs` once it is finished.
CREATE TABLE followed_logs (
    execution_id TEXT PRIMARY KEY NOT NULL,
    pod TEXT NOT NULL,
    pod_uid TEXT NOT NULL,
    head BLOB NOT NULL,
    head_is_closed INTEGER NOT NULL,
    tail BLOB NOT NULL,
    bytes INTEGER NOT NULL,
    stamp TEXT,
    stamp_bytes INTEGER NOT NULL,
    stamp_check INTEGER NOT NULL
) STRICT;
