"""Launcher: the program that starts one command, watches it, and leaves nothing of it running.

It runs in an interpreter of its own, apart from the runtime: that one has threads, memory and descriptors of which no
command may inherit anything. It gets its orders by a descriptor, and ends the command as soon as the runtime closes
another one, also by dying. What became of the command goes to a third, one `key value` to a line.

Imports are few, because each is paid at every start (`docs/decisions`, the sandbox).
"""

from __future__ import annotations

import os
import select
import sys
import time

from handshake.tools.sandbox import enclosure, linux
from handshake.tools.sandbox.orders import BUBBLEWRAP, HOST, NAMESPACES, Orders, decoded

_LOOK_S = 0.05
"""How often processes, memory and disk are looked at."""
_TERM, _KILL, _STOP = 15, 9, 19
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_MS_PER_S = 1_000
_MOST_DESCRIPTORS = 2**31 - 1
_MAX_STATUS_BYTES = 65_536


def main(orders_fd: int, control_fd: int, status_fd: int) -> None:
    """Carry the orders out, and tell on `status_fd` how it ended."""
    _keep_only(orders_fd, control_fd, status_fd)
    with open(orders_fd, "rb") as file:
        orders = decoded(file.read())
    told = _Told(status_fd)
    try:
        watch = _start(orders, told)
    except OSError as failure:
        told.failed(failure)
        return
    watch.until_end(control_fd)


def _keep_only(*kept: int) -> None:
    """Close what was inherited by mistake: some event loops pass on more descriptors than they were told."""
    after = 3
    for one in sorted(kept):
        os.set_inheritable(one, False)
        os.closerange(after, one)
        after = one + 1
    os.closerange(after, _MOST_DESCRIPTORS)


class _Told:
    """The pipe on which the runtime is told what happened."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def say(self, key: str, value: object) -> None:
        """Write one line at once, if there is still somebody to read it."""
        try:
            os.write(self.fd, f"{key} {value}\n".encode())
        except OSError:
            return

    def failed(self, failure: OSError) -> None:
        """Tell which step did not succeed."""
        step = str(failure.strerror or "start").replace("\n", " ").split("'")[0].strip().replace(" ", "_")
        self.say("failed", f"{step[:40]} {failure.errno or 0}")


def _start(orders: Orders, told: _Told) -> _Watch:
    """Make the processes; this one keeps none of the command's streams."""
    linux.adopt_orphans()
    if orders.mode == NAMESPACES:
        enclosure.number_processes_anew()
    status_read = -1
    if orders.mode == BUBBLEWRAP:
        status_read = _fill_in(orders)
    first = os.fork()
    if first == 0:
        _as_child(orders, told)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    for one in (0, 1, 2):
        os.dup2(null, one)
    return _Watch(orders, told, first, status_read)


def _fill_in(orders: Orders) -> int:
    """Open what bubblewrap reads and writes, and put the numbers where its options stand; return its status pipe."""
    program = os.memfd_create("seccomp", 0)
    os.write(program, orders.program)
    os.lseek(program, 0, os.SEEK_SET)
    status_read, status_write = os.pipe()
    os.set_inheritable(status_write, True)
    numbers = {"{seccomp}": str(program), "{status}": str(status_write)}
    orders.wrapper = [numbers.get(one, one) for one in orders.wrapper]
    return status_read


def _as_child(orders: Orders, told: _Told) -> None:
    """Shut this process in, and become the command, or in namespaces its first parent; never returns."""
    try:
        if orders.mode not in (BUBBLEWRAP, HOST):
            enclosure.shut_in(orders)
        if orders.mode == BUBBLEWRAP:
            linux.die_with_parent()
        if orders.mode == NAMESPACES:
            command = os.fork()
            if command:
                _be_first(command, told)
        enclosure.become(orders)
    except OSError as failure:
        told.failed(failure)
    finally:
        os._exit(enclosure.NOT_STARTED)


def _be_first(command: int, told: _Told) -> None:
    """Be the first process of the namespace: take in orphans until the command ends, which ends all of them."""
    os.dup2(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC), 0)
    os.dup2(0, 1)
    os.dup2(0, 2)
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == command:
            told.say("status", status)
            os._exit(0)


class _Watch:
    """One started command: who belongs to it, whether it keeps its limits, and its end."""

    def __init__(self, orders: Orders, told: _Told, first: int, status_read: int) -> None:
        self._orders = orders
        self._told = told
        self._first = first
        self._status_read = status_read
        self._tells_children = os.path.exists(f"/proc/self/task/{os.getpid()}/children")
        self._free_at_start = self._free_bytes()

    def until_end(self, control_fd: int) -> None:
        """Wait for the end of the command, or bring it about; then see to it that nothing is left."""
        ended = os.pidfd_open(self._first)
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        poll.register(control_fd, select.POLLIN | select.POLLHUP)
        begun = time.monotonic()
        deadline = begun + self._orders.timeout_ms / _MS_PER_S
        kill_at = 0.0
        while True:
            now = time.monotonic()
            ready = [fd for fd, _ in poll.poll(max(0.0, min(_LOOK_S, (kill_at or deadline) - now)) * _MS_PER_S)]
            if ended in ready:
                break
            now = time.monotonic()
            why = "cancelled" if control_fd in ready else self._over_limit()
            if why or (kill_at and now >= kill_at):
                if why and not kill_at:
                    self._told.say("cause", why)
                break
            if not kill_at and now >= deadline:
                self._told.say("cause", "timeout")
                self._signal(_TERM, spared=self._first if self._orders.mode == BUBBLEWRAP else 0)
                kill_at = now + self._orders.grace_ms / _MS_PER_S
        self._leave_nothing()

    def _leave_nothing(self) -> None:
        """Kill whatever is left until there is nothing to wait for, then tell what became of the first process."""
        status = -1
        while True:
            self._signal(_STOP)  # what stands still makes no new ones
            self._signal(_KILL)
            try:
                while True:
                    pid, one = os.waitpid(-1, os.WNOHANG)
                    if pid == self._first:
                        status = one
                    if pid == 0:
                        break
            except ChildProcessError:
                break
            select.select([], [], [], 0.002)
        if self._orders.mode == BUBBLEWRAP:
            self._tell_bubblewrap()
        elif self._orders.mode != NAMESPACES:
            self._told.say("status", status)

    def _tell_bubblewrap(self) -> None:
        """Pass on the exit code that it reports; it reports none if it could not start the command."""
        os.set_blocking(self._status_read, False)
        try:
            report = os.read(self._status_read, _MAX_STATUS_BYTES).decode("ascii", "replace")
        except BlockingIOError:
            report = ""
        code = report.partition('"exit-code":')[2].strip(" }\n").partition("}")[0].strip()
        if code.isdigit():
            number = int(code)
            self._told.say("status", number - 128 if 128 < number <= 192 else number << 8)
        elif '"child-pid"' not in report:
            self._told.say("failed", "bubblewrap 0")

    def _over_limit(self) -> str:
        """Return which limit the command does not keep, or nothing."""
        members = self._members(self._orders.max_processes + 2)
        if len(members) > self._orders.max_processes + 2:  # with the first ones, that are not the command's
            return "processes"
        if self._memory_bytes(members) > self._orders.max_memory_bytes:
            return "memory"
        if self._free_at_start - self._free_bytes() > self._orders.max_disk_bytes:
            return "disk"
        return ""

    def _members(self, enough: int) -> list[int]:
        """Return descendants of this process, until there are more than `enough`; parents before their children."""
        found = self._children(os.getpid())
        for one in found:  # grows while it is gone through
            if len(found) > enough:
                break
            found += self._children(one)
        return found

    def _children(self, pid: int) -> list[int]:
        found: list[int] = []
        try:
            if not self._tells_children:
                return [one for one in map(int, filter(str.isdigit, os.listdir("/proc"))) if _parent(one) == pid]
            for thread in os.listdir(f"/proc/{pid}/task"):
                found += map(int, _read(f"/proc/{pid}/task/{thread}/children").split())
        except OSError:
            return found
        return found

    def _memory_bytes(self, members: list[int]) -> int:
        """Return how much memory the processes hold; shared pages are told apart only if that matters."""
        resident = sum(_number(one, "statm", b"", 1) for one in members) * _PAGE_BYTES
        if resident <= self._orders.max_memory_bytes:
            return resident
        return sum(_number(one, "smaps_rollup", b"Pss:", 1) for one in members) * 1024

    def _free_bytes(self) -> int:
        whole = os.statvfs(self._orders.watched)
        return whole.f_bavail * whole.f_frsize

    def _signal(self, number: int, spared: int = 0) -> None:
        """Send a signal to all that belong to the command, parents first; to all but one, if one is to be spared."""
        for one in self._members(1 << 20):
            if one == spared:
                continue
            try:
                os.kill(one, number)
            except OSError:
                continue


def _read(path: str) -> bytes:
    """Return a small file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, _MAX_STATUS_BYTES)
    finally:
        os.close(fd)


def _number(pid: int, file: str, start: bytes, place: int) -> int:
    """Return a number from the first line of a process's file that begins with `start`; 0 if it is gone."""
    try:
        for line in _read(f"/proc/{pid}/{file}").splitlines():
            if line.startswith(start):
                return int(line.split()[place])
    except OSError:
        return 0
    return 0


def _parent(pid: int) -> int:
    return _number(pid, "status", b"PPid:", 1)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
