-- Worktrees of sessions that write in a git repository.

-- name: worktree_insert
INSERT INTO worktree (session_id, base, made_at_us) VALUES (:session_id, :base, :now_us);

-- name: worktree_get
SELECT base, made_at_us, merged_at_us, merging_sha256, merging_files, is_in_conflict
FROM worktree WHERE session_id = :session_id;

-- name: worktree_merging
UPDATE worktree SET merging_sha256 = :sha256, merging_files = :files WHERE session_id = :session_id;

-- name: worktree_merged
UPDATE worktree SET base = :base, merged_at_us = :now_us, merging_sha256 = NULL, merging_files = NULL, is_in_conflict = 0
WHERE session_id = :session_id;

-- name: worktree_in_conflict
UPDATE worktree SET is_in_conflict = 1 WHERE session_id = :session_id;
