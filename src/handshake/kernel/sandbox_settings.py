"""Sandbox settings: what operators give the commands of sessions besides the workspace and the system's programs."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from handshake.kernel.mcp_settings import VariableName
from handshake.kernel.section import Section

AbsolutePath = Annotated[
    str, Meta(min_length=2, max_length=1_000, pattern="^/[^/].*$", extra={"expected": "an absolute path"})
]


class SandboxSettings(Section, frozen=True, kw_only=True):
    """What commands of sessions get besides the workspace and the system's programs (02 §7)."""

    read: Annotated[
        tuple[AbsolutePath, ...],
        Meta(max_length=64, description="Folders and files outside of the workspace that commands may read."),
    ] = ()
    env: Annotated[
        tuple[VariableName, ...],
        Meta(max_length=64, description="Variables of the runtime's environment that commands are given."),
    ] = ()
