from __future__ import annotations

from typing import Any

import msgspec

from handshake.gate.json_schema import CompiledSchema
from handshake.kernel.authority import Authority, Layer
from handshake.kernel.capability import CapabilityRegistry
from handshake.kernel.grant import Grant, Use
from handshake.kernel.ids import SessionId
from handshake.kernel.tool_offer import matching, offered
from handshake.kernel.tool_registry import RegisteredTool, Standing, ToolRegistry, ToolSource
from handshake.kernel.tools import artifacts, discovery, files, web
from tests.requirement import requirement

REGISTRY = CapabilityRegistry()
FREE = ["handshake.tools.get", "handshake.tools.search"]


def tools() -> tuple[RegisteredTool, ...]:
    registry = ToolRegistry(REGISTRY, CompiledSchema)
    for one in (*artifacts.DEFINITIONS, *discovery.DEFINITIONS, *files.DEFINITIONS, *web.DEFINITIONS):
        registry.register(one, ToolSource.RUNTIME)
    return registry.all()


def grant(text: str, **fields: Any) -> Grant:
    return Grant(
        grant_id=text, approval_id="p", session_id=SessionId("s"), capability=REGISTRY.parse_rule(text), **fields
    )


def own(*texts: str, **fields: Any) -> Layer:
    return Layer(name="session", allow=tuple(grant(one, **fields) for one in texts), is_own=True)


def ids(*layers: Layer, asks: bool = False) -> list[str]:
    authority = Authority(session_id=SessionId("s"), layers=layers, asks_for_missing=asks)
    return [one.definition.tool_id for one in offered(tools(), authority)]


@requirement("capability.default.denies")
def test_a_session_without_grants_is_offered_nothing_that_needs_one() -> None:
    assert ids(own()) == FREE
    assert ids() == FREE
    assert ids(Layer(name="policy")) == FREE


def test_some_scope_of_every_capability_is_enough() -> None:
    reading = [*FREE, "workspace.file.list", "workspace.file.read", "workspace.file.search"]
    assert ids(own("fs.read:docs")) == reading
    assert ids(own("fs.write:docs")) == [*FREE, "workspace.file.write"]
    assert ids(own("fs.read:docs", "fs.write:docs")) == sorted(
        [*reading, "workspace.file.patch", "workspace.file.write"]
    )
    assert ids(own("net.http:GET example.org")) == [*FREE, "http.request"]
    assert ids(own("fs.read:docs", use=Use.ASK)) == reading


def test_what_is_only_to_be_passed_on_denied_or_held_by_one_layer_alone_is_not_offered() -> None:
    assert ids(own("fs.read", use=Use.DELEGATE_ONLY)) == FREE
    assert ids(own("fs.read"), Layer(name="policy", deny=(REGISTRY.parse("fs.read"),))) == FREE
    assert ids(own("fs.read"), Layer(name="parent", allow=())) == FREE
    assert "workspace.file.read" in ids(
        own("fs.read"), Layer(name="policy", deny=(REGISTRY.parse_rule("fs.read:secrets"),))
    )


def test_what_a_person_would_be_asked_for_is_offered() -> None:
    assert len(ids(own(), asks=True)) == len(tools())
    assert ids(own(), Layer(name="parent", allow=()), asks=True) == FREE


def test_a_definition_that_may_not_be_used_is_not_offered() -> None:
    held = Authority(session_id=SessionId("s"), layers=(own("fs.read"),))
    changed = [one._replace(standing=Standing.CHANGED) for one in tools()]
    assert offered(changed, held) == ()


def found(query: str) -> list[str]:
    return [one.definition.tool_id for one in matching(tools(), query)]


def test_tools_are_found_by_words_of_their_names_first() -> None:
    assert found("search")[:2] == ["handshake.tools.search", "workspace.file.search"]
    assert found("Workspace, FILE: patch!")[0] == "workspace.file.patch"
    assert found("redirects") == ["http.request"]
    assert found("nonsense") == []
    assert found("!") == []


def test_the_order_does_not_depend_on_the_order_of_the_tools() -> None:
    assert [one.definition.tool_id for one in matching(reversed(tools()), "file")] == found("file")
    assert msgspec.json.encode(found("a")) == msgspec.json.encode(found("a"))
