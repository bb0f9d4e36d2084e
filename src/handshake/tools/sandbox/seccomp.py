"""Seccomp: the program that decides, call by call, what a sandboxed process may ask of the kernel.

Everything is allowed but what is listed: sockets (a pair of connected ones stays), looking into other processes, new
namespaces and mounts, keys, kernel programs and modules, `io_uring` (which would go around this list), bits of
set-user-id. Calls of a foreign architecture end the process. The program is data; launcher or bubblewrap install it.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence

MAX_INSTRUCTIONS = 4_096
"""What the kernel takes (BPF_MAXINSNS)."""

ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
ERRNO = 0x00050000

_LOAD = 0x20
_AND = 0x54
_JUMP_EQUAL = 0x15
_JUMP_GREATER_EQUAL = 0x35
_JUMP_SET = 0x45
_RETURN = 0x06
_AT_NUMBER = 0
_AT_ARCHITECTURE = 4
_AT_ARGUMENTS = 16
_X32 = 0x40000000

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""By the machine's name: how the kernel calls the architecture (AUDIT_ARCH_*)."""

_NAMESPACES = 0x7E020000
_SET_IDS = 0o6000
_CREATES = 0o100 | 0o20000000
"""O_CREAT and the bit of O_TMPFILE: only with them an open has a mode."""
_STREAM, _SEQUENCED = 1, 5
_TIOCSTI, _TIOCLINUX, _SET_FLAGS, _SET_ATTRIBUTES = 0x5412, 0x541C, 0x40086602, 0x401C5820

Numbers = tuple[int | None, int | None]
Condition = tuple[int, str, int]
"""Half of an argument (2 * argument, + 1 for its upper half), `is`, `is_not` or `has`, and a value. A mask comes before
the comparison as `low_bits`."""


def _same(number: int) -> Numbers:
    return (number, number)


_NOT_HERE: dict[str, Numbers] = {
    # other processes
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_getfd": _same(438), "process_madvise": _same(440), "process_mrelease": _same(448),
    "migrate_pages": (256, 238), "move_pages": (279, 239), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    # keys, kernel, machine
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219), "bpf": (321, 280),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "reboot": (169, 142), "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89),
    "quotactl": (179, 60), "quotactl_fd": _same(443), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "clock_adjtime": (305, 266), "adjtimex": (159, 171), "sethostname": (170, 161), "setdomainname": (171, 162),
    "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None), "uselib": (134, None),
    "syslog": (103, 116), "vhangup": (153, 58), "lookup_dcookie": (212, 18), "nfsservctl": (180, 42),
    # mounts, namespaces, files by other means than their path
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "open_tree": _same(428), "move_mount": _same(429), "fsopen": _same(430),
    "fsconfig": _same(431), "fsmount": _same(432), "fspick": _same(433), "mount_setattr": _same(442),
    "open_tree_attr": _same(467), "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264),
    "fanotify_init": (300, 262), "fanotify_mark": (301, 263),
}  # fmt: skip
_SOCKETS: dict[str, Numbers] = {
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "listen": (50, 201), "accept": (43, 202),
    "accept4": (288, 242),
}  # fmt: skip
_NO_NETWORK_SOCKET: tuple[tuple[Numbers, tuple[Condition, ...]], ...] = (
    ((41, 198), ((0, "is_not", 2), (0, "is_not", 10), (0, "is_not", 16))),
)
"""Where a command has a network: INET, INET6, and NETLINK to ask for addresses; never UNIX."""
_NEVER_HEARD_OF: dict[str, Numbers] = {
    "clone3": _same(435), "openat2": _same(437), "io_uring_setup": _same(425), "io_uring_enter": _same(426),
    "io_uring_register": _same(427),
}  # fmt: skip
"""Calls whose arguments cannot be seen, or that go around this list: libraries fall back to those that can."""
_SHARED_WITH_THE_HOST: dict[str, Numbers] = {
    "shmget": (29, 194), "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193),
    "semctl": (66, 191), "semtimedop": (220, 192), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188),
    "msgctl": (71, 187), "mq_open": (240, 180), "mq_unlink": (241, 181),
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": _same(452), "chown": (92, None),
    "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54), "utime": (132, None), "utimes": (235, None),
    "futimesat": (261, None), "utimensat": (280, 88), "setxattr": (188, 5), "lsetxattr": (189, 6),
    "fsetxattr": (190, 7), "removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16),
    "setxattrat": _same(463), "removexattrat": _same(466), "file_setattr": _same(469),
}  # fmt: skip
"""What Landlock does not see: queues and memory by number, and the modes, owners, times and labels of any file."""

_CONDITIONAL: tuple[tuple[Numbers, tuple[Condition, ...]], ...] = (
    ((53, 199), ((0, "is_not", 1),)),  # socketpair: UNIX, and of a kind that reaches nobody but its other end
    ((53, 199), ((2, "low_bits", 0xF), (2, "is_not", _STREAM), (2, "is_not", _SEQUENCED))),
    ((56, 220), ((0, "has", _NAMESPACES),)),  # clone
    *(((16, 29), ((2, "is", one),)) for one in (_TIOCSTI, _TIOCLINUX, _SET_FLAGS, _SET_ATTRIBUTES)),  # ioctl
    ((90, None), ((2, "has", _SET_IDS),)),  # chmod
    ((91, 52), ((2, "has", _SET_IDS),)),  # fchmod
    ((268, 53), ((4, "has", _SET_IDS),)),  # fchmodat
    (_same(452), ((4, "has", _SET_IDS),)),  # fchmodat2
    ((133, None), ((2, "has", _SET_IDS),)),  # mknod
    ((259, 33), ((4, "has", _SET_IDS),)),  # mknodat
    ((85, None), ((2, "has", _SET_IDS),)),  # creat
    ((2, None), ((2, "has", _CREATES), (4, "has", _SET_IDS))),  # open
    ((257, 56), ((4, "has", _CREATES), (6, "has", _SET_IDS))),  # openat
)
_OTHERS_BY_NUMBER: tuple[tuple[Numbers, tuple[Condition, ...]], ...] = (
    ((302, 261), ((0, "is_not", 0), (4, "is_not", 0))),  # prlimit64 that sets, of another process
    ((302, 261), ((0, "is_not", 0), (5, "is_not", 0))),
    ((141, 140), ((0, "is_not", 0),)),  # setpriority
    ((141, 140), ((2, "is_not", 0),)),
    *(((one), ((0, "is_not", 0),)) for one in ((142, 118), (144, 119), (203, 122), (314, 274))),  # sched_set*
    ((251, 30), ((0, "is_not", 1),)),  # ioprio_set
    ((251, 30), ((2, "is_not", 0),)),
)
"""Calls that change other processes: only where no namespace keeps those out of sight."""


def program(machine: str, *, is_alone: bool, has_network: bool = False) -> bytes:
    """Return the program for a machine (`x86_64`, `aarch64`), as the kernel takes it.

    Args:
        machine: what `os.uname().machine` says.
        is_alone: no namespaces stand behind it: then more is refused, such as changing the mode of a file.
        has_network: whether sockets of the internet may be made.

    Raises:
        KeyError: no such machine is known, so nothing can be confined on it.
    """
    column = list(ARCHITECTURES).index(machine) if machine in ARCHITECTURES else -1
    architecture = ARCHITECTURES[machine]
    refused = [(one, errno.EPERM) for one in _NOT_HERE.values()]
    refused += [(one, errno.ENOSYS) for one in _NEVER_HEARD_OF.values()]
    conditional = list(_CONDITIONAL)
    if has_network:
        conditional += _NO_NETWORK_SOCKET
    else:
        refused += [(one, errno.EPERM) for one in _SOCKETS.values()]
    if is_alone:
        refused += [(one, errno.EPERM) for one in _SHARED_WITH_THE_HOST.values()]
        conditional += _OTHERS_BY_NUMBER
    code = [
        _instruction(_LOAD, _AT_ARCHITECTURE),
        _instruction(_JUMP_EQUAL, architecture, 1, 0),
        _instruction(_RETURN, KILL_PROCESS),
        _instruction(_LOAD, _AT_NUMBER),
        _instruction(_JUMP_GREATER_EQUAL, _X32, 0, 1),
        _instruction(_RETURN, KILL_PROCESS),
    ]
    for numbers, error in refused:
        code += _block(numbers[column], (), error)
    for numbers, conditions in conditional:
        code += _block(numbers[column], conditions, errno.EPERM)
    code.append(_instruction(_RETURN, ALLOW))
    if len(code) > MAX_INSTRUCTIONS:
        raise ValueError("the program is longer than the kernel takes")
    return b"".join(code)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _block(number: int | None, conditions: Sequence[Condition], error: int) -> list[bytes]:
    """Return the instructions that refuse one call if all conditions hold, and else go on with its number loaded."""
    if number is None:
        return []
    refuse = [_instruction(_RETURN, ERRNO | error)]
    if conditions:
        refuse += [_instruction(_LOAD, _AT_NUMBER)]
    body: list[bytes] = []
    for condition in reversed(conditions):
        body = [*_tested(condition, len(body), _mask_of(condition, conditions)), *body]
    return [_instruction(_JUMP_EQUAL, number, 0, len(body) + len(refuse)), *body, *refuse]


def _mask_of(condition: Condition, conditions: Sequence[Condition]) -> int | None:
    masks = [value for half, test, value in conditions if test == "low_bits" and half == condition[0]]
    return masks[0] if masks else None


def _tested(condition: Condition, left: int, mask: int | None) -> list[bytes]:
    """Return the instructions of one condition; when it fails they jump over the `left` others and the refusal."""
    half, test, value = condition
    if test == "low_bits":
        return []
    past = left + 1
    load = [_instruction(_LOAD, _AT_ARGUMENTS + 4 * half)]
    if mask is not None:
        load.append(_instruction(_AND, mask))
    if test == "has":
        return [*load, _instruction(_JUMP_SET, value, 0, past)]
    if test == "is":
        return [*load, _instruction(_JUMP_EQUAL, value, 0, past)]
    return [*load, _instruction(_JUMP_EQUAL, value, past, 0)]
