"""Ballast: it takes its room, gives it back once, and is no reason to fail."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from handshake.kernel.settings import BALLAST_BYTES
from handshake.storage.ballast import Ballast
from handshake.storage.files import OsFiles
from tests.requirement import requirement


def ballast_in(folder: Path, *, size_bytes: int = 4_096) -> Ballast:
    run = folder / "run"
    return Ballast(OsFiles(), run / "ballast", run / "ballast.new", run, size_bytes=size_bytes)


@requirement("recovery.outcome.never_lost")
def test_it_takes_its_room_and_gives_it_back_once(tmp_path: Path) -> None:
    ballast = ballast_in(tmp_path, size_bytes=BALLAST_BYTES)
    assert not ballast.give_up()
    ballast.make()
    ballast.make()
    file = tmp_path / "run" / "ballast"
    assert file.stat().st_size == BALLAST_BYTES
    assert file.stat().st_blocks * 512 >= BALLAST_BYTES, "it holds its room for real"
    assert [one.name for one in file.parent.iterdir()] == ["ballast"]
    assert (ballast.give_up(), ballast.give_up(), file.exists()) == (True, False, False)
    ballast.make()
    assert file.exists()


def test_the_one_of_an_earlier_runtime_is_found(tmp_path: Path) -> None:
    ballast_in(tmp_path).make()
    assert ballast_in(tmp_path).give_up()


def test_what_an_earlier_runtime_left_half_made_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "ballast.new").write_bytes(b"half")
    ballast = ballast_in(tmp_path)
    assert not ballast.give_up()
    ballast.make()
    assert (tmp_path / "run" / "ballast").stat().st_size == 4_096


def test_a_disk_that_refuses_it_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = OsFiles()

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(files, "write_new", full)
    ballast = Ballast(files, tmp_path / "ballast", tmp_path / "ballast.new", tmp_path)
    ballast.make()
    assert not ballast.give_up()


def test_one_that_somebody_removed_made_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = OsFiles()
    ballast = Ballast(files, tmp_path / "ballast", tmp_path / "ballast.new", tmp_path, size_bytes=10)
    ballast.make()

    def refuse(path: Path) -> None:
        raise OSError(errno.EROFS, "read only")

    monkeypatch.setattr(files, "unlink", refuse)
    assert not ballast.give_up()
