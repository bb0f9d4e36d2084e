from __future__ import annotations

import os
from pathlib import Path

import pytest

from handshake.kernel.workspace_path import parse_path
from handshake.ports.tool import ToolFailed
from handshake.tools.filesystem import Tree
from handshake.tools.replacing import Change, Replacing
from tests.requirement import requirement


@pytest.fixture(params=[True, False], ids=["swapped", "linked"])
def swaps(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "a").write_bytes(b"old a")
    (folder / "src" / "b").write_bytes(b"old b")
    return folder


def becomes(data: bytes) -> Change:
    return lambda _before: data


def replace(root: Path, changes: dict[str, Change], *, swaps: bool) -> list[tuple[str, bool]]:
    with Tree(str(root)) as tree, Replacing(tree, lambda steps: steps[:1] == ("src",), "call", swaps=swaps) as one:
        for path, change in changes.items():
            one.prepare(parse_path(path), change, make=True)
        return [("/".join(written.steps), written.was_there) for written in one.commit()]


def everything(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def test_files_get_their_new_content_and_nothing_else_is_left(root: Path, swaps: bool) -> None:
    told = replace(root, {"src/a": becomes(b"new a"), "src/deep/c": becomes(b"new c")}, swaps=swaps)
    assert told == [("src/a", True), ("src/deep/c", False)]
    assert everything(root) == {"src/a": b"new a", "src/b": b"old b", "src/deep/c": b"new c"}


def test_permissions_stay(root: Path, swaps: bool) -> None:
    (root / "src" / "a").chmod(0o751)
    replace(root, {"src/a": becomes(b"x")}, swaps=swaps)
    assert (root / "src" / "a").stat().st_mode & 0o7777 == 0o751


def test_a_change_sees_what_is_there(root: Path, swaps: bool) -> None:
    seen: list[bytes | None] = []

    def look(before: bytes | None) -> bytes:
        seen.append(before)
        return b"x"

    replace(root, {"src/a": look, "src/none": look}, swaps=swaps)
    assert seen == [b"old a", None]


def test_what_one_file_refuses_no_file_gets(root: Path, swaps: bool) -> None:
    def refuse(_before: bytes | None) -> bytes:
        raise ToolFailed("HSK-409-CONFLICT", "no")

    before = everything(root)
    with pytest.raises(ToolFailed):
        replace(root, {"src/a": becomes(b"new"), "src/b": refuse}, swaps=swaps)
    assert everything(root) == before


@pytest.mark.parametrize("kind", ["changed", "replaced", "removed", "linked", "hard-linked"])
def test_what_changed_since_it_was_read_is_kept_and_the_others_go_back(root: Path, swaps: bool, kind: str) -> None:
    """The second file changes after both were prepared; the first must have its old content again."""
    b, aside = root / "src" / "b", root / "src" / "aside"

    def meddle() -> None:
        if kind == "changed":
            b.write_bytes(b"theirs")
        elif kind == "replaced":
            aside.write_bytes(b"theirs")
            aside.rename(b)
        elif kind == "removed":
            b.unlink()
        elif kind == "linked":
            b.unlink()
            b.symlink_to("a")
        else:
            os.link(b, aside)

    with Tree(str(root)) as tree, Replacing(tree, lambda _steps: True, "call", swaps=swaps) as one:
        one.prepare(("src", "a"), becomes(b"new a"), make=False)
        one.prepare(("src", "b"), becomes(b"new b"), make=False)
        one.prepare(("src", "c"), becomes(b"new c"), make=False)
        meddle()
        after = everything(root)
        with pytest.raises(ToolFailed):
            one.commit()
    assert everything(root) == {path: data for path, data in after.items() if not Path(path).name.startswith(".hsk-")}
    assert b.is_symlink() == (kind == "linked")


def test_a_file_made_meanwhile_is_not_replaced(root: Path, swaps: bool) -> None:
    with Tree(str(root)) as tree, Replacing(tree, lambda _steps: True, "call", swaps=swaps) as one:
        one.prepare(("src", "a"), becomes(b"new a"), make=False)
        one.prepare(("src", "c"), becomes(b"mine"), make=False)
        (root / "src" / "c").write_bytes(b"theirs")
        with pytest.raises(ToolFailed) as refused:
            one.commit()
    assert refused.value.code == "HSK-409-CONFLICT"
    assert everything(root) == {"src/a": b"old a", "src/b": b"old b", "src/c": b"theirs"}


@requirement("capability.path.no_escape")
def test_links_hard_links_folders_and_other_kinds_are_not_written(root: Path, swaps: bool) -> None:
    (root.parent / "outside").write_bytes(b"theirs")
    (root / "src" / "link").symlink_to("../../outside")
    os.link(root.parent / "outside", root / "src" / "hard")
    (root / "src" / "folder").mkdir()
    os.mkfifo(root / "src" / "pipe")
    before = everything(root)
    for name in ("link", "hard", "folder", "pipe"):
        with pytest.raises(ToolFailed):
            replace(root, {f"src/{name}": becomes(b"x")}, swaps=swaps)
    assert everything(root) == before
    assert (root.parent / "outside").read_bytes() == b"theirs"


def test_what_an_earlier_try_of_the_same_call_left_is_no_hindrance(root: Path, swaps: bool) -> None:
    with Tree(str(root)) as tree:
        cut = Replacing(tree, lambda _steps: True, "call", swaps=swaps)
        cut.prepare(("src", "a"), becomes(b"half"), make=False)
    assert len(everything(root)) == 3
    replace(root, {"src/a": becomes(b"whole")}, swaps=swaps)
    assert everything(root) == {"src/a": b"whole", "src/b": b"old b"}
    cut.__exit__()
