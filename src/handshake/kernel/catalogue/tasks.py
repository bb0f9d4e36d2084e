"""Task events: the life of one micro-task, from its first iteration to its end (05 §6)."""

from __future__ import annotations

from enum import StrEnum

from handshake.kernel.catalogue.lists import Refs
from handshake.kernel.event import Payload, Retention, event
from handshake.kernel.fields import Count, Name, Sha256, Token


class TaskDecision(StrEnum):
    """What follows an iteration."""

    COMPLETE = "complete"
    RETRY = "retry"
    ESCALATE = "escalate"
    SKIP = "skip"
    ABORT = "abort"
    HARD_GATE = "hard_gate"


class VerifierOutcome(StrEnum):
    """What the task's own commands said."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_RUN = "not_run"


@event("micro_task_iteration_started", fr_id="FR-EVT-MT-002", retention=Retention.RUN)
class MicroTaskIterationStarted(Payload, frozen=True, kw_only=True):
    """A model starts on one iteration of a micro-task."""

    iteration: Count
    level: Count
    model_id: Name
    mt_id: Name
    pack_sha256: Sha256
    wp_id: Name


@event("micro_task_iteration_complete", fr_id="FR-EVT-MT-003", retention=Retention.RUN)
class MicroTaskIterationComplete(Payload, frozen=True, kw_only=True):
    """One iteration of a micro-task ended, and what follows is decided."""

    decision: TaskDecision
    duration_ms: Count
    iteration: Count
    level: Count
    model_id: Name
    mt_id: Name
    pack_sha256: Sha256
    total_tokens: Count | None = None
    verifier_outcome: VerifierOutcome
    verifier_refs: Refs
    wp_id: Name


@event("micro_task_complete", fr_id="FR-EVT-MT-004", retention=Retention.RUN)
class MicroTaskComplete(Payload, frozen=True, kw_only=True):
    """A micro-task is done and its verification passed."""

    iteration: Count
    iterations_count: Count
    level: Count
    model_id: Name
    mt_id: Name
    pack_sha256: Sha256
    verifier_outcome: VerifierOutcome
    verifier_refs: Refs
    wp_id: Name


@event("micro_task_escalated", fr_id="FR-EVT-MT-005", retention=Retention.RUN)
class MicroTaskEscalated(Payload, frozen=True, kw_only=True):
    """A micro-task goes on at a higher level of the chain."""

    effective_pack_sha256: Sha256
    from_level: Count
    from_model_id: Name
    iteration: Count
    mt_id: Name
    reason: Token
    requested_pack_sha256: Sha256
    to_level: Count
    to_model_id: Name
    wp_id: Name


@event("micro_task_hard_gate", fr_id="FR-EVT-MT-006", retention=Retention.RUN)
class MicroTaskHardGate(Payload, frozen=True, kw_only=True):
    """A micro-task stops until a person decides."""

    iteration: Count
    level: Count
    mt_id: Name
    reason: Token
    wp_id: Name


@event("micro_task_validation", fr_id="FR-EVT-MT-012", retention=Retention.RUN)
class MicroTaskValidation(Payload, frozen=True, kw_only=True):
    """The task's own commands ran in the sandbox."""

    failed_count: Count
    iteration: Count
    level: Count
    model_id: Name
    mt_id: Name
    passed_count: Count
    verifier_outcome: VerifierOutcome
    verifier_refs: Refs
    wp_id: Name


@event("micro_task_drop_back", fr_id="FR-EVT-MT-013", retention=Retention.RUN)
class MicroTaskDropBack(Payload, frozen=True, kw_only=True):
    """After a success the next micro-task starts at a lower level again."""

    from_level: Count
    from_model_id: Name
    mt_id: Name
    reason: Token
    to_level: Count
    to_model_id: Name
    wp_id: Name


@event("micro_task_distillation_candidate", fr_id="FR-EVT-MT-014", retention=Retention.RUN)
class MicroTaskDistillationCandidate(Payload, frozen=True, kw_only=True):
    """An escalation is kept as an example to learn from, by reference only."""

    candidate_ref: Sha256
    evidence_refs: Refs
    mt_id: Name
    outcome: Token
    pack_sha256: Sha256
    prompt_hash: Sha256
    student_model_id: Name
    teacher_model_id: Name
    wp_id: Name


@event("micro_task_skipped", fr_id="FR-EVT-MT-015", retention=Retention.RUN)
class MicroTaskSkipped(Payload, frozen=True, kw_only=True):
    """A micro-task was left out."""

    iteration: Count
    level: Count
    mt_id: Name
    reason: Token
    wp_id: Name


@event("micro_task_blocked", fr_id="FR-EVT-MT-016", retention=Retention.RUN)
class MicroTaskBlocked(Payload, frozen=True, kw_only=True):
    """A model says that it cannot go on."""

    iteration: Count
    level: Count
    model_id: Name
    mt_id: Name
    pack_sha256: Sha256
    reason: Token
    wp_id: Name
