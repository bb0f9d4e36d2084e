from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from handshake.kernel.settings import MAX_PATH_DEPTH
from handshake.kernel.workspace_path import Steps, parse_path, spelled
from handshake.ports.tool import ToolFailed
from handshake.tools.filesystem import Scope, Tree
from tests.requirement import requirement

REFUSED = "HSK-403-CAPABILITY"


def everywhere(_steps: Steps) -> bool:
    return True


def under(folder: str) -> Scope:
    return lambda steps: steps[:1] == (folder,)


@pytest.fixture(params=[True, False], ids=["at-once", "name-by-name"])
def at_once(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    for name in ("src", "docs", "secret", ".handshake/keys", ".git/hooks"):
        (folder / name).mkdir(parents=True)
    (folder / "src" / "a.py").write_text("a = 1\n")
    (folder / "secret" / "key").write_text("hidden")
    (folder / ".handshake" / "state.db").write_text("state")
    (folder / ".handshake" / "keys" / "log").write_text("key")
    (folder / ".git" / "config").write_text("[core]")
    (folder / ".git" / "HEAD").write_text("ref: refs/heads/main")
    (tmp_path / "outside").write_text("not yours")
    return folder


@pytest.fixture
def read(root: Path, at_once: bool) -> Callable[..., tuple[str, str]]:
    def read_at(path: str, scope: Scope = everywhere) -> tuple[str, str]:
        with Tree(str(root), at_once=at_once) as tree, tree.file(parse_path(path), scope) as found:
            return os.read(found.descriptor, 1_000).decode(), spelled(found.steps)

    return read_at


def test_a_file_is_read_where_it_is(read: Callable[..., tuple[str, str]]) -> None:
    assert read("src/a.py") == ("a = 1\n", "src/a.py")
    assert read(".git/HEAD")[0] == "ref: refs/heads/main"


@requirement("capability.path.no_escape")
def test_links_that_leave_the_workspace_are_not_followed(root: Path, read: Callable[..., tuple[str, str]]) -> None:
    (root / "src" / "up").symlink_to("../../outside")
    (root / "src" / "absolute").symlink_to(root.parent / "outside")
    (root / "src" / "folder").symlink_to("../..")
    (root / "src" / "back").symlink_to(root / "src")
    (root / "src" / "loop").symlink_to("loop")
    for path in ("src/up", "src/absolute", "src/folder/outside", "src/back/a.py", "src/loop"):
        with pytest.raises(ToolFailed) as refused:
            read(path)
        assert refused.value.code == REFUSED


@requirement("capability.path.no_escape")
def test_the_scope_is_asked_for_where_a_link_leads(root: Path) -> None:
    (root / "src" / "alias").symlink_to("../secret/key")
    (root / "src" / "inside").symlink_to("a.py")
    (root / "docs" / "code").symlink_to("../src")
    with Tree(str(root)) as tree:
        with pytest.raises(ToolFailed) as refused, tree.file(("src", "alias"), under("src")):
            pass
        assert refused.value.code == REFUSED
        with tree.file(("src", "inside"), under("src")) as found:
            assert spelled(found.steps) == "src/a.py"
        with tree.file(("docs", "code", "a.py"), under("src")) as found:
            assert spelled(found.steps) == "src/a.py"
        with pytest.raises(ToolFailed), tree.file(("docs", "code", "a.py"), under("docs")):
            pass


@requirement("capability.path.no_escape")
def test_proc_is_no_way_out(at_once: bool) -> None:
    own = Path("/proc/self").resolve()
    for path in ("root/etc/hostname", "cwd", "exe", "fd/0"):
        with (
            Tree(str(own), at_once=at_once) as tree,
            pytest.raises(ToolFailed),
            tree.file(parse_path(path), everywhere),
        ):
            pass


@requirement("capability.path.no_escape")
def test_mount_points_are_not_crossed(at_once: bool) -> None:
    with Tree("/", at_once=at_once) as tree:
        for path in ("proc/version", "dev/null", "sys/kernel/notes"):
            with pytest.raises(ToolFailed) as refused, tree.file(parse_path(path), everywhere):
                pass
            assert refused.value.code == REFUSED


@requirement("capability.path.runtime_folder_closed")
def test_closed_places_are_closed_by_name_by_link_and_by_hard_link(
    root: Path, read: Callable[..., tuple[str, str]]
) -> None:
    (root / "src" / "runtime").symlink_to("../.handshake")
    (root / "src" / "config").symlink_to("../.git/config")
    os.link(root / ".handshake" / "state.db", root / "src" / "state")
    os.link(root / ".handshake" / "keys" / "log", root / "src" / "log")
    os.link(root / ".git" / "config", root / "src" / "git")
    for path in (
        ".handshake/state.db",
        ".HANDSHAKE/state.db",
        ".git/config",
        "src/runtime/state.db",
        "src/config",
        "src/state",
        "src/log",
        "src/git",
    ):
        with pytest.raises(ToolFailed) as refused:
            read(path)
        assert refused.value.code == REFUSED, path


def test_a_hard_link_to_an_open_place_is_an_ordinary_file(root: Path, read: Callable[..., tuple[str, str]]) -> None:
    os.link(root / "src" / "a.py", root / "docs" / "a.py")
    assert read("docs/a.py") == ("a = 1\n", "docs/a.py")


def test_only_regular_files_are_read(root: Path, read: Callable[..., tuple[str, str]]) -> None:
    os.mkfifo(root / "src" / "pipe")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(root / "src" / "socket"))
        for path in ("src/pipe", "src/socket", "src", "src/none", "src/a.py/b"):
            with pytest.raises(ToolFailed) as refused:
                read(path)
            assert refused.value.code in ("HSK-400-INVALID-REQUEST", "HSK-404-NOT-FOUND"), path


def test_what_the_scope_does_not_reach_is_refused(read: Callable[..., tuple[str, str]]) -> None:
    with pytest.raises(ToolFailed) as refused:
        read("secret/key", under("src"))
    assert refused.value.code == REFUSED


def walked(root: Path, start: str = ".", *, at_once: bool | None = None, stop_after: int = 100) -> list[str]:
    asked = iter(range(stop_after + 1))
    with Tree(str(root), at_once=at_once) as tree:
        found = tree.walk(
            parse_path(start),
            everywhere,
            wanted=lambda steps: steps != ("secret",),
            stop=lambda: next(asked) == stop_after,
        )
        return [spelled(entry.steps) for entry in found]


@requirement("capability.path.runtime_folder_closed")
def test_a_walk_is_in_order_and_meets_nothing_that_is_closed(root: Path, at_once: bool) -> None:
    (root / "src" / "out").symlink_to("../..")
    (root / "src" / "deep" / "er").mkdir(parents=True)
    (root / "src" / "bad\nname").write_text("")
    (root / "src" / os.fsdecode(b"\xff")).write_text("")
    expected = ".git .git/HEAD docs secret src src/a.py src/deep src/deep/er src/out".split()
    assert walked(root, at_once=at_once) == expected
    assert walked(root, "src", at_once=at_once) == expected[5:]


def test_a_walk_looks_at_so_many_names_and_no_more(root: Path, at_once: bool) -> None:
    for number in range(30):
        (root / "docs" / f"{number:02}").write_text("")
    with Tree(str(root), at_once=at_once) as tree:
        found = tree.walk(("docs",), everywhere, wanted=everywhere, stop=lambda: False, most=30)
        assert len(list(found)) == 30
        with pytest.raises(ToolFailed) as refused:
            list(tree.walk(("docs",), everywhere, wanted=everywhere, stop=lambda: False, most=29))
    assert refused.value.code == "HSK-413-TOO-LARGE"


def test_a_walk_ends_when_it_is_told(root: Path) -> None:
    assert len(walked(root, stop_after=2)) == 2


def test_a_walk_that_is_given_up_leaves_nothing_open(root: Path, at_once: bool) -> None:
    (root / "src" / "deep" / "er").mkdir(parents=True)
    for number in range(20):
        (root / "docs" / f"{number:02}").mkdir()
    before = os.listdir("/proc/self/fd")
    with Tree(str(root), at_once=at_once) as tree:
        found = tree.walk(("src",), everywhere, wanted=everywhere, stop=lambda: False)
        assert [spelled(next(found).steps) for _ in range(3)] == ["src/a.py", "src/deep", "src/deep/er"]
        found.close()
        opened = {
            len(os.listdir("/proc/self/fd")) for _ in tree.walk(("docs",), everywhere, wanted=everywhere, stop=bool)
        }
        assert max(opened) - min(opened) <= 1
    assert os.listdir("/proc/self/fd") == before


def test_a_walk_does_not_start_at_a_file_or_beyond(root: Path, at_once: bool) -> None:
    (root / "src" / "out").symlink_to("../..")
    for start in ("src/a.py", "src/out", ".handshake", "none"):
        with pytest.raises(ToolFailed):
            walked(root, start, at_once=at_once)


def test_missing_folders_are_made_for_a_file_that_is_to_be_written(root: Path, at_once: bool) -> None:
    with (
        Tree(str(root), at_once=at_once) as tree,
        tree.parent(("src", "new", "er", "x.py"), under("src"), make=True) as found,
    ):
        assert os.path.samestat(os.fstat(found.descriptor), (root / "src" / "new" / "er").stat())


@requirement("capability.path.no_escape")
def test_nothing_is_written_through_a_link_or_where_it_is_closed(root: Path, at_once: bool) -> None:
    (root / "src" / "out").symlink_to("../..")
    (root / "src" / "near").symlink_to("../docs")
    for path in ("src/out/new/x", "src/near/x", ".git/x", ".git", "docs/x", ".", ".handshake/x", "src/a.py/x"):
        with (
            Tree(str(root), at_once=at_once) as tree,
            pytest.raises(ToolFailed),
            tree.parent(parse_path(path), under("src"), make=True),
        ):
            pass
    assert sorted(os.listdir(root.parent)) == ["outside", "workspace"]
    assert os.listdir(root / "docs") == []


def test_a_walk_goes_no_deeper_than_a_path_can(root: Path, at_once: bool) -> None:
    folder = root / "docs"
    for _ in range(MAX_PATH_DEPTH + 5):
        folder = folder / "d"
        folder.mkdir()
    found = walked(root, "docs", at_once=at_once)
    assert len(found) == MAX_PATH_DEPTH - 1
    assert parse_path(found[-1]) == ("docs", *["d"] * (MAX_PATH_DEPTH - 1))
