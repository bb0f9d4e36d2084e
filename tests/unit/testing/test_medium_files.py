"""Files on the simulated disk: what a power loss, a full disk and an I/O error do to them."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from handshake.kernel.units import Bytes
from handshake.testing.power_loss import Disk

SEEDS = range(40)
DATA = b"d" * 5000


def keep(disk: Disk, name: str, *, with_folder: bool = True) -> None:
    """Write a file the way artifacts are written."""
    folder = disk.root / name[0]
    disk.files.make_folder(folder)
    disk.files.write_new(folder / "draft", DATA)
    disk.files.rename(folder / "draft", folder / name)
    if with_folder:
        disk.files.sync_folder(folder)


def content(disk: Disk) -> dict[str, bytes]:
    return {str(path.relative_to(disk.root)): path.read_bytes() for path in disk.root.rglob("*") if path.is_file()}


def fates(disk: Disk, tmp_path: Path) -> list[dict[str, bytes]]:
    return [content(disk.power_loss(tmp_path / f"after-{seed}", seed=seed)) for seed in SEEDS]


def test_synced_file_in_a_synced_folder_stays(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "before")
    keep(disk, "a1")
    keep(disk, "a2")
    keep(disk, "b3")
    assert all(found == {"a/a1": DATA, "a/a2": DATA, "b/b3": DATA} for found in fates(disk, tmp_path))


def test_rename_without_sync_of_the_folder_can_be_lost(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "before")
    keep(disk, "a1", with_folder=False)
    found = fates(disk, tmp_path)
    assert {"a/a1": DATA} in found
    assert {"a/draft": DATA} in found
    assert {} in found


def test_removed_name_can_come_back(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "before")
    keep(disk, "a1")
    disk.files.unlink(disk.root / "a" / "a1")
    found = fates(disk, tmp_path)
    assert {} in found
    assert {"a/a1": DATA} in found


def test_power_cut_at_every_operation_never_leaves_half_a_file(tmp_path: Path) -> None:
    whole = Disk(tmp_path / "whole")
    keep(whole, "a1")
    assert whole.operations == 6  # folder, create, write, sync, rename, sync of the folder
    for operation in range(1, whole.operations + 1):
        disk = Disk(tmp_path / f"{operation}")
        disk.cut_at(operation)
        with pytest.raises(OSError) as refused:
            keep(disk, "a1")
        assert refused.value.errno == errno.EIO
        for seed in range(8):
            found = content(disk.power_loss(tmp_path / f"{operation}-{seed}", seed=seed))
            assert found.get("a/a1", DATA) == DATA


def test_dead_disk_answers_nothing(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "before")
    keep(disk, "a1")
    after = disk.power_loss(tmp_path / "after")
    disk.lift()
    path = disk.root / "a" / "a1"
    for call in (
        lambda: disk.files.read(path, max_bytes=Bytes(9000)),
        lambda: disk.files.exists(path),
        lambda: disk.files.unlink(path),
        lambda: disk.files.write_new(disk.root / "new", b""),
        lambda: disk.files.make_folder(disk.root / "b"),
        lambda: disk.files.sync_folder(disk.root),
        lambda: disk.files.rename(path, disk.root / "b"),
    ):
        with pytest.raises(OSError) as refused:
            call()
        assert refused.value.errno == errno.EIO
    assert after.files.read(after.root / "a" / "a1", max_bytes=Bytes(9000)) == DATA


def test_full_disk_leaves_no_part_of_a_file(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "before")
    disk.limit(Bytes(7000))
    keep(disk, "a1")
    assert disk.free_bytes(disk.root) == 2000
    with pytest.raises(OSError) as refused:
        keep(disk, "a2")
    assert refused.value.errno == errno.ENOSPC
    assert content(disk) == {"a/a1": DATA}
    disk.fill_at(disk.operations + 1)
    disk.limit(Bytes(20_000))
    with pytest.raises(OSError) as refused:
        keep(disk, "a2")
    assert refused.value.errno == errno.ENOSPC
    disk.lift()
    keep(disk, "a2")
    assert content(disk) == {"a/a1": DATA, "a/a2": DATA}


def test_power_cut_that_is_still_to_come_outlasts_a_full_disk(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "before")
    disk.cut_at(3)
    disk.fill_at(9)
    disk.lift()
    assert disk.in_trouble
    with pytest.raises(OSError) as refused:
        keep(disk, "a1")
    assert refused.value.errno == errno.EIO
    assert disk.is_dead


def test_io_error_at_every_operation_is_raised(tmp_path: Path) -> None:
    for operation in range(1, 7):
        disk = Disk(tmp_path / f"{operation}")
        disk.break_at(operation)
        with pytest.raises(OSError) as refused:
            keep(disk, "a1")
        assert refused.value.errno == errno.EIO
        assert disk.files.exists(disk.root / "a" / "a1") is (operation == 6)


def test_file_made_past_the_disk_is_no_ones(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "before")
    (disk.root / "stray").write_bytes(b"x")
    with pytest.raises(FileExistsError):
        disk.files.write_new(disk.root / "stray", b"y")
    assert content(disk.power_loss(tmp_path / "after")) == {}


def test_file_in_a_folder_made_past_the_disk_is_refused(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    (disk.root / "d").mkdir()
    with pytest.raises(PermissionError):
        disk.files.write_new(disk.root / "d" / "a", b"x")


def test_what_was_there_at_the_start_is_durable(tmp_path: Path) -> None:
    (tmp_path / "before").mkdir()
    (tmp_path / "before" / "old").write_bytes(b"old")
    disk = Disk(tmp_path / "before")
    assert all(found == {"old": b"old"} for found in fates(disk, tmp_path))


def test_power_loss_needs_an_empty_folder(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "before")
    (tmp_path / "after").mkdir()
    (tmp_path / "after" / "old").write_bytes(b"old")
    with pytest.raises(ValueError):
        disk.power_loss(tmp_path / "after")
