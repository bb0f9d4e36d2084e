-- The workspace row, migrations and artifacts.

-- name: workspace_get
SELECT workspace_id, created_at_us, runtime_epoch, clock_high_us FROM workspace;

-- name: workspace_start
INSERT INTO workspace (one, workspace_id, created_at_us, runtime_epoch, clock_high_us)
VALUES (1, :workspace_id, :created_at_us, 0, :created_at_us);

-- name: workspace_next_epoch
UPDATE workspace SET runtime_epoch = runtime_epoch + 1;

-- name: workspace_clock
UPDATE workspace SET clock_high_us = max(clock_high_us, :now_us);

-- name: artifact_put
INSERT INTO artifact (sha256, bytes, media_type, created_at_us, data)
VALUES (:sha256, :bytes, :media_type, :created_at_us, :data) ON CONFLICT (sha256) DO NOTHING;

-- name: artifact_get
SELECT bytes, media_type, data FROM artifact WHERE sha256 = :sha256;

-- name: artifact_file_page
SELECT sha256, bytes FROM artifact WHERE data IS NULL AND sha256 > :after ORDER BY sha256 LIMIT :limit;
