"""Plan: from a policy to the orders of a launcher, for each way of confining: what is mounted, and what rules allow.

All ways show the same places at the same paths: the system's programs and libraries, the workspace without the
runtime's folder, what the operator declared, and a private `/tmp`.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterable, Iterator, Sequence

from handshake.kernel.command import RUNTIME_FOLDER
from handshake.kernel.settings import COMMAND_GRACE_MS, MAX_COMMAND_ADDRESS_FACTOR, MAX_COMMAND_PLACES
from handshake.tools.sandbox import seccomp
from handshake.tools.sandbox.orders import BUBBLEWRAP, HOST, LANDLOCK, NAMESPACES, Orders
from handshake.tools.sandbox.policy import NotConfined, Policy

SCRATCH = "/tmp"  # noqa: S108  (the private one that a command sees)
GIT_FOLDER = ".git"
FROZEN = ("config", "config.worktree", "hooks")
"""What git runs programs from: to be read, never to be changed."""

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")
_CONFIGURATION = (
    "alternatives ca-certificates.conf debian_version fonts gitconfig group host.conf java-11-openjdk "
    "java-17-openjdk java-21-openjdk ld.so.cache ld.so.conf ld.so.conf.d localtime magic mime.types nsswitch.conf "
    "os-release passwd pki/tls/certs protocols python3 services ssl/certs ssl/openssl.cnf terminfo timezone"
).split()
"""Of /etc: nothing that holds a secret or says who may do what."""
_NAMES_OF_THE_NETWORK = ("hosts", "resolv.conf", "gai.conf")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_HARMLESS_FACTS = ("/proc/cpuinfo", "/proc/meminfo")
_MS_PER_S = 1_000


def orders_for(policy: Policy, mode: str, *, wrapper: Sequence[str] = (), scratch: str = SCRATCH) -> Orders:
    """Return the orders for a policy.

    Args:
        policy: the command and what it may do.
        mode: how it is confined (`orders`).
        wrapper: bubblewrap's program and options, for that mode.
        scratch: its private folder, where no namespace makes `/tmp` one.

    Raises:
        NotConfined: there is no way on this machine.
    """
    limits = policy.limits
    is_alone = mode == LANDLOCK
    return Orders(
        mode=mode,
        argv=list(policy.argv),
        cwd=policy.cwd,
        environment=[*policy.environment, ("HOME", scratch), ("TMPDIR", scratch)],
        timeout_ms=limits.timeout_ms,
        grace_ms=COMMAND_GRACE_MS,
        max_processes=limits.processes,
        max_memory_bytes=limits.memory_bytes,
        max_disk_bytes=limits.disk_bytes,
        watched=policy.root,
        limits=_resource_limits(policy, mode),
        mounts=mounts(policy) if mode == NAMESPACES else [],
        rules=[] if mode in (HOST, BUBBLEWRAP) else rules(policy, scratch, is_alone=is_alone),
        program=b"" if mode == HOST else _program(is_alone=is_alone, has_network=policy.has_network),
        wrapper=list(wrapper),
        has_network=policy.has_network,
    )


def _program(*, is_alone: bool, has_network: bool) -> bytes:
    try:
        return seccomp.program(os.uname().machine, is_alone=is_alone, has_network=has_network)
    except KeyError as unknown:
        raise NotConfined("architecture") from unknown


def _resource_limits(policy: Policy, mode: str) -> list[tuple[int, int]]:
    limits = policy.limits
    seconds = limits.timeout_ms // _MS_PER_S + 1
    found = [
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, seconds * (os.cpu_count() or 1) + 1),
        (resource.RLIMIT_DATA, limits.memory_bytes),
        (resource.RLIMIT_AS, limits.memory_bytes * MAX_COMMAND_ADDRESS_FACTOR),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
    ]
    if os.geteuid() != 0:  # the kernel does not hold root to it; there the launcher counts alone
        others = 0 if mode in (NAMESPACES, BUBBLEWRAP) else _threads_of_user()
        found.append((resource.RLIMIT_NPROC, limits.processes + others + 2))
    return found


def _threads_of_user() -> int:
    """Return how many threads this user runs: the kernel counts them all against the limit."""
    found = 0
    user = os.geteuid()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                found += len(os.listdir(f"/proc/{name}/task")) if os.stat(f"/proc/{name}").st_uid == user else 0
            except OSError:
                continue
    return found


# ── What a namespace shows ─────────────────────────────────────────────────────────────────────────────────


def mounts(policy: Policy) -> list[tuple[str, str, str]]:
    """Return what is mounted, in order, as (kind, source, target)."""
    found: list[tuple[str, str, str]] = []
    for place in _SYSTEM:
        if os.path.islink(place):
            found.append(("link", os.readlink(place), place))
        elif os.path.isdir(place):
            found.append(("read", place, place))
    for name in _configuration(policy):
        place = f"/etc/{name}"
        if os.path.exists(place):
            found.append(("read", os.path.realpath(place), place))
    found.append(("processes", "", "/proc"))
    found += [("device", one, one) for one in _DEVICES]
    found += [
        ("terminals", "", "/dev/pts"),
        ("link", "pts/ptmx", "/dev/ptmx"),
        ("link", "/proc/self/fd", "/dev/fd"),
        ("link", "/proc/self/fd/0", "/dev/stdin"),
        ("link", "/proc/self/fd/1", "/dev/stdout"),
        ("link", "/proc/self/fd/2", "/dev/stderr"),
        ("memory", str(policy.limits.scratch_bytes), SCRATCH),
        ("memory", str(policy.limits.scratch_bytes), "/dev/shm"),  # noqa: S108
        ("link", SCRATCH, "/var/tmp"),  # noqa: S108
    ]
    found += [("read", one, one) for one in _outermost(policy.read)]
    found.append(("read", policy.root, policy.root))
    found += [("write", one, one) for one in policy.write]
    found += _closed(policy)
    return found


def _configuration(policy: Policy) -> Sequence[str]:
    return (*_CONFIGURATION, *_NAMES_OF_THE_NETWORK) if policy.has_network else _CONFIGURATION


def _closed(policy: Policy) -> Iterator[tuple[str, str, str]]:
    """Yield what lies over the workspace: the runtime's folder is covered, what git runs programs from is frozen."""
    for one in (f"{policy.root}/{RUNTIME_FOLDER}", *policy.hidden):
        yield ("mask", "", one)
    for git in _repositories(policy):
        if os.path.isfile(git):
            yield ("read", git, git)
            continue
        yield ("write", git, git)  # a mount is not renamed away
        for name in FROZEN:
            yield ("read", f"{git}/{name}", f"{git}/{name}")


def _repositories(policy: Policy) -> list[str]:
    """Return what git keeps right in the root, or right in a place that may be written to."""
    candidates = dict.fromkeys(f"{one}/{GIT_FOLDER}" for one in (policy.root, *policy.write))
    return [one for one in candidates if _is_within(one, policy.write) and os.path.exists(one)]


# ── What Landlock allows ───────────────────────────────────────────────────────────────────────────────────


def rules(policy: Policy, scratch: str, *, is_alone: bool) -> list[tuple[str, str]]:
    """Return Landlock's rules. Alone they must name every place; in a namespace all that is seen may be read."""
    written = [("write", scratch), *(("device", one) for one in _DEVICES)]
    if not is_alone:
        shared = [("write", "/dev/shm"), ("device", "/dev/pts")]  # noqa: S108
        return [("read", "/"), *written, *shared, *(("write", one) for one in policy.write)]
    found = [("read", one) for one in (*_SYSTEM, *_HARMLESS_FACTS)]
    found += [("read", f"/etc/{one}") for one in _configuration(policy)]
    hidden = [f"{policy.root}/{RUNTIME_FOLDER}", *policy.hidden]
    found += [("read", one) for place in (policy.root, *policy.read) for one in _around(place, hidden)]
    repositories = _repositories(policy)
    for place in policy.write:
        found += [("write", one) for one in _around(place, [*hidden, *repositories])]
    for git in repositories:
        if os.path.isdir(git):
            found += [("write", one) for one in _around(git, [f"{git}/{one}" for one in FROZEN])]
    return [*found, *written]


def _around(place: str, closed: Sequence[str]) -> list[str]:
    """Return places that together are `place` without what is closed: Landlock only allows, with all that is below.

    Around something closed, what is there now can be used; new names beside it cannot be made.
    """
    if not any(_is_within(one, [place]) and os.path.lexists(one) for one in closed):
        return [place]
    if place in closed:
        return []
    found: list[str] = []
    with os.scandir(place) as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            if not entry.is_symlink():
                found += _around(entry.path, closed)
            if len(found) > MAX_COMMAND_PLACES:
                raise NotConfined("too_many_places")
    return found


def _is_within(path: str, places: Iterable[str]) -> bool:
    return any(path == one or path.startswith(one.rstrip("/") + "/") for one in places)


def _outermost(places: Sequence[str]) -> list[str]:
    """Return places without those that lie within others or are shown anyway."""
    shown = [one for one in _SYSTEM if os.path.isdir(one) and not os.path.islink(one)]
    found: list[str] = []
    for one in sorted(set(places)):
        if not _is_within(one, [*shown, *found]):
            found.append(one)
    return found


def interpreter_places() -> tuple[str, ...]:
    """Return where the interpreter of this process lives, if a command may see it: never a home or the root itself."""
    prefix = os.path.realpath(sys.base_prefix)
    is_whole_home = prefix in ("/", os.path.realpath(os.path.expanduser("~"))) or prefix.count("/") < 2
    return () if is_whole_home and prefix != "/usr" else (prefix,)
