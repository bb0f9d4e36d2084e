"""Probe: the program that a self-test runs inside a sandbox; it really tries to get out, and says where it succeeded.

It prints one word to a line for each attempt that succeeded, and `ran` at the end. It runs alone: nothing of the
package is in reach of it, and nothing but the standard library is imported.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import sys
from collections.abc import Callable

_PTRACE_ATTACH = 16
_CLONE_NEWUSER = 0x10000000
_MOST_DESCRIPTORS = 256
_SET_USER_ID = 0o4755
_libc = ctypes.CDLL(None, use_errno=True)


class Places:
    """What the self-test prepared: its root, what lies outside, where somebody listens, and a process to attack."""

    def __init__(self, words: list[str]) -> None:
        self.root, self.outside, self.unix_path, self.abstract_name, tcp_port, victim = words
        self.tcp_port = int(tcp_port)
        self.victim = int(victim)


def _write(path: str) -> bool:
    with open(path, "w", encoding="ascii") as file:
        file.write("escaped")
    return True


def _read(path: str) -> bool:
    with open(path, "rb") as file:
        return bool(file.read(1))


def _connect(family: int, address: tuple[str, int] | str | bytes, kind: int = socket.SOCK_STREAM) -> bool:
    with socket.socket(family, kind) as one:
        one.settimeout(1)
        one.connect(address)
    return True


def _send_to_unix(path: str) -> bool:
    """Reach a socket of the host from a pair of connected ones."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        one.sendto(b"x", path)
    return True


def _called(result: int) -> bool:
    return result >= 0


def _kill(victim: int) -> bool:
    """Send the signal; whether it arrived the self-test sees for itself."""
    if victim not in (1, os.getpid(), os.getppid()):
        os.kill(victim, signal.SIGKILL)
    return False


def _set_user_id(path: str) -> bool:
    os.chmod(path, _SET_USER_ID)
    return bool(os.stat(path).st_mode & 0o4000)


def _inherited() -> bool:
    found = False
    for fd in range(3, _MOST_DESCRIPTORS):
        try:
            os.fstat(fd)
            found = True
        except OSError:
            continue
    return found


def _foreign_variables() -> bool:
    return bool(set(os.environ) - {"PATH", "HOME", "TMPDIR", "PWD", "LC_CTYPE"})


def _open_for_change(path: str) -> bool:
    os.close(os.open(path, os.O_WRONLY))
    return True


def _moved(source: str, target: str) -> bool:
    os.rename(source, target)
    return True


def _linked(source: str, target: str) -> bool:
    os.link(source, target)
    return _write(target)


def _changed_mode(path: str) -> bool:
    os.chmod(path, 0o777)
    return True


def _touched(path: str) -> bool:
    os.utime(path, (1, 1))
    return True


def _shortened(path: str) -> bool:
    os.truncate(path, 0)
    return True


def _listed(path: str) -> bool:
    return bool(os.listdir(path))


def _attempts(at: Places) -> dict[str, Callable[[], bool]]:
    secret, runtime = f"{at.outside}/secret", f"{at.root}/.handshake"
    return {
        "writes_outside": lambda: _write(f"{at.outside}/new"),
        "writes_root": lambda: _write(f"{at.root}/new"),
        "writes_unscoped": lambda: _write(f"{at.root}/closed/file"),
        "writes_runtime_folder": lambda: _write(f"{runtime}/new"),
        "writes_system": lambda: _open_for_change("/etc/passwd"),
        "writes_kernel": lambda: _open_for_change("/proc/sys/kernel/core_pattern"),
        "shortens": lambda: _shortened(secret),
        "changes_mode": lambda: _changed_mode(f"{at.root}/closed/file"),
        "changes_mode_outside": lambda: _changed_mode(secret),
        "touches": lambda: _touched(f"{at.root}/closed/file"),
        "moves_in": lambda: _moved(f"{at.root}/closed/file", f"{at.root}/open/moved"),
        "moves_runtime_folder": lambda: _moved(runtime, f"{at.root}/open/moved"),
        "links_in": lambda: _linked(f"{at.root}/closed/file", f"{at.root}/open/linked"),
        "reads_outside": lambda: _read(secret),
        "reads_runtime_folder": lambda: _read(f"{runtime}/secret"),
        "lists_runtime_folder": lambda: _listed(runtime),
        "reads_shadow": lambda: _read("/etc/shadow"),
        "lists_home": lambda: _listed("/root/.ssh") or _listed("/home"),
        "lists_run": lambda: _listed("/run"),
        "reads_environment": lambda: _read(f"/proc/{at.victim}/environ"),
        "reads_own_root": lambda: _read(f"/proc/self/root{secret}"),
        "tcp": lambda: _connect(socket.AF_INET, ("127.0.0.1", at.tcp_port)),
        "udp": lambda: _connect(socket.AF_INET, ("127.0.0.1", at.tcp_port), socket.SOCK_DGRAM),
        "tcp6": lambda: _connect(socket.AF_INET6, ("::1", at.tcp_port)),
        "unix": lambda: _connect(socket.AF_UNIX, at.unix_path),
        "abstract": lambda: _connect(socket.AF_UNIX, b"\0" + at.abstract_name.encode()),
        "unix_by_pair": lambda: _send_to_unix(f"{at.unix_path}-datagrams"),
        "netlink": lambda: bool(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)),
        "ptrace": lambda: _called(_libc.ptrace(_PTRACE_ATTACH, at.victim, None, None)),
        "namespaces": lambda: _called(_libc.unshare(_CLONE_NEWUSER)),
        "mounts": lambda: _called(_libc.mount(b"none", f"{at.root}/open".encode(), b"tmpfs", 0, None)),
        "kills": lambda: _kill(at.victim),
        "set_user_id": lambda: _set_user_id(f"{at.root}/open/file"),
        "descriptors": _inherited,
        "variables": _foreign_variables,
    }


def _survive(path: str) -> None:
    """Leave a process behind that belongs to no session, group or parent of this one, and holds a lock."""
    ready_read, ready_write = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            fd = os.open(path, os.O_RDWR)
            fcntl.flock(fd, fcntl.LOCK_EX)
            os.write(ready_write, b"x")
            signal.pause()
        os._exit(0)
    os.close(ready_write)
    os.read(ready_read, 1)


def main() -> None:
    """Make every attempt, and what must succeed."""
    at = Places(sys.argv[1:])
    for name, attempt in _attempts(at).items():
        try:
            succeeded = attempt()
        except OSError:
            continue
        if succeeded:
            sys.stdout.write(f"{name}\n")
    _survive(f"{at.root}/open/lock")
    _write(f"{at.root}/open/new")
    _write(f"{os.environ['TMPDIR']}/new")
    if _read(f"{at.root}/closed/file"):
        sys.stdout.write("ran\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
