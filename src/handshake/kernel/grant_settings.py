"""Grant settings: what the policy says of capabilities, and the bounds of scopes, grants and taint.

Source:
    capability.session.intersection (02 §1, §3).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta

from handshake.kernel.section import MAX_NAME_CHARS, Section

MAX_CAPABILITY_CHARS = 8_192
"""A capability as text: the longest is a command with a script among its arguments."""
MAX_SCOPE_SEGMENTS = 64
"""Segments of a path in a scope: comparing two patterns takes the product."""
MAX_SCOPE_ARGUMENTS = 256
"""Words of a command in a scope."""
MAX_SESSION_GRANTS = 1_000
"""Grants of one session that have not ended: what a decision was measured with."""
MAX_POLICY_RULES = 1_000
"""Capabilities in one list of the policy, as for grants."""
MAX_GRANT_CONSTRAINTS = 32
"""Arguments that one grant holds to a value: no tool has more that choose something."""
MAX_CONSTRAINT_CHARS = 1_000
"""A value or glob of a constraint, and a pointer to an argument."""
MAX_CONSTRAINT_VALUES = 100
"""Values of which a constraint allows one."""
GRANT_DEFAULT_S = 86_400
"""How long a grant lasts that says `until` but not when (02 §1)."""
MAX_GRANT_S = 366 * 86_400
"""Longest time that a grant lasts which says when it ends."""
MAX_LINEAGE = 64
"""Sessions from one to its root: more than spawning ever lets be."""
MAX_SINK_VALUES = 1_000
"""Values of a call's sinks that are looked at; one with more is not bounded by anything."""
MIN_TOKEN_CHARS = 6
"""Shortest value that counts as said when it stands among other words: shorter ones stand there by chance (02 §6)."""

CapabilityText = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_NAME_CHARS,
        pattern="^[a-z0-9_.*-]+(:.+)?$",
        extra={"expected": "a capability: axis, or axis:scope"},
    ),
]
PathGlob = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_NAME_CHARS,
        pattern=r"^[^/\\].*$",
        extra={"expected": "a path from the workspace, or a glob of such paths"},
    ),
]
CapabilityTexts = Annotated[tuple[CapabilityText, ...], Meta(min_length=0, max_length=MAX_POLICY_RULES)]


class Missing(StrEnum):
    """What becomes of a call that a session's own grants do not carry, loosest first (02 §3)."""

    ASK = "ask"
    DENY = "deny"


class PolicyRules(Section, frozen=True, kw_only=True):
    """What grants may give in this workspace; a later layer may only tighten it."""

    allow: Annotated[
        CapabilityTexts | None, Meta(description="All that grants may give here; absent: whatever they say.")
    ] = None
    ask: Annotated[CapabilityTexts, Meta(description="What needs a person each time.")] = ()
    deny: Annotated[CapabilityTexts, Meta(description="What nobody may do, granted or not.")] = ()
    trusted_files: Annotated[
        tuple[PathGlob, ...],
        Meta(
            min_length=0,
            max_length=MAX_POLICY_RULES,
            description="Files that taint nobody who reads them, in a git repository, where sessions write apart.",
        ),
    ] = ()
    missing: Annotated[Missing, Meta(description="A call that is not granted: put before a person, or denied.")] = (
        Missing.DENY
    )
