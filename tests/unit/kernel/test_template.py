"""Template: what a call requires follows from its actual arguments, and from nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from handshake.kernel.capability import CapabilityRegistry
from handshake.kernel.errors import InvalidRequest, TooLarge, UnknownCapability
from handshake.kernel.settings import MAX_REQUIRED_CAPABILITIES
from handshake.kernel.template import parse_template, required
from tests.requirement import requirement

REGISTRY = CapabilityRegistry(ids=frozenset({"doc.summarize"}))


def computed(template: str, **args: Any) -> list[str]:
    return [str(one.capability) for one in required([parse_template(template)], args, REGISTRY)]


@requirement("capability.args.are_checked")
@pytest.mark.parametrize(
    ("template", "args", "wanted"),
    [
        ("fs.write", {}, ["fs.write"]),
        ("doc.summarize", {"path": "a"}, ["doc.summarize"]),
        ("fs.write:docs/**", {}, ["fs.write:docs/**"]),
        ("fs.write:{path}", {"path": "src/a.py"}, ["fs.write:src/a.py"]),
        ("fs.write:{path}", {"path": "./src//a.py"}, ["fs.write:src/a.py"]),
        ("fs.write:out/{name}.txt", {"name": "a b"}, ["fs.write:out/a b.txt"]),
        ("fs.read:{paths[]}", {"paths": ["a", "b", "a"]}, ["fs.read:a", "fs.read:b"]),
        ("fs.read:{paths[]}", {"paths": []}, []),
        ("fs.write:{edits[].file.path}", {"edits": [{"file": {"path": "a"}}, {"file": {"path": "b"}}]},
         ["fs.write:a", "fs.write:b"]),
        ("net.http:{method} {url}", {"method": "post", "url": "https://Api.example.org/a?b=c"},
         ["net.http:POST api.example.org/a"]),
        ("net.http:{method=GET} {request.url}", {"request": {"url": "http://x.example:80/"}},
         ["net.http:GET x.example:80/"]),
        ("proc.exec:{argv}", {"argv": ["pytest", "-k", "a b", "*"]}, [r"proc.exec:pytest -k a\ b \*"]),
        ("proc.exec:{program}", {"program": "two words"}, [r"proc.exec:two\ words"]),
        ("session.spawn:{roles[]}", {"roles": ["coder", "critic"]}, ["session.spawn:coder", "session.spawn:critic"]),
        ("secrets.use:{number}", {"number": 7}, ["secrets.use:7"]),
    ],
)  # fmt: skip
def test_scopes_come_from_the_arguments(template: str, args: dict[str, Any], wanted: list[str]) -> None:
    assert computed(template, **args) == wanted


@requirement("capability.args.are_checked")
@pytest.mark.parametrize(
    ("template", "args", "wanted"),
    [
        ("fs.read:{path}", {}, ["fs.read"]),
        ("fs.read:{path}", {"path": None}, ["fs.read"]),
        ("fs.read:{path=docs}", {}, ["fs.read:docs"]),
        ("fs.read:{paths[]}", {}, ["fs.read"]),
        ("fs.read:{paths[]}", {"paths": {"0": "a"}}, ["fs.read"]),
        ("fs.read:{a.b}", {"a": "text"}, ["fs.read"]),
        ("fs.write:{edits[].path}", {"edits": [{"path": "a"}, {"target": "secret"}]}, ["fs.write"]),
        ("fs.write:{edits[].path=.}", {"edits": [{"path": "a"}, {}]}, ["fs.write:a", "fs.write:."]),
        ("net.http:{method} {url}", {"url": "https://a.example/"}, ["net.http"]),
    ],
)
def test_what_is_absent_is_everything_or_what_the_template_says(
    template: str, args: dict[str, Any], wanted: list[str]
) -> None:
    assert computed(template, **args) == wanted


@requirement("capability.args.are_checked")
@pytest.mark.parametrize(
    ("template", "args"),
    [
        ("fs.write:{path}", {"path": "../etc"}), ("fs.write:{path}", {"path": "/etc/passwd"}),
        ("fs.write:{path}", {"path": "a\x00b"}), ("fs.write:{path}", {"path": "C:\\x"}),
        ("fs.write:{path}", {"path": ""}), ("fs.write:{path}", {"path": "a\nb"}), ("fs.write:{path}", {"path": True}),
        ("fs.write:{path}", {"path": ["a"]}), ("fs.write:{path}", {"path": {"a": "b"}}),
        ("fs.write:{path}", {"path": 1.5}), ("fs.write:{paths[]}", {"paths": ["a", ["b"]]}),
        ("net.http:{method} {url}", {"method": "GET evil.example/", "url": "https://a.example/"}),
        ("net.http:{method} {url}", {"method": "GET", "url": "https://a.example@evil.example/"}),
        ("net.http:{method} {url}", {"method": "GET", "url": "https://a.example/%2e%2e/b"}),
        ("net.http:{method} {url}", {"method": "GET", "url": "file:///etc/passwd"}),
        ("net.http:{method} {url}", {"method": "GET", "url": "https://a.example/ https://b.example/"}),
        ("proc.exec:{argv}", {"argv": []}), ("proc.exec:{argv}", {"argv": ["a", 1]}),
        ("proc.exec:{argv}", {"argv": ["a", ["b"]]}), ("proc.exec:{argv}", {"argv": 5}),
        ("proc.exec:{argv}", {"argv": ["", "b"]}), ("proc.exec:{argv}", {"argv": ["a\x00b"]}),
    ],
)  # fmt: skip
def test_what_cannot_be_a_scope_is_refused_by_its_place(template: str, args: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        computed(template, **args)
    assert refused.value.context["reason"] == "not_a_scope"
    assert "evil" not in str(refused.value)


def test_arguments_are_told_that_say_so() -> None:
    templates = [
        parse_template("fs.write:{to}"),
        parse_template("fs.write:{copies[]}"),
        parse_template("doc.summarize"),
    ]
    found = required(templates, {"to": "a", "copies": ["b", "a"]}, REGISTRY)
    assert {str(one.capability): set(one.pointers) for one in found} == {
        "fs.write:a": {"/to", "/copies/*"},
        "fs.write:b": {"/copies/*"},
        "doc.summarize": set(),
    }


def test_one_call_requires_no_endless_list() -> None:
    many = [f"f{number}" for number in range(MAX_REQUIRED_CAPABILITIES + 1)]
    assert len(computed("fs.read:{paths[]}", paths=many[1:])) == MAX_REQUIRED_CAPABILITIES
    with pytest.raises(TooLarge):
        computed("fs.read:{paths[]}", paths=many)
    with pytest.raises(TooLarge):
        computed("fs.read:{paths[]}/{paths[]}", paths=many[:17])
    with pytest.raises(TooLarge):
        required([parse_template("fs.read:{paths[]}"), parse_template("fs.write:{paths[]}")],
                 {"paths": many[: MAX_REQUIRED_CAPABILITIES // 2 + 1]}, REGISTRY)  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["", ":x", "fs.write:", "fs.write:{", "fs.write:{}", "fs.write:}", "fs.write:{a}}", "fs.write:{a b}",
     "fs.write:{/a}", "fs.write:{a[]b}", "fs.write:{a..b}", "Fs.write:{a}", "fs write", "fs.write:{a}\n",
     "fs.write:{{a}}"],
)  # fmt: skip
def test_template_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_template(text)
    assert refused.value.context == {"field": "required_capabilities", "reason": "template"}


def test_unknown_axis_is_refused() -> None:
    with pytest.raises(UnknownCapability):
        computed("fs.erase:{path}", path="a")
