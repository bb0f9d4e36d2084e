-- Worktrees: sessions that have files of their own, the state from which the next merge begins, and a merge under way.

CREATE TABLE worktree (
  session_id TEXT NOT NULL PRIMARY KEY REFERENCES session (session_id),
  base TEXT NOT NULL,
  made_at_us INTEGER NOT NULL,
  merged_at_us INTEGER,
  merging_sha256 TEXT,
  merging_files INTEGER,
  is_in_conflict INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
