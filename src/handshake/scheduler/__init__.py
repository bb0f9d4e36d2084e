"""Scheduler: which run goes next, who carries it out, and what a start recovers."""
