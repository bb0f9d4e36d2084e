"""Bench: measures what design and issues set as floors, beside peers, and asserts nothing."""
