"""Capability: `axis` or `axis:scope`, and the registry without which no id means anything.

Source:
    capability.unknown.is_refused (02 §1, HSK-4001).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

import msgspec

from handshake.kernel.errors import UnknownCapability
from handshake.kernel.grant_settings import MAX_CAPABILITY_CHARS
from handshake.kernel.scope import TERMS, Axis
from handshake.kernel.section import MAX_NAME_CHARS
from handshake.kernel.suggestion import suggest

__all__ = ["REGISTRY_VERSION", "SHIPPED", "Axis", "Capability", "CapabilityRegistry", "shown"]

REGISTRY_VERSION = "1"
"""Recorded with every decision; another meaning of an id is another version."""

_FULL_ID = re.compile(r"[a-z0-9_]+(?:\.[a-zA-Z0-9_-]+)+(?:\.\*)?|[a-z0-9_]+\.\*")
_PARSED_KEPT = 16_384
"""Capabilities that are kept read: those of some thousand sessions and their calls."""


class Capability(NamedTuple):
    """A right to do one kind of thing; `str()` spells it. `CapabilityRegistry.parse` makes it."""

    axis: str
    """An axis, or a full id that the registry names."""
    scope: str | None = None
    """In the one spelling of its axis; None is every scope."""

    def __str__(self) -> str:
        """Return `axis` or `axis:scope`."""
        return self.axis if self.scope is None else f"{self.axis}:{self.scope}"


class CapabilityRegistry(msgspec.Struct, frozen=True):
    """Every capability id that exists. What it does not name is refused wherever it appears.

    Args:
        ids: full ids beside the axes, such as `doc.summarize`.
        families: first parts whose ids come and go with what is connected: `client.NAME`, `mcp.SERVER.TOOL`; `client.*`
            contains all of its family.
        profiles: whitelists by name, each of capabilities as text.
    """

    ids: frozenset[str] = frozenset()
    families: frozenset[str] = frozenset({"client", "mcp"})
    profiles: Mapping[str, tuple[str, ...]] = {}
    version: str = REGISTRY_VERSION

    def parse(self, text: str) -> Capability:
        """Return the capability that `text` names, as a call needs it: its scope taken at its word.

        Raises:
            UnknownCapability: no such axis or id, or a scope that the axis does not have.
        """
        return self._checked(_read(text, False))

    def parse_rule(self, text: str) -> Capability:
        """Return the capability that a person means who writes `text` as a grant or rule.

        A path without `*` is the file, or the folder with all that is in it. The runtime's own folder is in no scope.

        Raises:
            UnknownCapability: as `parse`; or a scope that no grant contains, or a URL with a query, of which a scope
                says nothing.
        """
        return self._checked(_read(text, True))

    def profile(self, name: str) -> tuple[Capability, ...]:
        """Return what a profile allows.

        Raises:
            UnknownCapability: there is no profile of this name.
        """
        if name not in self.profiles:
            raise UnknownCapability(reason="unknown_profile")
        return tuple(self.parse_rule(one) for one in self.profiles[name])

    def _checked(self, capability: Capability) -> Capability:
        """Refuse a full id that nobody named."""
        axis = capability.axis
        if axis in TERMS or axis in self.ids or (axis.partition(".")[0] in self.families and _FULL_ID.fullmatch(axis)):
            return capability
        raise _unknown(axis, [*TERMS, *sorted(self.ids)])


SHIPPED = CapabilityRegistry()
"""What exists without anything being added: the axes, and the families."""


def shown(capabilities: Iterable[Capability]) -> tuple[str, ...]:
    """Return capabilities as evidence names them: one line each, cut to what a name may have."""
    return tuple(
        text if len(text) <= MAX_NAME_CHARS else text[: MAX_NAME_CHARS - 1] + "…" for text in map(str, capabilities)
    )


def _unknown(axis: str, known: list[str]) -> UnknownCapability:
    near = suggest(axis, known)
    hint = f"Did you mean {near}?" if near else None
    return UnknownCapability(axis=axis[:MAX_NAME_CHARS], hint=hint, reason="unknown")


@lru_cache(maxsize=_PARSED_KEPT)
def _read(text: str, as_rule: bool) -> Capability:
    """Return a capability in its one spelling; whether a full id exists is the registry's to say."""
    if len(text) > MAX_CAPABILITY_CHARS:
        raise UnknownCapability(reason="too_long", limit=MAX_CAPABILITY_CHARS)
    axis, colon, scope = text.partition(":")
    terms = TERMS.get(axis)
    if not colon:
        return Capability(axis)
    if terms is None:
        raise _unknown(axis, list(TERMS))
    if as_rule and axis == Axis.NET_HTTP and ("?" in scope or "#" in scope):
        raise UnknownCapability(axis=axis, reason="query")
    form = terms.parse(scope)
    if as_rule:
        form = terms.as_meant(form)
        if terms.is_closed(form):
            raise UnknownCapability(axis=axis, reason="runtime_folder")
    return Capability(axis, terms.spell(form))
