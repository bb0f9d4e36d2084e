"""Single path: from the syntax trees, that a provider is reached by a dispatched run and by nothing else.

The chain has five links: the dispatcher makes a ticket, a turn takes it to the gate, the gate mints a pass for it, an
adapter takes the pass, and the transport opens the connection. Each link is made in one place.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.requirement import requirement
from tests.structure.tree import dotted, imported, name_of, source_files, syntax

LINKS: dict[str, tuple[str, ...]] = {
    "claim_mint": ("gate/egress.py",),
    "RunTicket": ("scheduler/dispatcher.py",),
    "Attempt": ("scheduler/dispatcher.py",),
    "Dispatcher": ("bootstrap/runtime.py",),
    "Turns": ("bootstrap/runtime.py",),
    "Egress": ("bootstrap/described.py", "bootstrap/runtime.py"),
    "HttpModel": ("bootstrap/described.py",),
    "HttpTransport": ("providers/http_model.py", "providers/web_client.py", "providers/web_streams.py"),
    "WebClient": ("bootstrap/toolbox.py",),
    "WebTool": ("bootstrap/toolbox.py",),
    "OutsideStreams": ("bootstrap/toolbox.py",),
    "Exchange": ("providers/http_transport.py",),
    "ClientSession": ("providers/http_transport.py",),
    "TCPConnector": (),
}
"""What may be called where; a subclass counts as a call where it stands. Nobody else in the package does."""

ANSWERING = ("gate/egress.py", "operations/turns.py", "providers/cassette.py")
"""Who asks for an answer: a turn asks the gate, the gate an adapter, and one adapter that records another one."""
WITH_A_PASS = ("ports/model.py", "providers/cassette.py", "providers/http_model.py")
"""Who speaks of passes at all; the gate has the mint and need not name what it makes."""
WAYS_OUT = (
    "aiohttp",
    "http",
    "requests",
    "httpx",
    "httpx2",
    "httpcore",
    "httpcore2",
    "urllib.request",
    "urllib3",
    "ftplib",
    "smtplib",
)
"""Libraries that speak to other machines."""


def shipped_files() -> list[Path]:
    """Return the modules of the package but those that testing offers in their place."""
    return [path for path in source_files() if not inside(path).startswith("testing/")]


def inside(path: Path) -> str:
    """Return a file's path inside the package."""
    return name_of(path).removeprefix("src/handshake/")


def called(module: ast.Module) -> Iterator[str]:
    """Yield the last part of the name of everything that is called, or renamed so that a call would not show."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            yield dotted(node.func).rpartition(".")[2]
        elif isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
            yield dotted(node.value).rpartition(".")[2]
        elif isinstance(node, ast.alias) and node.asname:
            yield node.name.rpartition(".")[2]


def callers(*names: str, files: dict[str, ast.Module]) -> set[str]:
    """Return the files that call something of one of these names."""
    return {file for file, module in files.items() if not set(names).isdisjoint(called(module))}


def trees() -> dict[str, ast.Module]:
    """Return the syntax trees of the shipped modules."""
    return {inside(path): syntax(path) for path in shipped_files()}


@requirement("scheduler.path.is_single")
@pytest.mark.parametrize("name", LINKS)
def test_each_link_of_the_chain_is_made_in_one_place(name: str) -> None:
    """Whatever leads to a provider is made where the chain needs it."""
    assert callers(name, files=trees()) == set(LINKS[name])


@requirement("scheduler.path.is_single")
def test_answers_are_asked_for_by_turns_at_the_gate_and_by_the_gate_at_adapters() -> None:
    """No third place calls an adapter's `answer`."""
    assert callers("answer", files=trees()) == set(ANSWERING)


@requirement("scheduler.path.is_single")
def test_passes_are_known_to_the_gate_and_adapters_alone() -> None:
    """Who cannot name a pass cannot hand one on."""
    naming = {
        file
        for file, module in trees().items()
        if any(isinstance(node, ast.Name | ast.alias) and named(node) == "EgressPass" for node in ast.walk(module))
    }
    assert naming == set(WITH_A_PASS)


def named(node: ast.Name | ast.alias) -> str:
    """Return the name that a node uses or imports."""
    return node.id if isinstance(node, ast.Name) else node.name


@requirement("scheduler.path.is_single")
def test_only_the_transport_imports_a_library_that_speaks_to_other_machines() -> None:
    """Everything else has nothing to reach a provider with."""
    importing = {
        file
        for file, module in trees().items()
        for one in imported(module)
        if any(one == way or one.startswith(f"{way}.") for way in WAYS_OUT)
    }
    assert importing == {"providers/http_transport.py", "tools/mcp_http.py"}, "the second has no transport but ours"


SLIPS = {
    "from handshake.kernel.job import RunTicket\nticket = RunTicket(1, 2, 3, 4, 5)": "RunTicket",
    "from handshake.providers.http_model import HttpModel as Model\nModel()": "HttpModel",
    "import handshake.gate.egress as gate\nopener = gate.Egress\nopener({}, bool)": "Egress",
    "async def f(model):\n    async for piece in model.answer(None, None): pass": "answer",
    "if (way := aiohttp.ClientSession): way()": "ClientSession",
}
"""Code that makes a link of its own, and the name by which it must be seen."""


@pytest.mark.parametrize("code", SLIPS)
def test_a_way_around_would_be_seen(code: str) -> None:
    """The checks above notice one more module that makes a link, under whatever name."""
    name = SLIPS[code]
    assert "slip.py" in callers(name, files={**trees(), "slip.py": ast.parse(code)})
