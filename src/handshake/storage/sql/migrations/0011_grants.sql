-- Approvals, and the grants that rest on them. A grant is live while neither it nor its approval is revoked; when it ends
-- by itself is decided at each check, from what stands in its row.

CREATE TABLE approval (
  approval_id TEXT NOT NULL PRIMARY KEY,
  session_id TEXT NOT NULL REFERENCES session (session_id),
  role TEXT NOT NULL,
  kind TEXT NOT NULL,
  lifetime TEXT NOT NULL,
  -- Of the canonical call that was shown; null where no call was.
  call_sha256 TEXT,
  user_id TEXT NOT NULL,
  created_at_us INTEGER NOT NULL,
  expires_at_us INTEGER,
  used_at_us INTEGER,
  revoked_at_us INTEGER,
  revoked_by TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX approval_of_call ON approval (session_id, call_sha256) WHERE call_sha256 IS NOT NULL;

CREATE TABLE capability_grant (
  grant_id TEXT NOT NULL PRIMARY KEY,
  approval_id TEXT NOT NULL REFERENCES approval (approval_id),
  session_id TEXT NOT NULL REFERENCES session (session_id),
  capability TEXT NOT NULL,
  use TEXT NOT NULL,
  held INTEGER NOT NULL,
  delegable INTEGER NOT NULL,
  constraints TEXT NOT NULL,
  lifetime TEXT NOT NULL,
  turn_id TEXT,
  wp_id TEXT,
  settles_ask INTEGER NOT NULL,
  used_count INTEGER NOT NULL DEFAULT 0,
  used_bytes INTEGER NOT NULL DEFAULT 0,
  used_amount INTEGER NOT NULL DEFAULT 0,
  revoked_at_us INTEGER,
  revoked_by TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX grant_of_session ON capability_grant (session_id);

CREATE INDEX grant_of_work_packet ON capability_grant (wp_id) WHERE lifetime = 'work_packet';

CREATE INDEX grant_of_approval ON capability_grant (approval_id);

-- Equal marks mean equal grants: each change hashes what it did onto the mark before it. The owner is a session, or a
-- work packet and a role.
CREATE TABLE authority_mark (
  owner TEXT NOT NULL PRIMARY KEY,
  mark TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Whoever made a session on a model approved of that model for it.
INSERT INTO approval (approval_id, session_id, role, kind, lifetime, user_id, created_at_us)
SELECT session_id, session_id, role, 'session', 'session', 'operator', created_at_us FROM session;

INSERT INTO capability_grant (
  grant_id, approval_id, session_id, capability, use, held, delegable, constraints, lifetime, settles_ask
)
SELECT session_id, session_id, session_id, 'model.' || backend || ':' || provider_id || '/' || model_id, 'allow', 1, 1,
  '{}', 'session', 0
FROM session;
