-- Provenance: where messages come from, and debug relaxations of single sessions.

-- name: session_role
SELECT role FROM session WHERE session_id = :session_id;

-- name: message_said
WITH RECURSIVE {runs_of_session}
SELECT max(seq) FROM (
  SELECT m.seq FROM run CROSS JOIN message AS m ON m.job_id = run.job_id
  WHERE m.content_hash = :content_hash AND m.role IN ('USER', 'ASSISTANT')
  UNION ALL
  SELECT seq FROM message WHERE session_id = :session_id AND job_id IS NULL AND content_hash = :content_hash
    AND role IN ('USER', 'ASSISTANT')
);

-- name: message_untrusted_before
WITH RECURSIVE {runs_of_session}
SELECT 1 FROM (
  SELECT m.seq FROM run CROSS JOIN message AS m ON m.job_id = run.job_id WHERE m.trusted = 0
  UNION ALL
  SELECT seq FROM message WHERE session_id = :session_id AND job_id IS NULL AND trusted = 0
) WHERE :seq IS NULL OR seq <= :seq LIMIT 1;

-- name: message_source_insert
INSERT INTO message_source (message_id, source_session_id, source_role)
VALUES (:message_id, :source_session_id, :source_role);

-- name: message_source_get
SELECT source_session_id, source_role FROM message_source WHERE message_id = :message_id;

-- name: debug_scope_open
INSERT INTO debug_scope (session_id, relaxation, opened_at_us, expires_at_us, opened_by)
VALUES (:session_id, :relaxation, :now_us, :expires_at_us, :by)
ON CONFLICT (session_id) DO UPDATE SET relaxation = excluded.relaxation, opened_at_us = excluded.opened_at_us,
  expires_at_us = excluded.expires_at_us, opened_by = excluded.opened_by;

-- name: debug_scope_of
SELECT relaxation, expires_at_us, opened_by FROM debug_scope WHERE session_id = :session_id AND expires_at_us > :now_us;

-- name: debug_scope_close
UPDATE debug_scope SET expires_at_us = :now_us WHERE session_id = :session_id AND expires_at_us > :now_us;

-- name: debug_scopes_open
SELECT d.session_id, d.relaxation, d.expires_at_us, d.opened_by FROM debug_scope AS d
JOIN session AS s ON s.session_id = d.session_id
WHERE d.expires_at_us > :now_us AND s.ending = 'open' ORDER BY d.session_id;
