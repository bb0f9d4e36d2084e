-- Jobs and the scheduler's stored state. Column lists stand in the order of the record's fields.

-- name: job_insert
INSERT INTO job (
  job_id, job_kind, session_id, turn_id, turn_seq, trace_id, wp_id, mt_id, state, provider_id, model_id,
  backend, lane, priority, concurrency_group, fairness_key, max_retries, retry_backoff, timeout_ms,
  max_output_tokens, idempotency_key, request_sha256, created_at_us, estimated_tokens, estimated_cost_usd_micro, before_seq
) VALUES (
  :job_id, :job_kind, :session_id, :turn_id, :turn_seq, :trace_id, :wp_id, :mt_id, :state, :provider_id,
  :model_id, :backend, :lane, :priority, :concurrency_group, :fairness_key, :max_retries, :retry_backoff,
  :timeout_ms, :max_output_tokens, :idempotency_key, :request_sha256, :created_at_us, :estimated_tokens,
  :estimated_cost_usd_micro, :before_seq
);

-- name: job_following_facts
SELECT s.thread_bytes, j.max_output_tokens
FROM job AS j JOIN session AS s ON s.session_id = j.session_id WHERE j.job_id = :job_id;

-- name: job_follow
INSERT INTO job (
  job_id, job_kind, session_id, turn_id, turn_seq, run_seq, trace_id, wp_id, mt_id, state, provider_id, model_id,
  backend, lane, priority, concurrency_group, fairness_key, max_retries, retry_backoff, timeout_ms,
  max_output_tokens, request_sha256, created_at_us, estimated_tokens, estimated_cost_usd_micro, before_seq
)
SELECT
  :job_id, job_kind, session_id, turn_id, turn_seq, run_seq + 1, trace_id, wp_id, mt_id, 'queued', provider_id,
  model_id, backend, lane, priority, concurrency_group, fairness_key, max_retries, retry_backoff, timeout_ms,
  max_output_tokens, request_sha256, :created_at_us, :estimated_tokens, :estimated_cost_usd_micro,
  (SELECT last_job_seq FROM session AS s WHERE s.session_id = job.session_id)
FROM job WHERE job_id = :before;

-- name: job_get
SELECT
  job_id, enqueue_seq, job_kind, session_id, turn_id, turn_seq, trace_id, wp_id, mt_id, state, provider_id, model_id,
  backend, lane, priority, concurrency_group, fairness_key, attempt, max_retries, retry_backoff, timeout_ms,
  max_output_tokens, idempotency_key, request_sha256, created_at_us, not_before_us, wait_reason,
  runtime_epoch, holds_slot, started_at_us, ended_at_us, reason, error_code, error_summary, prompt_hash,
  answer_message_id, prompt_tokens, completion_tokens, total_tokens, failures, recoveries, estimated_tokens,
  estimated_cost_usd_micro, settled_tokens, settled_cost_usd_micro, settled_is_estimate,
  run_seq, step
FROM job WHERE job_id = :job_id;

-- name: job_answer
SELECT m.content_artifact_id FROM job AS j
JOIN message AS m ON m.job_id = j.job_id AND m.message_id = j.answer_message_id
WHERE j.job_id = :job_id;

-- name: job_page
SELECT
  job_id, enqueue_seq, job_kind, session_id, turn_id, turn_seq, trace_id, wp_id, mt_id, state, provider_id, model_id,
  backend, lane, priority, concurrency_group, fairness_key, attempt, max_retries, retry_backoff, timeout_ms,
  max_output_tokens, idempotency_key, request_sha256, created_at_us, not_before_us, wait_reason,
  runtime_epoch, holds_slot, started_at_us, ended_at_us, reason, error_code, error_summary, prompt_hash,
  answer_message_id, prompt_tokens, completion_tokens, total_tokens, failures, recoveries, estimated_tokens,
  estimated_cost_usd_micro, settled_tokens, settled_cost_usd_micro, settled_is_estimate,
  run_seq, step
FROM job
WHERE enqueue_seq > :after AND (:session_id IS NULL OR session_id = :session_id) AND (:state IS NULL OR state = :state)
ORDER BY enqueue_seq LIMIT :limit;

-- name: job_by_key
SELECT job_id, request_sha256, turn_id, state FROM job WHERE session_id = :session_id AND idempotency_key = :key;

-- name: job_open_of_session
SELECT job_id, state FROM job
WHERE session_id = :session_id AND ended_at_us IS NULL ORDER BY enqueue_seq;

-- name: job_queued_count
SELECT count(*) FROM job WHERE ended_at_us IS NULL AND state = 'queued';

-- name: job_by_state_count
SELECT state, count(*) FROM job GROUP BY state ORDER BY state;

-- name: job_queue
SELECT job_id, session_id, enqueue_seq, turn_seq, lane, priority, provider_id, model_id, concurrency_group,
  fairness_key, attempt, created_at_us, not_before_us, trace_id, wp_id, mt_id, estimated_tokens,
  estimated_cost_usd_micro, wait_reason, step
FROM job WHERE ended_at_us IS NULL AND state = 'queued';

-- name: job_queued
SELECT job_id, session_id, enqueue_seq, turn_seq, lane, priority, provider_id, model_id, concurrency_group,
  fairness_key, attempt, created_at_us, not_before_us, trace_id, wp_id, mt_id, estimated_tokens,
  estimated_cost_usd_micro, wait_reason, step
FROM job WHERE job_id = :job_id AND state = 'queued';

-- name: job_queue_page
SELECT job_id, session_id, enqueue_seq, turn_seq, lane, priority, provider_id, model_id, concurrency_group,
  fairness_key, attempt, created_at_us, not_before_us, trace_id, wp_id, mt_id, estimated_tokens,
  estimated_cost_usd_micro, wait_reason, step
FROM job WHERE ended_at_us IS NULL AND state = 'queued' AND enqueue_seq > :after ORDER BY enqueue_seq LIMIT :limit;

-- name: job_head_of_session
SELECT job_id FROM job WHERE session_id = :session_id AND ended_at_us IS NULL AND state = 'queued' ORDER BY turn_seq, enqueue_seq LIMIT 1;

-- name: job_in_progress
SELECT job_id, session_id, lane, provider_id, model_id, concurrency_group, attempt, state, holds_slot FROM job
WHERE holds_slot = 1 OR state = 'running' ORDER BY enqueue_seq;

-- name: job_running_count
SELECT count(*) FROM job WHERE state = 'running';

-- name: job_orphans
SELECT job_id FROM job WHERE state = 'running' ORDER BY enqueue_seq LIMIT :limit;

-- name: job_release_ended
UPDATE job SET holds_slot = 0 WHERE holds_slot = 1 AND state <> 'running';

-- name: job_started
UPDATE job SET state = 'running', attempt = :attempt, holds_slot = (step = 'call'), started_at_us = :now_us, wait_reason = NULL,
  runtime_epoch = :epoch
WHERE job_id = :job_id AND state = 'queued' AND attempt = :attempt - 1;

-- name: job_attempt
SELECT j.state, j.attempt, j.runtime_epoch, j.turn_id, j.turn_seq, j.trace_id, j.wp_id, j.mt_id, j.lane, j.priority,
  j.provider_id, j.model_id, j.concurrency_group, j.fairness_key, j.enqueue_seq, j.created_at_us, j.started_at_us,
  j.max_retries, j.retry_backoff, j.holds_slot, j.failures, j.estimated_tokens, j.estimated_cost_usd_micro,
  s.ending, s.waiting, s.blockers, s.paused, s.next_seq, j.run_seq, s.checkpoint_count, s.checkpoint_seq,
  s.streamed_tokens, j.step, s.tainted
FROM job AS j JOIN session AS s ON s.session_id = j.session_id WHERE j.job_id = :job_id;

-- name: job_request
SELECT j.turn_seq, j.timeout_ms, j.max_output_tokens, s.thread_bytes
FROM job AS j JOIN session AS s ON s.session_id = j.session_id WHERE j.job_id = :job_id;

-- name: job_request_bytes
WITH RECURSIVE {runs_of_session}, thread AS (
  SELECT said.turn_seq, said.seq, said.role, said.content_bytes
  FROM run CROSS JOIN message AS said ON said.job_id = run.job_id
  UNION ALL
  SELECT turn_seq, seq, role, content_bytes FROM message WHERE session_id = :session_id AND job_id IS NULL
)
SELECT coalesce(sum(thread.content_bytes), 0) FROM job AS j JOIN thread
WHERE j.job_id = :job_id AND (thread.turn_seq = j.turn_seq OR thread.turn_seq < j.turn_seq AND thread.turn_seq IN (
  SELECT turn_seq FROM (SELECT turn_seq, role, max(seq) FROM thread GROUP BY turn_seq) WHERE role = 'ASSISTANT'));

-- name: job_last_of_turn
WITH RECURSIVE {runs_of_session}
SELECT j.job_id FROM run CROSS JOIN job AS j ON j.job_id = run.job_id WHERE j.turn_id = :turn_id LIMIT 1;

-- name: job_answered
UPDATE job SET state = :state, holds_slot = 0, ended_at_us = :now_us, reason = :reason, error_code = :error_code,
  prompt_hash = :prompt_hash, answer_message_id = :answer_message_id, prompt_tokens = :prompt_tokens,
  completion_tokens = :completion_tokens, total_tokens = :total_tokens,
  settled_tokens = settled_tokens + :settled_tokens, settled_cost_usd_micro = settled_cost_usd_micro + :settled_cost,
  settled_is_estimate = settled_is_estimate OR :is_estimate
WHERE job_id = :job_id AND state = 'running' AND attempt = :attempt AND runtime_epoch = :epoch;

-- name: job_asked_tools
UPDATE job SET step = 'tools', holds_slot = 0, prompt_hash = :prompt_hash, answer_message_id = :answer_message_id,
  prompt_tokens = :prompt_tokens, completion_tokens = :completion_tokens, total_tokens = :total_tokens,
  settled_tokens = settled_tokens + :settled_tokens, settled_cost_usd_micro = settled_cost_usd_micro + :settled_cost,
  settled_is_estimate = settled_is_estimate OR :is_estimate
WHERE job_id = :job_id AND state = 'running' AND attempt = :attempt AND runtime_epoch = :epoch AND step = 'call';

-- name: job_concluded
UPDATE job SET state = :state, ended_at_us = :now_us, reason = :reason
WHERE job_id = :job_id AND state = :before AND step = 'tools';

-- name: job_move
UPDATE job SET state = :after, reason = :reason, not_before_us = :not_before_us, wait_reason = :wait_reason,
  holds_slot = :holds_slot, ended_at_us = :ended_at_us, error_code = :error_code
WHERE job_id = :job_id AND state = :before;

-- name: job_requeue
UPDATE job SET state = :after, reason = NULL, not_before_us = :not_before_us, wait_reason = :wait_reason,
  holds_slot = 0, failures = :failures, recoveries = :recoveries
WHERE job_id = :job_id AND state = :before;

-- name: connection_left_open
INSERT INTO open_connection (job_id, attempt, provider_id, model_id, concurrency_group)
VALUES (:job_id, :attempt, :provider_id, :model_id, :concurrency_group);

-- name: connection_closed
DELETE FROM open_connection WHERE job_id = :job_id AND attempt = :attempt;

-- name: connection_forget_all
DELETE FROM open_connection;

-- name: connections_open
SELECT provider_id, model_id, concurrency_group FROM open_connection;

-- name: job_settle
UPDATE job SET settled_tokens = settled_tokens + :settled_tokens,
  settled_cost_usd_micro = settled_cost_usd_micro + :settled_cost,
  settled_is_estimate = settled_is_estimate OR :is_estimate
WHERE job_id = :job_id;

-- name: job_settle_abandoned
UPDATE job SET settled_tokens = settled_tokens + estimated_tokens,
  settled_cost_usd_micro = settled_cost_usd_micro + estimated_cost_usd_micro, settled_is_estimate = 1
WHERE holds_slot = 1;

-- name: job_limited
UPDATE job SET wait_reason = 'rate_limit' WHERE job_id = :job_id AND state = 'queued';

-- name: job_refused
UPDATE job SET state = :state, ended_at_us = :now_us, reason = :reason, error_code = :error_code, wait_reason = NULL
WHERE job_id = :job_id AND state = 'queued';

-- name: job_release
UPDATE job SET holds_slot = 0
WHERE job_id = :job_id AND attempt = :attempt AND holds_slot = 1 AND state <> 'running';

-- name: job_artifact_put
INSERT INTO job_artifact (job_id, attempt, kind, artifact_id, created_at_us)
VALUES (:job_id, :attempt, :kind, :artifact_id, :created_at_us) ON CONFLICT (job_id, attempt, kind) DO NOTHING;

-- name: job_artifact_replace
INSERT INTO job_artifact (job_id, attempt, kind, artifact_id, created_at_us)
VALUES (:job_id, :attempt, :kind, :artifact_id, :created_at_us)
ON CONFLICT (job_id, attempt, kind)
DO UPDATE SET artifact_id = excluded.artifact_id, created_at_us = excluded.created_at_us;

-- name: job_artifact_page
SELECT attempt, kind, artifact_id, created_at_us FROM job_artifact WHERE job_id = :job_id
ORDER BY attempt, kind LIMIT :limit;

-- name: pass_lanes
SELECT lane, pass FROM lane_pass;

-- name: pass_trees
SELECT lane, priority, fairness_key, pass FROM tree_pass;

-- name: pass_virtual
SELECT lane, priority, pass FROM virtual_time;

-- name: pass_lane_put
INSERT INTO lane_pass (lane, pass) VALUES (:lane, :pass) ON CONFLICT (lane) DO UPDATE SET pass = excluded.pass;

-- name: pass_tree_put
INSERT INTO tree_pass (fairness_key, lane, priority, pass) VALUES (:tree, :lane, :priority, :pass)
ON CONFLICT (fairness_key, lane, priority) DO UPDATE SET pass = excluded.pass;

-- name: pass_virtual_put
INSERT INTO virtual_time (lane, priority, pass) VALUES (:lane, :priority, :pass)
ON CONFLICT (lane, priority) DO UPDATE SET pass = excluded.pass;

-- name: pass_tree_forget
DELETE FROM tree_pass WHERE fairness_key = :tree;

-- name: gates
SELECT provider_id, requests_owed, requests_at_us, tokens_owed, tokens_at_us, closed_until_us, runtime_epoch, offset_us
FROM provider_gate ORDER BY provider_id;

-- name: gate_put
INSERT INTO provider_gate (
  provider_id, requests_owed, requests_at_us, tokens_owed, tokens_at_us, closed_until_us, runtime_epoch, offset_us
) VALUES (
  :provider_id, :requests_owed, :requests_at_us, :tokens_owed, :tokens_at_us, :closed_until_us, :epoch, :offset_us
) ON CONFLICT (provider_id) DO UPDATE SET requests_owed = excluded.requests_owed,
  requests_at_us = excluded.requests_at_us, tokens_owed = excluded.tokens_owed, tokens_at_us = excluded.tokens_at_us,
  closed_until_us = excluded.closed_until_us, runtime_epoch = excluded.runtime_epoch, offset_us = excluded.offset_us;
