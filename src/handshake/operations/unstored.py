"""Unstored: counts the outcomes that wait for the store; while there is one, nothing new starts.

Source:
    recovery.outcome.never_lost (design §3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Unstored:
    """Shared by the turns, whose outcomes wait, and the dispatcher, which then starts nothing."""

    def __init__(self) -> None:
        self.count = 0
        self.cleared: Callable[[], None] | None = None
        """Called on the event loop when the last of them is stored or left to the next start."""

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count one outcome for as long as the body takes."""
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1
            if not self.count and self.cleared is not None:
                self.cleared()
