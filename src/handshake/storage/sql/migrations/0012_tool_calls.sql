-- Tool calls: one row for each that a session asked for, whatever became of it. Artifacts are added by the end of a
-- batch, so what refers to them is checked at its commit.

CREATE TABLE tool_call (
  call_seq INTEGER PRIMARY KEY,
  session_id TEXT NOT NULL REFERENCES session (session_id),
  tool_call_id TEXT NOT NULL,
  job_id TEXT REFERENCES job (job_id),
  turn_id TEXT,
  trace_id TEXT NOT NULL,
  -- Among the calls that its run asked for, in their order; 0 if no run did.
  place INTEGER NOT NULL CHECK (place >= 0),
  tool_id TEXT NOT NULL,
  tool_version TEXT NOT NULL,
  transport TEXT NOT NULL,
  state TEXT NOT NULL,
  args_artifact_id TEXT REFERENCES artifact (sha256) DEFERRABLE INITIALLY DEFERRED,
  call_sha256 TEXT,
  decision TEXT,
  reason TEXT,
  error_code TEXT,
  approval_id TEXT,
  -- The result, or the error, in canonical form after redaction.
  result_artifact_id TEXT REFERENCES artifact (sha256) DEFERRABLE INITIALLY DEFERRED,
  idempotency_key TEXT,
  idempotency TEXT,
  side_effect TEXT,
  tainted INTEGER NOT NULL CHECK (tainted IN (0, 1)),
  runtime_epoch INTEGER NOT NULL,
  created_at_us INTEGER NOT NULL,
  started_at_us INTEGER,
  ended_at_us INTEGER
) STRICT;

CREATE UNIQUE INDEX tool_call_by_id ON tool_call (session_id, tool_call_id);

-- Calls that have not ended: few, whatever a session has behind it.
CREATE INDEX tool_call_open ON tool_call (session_id, call_seq) WHERE ended_at_us IS NULL;

-- What was carried out with a key is carried out once.
CREATE UNIQUE INDEX tool_call_by_key ON tool_call (session_id, tool_id, idempotency_key)
WHERE idempotency_key IS NOT NULL AND started_at_us IS NOT NULL;

-- Which sessions are tainted, and by what.
CREATE INDEX message_untrusted ON message (session_id, seq) WHERE trusted = 0;
