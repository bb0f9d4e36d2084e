-- Approvals and grants. Column lists stand in the order of the records' fields.

-- name: approval_insert
INSERT INTO approval (
  approval_id, session_id, role, kind, lifetime, call_sha256, user_id, created_at_us, expires_at_us
) VALUES (
  :approval_id, :session_id, :role, :kind, :lifetime, :call_sha256, :user_id, :created_at_us, :expires_at_us
);

-- name: approval_get
SELECT
  approval_id, session_id, role, kind, lifetime, call_sha256, user_id, created_at_us, expires_at_us, used_at_us,
  revoked_at_us, revoked_by
FROM approval WHERE approval_id = :approval_id;

-- name: approval_of_call
SELECT
  approval_id, session_id, role, kind, lifetime, call_sha256, user_id, created_at_us, expires_at_us, used_at_us,
  revoked_at_us, revoked_by
FROM approval
WHERE session_id = :session_id AND call_sha256 = :call_sha256 AND used_at_us IS NULL AND revoked_at_us IS NULL
  AND (expires_at_us IS NULL OR expires_at_us > :now_us)
ORDER BY approval_id LIMIT 1;

-- name: approval_use
UPDATE approval SET used_at_us = :now_us WHERE approval_id = :approval_id AND used_at_us IS NULL AND revoked_at_us IS NULL;

-- name: approval_revoke
UPDATE approval SET revoked_at_us = :now_us, revoked_by = :by WHERE approval_id = :approval_id AND revoked_at_us IS NULL;

-- name: grant_insert
INSERT INTO capability_grant (
  grant_id, approval_id, session_id, capability, use, held, delegable, constraints, lifetime, turn_id, wp_id, settles_ask
) VALUES (
  :grant_id, :approval_id, :session_id, :capability, :use, :held, :delegable, :constraints, :lifetime, :turn_id, :wp_id,
  :settles_ask
);

-- name: grant_live_of_session
SELECT
  g.grant_id, g.approval_id, g.session_id, g.capability, g.use, g.held, g.delegable, g.constraints, g.lifetime,
  g.turn_id, g.wp_id, g.settles_ask, g.used_count, g.used_bytes, g.used_amount
FROM capability_grant AS g JOIN approval AS a ON a.approval_id = g.approval_id
WHERE g.session_id = :session_id AND g.revoked_at_us IS NULL AND a.revoked_at_us IS NULL
ORDER BY g.grant_id LIMIT :limit;

-- name: grant_live_of_work_packet
SELECT
  g.grant_id, g.approval_id, g.session_id, g.capability, g.use, g.held, g.delegable, g.constraints, g.lifetime,
  g.turn_id, g.wp_id, g.settles_ask, g.used_count, g.used_bytes, g.used_amount
FROM capability_grant AS g JOIN approval AS a ON a.approval_id = g.approval_id
WHERE g.wp_id = :wp_id AND g.lifetime = 'work_packet' AND a.role = :role AND g.session_id <> :session_id
  AND g.revoked_at_us IS NULL AND a.revoked_at_us IS NULL
ORDER BY g.grant_id LIMIT :limit;

-- name: grant_page
SELECT
  g.grant_id, g.approval_id, g.session_id, g.capability, g.use, g.held, g.delegable, g.constraints, g.lifetime,
  g.turn_id, g.wp_id, g.settles_ask, g.used_count, g.used_bytes, g.used_amount, a.role, a.kind, a.user_id,
  a.created_at_us, min(coalesce(g.revoked_at_us, a.revoked_at_us), coalesce(a.revoked_at_us, g.revoked_at_us))
FROM capability_grant AS g JOIN approval AS a ON a.approval_id = g.approval_id
WHERE g.grant_id > :after AND (:session_id IS NULL OR g.session_id = :session_id)
  AND (:all = 1 OR (g.revoked_at_us IS NULL AND a.revoked_at_us IS NULL))
ORDER BY g.grant_id LIMIT :limit;

-- name: grant_get
SELECT
  g.grant_id, g.approval_id, g.session_id, g.capability, g.use, g.held, g.delegable, g.constraints, g.lifetime,
  g.turn_id, g.wp_id, g.settles_ask, g.used_count, g.used_bytes, g.used_amount
FROM capability_grant AS g WHERE g.grant_id = :grant_id;

-- name: grant_counted
SELECT
  g.grant_id, g.approval_id, g.session_id, g.capability, g.use, g.held, g.delegable, g.constraints, g.lifetime,
  g.turn_id, g.wp_id, g.settles_ask, g.used_count, g.used_bytes, g.used_amount, a.role
FROM capability_grant AS g JOIN approval AS a ON a.approval_id = g.approval_id
WHERE g.grant_id IN (SELECT value FROM json_each(:grant_ids)) AND (g.lifetime = 'once' OR g.constraints LIKE '%"max_%')
ORDER BY g.grant_id;

-- name: grant_owners
SELECT DISTINCT g.session_id, g.wp_id, a.role FROM capability_grant AS g JOIN approval AS a ON a.approval_id = g.approval_id
WHERE g.approval_id = :approval_id ORDER BY g.session_id;

-- name: grant_count_of_session
SELECT count(*) FROM capability_grant AS g JOIN approval AS a ON a.approval_id = g.approval_id
WHERE g.session_id = :session_id AND g.revoked_at_us IS NULL AND a.revoked_at_us IS NULL;

-- name: grant_use
UPDATE capability_grant SET used_count = used_count + 1, used_bytes = used_bytes + :bytes, used_amount = used_amount + :amount
WHERE grant_id = :grant_id;

-- name: grant_revoke
UPDATE capability_grant SET revoked_at_us = :now_us, revoked_by = :by WHERE grant_id = :grant_id AND revoked_at_us IS NULL;

-- name: authority_marks
SELECT owner, mark FROM authority_mark WHERE owner IN (SELECT value FROM json_each(:owners)) ORDER BY owner;

-- name: authority_mark_get
SELECT mark FROM authority_mark WHERE owner = :owner;

-- name: authority_mark_put
INSERT INTO authority_mark (owner, mark) VALUES (:owner, :mark) ON CONFLICT (owner) DO UPDATE SET mark = excluded.mark;

-- name: session_lineage
SELECT parent_session_id, role, wp_id FROM session WHERE session_id = :session_id;
