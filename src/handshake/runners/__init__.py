"""Runners: what work runs on: this machine's clock and chance."""
