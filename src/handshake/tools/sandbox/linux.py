"""Linux: calls of the operating system that Python does not offer, by `ctypes`; each raises `OSError` if it fails.

Part of the launcher, which imports next to nothing: every module more is paid at each start of a command.
"""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 0x2

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4

LANDLOCK_RULE_PATH_BENEATH = 1

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_AT_RECURSIVE = 0x8000
_AT_SYMLINK_NOFOLLOW = 0x100
_OPEN_TREE_CLONE = 0x1
_OPEN_TREE_CLOEXEC = os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 0x4

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_CAPBSET_DROP = 24
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION_3 = 0x20080522
_LAST_CAPABILITY = 63

# The same number on every architecture that is supported.
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_MOUNT_SETATTR = 442
_SYS_LANDLOCK_CREATE_RULESET = 444
_SYS_LANDLOCK_ADD_RULE = 445
_SYS_LANDLOCK_RESTRICT_SELF = 446
_LANDLOCK_CREATE_RULESET_VERSION = 1

_SIG_DFL = 0
_IGNORED_BY_PYTHON = (13, 25)
"""SIGPIPE and SIGXFSZ: ignored signals stay ignored in the programs that a process becomes."""

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, what)
    return result


def _prctl(option: int, value: int, what: str, *more: int) -> None:
    padded = [ctypes.c_ulong(one) for one in (value, *more, 0, 0, 0, 0)[:4]]
    _checked(_libc.prctl(option, *padded), what)


def _syscall(number: int, what: str, *arguments: object) -> int:
    _libc.syscall.restype = ctypes.c_long
    return _checked(_libc.syscall(ctypes.c_long(number), *arguments), what)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, "adopt")


def die_with_parent() -> None:
    """Be killed when the thread that made this process ends."""
    _prctl(_PR_SET_PDEATHSIG, 9, "die_with_parent")


def renounce_privileges() -> None:
    """Gain nothing by executing anything, from now on."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, "no_new_privileges")


def drop_capabilities() -> None:
    """Give up all capabilities, also those that root would get back by executing something."""
    for one in range(_LAST_CAPABILITY + 1):
        try:
            _prctl(_PR_CAPBSET_DROP, one, "bounding_set")
        except OSError:
            break  # beyond the last one that the kernel knows, or nothing to give up
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing = (ctypes.c_uint32 * 6)()
    _checked(_libc.capset(header, nothing), "capabilities")
    try:
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, "ambient")
    except OSError:
        return  # older than ambient capabilities


def restore_signals() -> None:
    """Undo what Python does to signals at its start."""
    _libc.signal.restype = ctypes.c_void_p
    for one in _IGNORED_BY_PYTHON:
        _libc.signal(ctypes.c_int(one), ctypes.c_void_p(_SIG_DFL))


def unshare(flags: int) -> None:
    """Leave the namespaces that `flags` name for new ones."""
    _checked(_libc.unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    """Mount a file system, or change a mount."""
    encoded = kind.encode() if kind is not None else None
    given = (os.fsencode(source), os.fsencode(target), encoded, ctypes.c_ulong(flags), data.encode() or None)
    _checked(_libc.mount(*given), "mount")


def clone_tree(path: str) -> int:
    """Return a descriptor of a detached copy of the mounts at and below a path, which is no link."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_RECURSIVE | _AT_SYMLINK_NOFOLLOW
    where = ctypes.c_char_p(os.fsencode(path))
    return _syscall(_SYS_OPEN_TREE, "open_tree", ctypes.c_int(_AT_FDCWD), where, ctypes.c_uint(flags))


def restrict_mount(place: int | str, attributes: int, *, below: bool = True) -> None:
    """Set attributes on a mount: a detached one by its descriptor, or by path; with all that are mounted below it."""
    number, path = (place, b"") if isinstance(place, int) else (_AT_FDCWD, os.fsencode(place))
    flags = (_AT_RECURSIVE if below else 0) | (_AT_EMPTY_PATH if not path else 0)
    wanted = (ctypes.c_uint64 * 4)(attributes, 0, 0, 0)
    given = (ctypes.c_int(number), ctypes.c_char_p(path), ctypes.c_uint(flags), wanted, ctypes.c_size_t(32))
    _syscall(_SYS_MOUNT_SETATTR, "mount_setattr", *given)


def attach_tree(tree: int, target: str) -> None:
    """Mount a detached copy at a path."""
    empty, where = ctypes.c_char_p(b""), ctypes.c_char_p(os.fsencode(target))
    given = (ctypes.c_int(tree), empty, ctypes.c_int(_AT_FDCWD), where, ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH))
    _syscall(_SYS_MOVE_MOUNT, "move_mount", *given)


def enter_root(folder: str) -> None:
    """Make `folder` the root of this mount namespace, and let go of the old one."""
    os.chdir(folder)
    _checked(_libc.pivot_root(b".", b"."), "pivot_root")
    _checked(_libc.umount2(b".", ctypes.c_int(MNT_DETACH)), "umount")
    os.chdir("/")


def landlock_version() -> int:
    """Return the ABI of Landlock that the kernel offers; 0 if it offers none."""
    try:
        flags = ctypes.c_uint32(_LANDLOCK_CREATE_RULESET_VERSION)
        return _syscall(_SYS_LANDLOCK_CREATE_RULESET, "landlock", None, ctypes.c_size_t(0), flags)
    except OSError:
        return 0


def landlock_ruleset(handled: tuple[int, ...]) -> int:
    """Return a descriptor of a rule set that handles the given rights: of files, then of the network, then scopes."""
    attributes = (ctypes.c_uint64 * len(handled))(*handled)
    size = ctypes.c_size_t(8 * len(handled))
    return _syscall(_SYS_LANDLOCK_CREATE_RULESET, "landlock_ruleset", attributes, size, ctypes.c_uint32(0))


def landlock_allow(ruleset: int, rights: int, place: int) -> None:
    """Allow rights at and below an open file or folder."""
    rule = rights.to_bytes(8, "little") + place.to_bytes(4, "little")
    given = (ctypes.c_int(ruleset), ctypes.c_int(LANDLOCK_RULE_PATH_BENEATH), ctypes.c_char_p(rule), ctypes.c_uint32(0))
    _syscall(_SYS_LANDLOCK_ADD_RULE, "landlock_rule", *given)


def landlock_enforce(ruleset: int) -> None:
    """Hold this process and its descendants to a rule set."""
    _syscall(_SYS_LANDLOCK_RESTRICT_SELF, "landlock_enforce", ctypes.c_int(ruleset), ctypes.c_uint32(0))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def filter_calls(program: bytes) -> None:
    """Hold this process and its descendants to a seccomp program, instructions of 8 bytes each."""
    whole = _Program(len(program) // 8, program)
    given = (ctypes.c_ulong(_SECCOMP_MODE_FILTER), ctypes.byref(whole), ctypes.c_ulong(0), ctypes.c_ulong(0))
    _checked(_libc.prctl(_PR_SET_SECCOMP, *given), "seccomp")
