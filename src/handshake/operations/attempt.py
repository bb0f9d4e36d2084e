"""Attempt: one dispatched attempt in progress, as the scheduler and whoever carries it out share it."""

from __future__ import annotations

import msgspec

from handshake.kernel.job import RunTicket


class Attempt(msgspec.Struct, gc=False, eq=False):
    """One attempt in progress, shared by the dispatcher, which may cancel it, and the turn, which carries it out."""

    ticket: RunTicket
    lease_us: int = 0
    """The monotonic time by which the call must have come back, or its run is given up."""
    lease_span_us: int = 0
    """How long the lease is in all: the timeout and some grace."""
    cancelled: bool = False
    given_up: bool = False
    """Whether its run goes on without it."""
    calling: bool = False
    """Whether the task may be cut now: what records an outcome must not be."""
    parts: list[str] = []
    """The text so far."""
