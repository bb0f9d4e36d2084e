"""Desk expiry: fails the runs that nobody answered for, when their time is over.

Source:
    recovery.actions.are_evented (01 §2).
"""

from __future__ import annotations

from collections.abc import Callable

from handshake.kernel.errors import HandshakeError
from handshake.kernel.ids import JobId
from handshake.kernel.queue import RunQueue
from handshake.kernel.units import US_PER_S
from handshake.operations import desk
from handshake.operations.approvals import Approvals
from handshake.operations.desk import Expired
from handshake.ports.clock import Clock
from handshake.ports.store import Store, Tx
from handshake.scheduler.alarm import Alarm

LONGEST_WAIT_US = 3_600 * US_PER_S
"""Longest wait before the desk is looked at again: expiries are moments, and the wall clock may be set meanwhile."""
_AGAIN_US = 60 * US_PER_S
"""Wait before it is looked at again when the store failed."""


class DeskExpiry:
    """Looks at the desk when the next item expires, for as long as there is one.

    Args:
        store: where the desk lies.
        queue: the index of the queue.
        clock: its time.
        ended: called on the event loop for each run that failed so.
        calls: answers about calls of tools.
    """

    def __init__(
        self,
        store: Store,
        queue: RunQueue,
        clock: Clock,
        ended: Callable[[JobId], None],
        calls: Approvals | None = None,
    ) -> None:
        self._store = store
        self._queue = queue
        self._clock = clock
        self._ended = ended
        self._calls = calls
        self._alarm = Alarm(clock, self.look)

    async def look(self) -> None:
        """Let expire what is due, and wait for what is next; called at start and whenever something was asked."""
        try:
            while (gone := await self._store.write(self._expire, outcome=True)).count:
                for job_id in gone.failed:
                    self._ended(job_id)
            next_us = await self._store.read(desk.next_expiry_us)
        except HandshakeError:
            self._alarm.set_in(_AGAIN_US)
            return
        if next_us is not None:
            self._alarm.set_in(min(next_us - self._clock.now_us(), LONGEST_WAIT_US))

    def _expire(self, tx: Tx) -> Expired:
        return desk.expire(tx, self._queue, self._calls)

    def close(self) -> None:
        """Look no more."""
        self._alarm.cancel()
