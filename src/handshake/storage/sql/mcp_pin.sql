-- Pins of MCP servers' tools. Column lists stand in the order of the record's fields.

-- name: mcp_pin_put
INSERT INTO mcp_pin (server, name, tool_id, state, seen_sha256, approved_sha256, revision, seen_at_us, decided_at_us, decided_by)
VALUES (:server, :name, :tool_id, :state, :seen_sha256, :approved_sha256, :revision, :seen_at_us, :decided_at_us, :decided_by)
ON CONFLICT (tool_id) DO UPDATE SET name = excluded.name, state = excluded.state, seen_sha256 = excluded.seen_sha256,
  approved_sha256 = excluded.approved_sha256, revision = excluded.revision, seen_at_us = excluded.seen_at_us,
  decided_at_us = excluded.decided_at_us, decided_by = excluded.decided_by;

-- name: mcp_pin_page
SELECT server, name, tool_id, state, seen_sha256, approved_sha256, revision, seen_at_us, decided_at_us, decided_by
FROM mcp_pin WHERE (:server IS NULL OR server = :server) AND tool_id > :after ORDER BY tool_id LIMIT :limit;

-- name: mcp_pin_forget
DELETE FROM mcp_pin WHERE tool_id = :tool_id AND state = 'new';
