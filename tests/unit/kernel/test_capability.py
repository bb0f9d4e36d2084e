"""Tests of capabilities: what the registry knows has one spelling, and all else is refused."""

from __future__ import annotations

import pytest

from handshake.kernel.capability import Axis, Capability, CapabilityRegistry, shown
from handshake.kernel.errors import UnknownCapability
from handshake.kernel.grant_settings import MAX_CAPABILITY_CHARS
from handshake.kernel.scope import TERMS
from handshake.kernel.section import MAX_NAME_CHARS
from tests.requirement import requirement

REGISTRY = CapabilityRegistry(ids=frozenset({"doc.summarize"}), profiles={"Coder": ("fs.read", "fs.write:src")})


def test_every_axis_has_its_terms() -> None:
    assert set(TERMS) == {axis.value for axis in Axis}


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("fs.read", "fs.read"),
        ("fs.read:./docs//a", "fs.read:docs/a"),
        ("net.http:get H.example", "net.http:GET h.example"),
        ("model.cloud:openai/gpt-*", "model.cloud:openai/gpt-*"),
        ("model.local:ollama/org/model:7b", "model.local:ollama/org/model:7b"),
        ("secrets.use:TOKEN", "secrets.use:TOKEN"),
        ("doc.summarize", "doc.summarize"),
        ("client.read_File-2", "client.read_File-2"),
        ("client.*", "client.*"),
        ("mcp.files.read", "mcp.files.read"),
        ("mcp.files.*", "mcp.files.*"),
        ("proc.exec:host", "proc.exec:host"),
    ],
)
def test_what_the_registry_knows_has_one_spelling(text: str, spelled: str) -> None:
    assert str(REGISTRY.parse(text)) == spelled
    assert REGISTRY.parse(spelled) == REGISTRY.parse(text)


@requirement("capability.unknown.is_refused")
@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "fs",
        "fs.",
        "fs.read:",
        "fs.reed",
        "FS.READ",
        " fs.read",
        "fs.read ",
        "fs.read\n",
        "fs.*",
        "*",
        "doc.other",
        "doc.summarize:x",
        "client.a:b",
        "client",
        "client.",
        "client.a b",
        "client.*.a",
        "doc.*",
        "secrets.use:*",
        "model.cloud:gpt",
        "model.cloud:op*/x",
        "model.cloud:/x",
        "model.cloud:x/",
        "session.spawn: coder",
        "net.http:h.example",
        "fs.read:" + "a" * MAX_CAPABILITY_CHARS,
        "mailbox.send:a\nb",
    ],
)
def test_what_the_registry_does_not_know_is_refused(text: str) -> None:
    for parse in (REGISTRY.parse, REGISTRY.parse_rule):
        with pytest.raises(UnknownCapability) as refused:
            parse(text)
        assert refused.value.code == "HSK-4001"


def test_a_slip_is_answered_with_what_was_meant() -> None:
    with pytest.raises(UnknownCapability) as refused:
        REGISTRY.parse("fs.raed:src/**")
    assert refused.value.hint == "Did you mean fs.read?"


def test_a_rule_means_more_than_a_call() -> None:
    assert str(REGISTRY.parse("fs.write:src")) == "fs.write:src"
    assert str(REGISTRY.parse_rule("fs.write:src")) == "fs.write:src/**"
    assert str(REGISTRY.parse("net.http:GET https://h.example/a?q=1")) == "net.http:GET h.example/a"
    with pytest.raises(UnknownCapability):
        REGISTRY.parse_rule("net.http:GET https://h.example/a?q=1")


@requirement("capability.path.runtime_folder_closed")
@pytest.mark.parametrize(
    "text", ["fs.read:.handshake", "fs.write:a/.handshake/**", "fs.write:.git/hooks", "proc.exec:cat .git/config"]
)
def test_no_rule_names_the_runtimes_folder(text: str) -> None:
    with pytest.raises(UnknownCapability) as refused:
        REGISTRY.parse_rule(text)
    assert refused.value.context["reason"] == "runtime_folder"


def test_a_profile_is_a_list_of_what_the_registry_knows() -> None:
    assert [str(one) for one in REGISTRY.profile("Coder")] == ["fs.read", "fs.write:src/**"]
    with pytest.raises(UnknownCapability):
        REGISTRY.profile("Analyst")


def test_evidence_names_capabilities_in_bounds() -> None:
    (cut,) = shown([Capability("fs.read", "a" * 500)])
    assert len(cut) == MAX_NAME_CHARS
    assert cut.endswith("…")
