"""Workspace folder: made whole or not at all, durable when it is there, and found from any folder below."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from handshake.bootstrap import init_workspace
from handshake.kernel.errors import IntegrityBroken, InvalidConfig, NotFound, StateConflict, StoreFailed
from handshake.storage.workspace_folder import FOLDER, WorkspaceFolder, find, init
from handshake.workspace import open_workspace

DRAFT = "018f0000-0000-7000-8000-000000000001"


def build(draft: WorkspaceFolder) -> None:
    draft.database.write_bytes(b"database")
    (draft.keys / "key").write_bytes(b"key")


def tree(root: Path) -> dict[str, int]:
    """Return every name below a folder with its permissions."""
    return {path.relative_to(root).as_posix(): stat.S_IMODE(path.stat().st_mode) for path in sorted(root.rglob("*"))}


def test_workspace_has_its_parts_for_the_owner_only(tmp_path: Path) -> None:
    place = init(tmp_path / "new" / "project", build, DRAFT)
    assert place.root == tmp_path / "new" / "project"
    found = tree(place.folder)
    assert set(found) == {"artifacts", "config.toml", "keys", "keys/key", "recorder", "run", "state.db"}
    assert {found[name] for name in ("artifacts", "keys", "recorder", "run")} == {0o700}
    assert found["config.toml"] == 0o600
    assert tree(tmp_path)["new/project/.handshake"] == 0o700
    assert (place.config, place.artifacts, place.lock.parent.name) == (
        place.folder / "config.toml",
        place.folder / "artifacts",
        "run",
    )


def test_configuration_of_a_new_workspace_sets_nothing(tmp_path: Path) -> None:
    lines = init(tmp_path, build, DRAFT).config.read_text(encoding="utf-8").splitlines()
    assert lines
    assert all(line.startswith("#") for line in lines)


def test_workspace_is_made_once(tmp_path: Path) -> None:
    init(tmp_path, build, DRAFT)
    before = tree(tmp_path)
    with pytest.raises(StateConflict):
        init(tmp_path, build, DRAFT)
    assert tree(tmp_path) == before


def test_workspace_that_another_program_makes_meanwhile_is_kept(tmp_path: Path) -> None:
    def too_late(draft: WorkspaceFolder) -> None:
        init(tmp_path, build, "the other one")

    with pytest.raises(StateConflict):
        init(tmp_path, too_late, DRAFT)
    assert WorkspaceFolder(tmp_path).database.read_bytes() == b"database"
    assert [path.name for path in tmp_path.iterdir()] == [FOLDER]


@pytest.mark.parametrize("failure", [OSError(28, "full"), StoreFailed(reason="disk_full"), KeyboardInterrupt()])
def test_failure_leaves_nothing(failure: BaseException, tmp_path: Path) -> None:
    def fails(draft: WorkspaceFolder) -> None:
        build(draft)
        raise failure

    with pytest.raises((StoreFailed, KeyboardInterrupt)):
        init(tmp_path, fails, DRAFT)
    assert list(tmp_path.iterdir()) == []


def test_place_that_cannot_be_is_a_failure_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for root in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/1/cannot")):
        with pytest.raises(StoreFailed) as refused:
            init(root, build, DRAFT)
        assert refused.value.context["reason"] == "cannot_make_workspace"


def test_names_are_durable_when_the_workspace_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each folder in which a name was made or changed is synced, the last one after the final rename."""
    synced: list[str] = []
    fsync, rename = os.fsync, os.rename

    def watched(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}").removeprefix(str(tmp_path)))
        fsync(descriptor)

    def renamed(source: Path, target: Path) -> None:
        synced.append("renamed")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", watched)
    monkeypatch.setattr(os, "rename", renamed)
    init(tmp_path / "new" / "project", build, DRAFT)
    draft = f"/new/project/{FOLDER}.{DRAFT}.new"
    before, after = synced[: synced.index("renamed")], synced[synced.index("renamed") + 1 :]
    assert before == [f"{draft}/config.toml", draft]
    assert after == ["/new/project", "/new", ""]


def test_workspace_is_found_from_below(tmp_path: Path) -> None:
    init(tmp_path, build, DRAFT)
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert find(deep).folder == find(tmp_path).folder == (tmp_path / FOLDER).resolve()
    (tmp_path / "link").symlink_to(deep)
    assert find(tmp_path / "link").folder == (tmp_path / FOLDER).resolve()


def test_nearest_workspace_is_found(tmp_path: Path) -> None:
    init(tmp_path, build, DRAFT)
    inner = init(tmp_path / "inner", build, DRAFT)
    assert find(tmp_path / "inner").folder == inner.folder.resolve()


def test_missing_workspace_says_how_to_make_one(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_bytes(b"a file in its place")
    with pytest.raises(NotFound) as missing:
        find(tmp_path)
    assert "handshake init" in missing.value.hint


def test_start_that_is_no_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for start in (tmp_path / "file", tmp_path / "missing"):
        with pytest.raises(InvalidConfig):
            find(start)


@pytest.mark.parametrize("part", ["", "state.db"])
@pytest.mark.parametrize("bit", [0o020, 0o002])
async def test_a_workspace_that_others_may_change_is_not_worked_in(tmp_path: Path, part: str, bit: int) -> None:
    place = init_workspace(tmp_path)
    path = place.folder / part
    path.chmod(path.stat().st_mode | bit)
    with pytest.raises(IntegrityBroken) as refused:
        async with open_workspace(tmp_path):
            pass
    assert refused.value.context["reason"] == "permissions"
    path.chmod(path.stat().st_mode & ~bit)
    async with open_workspace(tmp_path) as hs:
        assert (await hs.status()).events == 0
