-- Which definition of each MCP server's tool was seen last, and which a person approved; both are artifacts.
CREATE TABLE mcp_pin (
  tool_id TEXT NOT NULL PRIMARY KEY,
  server TEXT NOT NULL,
  name TEXT NOT NULL,
  state TEXT NOT NULL,
  seen_sha256 TEXT NOT NULL,
  approved_sha256 TEXT,
  revision INTEGER NOT NULL CHECK (revision >= 0),
  seen_at_us INTEGER NOT NULL,
  decided_at_us INTEGER,
  decided_by TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX mcp_pin_of_server ON mcp_pin (server, tool_id);
