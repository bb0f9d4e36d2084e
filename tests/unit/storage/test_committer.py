"""Committer: a batch that the store lost is tried unit by unit, and memory never runs ahead of the truth."""

from __future__ import annotations

import errno

import apsw
import pytest

from handshake.kernel.errors import HandshakeError, IntegrityBroken, StateConflict, StoreFailed
from handshake.kernel.settings import RecorderSettings
from handshake.kernel.units import US_PER_S
from handshake.ports.store import Tx, Unit
from handshake.storage.committer import Committer, Outcome
from handshake.testing.invariants import Event, check_log
from handshake.testing.memory_store import MemoryStore
from handshake.testing.store_conformance import Witness, number, numbers_told, state_and_evidence, tell
from handshake.testing.virtual_clock import VirtualClock
from tests.requirement import requirement


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def committer(store: MemoryStore) -> Committer:
    return store.opened.committer


class Failing:
    """A unit that stores and tells a number, and fails the first `times` that it runs."""

    def __init__(self, value: int, failure: BaseException, *, times: int) -> None:
        self.value = value
        self.failure = failure
        self.times = times
        self.runs = 0

    def __call__(self, tx: Tx) -> int:
        self.runs += 1
        result = state_and_evidence(self.value)(tx)
        if self.runs <= self.times:
            raise self.failure
        return result


def values(outcomes: list[Outcome]) -> list[object]:
    """Return the value of each outcome, or the type of its failure."""
    return [one.value if one.failure is None else type(one.failure) for one in outcomes]


def failure(outcome: Outcome) -> HandshakeError:
    assert isinstance(outcome.failure, HandshakeError)
    return outcome.failure


LOSSES: list[BaseException] = [apsw.FullError("full"), apsw.IOError("broken"), OSError(errno.EIO, "broken")]


@requirement("recovery.batch.rollback_is_whole")
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_lost_batch_is_tried_unit_by_unit(loss: BaseException, store: MemoryStore, committer: Committer) -> None:
    units = [Failing(value, loss, times=value == 2) for value in (1, 2, 3)]
    before = committer.batches
    assert values(committer.commit(units)) == [1, 2, 3]
    assert [one.runs for one in units] == [2, 2, 1], "the third had not run when the second lost the batch"
    assert committer.batches == before + 3
    assert store.read_now(numbers_told) == [1, 2, 3]


@requirement("recovery.batch.rollback_is_whole", "recorder.disk_full.fails_whole")
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_unit_that_loses_its_batch_again_is_refused(
    loss: BaseException, store: MemoryStore, committer: Committer
) -> None:
    units = [Failing(value, loss, times=2 * (value == 2)) for value in (1, 2, 3)]
    outcomes = committer.commit(units)
    assert values(outcomes) == [1, StoreFailed, 3]
    assert failure(outcomes[1]).code == "HSK-507-STORE"
    assert [one.runs for one in units] == [2, 2, 1]
    assert store.read_now(lambda reader: [number(reader, name) for name in "123"]) == [1, 0, 3]
    assert store.read_now(numbers_told) == [1, 3]


def test_unit_that_fails_before_it_changes_anything_costs_the_others_nothing(
    store: MemoryStore, committer: Committer
) -> None:
    def refused(tx: Tx) -> None:
        tell(tx, 7)
        raise StateConflict(reason="test")

    before = committer.batches
    outcomes = committer.commit([state_and_evidence(1), refused, state_and_evidence(2)])
    assert values(outcomes) == [1, StateConflict, 2]
    assert committer.batches == before + 1
    assert store.read_now(numbers_told) == [1, 2], "its event is gone with it"


def test_unit_that_fails_after_a_change_is_undone_alone_and_says_why(store: MemoryStore, committer: Committer) -> None:
    before = committer.batches
    units: list[Unit[int]] = [state_and_evidence(1), Failing(3, KeyError("a bug"), times=9), state_and_evidence(2)]
    assert values(committer.commit(units)) == [1, KeyError, 2]
    assert committer.batches == before + 3, "each alone, and the truth was looked at after the one that failed"
    assert values(committer.commit([Failing(3, KeyError("a bug"), times=9)])) == [KeyError]
    assert store.read_now(numbers_told) == [1, 2]


def test_unit_alone_is_not_tried_twice(committer: Committer) -> None:
    unit = Failing(1, apsw.FullError("full"), times=1)
    assert values(committer.commit([unit])) == [StoreFailed]
    assert unit.runs == 1


@requirement("recovery.batch.rollback_is_whole")
def test_transaction_that_sqlite_took_back_is_gone_whole(store: MemoryStore, committer: Committer) -> None:
    runs = []

    def unit(tx: Tx) -> None:
        runs.append(1)
        state_and_evidence(2)(tx)
        if len(runs) == 1:
            store.opened.db.execute("ROLLBACK").close()
            raise StateConflict(reason="not the store's failure, but the transaction is gone")

    outcomes = committer.commit([state_and_evidence(1), unit, state_and_evidence(3)])
    assert [one.failure for one in outcomes] == [None, None, None]
    assert store.read_now(numbers_told) == [1, 2, 3]
    assert not store.opened.db.in_transaction


@requirement("recovery.batch.rollback_is_whole")
def test_follower_of_a_lost_batch_reads_the_truth_again(committer: Committer) -> None:
    witness = Witness()
    committer.follow(witness)
    assert values(committer.commit([witness.bump, witness.bump])) == [1, 2]
    witness.told.clear()
    lost = Failing(1, apsw.FullError("full"), times=2)
    assert values(committer.commit([witness.bump, lost, witness.bump])) == [3, StoreFailed, 4]
    assert witness.count == 4
    assert witness.told == [
        *("unit",),  # the batch is lost with the second unit
        *("reload", "unit", "close_batch", "committed"),
        # the second alone is lost again, and had changed nothing in memory
        *("unit", "close_batch", "committed"),
    ]


class Confused(Witness):
    """A follower with a bug."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def reload(self, tx: Tx) -> None:
        super().reload(tx)
        if self.where == "reload":
            raise KeyError("a bug")

    def close_batch(self, tx: Tx) -> None:
        super().close_batch(tx)
        if self.where == "close_batch":
            raise KeyError("a bug")


@requirement("recovery.batch.rollback_is_whole")
@pytest.mark.parametrize("where", ["reload", "close_batch"])
def test_bug_of_the_follower_refuses_the_batch_and_leaves_nothing_open(
    where: str, store: MemoryStore, committer: Committer
) -> None:
    confused = Confused(where)
    committer.follow(confused)
    outcomes = committer.commit([state_and_evidence(1), state_and_evidence(2)])
    assert values(outcomes) == [StoreFailed, StoreFailed]
    assert failure(outcomes[0]).context == {"reason": "internal", "kind": "KeyError"}
    assert not store.opened.db.in_transaction
    assert store.read_now(numbers_told) == []
    confused.where = ""
    assert values(committer.commit([state_and_evidence(3)])) == [3]


def test_new_follower_reads_the_truth_before_its_first_batch(committer: Committer) -> None:
    first, second = Witness(), Witness()
    committer.follow(first)
    committer.commit([first.bump])
    committer.follow(second)
    assert values(committer.commit([second.bump])) == [2]
    assert second.told == ["reload", "unit", "close_batch", "committed"]


def test_interruption_takes_the_batch_back_and_goes_on_up(store: MemoryStore, committer: Committer) -> None:
    class Interrupted(Witness):
        def reload(self, tx: Tx) -> None:
            raise KeyboardInterrupt

    committer.follow(Interrupted())
    with pytest.raises(KeyboardInterrupt):
        committer.commit([state_and_evidence(1)])
    assert not store.opened.db.in_transaction
    committer.follow(Witness())
    assert values(committer.commit([state_and_evidence(2)])) == [2]
    assert store.read_now(numbers_told) == [2]


@requirement("recorder.atomic")
def test_log_that_somebody_moved_is_not_continued(store: MemoryStore, committer: Committer) -> None:
    committer.commit([state_and_evidence(1)])
    store.opened.db.execute("UPDATE log_state SET size = size + 1").close()
    outcomes = committer.commit([state_and_evidence(2)])
    assert isinstance(outcomes[0].failure, IntegrityBroken)
    assert store.read_now(lambda reader: number(reader, "2")) == 0


def test_batch_has_one_moment(store: MemoryStore, committer: Committer) -> None:
    assert isinstance(store.clock, VirtualClock)
    clock = store.clock

    def unit(tx: Tx) -> int:
        clock.advance(1)
        return tx.now_us

    first = [one.value for one in committer.commit([unit, unit, unit])]
    assert len(set(first)) == 1
    assert committer.commit([unit])[0].value == first[0] + 3


# ── checkpoints ────────────────────────────────────────────────────────────────────────────────────────────


def signed_sizes(store: MemoryStore) -> list[int]:
    """Return what was signed, after checking every signature."""
    events: list[Event] = store.read_now(lambda reader: check_log(reader, store.key.verifier_key))
    return [one.payload["tree_size"] for one in events if one.type == "meta.checkpoint_signed"]


def tell_one(tx: Tx) -> None:
    tell(tx, 1)


@requirement("recorder.checkpoint.signed")
def test_log_is_signed_after_so_many_events() -> None:
    store = MemoryStore(recorder=RecorderSettings(checkpoint_every_events=5))
    commit = store.opened.committer.commit
    for _ in range(1 + 5 + 4):
        commit([tell_one])
    assert signed_sizes(store) == [1, 7], "the first event finds nothing signed before it; a checkpoint's own counts"
    commit([tell_one, tell_one, tell_one])
    assert signed_sizes(store) == [1, 7, 15]


@requirement("recorder.checkpoint.signed")
def test_log_is_signed_after_so_long_and_only_with_something_to_sign() -> None:
    clock = VirtualClock()
    store = MemoryStore(clock=clock, recorder=RecorderSettings(checkpoint_every_s=60))
    commit = store.opened.committer.commit
    commit([tell_one])
    assert signed_sizes(store) == [1]
    clock.advance(59 * US_PER_S)
    commit([tell_one])
    assert signed_sizes(store) == [1]
    clock.advance(US_PER_S)
    commit([lambda tx: None])
    assert signed_sizes(store) == [1, 3]
    clock.advance(3_600 * US_PER_S)
    commit([lambda tx: None])
    assert signed_sizes(store) == [1, 3]


def test_checkpoint_of_a_lost_batch_was_never_signed(store: MemoryStore, committer: Committer) -> None:
    committer.commit([tell_one])

    def sign(tx: Tx) -> None:
        tell(tx, 2)
        tx.sign_checkpoint()

    lost = Failing(3, apsw.FullError("full"), times=2)
    assert values(committer.commit([sign, lost])) == [None, StoreFailed]
    assert signed_sizes(store) == [1, 3]
    committer.sign_checkpoint()
    committer.sign_checkpoint()
    assert signed_sizes(store) == [1, 3]
