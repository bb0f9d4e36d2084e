-- What verifications and proofs read, a page at a time.

-- name: event_stretch
SELECT seq, type, session_id, job_id, at_us, hash, body FROM event
WHERE seq > :after AND seq <= :through ORDER BY seq LIMIT :limit;

-- name: event_hashes
SELECT seq, hash FROM event WHERE seq > :after AND seq <= :through ORDER BY seq LIMIT :limit;

-- name: event_of_hash
SELECT seq FROM event WHERE hash = :hash ORDER BY seq LIMIT 1;

-- name: event_last
SELECT seq FROM event ORDER BY seq DESC LIMIT 1;

-- name: event_without_session
SELECT seq FROM event AS e
WHERE type = :type AND NOT EXISTS (SELECT 1 FROM session AS s WHERE s.session_id = e.session_id) ORDER BY seq LIMIT 1;

-- name: session_ids
SELECT session_id FROM session WHERE session_id > :after ORDER BY session_id LIMIT :limit;

-- name: message_evidence
WITH RECURSIVE {runs_of_session}
SELECT rowid, seq, message_id, role, content_hash, content_artifact_id, token_count, source_kind, trusted
FROM message
WHERE rowid IN (
    SELECT said.rowid FROM run CROSS JOIN message AS said ON said.job_id = run.job_id WHERE said.session_id = :session_id
    UNION ALL
    SELECT own.rowid FROM message AS own WHERE own.session_id = :session_id AND own.job_id IS NULL
  )
  AND (seq, rowid) > (:after, :after_row)
ORDER BY seq, rowid LIMIT :limit;

-- name: message_astray
SELECT m.message_id FROM message AS m LEFT JOIN job AS j ON j.job_id = m.job_id
WHERE m.job_id IS NOT NULL AND m.session_id IS NOT j.session_id LIMIT 1;

-- name: job_astray
SELECT job_id FROM (
  SELECT job_id, before_seq, lag(enqueue_seq) OVER one AS earlier, enqueue_seq = max(enqueue_seq) OVER whole AS is_last,
    enqueue_seq IS (SELECT last_job_seq FROM session AS s WHERE s.session_id = j.session_id) AS is_named_last
  FROM job AS j
  WINDOW one AS (PARTITION BY session_id ORDER BY enqueue_seq), whole AS (PARTITION BY session_id)
)
WHERE before_seq IS NOT earlier OR is_last <> is_named_last LIMIT 1;

-- name: artifact_ids
SELECT sha256 FROM artifact WHERE sha256 > :after ORDER BY sha256 LIMIT :limit;

-- name: artifact_missing
SELECT content_artifact_id AS needed FROM message
WHERE NOT EXISTS (SELECT 1 FROM artifact WHERE sha256 = content_artifact_id)
UNION ALL
SELECT artifact_id FROM job_artifact WHERE NOT EXISTS (SELECT 1 FROM artifact WHERE sha256 = artifact_id)
UNION ALL
SELECT seen_sha256 FROM mcp_pin WHERE NOT EXISTS (SELECT 1 FROM artifact WHERE sha256 = seen_sha256)
UNION ALL
SELECT approved_sha256 FROM mcp_pin
WHERE approved_sha256 IS NOT NULL AND NOT EXISTS (SELECT 1 FROM artifact WHERE sha256 = approved_sha256)
ORDER BY needed LIMIT 1;
