"""Audit: the hook under which all tests run refuses what it must, and nothing else."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests import audit
from tests.requirement import requirement

ELSEWHERE = ("192.0.2.1", 9)  # RFC 5737: belongs to nobody


@pytest.fixture
def ours() -> Iterator[list[str]]:
    """Give what was refused, and forget it afterwards: here a refusal is what the test wants."""
    yield audit.refused
    audit.refused.clear()


def as_module(path: str, statement: str) -> None:
    """Run a statement as if it stood in a module of the package."""
    exec(compile(statement, audit.PACKAGE + path, "exec"), {"os": os, "socket": socket, "subprocess": subprocess})


@pytest.fixture
def listening() -> Iterator[int]:
    """Give the port of a socket that listens on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_leaving_the_machine_is_refused(ours: list[str]) -> None:
    """Connecting, binding, sending and resolving end at loopback."""
    with socket.socket() as one, pytest.raises(audit.Refused):
        one.connect(ELSEWHERE)
    with socket.socket() as one, pytest.raises(audit.Refused):
        one.bind(("0.0.0.0", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one, pytest.raises(audit.Refused):
        one.sendto(b"x", ELSEWHERE)
    with pytest.raises(audit.Refused):
        socket.getaddrinfo("api.example.com", 443)
    assert len(ours) == 4


def test_loopback_is_allowed_to_tests(listening: int) -> None:
    """A test may talk to what it started itself."""
    with socket.create_connection(("127.0.0.1", listening)) as one:
        assert one.getpeername()[1] == listening
    assert subprocess.run([sys.executable, "-c", ""], check=False).returncode == 0


@requirement("scheduler.path.is_single")
def test_connections_open_in_named_modules_only(listening: int, ours: list[str]) -> None:
    """Any other module of the package is refused even loopback."""
    statement = f"socket.create_connection(('127.0.0.1', {listening})).close()"
    as_module("providers/http_transport.py", statement)
    assert ours == []
    with pytest.raises(audit.Refused):
        as_module("operations/turns.py", statement)
    with pytest.raises(audit.Refused):
        as_module("providers/wire_openai.py", statement)
    assert [one.rpartition(" ")[2] for one in ours] == ["operations/turns.py", "providers/wire_openai.py"]


def test_processes_open_in_named_modules_only(ours: list[str]) -> None:
    """No module of the runtime starts a process yet; `testing` starts servers for tests, `bench` what it measures."""
    statement = f"subprocess.run([{sys.executable!r}, '-c', ''])"
    as_module("testing/llama_server.py", statement)
    assert ours == []
    with pytest.raises(audit.Refused):
        as_module("gate/egress.py", statement)
    with pytest.raises(audit.Refused):
        as_module("storage/sqlite_store.py", "os.system('true')")
    assert len(ours) == 2
