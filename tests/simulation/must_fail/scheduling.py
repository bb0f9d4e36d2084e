"""Scheduling: limits, lanes, fairness, retries and timeouts, each forgotten in turn."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from handshake.kernel import lane, limit, queue, retry
from handshake.kernel.lane import Lane
from handshake.kernel.retry import FaultKind, GiveUp, RetryAt
from handshake.operations import cancelling, outcomes
from handshake.providers import http_body
from handshake.scheduler import dispatcher
from tests.simulation.must_fail.mutant import mutant


@mutant("standard", "scheduler.limit.is_never_exceeded")
def shared_limits_are_off_by_one(patch: pytest.MonkeyPatch) -> None:
    """A provider, model or group takes one call more than its limit."""

    class Generous:
        def __init__(self, limits: Any) -> None:
            self._limits = limits
            self.groups = {name: count + 1 for name, count in limits.groups.items()}

        def of_provider(self, key: Any) -> int:
            return int(self._limits.of_provider(key)) + 1

        def of_model(self, key: Any) -> int:
            return int(self._limits.of_model(key)) + 1

    original = limit.Usage.full
    patch.setattr(limit.Usage, "full", lambda self, key, limits: original(self, key, Generous(limits)))  # type: ignore[arg-type]


@mutant("standard", "scheduler.limit.is_never_exceeded")
def the_global_limit_is_off_by_one(patch: pytest.MonkeyPatch) -> None:
    """One run more than `max_concurrent_runs`."""
    original = queue.RunQueue.__init__

    def init(self: Any, limits: Any, *rest: Any, **named: Any) -> None:
        original(self, msgspec.structs.replace(limits, total=limits.total + 1), *rest, **named)

    patch.setattr(queue.RunQueue, "__init__", init)


@mutant("crowd", "scheduler.lane.primary_never_starves", seeds=1)
def the_reserve_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """The other lanes take the last slot too."""
    original = lane.may_take
    patch.setattr(limit, "may_take", lambda one, **given: original(one, **{**given, "reserved": 0}))


@mutant("flood", "scheduler.lane.primary_never_starves", "scheduler.lane.low_lanes_progress")
def the_reserve_does_not_go_first(patch: pytest.MonkeyPatch) -> None:
    """BACKGROUND goes before PRIMARY whenever it can."""
    patch.setattr(queue.RunQueue, "_choose_lane", lambda self, admissible: admissible[-1])


@mutant("flood", "scheduler.lane.low_lanes_progress")
def primary_always_goes_first(patch: pytest.MonkeyPatch) -> None:
    """Lower lanes go only when no higher one can."""
    patch.setattr(queue.RunQueue, "_choose_lane", lambda self, admissible: admissible[0])


@mutant("flood", "scheduler.lane.low_lanes_progress")
def weights_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Every lane has the same share."""
    patch.setattr(queue, "charge", lambda own, virtual, *, weight: max(own, virtual) + lane.STRIDE_UNIT // 4)


@mutant("flood", "scheduler.fairness.between_trees", "scheduler.lane.low_lanes_progress")
def trees_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Within a lane the order is that of acceptance alone, so that a flood keeps others out."""
    original = queue.RunQueue.add

    def add(self: Any, run: Any) -> None:
        original(self, msgspec.structs.replace(run, fairness_key="all"))

    patch.setattr(queue.RunQueue, "add", add)


@mutant("priorities", "scheduler.order.follows_priority_then_sequence")
def priority_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Within a lane nobody asks for priority."""
    original = queue.RunQueue.add

    def add(self: Any, run: Any) -> None:
        original(self, msgspec.structs.replace(run, priority=50))

    patch.setattr(queue.RunQueue, "add", add)


@mutant("cancels", "scheduler.limit.is_never_exceeded", "scheduler.path.is_single", "scheduler.cancel.is_prompt")
def a_cancel_frees_slots_too_early(patch: pytest.MonkeyPatch) -> None:
    """A cancelled run's slots are free although its connection may be open."""
    original = cancelling.cancel_run

    def cancel_run(tx: Any, index: Any, job: Any, **named: Any) -> Any:
        result = original(tx, index, msgspec.structs.replace(job, holds_slot=False), **named)
        if job.holds_slot:
            index.free_connection(limit.SlotKey(job.provider_id, job.model_id, job.concurrency_group))
            return msgspec.structs.replace(result, open_attempt=None)
        return result

    patch.setattr(cancelling, "cancel_run", cancel_run)


@mutant("standard", "scheduler.queue.no_head_of_line_blocking", "scheduler.queue.never_drops")
def slots_are_never_freed(patch: pytest.MonkeyPatch) -> None:
    """Whoever ended keeps its provider's slot in the index."""
    patch.setattr(queue.RunQueue, "free_connection", lambda self, key: None)


@mutant("flood", "scheduler.queue.no_head_of_line_blocking", "scheduler.queue.never_drops")
def a_full_lane_blocks_the_others(patch: pytest.MonkeyPatch) -> None:
    """While PRIMARY waits, nobody else starts."""
    original = queue.RunQueue._take

    def take(self: Any) -> Any:
        blocked = self._bins[Lane.PRIMARY] and self.usage.total >= 2
        return None if blocked else original(self)

    patch.setattr(queue.RunQueue, "_take", take)


@mutant("bytes", "scheduler.retry.not_after_bytes")
def retried_after_text_was_handed_on(patch: pytest.MonkeyPatch) -> None:
    """Nobody asks whether a caller saw some of the answer."""
    original = retry.decide

    def decide(fault: Any, **named: Any) -> RetryAt | GiveUp:
        return original(msgspec.structs.replace(fault, consumed=False), **named)

    patch.setattr(outcomes, "decide", decide)


@mutant("bytes", "scheduler.retry.transient_only")
def everything_is_retried(patch: pytest.MonkeyPatch) -> None:
    """A status 400 is tried again."""
    original = retry.decide

    def decide(fault: Any, **named: Any) -> RetryAt | GiveUp:
        given = fault if fault.kind is not FaultKind.STATUS else msgspec.structs.replace(fault, status=503)
        return original(given, **named)

    patch.setattr(outcomes, "decide", decide)


@mutant("storms", "scheduler.retry.transient_only")
def retried_without_end(patch: pytest.MonkeyPatch) -> None:
    """`max_retries` counts for nothing."""
    original = retry.decide
    patch.setattr(outcomes, "decide", lambda fault, **named: original(fault, **{**named, "max_retries": 1_000}))


@mutant("cancels", "scheduler.retry.transient_only", "scheduler.rate.honours_retry_after")
def a_backoff_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """The next attempt starts at once, whatever the event says."""
    original = queue.RunQueue.add

    def add(self: Any, run: Any) -> None:
        original(self, msgspec.structs.replace(run, not_before_us=0))

    patch.setattr(queue.RunQueue, "add", add)


@mutant("quiet", "scheduler.queue.no_head_of_line_blocking", "scheduler.queue.never_drops")
def nobody_wakes_after_a_backoff(patch: pytest.MonkeyPatch) -> None:
    """The end of a backoff is noticed only when something else happens."""
    patch.setattr(queue.RunQueue, "next_timer_us", lambda self: None)


@mutant("drips", "scheduler.timeout.is_enforced")
def timeouts_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A call may take as long as it likes."""
    forever = 30 * 86_400.0
    patch.setattr(
        http_body.Deadlines,
        "next",
        lambda self: (asyncio.get_running_loop().time() + forever, FaultKind.TIMEOUT_TOTAL),
    )


@mutant("standard", "scheduler.path.is_single")
def a_call_without_a_run(patch: pytest.MonkeyPatch) -> None:
    """An attempt is carried out twice."""
    original = dispatcher.Dispatcher._begin

    def begin(self: Any, fresh: Any, *rest: Any) -> None:
        original(self, [*fresh, *fresh], *rest)

    patch.setattr(dispatcher.Dispatcher, "_begin", begin)
