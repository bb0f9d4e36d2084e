"""Files of the operating system: what only a real disk, or a lack of it, can show."""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from handshake.kernel.units import Bytes
from handshake.storage.files import OsFiles


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let the operating system refuse larger files, in the middle of the write that exceeds it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    told = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, told)


def test_failed_write_leaves_no_file(tmp_path: Path) -> None:
    with largest_file(4096), pytest.raises(OSError) as refused:
        OsFiles().write_new(tmp_path / "a", bytes(10_000))
    assert refused.value.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []


def test_descriptors_are_closed(tmp_path: Path) -> None:
    files = OsFiles()
    before = len(os.listdir("/proc/self/fd"))
    files.make_folder(tmp_path / "d")
    files.write_new(tmp_path / "d" / "a", b"12345")
    with pytest.raises(FileExistsError):
        files.write_new(tmp_path / "d" / "a", b"x")
    with pytest.raises(OSError):
        files.read(tmp_path / "d" / "a", max_bytes=Bytes(1))
    files.sync_folder(tmp_path / "d")
    assert len(os.listdir("/proc/self/fd")) == before


def test_file_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    files = OsFiles()
    files.write_new(tmp_path / "a", b"x")
    with pytest.raises(NotADirectoryError):
        files.make_folder(tmp_path / "a" / "b")
    with pytest.raises(NotADirectoryError):
        files.sync_folder(tmp_path / "a")
