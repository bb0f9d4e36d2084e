"""Pointer: RFC 6901, and every item of what has many."""

from __future__ import annotations

from typing import Any

import pytest

from handshake.kernel.pointer import escaped, found, is_within

DOCUMENT: dict[str, Any] = {"a": {"b": [10, {"c": 20}]}, "x/y": 1, "m~n": 2, "": 3, "*": 4}


@pytest.mark.parametrize(
    ("pointer", "values"),
    [
        ("", [("", DOCUMENT)]),
        ("/a/b/0", [("/a/b/0", 10)]),
        ("/a/b/1/c", [("/a/b/1/c", 20)]),
        ("/a/b/*/c", [("/a/b/1/c", 20)]),
        ("/a/b/*", [("/a/b/0", 10), ("/a/b/1", {"c": 20})]),
        ("/a/*", [("/a/b", [10, {"c": 20}])]),
        ("/x~1y", [("/x~1y", 1)]),
        ("/m~0n", [("/m~0n", 2)]),
        ("/", [("/", 3)]),
        ("/a/b/2", []),
        ("/a/b/00", []),
        ("/a/b/-1", []),
        ("/a/b/\u0661", []),
        ("/a/b/0/c", []),
        ("/nothing", []),
    ],
)
def test_pointer_names_what_is_there(pointer: str, values: list[tuple[str, Any]]) -> None:
    assert list(found(pointer, DOCUMENT)) == values


def test_every_member_is_named_plainly() -> None:
    assert [place for place, _ in found("/*", DOCUMENT)] == ["/a", "/x~1y", "/m~0n", "/", "/*"]
    assert escaped("a/b~c") == "a~1b~0c"


@pytest.mark.parametrize(
    ("pointer", "outer", "within"),
    [
        ("/a/b", "/a/b", True), ("/a/b/c", "/a/b", True), ("/a/0/b", "/a/*/b", True), ("/a", "", True),
        ("/a", "/a/b", False), ("/ab", "/a", False), ("/a/0/c", "/a/*/b", False),
    ],
)  # fmt: skip
def test_what_stands_below_a_pointer_belongs_to_it(pointer: str, outer: str, within: bool) -> None:
    assert is_within(pointer, outer) is within
