"""Single door: that a tool is reached by a call which the Tool Gate allowed, and by nothing else.

From the syntax trees: the mint of passes is taken by the gate, used in one place of it, and no tool runs without
spending a pass. From the audit hook: what is not allowed does nothing that the interpreter would tell of.
"""

from __future__ import annotations

import ast
import copy
import pickle
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from handshake.kernel.grant import Use
from handshake.kernel.tool_registry import ToolSource
from handshake.kernel.tools import files
from handshake.ports import tool as tool_port
from handshake.tools.workspace_files import WorkspaceFiles
from tests.audit import PACKAGE
from tests.gating import Door
from tests.requirement import requirement
from tests.structure.test_single_path import callers, named, trees
from tests.structure.tree import dotted
from tests.unit.tools.one_call import a_pass

GATE = "gate/tool_gate.py"


@requirement("gate.tools.single_door")
def test_only_the_gate_takes_the_mint_of_passes() -> None:
    """Nobody else asks for it, and whoever did would come too late."""
    assert callers("claim_tool_mint", files=trees()) == {GATE}
    with pytest.raises(RuntimeError):
        tool_port.claim_tool_mint()


@requirement("gate.tools.single_door")
def test_a_pass_is_made_in_one_place_of_the_gate_and_handed_to_the_adapter_there() -> None:
    """Where it is made, the call has been begun: `_tried` is reached from `_outcome` alone."""
    module = trees()[GATE]
    makers = [one.name for one in functions(module) if "_mint" in calls_of(one)]
    assert makers == ["_tried"]
    assert [one.name for one in functions(module) if "run" in calls_of(one)] == ["_tried"]
    reached = {
        called: [one.name for one in functions(module) if called in calls_of(one)]
        for called in ("_tried", "_run", "_outcome", "_finish", "_begin")
    }
    assert reached == {
        "_tried": ["_run"], "_run": ["_outcome"], "_outcome": ["_finish"], "_finish": ["call", "call_of_model"],
        "_begin": ["call", "call_of_model"],
    }  # fmt: skip


def functions(module: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Yield every function of a module."""
    return (node for node in ast.walk(module) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def calls_of(function: ast.AST) -> set[str]:
    """Return the last part of the name of everything that a function calls."""
    return {dotted(node.func).rpartition(".")[2] for node in ast.walk(function) if isinstance(node, ast.Call)}


@requirement("gate.tools.single_door")
def test_passes_are_known_to_the_port_and_to_tools_alone() -> None:
    """Who cannot name a pass cannot hand one on; faces never hold a tool or its gate."""
    naming = {
        file
        for file, module in trees().items()
        if any(isinstance(node, ast.Name | ast.alias) and named(node) == "ToolPass" for node in ast.walk(module))
    }
    assert {one for one in naming if not one.startswith("tools/")} == {"ports/tool.py"}
    assert all(one.startswith("bootstrap") for one in callers("ToolGate", "StoredToolRecords", files=trees()))


@requirement("gate.tools.single_door")
def test_every_tool_spends_its_pass_before_anything_else() -> None:
    """The first statement of each `run` that takes a pass spends it."""
    found = [
        (file, one)
        for file, module in trees().items()
        if file.startswith("tools/")
        for one in functions(module)
        if any(arg.annotation is not None and dotted(arg.annotation) == "ToolPass" for arg in one.args.args)
    ]
    assert found
    for file, one in found:
        body = one.body[1:] if ast.get_docstring(one) is not None else one.body
        first = body[0].value if isinstance(body[0], ast.Expr) else None
        assert isinstance(first, ast.Call), f"{file}:{one.name}"
        assert dotted(first.func).endswith(".spend"), f"{file}:{one.name}"


@requirement("gate.tools.single_door")
def test_a_pass_cannot_be_made_copied_stored_or_used_twice() -> None:
    """Every way to a second run of a call is closed."""
    one = a_pass("notes.write")
    with pytest.raises(TypeError):
        tool_port.ToolPass()
    with pytest.raises(TypeError):
        type("Other", (tool_port.ToolPass,), {})
    for way in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            way(one)
    one.spend()
    with pytest.raises(RuntimeError):
        one.spend()


class Watch:
    """Takes note of what code of the tools does, on whatever thread, as the audit hook tells it."""

    def __init__(self) -> None:
        self._busy = threading.local()
        self._is_on = False
        self.events: list[str] = []

    @contextmanager
    def on(self) -> Iterator[list[str]]:
        """Watch while the body runs; give the events."""
        sys.addaudithook(self._take)  # it stays for ever, and sleeps from the end of the body on
        self._is_on = True
        try:
            yield self.events
        finally:
            self._is_on = False

    def _take(self, event: str, _args: tuple[object, ...]) -> None:
        if not self._is_on or getattr(self._busy, "now", False):
            return
        self._busy.now = True  # looking is not to be looked at
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and not frame.f_code.co_filename.startswith(PACKAGE + "tools/"):
            frame = frame.f_back
        if frame is not None:
            self.events.append(event)
        self._busy.now = False


@requirement("gate.tools.single_door")
async def test_what_is_not_allowed_does_nothing_that_the_interpreter_tells_of(tmp_path: Path) -> None:
    """Denied, asked about, malformed or only tried out: no file is opened; the same call, granted, opens some."""
    (tmp_path / "a.txt").write_text("content")
    door = await Door.open()
    adapter = WorkspaceFiles()
    for definition in files.DEFINITIONS:
        door.registry.register(definition, ToolSource.RUNTIME)
        door.gate.attach(definition.tool_id, adapter)

    async def room(session_id: str, writes: bool) -> str:
        return str(tmp_path)

    door.gate._room = room
    nothing, asking, all_of_it = [await door.session() for _ in range(3)]
    door.policy.grant(asking, "fs.read", use=Use.ASK)
    door.policy.grant(all_of_it, "fs.read")
    version = next(one.tool_version for one in files.DEFINITIONS if one.tool_id == files.READ)
    named_so: dict[str, Any] = {"tool_id": files.READ, "tool_version": version}
    with Watch().on() as events:
        for session in (nothing, asking, None):
            assert not (await door.call(session, {"path": "a.txt"}, **named_so)).ok
        assert not (await door.call(all_of_it, {"path": "../a.txt"}, **named_so)).ok
        assert not (await door.call(all_of_it, {"path": "a.txt"}, tool_id=files.READ, tool_version="0.0.1")).ok
        assert (await door.call(all_of_it, {"path": "a.txt"}, dry_run=True, **named_so)).ok
        assert events == []
        assert (await door.call(all_of_it, {"path": "a.txt"}, **named_so)).ok
        assert events != []
    assert [one["ok"] for one in door.told("tool_call")] == [False] * 5 + [True] * 2
