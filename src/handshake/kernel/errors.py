"""Errors: one table, drawn as a tree whose families say who must act; only its leaves can be raised.

HandshakeError
├── Request      the caller: send something else
├── Refused      an operator: policy, consent or authority says no
├── Conflict     the caller: look at the state again
├── Unavailable  nobody, or whoever runs the outside thing: try later
└── Integrity    whoever answers for this installation: stop and look

A leaf carries ids, hashes, numbers and tokens as context, never content. Codes are public and stable.

Source:
    spec 08 (codes), 07 §2 (exit codes).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

MAX_VALUE_CHARS = 200
"""Longest string of a context or hint: ids, tokens and paths fit, a document does not."""
MAX_VALUE_ITEMS = 20
"""Longest list of a context."""
MAX_INTEGER_BITS = 64
"""Largest number of a context: no own record holds a larger one."""

_EXIT_FAILED = 1
_EXIT_USAGE = 2
_EXIT_DENIED = 3
_EXIT_NOT_FOUND = 4
_EXIT_CONFLICT = 5
_EXIT_INTEGRITY = 6

Scalar = int | str | None
"""One value of a context; a bool counts as an int."""
Value = Scalar | Sequence[Scalar]
"""What a context may hold."""


class HandshakeError(Exception):
    """Root of all errors of the runtime; its leaves are listed by `catalogue`.

    Args:
        hint: what to do, in place of the leaf's own hint; one line.
        context: ids, hashes, numbers and tokens. Strings are made one line and cut at `MAX_VALUE_CHARS`, lists
            at `MAX_VALUE_ITEMS`; a value of any other kind is replaced by the name of its type, so that a slip
            where an error is made neither hides the error nor leaks content.
    """

    code: ClassVar[str] = ""
    family: ClassVar[str] = ""
    sentence: ClassVar[str] = ""
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = _EXIT_FAILED
    hint: str = ""
    context: dict[str, Scalar | list[Scalar]]

    def __init_subclass__(cls, *, code: str = "", http_status: int = 500, exit_code: int | None = None) -> None:
        parent = cls.__mro__[1]
        if getattr(parent, "code", ""):
            raise TypeError(f"{parent.__name__} is a leaf and has no children")
        if exit_code is not None:
            cls.exit_code = exit_code
        if not code:
            cls.family = cls.__name__
            return
        if not (cls.family and cls.sentence and cls.hint) or any(known.code == code for known in _leaves):
            raise TypeError(f"{cls.__name__} needs a family, a sentence, a hint and a code of its own")
        cls.code, cls.http_status = code, http_status
        _leaves.append(cls)

    def __init__(self, *, hint: str | None = None, **context: Value) -> None:
        if not self.code:
            raise TypeError(f"{type(self).__name__} is a family: raise one of its leaves")
        super().__init__()
        if hint is not None:
            self.hint = _one_line(hint)
        self.context = {key: _bounded(value) for key, value in context.items()}

    def __str__(self) -> str:
        """Return one line: the code, the sentence, and the context in the order in which it was given."""
        named = ", ".join(f"{key}={_shown(value)}" for key, value in self.context.items())
        return f"{self.code}: {self.sentence}" + (f" ({named})" if named else "")

    def as_dict(self) -> dict[str, object]:
        """Return what a face prints as JSON: code, message, hint, family and details."""
        return {
            "code": self.code,
            "message": self.sentence,
            "hint": self.hint,
            "family": self.family,
            "details": dict(self.context),
        }


class Notice(NamedTuple):
    """A code that informs and is never raised."""

    code: str
    sentence: str
    hint: str


_leaves: list[type[HandshakeError]] = []

NOTICES = (
    Notice(
        "CX-MM-005",
        "a reasoning strength was given for a local model",
        "Local models ignore it; leave it out, or choose a model that knows it.",
    ),
)


def catalogue() -> tuple[type[HandshakeError], ...]:
    """Return every leaf, in the order of the table."""
    return tuple(_leaves)


def _bounded(value: object) -> Scalar | list[Scalar]:
    if isinstance(value, (list, tuple)):
        return [_scalar(item) for item in value[:MAX_VALUE_ITEMS]]
    return _scalar(value)


def _scalar(value: object) -> Scalar:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and value.bit_length() <= MAX_INTEGER_BITS:
        return int(value)
    if isinstance(value, str):
        return _one_line(value)
    return f"<{type(value).__name__}>"


def _one_line(text: str) -> str:
    """Return `text` cut to `MAX_VALUE_CHARS`, with a `?` for every character that a terminal could act on."""
    cut = text if len(text) <= MAX_VALUE_CHARS else text[: MAX_VALUE_CHARS - 1] + "…"
    return "".join(one if one.isprintable() else "?" for one in cut)


def _shown(value: Scalar | list[Scalar]) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_shown(item) for item in value)}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


# ── Request ────────────────────────────────────────────────────────────────────────────────────────────────


class Request(HandshakeError, exit_code=_EXIT_USAGE):
    """The caller must send something else."""


class InvalidBaseUrl(Request, code="HSK-400-INVALID-BASE-URL", http_status=400):
    """A provider's URL is malformed."""

    sentence = "the provider's base URL is malformed"
    hint = "Use http:// or https:// with a host and no user, password, query or fragment."


class InvalidConfig(Request, code="HSK-400-INVALID-CONFIG", http_status=400):
    """A setting is unknown, of the wrong type, out of range, or looser than a higher layer allows."""

    sentence = "the configuration is wrong"
    hint = "Correct the named key in the named layer."


class InvalidRequest(Request, code="HSK-400-INVALID-REQUEST", http_status=400):
    """Input is malformed; the context names the field."""

    sentence = "the request is malformed"
    hint = "Correct the named field and send the request again."


class UnknownCapability(Request, code="HSK-4001", http_status=400):
    """A capability id is not in the registry."""

    sentence = "the capability is not in the registry"
    hint = "Check its spelling: axis, or axis:scope."


class NotFound(Request, code="HSK-404-NOT-FOUND", http_status=404, exit_code=_EXIT_NOT_FOUND):
    """Nothing with this id is visible to the caller."""

    sentence = "there is nothing with this id"
    hint = "List what exists, and check the id and the workspace."


class TooLarge(Request, code="HSK-413-TOO-LARGE", http_status=413):
    """Input is over its limit."""

    sentence = "the input is over its limit"
    hint = "Send less, or in parts; the context names the limit."


class TaskInvalid(Request, code="HSK-422-TASK-INVALID", http_status=422):
    """A micro-task definition breaks rules MT-VAL-001 to 014; all findings come at once."""

    sentence = "the micro-task definition breaks its rules"
    hint = "Correct every listed finding; `handshake task check FILE` shows file and line."


class Unsupported(Request, code="HSK-501-UNSUPPORTED", http_status=501, exit_code=_EXIT_FAILED):
    """The model lacks a needed ability, and it cannot be emulated."""

    sentence = "the model lacks a needed ability and it cannot be emulated"
    hint = 'Choose another model, or leave the named field out; `tools = "emulated"` offers a model tools in its texts.'


class ToolEnvelopeInvalid(Request, code="VAL-HTC-001", http_status=400):
    """A tool call is not a valid HTC-1.0 envelope."""

    sentence = "the tool call's envelope is invalid"
    hint = "Send an envelope that matches the HTC-1.0 schema."


# ── Refused ────────────────────────────────────────────────────────────────────────────────────────────────


class Refused(HandshakeError, exit_code=_EXIT_DENIED):
    """Policy, consent or authority says no; an operator can change that, the caller cannot."""


class Unauthenticated(Refused, code="HSK-401-UNAUTHENTICATED", http_status=401):
    """No key came with the call, or an unknown or revoked one."""

    sentence = "the call carries no valid key"
    hint = "Send a key of this workspace; `handshake key create` makes one."


class BudgetExceeded(Refused, code="HSK-402-BUDGET-EXCEEDED", http_status=402):
    """The call would exceed the budget of its session, work packet or workspace."""

    sentence = "the call would exceed a budget"
    hint = "`handshake session show` tells what is spent; ask an operator to raise the budget, or the model for less."


class CapabilityMissing(Refused, code="HSK-403-CAPABILITY", http_status=403):
    """A required capability is not among the effective grants; the context lists missing and held."""

    sentence = "a required capability is not granted"
    hint = "`handshake capability explain` shows why; an operator can grant it."


class ConsentRequired(Refused, code="HSK-403-CLOUD-CONSENT-REQUIRED", http_status=403):
    """No receipt covers the call; the context names the plan that waits for approval."""

    sentence = "nobody has consented to this cloud call"
    hint = "Choose a model that runs on this machine; `handshake doctor` tells where each provider is."


class ConsentMismatch(Refused, code="HSK-403-CLOUD-CONSENT-MISMATCH", http_status=403):
    """The receipt does not cover this call; the reason is a token."""

    sentence = "the receipt does not cover this cloud call"
    hint = "Approve the call's own plan; `handshake explain` shows what differs."


class EscalationDenied(Refused, code="HSK-403-CLOUD-ESCALATION-DENIED", http_status=403):
    """Profile or policy forbids the cloud, a human denied it, or its maximum is reached."""

    sentence = "the call may not go to the cloud"
    hint = "Use a local model, or ask an operator to change the profile."


class GovernanceLocked(Refused, code="HSK-403-GOVERNANCE-LOCKED", http_status=403):
    """Governance is LOCKED: what would need a human is denied."""

    sentence = "governance is locked"
    hint = "An operator can unlock it: `handshake policy unlock`."


class EndpointBlocked(Refused, code="HSK-403-SSRF-BLOCKED", http_status=403):
    """The provider's endpoint resolves to an address that it may not have."""

    sentence = "the provider's endpoint is not allowed"
    hint = "Correct base_url, or state run_by_operator for a private address that you run."


class SystemProvenance(Refused, code="HSK-403-SYSTEM-PROVENANCE", http_status=403):
    """A SYSTEM message came from outside the runtime."""

    sentence = "only the runtime writes SYSTEM messages"
    hint = "Send the text as a USER message."


class ForeignProvenance(Refused, code="HSK-403-PROVENANCE", http_status=403):
    """A client names a work packet, lane, model or session outside its key's record."""

    sentence = "the key does not cover what the call names"
    hint = "Leave the named header out, or use a key made for it."


class Unredactable(Refused, code="HSK-403-UNREDACTABLE", http_status=403):
    """A secret stands where bytes may not be changed."""

    sentence = "a secret stands where bytes may not be changed"
    hint = "Take the secret out of the named part of the request."


class CrossSession(Refused, code="HSK-403-CROSS-SESSION", http_status=403):
    """A session may not read another one's thread without approval."""

    sentence = "reading another session needs approval"
    hint = "Ask an operator to approve the read on the desk."


class SpawnRejected(Refused, code="HSK-403-SPAWN-REJECTED", http_status=403):
    """A child session may not be made; `rejection_reason` says why."""

    sentence = "the child session may not be made"
    hint = "See the rejection reason; the parent's limits and grants bound the child."


class ParallelDisabled(Refused, code="CX-MM-004", http_status=403):
    """Policy or the session's execution mode forbids a second model."""

    sentence = "parallel mode is disabled by policy"
    hint = "Use the session's model, or make a session with another execution mode."


class SessionConsentMissing(Refused, code="CX-MM-CONSENT-MISSING", http_status=403):
    """The scheduler found no valid receipt for the session."""

    sentence = "the session has no valid receipt"
    hint = "Approve the waiting plan on the desk: `handshake desk list`."


# ── Conflict ───────────────────────────────────────────────────────────────────────────────────────────────


class Conflict(HandshakeError, exit_code=_EXIT_CONFLICT):
    """The state is not what the caller took it for: look again, then decide."""


class StateConflict(Conflict, code="HSK-409-CONFLICT", http_status=409):
    """The state moved, exists already, or is held by another; the context names the holder."""

    sentence = "the state does not allow this now"
    hint = "Look at the current state and try again."


class InvalidTransition(Conflict, code="HSK-409-INVALID-TRANSITION", http_status=409):
    """The transition is not in the table."""

    sentence = "there is no such transition from this state"
    hint = "Look at the current state; ended sessions and jobs stay ended."


class JobNotAwaitingUser(Conflict, code="HSK-409-JOB-NOT-AWAITING-USER", http_status=409):
    """The job does not wait for a person."""

    sentence = "the job does not wait for a person"
    hint = "`handshake job show` tells its state."


class JobNotResumable(Conflict, code="HSK-409-JOB-NOT-RESUMABLE", http_status=409):
    """The job cannot go on from where it stands."""

    sentence = "the job cannot be resumed"
    hint = "Start it anew; `handshake explain` shows why it ended."


class PlanChanged(Conflict, code="HSK-409-PLAN-CHANGED", http_status=409):
    """The approval carries another plan hash than the plan has now."""

    sentence = "the plan changed since it was shown"
    hint = "Look at the plan again and approve what it says now."


class PackRequired(Conflict, code="HSK-409-PACK-REQUIRED", http_status=409):
    """No context pack is bound where one must be."""

    sentence = "a context pack is required"
    hint = "Build one: `handshake pack build`."


class PackInvalid(Conflict, code="HSK-409-PACK-INVALID", http_status=409):
    """The context pack is unfit; the reason is a token."""

    sentence = "the context pack is unfit"
    hint = "Build it anew; `handshake pack diff` shows what changed."


class ScopeOverlap(Conflict, code="CX-MM-002", http_status=409):
    """Write scopes overlap; the context names the holder."""

    sentence = "the write scopes overlap"
    hint = "Wait for the named holder, or narrow the scope."


# ── Unavailable ────────────────────────────────────────────────────────────────────────────────────────────


class Unavailable(HandshakeError):
    """Something outside cannot serve now; the same call may succeed later."""


class RateLimited(Unavailable, code="HSK-429-RATE-LIMIT", http_status=429):
    """The call cannot be served inside the caller's deadline."""

    sentence = "the call cannot be served in time"
    hint = "Try again after the stated time, or allow a longer wait."


class ClientGone(Unavailable, code="HSK-499-CLIENT-GONE", http_status=499):
    """The caller went away before the answer."""

    sentence = "the caller went away"
    hint = "Send the request again if the answer still matters."


class ProviderFailed(Unavailable, code="HSK-502-PROVIDER", http_status=502):
    """The provider failed; its answer is kept as an artifact and not echoed."""

    sentence = "the provider failed"
    hint = "See the job's artifacts; `handshake provider test` checks the provider."


class NoReadyModel(Unavailable, code="CX-MM-001", http_status=503):
    """No model is READY."""

    sentence = "no model is ready"
    hint = "Start the engine, or configure another model; `handshake doctor` shows what is missing."


class Draining(Unavailable, code="HSK-503-DRAINING", http_status=503):
    """The service is shutting down and takes no new work."""

    sentence = "the service is shutting down"
    hint = "Try again once it is back."


class ProviderTimeout(Unavailable, code="HSK-504-PROVIDER-TIMEOUT", http_status=504):
    """The provider was too slow."""

    sentence = "the provider did not answer in time"
    hint = "Try again, or allow more time in [calls]."


class SwapFailed(Unavailable, code="CX-MM-003", http_status=504):
    """A model swap failed or timed out."""

    sentence = "the model swap failed or timed out"
    hint = "See the swap's job; the former model stays in use."


class StoreFailed(Unavailable, code="HSK-507-STORE", http_status=507):
    """The disk is full or the store unavailable; the operation failed whole."""

    sentence = "the store could not keep it; nothing was changed"
    hint = "Free disk space or repair the store, then try again; `handshake doctor` looks at both."


# ── Integrity ──────────────────────────────────────────────────────────────────────────────────────────────


class Integrity(HandshakeError):
    """Something does not match what it must be: stop, and find out why."""


class InvalidEvent(Integrity, code="HSK-400-INVALID-EVENT", http_status=500):
    """An event does not match its schema: a fault of the runtime, and nothing was written."""

    sentence = "the event does not match its schema"
    hint = "This is a fault of the runtime: report it with the event's type."


class IntegrityBroken(Integrity, code="HSK-500-INTEGRITY", http_status=500, exit_code=_EXIT_INTEGRITY):
    """A hash, the log, a checkpoint or an artifact does not match."""

    sentence = "stored evidence does not match its hash"
    hint = "Stop, keep a copy of the workspace, and run `handshake audit verify`."


class Unexpected(Integrity, code="HSK-500-UNEXPECTED", http_status=500):
    """Something failed that the runtime does not know; a face says so instead of showing a traceback."""

    sentence = "something failed that should not have"
    hint = "This is a fault of the runtime: HANDSHAKE_LOG=debug shows where; please report it."
