"""Runners: what work runs on: this machine's clock, chance and event loop."""
