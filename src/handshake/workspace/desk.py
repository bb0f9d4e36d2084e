"""Desk: the Python face of what waits for a person."""

from __future__ import annotations

from handshake.bootstrap import Runtime
from handshake.kernel.desk import DeskItem, DeskKind, DeskState, shown_sha256
from handshake.kernel.errors import StateConflict
from handshake.kernel.ids import JobId
from handshake.kernel.job import JobState
from handshake.operations import desk
from handshake.operations.feed import Over


class DeskQuestion:
    """One thing that waits for a person, as it stood when it was asked for."""

    def __init__(self, runtime: Runtime, item: DeskItem) -> None:
        self._runtime = runtime
        self.item = item
        self.sha256 = shown_sha256(item)
        """The hash of what `item` shows; an approval names it."""

    async def arguments(self) -> str:
        """Return the arguments of the call that waits, as canonical JSON; of a run there are none."""
        return (await self._runtime.store.read(lambda reader: desk.call(reader, self.item.item_id)))[1]

    async def approve(self, *, shown: str, lasting: str = desk.ONCE) -> DeskItem:
        """Approve it: a lost run is queued again, a call of a tool is made.

        Args:
            shown: the hash of what was looked at.
            lasting: for how long calls like this one may be made: `once`, `turn`, `session`, `wp`, or a span.

        Raises:
            InvalidRequest: `lasting` says no lifetime.
            StateConflict: `shown` is the hash of something else.
            InvalidTransition: it was answered before, or has expired.
        """
        runtime = self._runtime
        level = runtime.settings.policy.automation_level
        return await runtime.store.write(
            lambda tx: desk.approve(
                tx,
                runtime.queue,
                self.item.item_id,
                shown=shown,
                by="operator",
                level=level,
                calls=runtime.approvals,
                lasting=lasting,
            )
        )

    async def approve_call(self, *, call_sha256: str, lasting: str = desk.ONCE) -> DeskItem:
        """Approve a call of a tool by its own hash, as `approve` does by the hash of the whole question.

        Raises:
            StateConflict: it is another call that waits here, or a run.
            As `approve`.
        """
        if self.item.call_sha256 is None or call_sha256 != self.item.call_sha256:
            raise StateConflict(
                item_id=self.item.item_id,
                reason="shown_differs",
                hint=f"look at it as it is now: handshake approval show {self.item.item_id}",
            )
        return await self.approve(shown=self.sha256, lasting=lasting)

    async def deny(self) -> DeskItem:
        """Deny it: a lost run fails, a call of a tool is refused and its run goes on.

        Raises:
            InvalidTransition: it was answered before, or has expired.
        """
        runtime = self._runtime
        level = runtime.settings.policy.automation_level
        return await runtime.store.write(
            lambda tx: desk.deny(
                tx, runtime.queue, self.item.item_id, by="operator", level=level, calls=runtime.approvals
            ),
            then=self._tell,
        )

    def _tell(self, item: DeskItem) -> None:
        if item.kind is DeskKind.RECOVERY and item.job_id is not None:
            self._runtime.feeds.push(JobId(item.job_id), Over(JobState.FAILED))


class Desk:
    """What waits for a person."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def waiting(self, *, after: int = 0, limit: int | None = None) -> list[DeskQuestion]:
        """Return what waits, in the order in which it came, after the item number `after`."""
        found = await self._runtime.store.read(
            lambda reader: desk.items(reader, state=DeskState.WAITING, after=after, limit=limit)
        )
        return [DeskQuestion(self._runtime, item) for item in found]

    async def show(self, item_id: str) -> DeskQuestion:
        """Return one item, answered or not.

        Raises:
            NotFound: there is none of this id.
        """
        return DeskQuestion(self._runtime, await self._runtime.store.read(lambda reader: desk.item(reader, item_id)))
