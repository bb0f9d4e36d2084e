"""Waiting: why a queued run has not started, as one of a closed set of reasons.

Reasons that come from shared limits are computed when someone asks, from the same counts and rules by which the
dispatcher decides; only a run's own reason (a backoff) is stored.

Source:
    scheduler.queue.shows_reason (01 §5).
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from handshake.kernel.lane import Lane
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
    GLOBAL_LIMIT = "global_limit"
    PRIMARY_RESERVE = "primary_reserve"
    PROVIDER_LIMIT = "provider_limit"
    MODEL_LIMIT = "model_limit"
    GROUP_LIMIT = "group_limit"
    READY = "ready"


SENTENCES: dict[WaitReason, str] = {
    WaitReason.SESSION_BLOCKED: "its session waits for a decision",
    WaitReason.SESSION_PAUSED: "its session is paused",
    WaitReason.SESSION_BUSY: "another run of its session is running",
    WaitReason.EARLIER_TURN: "an earlier turn of its session comes first",
    WaitReason.BACKOFF: "an attempt failed and the next one waits",
    WaitReason.NO_RUNTIME: "no runtime is open on this workspace",
    WaitReason.GLOBAL_LIMIT: "all run slots are taken",
    WaitReason.PRIMARY_RESERVE: "the last slots are kept for PRIMARY",
    WaitReason.PROVIDER_LIMIT: "the provider's slots are taken",
    WaitReason.MODEL_LIMIT: "the model's slots are taken",
    WaitReason.GROUP_LIMIT: "the group's slots are taken",
    WaitReason.READY: "it starts next",
}
"""What people read."""


class WaitFacts(msgspec.Struct, frozen=True, gc=False):
    """What a run's waiting depends on, besides shared counts."""

    session: Facts
    is_head: bool
    not_before_us: int
    lane: Lane
    key: SlotKey


def reason(facts: WaitFacts, *, usage: Usage, limits: Limits, dispatching: bool, now_us: int) -> WaitReason:
    """Return why the run waits at `now_us`."""
    session = facts.session
    own = (
        (session.blockers > 0 or session.waiting > 0, WaitReason.SESSION_BLOCKED),
        (session.paused, WaitReason.SESSION_PAUSED),
        (session.running > 0, WaitReason.SESSION_BUSY),
        (not facts.is_head, WaitReason.EARLIER_TURN),
        (facts.not_before_us > now_us, WaitReason.BACKOFF),
        (not dispatching, WaitReason.NO_RUNTIME),
    )
    for holds, why in own:
        if holds:
            return why
    shared = usage.closed_to(facts.lane, limits) or usage.full(facts.key, limits)
    return WaitReason(shared) if shared else WaitReason.READY
