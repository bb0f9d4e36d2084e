"""Keeping: stores what happened outside, again and again until it is stored; meanwhile nothing new starts.

Source:
    recovery.outcome.never_lost (design §3).
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import TypeVar

from handshake.kernel.errors import HandshakeError, IntegrityBroken, StoreFailed
from handshake.kernel.retry import as_span_us
from handshake.kernel.settings import MAX_OUTCOME_RETRY_DOUBLINGS, OUTCOME_RETRY_MS
from handshake.operations.unstored import Unstored
from handshake.ports.clock import Clock
from handshake.ports.store import Store

T = TypeVar("T")
_PASSING = (StoreFailed, IntegrityBroken)
"""How the store fails; `IntegrityBroken` is also an index that differed and was read again."""


class Keeping:
    """Shared by all whose outcomes must not be lost; one object per runtime."""

    def __init__(self, store: Store, unstored: Unstored, clock: Clock) -> None:
        self._store = store
        self._unstored = unstored
        self._clock = clock
        self._stopped = asyncio.Event()

    @property
    def is_stopped(self) -> bool:
        """Whether the runtime stops."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Take note that the runtime stops: no outcome waits on."""
        self._stopped.set()

    async def until_kept(
        self, keep: Callable[[], Awaitable[T]], *, waiting: Callable[[HandshakeError], None] | None = None
    ) -> T:
        """Call `keep` until the store does not fail: what happened is not forgotten while this process lives.

        When the runtime stops, one last try decides; then the next start finds what was begun.

        Args:
            keep: stores it; it may be called many times.
            waiting: told of the first failure.
        """
        try:
            return await keep()
        except _PASSING as first:
            failure = self._worth_another_try(first)
        if waiting is not None:
            waiting(failure)
        with self._unstored.waiting():
            for tried in itertools.count():
                is_full = failure.context.get("reason") == "disk_full"
                if not (is_full and await self._store.make_room()):
                    await self._wait(OUTCOME_RETRY_MS << min(tried, MAX_OUTCOME_RETRY_DOUBLINGS))
                try:
                    return await keep()
                except _PASSING as again:
                    failure = self._worth_another_try(again)
        raise AssertionError("it counts for ever")

    def _worth_another_try(self, failure: HandshakeError) -> HandshakeError:
        """Return `failure`, or raise it where trying again is of no use."""
        if failure.context.get("reason") == "closed" or self.is_stopped:
            raise failure
        return failure

    async def _wait(self, wait_ms: int) -> None:
        """Wait, but no longer than until the runtime stops."""
        async with asyncio.TaskGroup() as group:
            sleeping = group.create_task(self._clock.sleep_us(as_span_us(wait_ms)))
            stopping = group.create_task(self._stopped.wait())
            await asyncio.wait((sleeping, stopping), return_when=asyncio.FIRST_COMPLETED)
            sleeping.cancel()
            stopping.cancel()
