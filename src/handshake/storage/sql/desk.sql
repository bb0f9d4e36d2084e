-- The desk. Column lists stand in the order of the record's fields.

-- name: desk_insert
INSERT INTO desk_item (
  item_id, kind, state, reason, session_id, job_id, attempts, created_at_us, expires_at_us, tool_id, tool_version,
  call_sha256, args_sha256, findings, tainted_by
) VALUES (
  :item_id, :kind, :state, :reason, :session_id, :job_id, :attempts, :created_at_us, :expires_at_us, :tool_id,
  :tool_version, :call_sha256, :args_sha256, :findings, :tainted_by
);

-- name: desk_of_call
SELECT item_id FROM desk_item
WHERE session_id = :session_id AND call_sha256 = :call_sha256 AND job_id IS :job_id AND state = 'waiting';

-- name: desk_calls_of_session
SELECT count(*) FROM desk_item WHERE session_id = :session_id AND job_id IS NULL AND state = 'waiting';

-- name: desk_get
SELECT d.item_seq, d.item_id, d.kind, d.state, d.reason, d.session_id, d.job_id, d.attempts, j.provider_id, j.model_id,
  j.backend, j.request_sha256, d.created_at_us, d.expires_at_us, d.decided_at_us, d.decided_by,
  d.tool_id, d.tool_version, d.call_sha256, d.args_sha256, d.findings, d.tainted_by
FROM desk_item AS d LEFT JOIN job AS j ON j.job_id = d.job_id WHERE d.item_id = :item_id;

-- name: desk_page
SELECT d.item_seq, d.item_id, d.kind, d.state, d.reason, d.session_id, d.job_id, d.attempts, j.provider_id, j.model_id,
  j.backend, j.request_sha256, d.created_at_us, d.expires_at_us, d.decided_at_us, d.decided_by,
  d.tool_id, d.tool_version, d.call_sha256, d.args_sha256, d.findings, d.tainted_by
FROM desk_item AS d LEFT JOIN job AS j ON j.job_id = d.job_id
WHERE d.item_seq > :after AND (:state IS NULL OR d.state = :state) ORDER BY d.item_seq LIMIT :limit;

-- name: desk_expired
SELECT d.item_seq, d.item_id, d.kind, d.state, d.reason, d.session_id, d.job_id, d.attempts, j.provider_id, j.model_id,
  j.backend, j.request_sha256, d.created_at_us, d.expires_at_us, d.decided_at_us, d.decided_by,
  d.tool_id, d.tool_version, d.call_sha256, d.args_sha256, d.findings, d.tainted_by
FROM desk_item AS d LEFT JOIN job AS j ON j.job_id = d.job_id
WHERE d.state = 'waiting' AND d.expires_at_us <= :now_us ORDER BY d.expires_at_us, d.item_seq LIMIT :limit;

-- name: desk_next_expiry
SELECT expires_at_us FROM desk_item WHERE state = 'waiting' ORDER BY expires_at_us LIMIT 1;

-- name: desk_waiting_count
SELECT count(*) FROM desk_item WHERE state = 'waiting';

-- name: desk_answer
UPDATE desk_item SET state = :state, decided_at_us = :now_us, decided_by = :by
WHERE item_id = :item_id AND state = 'waiting';

-- name: desk_withdraw
UPDATE desk_item SET state = 'withdrawn', decided_at_us = :now_us, decided_by = :by
WHERE job_id = :job_id AND state = 'waiting';

-- name: desk_withdraw_calls
UPDATE desk_item SET state = 'withdrawn', decided_at_us = :now_us, decided_by = :by
WHERE session_id = :session_id AND job_id IS NULL AND state = 'waiting';
