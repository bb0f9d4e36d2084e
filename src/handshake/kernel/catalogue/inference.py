"""Inference events: what a model call cost and how it ended (01 §5, 06 §3)."""

from __future__ import annotations

from handshake.kernel.event import Payload, Retention, event
from handshake.kernel.fields import Count, Id, Name, Sha256, Token
from handshake.kernel.session import SessionState


class TokenFigures(Payload, frozen=True, kw_only=True):
    """Tokens as the provider reported them; a figure that it did not report is left out, never 0."""

    completion_tokens: Count | None = None
    prompt_tokens: Count | None = None
    total_tokens: Count | None = None


@event("llm_inference", fr_id="FR-EVT-006", retention=Retention.RUN, in_session=True)
class LlmInference(Payload, frozen=True, kw_only=True):
    """One attempt of a model call ended, with or without an answer."""

    attempt: Count
    error_code: Token | None = None
    finish_reason: Token | None = None
    latency_ms: Count
    model_id: Name
    prompt_hash: Sha256
    response_hash: Sha256 | None = None
    session_state_after: SessionState | None = None
    time_to_first_token_ms: Count | None = None
    token_usage: TokenFigures | None
    trace_id: Id


@event("provider.breaker_opened", retention=Retention.RUN)
class BreakerOpened(Payload, frozen=True, kw_only=True):
    """A provider failed so often that nothing more is sent to it for a while."""

    failures_count: Count
    open_ms: Count
    provider_id: Name
    reason: Token


@event("provider.breaker_closed", retention=Retention.RUN)
class BreakerClosed(Payload, frozen=True, kw_only=True):
    """A provider answers again."""

    opened_for_ms: Count
    provider_id: Name
