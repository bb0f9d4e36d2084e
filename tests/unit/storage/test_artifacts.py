"""Artifact files: named by their hash, whole or absent, and durable before anyone can refer to them."""

from __future__ import annotations

import errno
import hashlib
import itertools
from contextlib import suppress
from pathlib import Path

import pytest

from handshake.kernel.errors import IntegrityBroken
from handshake.kernel.ids import ArtifactId
from handshake.kernel.settings import MAX_INLINE_ARTIFACT_BYTES
from handshake.storage.artifacts import ArtifactFiles
from handshake.testing.memory_files import MemoryFiles
from handshake.testing.power_loss import Disk
from tests.requirement import requirement

LARGE = b"x" * (MAX_INLINE_ARTIFACT_BYTES + 1)
LARGE_ID = ArtifactId(hashlib.sha256(LARGE).hexdigest())
FOLDER = Path("/artifacts")
TYPE = "text/plain"
NUMBERS = itertools.count()


def kept_on(disk: Disk) -> ArtifactFiles:
    return ArtifactFiles(disk.files, disk.root / "artifacts", lambda: f"draft-{next(NUMBERS)}")


def files_of(disk: Disk) -> list[Path]:
    return [path for path in disk.root.rglob("*") if path.is_file()]


def test_small_content_is_no_file() -> None:
    files = MemoryFiles()
    content = ArtifactFiles(files, FOLDER, lambda: "draft").keep(LARGE[:-1], TYPE)
    assert (content.size_bytes, content.media_type, content.inline) == (len(LARGE) - 1, TYPE, LARGE[:-1])
    assert content.artifact_id == hashlib.sha256(LARGE[:-1]).hexdigest()
    assert files.by_path == {}


def test_large_content_is_a_file_of_its_hash() -> None:
    files = MemoryFiles()
    artifacts = ArtifactFiles(files, FOLDER, lambda: "draft")
    content = artifacts.keep(LARGE, TYPE)
    assert (content.artifact_id, content.size_bytes, content.inline) == (LARGE_ID, len(LARGE), None)
    assert files.by_path == {f"/artifacts/{LARGE_ID[:2]}/{LARGE_ID[2:]}": LARGE}
    assert artifacts.read(LARGE_ID) == LARGE
    assert artifacts.read(ArtifactId("0" * 64)) is None


def test_content_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "disk")
    artifacts = kept_on(disk)
    artifacts.keep(LARGE, TYPE)
    before = disk.operations
    artifacts.keep(LARGE, TYPE)
    assert disk.operations == before + 1, "only its folder is synced: the one who wrote it may not have come to that"


def test_content_that_is_not_there_any_more_is_written_again() -> None:
    files = MemoryFiles()
    artifacts = ArtifactFiles(files, FOLDER, lambda: "draft")
    artifacts.keep(LARGE, TYPE)
    for altered in (LARGE[:-1], LARGE + b"x", b"y" + LARGE[1:]):
        files.by_path[str(artifacts.path(LARGE_ID))] = altered
        artifacts.keep(LARGE, TYPE)
        assert artifacts.read(LARGE_ID) == LARGE


@requirement("recovery.power_loss.loses_nothing")
def test_no_cut_leaves_half_a_file_and_no_kept_file_is_lost(tmp_path: Path) -> None:
    whole = Disk(tmp_path / "whole")
    kept_on(whole).keep(LARGE, TYPE)
    for operation in range(1, whole.operations + 2):
        for seed in range(5):
            disk = Disk(tmp_path / f"{operation}-{seed}", seed=seed)
            disk.cut_at(operation)
            kept = True
            try:
                kept_on(disk).keep(LARGE, TYPE)
            except OSError:
                kept = False
            assert kept == (operation > whole.operations)
            after = disk.power_loss(tmp_path / f"{operation}-{seed}-after")
            found = kept_on(after).read(LARGE_ID)
            assert found == LARGE or not (kept or found)


@requirement("recorder.disk_full.fails_whole")
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_failing_disk_leaves_no_file_behind(number: int, tmp_path: Path) -> None:
    whole = Disk(tmp_path / "whole")
    kept_on(whole).keep(LARGE, TYPE)
    refused = 0
    for operation in range(1, whole.operations + 1):
        disk = Disk(tmp_path / f"{operation}")
        trouble = disk.fill_at if number == errno.ENOSPC else disk.break_at
        trouble(operation)
        with suppress(OSError):
            kept_on(disk).keep(LARGE, TYPE)
            refused -= 1
        refused += 1
        disk.lift()
        assert len(files_of(disk)) <= 1, "what may be left is a draft that nobody refers to, or the whole"
        kept_on(disk).keep(LARGE, TYPE)
        assert kept_on(disk).read(LARGE_ID) == LARGE
    assert refused > 1


def test_file_that_grew_beyond_all_bounds_is_not_read() -> None:
    class Grown(MemoryFiles):
        def read(self, path: object, *, max_bytes: int) -> bytes:
            raise OSError(errno.EFBIG, "too large")

    with pytest.raises(IntegrityBroken) as broken:
        ArtifactFiles(Grown(), FOLDER, lambda: "draft").read(LARGE_ID)
    assert broken.value.context == {"subject": "artifact", "artifact_id": LARGE_ID, "errno": errno.EFBIG}


def test_disk_that_cannot_be_read_is_not_called_altered() -> None:
    class Broken(MemoryFiles):
        def read(self, path: object, *, max_bytes: int) -> bytes:
            raise OSError(errno.EIO, "broken")

    with pytest.raises(OSError, match="broken"):
        ArtifactFiles(Broken(), FOLDER, lambda: "draft").read(LARGE_ID)
