"""Pointer: which values of a JSON document a JSON pointer names, also one in which `*` is every item or member.

Source:
    RFC 6901; 02 §1 (constraints), 02 §2 (sinks and content).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

EVERY = "*"
"""The segment that stands for every item of an array and every member of an object."""


def found(pointer: str, document: Any) -> Iterator[tuple[str, Any]]:
    """Yield the plain pointer and the value of everything that `pointer` names in `document`, in its order.

    What is not there is not yielded: a name that an object lacks, an index beyond an array, a step into a scalar.
    """
    level: list[tuple[str, Any]] = [("", document)]
    for segment in pointer.split("/")[1:]:
        level = [inner for place, value in level for inner in _stepped(place, value, segment)]
    yield from level


def is_within(pointer: str, outer: str) -> bool:
    """Return whether a plain pointer names what `outer`, which may hold `*`, names, or something inside it."""
    mine, other = pointer.split("/"), outer.split("/")
    return len(mine) >= len(other) and all(
        theirs in (own, EVERY) for own, theirs in zip(mine[: len(other)], other, strict=True)
    )


def escaped(name: str) -> str:
    """Return a member's name as a segment of a pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def _stepped(place: str, value: Any, segment: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        if segment == EVERY:
            yield from ((f"{place}/{escaped(name)}", inner) for name, inner in value.items())
        else:
            name = segment.replace("~1", "/").replace("~0", "~")
            if name in value:
                yield f"{place}/{segment}", value[name]
    elif isinstance(value, list):
        if segment == EVERY:
            yield from ((f"{place}/{number}", inner) for number, inner in enumerate(value))
        elif segment.isdecimal() and segment.isascii() and str(int(segment)) == segment and int(segment) < len(value):
            yield f"{place}/{segment}", value[int(segment)]
