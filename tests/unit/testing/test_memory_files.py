"""Memory files: what a test sees in them is what a program wrote, and what is not there is missing."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from handshake.kernel.units import Bytes
from handshake.testing.memory_files import MemoryFiles

FOLDER = Path("/a/b")
FILE = FOLDER / "file"
PLENTY = Bytes(100)


@pytest.fixture
def files() -> MemoryFiles:
    made = MemoryFiles()
    made.make_folder(FOLDER)
    return made


def test_file_is_written_once_renamed_read_and_removed(files: MemoryFiles) -> None:
    files.write_new(FILE, b"data")
    with pytest.raises(FileExistsError):
        files.write_new(FILE, b"other")
    files.write_new(FOLDER / "old", b"old")
    files.rename(FILE, FOLDER / "old")
    files.rename(FOLDER / "old", FOLDER / "old")
    files.sync_folder(FOLDER)
    assert files.by_path == {"/a/b/old": b"data"}
    assert files.read(FOLDER / "old", max_bytes=Bytes(4)) == b"data"
    assert files.exists(FOLDER / "old")
    files.unlink(FOLDER / "old")
    files.unlink(FOLDER / "old")
    assert not files.exists(FOLDER / "old")


def test_reading_has_a_limit(files: MemoryFiles) -> None:
    files.write_new(FILE, b"12345")
    with pytest.raises(OSError) as refused:
        files.read(FILE, max_bytes=Bytes(4))
    assert refused.value.errno == errno.EFBIG


@pytest.mark.parametrize(
    "use",
    [
        lambda files: files.read(FILE, max_bytes=PLENTY),
        lambda files: files.rename(FILE, FOLDER / "other"),
        lambda files: files.rename(FILE, Path("/missing/file")),
        lambda files: files.write_new(Path("/missing/file"), b""),
        lambda files: files.sync_folder(Path("/missing")),
    ],
)
def test_what_is_missing_is_named_as_missing(use: Callable[[MemoryFiles], None], files: MemoryFiles) -> None:
    with pytest.raises(FileNotFoundError):
        use(files)
