"""Enclosure: the process that shuts itself in, and then becomes the command or its first parent.

Part of the launcher. Whatever step fails, nothing is started: the step and the error's number go to the status pipe.
"""

from __future__ import annotations

import errno
import os
import resource
import stat

from handshake.tools.sandbox import landlock, linux
from handshake.tools.sandbox.orders import LANDLOCK, NAMESPACES, Orders

NOT_STARTED = 127
_NEW_ROOT = "/tmp"  # noqa: S108  (where the new root is put together; it replaces all that is seen)
_NAMESPACES = linux.CLONE_NEWNS | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS | linux.CLONE_NEWNET
_SMALL = "size=1m,nr_inodes=4096,mode=755"


def number_processes_anew() -> None:
    """See to it that the next process that is made is the first of a namespace of its own.

    Without the privilege for it a namespace of users is entered first, in which this user stays who it is.
    """
    user, group = os.geteuid(), os.getegid()
    try:
        linux.unshare(linux.CLONE_NEWPID)
    except OSError:
        linux.unshare(linux.CLONE_NEWPID | linux.CLONE_NEWUSER)
        for file, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with open(f"/proc/self/{file}", "w", encoding="ascii") as one:
                one.write(text)


def shut_in(orders: Orders) -> None:
    """Confine this process and all that come of it; raises `OSError` where a part of it cannot be had."""
    linux.die_with_parent()
    if orders.mode == NAMESPACES:
        linux.unshare(_NAMESPACES & ~linux.CLONE_NEWNET if orders.has_network else _NAMESPACES)
        _build_root(orders.mounts)
    try:
        os.setgroups([])
    except OSError:
        os.getgroups()  # an ordinary user keeps its groups: what they open is out of reach
    linux.drop_capabilities()
    linux.renounce_privileges()
    version = linux.landlock_version()
    if orders.mode == LANDLOCK and version < landlock.ALONE_FROM:
        raise OSError(errno.ENOSYS, "landlock_too_old")
    if version:
        landlock.enforce(orders.rules, version, has_network=orders.has_network)
    linux.filter_calls(orders.program)


def become(orders: Orders) -> None:
    """Turn into the command: own session, limits, environment; returns the error's number if that cannot be."""
    os.setsid()
    for number, value in orders.limits:
        _, hard = resource.getrlimit(number)
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (allowed, allowed))
    linux.restore_signals()
    os.umask(0o022)
    os.chdir(orders.cwd)
    environment = dict(orders.environment)
    argv = [*orders.wrapper, *orders.argv]
    program = argv[0]
    places = [""] if "/" in program else environment.get("PATH", "").split(":")
    found: OSError = FileNotFoundError(2, "exec")
    for place in places:
        try:
            os.execve(f"{place}/{program}" if place else program, argv, environment)
        except OSError as failure:
            if failure.errno not in (2, 20):
                found = failure
    raise found


def _build_root(mounts: list[tuple[str, str, str]]) -> None:
    """Put a new root together out of copies of what the old one shows, and enter it."""
    linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
    trees = {(kind, source): _tree(kind, source) for kind, source, _ in mounts if kind in ("read", "write", "device")}
    linux.mount("none", _NEW_ROOT, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, _SMALL)
    for kind, source, target in mounts:
        _MOUNTERS[kind](trees.get((kind, source), -1), source, _NEW_ROOT + target)
    linux.restrict_mount(_NEW_ROOT, linux.MOUNT_ATTR_RDONLY, below=False)
    linux.enter_root(_NEW_ROOT)


def _tree(kind: str, source: str) -> int:
    """Return a detached copy of what is at `source`, restricted as its kind says; -1 if this user cannot get at it."""
    try:
        tree = linux.clone_tree(source)
    except (FileNotFoundError, PermissionError):
        return -1
    attributes = linux.MOUNT_ATTR_NOSUID
    if kind != "device":
        attributes |= linux.MOUNT_ATTR_NODEV
    if kind == "read":
        attributes |= linux.MOUNT_ATTR_RDONLY
    linux.restrict_mount(tree, attributes)
    return tree


def _attach(tree: int, source: str, target: str) -> None:
    if tree < 0:
        return
    if stat.S_ISDIR(os.fstat(tree).st_mode):
        os.makedirs(target, 0o755, exist_ok=True)
    elif not os.path.lexists(target):
        os.makedirs(os.path.dirname(target), 0o755, exist_ok=True)
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC | os.O_EXCL, 0o644))
    linux.attach_tree(tree, target)
    os.close(tree)


def _memory(_: int, size: str, target: str) -> None:
    os.makedirs(target, 0o755, exist_ok=True)
    linux.mount("none", target, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, f"size={size},mode=1777")


def _mask(_: int, source: str, target: str) -> None:
    """Cover a folder with an empty one that nobody can write to; a file with nothing."""
    if os.path.isdir(target):
        flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC | linux.MS_RDONLY
        linux.mount("none", target, "tmpfs", flags, "size=4k,nr_inodes=1,mode=000")
    elif os.path.lexists(target):
        tree = linux.clone_tree("/dev/null")
        linux.restrict_mount(tree, linux.MOUNT_ATTR_RDONLY | linux.MOUNT_ATTR_NODEV)
        linux.attach_tree(tree, target)
        os.close(tree)


def _processes(_: int, source: str, target: str) -> None:
    os.makedirs(target, 0o755, exist_ok=True)
    flags = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC | linux.MS_RDONLY
    linux.mount("proc", target, "proc", flags)


def _terminals(_: int, source: str, target: str) -> None:
    os.makedirs(target, 0o755, exist_ok=True)
    linux.mount("devpts", target, "devpts", linux.MS_NOSUID | linux.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")


def _link(_: int, source: str, target: str) -> None:
    os.makedirs(os.path.dirname(target), 0o755, exist_ok=True)
    os.symlink(source, target)


_MOUNTERS = {
    "read": _attach,
    "write": _attach,
    "device": _attach,
    "memory": _memory,
    "mask": _mask,
    "processes": _processes,
    "terminals": _terminals,
    "link": _link,
}
