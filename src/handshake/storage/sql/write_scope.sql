-- Write scopes of sessions that live: who holds which, and who waits for whom.

-- name: write_scope_take
INSERT OR IGNORE INTO write_scope (session_id, scope, since_us) VALUES (:session_id, :scope, :now_us);

-- name: write_scope_of
SELECT scope FROM write_scope WHERE session_id = :session_id ORDER BY scope;

-- name: write_scope_all
SELECT w.session_id, w.scope, w.since_us FROM write_scope AS w JOIN session AS s ON s.session_id = w.session_id
WHERE s.ending = 'open' ORDER BY w.session_id, w.scope;

-- name: write_scope_release
DELETE FROM write_scope WHERE session_id = :session_id;

-- name: write_scope_wait
INSERT INTO write_scope_wait (session_id, scope, holder_session_id, since_us)
VALUES (:session_id, :scope, :holder_session_id, :since_us);

-- name: write_scope_waiting_of
SELECT scope, holder_session_id, since_us FROM write_scope_wait WHERE session_id = :session_id ORDER BY scope;

-- name: write_scope_waits
SELECT w.session_id, w.scope, w.since_us FROM write_scope_wait AS w JOIN session AS s ON s.session_id = w.session_id
WHERE s.ending = 'open' ORDER BY w.session_id, w.scope;

-- name: write_scope_wait_for
UPDATE write_scope_wait SET holder_session_id = :holder_session_id WHERE session_id = :session_id;

-- name: write_scope_wait_over
DELETE FROM write_scope_wait WHERE session_id = :session_id;
