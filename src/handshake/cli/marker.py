"""Marker: the single-line status `HSK_STATUS key=value ...` that programs and prompts read (spec 08)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

from handshake.kernel.session import Session, SessionState

if TYPE_CHECKING:
    from handshake.kernel.settings import Settings
    from handshake.ports.store import Reader

PREFIX = "HSK_STATUS"
KEYS = ("role", "wp", "mt", "phase", "state", "model", "backend", "pc", "rs", "lock", "gate", "code")
"""In this order; `pc` is the parameter class, `rs` the reasoning strength, `lock` governance, `gate` the desk."""
_UNKNOWN = "-"
_AS_IS = "/:.,+@~_-"


def fields(reader: Reader, settings: Settings, session_id: str | None) -> dict[str, str]:
    """Return the marker's values for one session, or for the workspace seen by its operator.

    Raises:
        NotFound: no such session.
    """
    from handshake.kernel.ids import SessionId
    from handshake.kernel.settings import AutomationLevel
    from handshake.operations import records, views

    values = dict.fromkeys(KEYS, _UNKNOWN)
    values["lock"] = "LOCKED" if settings.policy.automation_level is AutomationLevel.LOCKED else "OPEN"
    if session_id is None:
        whole = views.workspace(reader)
        values |= {"role": "operator", **_of_workspace(whole.sessions)}
    else:
        values |= _of_session(records.session(reader, SessionId(session_id)))
    return values


def spell(values: Mapping[str, str]) -> str:
    """Return the marker; characters that would break it up are percent-encoded."""
    return " ".join([PREFIX, *(f"{key}={quote(values[key], safe=_AS_IS)}" for key in KEYS)])


def _of_session(session: Session) -> dict[str, str]:
    return {
        "role": session.role,
        "wp": session.wp_id or _UNKNOWN,
        "mt": session.mt_id or _UNKNOWN,
        "phase": _phase({session.state.value: 1}),
        "state": session.state.value,
        "model": f"{session.provider_id}/{session.model_id}",
        "backend": session.backend.value,
        "pc": session.parameter_class.value,
        "code": session.last_error or _UNKNOWN,
    }


def _of_workspace(sessions: Mapping[str, int]) -> dict[str, str]:
    order = ("BLOCKED", "ACTIVE", "PAUSED", "IDLE", "CREATED", "FAILED", "CANCELLED", "COMPLETED")
    states = [SessionState(name) for name in order if sessions.get(name)]
    return {"phase": _phase(sessions), "state": states[0].value if states else _UNKNOWN}


def _phase(sessions: Mapping[str, int]) -> str:
    """Return the phase that follows from the states of sessions (spec 08 lists the words)."""
    if sessions.get("BLOCKED"):
        return "BLOCKED"
    if any(sessions.get(name) for name in ("ACTIVE", "PAUSED", "IDLE")):
        return "IMPLEMENTATION"
    if sessions.get("CREATED") or not any(sessions.values()):
        return "BOOTSTRAP"
    return "FAILSTATE" if sessions.get("FAILED") else "DONE"
