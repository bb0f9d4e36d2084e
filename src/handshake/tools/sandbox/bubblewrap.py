"""Bubblewrap: the same places as in the runtime's own namespaces, as options of `bwrap`.

It is started with the command's own environment and nothing else: `--clearenv` would empty the command's, and leave
its own to be read in `/proc/1/environ`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

from handshake.tools.sandbox.plan import mounts
from handshake.tools.sandbox.policy import NotConfined, Policy

_SEARCHED = "/usr/local/bin:/usr/bin:/bin"
"""Where the program may be: never in a workspace, whatever the PATH of the runtime says."""


def wrapper(policy: Policy) -> list[str]:
    """Return the program and its options for a policy; the launcher fills in the descriptors.

    Raises:
        NotConfined: it is not installed.
    """
    program = shutil.which("bwrap", path=_SEARCHED)
    if program is None:
        raise NotConfined("bubblewrap_missing")
    network = ["--share-net"] if policy.has_network else []
    fixed = ["--unshare-all", *network, "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    return [
        program,
        *fixed,
        "--seccomp", "{seccomp}", "--json-status-fd", "{status}",
        *_places(policy),
        "--remount-ro", "/",
        "--chdir", policy.cwd, "--",
    ]  # fmt: skip


def _places(policy: Policy) -> Iterator[str]:
    for kind, source, target in mounts(policy):
        if kind == "read":
            yield from ("--ro-bind-try", source, target)
        elif kind == "write":
            yield from ("--bind", source, target)
        elif kind == "memory":
            yield from ("--size", source, "--perms", "1777", "--tmpfs", target)
        elif kind == "mask" and os.path.isdir(target):
            yield from ("--perms", "0000", "--tmpfs", target, "--remount-ro", target)
        elif kind == "mask" and os.path.lexists(target):
            yield from ("--ro-bind", "/dev/null", target)
        elif kind == "processes":
            yield from ("--proc", target, "--remount-ro", target, "--dev", "/dev")
        elif kind == "link" and not target.startswith("/dev/"):
            yield from ("--symlink", source, target)
