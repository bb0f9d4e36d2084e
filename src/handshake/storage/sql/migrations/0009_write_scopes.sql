-- Write scopes: what sessions hold while they live, and which sessions wait for one that another holds.

CREATE TABLE write_scope (
  session_id TEXT NOT NULL REFERENCES session (session_id),
  scope TEXT NOT NULL,
  since_us INTEGER NOT NULL,
  PRIMARY KEY (session_id, scope)
) STRICT, WITHOUT ROWID;

CREATE TABLE write_scope_wait (
  session_id TEXT NOT NULL REFERENCES session (session_id),
  scope TEXT NOT NULL,
  holder_session_id TEXT NOT NULL REFERENCES session (session_id),
  since_us INTEGER NOT NULL,
  PRIMARY KEY (session_id, scope)
) STRICT, WITHOUT ROWID;
