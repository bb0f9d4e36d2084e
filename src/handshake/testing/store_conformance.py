"""Store conformance: what every store must keep of its contract, as checks that a test suite runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from handshake.kernel.catalogue import BreakerClosed
from handshake.kernel.errors import HandshakeError, InvalidEvent, StateConflict, StoreFailed
from handshake.kernel.event import Context
from handshake.kernel.ids import ArtifactId
from handshake.kernel.settings import MAX_INLINE_ARTIFACT_BYTES
from handshake.ports.store import Reader, Store, Tx

_E = TypeVar("_E", bound=BaseException)
_TEXT = "text/plain; charset=utf-8"
_WRITERS = 500


class Witness:
    """A follower that keeps what it was told, and counts a number that units move by `bump`."""

    def __init__(self) -> None:
        self.changes = 0
        self.count = 0
        self.told: list[str] = []
        self.failing = False

    def reload(self, tx: Tx) -> None:
        """Read the count from the truth."""
        self.told.append("reload")
        self.count = number(tx, "count")

    def close_batch(self, tx: Tx) -> None:
        """Note the end of a batch, in memory and in the batch itself."""
        self.told.append("close_batch")
        if self.failing:
            raise StateConflict(reason="witness")
        put(tx, "closed_at", self.count)

    def committed(self) -> None:
        """Note that a batch is durable."""
        self.told.append("committed")

    def bump(self, tx: Tx) -> int:
        """Count one more, in memory and in the store; part of a unit."""
        self.changes += 1
        self.count += 1
        put(tx, "count", self.count)
        self.told.append("unit")
        return self.count


def put(tx: Tx, subject: str, value: int) -> None:
    """Store a number under a name."""
    tx.run("declaration_put", {"subject": subject, "sha256": str(value), "at_us": tx.now_us})


def number(reader: Reader, subject: str) -> int:
    """Return the number stored under a name, or 0."""
    row = reader.row("declaration_get", {"subject": subject})
    return 0 if row is None else int(row[0] or 0)


def tell(tx: Tx, value: int) -> None:
    """Append an event that carries a number, which must not be negative."""
    tx.append(BreakerClosed(opened_for_ms=value, provider_id="conformance"), Context())


def numbers_told(reader: Reader) -> list[int]:
    """Return the numbers that events carry, in the order of the log, whose own numbers must be dense."""
    rows: list[Any] = reader.rows("event_page", {"after": 0, "limit": 10_000, "type": None, "since_us": 0})
    assert [row[0] for row in rows] == list(range(1, len(rows) + 1)), "a gap in the log"
    bodies = [msgspec.json.decode(row[6]) for row in rows if row[1] == "provider.breaker_closed"]
    return [body["payload"]["opened_for_ms"] for body in bodies]


def state_and_evidence(value: int) -> Callable[[Tx], int]:
    """Return a unit that stores a number under its own name, tells it, and returns it."""

    def unit(tx: Tx) -> int:
        put(tx, str(value), value)
        tell(tx, value)
        return value

    return unit


def failing(value: int, failure: BaseException) -> Callable[[Tx], int]:
    """Return a unit that does all that `state_and_evidence` does, and then fails."""

    def unit(tx: Tx) -> int:
        state_and_evidence(value)(tx)
        raise failure

    return unit


async def check_result_comes_after_commit(store: Store) -> None:
    """Who has the result of a unit can read what it stored; the follower was told before."""
    witness = Witness()
    store.follow(witness)
    assert await store.write(witness.bump) == 1
    assert witness.told == ["reload", "unit", "close_batch", "committed"]
    assert store.read_now(lambda reader: number(reader, "count")) == 1
    assert await store.read(lambda reader: number(reader, "count")) == 1


async def check_then_is_called_whoever_still_waits(store: Store) -> None:
    """What is to follow a commit follows it, also for a caller that went away, and follows no failure."""
    heard: list[object] = []
    assert await store.write(state_and_evidence(1), then=heard.append) == 1
    assert heard == [1]
    try:
        await store.write(failing(2, StateConflict(reason="conformance")), then=heard.append)
    except StateConflict:
        heard.append("failed")
    going = asyncio.ensure_future(store.write(state_and_evidence(3), then=heard.append))
    await asyncio.sleep(0)
    going.cancel()
    await asyncio.gather(going, return_exceptions=True)
    await store.write(state_and_evidence(4))
    assert heard == [1, "failed", 3]
    assert store.read_now(numbers_told) == [1, 3, 4]


async def check_failing_unit_is_undone_alone(store: Store) -> None:
    """State, artifact and events of a failing unit are gone; what was handed in beside it stands."""
    content = await store.prepare(b"of the failing unit", _TEXT)

    def unit(tx: Tx) -> None:
        tx.put(content)
        failing(2, StateConflict(reason="conformance"))(tx)

    results = await asyncio.gather(
        store.write(state_and_evidence(1)),
        store.write(unit),
        store.write(state_and_evidence(3)),
        return_exceptions=True,
    )
    assert results[0] == 1
    assert isinstance(results[1], StateConflict)
    assert results[2] == 3
    assert store.read_now(lambda reader: [number(reader, name) for name in "123"]) == [1, 0, 3]
    assert store.read_now(lambda reader: reader.artifact(content.artifact_id)) is None
    assert store.read_now(numbers_told) == [1, 3]


async def check_any_failure_reaches_its_caller(store: Store) -> None:
    """What a unit raises is what its caller gets, be it a bug; even what a future cannot hold is answered."""
    assert isinstance(await _failure(store, failing(1, KeyError("a bug")), Exception), KeyError)
    assert isinstance(await _failure(store, failing(2, StopIteration()), Exception), RuntimeError)
    assert await store.write(state_and_evidence(3)) == 3
    assert store.read_now(numbers_told) == [3]


async def check_broken_constraint_is_a_conflict(store: Store) -> None:
    """What the schema refuses is refused as a conflict, and undone."""

    def unit(tx: Tx) -> None:
        state_and_evidence(1)(tx)
        tx.run("declaration_put", {"subject": None, "sha256": "", "at_us": 0})

    assert isinstance(await _failure(store, unit, StateConflict), StateConflict)
    assert store.read_now(numbers_told) == []


async def check_invalid_event_fails_its_unit(store: Store) -> None:
    """State whose evidence is not valid is not stored."""

    def unit(tx: Tx) -> None:
        state_and_evidence(1)(tx)
        tell(tx, -1)

    await _failure(store, unit, InvalidEvent)
    assert store.read_now(lambda reader: number(reader, "1")) == 0
    assert store.read_now(numbers_told) == []


async def check_refusal_is_a_result(store: Store) -> None:
    """A unit that says no and tells it is committed like any other."""

    def unit(tx: Tx) -> str:
        tell(tx, 7)
        return "refused"

    assert await store.write(unit) == "refused"
    assert store.read_now(numbers_told) == [7]


async def check_log_is_dense(store: Store) -> None:
    """Events are numbered from 1 without a gap, in the order of the units, whatever failed between them."""
    units = [
        failing(value, StateConflict(reason="conformance")) if value % 3 == 0 else state_and_evidence(value)
        for value in range(1, 60)
    ]
    await asyncio.gather(*(store.write(unit) for unit in units), return_exceptions=True)
    assert store.read_now(numbers_told) == [value for value in range(1, 60) if value % 3]


async def check_units_of_a_turn_run_in_order(store: Store) -> None:
    """Each unit sees what those before it stored, and time never goes back."""
    seen = []

    def unit(tx: Tx) -> None:
        count = number(tx, "count")
        put(tx, "count", count + 1)
        seen.append((count, tx.now_us))

    await asyncio.gather(*(store.write(unit) for _ in range(_WRITERS)))
    assert [count for count, _ in seen] == list(range(_WRITERS))
    assert seen == sorted(seen)


async def check_many_writers_lose_nothing(store: Store) -> None:
    """Tasks that read, add and write in one unit never overwrite each other."""

    async def add(value: int) -> int:
        await asyncio.sleep(0)

        def unit(tx: Tx) -> int:
            put(tx, "sum", number(tx, "sum") + value)
            tell(tx, value)
            return value

        return await store.write(unit)

    values = range(1, _WRITERS + 1)
    assert await asyncio.gather(*map(add, values)) == list(values)
    assert store.read_now(lambda reader: number(reader, "sum")) == sum(values)
    assert sorted(store.read_now(numbers_told)) == list(values)


async def check_follower_is_reloaded_after_a_failed_touch(store: Store) -> None:
    """What a failed unit changed in memory is read again; a unit that did not touch it costs nothing."""
    witness = Witness()
    store.follow(witness)
    await store.write(witness.bump)
    witness.told.clear()

    def touching(tx: Tx) -> None:
        witness.bump(tx)
        raise StateConflict(reason="conformance")

    await _failure(store, touching, StateConflict)
    assert (witness.count, witness.told) == (1, ["unit", "reload", "close_batch", "committed"])
    witness.told.clear()
    await _failure(store, failing(5, StateConflict(reason="conformance")), StateConflict)
    assert witness.told == ["close_batch", "committed"]
    assert await store.write(witness.bump) == 2


async def check_batch_closes_last(store: Store) -> None:
    """The follower's last word sees all units of the batch and is stored with them."""
    witness = Witness()
    store.follow(witness)
    await asyncio.gather(*(store.write(witness.bump) for _ in range(20)))
    assert store.read_now(lambda reader: number(reader, "closed_at")) == 20
    assert [word for word in witness.told if word != "unit"][-2:] == ["close_batch", "committed"]


async def check_batch_fails_whole_with_its_close(store: Store) -> None:
    """If the last word of a batch fails, no unit of it is reported done, and the memory is read again."""
    witness = Witness()
    store.follow(witness)
    await store.write(witness.bump)
    witness.failing = True
    results = await asyncio.gather(*(store.write(witness.bump) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(one, HandshakeError) for one in results)
    assert store.read_now(lambda reader: number(reader, "count")) == 1
    witness.failing = False
    assert await store.write(witness.bump) == 2
    assert witness.count == 2


async def check_artifacts_are_what_their_hash_says(store: Store) -> None:
    """Small and large bytes come back as they were; what was only prepared is not there."""
    for data in (b"", b"small", bytes(MAX_INLINE_ARTIFACT_BYTES), b"large" * MAX_INLINE_ARTIFACT_BYTES):
        await _check_artifact(store, data)
    assert store.read_now(lambda reader: reader.artifact(ArtifactId("0" * 64))) is None


async def check_units_find_what_the_batch_added(store: Store) -> None:
    """A unit finds the artifacts of units before it in its batch, and not those of one that failed."""
    kept, lost = await store.prepare(b"kept", _TEXT), await store.prepare(b"lost", _TEXT)

    def failing(tx: Tx) -> None:
        tx.put(lost)
        raise StateConflict(reason="conformance")

    def look(tx: Tx) -> tuple[bytes | None, bytes | None]:
        return tx.artifact(kept.artifact_id), tx.artifact(lost.artifact_id)

    def looking_and_failing(tx: Tx) -> None:
        assert look(tx) == (b"kept", None)
        tx.put(lost)
        raise StateConflict(reason="conformance")

    units: list[Callable[[Tx], Any]] = [lambda tx: tx.put(kept), failing, looking_and_failing, look]
    *_, found = await asyncio.gather(*(store.write(unit) for unit in units), return_exceptions=True)
    assert found == (b"kept", None)
    assert await store.read(lambda reader: reader.artifact(lost.artifact_id)) is None


async def check_reader_changes_nothing(store: Store) -> None:
    """A query that would write is refused, beside the loop and on it."""

    def query(reader: Reader) -> object:
        return reader.row("declaration_put", {"subject": "by a reader", "sha256": "1", "at_us": 0})

    for refused in await _refusals(store, query):
        assert isinstance(refused, StoreFailed), "a reader wrote"
    assert await store.write(lambda tx: number(tx, "by a reader")) == 0


async def check_checkpoint_on_demand(store: Store) -> None:
    """A unit can have the log signed with all events of its batch, and once is enough."""
    await store.write(state_and_evidence(1))

    def unit(tx: Tx) -> None:
        tell(tx, 2)
        tx.sign_checkpoint()

    await store.write(unit)
    await store.write(lambda tx: tx.sign_checkpoint())
    row: Any = store.read_now(lambda reader: reader.row("checkpoint_last"))
    end: Any = store.read_now(lambda reader: reader.row("log_state"))
    assert row[0] == end[0] - 1, "the last event is the checkpoint's own"


async def check_closed_store_refuses(store: Store) -> None:
    """After it closed, which it may do twice, a store answers with one error and does nothing."""
    await store.write(state_and_evidence(1))
    await store.close()
    await store.close()
    ran: list[object] = []
    assert (await _failure(store, ran.append, StoreFailed)).context["reason"] == "closed"
    for refused in await _refusals(store, numbers_told):
        assert refused is not None, "a closed store answered"
        assert refused.context["reason"] == "closed"
    assert ran == []


CHECKS: tuple[Callable[[Store], Awaitable[None]], ...] = (
    check_result_comes_after_commit,
    check_then_is_called_whoever_still_waits,
    check_failing_unit_is_undone_alone,
    check_any_failure_reaches_its_caller,
    check_broken_constraint_is_a_conflict,
    check_invalid_event_fails_its_unit,
    check_refusal_is_a_result,
    check_log_is_dense,
    check_units_of_a_turn_run_in_order,
    check_many_writers_lose_nothing,
    check_follower_is_reloaded_after_a_failed_touch,
    check_batch_closes_last,
    check_batch_fails_whole_with_its_close,
    check_artifacts_are_what_their_hash_says,
    check_units_find_what_the_batch_added,
    check_reader_changes_nothing,
    check_checkpoint_on_demand,
    check_closed_store_refuses,
)
"""Every check; each takes an open store of a new workspace, which it may leave closed."""


async def _failure(store: Store, unit: Callable[[Tx], object], kind: type[_E]) -> _E:
    """Return the failure of a unit that must fail."""
    try:
        await store.write(unit)
    except kind as failure:
        return failure
    raise AssertionError("the unit was committed")


async def _refusals(store: Store, query: Callable[[Reader], object]) -> list[StoreFailed | None]:
    """Return how `read` and `read_now` refuse a query."""
    refusals: list[StoreFailed | None] = [None, None]
    try:
        await store.read(query)
    except StoreFailed as refused:
        refusals[0] = refused
    try:
        store.read_now(query)
    except StoreFailed as refused:
        refusals[1] = refused
    return refusals


async def _check_artifact(store: Store, data: bytes) -> None:
    content = await store.prepare(data, _TEXT)
    again = await store.prepare(data, _TEXT)
    assert (content.artifact_id, content.size_bytes) == (again.artifact_id, len(data))
    assert await store.read(lambda reader: reader.artifact(content.artifact_id)) is None
    for _ in range(2):
        await store.write(lambda tx: tx.put(content))
    assert await store.read(lambda reader: reader.artifact(content.artifact_id)) == data
