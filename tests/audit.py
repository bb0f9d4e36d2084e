"""Audit: a hook under which all tests run; it refuses connections and processes where they have no business.

Two rules. Nothing may reach beyond this machine: connecting, binding, sending and resolving end at loopback.
And code of the package opens connections and processes only in the modules named here; the innermost frame of the
package on the stack is the one that answers for it.

A refused call raises where it is made. Because code under test may swallow that, it is also kept in `refused`,
and a fixture fails the test that was running.
"""

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path
from types import FrameType

PACKAGE = str(Path(__file__).resolve().parents[1] / "src" / "handshake") + "/"

CONNECTIONS = frozenset({"socket.bind", "socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.sendmsg"})
PROCESSES = frozenset(
    {"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "pty.spawn", "subprocess.Popen"}
)
LOOKUPS = frozenset({"socket.getaddrinfo", "socket.gethostbyname"})
WATCHED = CONNECTIONS | PROCESSES | LOOKUPS

MAY_CONNECT = ("providers/http_transport.py", "providers/locality.py", "testing/", "tools/sandbox/self_test.py")
MAY_START = (
    "bench/peers/environment.py",
    "bench/sandbox.py",
    "bench/start.py",
    "testing/",
    "tools/git.py",
    "tools/sandbox/running.py",
    "tools/sandbox/self_test.py",
)


class Refused(RuntimeError):
    """A call that no code may make while tests run."""


refused: list[str] = []
"""What was refused since the list was last emptied."""


def install() -> None:
    """Watch this process from now on; Python has no way to stop it again."""
    sys.addaudithook(_watch)


def _watch(event: str, args: tuple[object, ...]) -> None:
    if event in WATCHED:
        why = _objection(event, args)
        if why:
            refused.append(why)
            raise Refused(why)


def _objection(event: str, args: tuple[object, ...]) -> str:
    if event in PROCESSES:
        where = _innermost_module()
        return f"{event} from {where}" if where and not where.startswith(MAY_START) else ""
    host = _host(event, args)
    if host is not None and not (_is_here(host) or (event in LOOKUPS and _is_address(host))):
        return f"{event} to {host!r}"
    where = _innermost_module()
    return f"{event} from {where}" if where and not where.startswith(MAY_CONNECT) else ""


def _host(event: str, args: tuple[object, ...]) -> str | None:
    """Return the host that a call is about, or None if it stays in the kernel (UNIX sockets, netlink)."""
    if event in LOOKUPS:
        named = args[0]
    else:
        address = args[1] if len(args) > 1 else None
        named = address[0] if isinstance(address, tuple) and address else None
    if isinstance(named, bytes):
        return named.decode("ascii", "replace")
    return named if isinstance(named, str) else None


def _is_here(host: str) -> bool:
    if _is_address(host):
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    return host == "localhost"


def _is_address(host: str) -> bool:
    """Return whether resolving `host` asks nobody."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _innermost_module() -> str:
    """Return the file of the package that is nearest to the call, as a path inside the package, or an empty string."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(PACKAGE):
            return file[len(PACKAGE) :]
        frame = frame.f_back
    return ""
