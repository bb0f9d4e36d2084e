"""The files port: the operating system's and the simulated one keep the same contract."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from handshake.kernel.units import Bytes
from handshake.ports.files import Files
from handshake.storage.files import OsFiles
from handshake.testing.power_loss import Disk

PLENTY = Bytes(1000)


@pytest.fixture(params=["os", "simulated"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    return OsFiles() if request.param == "os" else Disk(tmp_path).files


@pytest.mark.parametrize("data", [b"", b"x", bytes(range(256)) * 1000])
def test_file_holds_its_bytes(files: Files, tmp_path: Path, data: bytes) -> None:
    files.write_new(tmp_path / "a", data)
    assert files.exists(tmp_path / "a")
    assert files.read(tmp_path / "a", max_bytes=Bytes(len(data))) == data


def test_file_and_folder_are_for_the_owner_only(files: Files, tmp_path: Path) -> None:
    files.make_folder(tmp_path / "d" / "e")
    files.write_new(tmp_path / "d" / "e" / "a", b"x")
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "d", tmp_path / "d" / "e", tmp_path / "d/e/a")]
    assert modes == [0o700, 0o700, 0o600]


def test_folder_may_be_there(files: Files, tmp_path: Path) -> None:
    files.make_folder(tmp_path / "d")
    files.write_new(tmp_path / "d" / "a", b"x")
    files.make_folder(tmp_path / "d")
    files.sync_folder(tmp_path / "d")
    assert files.read(tmp_path / "d" / "a", max_bytes=PLENTY) == b"x"


def test_name_is_written_once(files: Files, tmp_path: Path) -> None:
    files.write_new(tmp_path / "a", b"first")
    with pytest.raises(FileExistsError):
        files.write_new(tmp_path / "a", b"second")
    assert files.read(tmp_path / "a", max_bytes=PLENTY) == b"first"


def test_link_counts_as_taken_and_is_not_read(files: Files, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert files.exists(tmp_path / "link")
    with pytest.raises(FileExistsError):
        files.write_new(tmp_path / "link", b"x")
    with pytest.raises(OSError) as refused:
        files.read(tmp_path / "link", max_bytes=PLENTY)
    assert refused.value.errno == errno.ELOOP
    assert not (tmp_path / "elsewhere").exists()


def test_rename_replaces(files: Files, tmp_path: Path) -> None:
    files.write_new(tmp_path / "a", b"new")
    files.write_new(tmp_path / "b", b"old")
    files.rename(tmp_path / "a", tmp_path / "b")
    files.sync_folder(tmp_path)
    assert not files.exists(tmp_path / "a")
    assert files.read(tmp_path / "b", max_bytes=PLENTY) == b"new"


def test_reading_has_a_limit(files: Files, tmp_path: Path) -> None:
    files.write_new(tmp_path / "a", b"12345")
    with pytest.raises(OSError) as refused:
        files.read(tmp_path / "a", max_bytes=Bytes(4))
    assert refused.value.errno == errno.EFBIG


def test_unlink_removes_and_forgives(files: Files, tmp_path: Path) -> None:
    files.write_new(tmp_path / "a", b"x")
    files.unlink(tmp_path / "a")
    files.unlink(tmp_path / "a")
    assert not files.exists(tmp_path / "a")


def test_what_is_missing_is_named_as_missing(files: Files, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert not files.exists(missing)
    with pytest.raises(FileNotFoundError):
        files.read(missing, max_bytes=PLENTY)
    with pytest.raises(FileNotFoundError):
        files.rename(missing, tmp_path / "a")
    with pytest.raises(FileNotFoundError):
        files.sync_folder(missing)
    with pytest.raises(FileNotFoundError):
        files.write_new(missing / "a", b"x")
