from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from handshake.kernel import path_glob
from handshake.kernel.workspace_path import Steps
from handshake.ports.tool import Reach
from handshake.tools.reach import leading_to, matching, readable, writable

names = st.sampled_from(["a", "b", "ab", "a.py"])
globs = st.lists(names | st.sampled_from(["*", "**", "a*", "*.py"]), min_size=1, max_size=4).map("/".join)
paths = st.lists(names, max_size=4).map(tuple)


@given(st.lists(globs, max_size=5), paths)
def test_a_scope_holds_what_one_of_its_globs_holds(held: list[str], steps: Steps) -> None:
    expected = any(path_glob.contains(path_glob.parse(one), steps) for one in held)
    assert readable(Reach(read=tuple(held)))(steps) == expected
    assert writable(Reach(write=tuple(held)))(steps) == expected


@given(globs, paths, names)
def test_a_folder_with_something_that_a_glob_names_leads_to_it(text: str, above: Steps, name: str) -> None:
    glob = path_glob.parse(text)
    if matching(glob)((*above, name)):
        assert all(leading_to(glob)(above[:depth]) for depth in range(len(above) + 1))


def test_reading_is_not_writing_and_what_is_no_scope_holds_nothing() -> None:
    reach = Reach(read=("**",), write=("../**", "", "/etc", "a\\b"))
    assert readable(reach)(("etc", "passwd"))
    assert not any(writable(reach)(steps) for steps in [(), ("etc",), ("a", "b"), ("..", "x")])
