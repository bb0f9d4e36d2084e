-- The workspace row, migrations and artifacts.

-- name: workspace_get
SELECT workspace_id, created_at_us, runtime_epoch FROM workspace;

-- name: workspace_start
INSERT INTO workspace (one, workspace_id, created_at_us, runtime_epoch, open_sessions)
VALUES (1, :workspace_id, :created_at_us, 0, 0);

-- name: workspace_next_epoch
UPDATE workspace SET runtime_epoch = runtime_epoch + 1;

-- name: workspace_open_sessions
SELECT open_sessions FROM workspace;

-- name: workspace_session_opened
UPDATE workspace SET open_sessions = open_sessions + 1;

-- name: workspace_session_ended
UPDATE workspace SET open_sessions = open_sessions - 1;

-- name: artifact_put
INSERT INTO artifact (sha256, bytes, media_type, created_at_us, data)
VALUES (:sha256, :bytes, :media_type, :created_at_us, :data) ON CONFLICT (sha256) DO NOTHING;

-- name: artifact_get
SELECT bytes, media_type, data FROM artifact WHERE sha256 = :sha256;
