"""Laws of write scopes: overlapping is symmetric and misses no common file, and those who are let in are apart."""

from __future__ import annotations

import re
from fnmatch import translate
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from handshake.kernel.ids import SessionId
from handshake.kernel.write_scope import Holding, admitted, any_overlap, overlap
from tests.requirement import requirement

NAMES = st.text("ab", min_size=1, max_size=2)
STEPS = st.one_of(NAMES, st.sampled_from(["*", "**", "?", "a*", "*b", "?a", "a?"]))
SCOPES = st.lists(STEPS, min_size=1, max_size=4).map("/".join)
PATHS = st.lists(NAMES, min_size=1, max_size=5)


def contains(scope: str, path: list[str]) -> bool:
    """Return whether a file is in a scope, said by trying everything: the scope fits the path or a folder above it."""
    return any(fits(scope.split("/"), path[:length]) for length in range(len(path) + 1))


def fits(steps: list[str], path: list[str]) -> bool:
    if not steps:
        return not path
    if steps[0] == "**":
        return any(fits(steps[1:], path[skipped:]) for skipped in range(len(path) + 1))
    return bool(path) and re.fullmatch(translate(steps[0]), path[0]) is not None and fits(steps[1:], path[1:])


@requirement("gate.workspace.no_overlap")
@given(SCOPES, SCOPES, PATHS)
def test_two_scopes_with_a_file_in_common_overlap(one: str, other: str, path: list[str]) -> None:
    assert overlap(one, other) == overlap(other, one)
    assert overlap(one, other) or not (contains(one, path) and contains(other, path))


@given(SCOPES)
def test_a_scope_overlaps_with_itself_and_with_everything(scope: str) -> None:
    assert overlap(scope, scope)
    assert overlap(scope, "**")


@requirement("gate.workspace.no_overlap")
@given(st.lists(st.tuples(st.integers(0, 5), st.lists(SCOPES, min_size=1, max_size=2)), max_size=6))
def test_those_who_are_let_in_never_overlap(waiting: list[tuple[int, list[str]]]) -> None:
    asking = [Holding(SessionId(f"s{n}"), tuple(scopes), since) for n, (since, scopes) in enumerate(waiting)]
    let_in = admitted(asking, [])
    assert not any(any_overlap(one.scopes, other.scopes) for one, other in combinations(let_in, 2))
    left = [one for one in asking if one not in let_in]
    assert all(any(any_overlap(one.scopes, other.scopes) for other in let_in) for one in left)
    assert bool(let_in) == bool(asking)
