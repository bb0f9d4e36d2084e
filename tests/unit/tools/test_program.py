"""Program tools: a function is the tool that its signature says, and the worst where nobody says better."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pytest

from handshake.gate.json_schema import CompiledSchema
from handshake.kernel.errors import InvalidRequest
from handshake.kernel.tool import admit
from handshake.kernel.tool_registry import ToolSource
from handshake.ports.tool import Reach, ToolFailed
from handshake.tools.program import Described, Function, ProgramTool, define
from tests.gating import Door
from tests.requirement import requirement
from tests.unit.tools.one_call import a_pass, called, context

READ = Described(side_effect="READ", capabilities=["net.http:GET docs.example.org/*"])
HERE = context("/", Reach())


class Page(msgspec.Struct):
    name: str
    number: Annotated[int, msgspec.Meta(ge=1)] = 1


async def read_docs(page: Page, *, words: list[str] | None = None) -> list[str]:
    """Read a page."""
    return [page.name * page.number, *(words or [])]


def test_signature_is_the_schema() -> None:
    tool = admit(define(read_docs, READ))
    assert (tool.tool_id, tool.description) == ("program.read_docs", "Read a page.")
    schema = CompiledSchema(tool.input_schema)
    assert schema.misfit({"page": {"name": "a", "number": 2}, "words": ["b"]}) is None
    for bad in ({}, {"page": "a"}, {"page": {"name": "a", "number": 0}}, {"page": {"name": "a"}, "other": 1}):
        assert schema.misfit(bad) is not None
    assert CompiledSchema(tool.output_schema).misfit({"result": ["a"]}) is None
    assert CompiledSchema(tool.output_schema).misfit({"result": "a"}) is not None


@requirement("gate.registry.nothing_defaults")
def test_what_nobody_says_is_the_worst() -> None:
    tool = define(read_docs, Described(side_effect="EXECUTE", capabilities=["proc.exec"]))
    assert (tool.sinks, tool.content) == (("/page", "/words"), ())
    assert [one.value for one in (tool.risk_level, tool.output_trust, tool.idempotency, tool.reversibility)] == [
        "HIGH", "untrusted", "NON_IDEMPOTENT", "IRREVERSIBLE"
    ]  # fmt: skip
    assert define(read_docs, READ).is_egress
    said = msgspec.structs.replace(READ, sinks=["page"], risk="HIGH", trusted=True, name="docs.read", timeout_s=5)
    tool = define(read_docs, said)
    assert (tool.sinks, tool.content, tool.risk_level.value) == (("/page",), ("/words",), "HIGH")
    assert (tool.tool_id, tool.timeout_ms, tool.output_trust.value) == ("docs.read", 5_000, "trusted")


def plain(page: str) -> str:
    return page


async def many(*pages: str) -> str:
    return "".join(pages)


async def bare(page) -> str:  # type: ignore[no-untyped-def]
    return str(page)


async def odd(page: complex) -> str:
    return str(page)


async def lost(page: "Nowhere") -> str:  # type: ignore[name-defined]  # noqa: F821, UP037
    return ""


@pytest.mark.parametrize("function", [plain, many, bare, odd, lost])
def test_function_that_json_cannot_call_is_refused(function: Function) -> None:
    with pytest.raises(InvalidRequest) as refused:
        define(function, READ)
    assert refused.value.context["field"] == "function"


@pytest.mark.parametrize(
    ("said", "field"),
    [({"side_effect": "NONE"}, "side_effect"), ({"risk": "low"}, "risk"), ({"sinks": ["other"]}, "sinks")],
)
def test_word_that_is_none_is_refused(said: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        define(read_docs, msgspec.structs.replace(READ, **said))
    assert refused.value.context["field"] == field


async def test_function_is_called_with_values_of_its_types() -> None:
    tool = ProgramTool(read_docs, trusted=False)
    result = await called(tool, define(read_docs, READ), {"page": {"name": "a", "number": 2}, "words": ["b"]}, HERE)
    assert (result.value, result.is_trusted) == ({"result": ["aa", "b"]}, False)
    with pytest.raises(ToolFailed):
        await tool.run(a_pass("program.read_docs"), "program.read_docs", {"page": 5}, HERE)
    await tool.close()


async def returns_odd(page: str) -> Any:
    return object()


async def test_what_json_cannot_hold_is_an_error() -> None:
    with pytest.raises(ToolFailed):
        await ProgramTool(returns_odd, trusted=False).run(a_pass("a.b"), "a.b", {"page": "a"}, HERE)


async def test_function_passes_the_gate_as_any_tool() -> None:
    door = await Door.open()
    definition = define(read_docs, Described(side_effect="READ", capabilities=["fs.read:{page.name}"]))
    door.registry.register(definition, ToolSource.PROGRAM)
    door.gate.attach(definition.tool_id, ProgramTool(read_docs, trusted=False))
    session = await door.session("fs.read:docs/**")
    named = definition.tool_id
    assert (await door.call(session, {"page": {"name": "docs/a"}}, tool_id=named)).result == {"result": ["docs/a"]}
    assert not (await door.call(session, {"page": {"name": "src/a"}}, tool_id=named)).ok
    assert not (await door.call(session, {"page": {"name": "docs/a", "number": 0}}, tool_id=named)).ok
