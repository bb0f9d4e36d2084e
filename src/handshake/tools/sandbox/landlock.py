"""Landlock: which rights on files, network and other processes a process keeps, by version of the kernel's ABI.

Part of the launcher: no imports but those of its own.
"""

from __future__ import annotations

import os
import stat

from handshake.tools.sandbox import linux

EXECUTE = 1 << 0
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
REMOVE_DIR = 1 << 4
REMOVE_FILE = 1 << 5
MAKE_CHAR = 1 << 6
MAKE_DIR = 1 << 7
MAKE_REG = 1 << 8
MAKE_SOCK = 1 << 9
MAKE_FIFO = 1 << 10
MAKE_BLOCK = 1 << 11
MAKE_SYM = 1 << 12
REFER = 1 << 13
TRUNCATE = 1 << 14
IOCTL_DEV = 1 << 15

BIND_TCP = 1 << 0
CONNECT_TCP = 1 << 1
ABSTRACT_UNIX_SOCKET = 1 << 0
SIGNAL = 1 << 1

ALONE_FROM = 6
"""First ABI whose rights confine without namespaces: before, signals reached every process of the user."""

_FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
_READ = EXECUTE | READ_FILE | READ_DIR
_CHANGE = (
    WRITE_FILE | TRUNCATE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM | REFER
)
RIGHTS = {
    "list": READ_DIR,
    "read": _READ,
    "write": _READ | _CHANGE,
    "device": READ_FILE | WRITE_FILE | TRUNCATE | IOCTL_DEV | READ_DIR,
}
"""By the word of a rule."""


def handled(version: int, *, has_network: bool = False) -> tuple[int, ...]:
    """Return what a rule set of this ABI can deny: rights on files, and where it can, on the network and beyond it.

    All of it is handled and only what a rule names is allowed, so that no right is forgotten.
    """
    files = (1 << 13) - 1
    if version >= 2:
        files |= REFER
    if version >= 3:
        files |= TRUNCATE
    if version >= 5:
        files |= IOCTL_DEV
    if version < 4:
        return (files,)
    network = 0 if has_network else BIND_TCP | CONNECT_TCP
    if version < 6:
        return (files, network)
    return (files, network, ABSTRACT_UNIX_SOCKET | SIGNAL)


def enforce(rules: list[tuple[str, str]], version: int, *, has_network: bool) -> None:
    """Hold this process to the rules, each a word of `RIGHTS` and a path; what no rule names is denied.

    A path that is gone, or that this user may not reach, is left out: it is denied.
    """
    known = handled(version, has_network=has_network)
    ruleset = linux.landlock_ruleset(known)
    for word, path in rules:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        rights = RIGHTS[word] & known[0]
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= _FILE_RIGHTS
        linux.landlock_allow(ruleset, rights, place)
        os.close(place)
    linux.landlock_enforce(ruleset)
    os.close(ruleset)
