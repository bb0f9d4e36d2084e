"""Orders: all that the launcher of a command is told, as one run of bytes.

Part of the launcher, so plain: texts between NUL bytes, which no path, argument or variable can hold.
"""

from __future__ import annotations

import os

NAMESPACES = "namespaces"
BUBBLEWRAP = "bubblewrap"
LANDLOCK = "landlock"
HOST = "host"

MAX_BYTES = 4 * 1024 * 1024
"""Of one run of orders: what an `execve` takes at most, and some."""

_END = "\0"


class Orders:
    """What is to be started, how it is confined, and when it is ended."""

    __slots__ = (
        "argv",
        "cwd",
        "environment",
        "grace_ms",
        "has_network",
        "limits",
        "max_disk_bytes",
        "max_memory_bytes",
        "max_processes",
        "mode",
        "mounts",
        "program",
        "rules",
        "timeout_ms",
        "watched",
        "wrapper",
    )

    def __init__(
        self,
        *,
        mode: str,
        argv: list[str],
        cwd: str,
        environment: list[tuple[str, str]],
        timeout_ms: int,
        grace_ms: int,
        max_processes: int,
        max_memory_bytes: int,
        max_disk_bytes: int,
        watched: str,
        limits: list[tuple[int, int]],
        mounts: list[tuple[str, str, str]],
        rules: list[tuple[str, str]],
        program: bytes,
        wrapper: list[str],
        has_network: bool,
    ) -> None:
        self.mode = mode
        self.argv = argv
        self.cwd = cwd
        self.environment = environment
        self.timeout_ms = timeout_ms
        self.grace_ms = grace_ms
        self.max_processes = max_processes
        self.max_memory_bytes = max_memory_bytes
        self.max_disk_bytes = max_disk_bytes
        self.watched = watched
        """Folder whose disk is watched."""
        self.limits = limits
        """Resource limits of the kernel: number and value."""
        self.mounts = mounts
        """What a namespace shows, in order: kind, source, target (`mounts`)."""
        self.rules = rules
        """Landlock's rules (`landlock`)."""
        self.program = program
        """The seccomp program."""
        self.has_network = has_network
        self.wrapper = wrapper
        """What starts the command, put before it: bubblewrap with its options; `{seccomp}` and `{status}` stand for
        descriptors."""


def encoded(orders: Orders) -> bytes:
    """Return orders as bytes.

    Raises:
        ValueError: a text holds a NUL, or all of it is too long.
    """
    sections = [
        [orders.mode, orders.cwd, orders.watched, orders.program.hex(), "network" if orders.has_network else ""],
        list(
            map(
                str,
                (
                    orders.timeout_ms,
                    orders.grace_ms,
                    orders.max_processes,
                    orders.max_memory_bytes,
                    orders.max_disk_bytes,
                ),
            )
        ),
        orders.argv,
        orders.wrapper,
        [one for pair in orders.environment for one in pair],
        [str(one) for pair in orders.limits for one in pair],
        [one for triple in orders.mounts for one in triple],
        [one for pair in orders.rules for one in pair],
    ]
    texts = [text for section in sections for text in (str(len(section)), *section)]
    if any(_END in text for text in texts):
        raise ValueError("a text holds a NUL")
    whole = os.fsencode(_END.join(texts))
    if len(whole) > MAX_BYTES:
        raise ValueError("the orders are too long")
    return whole


def decoded(whole: bytes) -> Orders:
    """Return the orders that bytes of `encoded` hold."""
    texts = os.fsdecode(whole).split(_END)
    sections = []
    at = 0
    while at < len(texts):
        length = int(texts[at])
        sections.append(texts[at + 1 : at + 1 + length])
        at += 1 + length
    (mode, cwd, watched, program, network), numbers, argv, wrapper, environment, limits, mounts, rules = sections
    timeout_ms, grace_ms, max_processes, max_memory_bytes, max_disk_bytes = map(int, numbers)
    return Orders(
        mode=mode,
        argv=argv,
        cwd=cwd,
        environment=_pairs(environment),
        timeout_ms=timeout_ms,
        grace_ms=grace_ms,
        max_processes=max_processes,
        max_memory_bytes=max_memory_bytes,
        max_disk_bytes=max_disk_bytes,
        watched=watched,
        limits=[(int(one), int(two)) for one, two in _pairs(limits)],
        mounts=list(zip(mounts[::3], mounts[1::3], mounts[2::3], strict=True)),
        rules=_pairs(rules),
        program=bytes.fromhex(program),
        wrapper=wrapper,
        has_network=bool(network),
    )


def _pairs(texts: list[str]) -> list[tuple[str, str]]:
    return list(zip(texts[::2], texts[1::2], strict=True))
