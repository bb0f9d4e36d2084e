"""Tests of wait reasons: a closed set, one reason at a time, in a fixed order."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest

from handshake.kernel.admission import Admission, Bill
from handshake.kernel.bucket import UNITS_PER_ONE, Bucket
from handshake.kernel.budget import Account, Amounts, BudgetKey, BudgetScope, BudgetType
from handshake.kernel.lane import Lane
from handshake.kernel.limit import Limits, SlotKey, Usage
from handshake.kernel.rate import Gate, Rate
from handshake.kernel.session import Ending, Facts
from handshake.kernel.waiting import SENTENCES, Wait, WaitFacts, WaitReason
from handshake.kernel.waiting import why as wait_of
from tests.requirement import requirement

KEY = SlotKey("p", "m", "g")
LIMITS = Limits(total=2, primary_reserved=1, provider_default=3, model_default=2, groups={"g": 1})
BILL = Bill("p", "s", "WP-1", Amounts(50))
READY = WaitFacts(Facts(Ending.OPEN, 0, 0, 0, False, False), True, 0, Lane.PRIMARY, KEY, BILL)
OTHER_MODEL = SlotKey("p", "n", None)


def why(
    facts: WaitFacts = READY, *, dispatching: bool = True, runs: tuple[Lane, ...] = (), held: tuple[SlotKey, ...] = ()
) -> WaitReason:
    return wait(facts, Admission({}), dispatching=dispatching, runs=runs, held=held).reason


def wait(
    facts: WaitFacts,
    admission: Admission,
    *,
    dispatching: bool = True,
    runs: tuple[Lane, ...] = (),
    held: tuple[SlotKey, ...] = (),
) -> Wait:
    usage = Usage()
    for lane in runs:
        usage.take_run(lane)
    for key in held:
        usage.take_connection(key)
    return wait_of(facts, usage=usage, limits=LIMITS, admission=admission, dispatching=dispatching, now_us=100)


def session(**changes: object) -> WaitFacts:
    return msgspec.structs.replace(READY, session=msgspec.structs.replace(READY.session, **changes))


@requirement("scheduler.queue.shows_reason")
@pytest.mark.parametrize(
    ("facts", "given", "expected"),
    [
        (READY, {}, WaitReason.READY),
        (session(blockers=1), {}, WaitReason.SESSION_BLOCKED),
        (session(waiting=1), {}, WaitReason.SESSION_BLOCKED),
        (session(paused=True), {}, WaitReason.SESSION_PAUSED),
        (session(running=1), {}, WaitReason.SESSION_BUSY),
        (msgspec.structs.replace(READY, is_head=False), {}, WaitReason.EARLIER_TURN),
        (msgspec.structs.replace(READY, not_before_us=101), {}, WaitReason.BACKOFF),
        (msgspec.structs.replace(READY, not_before_us=100), {}, WaitReason.READY),
        (READY, {"dispatching": False}, WaitReason.NO_RUNTIME),
        (READY, {"runs": (Lane.PRIMARY, Lane.PRIMARY)}, WaitReason.GLOBAL_LIMIT),
        (msgspec.structs.replace(READY, lane=Lane.SUBAGENT), {"runs": (Lane.BACKGROUND,)}, WaitReason.PRIMARY_RESERVE),
        (READY, {"held": (OTHER_MODEL,) * 3}, WaitReason.PROVIDER_LIMIT),
        (READY, {"held": (SlotKey("p", "m", None),) * 2}, WaitReason.MODEL_LIMIT),
        (READY, {"held": (SlotKey("q", "x", "g"),)}, WaitReason.GROUP_LIMIT),
    ],
)
def test_each_reason_is_told(facts: WaitFacts, given: Mapping[str, object], expected: WaitReason) -> None:
    assert why(facts, **given) is expected  # type: ignore[arg-type]


@requirement("scheduler.queue.shows_reason")
def test_the_runs_own_reasons_come_before_shared_ones() -> None:
    facts = msgspec.structs.replace(
        session(blockers=1, paused=True, running=1), is_head=False, not_before_us=900, lane=Lane.BACKGROUND
    )
    full = {"runs": (Lane.PRIMARY, Lane.PRIMARY), "held": (KEY,) * 3}
    told = []
    for lifted in (
        {"session": session(paused=True, running=1).session},
        {"session": session(running=1).session},
        {"session": READY.session},
        {"is_head": True},
        {"not_before_us": 0},
    ):
        told.append(why(facts, dispatching=False, **full))  # type: ignore[arg-type]
        facts = msgspec.structs.replace(facts, **lifted)
    assert [*told, why(facts, dispatching=False, **full), why(facts, **full)] == [  # type: ignore[arg-type]
        WaitReason.SESSION_BLOCKED,
        WaitReason.SESSION_PAUSED,
        WaitReason.SESSION_BUSY,
        WaitReason.EARLIER_TURN,
        WaitReason.BACKOFF,
        WaitReason.NO_RUNTIME,
        WaitReason.GLOBAL_LIMIT,
    ]


@requirement("scheduler.queue.shows_reason")
def test_a_rate_or_a_backoff_is_told_with_the_time_at_which_it_ends() -> None:
    admission = Admission({"p": Rate(tokens_per_minute=60)})
    admission.rates.restore("p", Gate(tokens=Bucket(9 * UNITS_PER_ONE, 100)))
    assert wait(READY, admission) == Wait(WaitReason.RATE_LIMIT, 9_000_100)
    admission.rates.restore("p", Gate(closed_until_us=777))
    assert wait(READY, admission) == Wait(WaitReason.RATE_LIMIT, 777)
    later = msgspec.structs.replace(READY, not_before_us=500)
    assert wait(later, admission) == Wait(WaitReason.BACKOFF, 500)


@requirement("scheduler.queue.shows_reason")
def test_a_budget_is_told_while_others_hold_its_room() -> None:
    admission = Admission({})
    key = BudgetKey(BudgetScope.WORK_PACKET, "WP-1", BudgetType.TOKENS)
    admission.ledger.load([(key, Account(100, spent=20, reserved=40))])
    assert wait(READY, admission) == Wait(WaitReason.BUDGET)
    admission.ledger.load([(key, Account(100, spent=20, reserved=30))])
    assert wait(READY, admission) == Wait(WaitReason.READY)
    admission.ledger.load([(key, Account(100, spent=70))])
    assert wait(READY, admission) == Wait(WaitReason.READY), "it is looked at next, and ends"


def test_every_reason_has_its_own_sentence() -> None:
    assert set(SENTENCES) == set(WaitReason)
    assert len(set(SENTENCES.values())) == len(WaitReason)
