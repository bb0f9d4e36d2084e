from __future__ import annotations

import errno
import struct

import pytest

from handshake.tools.sandbox import seccomp
from handshake.tools.sandbox.seccomp import ALLOW, ARCHITECTURES, ERRNO, KILL_PROCESS, MAX_INSTRUCTIONS
from tests.requirement import requirement

DENIED = ERRNO | errno.EPERM
UNKNOWN = ERRNO | errno.ENOSYS
HIGH = 1 << 32


def judged(program: bytes, architecture: int, number: int, *arguments: int) -> int:
    """Run a program as the kernel does, over one call."""
    data = struct.pack("=IIQ6Q", number, architecture, 0, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    code = list(struct.iter_unpack("=HBBI", program))
    accumulator = at = 0
    while True:
        what, if_true, if_false, value = code[at]
        at += 1
        if what == 0x06:
            return int(value)
        if what == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif what == 0x54:
            accumulator &= value
        else:
            is_true = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[what]
            at += if_true if is_true else if_false


def on(machine: str, number: int, *arguments: int, is_alone: bool = False, has_network: bool = False) -> int:
    program = seccomp.program(machine, is_alone=is_alone, has_network=has_network)
    return judged(program, ARCHITECTURES[machine], number, *arguments)


@requirement("gate.sandbox.confines")
@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_calls_of_another_architecture_end_the_process(machine: str) -> None:
    program = seccomp.program(machine, is_alone=False)
    (other,) = {*ARCHITECTURES.values()} - {ARCHITECTURES[machine]}
    assert judged(program, other, 0) == KILL_PROCESS
    assert judged(program, 0x40000003, 102) == KILL_PROCESS
    assert judged(program, ARCHITECTURES[machine], 0x40000000 | 41) == KILL_PROCESS


@requirement("gate.sandbox.confines")
@pytest.mark.parametrize(
    ("x86_64", "aarch64", "arguments", "answer"),
    [
        (0, 63, (), ALLOW),  # read
        (1, 64, (), ALLOW),  # write
        (59, 221, (), ALLOW),  # execve
        (41, 198, (2, 1), DENIED),  # socket
        (41, 198, (1, 1), DENIED),
        (42, 203, (), DENIED),  # connect
        (53, 199, (1, 1), ALLOW),  # socketpair
        (53, 199, (1, 5 | 0o2000000), ALLOW),
        (53, 199, (1, 2), DENIED),
        (53, 199, (2, 1), DENIED),
        (101, 117, (), DENIED),  # ptrace
        (310, 270, (), DENIED),  # process_vm_readv
        (165, 40, (), DENIED),  # mount
        (272, 97, (), DENIED),  # unshare
        (308, 268, (), DENIED),  # setns
        (321, 280, (), DENIED),  # bpf
        (250, 219, (), DENIED),  # keyctl
        (323, 282, (), DENIED),  # userfaultfd
        (246, 104, (), DENIED),  # kexec_load
        (435, 435, (), UNKNOWN),  # clone3
        (437, 437, (), UNKNOWN),  # openat2
        (425, 425, (), UNKNOWN),  # io_uring_setup
        (56, 220, (17,), ALLOW),  # clone
        (56, 220, (0x003D0F00,), ALLOW),
        *((56, 220, (1 << bit,), DENIED) for bit in (17, 25, 26, 27, 28, 29, 30)),
        (16, 29, (0, 0x5413), ALLOW),  # ioctl
        (16, 29, (0, 0x5412), DENIED),
        (16, 29, (0, 0x541C), DENIED),
        (91, 52, (3, 0o755), ALLOW),  # fchmod
        (91, 52, (3, 0o4755), DENIED),
        (91, 52, (3, 0o2755), DENIED),
        (268, 53, (3, 0, 0o755), ALLOW),  # fchmodat
        (268, 53, (3, 0, 0o4755), DENIED),
        (257, 56, (3, 0, 0, 0o4755), ALLOW),  # openat that makes nothing
        (257, 56, (3, 0, 0o100, 0o644), ALLOW),
        (257, 56, (3, 0, 0o100, 0o4755), DENIED),
        (302, 261, (1234, 7, 1, 0), ALLOW),  # prlimit64
        (62, 129, (1, 9), ALLOW),  # kill: namespaces and Landlock see to it
    ],
)
def test_each_call_gets_its_answer(x86_64: int, aarch64: int, arguments: tuple[int, ...], answer: int) -> None:
    assert on("x86_64", x86_64, *arguments) == answer
    assert on("aarch64", aarch64, *arguments) == answer


@requirement("gate.sandbox.confines")
@pytest.mark.parametrize(
    ("x86_64", "aarch64", "arguments", "answer"),
    [
        (91, 52, (3, 0o755), DENIED),  # fchmod
        (280, 88, (), DENIED),  # utimensat
        (188, 5, (), DENIED),  # setxattr
        (30, 196, (), DENIED),  # shmat
        (302, 261, (0, 7, 1, 0), ALLOW),  # prlimit64
        (302, 261, (1234, 7, 0, 0), ALLOW),
        (302, 261, (1234, 7, 1, 0), DENIED),
        (302, 261, (1234, 7, HIGH, 0), DENIED),
        (203, 122, (0,), ALLOW),  # sched_setaffinity
        (203, 122, (1234,), DENIED),
        (141, 140, (0, 0), ALLOW),  # setpriority
        (141, 140, (0, 1234), DENIED),
        (141, 140, (2, 0), DENIED),
    ],
)
def test_more_is_refused_where_no_namespace_stands_behind_it(
    x86_64: int, aarch64: int, arguments: tuple[int, ...], answer: int
) -> None:
    assert on("x86_64", x86_64, *arguments, is_alone=True) == answer
    assert on("aarch64", aarch64, *arguments, is_alone=True) == answer


@requirement("gate.sandbox.confines")
@pytest.mark.parametrize(("domain", "answer"), [(2, ALLOW), (10, ALLOW), (16, ALLOW), (1, DENIED), (17, DENIED)])
def test_with_a_network_the_sockets_of_the_host_stay_closed(domain: int, answer: int) -> None:
    assert on("x86_64", 41, domain, 1, has_network=True) == answer
    assert on("x86_64", 42, has_network=True) == ALLOW


def test_the_program_fits_the_kernel_and_every_jump_stays_inside() -> None:
    for machine in ARCHITECTURES:
        code = list(struct.iter_unpack("=HBBI", seccomp.program(machine, is_alone=True)))
        assert len(code) <= MAX_INSTRUCTIONS
        assert all(at + 1 + max(one[1], one[2]) < len(code) for at, one in enumerate(code) if one[0] != 0x06)


@requirement("gate.sandbox.fail_closed")
def test_an_unknown_machine_has_no_program() -> None:
    with pytest.raises(KeyError):
        seccomp.program("riscv64", is_alone=False)
