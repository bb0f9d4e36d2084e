-- The event log, its checkpoints, and what was declared once.

-- name: log_state
SELECT size, last_hash, frontier FROM log_state;

-- name: log_state_start
INSERT INTO log_state (one, size, last_hash, frontier) VALUES (1, :size, :last_hash, :frontier);

-- name: log_state_move
UPDATE log_state SET size = :size, last_hash = :last_hash, frontier = :frontier WHERE one = 1 AND size = :before;

-- name: event_insert
INSERT INTO event (seq, type, session_id, job_id, at_us, hash, body) VALUES (?, ?, ?, ?, ?, ?, ?);

-- name: event_last_at
SELECT at_us FROM event ORDER BY seq DESC LIMIT 1;

-- name: event_by_seq
SELECT seq, type, session_id, job_id, at_us, hash, body FROM event WHERE seq = :seq;

-- name: event_page
SELECT seq, type, session_id, job_id, at_us, hash, body FROM event
WHERE seq > :after AND (:type IS NULL OR type = :type) AND at_us >= :since_us
ORDER BY seq LIMIT :limit;

-- name: event_page_of_session
WITH RECURSIVE {runs_of_session}
SELECT seq, type, session_id, job_id, at_us, hash, body FROM event
WHERE seq IN (
    SELECT own.seq FROM event AS own
    WHERE own.session_id = :session_id AND own.job_id IS NULL AND own.seq > :after
    UNION ALL
    SELECT told.seq FROM run CROSS JOIN event AS told INDEXED BY event_by_job ON told.job_id = run.job_id WHERE told.seq > :after
  )
  AND (:type IS NULL OR type = :type) AND at_us >= :since_us
ORDER BY seq LIMIT :limit;

-- name: event_page_before
SELECT seq, type, session_id, job_id, at_us, hash, body FROM event
WHERE seq < coalesce(:before, 9223372036854775807) AND (:type IS NULL OR type = :type) AND at_us >= :since_us
ORDER BY seq DESC LIMIT :limit;

-- name: event_page_before_of_session
WITH RECURSIVE {runs_of_session}
SELECT seq, type, session_id, job_id, at_us, hash, body FROM event
WHERE seq IN (
    SELECT own.seq FROM event AS own
    WHERE own.session_id = :session_id AND own.job_id IS NULL AND own.seq < coalesce(:before, 9223372036854775807)
    UNION ALL
    SELECT told.seq FROM run CROSS JOIN event AS told INDEXED BY event_by_job ON told.job_id = run.job_id
    WHERE told.seq < coalesce(:before, 9223372036854775807)
  )
  AND (:type IS NULL OR type = :type) AND at_us >= :since_us
ORDER BY seq DESC LIMIT :limit;

-- name: checkpoint_insert
INSERT INTO checkpoint (tree_size, root_hash, signed_at_us, note) VALUES (:tree_size, :root_hash, :signed_at_us, :note);

-- name: checkpoint_last
SELECT tree_size, root_hash, signed_at_us, note FROM checkpoint ORDER BY tree_size DESC LIMIT 1;

-- name: checkpoint_page
SELECT tree_size, root_hash, signed_at_us, note FROM checkpoint WHERE tree_size > :after ORDER BY tree_size LIMIT :limit;

-- name: declaration_get
SELECT sha256 FROM declaration WHERE subject = :subject;

-- name: declaration_put
INSERT INTO declaration (subject, sha256, at_us) VALUES (:subject, :sha256, :at_us)
ON CONFLICT (subject) DO UPDATE SET sha256 = excluded.sha256, at_us = excluded.at_us;
