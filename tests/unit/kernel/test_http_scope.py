"""Tests of HTTP scopes: hosts by label, paths by segment, and nothing that can be read in two ways."""

from __future__ import annotations

import pytest

from handshake.kernel.errors import UnknownCapability
from handshake.kernel.grant_settings import MAX_SCOPE_SEGMENTS
from handshake.kernel.http_scope import contains, homes, overlaps, parse, spell
from tests.requirement import requirement


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("get Docs.Example.org", "GET docs.example.org"),
        ("GET docs.example.org:443/a", "GET docs.example.org/a"),
        ("POST https://h.example/p?q=secret#f", "POST h.example/p"),
        ("POST https://h.example", "POST h.example/"),
        ("GET http://h.example/", "GET h.example:80/"),
        ("GET http://127.0.0.1:8080/x", "GET 127.0.0.1:8080/x"),
        ("GET [::1]:8080", "GET [::1]:8080"),
        ("GET [0:0::1]", "GET [::1]"),
        ("* *.example.org:*/a/*", "* *.example.org:*/a/*"),
        ("GET h.example/%7Euser/%e2%82%ac", "GET h.example/~user/%E2%82%AC"),
        ("GET h.example/\u20ac", "GET h.example/%E2%82%AC"),
        ("GET h.example/a*/b", "GET h.example/a*/b"),
    ],
)
def test_a_scope_has_one_spelling(text: str, spelled: str) -> None:
    assert spell(parse(text)) == spelled
    assert spell(parse(spelled)) == spelled


@pytest.mark.parametrize(
    "text",
    [
        "",
        "GET",
        "GET ",
        "G T h",
        "h.example",
        "GET ftp://h.example",
        "GET a@h.example",
        "GET https://h.example@evil.example/",
        "GET h.example:0",
        "GET h.example:99999",
        "GET h.example:08",
        "GET h.example.",
        "GET h..example",
        "GET -h.example",
        "GET h\u00e4.example",
        "GET ex\u0430mple.org",
        "GET example.\u212aom",
        "\u00df h.example",
        "GET 2130706433",
        "GET 0x7f.1",
        "GET 127.1",
        "GET 0177.0.0.1",
        "GET [127.0.0.1]",
        "GET [::1",
        "GET [fe80::1%25eth0]",
        "GET *.1.2.3.4",
        "GET a.*.example",
        "GET *example.org",
        "GET h.example/../a",
        "GET h.example/a/..",
        "GET h.example/%2e%2e/a",
        "GET h.example/.%2E/a",
        "GET h.example/..;/a",
        "GET h.example/a%2fb",
        "GET h.example/a%5cb",
        "GET h.example/a%00b",
        "GET h.example/%252e",
        "GET h.example/%2",
        "GET h.example/%zz",
        "GET h.example/a\\b",
        "GET h.example/a b",
        "GET h.example/a\tb",
        "GET h.example?q=1",
        "GET h.example#f",
        "GET h.example/**/a",
        "GET h.example/" + "/".join("a" * (MAX_SCOPE_SEGMENTS + 1)),
    ],
)
def test_what_can_be_read_in_two_ways_is_no_scope(text: str) -> None:
    with pytest.raises(UnknownCapability):
        parse(text)


@requirement("capability.axis.contains_scopes")
@pytest.mark.parametrize(
    ("held", "wanted", "expected"),
    [
        ("GET docs.example.org", "GET https://docs.example.org/a/b?q", True),
        ("GET docs.example.org/*", "GET https://docs.example.org", True),
        ("GET docs.example.org/*", "POST https://docs.example.org", False),
        ("* docs.example.org", "POST docs.example.org/a", True),
        ("GET example.org", "GET a.example.org", False),
        ("GET *.example.org", "GET a.b.example.org/x", True),
        ("GET *.example.org", "GET example.org", False),
        ("GET *.example.org", "GET evilexample.org", False),
        ("GET *.example.org", "GET a.example.org.evil.example", False),
        ("GET *.example.org", "GET *.a.example.org", True),
        ("GET *.a.example.org", "GET *.example.org", False),
        ("GET *", "GET 10.0.0.1/x", True),
        ("GET h.example", "GET http://h.example/", False),
        ("GET h.example:*", "GET http://h.example/", True),
        ("GET h.example/v1/*", "GET h.example/v1/a/b", True),
        ("GET h.example/v1/*", "GET h.example/v10", False),
        ("GET h.example/v1", "GET h.example/v1/a", False),
        ("GET h.example/v1", "GET h.example", False),
        ("GET h.example/v1/*", "GET h.example/v1%2A", False),
    ],
)
def test_containment_is_by_label_and_segment(held: str, wanted: str, expected: bool) -> None:
    assert contains(parse(held), parse(wanted)) is expected


def test_requests_overlap_where_every_part_may_agree() -> None:
    assert overlaps(parse("* h.example/a/*"), parse("GET *.example:*/a/b"))
    assert not overlaps(parse("GET h.example"), parse("POST h.example"))
    assert not overlaps(parse("GET h.example"), parse("GET h.example:80"))
    assert not overlaps(parse("GET h.example"), parse("GET other.example"))
    assert not overlaps(parse("GET h.example/a"), parse("GET h.example/b"))


def test_a_host_is_looked_up_under_all_that_is_above_it() -> None:
    assert homes(parse("GET a.b.example")) == ("*", "a.b.example", "b.example", "example")
    assert homes(parse("GET [::1]")) == ("*", "::1")
