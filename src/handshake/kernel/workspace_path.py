"""Workspace path: how a place beneath the workspace is spelled, and which places are closed to every tool.

A path is text from outside. What two file systems, or a person and a file system, could understand differently is
refused and not repaired: on one machine it would be another file than the one that was shown and granted.

Source:
    capability.path.no_escape, capability.path.runtime_folder_closed (02 §1, §7; INV-WS-001).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import TypeAlias

from handshake.kernel.errors import InvalidRequest
from handshake.kernel.settings import MAX_PATH_CHARS, MAX_PATH_DEPTH, MAX_PATH_STEP_BYTES

Steps: TypeAlias = tuple[str, ...]
"""A path in the only form in which it is used: the names from the workspace down; the workspace itself has none."""

_DRIVE = re.compile(r"[A-Za-z]:")
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
"""Categories of characters that a person cannot see, or that a file system may drop (HFS+ drops format characters)."""

_RUNTIME = re.compile(r"\.handshake|handsh~[0-9]+")
_GIT = re.compile(r"\.git|git~[0-9]+")
_GIT_PROGRAMS = re.compile(r"config(\.worktree)?(\.lock)?|hooks|config~[0-9]+")
"""Below `.git`: what makes git run programs, or holds credentials. Submodules and worktrees have their own."""


def parse_path(text: str, *, field: str = "path") -> Steps:
    """Return the steps of a workspace-relative path; a leading `./`, doubled and trailing slashes say nothing.

    Args:
        text: as it came.
        field: what a refusal calls it.

    Raises:
        InvalidRequest: `reason` is `empty`, `too_long`, `absolute`, `drive`, `backslash`, `dot_dot`, `character`
            (invisible, control or unassigned), `not_normalised` (not NFC), `step_too_long` or `too_deep`.
    """
    reason = _text_fault(text)
    if reason is not None:
        raise InvalidRequest(field=field, reason=reason)
    steps = tuple(step for step in text.split("/") if step not in ("", "."))
    reason = "drive" if steps and _DRIVE.match(steps[0]) else _steps_fault(steps)
    if reason is not None:
        raise InvalidRequest(field=field, reason=reason)
    return steps


def is_nameable(step: str) -> bool:
    """Return whether a name that a folder holds can stand in a path; one that cannot is not shown to tools."""
    return bool(step) and "/" not in step and _text_fault(step) is None and _steps_fault((step,)) is None


def spelled(steps: Steps) -> str:
    """Return the one spelling of a path; of the workspace itself it is `.`."""
    return "/".join(steps) or "."


def is_closed(steps: Sequence[str]) -> bool:
    """Return whether no tool reads or writes there, whatever is granted.

    Closed are `.handshake`, and below `.git` the configuration and the hooks, at any depth and in every spelling
    that some file system takes for theirs.
    """
    if _is_plain(steps):
        return False
    folded = [_folded(step) for step in steps]
    if any(_RUNTIME.fullmatch(step) for step in folded):
        return True
    below_git = False
    for step in folded:
        if below_git and _GIT_PROGRAMS.fullmatch(step):
            return True
        below_git = below_git or _GIT.fullmatch(step) is not None
    return False


def is_closed_to_writing(steps: Sequence[str]) -> bool:
    """Return whether no file tool writes there: what is closed, and all of `.git`, itself included.

    A `.git` file or a `commondir` in it leads git to a configuration that lies elsewhere, which may name programs.
    """
    return not _is_plain(steps) and (is_closed(steps) or any(is_git(step) for step in steps))


def is_git(step: str) -> bool:
    """Return whether a name is a spelling of `.git`."""
    return _GIT.fullmatch(_folded(step)) is not None


def _is_plain(steps: Sequence[str]) -> bool:
    """Return whether no step can be a spelling of a closed one, at a glance."""
    text = "/".join(steps)
    if not text.isascii():
        return False
    lower = text.lower()
    return ".git" not in lower and ".handshake" not in lower and "~" not in lower


def _text_fault(text: str) -> str | None:
    if not text:
        return "empty"
    if len(text) > MAX_PATH_CHARS:
        return "too_long"
    if "\\" in text:
        return "backslash"
    if text.startswith("/"):
        return "absolute"
    if text.isascii():
        return None if text.isprintable() else "character"
    if any(unicodedata.category(one) in _UNPRINTABLE for one in text):
        return "character"
    return None if unicodedata.is_normalized("NFC", text) else "not_normalised"


def _steps_fault(steps: Steps) -> str | None:
    if ".." in steps:
        return "dot_dot"
    if len(steps) > MAX_PATH_DEPTH:
        return "too_deep"
    if any(len(step.encode()) > MAX_PATH_STEP_BYTES for step in steps):
        return "step_too_long"
    return None


def _folded(step: str) -> str:
    """Return a name as the most forgiving file system compares it.

    Without case, compatibility forms, accents' order and invisible characters (APFS, HFS+), and without what stands
    behind a colon and without trailing dots and blanks (NTFS, SMB).
    """
    if step.isascii():
        plain = step.lower()
    else:
        seen = "".join(one for one in step if unicodedata.category(one) not in _UNPRINTABLE)
        plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", seen).casefold())
    return plain.partition(":")[0].rstrip(" .")
