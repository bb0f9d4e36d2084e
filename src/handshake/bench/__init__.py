"""Bench: measures speed and memory beside floors and peers, prints ratios of one run, and asserts nothing."""
