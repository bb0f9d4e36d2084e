"""Containment: whether one capability holds another, by what its axis means; what is not plain is not held.

Source:
    capability.axis.contains_scopes, capability.path.runtime_folder_closed (02 §1).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from handshake.kernel.capability import Capability
from handshake.kernel.command_pattern import HOST
from handshake.kernel.scope import TERMS, Axis

_FORMS_KEPT = 16_384
_HOST_EXECUTION = Capability(Axis.PROC_EXEC.value, HOST)
_FAMILY = ".*"


def covers(held: Capability, wanted: Capability) -> bool:
    """Return whether whoever holds `held` may do all that `wanted` names.

    A bare axis covers its scopes, never the reverse. Two things no capability covers but, of the second, itself: what
    is the runtime's own, and commands without a sandbox.
    """
    if held.axis != wanted.axis:
        return held.axis.endswith(_FAMILY) and wanted.axis.startswith(held.axis[:-1])
    if held.scope is None and wanted.scope is None:
        return True
    if wanted.scope is None or is_closed(wanted):
        return False
    if _HOST_EXECUTION in (held, wanted):
        return held == wanted
    if held.scope is None:
        return True
    return TERMS[held.axis].contains(_form(held), _form(wanted))


def overlaps(rule: Capability, wanted: Capability) -> bool:
    """Return whether something of `wanted` may fall under `rule`; a rule that forbids or asks binds even a part."""
    if rule.axis != wanted.axis:
        return covers(rule, wanted) or covers(wanted, rule)
    if rule.scope is None or wanted.scope is None:
        return True
    return TERMS[rule.axis].overlaps(_form(rule), _form(wanted))


@lru_cache(maxsize=_FORMS_KEPT)
def is_literal(capability: Capability) -> bool:
    """Return whether it names exactly one thing: this path, this command, this host and path, this recipient."""
    if capability.scope is None:
        return capability.axis not in TERMS and not capability.axis.endswith(_FAMILY)
    return TERMS[capability.axis].is_literal(_form(capability))


@lru_cache(maxsize=_FORMS_KEPT)
def is_closed(capability: Capability) -> bool:
    """Return whether no capability covers it, whoever holds what."""
    return capability.scope is not None and TERMS[capability.axis].is_closed(_form(capability))


def home(held: Capability) -> str:
    """Return where a scoped capability is looked up among those of its axis."""
    return TERMS[held.axis].home(_form(held))


@lru_cache(maxsize=_FORMS_KEPT)
def homes(wanted: Capability) -> tuple[str, ...]:
    """Return where everything is looked up that may cover a scoped capability."""
    return TERMS[wanted.axis].homes(_form(wanted))


@lru_cache(maxsize=_FORMS_KEPT)
def _form(capability: Capability) -> Any:
    return TERMS[capability.axis].parse(capability.scope or "")
