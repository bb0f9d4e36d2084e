"""Storage: state, artifacts and the event log on disk."""
