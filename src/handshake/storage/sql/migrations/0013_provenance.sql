-- Provenance: of messages that came from another session, which one it was and its role; and debug relaxations.

CREATE TABLE message_source (
  message_id TEXT NOT NULL PRIMARY KEY,
  source_session_id TEXT NOT NULL REFERENCES session (session_id),
  source_role TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE debug_scope (
  session_id TEXT NOT NULL PRIMARY KEY REFERENCES session (session_id),
  relaxation TEXT NOT NULL,
  opened_at_us INTEGER NOT NULL,
  expires_at_us INTEGER NOT NULL,
  opened_by TEXT NOT NULL
) STRICT, WITHOUT ROWID;
