"""CLI: the command line; it only calls operations."""
