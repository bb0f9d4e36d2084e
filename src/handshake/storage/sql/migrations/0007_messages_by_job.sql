-- Messages are found by their job, and a session's by its jobs, as events are: the key by session was touched in as many
-- places as there are sessions. That numbers are dense is kept by `next_seq` of their session, which moves only from the
-- number that was given to the message.

CREATE TABLE message_by_arrival (
  session_id TEXT NOT NULL REFERENCES session (session_id),
  seq INTEGER NOT NULL,
  message_id TEXT NOT NULL,
  turn_id TEXT NOT NULL,
  turn_seq INTEGER NOT NULL,
  job_id TEXT,
  role TEXT NOT NULL,
  content_hash TEXT NOT NULL,
  content_artifact_id TEXT NOT NULL REFERENCES artifact (sha256),
  content_bytes INTEGER NOT NULL,
  timestamp_us INTEGER NOT NULL,
  token_count INTEGER,
  redacted INTEGER NOT NULL,
  source_kind TEXT NOT NULL,
  trusted INTEGER NOT NULL
) STRICT;

INSERT INTO message_by_arrival (
  session_id, seq, message_id, turn_id, turn_seq, job_id, role, content_hash, content_artifact_id, content_bytes,
  timestamp_us, token_count, redacted, source_kind, trusted
)
SELECT
  session_id, seq, message_id, turn_id, turn_seq, job_id, role, content_hash, content_artifact_id, content_bytes,
  timestamp_us, token_count, redacted, source_kind, trusted
FROM message ORDER BY rowid;

DROP TABLE message;

ALTER TABLE message_by_arrival RENAME TO message;

CREATE INDEX message_by_job ON message (job_id) WHERE job_id IS NOT NULL;

CREATE INDEX message_of_session ON message (session_id) WHERE job_id IS NULL;
