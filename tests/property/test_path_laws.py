"""Laws of paths: one spelling, nothing that leaves, and no moment between check and use in which a swap helps."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from handshake.kernel.errors import InvalidRequest
from handshake.kernel.workspace_path import is_closed, is_closed_to_writing, parse_path, spelled
from handshake.ports.tool import ToolFailed
from handshake.tools.filesystem import Tree
from handshake.tools.openat import swap
from tests.requirement import requirement

READS = 5_000
"""Reads during which another thread swaps what they read, many times each."""

steps = st.text(min_size=1, max_size=20) | st.sampled_from(
    ["..", ".", "", "src", ".handshake", ".git", "config", "C:", "\\", "\x00", "%2e%2e", "..\u200b", "․․", "/etc"]
)
paths = st.lists(steps, max_size=8).map("/".join)


@requirement("capability.path.no_escape")
@given(paths)
@example("./A:")
def test_a_path_that_is_taken_stays_beneath_and_has_one_spelling(text: str) -> None:
    try:
        taken = parse_path(text)
    except InvalidRequest:
        return
    assert parse_path(spelled(taken)) == taken
    assert os.path.normpath(os.path.join("/workspace", *taken)) == "/".join(["/workspace", *taken])
    assert not any(step in ("", ".", "..") or "/" in step or "\x00" in step or "\\" in step for step in taken)


@given(st.sampled_from([".handshake/state.db", ".git/config", ".git/hooks/x"]), st.data())
def test_no_change_of_case_opens_a_closed_place(text: str, data: st.DataObject) -> None:
    changed = "".join(data.draw(st.sampled_from([one.lower(), one.upper()])) for one in text)
    assert is_closed(parse_path(changed))
    assert is_closed_to_writing(parse_path(f"sub/{changed}"))


@contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Repeat `act` in another thread until the block ends."""
    over = threading.Event()

    def repeat() -> None:
        while not over.is_set():
            act()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    for place in (folder / "src" / "here", folder / "secret", tmp_path / "elsewhere"):
        place.mkdir(parents=True)
        (place / "file").write_text("open" if place.name == "here" else "hidden")
    return folder


@contextmanager
def swapped(root: Path, target: str) -> Iterator[None]:
    """While the block runs, the folder `src/here` and a link to `target` have each other's names in turn."""
    (root / "src" / "link").symlink_to(target)
    folder = os.open(root / "src", os.O_PATH)
    try:
        with meanwhile(lambda: assert_done(swap(folder, "here", "link"))):
            yield
    finally:
        os.close(folder)


def assert_done(done: bool) -> None:
    """Fail where the file system of the tests cannot swap names at once."""
    assert done


@requirement("capability.path.no_escape")
@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("target", ["../../elsewhere", "../secret"])
def test_a_folder_swapped_for_a_link_between_check_and_use_leads_nowhere_else(
    root: Path, target: str, at_once: bool
) -> None:
    read: set[bytes] = set()
    with swapped(root, target), Tree(str(root), at_once=at_once) as tree:
        for _ in range(READS):
            with (
                suppress(ToolFailed),
                tree.file(("src", "here", "file"), lambda steps: steps[:1] == ("src",)) as found,
            ):
                read.add(os.read(found.descriptor, 10))
    assert read <= {b"open"}


@requirement("capability.path.no_escape")
@pytest.mark.parametrize("at_once", [True, False])
def test_a_folder_swapped_while_a_file_is_made_below_it_leads_nowhere_else(root: Path, at_once: bool) -> None:
    with swapped(root, "../../elsewhere"), Tree(str(root), at_once=at_once) as tree:
        for number in range(READS // 5):
            steps = ("src", "here", f"new{number}", "file")
            with suppress(ToolFailed), tree.parent(steps, lambda _steps: True, make=True) as found:
                os.close(os.open("file", os.O_WRONLY | os.O_CREAT | os.O_EXCL, dir_fd=found.descriptor))
    assert os.listdir(root.parent / "elsewhere") == ["file"]
