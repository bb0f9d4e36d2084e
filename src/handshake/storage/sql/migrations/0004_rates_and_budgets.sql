-- Rates, budgets and prices: what a run is expected to take, what it took, and what is owed, spent and reserved.

-- Expected of one attempt. A run that holds its slot has reserved it under every budget that binds it.
ALTER TABLE job ADD COLUMN estimated_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN estimated_cost_usd_micro INTEGER NOT NULL DEFAULT 0;
-- What all attempts took; an estimate if any provider did not report what it took.
ALTER TABLE job ADD COLUMN settled_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN settled_cost_usd_micro INTEGER NOT NULL DEFAULT 0;
ALTER TABLE job ADD COLUMN settled_is_estimate INTEGER NOT NULL DEFAULT 0;

ALTER TABLE session ADD COLUMN settled_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN settled_cost_usd_micro INTEGER NOT NULL DEFAULT 0;
ALTER TABLE session ADD COLUMN budgeted INTEGER NOT NULL DEFAULT 0;

-- Runs that wait from before: a token for four bytes, and the answer that is expected of a model without a bound.
UPDATE job SET estimated_tokens = coalesce(max_output_tokens, 4096) + (
  SELECT (thread_bytes + 3) / 4 FROM session WHERE session.session_id = job.session_id)
WHERE ended_at_us IS NULL;

-- What is owed of a provider's rates, in sixty-millionths of a request or token as of a wall time, and until when it is
-- closed. Within one runtime epoch the monotonic time of each is its wall time less `offset_us`.
CREATE TABLE provider_gate (
  provider_id TEXT NOT NULL PRIMARY KEY,
  requests_owed INTEGER NOT NULL CHECK (requests_owed >= 0),
  requests_at_us INTEGER NOT NULL,
  tokens_owed INTEGER NOT NULL CHECK (tokens_owed >= 0),
  tokens_at_us INTEGER NOT NULL,
  closed_until_us INTEGER NOT NULL,
  runtime_epoch INTEGER NOT NULL,
  offset_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One limit of one budget; the workspace's name is empty.
CREATE TABLE budget (
  scope TEXT NOT NULL,
  name TEXT NOT NULL,
  kind TEXT NOT NULL,
  most INTEGER NOT NULL CHECK (most >= 0),
  spent INTEGER NOT NULL DEFAULT 0 CHECK (spent >= 0),
  reserved INTEGER NOT NULL DEFAULT 0 CHECK (reserved >= 0),
  warned INTEGER NOT NULL DEFAULT 0 CHECK (warned IN (0, 1)),
  paused INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
  PRIMARY KEY (scope, name, kind)
) STRICT, WITHOUT ROWID;
