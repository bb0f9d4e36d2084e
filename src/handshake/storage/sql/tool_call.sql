-- Tool calls. Column lists stand in the order of the record's fields.

-- name: tool_call_insert
INSERT INTO tool_call (
  session_id, tool_call_id, job_id, turn_id, trace_id, place, tool_id, tool_version, transport, state,
  args_artifact_id, call_sha256, decision, reason, error_code, approval_id, result_artifact_id, idempotency_key,
  idempotency, side_effect, tainted, runtime_epoch, created_at_us, started_at_us, ended_at_us
) VALUES (
  :session_id, :tool_call_id, :job_id, :turn_id, :trace_id, :place, :tool_id, :tool_version, :transport, :state,
  :args_artifact_id, :call_sha256, :decision, :reason, :error_code, :approval_id, :result_artifact_id,
  :idempotency_key, :idempotency, :side_effect, :tainted, :runtime_epoch, :created_at_us, :started_at_us, :ended_at_us
);

-- name: tool_call_by_id
SELECT
  call_seq, session_id, tool_call_id, job_id, turn_id, trace_id, place, tool_id, tool_version, transport, state,
  args_artifact_id, call_sha256, decision, reason, error_code, approval_id, result_artifact_id, idempotency_key,
  idempotency, side_effect, tainted, runtime_epoch, created_at_us, started_at_us, ended_at_us
FROM tool_call WHERE session_id = :session_id AND tool_call_id = :tool_call_id;

-- name: tool_call_by_key
SELECT
  call_seq, session_id, tool_call_id, job_id, turn_id, trace_id, place, tool_id, tool_version, transport, state,
  args_artifact_id, call_sha256, decision, reason, error_code, approval_id, result_artifact_id, idempotency_key,
  idempotency, side_effect, tainted, runtime_epoch, created_at_us, started_at_us, ended_at_us
FROM tool_call
WHERE session_id = :session_id AND tool_id = :tool_id AND idempotency_key = :idempotency_key
  AND idempotency_key IS NOT NULL AND started_at_us IS NOT NULL;

-- name: tool_call_open
SELECT
  call_seq, session_id, tool_call_id, job_id, turn_id, trace_id, place, tool_id, tool_version, transport, state,
  args_artifact_id, call_sha256, decision, reason, error_code, approval_id, result_artifact_id, idempotency_key,
  idempotency, side_effect, tainted, runtime_epoch, created_at_us, started_at_us, ended_at_us
FROM tool_call
WHERE session_id = :session_id AND ended_at_us IS NULL AND (:job_id IS NULL OR job_id = :job_id)
ORDER BY call_seq LIMIT :limit;

-- name: tool_call_waiting
SELECT
  call_seq, session_id, tool_call_id, job_id, turn_id, trace_id, place, tool_id, tool_version, transport, state,
  args_artifact_id, call_sha256, decision, reason, error_code, approval_id, result_artifact_id, idempotency_key,
  idempotency, side_effect, tainted, runtime_epoch, created_at_us, started_at_us, ended_at_us
FROM tool_call
WHERE session_id = :session_id AND ended_at_us IS NULL AND state = 'awaiting_user' AND job_id IS :job_id
  AND (:call_sha256 IS NULL OR call_sha256 = :call_sha256)
ORDER BY call_seq LIMIT :limit;

-- name: tool_call_lost
SELECT
  call_seq, session_id, tool_call_id, job_id, turn_id, trace_id, place, tool_id, tool_version, transport, state,
  args_artifact_id, call_sha256, decision, reason, error_code, approval_id, result_artifact_id, idempotency_key,
  idempotency, side_effect, tainted, runtime_epoch, created_at_us, started_at_us, ended_at_us
FROM tool_call
WHERE ended_at_us IS NULL AND state = 'started' AND runtime_epoch < :epoch
  AND (job_id IS NULL OR EXISTS (SELECT 1 FROM job AS j WHERE j.job_id = tool_call.job_id AND j.ended_at_us IS NOT NULL))
ORDER BY call_seq LIMIT :limit;

-- name: tool_call_page
SELECT
  call_seq, session_id, tool_call_id, job_id, turn_id, trace_id, place, tool_id, tool_version, transport, state,
  args_artifact_id, call_sha256, decision, reason, error_code, approval_id, result_artifact_id, idempotency_key,
  idempotency, side_effect, tainted, runtime_epoch, created_at_us, started_at_us, ended_at_us
FROM tool_call WHERE session_id = :session_id AND call_seq > :after ORDER BY call_seq LIMIT :limit;

-- name: tool_call_decided
UPDATE tool_call SET state = :state, tool_version = :tool_version, args_artifact_id = :args_artifact_id,
  call_sha256 = :call_sha256, decision = :decision, reason = :reason, error_code = :error_code,
  approval_id = :approval_id, result_artifact_id = :result_artifact_id, idempotency_key = :idempotency_key,
  idempotency = :idempotency, side_effect = :side_effect, tainted = :tainted, runtime_epoch = :runtime_epoch,
  started_at_us = :started_at_us, ended_at_us = :ended_at_us
WHERE call_seq = :call_seq AND state IN ('requested', 'awaiting_user');

-- name: tool_call_ended
UPDATE tool_call SET state = 'ended', reason = :reason, error_code = :error_code,
  result_artifact_id = :result_artifact_id, ended_at_us = :now_us
WHERE call_seq = :call_seq AND state = :before AND runtime_epoch = :runtime_epoch;

-- name: tool_call_again
UPDATE tool_call SET state = 'requested', started_at_us = NULL WHERE call_seq = :call_seq AND state = 'started';

-- name: tool_call_session
SELECT s.state, s.parent_session_id, s.lane, s.wp_id, s.mt_id,
  EXISTS (SELECT 1 FROM message AS m WHERE m.session_id = s.session_id AND m.trusted = 0)
FROM session AS s WHERE s.session_id = :session_id;

-- name: tool_call_run
SELECT state, attempt, runtime_epoch FROM job WHERE job_id = :job_id AND session_id = :session_id;

-- name: artifact_of_session
WITH RECURSIVE {runs_of_session}
SELECT 1 WHERE
  EXISTS (
    SELECT 1 FROM tool_call AS c
    WHERE c.session_id = :session_id AND :sha256 IN (c.args_artifact_id, c.result_artifact_id))
  OR EXISTS (
    SELECT 1 FROM message AS own
    WHERE own.session_id = :session_id AND own.job_id IS NULL AND own.content_artifact_id = :sha256)
  OR EXISTS (
    SELECT 1 FROM run CROSS JOIN message AS said ON said.job_id = run.job_id
    WHERE said.content_artifact_id = :sha256)
  OR EXISTS (
    SELECT 1 FROM run CROSS JOIN job_artifact AS left_by ON left_by.job_id = run.job_id
    WHERE left_by.artifact_id = :sha256);

-- name: session_untrusted
SELECT message_id FROM message WHERE session_id = :session_id AND trusted = 0 ORDER BY seq LIMIT :limit;

-- name: session_trusted_texts
WITH RECURSIVE {runs_of_session}
SELECT thread.content_artifact_id, thread.content_bytes, a.data
FROM (
  SELECT said.seq, said.role, said.content_artifact_id, said.content_bytes, said.source_kind, said.trusted
  FROM run CROSS JOIN message AS said ON said.job_id = run.job_id
  UNION ALL
  SELECT seq, role, content_artifact_id, content_bytes, source_kind, trusted
  FROM message WHERE session_id = :session_id AND job_id IS NULL
) AS thread CROSS JOIN artifact AS a ON a.sha256 = thread.content_artifact_id
WHERE thread.trusted = 1 AND (thread.source_kind = 'operator' OR thread.role IN ('SYSTEM', 'TOOL_RESULT'))
ORDER BY thread.seq DESC LIMIT :limit;
