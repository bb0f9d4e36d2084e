"""Swap events: one model replaced by another under the same rules (05 §4)."""

from __future__ import annotations

from enum import StrEnum

from handshake.kernel.event import Payload, Retention, event
from handshake.kernel.fields import Id, Name, Sha256, Token


class SwapOutcome(StrEnum):
    """How a swap ended."""

    SUCCESS = "success"
    FAILURE = "failure"
    TIMEOUT = "timeout"
    ROLLBACK = "rollback"


@event("model_swap_requested", fr_id="FR-EVT-MODEL-001", retention=Retention.RUN, in_session=True)
class ModelSwapRequested(Payload, frozen=True, kw_only=True):
    """A swap was asked for; the state it must preserve is named by its hash."""

    context_compile_ref: Sha256 | None = None
    current_model_id: Name
    effective_pack_sha256: Sha256 | None = None
    outcome: SwapOutcome | None = None
    reason: Token
    request_id: Id
    requested_pack_sha256: Sha256 | None = None
    role: Token
    state_hash: Sha256 | None = None
    swap_strategy: Token | None = None
    target_model_id: Name


@event("model_swap_completed", fr_id="FR-EVT-MODEL-002", retention=Retention.RUN, in_session=True)
class ModelSwapCompleted(Payload, frozen=True, kw_only=True):
    """The target model works under a valid pack."""

    context_compile_ref: Sha256 | None = None
    current_model_id: Name
    effective_pack_sha256: Sha256
    outcome: SwapOutcome | None = None
    reason: Token
    request_id: Id
    requested_pack_sha256: Sha256
    role: Token
    state_hash: Sha256 | None = None
    swap_strategy: Token | None = None
    target_model_id: Name


@event("model_swap_failed", fr_id="FR-EVT-MODEL-003", retention=Retention.RUN, in_session=True)
class ModelSwapFailed(Payload, frozen=True, kw_only=True):
    """A swap did not succeed."""

    context_compile_ref: Sha256 | None = None
    current_model_id: Name
    effective_pack_sha256: Sha256 | None = None
    outcome: SwapOutcome | None = None
    reason: Token
    request_id: Id
    requested_pack_sha256: Sha256 | None = None
    role: Token
    state_hash: Sha256 | None = None
    swap_strategy: Token | None = None
    target_model_id: Name


@event("model_swap_timeout", fr_id="FR-EVT-MODEL-004", retention=Retention.RUN, in_session=True)
class ModelSwapTimeout(Payload, frozen=True, kw_only=True):
    """A swap took longer than allowed."""

    context_compile_ref: Sha256 | None = None
    current_model_id: Name
    effective_pack_sha256: Sha256 | None = None
    outcome: SwapOutcome | None = None
    reason: Token
    request_id: Id
    requested_pack_sha256: Sha256 | None = None
    role: Token
    state_hash: Sha256 | None = None
    swap_strategy: Token | None = None
    target_model_id: Name


@event("model_swap_rollback", fr_id="FR-EVT-MODEL-005", retention=Retention.RUN, in_session=True)
class ModelSwapRollback(Payload, frozen=True, kw_only=True):
    """A swap was undone and the earlier model works again."""

    context_compile_ref: Sha256 | None = None
    current_model_id: Name
    effective_pack_sha256: Sha256 | None = None
    outcome: SwapOutcome | None = None
    reason: Token
    request_id: Id
    requested_pack_sha256: Sha256 | None = None
    role: Token
    state_hash: Sha256 | None = None
    swap_strategy: Token | None = None
    target_model_id: Name
