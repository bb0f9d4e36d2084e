-- Ground floor: workspace, artifacts, sessions, messages, jobs, scheduler state, the event log and its checkpoints.
-- Times are microseconds since 1970-01-01T00:00:00Z; hashes in hex are lower case.

CREATE TABLE workspace (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  workspace_id TEXT NOT NULL,
  created_at_us INTEGER NOT NULL,
  runtime_epoch INTEGER NOT NULL,
  -- How many sessions are open: counting them would cost more with every one.
  open_sessions INTEGER NOT NULL CHECK (open_sessions >= 0)
) STRICT;

-- Immutable content by hash. `data` is null when the bytes are a file of that name under artifacts/.
CREATE TABLE artifact (
  sha256 TEXT NOT NULL PRIMARY KEY,
  bytes INTEGER NOT NULL,
  media_type TEXT NOT NULL,
  created_at_us INTEGER NOT NULL,
  data BLOB
) STRICT;

CREATE TABLE session (
  session_id TEXT NOT NULL PRIMARY KEY,
  parent_session_id TEXT REFERENCES session (session_id),
  root_session_id TEXT NOT NULL,
  spawn_depth INTEGER NOT NULL,
  state TEXT NOT NULL,
  ending TEXT NOT NULL,
  running INTEGER NOT NULL CHECK (running IN (0, 1)),
  waiting INTEGER NOT NULL CHECK (waiting >= 0),
  blockers INTEGER NOT NULL CHECK (blockers >= 0),
  paused INTEGER NOT NULL CHECK (paused IN (0, 1)),
  dispatched INTEGER NOT NULL CHECK (dispatched IN (0, 1)),
  model_id TEXT NOT NULL,
  provider_id TEXT NOT NULL,
  backend TEXT NOT NULL,
  parameter_class TEXT NOT NULL,
  role TEXT NOT NULL,
  lane TEXT NOT NULL,
  wp_id TEXT,
  mt_id TEXT,
  work_profile_id TEXT,
  execution_mode TEXT NOT NULL,
  memory_policy TEXT NOT NULL,
  title TEXT,
  next_seq INTEGER NOT NULL,
  next_turn_seq INTEGER NOT NULL,
  thread_bytes INTEGER NOT NULL,
  total_tokens INTEGER NOT NULL,
  last_error TEXT,
  created_at_us INTEGER NOT NULL,
  updated_at_us INTEGER NOT NULL,
  ended_at_us INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX session_open ON session (session_id) WHERE ending = 'open';

-- In order of arrival, not clustered by session: a batch then touches half as many pages.
CREATE TABLE message (
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
  trusted INTEGER NOT NULL,
  PRIMARY KEY (session_id, seq)
) STRICT;

CREATE TABLE job (
  enqueue_seq INTEGER PRIMARY KEY,
  job_id TEXT NOT NULL UNIQUE,
  job_kind TEXT NOT NULL,
  session_id TEXT NOT NULL REFERENCES session (session_id),
  turn_id TEXT NOT NULL,
  turn_seq INTEGER NOT NULL,
  trace_id TEXT NOT NULL,
  wp_id TEXT,
  mt_id TEXT,
  state TEXT NOT NULL,
  provider_id TEXT NOT NULL,
  model_id TEXT NOT NULL,
  backend TEXT NOT NULL,
  lane TEXT NOT NULL,
  priority INTEGER NOT NULL,
  concurrency_group TEXT,
  fairness_key TEXT NOT NULL,
  attempt INTEGER NOT NULL DEFAULT 0,
  max_retries INTEGER NOT NULL,
  retry_backoff TEXT NOT NULL,
  timeout_ms INTEGER NOT NULL,
  max_output_tokens INTEGER,
  idempotency_key TEXT,
  request_sha256 TEXT NOT NULL,
  created_at_us INTEGER NOT NULL,
  not_before_us INTEGER NOT NULL DEFAULT 0,
  wait_reason TEXT,
  runtime_epoch INTEGER NOT NULL DEFAULT 0,
  holds_slot INTEGER NOT NULL DEFAULT 0 CHECK (holds_slot IN (0, 1)),
  started_at_us INTEGER,
  ended_at_us INTEGER,
  reason TEXT,
  error_code TEXT,
  error_summary TEXT,
  prompt_hash TEXT,
  answer_message_id TEXT,
  prompt_tokens INTEGER,
  completion_tokens INTEGER,
  total_tokens INTEGER
) STRICT;

CREATE INDEX job_by_session ON job (session_id);
CREATE INDEX job_open ON job (session_id, enqueue_seq) WHERE ended_at_us IS NULL;
-- Attempts whose connection may be open; every running job is one of them.
CREATE INDEX job_holding ON job (enqueue_seq) WHERE holds_slot = 1;
CREATE UNIQUE INDEX job_idempotency ON job (session_id, idempotency_key) WHERE idempotency_key IS NOT NULL;

-- What an attempt left besides its answer: partial text, a late answer, a provider's error body.
CREATE TABLE job_artifact (
  job_id TEXT NOT NULL REFERENCES job (job_id),
  attempt INTEGER NOT NULL,
  kind TEXT NOT NULL,
  artifact_id TEXT NOT NULL REFERENCES artifact (sha256),
  created_at_us INTEGER NOT NULL,
  PRIMARY KEY (job_id, attempt, kind)
) STRICT, WITHOUT ROWID;

-- Stride passes; a missing row is a pass of 0.
CREATE TABLE lane_pass (
  lane TEXT NOT NULL PRIMARY KEY,
  pass INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The round in which a tree goes next, of those that wait in one lane and priority.
CREATE TABLE tree_pass (
  fairness_key TEXT NOT NULL,
  lane TEXT NOT NULL,
  priority INTEGER NOT NULL,
  pass INTEGER NOT NULL,
  PRIMARY KEY (fairness_key, lane, priority)
) STRICT, WITHOUT ROWID;

-- The log: `body` is the canonical event, `hash` its RFC 6962 leaf hash.
CREATE TABLE event (
  seq INTEGER PRIMARY KEY,
  type TEXT NOT NULL,
  session_id TEXT,
  job_id TEXT,
  at_us INTEGER NOT NULL,
  hash BLOB NOT NULL,
  body BLOB NOT NULL
) STRICT;

CREATE INDEX event_by_session ON event (session_id, seq) WHERE session_id IS NOT NULL;

CREATE TABLE log_state (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  size INTEGER NOT NULL,
  last_hash TEXT NOT NULL,
  frontier BLOB NOT NULL
) STRICT;

CREATE TABLE checkpoint (
  tree_size INTEGER PRIMARY KEY,
  root_hash TEXT NOT NULL,
  signed_at_us INTEGER NOT NULL,
  note TEXT NOT NULL
) STRICT;

-- Virtual times between lanes (priority -1) and between trees of a lane and priority.
CREATE TABLE virtual_time (
  lane TEXT NOT NULL,
  priority INTEGER NOT NULL,
  pass INTEGER NOT NULL,
  PRIMARY KEY (lane, priority)
) STRICT, WITHOUT ROWID;

-- What the configuration declared and the log has told, by subject, so that it is told once per change.
CREATE TABLE declaration (
  subject TEXT NOT NULL PRIMARY KEY,
  sha256 TEXT NOT NULL,
  at_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
