"""Handshake: a governed runtime for many language-model sessions on one workspace.

Model calls are queued work under session-scoped authority, and evidence commits in the same transaction as the state
it is evidence for. The tour, in the order in which one request meets the layers (imports point down only):

``cli``         reads what a person typed, prints what comes back; a face has no rules of its own.
``workspace``   the Python face: `open_workspace` gives sessions, `session.send(...)` gives a turn.
``bootstrap``   joins adapters to ports, and is the only module that names both.
``scheduler``   the dispatcher chooses the next run (pure), reserves its slots (in the transaction), starts it (after).
``operations``  load, ask the kernel, save state with its events, commit: `accept` queues a turn, `start` its run,
                `turns` carries one attempt out, `outcomes` records what came of it.
``gate``        the one door to models: it opens for an attempt that is dispatched, running and not cancelled.
``storage``     one SQLite file with group commit, the event log with its signed checkpoints, artifacts by hash.
``providers``   pure wire forms, and the transport that decides from addresses what is local.
``ports``       what the layers above ask of the world: clock, chance, files, store, model.
``kernel``      every rule as a function over values: states, lanes, limits, retries, events, hashes, errors.

One request: `session.send("Hello")` checks the text and writes message, job and events in one commit. The closing unit
of that commit lets the queue choose; if there is room the run is marked running there and then. After the commit the
dispatcher starts the attempt, which builds the exact bytes of the call from the thread, hashes them, and passes the
gate. Pieces stream back to the turn as they come. The answer, its usage, the new states and their events are the
second commit. `handshake events list` shows all of it, and `handshake audit verify` proves that nothing was changed.

    async with handshake.open_workspace(".") as hs:
        session = await hs.sessions.create(role="coder", model="ollama/qwen2.5-coder:7b", memory_policy="EPHEMERAL")
        turn = await session.send("Say hello.")
        print((await turn.result()).text)

Importing this package starts nothing and loads next to nothing: public names are resolved on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from handshake.bootstrap import init_workspace
    from handshake.kernel.desk import DeskItem, DeskKind, DeskState
    from handshake.kernel.errors import (
        BudgetExceeded,
        CapabilityMissing,
        ClientGone,
        Conflict,
        ConsentMismatch,
        ConsentRequired,
        CrossSession,
        Draining,
        EndpointBlocked,
        EscalationDenied,
        ForeignProvenance,
        GovernanceLocked,
        HandshakeError,
        Integrity,
        IntegrityBroken,
        InvalidBaseUrl,
        InvalidConfig,
        InvalidEvent,
        InvalidRequest,
        InvalidTransition,
        JobNotAwaitingUser,
        JobNotResumable,
        NoReadyModel,
        NotFound,
        PackInvalid,
        PackRequired,
        ParallelDisabled,
        PlanChanged,
        ProviderFailed,
        ProviderTimeout,
        RateLimited,
        Refused,
        Request,
        ScopeOverlap,
        SessionConsentMissing,
        SpawnRejected,
        StateConflict,
        StoreFailed,
        SwapFailed,
        SystemProvenance,
        TaskInvalid,
        TooLarge,
        ToolEnvelopeInvalid,
        Unauthenticated,
        Unavailable,
        Unexpected,
        UnknownCapability,
        Unredactable,
        Unsupported,
    )
    from handshake.kernel.grant import Constraints, Grant, Lifetime, Use
    from handshake.kernel.job import Job, JobState
    from handshake.kernel.lane import Lane
    from handshake.kernel.message import Message, MessageRole
    from handshake.kernel.session import ExecutionMode, MemoryPolicy, Session, SessionState
    from handshake.kernel.usage import TokenUsage
    from handshake.operations.cancelling import CancelResult
    from handshake.operations.feed import NotStored, Over, Piece, Retrying, Started, Text
    from handshake.operations.grant_requests import GrantRequest
    from handshake.operations.grants import GrantView
    from handshake.operations.views import MessageView, QueueItem, QueueView, WorkspaceView
    from handshake.workspace import (
        Desk,
        DeskQuestion,
        Grants,
        Result,
        SessionHandle,
        Sessions,
        TurnHandle,
        Workspace,
        open_workspace,
    )

    __version__: str

__all__ = [
    "BudgetExceeded",
    "CancelResult",
    "CapabilityMissing",
    "ClientGone",
    "Conflict",
    "ConsentMismatch",
    "ConsentRequired",
    "Constraints",
    "CrossSession",
    "Desk",
    "DeskItem",
    "DeskKind",
    "DeskQuestion",
    "DeskState",
    "Draining",
    "EndpointBlocked",
    "EscalationDenied",
    "ExecutionMode",
    "ForeignProvenance",
    "GovernanceLocked",
    "Grant",
    "GrantRequest",
    "GrantView",
    "Grants",
    "HandshakeError",
    "Integrity",
    "IntegrityBroken",
    "InvalidBaseUrl",
    "InvalidConfig",
    "InvalidEvent",
    "InvalidRequest",
    "InvalidTransition",
    "Job",
    "JobNotAwaitingUser",
    "JobNotResumable",
    "JobState",
    "Lane",
    "Lifetime",
    "MemoryPolicy",
    "Message",
    "MessageRole",
    "MessageView",
    "NoReadyModel",
    "NotFound",
    "NotStored",
    "Over",
    "PackInvalid",
    "PackRequired",
    "ParallelDisabled",
    "Piece",
    "PlanChanged",
    "ProviderFailed",
    "ProviderTimeout",
    "QueueItem",
    "QueueView",
    "RateLimited",
    "Refused",
    "Request",
    "Result",
    "Retrying",
    "ScopeOverlap",
    "Session",
    "SessionConsentMissing",
    "SessionHandle",
    "SessionState",
    "Sessions",
    "SpawnRejected",
    "Started",
    "StateConflict",
    "StoreFailed",
    "SwapFailed",
    "SystemProvenance",
    "TaskInvalid",
    "Text",
    "TokenUsage",
    "TooLarge",
    "ToolEnvelopeInvalid",
    "TurnHandle",
    "Unauthenticated",
    "Unavailable",
    "Unexpected",
    "UnknownCapability",
    "Unredactable",
    "Unsupported",
    "Use",
    "Workspace",
    "WorkspaceView",
    "__version__",
    "init_workspace",
    "open_workspace",
]

_KERNEL = frozenset(
    "Constraints DeskItem DeskKind DeskState ExecutionMode Grant Job JobState Lane Lifetime MemoryPolicy Message "
    "MessageRole Session SessionState TokenUsage Use".split()
)
_OPERATIONS = frozenset(
    "CancelResult GrantRequest GrantView MessageView NotStored Over Piece QueueItem QueueView Retrying Started Text "
    "WorkspaceView".split()
)
_FACE = frozenset("Desk DeskQuestion Grants Result SessionHandle Sessions TurnHandle Workspace open_workspace".split())


def __getattr__(name: str) -> object:
    """Resolve a public name on its first use."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = _resolve(name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)


def _resolve(name: str) -> object:
    if name in _KERNEL:
        return _of_kernel(name)
    if name in _OPERATIONS:
        return _of_operations(name)
    if name in _FACE:
        from handshake import workspace  # noqa: PLC0415

        return getattr(workspace, name)
    if name == "init_workspace":
        from handshake import bootstrap  # noqa: PLC0415

        return bootstrap.init_workspace
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415

        return version("handshake-runtime")
    from handshake.kernel import errors  # noqa: PLC0415

    return getattr(errors, name)


def _of_kernel(name: str) -> object:
    from handshake.kernel import desk, grant, job, lane, message, session, usage  # noqa: PLC0415

    return next(
        getattr(home, name) for home in (desk, grant, job, lane, message, session, usage) if hasattr(home, name)
    )


def _of_operations(name: str) -> object:
    from handshake.operations import cancelling, feed, grant_requests, grants, views  # noqa: PLC0415

    homes = (cancelling, feed, grant_requests, grants, views)
    return next(getattr(home, name) for home in homes if hasattr(home, name))
