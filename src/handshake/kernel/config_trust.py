"""Configuration trust: what a configuration may say before its user has accepted it.

A configuration that came with a repository was written by somebody else. Until it is accepted it may tighten limits
and nothing more: it names no provider, no credential, no server and no permission.

Source:
    trust.config.foreign_is_untrusted (02 §1); decision 0021.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from enum import StrEnum
from functools import cache

import msgspec

from handshake.kernel.canonical import canonical
from handshake.kernel.grant_settings import Missing
from handshake.kernel.layer import Layer, Path, Table, dotted, known_keys, leaves
from handshake.kernel.settings import Approvals, AutomationLevel, LocalRuns

LOOSEST_FIRST: dict[Path, tuple[object, ...]] = {
    ("policy", "automation_level"): tuple(level.value for level in AutomationLevel),
    ("policy", "approvals"): tuple(kind.value for kind in Approvals),
    ("policy", "missing"): tuple(choice.value for choice in Missing),
    ("recovery", "local_runs"): tuple(choice.value for choice in LocalRuns),
    ("providers", "*", "forwards_to_cloud"): (False, True),
}
"""Keys that give permission, and their values from the loosest on."""
_PACES = frozenset(
    {
        ("scheduler", "max_concurrent_runs"),
        ("scheduler", "max_concurrent_per_provider", "cloud"),
        ("scheduler", "max_concurrent_per_provider", "local"),
        ("scheduler", "max_concurrent_per_model", "cloud"),
        ("scheduler", "max_concurrent_per_model", "local"),
        ("scheduler", "max_open_sessions"),
        ("calls", "local_timeout_ms"),
        ("calls", "cloud_timeout_ms"),
        ("calls", "first_byte_ms"),
        ("calls", "idle_ms"),
        ("calls", "max_response_bytes"),
        ("recorder", "checkpoint_every_events"),
        ("recorder", "checkpoint_every_s"),
    }
)
"""Limits of how fast and how long: lower is tighter, and changing them is nothing that anybody has to accept."""
_AMOUNTS = tuple(
    (*table, name) for table in (("budgets",), ("budgets", "work_packets", "*")) for name in ("tokens", "usd", "calls")
)
_RATES = frozenset(("providers", "*", name) for name in ("requests_per_minute", "tokens_per_minute", "max_concurrent"))
LOWERED = _PACES | _RATES | frozenset({("recovery", "max_recoveries"), *_AMOUNTS})
"""Numbers of which a lower one is tighter."""
UNITED = frozenset({("policy", "ask"), ("policy", "deny")})
"""Lists to which a later layer adds: what it says more is tighter."""
ENTERED = ("budgets", "work_packets", "*")
"""The free table in which a tightened key may make an entry."""


class Standing(StrEnum):
    """What the user has to do with a workspace's configuration."""

    OWN = "own"
    """Their `init` made the workspace, and git does not bring the file."""
    ACCEPTED = "accepted"
    """They accepted what it says."""
    CHANGED = "changed"
    """They accepted something else, or it came into their own workspace with a repository."""
    FOREIGN = "foreign"
    """They have never said anything about it."""

    @property
    def is_trusted(self) -> bool:
        """Whether the configuration counts whole."""
        return self in (Standing.OWN, Standing.ACCEPTED)


class TrustRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What this user's state folder knows of one workspace folder, found by the mark that lies in it."""

    folder: str
    """Where it was, resolved."""
    device: int
    inode: int
    is_own: bool
    """Whether this user's `init` made it, configuration included."""
    accepted_sha256: str | None = None
    """The hash of what they accepted last."""


class Statement(msgspec.Struct, frozen=True):
    """One thing that a configuration says and that its user must have accepted."""

    key: str
    value: str


def statements(layer: Layer) -> tuple[Statement, ...]:
    """Return what `layer` says beyond limits of pace, in order of its keys.

    Raises:
        InvalidConfig: a key is unknown, or a value of the wrong type or out of range.
    """
    return tuple(
        sorted(
            (
                Statement(dotted(leaf.path), "" if isinstance(leaf.value, Table) else _spelled(leaf.value))
                for leaf in leaves(layer)
                if leaf.pattern not in _PACES
            ),
            key=lambda one: one.key,
        )
    )


def statements_sha256(said: Iterable[Statement]) -> str:
    """Return the hash of what a configuration says; what was shown, accepted and compared is this."""
    return hashlib.sha256(canonical([[one.key, one.value] for one in said])).hexdigest()


def standing(record: TrustRecord | None, said_sha256: str, *, is_tracked: bool) -> Standing:
    """Return how a configuration stands.

    Args:
        record: what the user's state folder knows of the workspace folder; None if nothing.
        said_sha256: hash of what the configuration says now.
        is_tracked: whether git brings the file, or nobody can tell.
    """
    if record is None:
        return Standing.FOREIGN
    if record.is_own and not is_tracked:
        return Standing.OWN
    if record.accepted_sha256 == said_sha256:
        return Standing.ACCEPTED
    return Standing.CHANGED if record.is_own or record.accepted_sha256 else Standing.FOREIGN


def is_tighter(pattern: Path, value: object, current: object) -> bool:
    """Return whether `value` holds a key at least as tightly as `current`; None is no limit.

    A key that is neither a limit nor a permission is never tighter than anything.
    """
    scale = LOOSEST_FIRST.get(pattern)
    if scale is not None:
        return scale.index(value) >= scale.index(current)
    if pattern in UNITED:
        return True
    if pattern not in LOWERED or not isinstance(value, int):
        return False
    return current is None or (isinstance(current, int) and value <= current)


def built_in(pattern: Path) -> object:
    """Return what a key is when no layer sets it."""
    return _defaults().get(".".join(pattern))


@cache
def _defaults() -> dict[str, object]:
    return {key.name: key.default for key in known_keys()}


def _spelled(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
