-- The desk also holds calls of tools, which not every time a run asked for.

CREATE TABLE desk_item_of_all (
  item_seq INTEGER PRIMARY KEY,
  item_id TEXT NOT NULL UNIQUE,
  kind TEXT NOT NULL,
  state TEXT NOT NULL,
  reason TEXT NOT NULL,
  session_id TEXT NOT NULL REFERENCES session (session_id),
  job_id TEXT REFERENCES job (job_id),
  attempts INTEGER NOT NULL,
  created_at_us INTEGER NOT NULL,
  expires_at_us INTEGER NOT NULL,
  decided_at_us INTEGER,
  decided_by TEXT,
  -- Of a call: the tool, the call that an approval is bound to, its canonical arguments, and as JSON which of them
  -- nobody stands for and the messages that tainted the session.
  tool_id TEXT,
  tool_version TEXT,
  call_sha256 TEXT,
  args_sha256 TEXT,
  findings TEXT,
  tainted_by TEXT
) STRICT;

INSERT INTO desk_item_of_all (
  item_seq, item_id, kind, state, reason, session_id, job_id, attempts, created_at_us, expires_at_us, decided_at_us,
  decided_by
)
SELECT
  item_seq, item_id, kind, state, reason, session_id, job_id, attempts, created_at_us, expires_at_us, decided_at_us,
  decided_by
FROM desk_item;

DROP TABLE desk_item;

ALTER TABLE desk_item_of_all RENAME TO desk_item;

CREATE INDEX desk_item_waiting ON desk_item (expires_at_us) WHERE state = 'waiting';
CREATE UNIQUE INDEX desk_item_of_job ON desk_item (job_id) WHERE state = 'waiting' AND job_id IS NOT NULL;
CREATE UNIQUE INDEX desk_item_of_call ON desk_item (session_id, call_sha256) WHERE state = 'waiting' AND job_id IS NULL;
