"""Peers: what other durable queues do with the same work, each in an environment of its own."""
