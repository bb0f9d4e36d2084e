"""Damage: a workspace whose parts do not fit is refused with a code, left as it is, and opens once it is mended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from handshake.bootstrap import find_workspace, init_workspace, read_only
from handshake.kernel.errors import HandshakeError, IntegrityBroken, NotFound, StateConflict, StoreFailed
from handshake.storage.instance_lock import is_held
from handshake.storage.signing import KEY_FILE
from handshake.storage.workspace_folder import WorkspaceFolder
from handshake.workspace import open_workspace

Damage = Callable[[WorkspaceFolder], None]


def changed(place: WorkspaceFolder, statement: str) -> None:
    db = apsw.Connection(str(place.database))
    db.execute(statement).fetchall()
    db.close()


def garbage(place: WorkspaceFolder) -> None:
    place.database.write_bytes(bytes(range(256)) * 400)


def cut_short(place: WorkspaceFolder) -> None:
    place.database.write_bytes(place.database.read_bytes()[:-20_000])


def emptied(place: WorkspaceFolder) -> None:
    place.database.write_bytes(b"")


def of_another_program(place: WorkspaceFolder) -> None:
    place.database.unlink()
    changed(place, "CREATE TABLE bookmarks (url)")


def of_a_newer_version(place: WorkspaceFolder) -> None:
    changed(place, "INSERT INTO migration VALUES (1000000, 'x')")


def of_another_migration(place: WorkspaceFolder) -> None:
    changed(place, "UPDATE migration SET sha256 = 'x'")


def without_workspace(place: WorkspaceFolder) -> None:
    changed(place, "DELETE FROM workspace")


def without_log(place: WorkspaceFolder) -> None:
    changed(place, "DELETE FROM log_state")


def without_database(place: WorkspaceFolder) -> None:
    place.database.unlink()


def without_key(place: WorkspaceFolder) -> None:
    (place.keys / KEY_FILE).unlink()


def key_for_all(place: WorkspaceFolder) -> None:
    (place.keys / KEY_FILE).chmod(0o644)


def key_cut_short(place: WorkspaceFolder) -> None:
    (place.keys / KEY_FILE).write_bytes(b"short")


def keys_for_all(place: WorkspaceFolder) -> None:
    place.keys.chmod(0o777)


def lock_is_a_folder(place: WorkspaceFolder) -> None:
    place.lock.unlink()
    place.lock.mkdir()


def run_folder_is_a_file(place: WorkspaceFolder) -> None:
    place.lock.unlink()
    place.ballast.unlink()
    place.lock.parent.rmdir()
    place.lock.parent.write_bytes(b"")


DAMAGES: dict[Damage, type[HandshakeError]] = {
    garbage: IntegrityBroken,
    cut_short: IntegrityBroken,
    emptied: IntegrityBroken,
    of_another_program: IntegrityBroken,
    of_a_newer_version: IntegrityBroken,
    of_another_migration: IntegrityBroken,
    without_workspace: IntegrityBroken,
    without_log: IntegrityBroken,
    without_database: NotFound,
    without_key: NotFound,
    key_for_all: IntegrityBroken,
    key_cut_short: IntegrityBroken,
    keys_for_all: IntegrityBroken,
    lock_is_a_folder: StoreFailed,
    run_folder_is_a_file: StoreFailed,
}


def bytes_of(place: WorkspaceFolder) -> dict[str, bytes]:
    """Return what every file holds, without the lock, and without a write-ahead log that is empty, and its index."""
    held = {path.relative_to(place.folder).as_posix(): path for path in place.folder.rglob("*") if path.is_file()}
    told = {name: path.read_bytes() for name, path in held.items() if name not in ("run/lock", "state.db-shm")}
    return {name: data for name, data in told.items() if data or name != "state.db-wal"}


@pytest.mark.parametrize(("damage", "kind"), DAMAGES.items(), ids=lambda one: getattr(one, "__name__", ""))
async def test_damaged_workspace_is_refused_and_left_as_it_is(
    damage: Damage, kind: type[HandshakeError], tmp_path: Path
) -> None:
    place = init_workspace(tmp_path)
    async with open_workspace(tmp_path):
        pass
    damage(place)
    before = bytes_of(place)
    for _ in range(2):
        with pytest.raises(kind):
            async with open_workspace(tmp_path):
                pytest.fail("opened")
        assert bytes_of(place) == before
        assert not is_held(place.lock)


@pytest.mark.parametrize("damage", [garbage, cut_short, emptied, of_another_program, of_a_newer_version])
async def test_workspace_opens_again_once_it_is_mended(damage: Damage, tmp_path: Path) -> None:
    place = init_workspace(tmp_path)
    whole = place.database.read_bytes()
    damage(place)
    with pytest.raises(IntegrityBroken):
        async with open_workspace(tmp_path):
            pytest.fail("opened")
    with pytest.raises(IntegrityBroken):
        read_only(find_workspace(tmp_path))
    place.database.write_bytes(whole)
    async with open_workspace(tmp_path) as hs:
        assert (await hs.status()).runtime_epoch == 1


async def test_runtime_that_failed_to_open_leaves_the_workspace_to_the_next(tmp_path: Path) -> None:
    init_workspace(tmp_path)
    async with open_workspace(tmp_path):
        with pytest.raises(StateConflict):
            async with open_workspace(tmp_path):
                pytest.fail("opened twice")
    async with open_workspace(tmp_path) as hs:
        assert (await hs.status()).runtime_epoch == 2
