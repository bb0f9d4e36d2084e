"""Tests of containment: by meaning, never by prefix; what belongs to the runtime is inside nothing."""

from __future__ import annotations

import pytest

from handshake.kernel.capability import CapabilityRegistry
from handshake.kernel.containment import covers, is_literal, overlaps
from tests.requirement import requirement

REGISTRY = CapabilityRegistry(ids=frozenset({"doc.summarize"}))


@requirement("capability.axis.contains_scopes")
@pytest.mark.parametrize(
    ("held", "wanted", "expected"),
    [
        ("fs.read", "fs.read", True),
        ("fs.read", "fs.read:docs/a", True),
        ("fs.read:docs/**", "fs.read", False),
        ("fs.read:**", "fs.read", False),
        ("fs.read", "fs.write:docs/a", False),
        ("fs.read:docs/**", "fs.read:docs-secret", False),
        ("proc.exec", "proc.exec:pytest -q", True),
        ("secrets.use:A", "secrets.use:A", True),
        ("secrets.use:A", "secrets.use:AB", False),
        ("model.cloud:openai/gpt-*", "model.cloud:openai/gpt-5/mini", True),
        ("model.cloud:openai/gpt-*", "model.cloud:openai2/gpt-5", False),
        ("model.cloud:*/gpt-5", "model.cloud:openai/gpt-5", True),
        ("model.cloud:openai/*", "model.cloud:*/gpt-5", False),
        ("session.spawn:rolepack:qa/*", "session.spawn:rolepack:qa/tester", True),
        ("session.spawn:coder", "session.spawn:coder2", False),
        ("doc.summarize", "doc.summarize", True),
        ("client.*", "client.read", True),
        ("client.read", "client.*", False),
        ("client.*", "client.*", True),
        ("mcp.files.*", "mcp.files2.read", False),
        ("mcp.*", "mcp.files.*", True),
    ],
)
def test_containment_is_by_the_meaning_of_the_axis(held: str, wanted: str, expected: bool) -> None:
    assert covers(REGISTRY.parse(held), REGISTRY.parse(wanted)) is expected


@requirement("capability.path.runtime_folder_closed")
@pytest.mark.parametrize(
    "wanted",
    [
        "fs.read:.handshake/state.db",
        "fs.write:.git/hooks/x",
        "fs.read:a/.HANDSHAKE",
        "proc.exec:cat .handshake/state.db",
    ],
)
def test_nothing_contains_what_is_the_runtimes(wanted: str) -> None:
    for held in ("fs.read", "fs.write", "proc.exec", "fs.read:**", "fs.write:**", "proc.exec:cat *", wanted):
        assert not covers(REGISTRY.parse(held), REGISTRY.parse(wanted))


def test_commands_without_a_sandbox_need_their_own_grant() -> None:
    host = REGISTRY.parse("proc.exec:host")
    assert covers(host, host)
    assert not covers(REGISTRY.parse("proc.exec"), host)
    assert not covers(host, REGISTRY.parse("proc.exec:host x"))


def test_a_rule_falls_on_all_of_which_it_names_a_part() -> None:
    assert overlaps(REGISTRY.parse("fs.read:a/secret/**"), REGISTRY.parse("fs.read:a/**"))
    assert overlaps(REGISTRY.parse("fs.read:a/**"), REGISTRY.parse("fs.read"))
    assert overlaps(REGISTRY.parse("client.read"), REGISTRY.parse("client.*"))
    assert not overlaps(REGISTRY.parse("fs.read:a/**"), REGISTRY.parse("fs.write:a/**"))
    assert overlaps(REGISTRY.parse("model.cloud:*/gpt-*"), REGISTRY.parse("model.cloud:openai/*"))
    assert not overlaps(REGISTRY.parse("model.cloud:a/*"), REGISTRY.parse("model.cloud:b/*"))


def test_a_literal_scope_names_one_thing() -> None:
    literal = ["fs.write:a/b", "net.http:GET h.example/a", "proc.exec:pytest -q", "secrets.use:A", "doc.summarize"]
    open_ones = [
        "fs.write",
        "fs.write:a/*",
        "net.http:GET h.example",
        "net.http:GET *.example/a",
        "proc.exec:a *",
        "client.*",
    ]
    assert [one for one in literal if not is_literal(REGISTRY.parse(one))] == []
    assert [one for one in open_ones if is_literal(REGISTRY.parse(one))] == []
