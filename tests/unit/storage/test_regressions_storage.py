"""Odd files and folders, from what once hung or was no coded error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from handshake.bootstrap import configure
from handshake.kernel.errors import InvalidConfig, InvalidRequest, NotFound, StoreFailed
from handshake.kernel.redaction import KnownValues
from handshake.storage.secrets import Secrets
from handshake.storage.workspace_folder import find, init


def test_a_credential_behind_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidConfig):
        Secrets(KnownValues())(f"file:{tmp_path}/pipe")


@pytest.mark.parametrize("reference", ["file:~nobody-of-this-name/key", "file:/", "file:/dev/zero"])
def test_a_credential_that_is_no_file_is_refused(reference: str) -> None:
    with pytest.raises(InvalidConfig):
        Secrets(KnownValues())(reference)


def test_a_folder_that_sqlite_cannot_be_told_is_refused_before_it_is_made(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as refused:
        init(tmp_path / os.fsdecode(b"a\xff"), lambda draft: None, "draft")
    assert refused.value.context["reason"] == "not_utf8"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_too_long_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed):
        init(tmp_path / ("x" * 5_000), lambda draft: None, "draft")


def test_where_the_current_folder_is_gone_there_is_no_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(NotFound):
        find(Path())
    with pytest.raises(StoreFailed):
        init(Path(), lambda draft: None, "draft")


@pytest.mark.parametrize("home", ["", "here"])
def test_a_user_without_a_home_has_no_user_layer_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    folder = tmp_path / home / ".config" / "handshake"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text("[limits]\nmax_concurrent_runs = 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", home)
    assert configure(None).origins == {}
