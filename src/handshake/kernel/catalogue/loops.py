"""Loop events: the run of a whole task file with all its micro-tasks (05 §6)."""

from __future__ import annotations

from handshake.kernel.event import Payload, Retention, event
from handshake.kernel.fields import Count, Name, Token


@event("micro_task_loop_started", fr_id="FR-EVT-MT-001", retention=Retention.RUN)
class MicroTaskLoopStarted(Payload, frozen=True, kw_only=True):
    """The micro-tasks of a work packet start."""

    max_total_iterations_count: Count
    tasks_count: Count
    wp_id: Name


@event("micro_task_pause_requested", fr_id="FR-EVT-MT-007", retention=Retention.RUN)
class MicroTaskPauseRequested(Payload, frozen=True, kw_only=True):
    """The loop stops at its next pause point; the micro-task is null between two of them."""

    iteration: Count | None = None
    mt_id: Name | None
    reason: Token
    wp_id: Name


@event("micro_task_resumed", fr_id="FR-EVT-MT-008", retention=Retention.RUN)
class MicroTaskResumed(Payload, frozen=True, kw_only=True):
    """The loop goes on at its first unfinished step; the micro-task is null between two of them."""

    iteration: Count | None = None
    mt_id: Name | None
    reason: Token
    wp_id: Name


@event("micro_task_loop_completed", fr_id="FR-EVT-MT-009", retention=Retention.RUN)
class MicroTaskLoopCompleted(Payload, frozen=True, kw_only=True):
    """The loop ended and every micro-task has its result."""

    blocked_count: Count
    completed_count: Count
    duration_ms: Count
    iterations_count: Count
    skipped_count: Count
    total_tokens: Count | None = None
    wp_id: Name


@event("micro_task_loop_failed", fr_id="FR-EVT-MT-010", retention=Retention.RUN)
class MicroTaskLoopFailed(Payload, frozen=True, kw_only=True):
    """The loop ended and cannot go on."""

    completed_count: Count
    duration_ms: Count
    iterations_count: Count
    mt_id: Name | None = None
    reason: Token
    total_tokens: Count | None = None
    wp_id: Name


@event("micro_task_loop_cancelled", fr_id="FR-EVT-MT-011", retention=Retention.RUN)
class MicroTaskLoopCancelled(Payload, frozen=True, kw_only=True):
    """The loop was cancelled."""

    cancelled_by: Name
    completed_count: Count
    duration_ms: Count
    iterations_count: Count
    mt_id: Name | None = None
    reason: Token
    total_tokens: Count | None = None
    wp_id: Name
