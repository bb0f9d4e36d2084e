-- Sessions and messages. Column lists stand in the order of the records' fields. The sums of a session that has ended
-- were told with its end; what is settled later stands with the job alone.

-- name: session_insert
INSERT INTO session (
  session_id, parent_session_id, root_session_id, spawn_depth, state, ending, running, waiting, blockers,
  paused, dispatched, model_id, provider_id, backend, parameter_class, role, lane, wp_id, mt_id,
  work_profile_id, execution_mode, memory_policy, title, next_seq, next_turn_seq, thread_bytes, total_tokens,
  last_error, created_at_us, updated_at_us, ended_at_us, settled_tokens, settled_cost_usd_micro, budgeted
) VALUES (
  :session_id, :parent_session_id, :root_session_id, :spawn_depth, :state, :ending, :running, :waiting,
  :blockers, :paused, :dispatched, :model_id, :provider_id, :backend, :parameter_class, :role, :lane, :wp_id,
  :mt_id, :work_profile_id, :execution_mode, :memory_policy, :title, :next_seq, :next_turn_seq, :thread_bytes,
  :total_tokens, :last_error, :created_at_us, :updated_at_us, :ended_at_us, :settled_tokens, :settled_cost_usd_micro,
  :budgeted
);

-- name: session_get
SELECT
  session_id, parent_session_id, root_session_id, spawn_depth, state, ending, running, waiting, blockers,
  paused, dispatched, model_id, provider_id, backend, parameter_class, role, lane, wp_id, mt_id,
  work_profile_id, execution_mode, memory_policy, title, next_seq, next_turn_seq, thread_bytes, total_tokens,
  last_error, created_at_us, updated_at_us, ended_at_us, settled_tokens, settled_cost_usd_micro, budgeted,
  checkpoint_count, checkpoint_seq, checkpoint_state, checkpoint_trigger, checkpoint_at_us, streamed_tokens
FROM session WHERE session_id = :session_id;

-- name: session_page
SELECT
  session_id, parent_session_id, root_session_id, spawn_depth, state, ending, running, waiting, blockers,
  paused, dispatched, model_id, provider_id, backend, parameter_class, role, lane, wp_id, mt_id,
  work_profile_id, execution_mode, memory_policy, title, next_seq, next_turn_seq, thread_bytes, total_tokens,
  last_error, created_at_us, updated_at_us, ended_at_us, settled_tokens, settled_cost_usd_micro, budgeted,
  checkpoint_count, checkpoint_seq, checkpoint_state, checkpoint_trigger, checkpoint_at_us, streamed_tokens
FROM session
WHERE session_id > :after AND (:state IS NULL OR state = :state) AND (:role IS NULL OR role = :role)
  AND (:wp_id IS NULL OR wp_id = :wp_id)
ORDER BY session_id LIMIT :limit;

-- name: session_by_state_count
SELECT state, count(*) FROM session GROUP BY state ORDER BY state;

-- name: session_held
SELECT session_id FROM session WHERE ending = 'open' AND (paused = 1 OR blockers > 0 OR waiting > 0);

-- name: session_accept_facts
SELECT ending, state, next_seq, next_turn_seq, model_id, provider_id, backend, lane, root_session_id, wp_id, mt_id,
  thread_bytes, budgeted, checkpoint_count, checkpoint_seq, last_job_seq
FROM session WHERE session_id = :session_id;

-- name: session_accepted
UPDATE session SET next_seq = :next_seq, next_turn_seq = :next_turn_seq, thread_bytes = thread_bytes + :bytes,
  updated_at_us = :now_us, last_job_seq = :enqueue_seq
WHERE session_id = :session_id AND next_seq = :next_seq - 1;

-- name: session_accepted_marked
UPDATE session SET next_seq = :next_seq, next_turn_seq = :next_turn_seq, thread_bytes = thread_bytes + :bytes,
  updated_at_us = :now_us, checkpoint_count = checkpoint_count + 1, checkpoint_seq = :next_seq - 1, checkpoint_state = state,
  checkpoint_trigger = :trigger, checkpoint_at_us = :now_us, streamed_tokens = 0, last_job_seq = :enqueue_seq
WHERE session_id = :session_id AND next_seq = :next_seq - 1;

-- name: session_followed
UPDATE session SET last_job_seq = :enqueue_seq WHERE session_id = :session_id;

-- name: session_started
UPDATE session SET running = 1, dispatched = 1, state = :state, updated_at_us = :now_us
WHERE session_id = :session_id AND ending = 'open' AND running = 0 AND waiting = 0 AND blockers = 0 AND paused = 0;

-- name: session_facts
SELECT ending, running, waiting, blockers, paused, dispatched, state, checkpoint_count FROM session WHERE session_id = :session_id;

-- name: session_move
UPDATE session SET ending = :ending, running = :running, waiting = :waiting, blockers = :blockers, paused = :paused,
  state = :state, updated_at_us = :now_us, ended_at_us = CASE WHEN :ending = 'open' THEN NULL ELSE :now_us END,
  checkpoint_count = checkpoint_count + :marks,
  checkpoint_seq = CASE :marks WHEN 1 THEN next_seq - 1 ELSE checkpoint_seq END,
  checkpoint_state = CASE :marks WHEN 1 THEN :state ELSE checkpoint_state END,
  checkpoint_trigger = CASE :marks WHEN 1 THEN :trigger ELSE checkpoint_trigger END,
  checkpoint_at_us = CASE :marks WHEN 1 THEN :now_us ELSE checkpoint_at_us END,
  streamed_tokens = CASE :marks WHEN 1 THEN 0 ELSE streamed_tokens END
WHERE session_id = :session_id AND state = :before AND ending = 'open';

-- name: session_miscounted
SELECT session_id, ending, state, running, waiting, blockers, paused, dispatched, runs, waits FROM (
  SELECT s.*,
    (SELECT count(*) FROM job AS j WHERE j.session_id = s.session_id AND j.ended_at_us IS NULL
      AND j.state = 'running') AS runs,
    (SELECT count(*) FROM job AS j WHERE j.session_id = s.session_id AND j.ended_at_us IS NULL
      AND j.state IN ('stalled', 'awaiting_user', 'awaiting_validation')) AS waits
  FROM session AS s
  WHERE s.ending = 'open' AND (:all = 1 OR s.running > 0 OR s.waiting > 0)
) WHERE running <> runs OR waiting <> waits ORDER BY session_id LIMIT :limit;

-- name: session_recount
UPDATE session SET running = :running, waiting = :waiting, state = :state, updated_at_us = :now_us
WHERE session_id = :session_id AND ending = 'open';

-- name: session_answered
UPDATE session SET running = 0, state = :state, next_seq = :next_seq, thread_bytes = thread_bytes + :bytes,
  total_tokens = total_tokens + :tokens, last_error = :last_error, updated_at_us = :now_us,
  settled_tokens = settled_tokens + :settled_tokens, settled_cost_usd_micro = settled_cost_usd_micro + :settled_cost,
  streamed_tokens = streamed_tokens + :streamed
WHERE session_id = :session_id AND ending = 'open' AND running = 1 AND next_seq = :next_seq - :said;

-- name: session_answered_marked
UPDATE session SET running = 0, state = :state, next_seq = :next_seq, thread_bytes = thread_bytes + :bytes,
  total_tokens = total_tokens + :tokens, last_error = :last_error, updated_at_us = :now_us,
  settled_tokens = settled_tokens + :settled_tokens, settled_cost_usd_micro = settled_cost_usd_micro + :settled_cost,
  checkpoint_count = checkpoint_count + 1, checkpoint_seq = :next_seq - 1, checkpoint_state = :state,
  checkpoint_trigger = :trigger, checkpoint_at_us = :now_us, streamed_tokens = 0
WHERE session_id = :session_id AND ending = 'open' AND running = 1 AND next_seq = :next_seq - :said;

-- name: session_asked_tools
UPDATE session SET next_seq = :next_seq, thread_bytes = thread_bytes + :bytes, total_tokens = total_tokens + :tokens,
  last_error = NULL, updated_at_us = :now_us, settled_tokens = settled_tokens + :settled_tokens,
  settled_cost_usd_micro = settled_cost_usd_micro + :settled_cost, streamed_tokens = streamed_tokens + :streamed
WHERE session_id = :session_id AND ending = 'open' AND running = 1 AND next_seq = :next_seq - :said;

-- name: session_told
UPDATE session SET next_seq = next_seq + 1, thread_bytes = thread_bytes + :bytes, updated_at_us = :now_us,
  tainted = tainted OR :taints
WHERE session_id = :session_id AND ending = 'open' AND next_seq = :seq;

-- name: session_marked
UPDATE session SET checkpoint_count = checkpoint_count + 1, checkpoint_seq = next_seq - 1, checkpoint_state = state,
  checkpoint_trigger = :trigger, checkpoint_at_us = :now_us, streamed_tokens = 0
WHERE session_id = :session_id AND ending = 'open' AND running = 1;

-- name: message_insert
INSERT INTO message (
  session_id, seq, message_id, turn_id, turn_seq, job_id, role, content_hash, content_artifact_id, content_bytes,
  timestamp_us, token_count, redacted, source_kind, trusted
) VALUES (
  :session_id, :seq, :message_id, :turn_id, :turn_seq, :job_id, :role, :content_hash, :content_artifact_id,
  :content_bytes, :timestamp_us, :token_count, :redacted, :source_kind, :trusted
);

-- name: message_page
WITH RECURSIVE {runs_of_session}
SELECT
  session_id, seq, message_id, turn_id, turn_seq, job_id, role, content_hash, content_artifact_id, content_bytes,
  timestamp_us, token_count, redacted, source_kind, trusted
FROM message
WHERE rowid IN (
    SELECT said.rowid FROM run CROSS JOIN message AS said ON said.job_id = run.job_id WHERE said.seq > :after
    UNION ALL
    SELECT own.rowid FROM message AS own
    WHERE own.session_id = :session_id AND own.job_id IS NULL AND own.seq > :after
  )
ORDER BY seq LIMIT :limit;

-- name: message_of_call
SELECT content_artifact_id FROM message WHERE job_id = :job_id AND message_id = :message_id AND role = 'TOOL_CALL';

-- name: message_thread
WITH RECURSIVE {runs_of_session}
SELECT thread.turn_seq, thread.role, thread.content_artifact_id, a.data
FROM (
  SELECT said.turn_seq, said.seq, said.role, said.content_artifact_id
  FROM run CROSS JOIN message AS said ON said.job_id = run.job_id
  UNION ALL
  SELECT turn_seq, seq, role, content_artifact_id FROM message WHERE session_id = :session_id AND job_id IS NULL
) AS thread CROSS JOIN artifact AS a ON a.sha256 = thread.content_artifact_id
WHERE thread.turn_seq <= :turn_seq ORDER BY thread.turn_seq, thread.seq;

-- name: message_stretch
SELECT
  rowid, session_id, seq, message_id, turn_id, turn_seq, job_id, role, content_hash, content_artifact_id, content_bytes,
  timestamp_us, token_count, redacted, source_kind, trusted
FROM message WHERE rowid > :after ORDER BY rowid LIMIT :limit;

-- name: session_settle
UPDATE session SET settled_tokens = settled_tokens + :settled_tokens,
  settled_cost_usd_micro = settled_cost_usd_micro + :settled_cost
WHERE session_id = :session_id AND ending = 'open';

-- name: session_settle_abandoned
UPDATE session SET settled_tokens = settled_tokens + held.tokens,
  settled_cost_usd_micro = settled_cost_usd_micro + held.cost
FROM (
  SELECT min(session_id) AS session_id, sum(estimated_tokens) AS tokens, sum(estimated_cost_usd_micro) AS cost
  FROM job WHERE holds_slot = 1 GROUP BY session_id || '') AS held
WHERE session.session_id = held.session_id AND session.ending = 'open';

-- name: session_run_refused
UPDATE session SET last_error = :last_error, updated_at_us = :now_us WHERE session_id = :session_id;
