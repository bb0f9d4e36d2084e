-- Recovery: failures apart from attempts, runs that were lost, connections of attempts that were given up, the desk.

-- Attempts that failed; the attempt itself is the fence, and a crash or a shutdown uses one up without any failure.
ALTER TABLE job ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
-- How often in a row the run was lost and queued again.
ALTER TABLE job ADD COLUMN recoveries INTEGER NOT NULL DEFAULT 0;

-- Connections of attempts that were given up: they hold their slots until they are confirmed closed.
CREATE TABLE open_connection (
  job_id TEXT NOT NULL REFERENCES job (job_id),
  attempt INTEGER NOT NULL,
  provider_id TEXT NOT NULL,
  model_id TEXT NOT NULL,
  concurrency_group TEXT,
  PRIMARY KEY (job_id, attempt)
) STRICT, WITHOUT ROWID;

-- What waits for a person, and what a person answered.
CREATE TABLE desk_item (
  item_seq INTEGER PRIMARY KEY,
  item_id TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL,
  state TEXT NOT NULL,
  reason TEXT NOT NULL,
  session_id TEXT NOT NULL REFERENCES session (session_id),
  job_id TEXT NOT NULL REFERENCES job (job_id),
  attempts INTEGER NOT NULL,
  created_at_us INTEGER NOT NULL,
  expires_at_us INTEGER NOT NULL,
  decided_at_us INTEGER,
  decided_by TEXT
) STRICT;

CREATE INDEX desk_item_waiting ON desk_item (expires_at_us) WHERE state = 'waiting';
CREATE UNIQUE INDEX desk_item_of_job ON desk_item (job_id) WHERE state = 'waiting';
