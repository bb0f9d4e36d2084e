"""Tools: the adapters that touch files, processes, the web and MCP servers; each is called by the Tool Gate only."""
