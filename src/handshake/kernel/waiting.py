"""Waiting: why a queued run has not started, as one of a closed set of reasons.

Reasons that come from shared limits are computed when someone asks, from the same counts and rules by which the
dispatcher decides; only a run's own reason (a backoff, or that it was told of its provider's rate) is stored.

Source:
    scheduler.queue.shows_reason (01 §5).
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from handshake.kernel.admission import Admission, Bill
from handshake.kernel.budget import Fit
from handshake.kernel.lane import Lane
from handshake.kernel.ledger import Short
from handshake.kernel.limit import Limits, SlotKey, Usage
from handshake.kernel.session import Facts


class WaitReason(StrEnum):
    """Why a run waits; the first that holds is shown."""

    SESSION_BLOCKED = "session_blocked"
    SESSION_PAUSED = "session_paused"
    SESSION_BUSY = "session_busy"
    EARLIER_TURN = "earlier_turn"
    BACKOFF = "backoff"
    NO_RUNTIME = "no_runtime"
    STORE_FULL = "store_full"
    GLOBAL_LIMIT = "global_limit"
    PRIMARY_RESERVE = "primary_reserve"
    PROVIDER_LIMIT = "provider_limit"
    MODEL_LIMIT = "model_limit"
    GROUP_LIMIT = "group_limit"
    BUDGET = "budget"
    RATE_LIMIT = "rate_limit"
    READY = "ready"


ONLY_OTHERS_LIFT = frozenset({WaitReason.SESSION_BLOCKED, WaitReason.SESSION_PAUSED, WaitReason.EARLIER_TURN})
"""Reasons that hold as long as nobody else does something; the first turn of a session tells why it waits itself."""

SENTENCES: dict[WaitReason, str] = {
    WaitReason.SESSION_BLOCKED: "its session waits for a person, or for files of another session",
    WaitReason.SESSION_PAUSED: "its session is paused",
    WaitReason.SESSION_BUSY: "another run of its session is running",
    WaitReason.EARLIER_TURN: "an earlier turn of its session comes first",
    WaitReason.BACKOFF: "an attempt failed and the next one waits",
    WaitReason.NO_RUNTIME: "no runtime is open on this workspace",
    WaitReason.STORE_FULL: "nothing starts until the store has room and every outcome is stored",
    WaitReason.GLOBAL_LIMIT: "all run slots are taken",
    WaitReason.PRIMARY_RESERVE: "the last slots are kept for PRIMARY",
    WaitReason.PROVIDER_LIMIT: "the provider's slots are taken",
    WaitReason.MODEL_LIMIT: "the model's slots are taken",
    WaitReason.GROUP_LIMIT: "the group's slots are taken",
    WaitReason.BUDGET: "a budget has no room until runs that reserved it are over",
    WaitReason.RATE_LIMIT: "the provider's rate admits it later",
    WaitReason.READY: "it starts next",
}
"""What people read."""


class WaitFacts(msgspec.Struct, frozen=True, gc=False):
    """What a run's waiting depends on, besides shared counts."""

    session: Facts
    is_head: bool
    not_before_us: int
    lane: Lane
    key: SlotKey | None
    """The slots that it needs besides a global one; None if it goes on at its tools."""
    bill: Bill


class Wait(msgspec.Struct, frozen=True, gc=False):
    """Why a run waits, and when that is over at the earliest, if the time is known."""

    reason: WaitReason
    until_us: int | None = None


def why(
    facts: WaitFacts,
    *,
    usage: Usage,
    limits: Limits,
    admission: Admission,
    dispatching: bool,
    now_us: int,
    has_room: bool = True,
) -> Wait:
    """Return why the run waits at `now_us`; what `admission` knows has times of the same clock."""
    session = facts.session
    own = (
        (session.blockers > 0 or session.waiting > 0, WaitReason.SESSION_BLOCKED),
        (session.paused, WaitReason.SESSION_PAUSED),
        (session.running > 0, WaitReason.SESSION_BUSY),
        (not facts.is_head, WaitReason.EARLIER_TURN),
    )
    for holds, reason in own:
        if holds:
            return Wait(reason)
    if facts.not_before_us > now_us:
        return Wait(WaitReason.BACKOFF, facts.not_before_us)
    if not dispatching:
        return Wait(WaitReason.NO_RUNTIME)
    if not has_room:
        return Wait(WaitReason.STORE_FULL)
    shared = usage.closed_to(facts.lane, limits) or (usage.full(facts.key, limits) if facts.key else None)
    if shared:
        return Wait(WaitReason(shared))
    obstacle = admission.look(facts.bill, now_us=now_us) if facts.key else None
    if isinstance(obstacle, Short):
        return Wait(WaitReason.BUDGET if obstacle.fit is Fit.LATER else WaitReason.READY)
    if obstacle is not None:
        return Wait(WaitReason.RATE_LIMIT, now_us + obstacle.us)
    return Wait(WaitReason.READY)
